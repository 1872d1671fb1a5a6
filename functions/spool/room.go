package spool

import "math"

// limit bounds the bytes of records held. It lies below the quota, so that among the segments there is always one sparse
// enough to be worth rewriting, and room for that.
func (l *limits) limit() int64 {
	return (l.quota-2*l.slot-l.quarantine-l.history())/5*4 - 2*l.segment
}

// segmentMax is the largest record.
func (l *limits) segmentMax() int64 { return min(l.limit()/4, math.MaxUint32/2) }

// free is the room that records may still take.
func (s *Spool) free() int64 {
	limit := s.limits.limit()
	if s.squeeze > 0 {
		limit = min(limit, s.squeeze)
	}
	return limit - s.bytes - s.pending
}

// makeRoom reports whether the record finds room once its strategy was applied. need counts what its Append needs so far.
func (s *Spool) makeRoom(r *Record, need int64) bool {
	if s.free() >= need {
		return true
	}
	how := r.OnFull
	if how == "" {
		how = s.limits.OnFull
	}
	for s.free() < need {
		var g *segment
		i := -1
		switch how {
		case DropOldest:
			g, i = s.oldestBelow(r.Lane)
		case DropLowestScore:
			g, i = s.lowestBelow(r.Lane, r.Score)
		}
		if i < 0 {
			return false
		}
		s.end(g, i, ReasonFull)
	}
	return true
}

// oldestBelow finds the oldest record, neither taken nor locked, of the lowest lane up to top.
func (s *Spool) oldestBelow(top int) (*segment, int) {
	for l := range s.lanes[:top+1] {
		for _, g := range s.lanes[l].segs {
			if !g.pending() || !s.fetch(g) {
				continue
			}
			if i := g.firstPending(); i >= 0 {
				return g, i
			}
		}
	}
	return nil, -1
}

// pending says whether anything of the segment could be taken.
func (g *segment) pending() bool {
	for t := range g.tallies {
		if g.tallies[t].pend[0]+g.tallies[t].pend[1] > 0 {
			return true
		}
	}
	return false
}

// firstPending is the oldest record of any class that could be taken, -1 without one.
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

// lowestBelow finds the record with the lowest score in the lowest lane up to top that has any to drop. In the newcomer's own
// lane it must be below the newcomer's, or the newcomer is the one to go.
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

// lowest finds the pending record with the lowest score and remembers it, so that only the segment that lost its lowest is
// searched again.
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

// noSpace reacts to a disk that is full before the quota is reached, by somebody else's files: the limit falls below
// what is held, so that the strategies for a full spool apply. It reports whether the record's own made room.
func (s *Spool) noSpace(r *Record) bool {
	s.diskFull.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.squeeze = max(s.bytes-s.limits.segment, 1)
	return s.makeRoom(r, 0)
}

// relax lets the limit rise again, a step each time a new segment could be had or some time went by.
func (s *Spool) relax() {
	if s.squeeze == 0 {
		return
	}
	s.squeeze = max(s.squeeze, s.bytes) + 2*s.limits.segment
	if s.squeeze >= s.limits.limit() {
		s.squeeze = 0
	}
}
