package spool

import (
	"maps"
	"math"
	"time"
)

// Queues appends one entry for each class of each lane that has something to take, highest lane first.
func (s *Spool) Queues(dst []Queue) []Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := Lanes - 1; l >= 0; l-- {
		for _, q := range s.lanes[l].queues {
			if q == nil || q.pend[0]+q.pend[1] == 0 {
				continue
			}
			o := Queue{Lane: l, Class: q.class.name, Live: q.pend[0], Backlog: q.pend[1], LiveBytes: q.bytes[0], BacklogBytes: q.bytes[1]}
			if s.leads(&s.lanes[l], q) {
				o.Live, o.LiveBytes, o.Backlog, o.BacklogBytes = o.Live+o.Backlog, o.LiveBytes+o.BacklogBytes, 0, 0
			}
			dst = append(dst, o)
		}
	}
	return dst
}

// Floor is the smallest sequence still held, or the next one to be given. A crash may lower it by what was done within the
// last AckInterval.
func (s *Spool) Floor() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	floor, _ := s.oldest()
	return floor
}

// oldest finds the smallest sequence held and the age of the first records of the lanes. Records that wait for their commit count as held.
func (s *Spool) oldest() (floor uint64, age time.Duration) {
	floor = s.counted + 1
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			seq, came, ok := g.oldest()
			if !ok {
				continue
			}
			floor = min(floor, seq)
			age = max(age, s.since(came))
			break
		}
	}
	return floor, age
}

// Fate says what became of a sequence: "held", "done", "here", "expired", "quarantined", "dropped:<reason>", "skipped" for one that no record
// ever had, or "" for one that is not yet given or older than the bounded history.
func (s *Spool) Fate(seq uint64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, _ := s.locate(seq); g != nil {
		return FateHeld
	}
	if why := s.fates.of(seq); why != FateUnknown || seq >= s.next {
		return why
	}
	why, _ := s.history.of(seq)
	return why
}

// FateRun is Fate, and the last of the sequences that follow of which the same is known to hold: a gap may span more sequences than
// could be asked for one by one.
func (s *Spool) FateRun(seq uint64) (fate string, last uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, _ := s.locate(seq); g != nil {
		return FateHeld, seq
	}
	if why, last := s.fates.run(seq); why != FateUnknown {
		return why, last
	}
	if seq >= s.next {
		return FateUnknown, math.MaxUint64
	}
	fate, last = s.history.run(seq)
	if floor, _ := s.oldest(); fate == FateUnknown {
		last = min(last, max(floor, 1)-1) // nothing is held below it
	}
	return fate, max(min(last, s.fates.before(seq)), seq)
}

// Fill is what is asked often of Stats: records and bytes held, and the share of the limit that they fill, at most 1. It is 1 while
// a record would be refused, or drop others, that was or did before.
func (s *Spool) Fill() (records, bytes int64, share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(s.held), s.bytes, s.fill()
}

// Ready is what could be taken now, and so stands before whatever comes next: records, and their bytes. What is leased or held is
// not among it.
func (s *Spool) Ready() (records, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.lanes {
		for _, q := range s.lanes[l].queues {
			if q != nil {
				bytes += q.bytes[0] + q.bytes[1]
			}
		}
	}
	return int64(s.ready[0] + s.ready[1]), bytes
}

// Stats counts. It costs some microseconds for each class.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Epoch: s.epoch, Held: s.held, HeldBytes: s.bytes, Limit: s.limit(), Fill: s.fill(), DiskBytes: s.disk, Quota: s.limits.quota,
		Live: s.ready[0], Backlog: s.ready[1], LiveBytes: s.ring.bytes, Leased: s.leased, Locked: s.locked, Next: s.next,
		Commits: s.commits.Load(), Syncs: s.syncs.Load(), Written: s.written.Load(), Refused: s.refused.Load(),
		Failed: s.failed.Load(), DiskFull: s.diskFull.Load(), Quarantined: s.quarantined.Load(), Problem: s.problem,
		Dropped: map[string]uint64{}, Classes: make(map[string]ClassStats, len(s.classes)),
	}
	if s.history.f == nil {
		st.DiskBytes -= s.limits.history() // reserved, and not there yet
	}
	st.Floor, st.OldestAge = s.oldest()
	for l := range s.lanes {
		st.Segments += len(s.lanes[l].segs)
	}
	for _, c := range s.classes {
		st.Appended += c.appended
		st.Done += c.done
		for why, n := range c.dropped {
			st.Dropped[why] += n
		}
		st.Classes[c.name] = ClassStats{
			Appended: c.appended, Done: c.done, Held: c.held, HeldBytes: c.heldBytes, Dropped: maps.Clone(c.dropped),
		}
	}
	return st
}
