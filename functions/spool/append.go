package spool

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// Append assigns each record its sequence, in order, and stores all records or none. done is called once, from the committer's goroutine and in the
// order of the calls, so it must not block: with nil when the records are stored as safely as Config.Sync demands, with ErrFull if there is no room
// even after the strategy for a full spool was applied, or with the disk's error. A sequence is valid only after done was called with nil. The
// records must not change until then, their payloads never.
//
// After any error but ErrFull and ErrTooLarge it is unknown whether the records are on disk: a restart may recover them. On a closed spool Append
// itself calls done.
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

// Offer is Append for a caller that has an alternative if the records find no room. It returns the errors that Append reports without writing to the
// disk, such as ErrFull, ErrTooLarge and ErrClosed; done is then never called.
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

// enter waits for its turn and for room that a pending commit may make, and assigns sequences.
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
		s.space.Wait() // records that could make room are not committed yet, but may be soon
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

// drops reports whether the strategy of any record makes room instead of refusing.
func (a *appending) drops(configured string) bool {
	for i := range a.recs {
		if how := cmp.Or(a.recs[i].OnFull, configured); how == DropOldest || how == DropLowestScore {
			return true
		}
	}
	return false
}

// admit checks the records, makes room, and assigns sequences.
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
		return fmt.Errorf("appending to lane %d: must be from 0 to %d", r.Lane, Lanes-1)
	}
	if len(r.Class) > maxClass {
		return fmt.Errorf("appending class %.40q…: a name has at most %d bytes", r.Class, maxClass)
	}
	if s.byName[r.Class] == nil && len(s.classes) >= maxClasses && !s.rename(r.Class) {
		return fmt.Errorf("appending class %q: the maximum of %d classes have records or drops", r.Class, maxClasses)
	}
	if n := s.stored(r); n > s.limits.segmentMax() {
		return fmt.Errorf("%w: %d bytes exceed the maximum of %d", ErrTooLarge, n, s.limits.segmentMax())
	}
	s.class(r.Class).used = s.encoded
	return nil
}

func dueAfter(ttl, now time.Duration) uint32 {
	if ttl > math.MaxInt64/2 {
		return 0
	}
	return ticks(now + max(ttl, 0) + tickLength - 1)
}

// limit returns the maximum bytes of held records. It is below the quota, so that some segment is always sparse enough to be worth rewriting, and
// there is room to rewrite it.
func (l *limits) limit() int64 {
	return (l.quota-2*l.slot-l.quarantine-l.history())/5*4 - 2*l.segment
}

// LargestRecord returns the size in bytes of the largest payload that the spool accepts.
func (c Config) LargestRecord() int {
	l := c.limits()
	return int(l.segmentMax()) - recordRoom
}

// recordRoom is an upper bound of what the spool stores besides a payload.
const recordRoom = 4 << 10

func (l *limits) segmentMax() int64 { return min(l.limit()/4, math.MaxUint32/2) }

// limit returns the current maximum bytes of held records.
func (s *Spool) limit() int64 {
	if limit := s.limits.limit(); s.squeeze == 0 || limit < s.squeeze {
		return limit
	}
	return s.squeeze
}

// free returns the bytes that further records may take.
func (s *Spool) free() int64 { return s.limit() - s.bytes - s.pending }

// fill returns the share of the limit in use. It is 1 while a record as large as a recently rejected one would not fit, even if smaller ones would.
func (s *Spool) fill() float64 {
	if s.free() < s.refusal {
		return 1
	}
	s.refusal = 0
	return min(float64(s.bytes+s.pending)/float64(s.limit()), 1)
}

// eviction is the set of records that make room for an Append. They stay leased until it is certain that they suffice, so that no record is dropped
// without making room for another.
type eviction struct {
	*Spool
	victims []victim
	freed   int64
}

type victim struct {
	g   *segment
	i   int
	was state
}

// room reports whether the record finds room, after its strategy chose records to evict. need is the bytes of its Append so far.
func (v *eviction) room(r *Record, need int64) bool {
	if own := v.stored(r); v.free()+v.freed < own {
		v.refusal = max(v.refusal, own)
	}
	for v.free()+v.freed < need {
		if !v.next(r) {
			return false
		}
	}
	return true
}

// next adds one more record by the strategy of the new record, and reports whether there was one.
func (v *eviction) next(r *Record) bool {
	var g *segment
	i := -1
	switch cmp.Or(r.OnFull, v.limits.OnFull) {
	case DropOldest:
		g, i = v.oldestBelow(r.Lane)
	case DropLowestScore:
		g, i = v.lowestBelow(r.Lane, r.Score)
	}
	if i < 0 {
		return false
	}
	v.victims = append(v.victims, victim{g, i, g.entries[i].state})
	v.freed += int64(g.entries[i].size)
	v.move(g, i, leased)
	return true
}

// end drops the victims if they suffice, and otherwise restores them.
func (v *eviction) end(suffice bool) {
	for _, x := range v.victims {
		v.move(x.g, x.i, x.was)
	}
	for k := 0; suffice && k < len(v.victims); k++ {
		v.Spool.end(v.victims[k].g, v.victims[k].i, ReasonFull)
	}
}

// oldestBelow returns the oldest record, neither leased nor locked, of the lowest lane up to top.
func (s *Spool) oldestBelow(top int) (*segment, int) {
	for l := range s.lanes[:top+1] {
		for _, g := range s.lanes[l].segs {
			if !s.fetch(g) {
				continue
			}
			if i := g.firstPending(); i >= 0 {
				return g, i
			}
		}
	}
	return nil, -1
}

// firstPending returns the oldest pending record of any class, or -1.
func (g *segment) firstPending() int {
	lo := int32(math.MaxInt32)
	for t := range g.tallies {
		for k := range 2 {
			if g.tallies[t].pend[k] > 0 {
				lo = min(lo, g.tallies[t].lo[k])
			}
		}
	}
	for i := int(lo); i < len(g.entries); i++ {
		if g.entries[i].state.kind() >= 0 {
			return i
		}
	}
	return -1
}

// lowestBelow returns the record with the lowest score in the lowest lane up to top that has a pending record. In the new record's own lane its score
// must be below the new record's, or it returns none.
func (s *Spool) lowestBelow(top int, score float32) (*segment, int) {
	for l := range s.lanes[:top+1] {
		var best *segment
		low := float32(0)
		for _, g := range s.lanes[l].segs {
			if v, ok := g.lowestScore(); ok && (best == nil || v < low) {
				best, low = g, v
			}
		}
		if best == nil {
			continue
		}
		if (l == top && low >= score) || !s.fetch(best) {
			return nil, -1
		}
		return best, best.lowest()
	}
	return nil, -1
}

func (g *segment) lowestScore() (v float32, ok bool) {
	if g.paged != nil {
		return g.paged.low, true
	}
	if i := g.lowest(); i >= 0 {
		return g.entries[i].score, true
	}
	return 0, false
}

// lowest returns the pending record with the lowest score. It caches it, so that only a segment that lost its lowest record is searched again.
func (g *segment) lowest() int {
	if g.lowOK && g.low < len(g.entries) && g.entries[g.low].state.kind() >= 0 {
		return g.low
	}
	g.low, g.lowOK = -1, false
	for i := range g.entries {
		if g.entries[i].state.kind() >= 0 && (g.low < 0 || g.entries[i].score < g.entries[g.low].score) {
			g.low = i
		}
	}
	g.lowOK = g.low >= 0
	return g.low
}

// relax raises a lowered limit by a step. It is called after a new segment was created, and at intervals.
func (s *Spool) relax() {
	if s.squeeze == 0 {
		return
	}
	s.squeeze = max(s.squeeze, s.bytes) + 2*s.limits.segment
	if s.squeeze >= s.limits.limit() {
		s.squeeze = 0
	}
}
