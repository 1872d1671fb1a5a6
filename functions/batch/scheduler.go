// Package batch decides which records leave next.
//
// A Scheduler asks the spool for its queues and takes batches of one class each. Fresh records go before a backlog, but the backlog keeps its share
// of the bytes; a lane of higher priority goes before lower ones, but those keep their share; the classes of one lane share by weight (weighted fair
// queueing by bytes). Fresh records wait until a batch is full or old enough; a backlog fills batches by itself and never waits.
//
// The scheduler holds no records. The records that Next returns are leased from the spool: the caller calls Done or Release there. The spool drops
// expired records by its own clock and does not return them. One goroutine calls Next, which blocks; all other methods are safe for concurrent use
// and do not block.
package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// Source is the part of the spool that the scheduler uses; *spool.Spool implements it.
type Source interface {
	// Queues returns the queues with records to take, highest lane first.
	Queues(dst []spool.Queue) []spool.Queue
	// Take leases the oldest records of a class, at least one if there are any.
	Take(lane int, class string, from spool.Source, max, maxBytes int, dst []spool.Record) []spool.Record
	// TakeNewest leases the newest records of a class from the backlog.
	TakeNewest(lane int, class string, max, maxBytes int, dst []spool.Record) []spool.Record
	// Wait signals that there may be new records.
	Wait() <-chan struct{}
}

// Classes provides weights and orders; *task.Classes implements it.
type Classes interface{ All() []*task.Class }

// Batch is the content of one message.
type Batch struct {
	Class   string
	Lane    int
	Live    bool           // fresh, not from the backlog
	Bytes   int            // sum of the payloads
	Records []spool.Record // by ascending sequence, never empty
}

// ErrDrained is returned by Next, after Drain, once no fresh records are left.
var ErrDrained = errors.New("batch: no fresh records left")

// Scheduler chooses the next batch.
type Scheduler struct {
	src   Source
	nudge chan struct{} // wakes Next after a change of its settings

	mu       sync.Mutex
	cfg      Config
	age      time.Duration
	limit    int // bytes a batch, at most MaxKiB
	drain    bool
	excluded map[string]bool // classes that are withheld for now
	withheld bool            // fresh records of an excluded class wait
	hasten   bool            // fresh records at the next look are due immediately
	classes  map[string]*task.Class
	queues   map[key]*queue
	lanes    [spool.Lanes][]*queue // queues that the spool offers now
	before   [spool.Lanes][]*queue // queues offered at the previous look
	looks    uint64
	clocks   [sourceCount][spool.Lanes]float64 // virtual time of the queue last served
	fresh    split                             // fresh against backlog
	priority [sourceCount][spool.Lanes]split   // a lane against all below it
	offers   []spool.Queue
}

// New returns a scheduler over a source.
func New(cfg Config, src Source, classes Classes) (*Scheduler, error) {
	s := &Scheduler{src: src, nudge: make(chan struct{}, 1), queues: map[key]*queue{}}
	if err := s.Reload(cfg, classes); err != nil {
		return nil, err
	}
	return s, nil
}

// Reload changes configuration and classes from the next batch on. On an error nothing changes.
func (s *Scheduler) Reload(cfg Config, classes Classes) error {
	commit, err := s.Prepare(cfg, classes)
	if err == nil {
		commit()
	}
	return err
}

// Prepare does every step of Reload that can fail. Nothing changes before commit is called.
func (s *Scheduler) Prepare(cfg Config, classes Classes) (commit func(), err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("batch configuration: %w", err)
	}
	byName := map[string]*task.Class{}
	for _, c := range classes.All() {
		byName[c.Name] = c
	}
	return func() { s.commit(cfg, byName) }, nil
}

func (s *Scheduler) commit(cfg Config, byName map[string]*task.Class) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg, s.classes = cfg, byName
	s.age, _ = time.ParseDuration(cfg.MaxAge) // validated above
	s.limit = cfg.MaxKiB << 10
	s.fresh = newSplit(cfg.BacklogShare, s.limit)
	for i := range s.priority {
		for lane := range s.priority[i] {
			s.priority[i][lane] = newSplit(cfg.LowerShare, s.limit)
		}
	}
	clear(s.queues)
	s.wake()
}

// SetLimit makes batches smaller than MaxKiB, for a slow link or a broker that rejects large messages. 0 or more than MaxKiB means MaxKiB.
func (s *Scheduler) SetLimit(bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = s.cfg.MaxKiB << 10
	if bytes > 0 {
		s.limit = min(s.limit, bytes)
	}
}

// Exclude sets the classes that Next withholds until the next call. The caller must not change the map afterwards.
func (s *Scheduler) Exclude(classes map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.excluded = classes
	s.wake()
}

// Drain makes all fresh records due immediately and ignores the backlog. Next returns ErrDrained when no fresh records are left.
func (s *Scheduler) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain = true
	s.wake()
}

// Hasten makes the fresh records waiting now due immediately, for a caller that knows the link to be idle.
func (s *Scheduler) Hasten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasten = true
	s.wake()
}

// Next blocks until a batch is due, and returns it with leases on its records.
func (s *Scheduler) Next(ctx context.Context) (*Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, wait, drained := s.At(time.Now())
		switch {
		case b != nil:
			return b, nil
		case drained:
			return nil, ErrDrained
		}
		if err := s.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// sleep waits for new records in the spool, new settings, or the age of the waiting records; wait < 0 means no age.
func (s *Scheduler) sleep(ctx context.Context, wait time.Duration) error {
	var due <-chan time.Time
	if wait >= 0 {
		due = time.After(wait)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.src.Wait():
	case <-s.nudge:
	case <-due:
	}
	return nil
}

func (s *Scheduler) wake() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// At is Next at a given time, without blocking. It returns a batch if one is due, otherwise how long until the first becomes due, or -1 if none
// waits.
func (s *Scheduler) At(now time.Time) (b *Batch, wait time.Duration, drained bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(now)
	c, ok := s.choose(now)
	if !ok {
		return nil, s.wait(now), s.drain && !s.withheld
	}
	if b := s.take(c); b != nil {
		return b, 0, false
	}
	// The spool offered records that it could not return (damaged, or just expired): do not ask again until it signals.
	return nil, retryAfter, false
}

// retryAfter prevents a busy loop on a spool that offers records it cannot return.
const retryAfter = 100 * time.Millisecond

// look updates the queues from the spool's offers. Its cost is proportional to the classes with records now or at the previous look.
func (s *Scheduler) look(now time.Time) {
	s.offers, s.withheld = s.src.Queues(s.offers[:0]), false
	s.looks++
	s.lanes, s.before = s.before, s.lanes
	for lane := range s.lanes {
		s.lanes[lane] = s.lanes[lane][:0]
	}
	for i := range s.offers {
		o := &s.offers[i]
		if s.excluded[o.Class] {
			s.withheld = s.withheld || o.Live > 0
			if q := s.queues[key{o.Lane, o.Class}]; q != nil {
				q.count, q.look = [sourceCount]int{}, s.looks // an excluded class earns no credit, but its records age
			}
			continue
		}
		q := s.queue(key{o.Lane, o.Class})
		q.offer(o, &s.clocks, now)
		q.look = s.looks
		if s.hasten && o.Live > 0 {
			q.since = now.Add(-s.age)
		}
		s.lanes[q.lane] = append(s.lanes[q.lane], q)
	}
	s.hasten = false
	for lane := range s.before {
		for _, q := range s.before[lane] {
			if q.look != s.looks {
				q.none()
			}
		}
	}
}

// maxQueues bounds the queues remembered after their classes left the configuration.
const maxQueues = 1024

func (s *Scheduler) queue(k key) *queue {
	q := s.queues[k]
	if q != nil {
		return q
	}
	if len(s.queues) >= maxQueues {
		maps.DeleteFunc(s.queues, func(_ key, q *queue) bool { return q.count == [sourceCount]int{} })
	}
	q = &queue{key: k, weight: 1}
	if c := s.classes[k.class]; c != nil {
		q.weight, q.newest = float64(max(c.Weight, 1)), c.Newest
	}
	s.queues[k] = q
	return q
}

// take leases the chosen batch, or returns nil if the spool returns no records.
func (s *Scheduler) take(c choice) *Batch {
	q := c.queue
	var records []spool.Record
	if c.source == backlog && q.newest {
		records = s.src.TakeNewest(q.lane, q.class, s.cfg.MaxCount, s.limit, nil)
		slices.SortFunc(records, func(a, b spool.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	} else {
		records = s.src.Take(q.lane, q.class, sources[c.source], s.cfg.MaxCount, s.limit, nil)
	}
	if len(records) == 0 {
		return nil
	}
	if c.source == live && len(records) >= q.count[live] {
		q.since = time.Time{} // records that arrive now start a new wait
	}
	bytes := 0
	for i := range records {
		bytes += len(records[i].Payload)
	}
	s.book(c, bytes)
	return &Batch{Class: q.class, Lane: q.lane, Live: c.source == live, Bytes: bytes, Records: records}
}

// choice is a queue that is due.
type choice struct {
	queue     *queue
	source    int
	contested bool // both sources had records due
}

// choose returns the queue to serve next: source first, then lane, then class.
func (s *Scheduler) choose(now time.Time) (choice, bool) {
	first, ok1 := s.chooseLane(live, now)
	if s.drain {
		return first, ok1
	}
	second, ok2 := s.chooseLane(backlog, now)
	switch {
	case ok1 && ok2:
		first.contested, second.contested = true, true
		if s.fresh.second(second.queue.size(backlog, s.limit)) {
			return second, true
		}
		return first, true
	case ok2:
		return second, true
	}
	return first, ok1
}

// chooseLane walks down from the highest lane with due records, as far as the lower lanes have earned a turn.
func (s *Scheduler) chooseLane(source int, now time.Time) (choice, bool) {
	var best choice
	found := false
	for lane := spool.Lanes - 1; lane >= 0; lane-- {
		q := s.chooseClass(source, lane, now)
		switch {
		case q == nil:
		case !found:
			best, found = choice{queue: q, source: source}, true
		case s.priority[source][best.queue.lane].second(q.size(source, s.limit)):
			best.queue = q // the higher lanes owe this one a turn
		default:
			return best, true
		}
	}
	return best, found
}

// chooseClass returns the queue of a lane that is due and furthest behind its weighted share of bytes.
func (s *Scheduler) chooseClass(source, lane int, now time.Time) *queue {
	var best *queue
	for _, q := range s.lanes[lane] {
		if s.due(source, q, now) && (best == nil || q.sent[source] < best.sent[source]) {
			best = q
		}
	}
	return best
}

// due reports whether a queue may leave: a backlog always; fresh records when a limit is reached, or if they are so large that waiting would hardly
// save bytes.
func (s *Scheduler) due(source int, q *queue, now time.Time) bool {
	if q.count[source] == 0 {
		return false
	}
	return source == backlog || s.drain || q.count[live] >= s.cfg.MaxCount || q.bytes[live] >= int64(min(s.limit, q.count[live]*LargeRecord)) ||
		now.Sub(q.since) >= s.age
}

// LargeRecord is the average size in bytes from which records do not wait for more: a message of one has a few hundred bytes of overhead.
const LargeRecord = 8 << 10

// book charges the served class, and credits the parties that waited.
func (s *Scheduler) book(c choice, bytes int) {
	q, i := c.queue, c.source
	s.clocks[i][q.lane] = q.sent[i]
	q.sent[i] += float64(max(bytes, 1)) / q.weight
	if c.contested || i == backlog {
		s.fresh.served(i == backlog, bytes)
	}
	for lane := spool.Lanes - 1; lane > q.lane; lane-- {
		s.priority[i][lane].served(true, bytes)
	}
	if s.lowerWaits(i, q.lane) {
		s.priority[i][q.lane].served(false, bytes)
	}
}

func (s *Scheduler) lowerWaits(source, lane int) bool {
	for lower := range lane {
		for _, q := range s.lanes[lower] {
			if q.count[source] > 0 {
				return true
			}
		}
	}
	return false
}

// wait returns the time until the oldest fresh records become due, or -1 if none wait. The caller has found nothing due: there is no backlog, or a
// drain keeps it.
func (s *Scheduler) wait(now time.Time) time.Duration {
	wait := time.Duration(-1)
	if s.drain {
		return wait
	}
	for lane := range s.lanes {
		for _, q := range s.lanes[lane] {
			if left := s.age - now.Sub(q.since); wait < 0 || left < wait { // positive, since none is due
				wait = left
			}
		}
	}
	return wait
}

// split shares bytes between a first party, which is served first, and a second one, which keeps a share. Bytes that the first party sends while the
// second waits earn the second credit; once the credit pays for its next batch, the second has a turn. Over any period in which the second always has
// records to send, it gets its share, less at most one batch. Bytes that it sends while the first has no records count as well, so that a first party
// that needs less than its share never waits.
type split struct {
	earn   float64 // credit for each byte of the first party
	credit float64
	cap    float64 // bounds the burst after a long wait for one huge batch
}

func newSplit(share float64, largest int) split {
	earn := share / (1 - share)
	return split{earn: earn, cap: max(2, earn+1) * float64(largest)} // credit earned by one batch of the first party, plus one batch
}

// second reports whether the second party is served now with a batch of that size, if both have one ready.
func (s *split) second(size int) bool { return s.earn > 0 && s.credit >= min(float64(size), s.cap) }

// served records bytes of the second party, or of the first while the second waited.
func (s *split) served(second bool, size int) {
	if second {
		s.credit = max(0, s.credit-float64(size))
		return
	}
	s.credit = min(s.cap, s.credit+float64(size)*s.earn)
}
