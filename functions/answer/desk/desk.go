// Package desk takes the results that the cloud sends, and puts the answers in them on the MessageBus.
//
// A result is checked, published if its answer was not published before, noted in a file, and then confirmed, so that the cloud publishes it
// no more. What is not confirmed comes again: a result that finds no room, or whose answer the bus does not take, is dropped and counted. Each
// answer goes to the bus once; after a kill between the publish and the note, or after a power cut, once more with the same id.
//
// Take does not block. Memory and the file are bounded: the answers of maxSeen results or a little more are remembered.
package desk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"app-offload/functions/answer"
	"app-offload/functions/check"
	"app-offload/functions/say"
	"app-offload/functions/seal"
)

const (
	maxQueue = 1024     // results that wait
	maxBytes = 16 << 20 // of their payloads
	together = 64       // results that are confirmed with one message

	firstPause  = 100 * time.Millisecond // before the bus is tried again; it doubles
	lastPause   = 5 * time.Second
	patience    = 30 * time.Second // with a bus that does not take an answer; then the cloud sends the result again
	maxReason   = 120              // bytes
	reportEvery = 10 * time.Minute
)

// Deps are what a desk needs of its surroundings.
type Deps struct {
	Dir     string                       // of the file that remembers what was published
	Publish func(*answer.Answer) error   // blocks until the bus has the answer, or says why not; nil where there is no MessageBus: answers are then confirmed all the same
	Confirm func([]seal.ConfirmedResult) // informs the cloud; must not block
	Log     say.Logger
}

// Counts are a desk's figures since its start.
type Counts struct {
	Published int64 `json:"published"` // answers of the cloud that are on the bus
	Repeated  int64 `json:"repeated"`  // results whose answer was on the bus already
	Refused   int64 `json:"refused"`   // answers that cannot become an event
	Failed    int64 `json:"failed"`    // results that say why there is no answer
	Outcomes  int64 `json:"outcomes"`  // results without an answer of a model: they settle their task and nothing more
	Full      int64 `json:"full"`      // results dropped for want of room; the cloud sends them again
	NoBus     int64 `json:"noBus"`     // answers confirmed without being published, as there is no MessageBus
	Bus       int64 `json:"bus"`       // results dropped because the bus did not take their answer; likewise
}

// Desk publishes answers. It is safe for concurrent use.
type Desk struct {
	deps  Deps
	seen  *seen
	queue chan seal.Result
	bytes atomic.Int64
	stop  context.CancelFunc
	ended chan struct{}
	said  *say.Every

	mu     sync.Mutex
	counts Counts
}

// Open reads what was published in earlier lives, and starts the goroutine that Close ends.
func Open(deps Deps) (*Desk, error) {
	s, err := openSeen(deps.Dir, maxSeen)
	if err != nil {
		return nil, err
	}
	d := &Desk{deps: deps, seen: s, queue: make(chan seal.Result, maxQueue), ended: make(chan struct{}), said: say.NewEvery(reportEvery)}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	go func() {
		defer close(d.ended)
		d.run(ctx)
	}()
	return d, nil
}

// Take queues a result. One that finds no room is dropped: it is not confirmed, so it comes again.
func (d *Desk) Take(r seal.Result) {
	size := int64(len(r.Payload))
	if d.bytes.Add(size) <= maxBytes || size == 0 {
		select {
		case d.queue <- r:
			return
		default:
		}
	}
	d.bytes.Add(-size)
	d.count(func(c *Counts) { c.Full++ })
	d.report("full", "results of the cloud come faster than the MessageBus takes them; the cloud sends them again")
}

// Counts is what became of results.
func (d *Desk) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Close gives up the queued results, which come again, and returns when the answer at hand is published or given up.
func (d *Desk) Close(ctx context.Context) error {
	d.stop()
	select {
	case <-d.ended:
		return d.seen.close()
	case <-ctx.Done():
		return fmt.Errorf("publishing an answer of the cloud: %w", ctx.Err())
	}
}

func (d *Desk) count(f func(*Counts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.counts)
}

func (d *Desk) report(kind, text string) {
	if n, due := d.said.Due(kind); due {
		d.deps.Log.Warnf("answers: %s: reason=%s count=%d (similar messages suppressed for %v)", text, kind, n, reportEvery)
	}
}

// run publishes one result after the other, and confirms those that were queued together with one message.
func (d *Desk) run(ctx context.Context) {
	var dealt []seal.ConfirmedResult
	for {
		var r seal.Result
		select {
		case <-ctx.Done():
			return
		case r = <-d.queue:
		}
		for more := true; more; {
			d.bytes.Add(-int64(len(r.Payload)))
			if c, ok := d.deal(ctx, &r); ok {
				dealt = append(dealt, c)
			}
			if len(dealt) == together || ctx.Err() != nil {
				break
			}
			select {
			case r = <-d.queue:
			default:
				more = false
			}
		}
		if len(dealt) > 0 {
			d.deps.Confirm(dealt)
			dealt = nil
		}
	}
}

// deal reports whether a result is dealt with, and what the cloud is to know of it.
func (d *Desk) deal(ctx context.Context, r *seal.Result) (c seal.ConfirmedResult, dealt bool) {
	c.ID = r.ID
	switch {
	case !r.OK:
		d.count(func(c *Counts) { c.Failed++ })
		d.report("failed", "the cloud has no answer: event="+check.Cut(r.EventID, 64)+" why="+check.Cut(r.Error, maxReason))
		return c, true
	case r.ContentType != answer.ContentType:
		d.count(func(c *Counts) { c.Outcomes++ })
		return c, true
	}
	a, err := read(r)
	if err != nil {
		d.count(func(c *Counts) { c.Refused++ })
		c.Refused = check.Cut(err.Error(), maxReason)
		d.report("refused", "an answer of the cloud cannot be published: event="+check.Cut(r.EventID, 64)+" why="+c.Refused)
		return c, true
	}
	if d.deps.Publish == nil {
		d.count(func(c *Counts) { c.NoBus++ })
		return c, true
	}
	id := a.ID()
	if d.seen.has(id) {
		d.count(func(c *Counts) { c.Repeated++ })
		return c, true
	}
	if err := d.publish(ctx, a); err != nil {
		d.count(func(c *Counts) { c.Bus++ })
		d.report("bus", fmt.Sprintf("the MessageBus does not take an answer of the cloud, which sends it again: %v", err))
		return c, false
	}
	d.count(func(c *Counts) { c.Published++ })
	if err := d.seen.add(id); err != nil {
		d.report("file", fmt.Sprintf("noting what was published fails; after a restart answers may be published twice: %v", err))
	}
	return c, true
}

// read checks that the answer is that of the result.
func read(r *seal.Result) (*answer.Answer, error) {
	a, err := answer.Decode(r.Payload)
	switch {
	case err != nil:
		return nil, err
	case a.EventID != r.EventID || a.Chunk != r.Chunk:
		return nil, errors.New("it is the answer to another task than its result")
	case a.ComputedBy != answer.Cloud:
		return nil, errors.New("it says that it was not computed in the cloud")
	}
	return a, nil
}

// publish tries until the bus has the answer, the patience is over, or ctx ends.
func (d *Desk) publish(ctx context.Context, a *answer.Answer) error {
	began, pause := time.Now(), firstPause
	for {
		err := d.deps.Publish(a)
		if err == nil || time.Since(began) > patience {
			return err
		}
		again := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			again.Stop()
			return err
		case <-again.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// idSize is that of an answer's id.
const idSize = len(uuid.UUID{})
