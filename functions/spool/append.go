package spool

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// Append gives each record its sequence, in order, and stores all of them or none. done is called once, from the
// committer's goroutine and in the order of the calls, so it must not block: with nil when the records are stored as
// safely as Config.Sync says, with ErrFull when there is no room even after the strategy for a full spool was applied, or with what
// the disk said. A sequence is valid only once done was called with nil. The records and their payloads must stay as they are until
// then, the payloads permanently.
//
// After any error but ErrFull and ErrTooLarge it is unknown whether records are on disk: a restart may bring them back.
// On a closed spool done is called by Append itself.
func (s *Spool) Append(recs []Record, done func(err error)) {
	a := &appending{recs: recs, done: done}
	s.mu.Lock()
	if a.err = s.enter(a); a.err == ErrClosed {
		s.mu.Unlock()
		done(ErrClosed)
		return
	}
	s.queue(a)
	s.mu.Unlock()
}

// Offer is Append for a caller that goes another way at once where records find no room: the result of Append without a second call
// the disk, such as ErrFull, ErrTooLarge and ErrClosed, Offer returns, and done is then never called.
func (s *Spool) Offer(recs []Record, done func(err error)) error {
	a := &appending{recs: recs, done: done}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enter(a); err != nil {
		return err
	}
	s.queue(a)
	return nil
}

// enter waits for its turn and for room that is about to be made, and gives sequences.
func (s *Spool) enter(a *appending) error {
	for !s.closing && (s.pending >= s.limits.pending || len(s.waiting) >= groupRecords) {
		s.space.Wait()
	}
	if s.closing {
		return ErrClosed
	}
	err := s.admit(a)
	for err == ErrFull && s.pending > 0 && a.drops(s.limits.OnFull) {
		s.hurry()
		s.space.Wait() // what could make room is not committed yet: a moment later it may
		if s.closing {
			return ErrClosed
		}
		err = s.admit(a)
	}
	if err == ErrFull {
		s.refused.Add(uint64(len(a.recs)))
	}
	return err
}

func (s *Spool) queue(a *appending) {
	s.waiting = append(s.waiting, a)
	if s.records += len(a.recs); s.enough() {
		s.hurry()
	}
	s.work.Signal()
}

// drops reports whether the strategy of any record is to make room rather than to refuse.
func (a *appending) drops(configured string) bool {
	for i := range a.recs {
		if how := cmp.Or(a.recs[i].OnFull, configured); how == DropOldest || how == DropLowestScore {
			return true
		}
	}
	return false
}

// admit checks the records, makes room, and gives sequences.
func (s *Spool) admit(a *appending) error {
	for i := range a.recs {
		if err := s.check(&a.recs[i]); err != nil {
			return err
		}
	}
	v := eviction{Spool: s}
	for i := range a.recs {
		need := s.stored(&a.recs[i])
		if !v.room(&a.recs[i], a.bytes+need) {
			v.end(false)
			a.bytes = 0
			return ErrFull
		}
		a.bytes += need
	}
	v.end(true)
	for i := range a.recs {
		if a.recs[i].Time == 0 {
			a.recs[i].Time = s.opts.clock.Wall(s.opts.clock.Now()).UnixNano()
		}
		a.recs[i].Seq = s.next
		s.next++
	}
	s.pending += a.bytes
	return nil
}

func (s *Spool) check(r *Record) error {
	if r.Lane < 0 || r.Lane >= Lanes {
		return fmt.Errorf("appending to lane %d: there are lanes 0 to %d", r.Lane, Lanes-1)
	}
	if len(r.Class) > maxClass {
		return fmt.Errorf("appending class %.40q…: a name has at most %d bytes", r.Class, maxClass)
	}
	if s.byName[r.Class] == nil && len(s.classes) >= maxClasses {
		return fmt.Errorf("appending class %q: there are %d classes already", r.Class, maxClasses)
	}
	if n := s.stored(r); n > s.limits.segmentMax() {
		return fmt.Errorf("%w: %d bytes, at most %d fit", ErrTooLarge, n, s.limits.segmentMax())
	}
	s.class(r.Class)
	return nil
}

// due is when a record expires by the spool's clock, which starts to count when the record comes in.
func due(r *Record, now time.Duration) uint32 {
	if r.Expires == 0 {
		return 0
	}
	return dueAfter(time.Duration(r.Expires-r.Time), now)
}

func dueAfter(ttl, now time.Duration) uint32 {
	if ttl > math.MaxInt64/2 {
		return 0
	}
	return ticks(now + max(ttl, 0) + tickLength - 1)
}
