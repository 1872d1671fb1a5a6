package consume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"app-offload/cmd/offload-cloud/internal/store"
)

// blockedError means that a transaction met a lock held by another database session, or exceeded the database's time limit.
type blockedError struct {
	err  error
	slow bool
}

func (e *blockedError) Error() string { return e.err.Error() }
func (e *blockedError) Unwrap() error { return e.err }

// missesMax is the number of consecutive blocked attempts after which the remaining items count as blocked, since the whole table must be locked.
const missesMax = 64

// outcome collects the results of the parts of a group.
type outcome struct {
	hasty   bool // an item was blocked, so later attempts use a short lock timeout
	done    []*item
	results []*store.Result
	blocked []*item
	held    map[string]bool // nodes of the blocked items, whose later items stay behind them
	misses  int             // consecutive blocked attempts
	why     error
}

func (o *outcome) pass(items []*item, results ...*store.Result) {
	o.done, o.results, o.misses = append(o.done, items...), append(o.results, results...), 0
}

func (o *outcome) block(items ...*item) {
	o.blocked = append(o.blocked, items...)
	for _, it := range items {
		if node := it.node(); node != "" {
			o.held[node] = true
		}
	}
}

// storeGroup stores the items in one transaction, and retries while the store fails. A transaction that is blocked, or fails because of its content,
// is halved, so that one bad message affects only itself. An error ends the consumer.
func (c *Consumer) storeGroup(ctx context.Context, items []*item, o *outcome) error {
	items = slices.DeleteFunc(slices.Clone(items), func(it *item) bool {
		held := o.held[it.node()] || o.misses > missesMax
		if held {
			o.block(it)
		}
		return held
	})
	if len(items) == 0 {
		return nil
	}
	result, err := c.persist(ctx, storable(items, o.hasty))
	var blocked *blockedError
	switch {
	case err == nil:
		o.pass(items, result)
		c.fits(items)
		return nil
	case errors.As(err, &blocked):
		o.hasty, o.why = true, err
		o.misses++
		if len(items) == 1 {
			return c.storeParts(ctx, items[0], o, blocked.slow)
		}
		if blocked.slow {
			c.tooSlow(items)
		}
	case !c.Store.Permanent(err):
		return err
	case len(items) == 1:
		return c.setAside(ctx, items[0], o, err)
	}
	half := len(items) / 2
	if err := c.storeGroup(ctx, items[:half], o); err != nil {
		return err
	}
	return c.storeGroup(ctx, items[half:], o)
}

// storeParts stores a batch that exceeds the database's time limit in parts, each in its own transaction. If even one record alone is blocked, the
// remaining records wait.
func (c *Consumer) storeParts(ctx context.Context, it *item, o *outcome, slow bool) error {
	if !slow || it.batch == nil {
		o.block(it)
		return nil
	}
	for n := (len(it.batch.Records) + 1) / 2; len(it.batch.Records) > 0; {
		n = min(n, len(it.batch.Records))
		part := *it.batch
		part.Records = part.Records[:n]
		result, err := c.persist(ctx, &store.Group{Batches: []*store.Batch{&part}, Hasty: true})
		var blocked *blockedError
		switch {
		case err == nil:
			o.pass(nil, result)
			rest := *it.batch
			rest.Records = rest.Records[n:]
			it.batch = &rest
		case errors.As(err, &blocked) && (n == 1 || !blocked.slow):
			o.block(it)
			return nil
		case errors.As(err, &blocked):
			n /= 2
		case !c.Store.Permanent(err):
			return err
		default:
			return c.setAside(ctx, it, o, err)
		}
	}
	o.pass([]*item{it})
	return nil
}

// setAside quarantines a message that the store rejects permanently.
func (c *Consumer) setAside(ctx context.Context, it *item, o *outcome, why error) error {
	if it.letter != nil {
		c.Log.Error("dropping a message that can be neither stored nor quarantined; its node still has it",
			"topic", bounded(it.message.Topic, textMax), "reason", it.letter.Reason, "error", bounded(why.Error(), textMax))
		o.pass([]*item{it}, &store.Result{LettersRefused: 1})
		return nil
	}
	it.letter = letter(it.message, "not storable", why.Error())
	it.batch, it.gone, it.confirmed = nil, nil, nil
	return c.storeGroup(ctx, []*item{it}, o)
}

// tooSlow reduces the size of groups after one that took too long. fits increases it again after a group of the maximum size.
func (c *Consumer) tooSlow(items []*item) { c.groupMax.Store(max(1, int64(records(items))/2)) }

func (c *Consumer) fits(items []*item) {
	if now := c.groupMax.Load(); now < int64(c.Limits.GroupRecords) && int64(records(items)) >= now {
		c.groupMax.Store(min(int64(c.Limits.GroupRecords), now+now/8+1))
	}
}

func records(items []*item) (n int) {
	for _, it := range items {
		n += it.records
	}
	return n
}

// waiting holds the messages of a lane that other database sessions block, in order of arrival. The lane's storing goroutine owns it, except for the
// text of heldUp.
type waiting struct {
	c     *Consumer
	lane  int
	items []*item
	bytes int64
	noted struct{ items, bytes int64 } // included in the counts of all lanes
	pause time.Duration
	timer *time.Timer
	said  bool
	wide  bool // the broker's window was logged
}

// windowMin is mosquitto's default maximum of unacknowledged messages to a client. Acknowledgements keep the order of arrival, and a blocked message
// is not acknowledged, so that many blocked messages of one node stop all messages of a broker with this window.
const windowMin = 20

func newWaiting(c *Consumer, lane int) *waiting {
	w := &waiting{c: c, lane: lane, timer: time.NewTimer(time.Hour)}
	w.timer.Stop()
	return w
}

func (w *waiting) stop() { w.timer.Stop() }

// again fires when the blocked messages are due for a retry.
func (w *waiting) again() <-chan time.Time {
	if len(w.items) == 0 {
		return nil
	}
	return w.timer.C
}

// take empties the queue for another attempt.
func (w *waiting) take() []*item {
	items := w.items
	w.items, w.bytes = nil, 0
	return items
}

// behind keeps the order of each node: messages of nodes with blocked messages are blocked, too. It returns the others.
func (w *waiting) behind(items []*item) (free []*item) {
	if len(w.items) == 0 {
		return items
	}
	held := map[string]bool{}
	for _, it := range w.items {
		if node := it.node(); node != "" {
			held[node] = true
		}
	}
	for _, it := range items {
		if held[it.node()] {
			w.push(it)
			continue
		}
		free = append(free, it)
	}
	w.note()
	return free
}

// add adds the blocked messages of an attempt.
func (w *waiting) add(o *outcome) {
	before := len(w.items)
	for _, it := range o.blocked {
		w.push(it)
	}
	switch {
	case len(w.items) == 0:
		w.pause = 0
	case before == 0 || o.why != nil:
		w.pause = min(max(2*w.pause, w.c.Limits.BackoffMin), w.c.Limits.BackoffMax)
		w.timer.Reset(w.pause)
	}
	w.note()
	if w.c.Counts.Waiting.Load() == 0 && w.c.owed.Swap(false) { // messages blocked in any lane could cause an immediate refusal
		w.c.refused.Store(true)
	}
	w.log(o.why)
}

// push adds one message. If blocked messages fill half of the queue, it leaves the message with the broker: the other half is for other nodes.
func (w *waiting) push(it *item) {
	it.message.pass()
	weight := w.c.weight(it.message)
	items := w.c.Counts.Waiting.Load() - w.noted.items + int64(len(w.items))
	bytes := w.c.heldBytes.Load() - w.noted.bytes + w.bytes
	if items >= max(1, int64(w.c.Limits.QueueMessages)/2) || items > 0 && bytes+weight > int64(w.c.Limits.QueueMiB)<<19 {
		w.c.owed.Store(true)
		w.c.Counts.Refused.Add(1)
		w.c.release(it.message)
		return
	}
	w.items, w.bytes = append(w.items, it), w.bytes+weight
}

// note updates the counts and the text for /ready.
func (w *waiting) note() {
	w.c.Counts.Waiting.Add(int64(len(w.items)) - w.noted.items)
	w.c.heldBytes.Add(w.bytes - w.noted.bytes)
	w.noted.items, w.noted.bytes = int64(len(w.items)), w.bytes
	if len(w.items) == 0 {
		w.c.heldUp[w.lane].Store(nil)
		return
	}
	text := fmt.Sprintf("%d messages of %s are blocked by rows locked in another database session, or by slow statements",
		len(w.items), w.nodes())
	w.c.heldUp[w.lane].Store(&text)
}

// nodes names a few nodes of the blocked messages.
func (w *waiting) nodes() string {
	const most = 3
	var names []string
	for _, it := range w.items {
		if node := it.node(); node != "" && !slices.Contains(names, node) {
			if len(names) == most {
				return "nodes " + strings.Join(names, ", ") + " and others"
			}
			names = append(names, bounded(node, 64))
		}
	}
	if len(names) == 0 {
		return "no node"
	}
	return "node " + strings.Join(names, ", ")
}

// log logs the begin and the end of blocking.
func (w *waiting) log(why error) {
	switch waits := len(w.items) > 0; {
	case waits && !w.said:
		w.c.Log.Error("rows are locked in the database, holding the messages of their nodes; messages of other nodes are stored", "messages", len(w.items), "of", w.nodes(), "error", why)
		w.said = true
	case !waits && w.said:
		w.c.Log.Info("no messages are blocked by locked rows any more")
		w.said, w.wide = false, false
	}
	if waiting := w.c.Counts.Waiting.Load(); waiting >= windowMin && len(w.items) > 0 && !w.wide {
		w.c.Log.Warn("blocked messages may fill the broker's window of unacknowledged messages, which stops messages of other nodes; "+
			"in mosquitto, set max_inflight_messages 0", "messages", waiting)
		w.wide = true
	}
}

// HeldUp describes the messages blocked by other database sessions, "" if there are none. It is safe for concurrent use.
func (c *Consumer) HeldUp() string {
	var all []string
	for i := range c.heldUp {
		if text := c.heldUp[i].Load(); text != nil {
			all = append(all, *text)
		}
	}
	return strings.Join(all, "; ")
}

// held is the text of HeldUp for one lane.
type held = atomic.Pointer[string]
