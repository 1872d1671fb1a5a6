package spool

import (
	"maps"
	"math"
	"time"
)

// Queues appends one entry for each class of each lane with pending records, highest lane first.
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

// Floor returns the smallest held sequence, or the next one to be assigned. A crash may lower it by the records done within the last AckInterval.
func (s *Spool) Floor() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	floor, _ := s.oldest()
	return floor
}

// oldest returns the smallest held sequence, and the age of the oldest first record of a lane. Records waiting for their commit count as held.
func (s *Spool) oldest() (floor uint64, age time.Duration) {
	floor = s.counted + 1
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			seq, arrived, ok := g.oldest()
			if !ok {
				continue
			}
			floor = min(floor, seq)
			age = max(age, s.since(arrived))
			break
		}
	}
	return floor, age
}

// Fate returns the fate of a sequence: "held", "done", "here", "expired", "quarantined", "dropped:<reason>", "skipped" if no record ever had it, or
// "" if it is not assigned yet or older than the bounded history.
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

// FateRun returns the fate of a sequence, and the last sequence known to share it without a break: a gap may span more sequences than a caller could
// ask for one by one.
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
		last = min(last, max(floor, 1)-1) // no record below it is held
	}
	return fate, max(min(last, s.fates.before(seq)), seq)
}

// Fill returns the part of Stats that is needed often: held records and bytes, and the share of the limit in use, at most 1. It is 1 while a record
// as large as a recently rejected one would be refused or would drop others.
func (s *Spool) Fill() (records, bytes int64, share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(s.held), s.bytes, s.fill()
}

// Ready returns the records that can be taken now, and so precede any new record, and their bytes. It excludes leased and held records.
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

// Stats returns the counters. It costs some microseconds for each class.
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
		st.DiskBytes -= s.limits.history() // reserved but not created yet
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
