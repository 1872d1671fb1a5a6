// Package consume takes batches from a broker, stores them and sends receipts to the nodes.
//
// A message passes three goroutines: one opens messages and gathers them into a group, one stores the group in a single
// transaction, one sends the receipts and then acknowledges the messages to the broker. While one group is being
// stored the next gathers, so a slow disk makes the groups larger, not the queue longer.
//
// Where the database takes several transactions at a time, the first two goroutines are there once for each of Limits.Lanes. The name of its
// node gives a message its lane, in every consumer the same one. So the order of a node's messages is kept, and consumers that share a
// database wait for each other's locks only within a lane.
//
// What is promised: a receipt is sent and a message acknowledged only after the transaction that holds it was committed.
// A message that cannot be opened is quarantined in the same way and acknowledged without a receipt. Memory is bounded; when the
// queue is full and the store does not take more, messages are left unacknowledged and asked for again later.
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

// Message is one publish as it came from the broker. Ack may be called once, from any goroutine, and must not block for long.
type Message struct {
	Topic   string
	Payload []byte
	Cut     int64 // the size of a message that was too large to be read; its payload is empty
	Ack     func()
	Pass    func() // lets messages that came after it be acknowledged before it; nil where the transport keeps no order of them
}

// pass is Pass, where there is one.
func (m *Message) pass() {
	if m.Pass != nil {
		m.Pass()
	}
}

// Outgoing is one publish on its way to the broker.
type Outgoing struct {
	Topic   string
	Payload []byte
}

// Transport is a connection to a broker that keeps its session over restarts.
type Transport interface {
	// Start subscribes and hands each message to deliver; what deliver refuses stays unacknowledged. It blocks until the
	// subscription stands, ctx ends, or it is clear that it never will.
	Start(ctx context.Context, deliver func(*Message) bool) error
	// Publish sends at least once and waits, within ctx, until the broker has acknowledged all of it.
	Publish(ctx context.Context, out []Outgoing) error
	// Redeliver asks the broker for everything that is not acknowledged.
	Redeliver()
	Connected() bool
	// Close ends the connection after what was acknowledged is on its way. The session stays with the broker.
	Close()
}

// Announcer is a Transport that says when its subscription stands, at the start and after each loss.
type Announcer interface {
	// OnStanding has f called each time. It is set before Start, and f must not block.
	OnStanding(f func())
}

// Storage is what the consumer needs of a store.
type Storage interface {
	Commit(ctx context.Context, g *store.Group) (*store.Result, error)
	Permanent(err error) bool
	// Blocked says whether a failed Commit met a lock that another session holds, or took longer than it may.
	Blocked(err error) (locked, slow bool)
}

// Answers hands out what was computed and is to be published; *store.Store does.
type Answers interface {
	TakeAnswers(ctx context.Context, again time.Duration, limit int) ([]*store.Answered, error)
}

// Limits bound memory and the size of a transaction. Zero values take the defaults.
type Limits struct {
	QueueMessages int           // messages waiting or being stored; default 1,024
	QueueMiB      int           // bytes of them, as received; default 64
	GroupRecords  int           // records after which a transaction takes no further message; default 5,000
	GroupMiB      int           // bytes of records likewise, of all lanes; default 16
	Lanes         int           // transactions at the same time, each for other nodes; default 1, at most 16
	Patience      time.Duration // how long a full queue holds the broker back before messages are refused; default 5 s
	CommitTimeout time.Duration // after which a transaction counts as failed; default 60 s
	BackoffMin    time.Duration // pause after the first failed transaction; doubles with each one; default 100 ms
	BackoffMax    time.Duration // the longest pause; default 10 s
	Grace         time.Duration // for storing what is queued when the consumer stops; default 5 s
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

// Consumer moves messages from a transport into a store. Its fields are set before Run.
type Consumer struct {
	Transport Transport
	Store     Storage
	Opener    *seal.Opener
	Sealer    *seal.Sealer
	Lines     io.Writer // gets each new record as a JSON line; nil for none
	Name      string    // of this consumer, in its announcements
	Takes     seal.ConsumerLimits
	Answers   Answers         // outcomes of jobs to be published; nil where there is no work
	Computed  <-chan struct{} // says that there may be an outcome; nil where only looking finds them
	OnJobs    func()          // called after jobs were stored; it must not block. May be nil
	Log       *slog.Logger
	Limits    Limits

	Counts Counts

	slots     *semaphore.Weighted // messages in the queue or beyond it
	bytes     *semaphore.Weighted // bytes of them
	lanes     []lane
	stopping  chan struct{}
	standing  chan struct{} // the subscription stands: say so
	printed   *printer      // nil without Lines
	groupMax  atomic.Int64  // records after which a transaction takes no further message, at the moment
	heldUp    [lanesMax]held
	heldBytes atomic.Int64 // bytes of the messages that wait
	owed      atomic.Bool  // messages were left with the broker because too many wait
	refused   atomic.Bool  // messages were refused, so the broker must be asked for them again
	gaps      map[streamKey]uint64
	conflicts map[streamKey]bool // streams whose conflicts were logged
	once      say.Once           // what was logged as failing or quarantined
}

// Run consumes until ctx ends, then stores what is queued within the grace and closes the transport. ready is called once, when
// the subscription stands.
func (c *Consumer) Run(ctx context.Context, ready func()) error {
	c.prepare()
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx)) // what is under way at the stop may still finish
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
		a.OnStanding(c.stands)
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
	c.standing = make(chan struct{}, 1)
	c.groupMax.Store(int64(c.Limits.GroupRecords))
	c.conflicts = map[streamKey]bool{}
	c.printed = newPrinter(c.Lines, &c.Counts, c.Limits.Patience, c.Log)
	c.Counts.StoreUp.Store(true)
}

// lane is the line of some nodes' messages.
type lane struct {
	queue chan *Message
	slots *semaphore.Weighted       // of the consumer's, that the lane may take
	bytes *semaphore.Weighted       // likewise
	began atomic.Pointer[time.Time] // when the transaction under way did, with the monotonic clock; nil without one
	owed  atomic.Bool               // messages were left with the broker because this lane hangs
}

// share is how much of a limit one lane may take: where there are others, a quarter stays for them. A message that waits for locked rows takes
// half at most, so there is room for other nodes of its lane, too.
func (c *Consumer) share(limit int64) int64 {
	if c.Limits.Lanes == 1 {
		return limit
	}
	return max(limit-limit/4, 1)
}

// hangs reports whether a transaction has taken as long as the patience.
func (c *Consumer) hangs(l *lane) bool {
	began := l.began.Load()
	return began != nil && time.Since(*began) >= c.Limits.Patience
}

// deliver queues a message. A full queue holds the transport back for a while, which a working store soon ends; beyond
// that, and at once while the store is failing, the message is refused and stays with the broker. A lane that hangs holds nothing back: when its
// share of the queue is full, its messages are refused until it goes on.
func (c *Consumer) deliver(m *Message) bool {
	l := &c.lanes[c.laneOf(m)]
	if c.room(l, m) || c.wait(l, m) {
		l.queue <- m
		return true
	}
	c.Counts.Refused.Add(1)
	if l.owed.Store(true); !c.hangs(l) && l.owed.Swap(false) { // the lane may go on at any time, and then takes what it finds there
		c.refused.Store(true)
	}
	return false
}

func (c *Consumer) laneOf(m *Message) int { return laneOf(m.Topic, len(c.lanes)) }

// lanesMax is the largest number of lanes.
const lanesMax = 16

// laneOf is the lane of a topic's node. Names that end in consecutive digits go to different lanes.
func laneOf(topic string, lanes int) int {
	node, _ := splitTopic(topic)
	h := fnv.New32a()
	_, _ = io.WriteString(h, node) // a hash never fails
	return int(h.Sum32() % uint32(lanes))
}

// roomy reports whether half of the queue is free, without what lanes that hang have of it.
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

// places are what a message takes: of its lane, and of the queue.
func (c *Consumer) places(l *lane, m *Message) [4]place {
	weight := c.weight(m)
	return [...]place{{l.slots, 1}, {l.bytes, min(weight, c.share(int64(c.Limits.QueueMiB)<<20))}, {c.slots, 1}, {c.bytes, weight}}
}

type place struct {
	of *semaphore.Weighted
	n  int64
}

// room takes a place in the queue if there is one right now.
func (c *Consumer) room(l *lane, m *Message) bool {
	return take(c.places(l, m), func(p place) bool { return p.of.TryAcquire(p.n) })
}

// wait takes a place in the queue as soon as there is one, within the patience. A failing store, or a lane that hangs, will not make room soon.
func (c *Consumer) wait(l *lane, m *Message) bool {
	if !c.Counts.StoreUp.Load() || c.hangs(l) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.Limits.Patience)
	defer cancel()
	return take(c.places(l, m), func(p place) bool { return p.of.Acquire(ctx, p.n) == nil })
}

// take takes all places or none.
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

// weight is what a message takes of the queue; one that is larger than all of it takes all.
func (c *Consumer) weight(m *Message) int64 {
	return min(int64(len(m.Payload)), int64(c.Limits.QueueMiB)<<20)
}

// release gives back what deliver took.
func (c *Consumer) release(m *Message) {
	for _, p := range c.places(&c.lanes[c.laneOf(m)], m) {
		p.of.Release(p.n)
	}
}
