// Package consume receives batches from a broker, stores them and sends receipts to the nodes.
//
// A message passes three goroutines: the first opens messages and collects them in a group, the second stores the group in a single transaction, the
// third sends the receipts and then acknowledges the messages to the broker. The next group grows while a group is stored, so a slow disk makes the
// groups larger, not the queue longer.
//
// If the database accepts concurrent transactions, each of Limits.Lanes has its own first two goroutines. The name of its node determines a message's
// lane, the same one in every consumer. This keeps the order of a node's messages, and consumers that share a database wait for each other's locks
// only within a lane.
//
// Guarantees: receipts and acknowledgements follow the commit of their transaction. A message that cannot be opened is quarantined in the same way,
// and acknowledged without a receipt. Memory is bounded: when the queue is full and the store does not progress, messages stay unacknowledged and are
// requested again later.
package consume

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/say"
	"app-offload/functions/seal"
)

// Message is a message from the broker. Ack may be called once, from any goroutine, and must not block for long.
type Message struct {
	Topic   string
	Payload []byte
	Cut     int64 // size of an oversized message, which was not read; its payload is empty
	Ack     func()
	Pass    func() // allows later messages to be acknowledged first; nil if the transport keeps no order
}

// pass calls Pass if it is set.
func (m *Message) pass() {
	if m.Pass != nil {
		m.Pass()
	}
}

// Outgoing is a message to the broker.
type Outgoing struct {
	Topic   string
	Payload []byte
}

// Transport is a connection to a broker with a persistent session.
type Transport interface {
	// Start subscribes and passes each message to deliver. A message that deliver refuses stays unacknowledged. Start blocks until the subscription
	// is established, has failed permanently, or ctx ends.
	Start(ctx context.Context, deliver func(*Message) bool) error
	// Publish sends at least once, and waits within ctx until the broker has acknowledged all messages.
	Publish(ctx context.Context, out []Outgoing) error
	// Redeliver asks the broker for all unacknowledged messages.
	Redeliver()
	Connected() bool
	// Close closes the connection after acknowledgements were sent. The session stays with the broker.
	Close()
}

// Announcer is a Transport that reports each new subscription, at the start and after each loss.
type Announcer interface {
	// OnSubscribed sets the function to call for each new subscription. Call it before Start; f must not block.
	OnSubscribed(f func())
}

// Storage is the store interface of the consumer.
type Storage interface {
	Commit(ctx context.Context, g *store.Group) (*store.Result, error)
	Permanent(err error) bool
	// Blocked reports whether a failed Commit met a lock of another session, or exceeded its time limit.
	Blocked(err error) (locked, slow bool)
}

// Answers returns answers to be published; *store.Store implements it.
type Answers interface {
	TakeAnswers(ctx context.Context, again time.Duration, limit int) ([]*store.Answered, error)
}

// Limits bound memory and the size of a transaction. Zero values select the defaults.
type Limits struct {
	QueueMessages int           // messages queued or being stored; default 1,024
	QueueMiB      int           // bytes of them, as received; default 64
	GroupRecords  int           // records after which a transaction accepts no more messages; default 5,000
	GroupMiB      int           // bytes of records after which it accepts no more, for all lanes; default 16
	Lanes         int           // concurrent transactions, each for other nodes; default 1, at most 16
	Patience      time.Duration // time for which a full queue blocks the broker before messages are refused; default 5 s
	CommitTimeout time.Duration // timeout of a transaction; default 60 s
	BackoffMin    time.Duration // pause after the first failed transaction; doubles each time; default 100 ms
	BackoffMax    time.Duration // maximum pause; default 10 s
	Grace         time.Duration // time to store queued messages when the consumer stops; default 5 s
}

func (l Limits) withDefaults() Limits {
	set := func(n *int, to int) {
		if *n <= 0 {
			*n = to
		}
	}
	setTime := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&l.QueueMessages, 1024)
	set(&l.QueueMiB, 64)
	set(&l.GroupRecords, 5000)
	set(&l.GroupMiB, 16)
	set(&l.Lanes, 1)
	l.Lanes = min(l.Lanes, lanesMax)
	setTime(&l.Patience, 5*time.Second)
	setTime(&l.CommitTimeout, time.Minute)
	setTime(&l.BackoffMin, 100*time.Millisecond)
	setTime(&l.BackoffMax, 10*time.Second)
	setTime(&l.Grace, 5*time.Second)
	return l
}

// Consumer stores the messages of a transport. Set its fields before Run.
type Consumer struct {
	Transport Transport
	Store     Storage
	Opener    *seal.Opener
	Sealer    *seal.Sealer
	Lines     io.Writer // receives each new record as a JSON line; nil for none
	Name      string    // of this consumer, in its announcements
	Takes     seal.ConsumerLimits
	Answers   Answers         // answers to be published; nil without workers
	Computed  <-chan struct{} // signals new answers; nil if only polling finds them
	OnJobs    func()          // called after jobs were stored; must not block; may be nil
	Log       *slog.Logger
	Limits    Limits

	Counts Counts

	slots         *semaphore.Weighted // messages in the queue or being stored
	bytes         *semaphore.Weighted // bytes of these messages
	lanes         []lane
	stopping      chan struct{}
	subscriptions chan struct{} // signals a new subscription, to be announced
	printed       *printer      // nil without Lines
	groupMax      atomic.Int64  // current limit of the records of a transaction
	heldUp        [lanesMax]held
	heldBytes     atomic.Int64 // bytes of the blocked messages
	owed          atomic.Bool  // messages were left with the broker because too many are blocked
	refused       atomic.Bool  // messages were refused and must be requested from the broker again
	gaps          map[streamKey]uint64
	conflicts     map[streamKey]bool // streams with logged conflicts
	once          say.Once           // logged failures and quarantine reasons
}

// Run consumes until ctx ends, then stores the queued messages within the grace and closes the transport. It calls ready once, when the subscription
// is established.
func (c *Consumer) Run(ctx context.Context, ready func()) error {
	c.prepare()
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx)) // pending work may finish after the stop
	defer cancel()
	stored := make(chan *stored, 2)
	var work, lanes sync.WaitGroup
	for i := range c.lanes {
		gathered := make(chan *group)
		lanes.Go(func() { c.gather(c.lanes[i].queue, gathered) })
		lanes.Go(func() { c.storeAll(hard, i, gathered, stored) })
	}
	work.Go(func() { c.confirmAll(hard, stored) })
	work.Go(func() { c.announceAll(hard) })
	if c.Answers != nil {
		work.Go(func() { c.answerAll(hard) })
	}
	if a, ok := c.Transport.(Announcer); ok {
		a.OnSubscribed(c.subscribed)
	}

	err := c.Transport.Start(ctx, c.deliver)
	if err == nil {
		ready()
		<-ctx.Done()
	} else if ctx.Err() != nil {
		err = nil
	}
	close(c.stopping)
	timer := time.AfterFunc(c.Limits.Grace, cancel)
	defer timer.Stop()
	lanes.Wait()
	close(stored)
	work.Wait()
	c.printed.close(c.Limits.Grace)
	c.Transport.Close()
	if err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	return nil
}

func (c *Consumer) prepare() {
	c.Limits = c.Limits.withDefaults()
	c.slots = semaphore.NewWeighted(int64(c.Limits.QueueMessages))
	c.bytes = semaphore.NewWeighted(int64(c.Limits.QueueMiB) << 20)
	c.lanes = make([]lane, c.Limits.Lanes)
	for i := range c.lanes {
		c.lanes[i] = lane{
			queue: make(chan *Message, c.Limits.QueueMessages), // never full while slots are held
			slots: semaphore.NewWeighted(c.share(int64(c.Limits.QueueMessages))), bytes: semaphore.NewWeighted(c.share(int64(c.Limits.QueueMiB) << 20)),
		}
	}
	c.stopping = make(chan struct{})
	c.gaps = map[streamKey]uint64{}
	c.subscriptions = make(chan struct{}, 1)
	c.groupMax.Store(int64(c.Limits.GroupRecords))
	c.conflicts = map[streamKey]bool{}
	c.printed = newPrinter(c.Lines, &c.Counts, c.Limits.Patience, c.Log)
	c.Counts.StoreUp.Store(true)
}

// lane is the queue of some nodes' messages.
type lane struct {
	queue chan *Message
	slots *semaphore.Weighted       // of the consumer's slots, maximum for the lane
	bytes *semaphore.Weighted       // of the consumer's bytes, maximum for the lane
	began atomic.Pointer[time.Time] // start of the current transaction, with the monotonic clock; nil without one
	owed  atomic.Bool               // messages were left with the broker because this lane is stuck
}

// share returns the part of a limit that one lane may use: with several lanes, a quarter stays for the others. Blocked messages use at most half of
// the limit, so there is also room for other nodes of the lane.
func (c *Consumer) share(limit int64) int64 {
	if c.Limits.Lanes == 1 {
		return limit
	}
	return max(limit-limit/4, 1)
}

// hangs reports whether the current transaction has taken as long as the patience.
func (c *Consumer) hangs(l *lane) bool {
	began := l.began.Load()
	return began != nil && time.Since(*began) >= c.Limits.Patience
}

// deliver queues a message. A full queue blocks the transport for the patience, which a working store ends soon. After that, or immediately while the
// store fails, the message is refused and stays with the broker. A lane that hangs does not block the transport: once its share of the queue is full,
// its messages are refused until it progresses.
func (c *Consumer) deliver(m *Message) bool {
	l := &c.lanes[c.laneOf(m)]
	if c.room(l, m) || c.wait(l, m) {
		l.queue <- m
		return true
	}
	c.Counts.Refused.Add(1)
	if l.owed.Store(true); !c.hangs(l) && l.owed.Swap(false) { // the lane may progress at any time, and then takes the flag
		c.refused.Store(true)
	}
	return false
}

func (c *Consumer) laneOf(m *Message) int { return laneOf(m.Topic, len(c.lanes)) }

// lanesMax is the maximum number of lanes.
const lanesMax = 16

// laneOf returns the lane of a topic's node. Names that end in consecutive digits get different lanes.
func laneOf(topic string, lanes int) int {
	node, _ := splitTopic(topic)
	h := fnv.New32a()
	_, _ = io.WriteString(h, node) // a hash never fails
	return int(h.Sum32() % uint32(lanes))
}

// roomy reports whether half of the queue is free, not counting lanes that hang.
func (c *Consumer) roomy() bool {
	queued, room, works := 0, c.Limits.QueueMessages, false
	for i := range c.lanes {
		l := &c.lanes[i]
		if c.hangs(l) {
			room -= len(l.queue)
			continue
		}
		queued, works = queued+len(l.queue), true
	}
	return works && queued <= room/2
}

// places returns the places that a message needs in its lane and in the queue.
func (c *Consumer) places(l *lane, m *Message) [4]place {
	weight := c.weight(m)
	return [...]place{{l.slots, 1}, {l.bytes, min(weight, c.share(int64(c.Limits.QueueMiB)<<20))}, {c.slots, 1}, {c.bytes, weight}}
}

type place struct {
	of *semaphore.Weighted
	n  int64
}

// room takes the places of a message if they are free.
func (c *Consumer) room(l *lane, m *Message) bool {
	return take(c.places(l, m), func(p place) bool { return p.of.TryAcquire(p.n) })
}

// wait waits for the places of a message, within the patience. A failing store or a lane that hangs will not free them soon.
func (c *Consumer) wait(l *lane, m *Message) bool {
	if !c.Counts.StoreUp.Load() || c.hangs(l) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Limits.Patience)
	defer cancel()
	return take(c.places(l, m), func(p place) bool { return p.of.Acquire(ctx, p.n) == nil })
}

// take takes either all places or none.
func take(all [4]place, acquire func(place) bool) bool {
	for i, p := range all {
		if !acquire(p) {
			for _, had := range all[:i] {
				had.of.Release(had.n)
			}
			return false
		}
	}
	return true
}

// weight returns the bytes of a message, at most the size of the queue.
func (c *Consumer) weight(m *Message) int64 {
	return min(int64(len(m.Payload)), int64(c.Limits.QueueMiB)<<20)
}

// release releases the places of a message.
func (c *Consumer) release(m *Message) {
	for _, p := range c.places(&c.lanes[c.laneOf(m)], m) {
		p.of.Release(p.n)
	}
}
