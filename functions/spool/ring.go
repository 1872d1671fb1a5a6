package spool

import (
	"maps"
	"slices"
	"time"
)

// ringCost is the memory of a record besides its payload. It bounds the ring if records are small.
const ringCost = 160

// ring holds the payloads of the latest committed records, until they are done or newer ones need the room.
type ring struct {
	max, bytes int64
	recs       map[uint64]ringRecord
	order      []uint64 // sequences in order of arrival; some may be removed already
	head       int
	held       int       // records leased by Hold
	taken      time.Time // when a record was last taken from it, or when it was last empty
	flows      bool      // the link works, whether or not records are taken
	ceased     time.Time // when the link last stopped working
	grown      int       // the largest size of recs since it was allocated
}

// While no record is taken because the link is down, the ring keeps only a part of its size: its records have to wait anyway, and an outage should
// need no more memory than a working link. The records it evicts become backlog, which fresh records overtake, so it evicts most of them only after a
// while: neither a pause nor a slow or late consumer is an outage.
const (
	pauseAfter = time.Second
	pausePart  = 4
	restAfter  = 5 * time.Second
	restPart   = 16
)

// outageAfter is the age at which a record evicted from the ring makes an outage: from then on fresh records overtake it. Until then the order is
// kept.
const outageAfter = 10 * time.Second

// bound returns the current maximum size of the ring.
func (r *ring) bound(now time.Time) int64 {
	since := r.taken
	if r.ceased.After(since) {
		since = r.ceased
	}
	switch idle := now.Sub(since); {
	case r.flows, r.empty():
		return r.max
	case idle > restAfter:
		return r.max / restPart
	case idle > pauseAfter:
		return r.max / pausePart
	}
	return r.max
}

// empty reports whether no record can be taken: held records say nothing about the link.
func (r *ring) empty() bool { return len(r.recs) == r.held }

type ringRecord struct {
	seg           *segment
	payload       []byte
	tag           uint64
	time, expires int64
	held          bool
	own           bool // the payload does not share its memory
}

func (r *ring) add(g *segment, rec *Record, now time.Time) {
	if r.empty() {
		r.taken = now
	}
	r.recs[rec.Seq] = ringRecord{seg: g, payload: rec.Payload, tag: rec.Tag, time: rec.Time, expires: rec.Expires, held: rec.Hold}
	if rec.Hold {
		r.held++
	}
	r.order = append(r.order, rec.Seq)
	r.grown = max(r.grown, len(r.recs))
	r.bytes += int64(len(rec.Payload)) + ringCost
}

func (r *ring) drop(seq uint64) {
	if rec, ok := r.recs[seq]; ok {
		delete(r.recs, seq)
		r.bytes -= int64(len(rec.payload)) + ringCost
		if rec.held {
			r.held--
		}
	}
}

// release makes a held record available.
func (r *ring) release(seq uint64, now time.Time) {
	rec := r.recs[seq]
	if !rec.held {
		return
	}
	if r.empty() {
		r.taken = now
	}
	rec.held = false
	r.recs[seq] = rec
	r.held--
}

// oldest removes and returns the next record to evict, if the ring holds more than most bytes.
func (r *ring) oldest(most int64) (seq uint64, g *segment, ok bool) {
	for r.bytes > most && r.head < len(r.order) {
		seq = r.order[r.head]
		r.head++
		if rec, there := r.recs[seq]; there {
			r.drop(seq)
			return seq, rec.seg, true
		}
	}
	return 0, nil, false
}

// trim bounds the order if one record stays long, at a constant cost a record. A payload may share its memory with the payloads appended with it: if
// most of those are gone, it is copied. A ring whose bound is reduced, most, also frees the memory of its map.
func (r *ring) trim(most int64) {
	if most < r.max {
		r.shrink()
	}
	sparse := len(r.order)-r.head > 2*len(r.recs)+1024
	if !sparse && r.head <= len(r.order)/2+1024 {
		return
	}
	kept := r.order[:0]
	for _, seq := range r.order[r.head:] {
		rec, there := r.recs[seq]
		if !there {
			continue
		}
		kept = append(kept, seq)
		if sparse && !rec.own {
			rec.payload, rec.own = slices.Clone(rec.payload), true
			r.recs[seq] = rec
		}
	}
	r.order, r.head = kept, 0
}

// shrink reallocates recs after it held many more records, since a map never shrinks.
func (r *ring) shrink() {
	if r.grown <= 2*len(r.recs)+1024 {
		return
	}
	recs := make(map[uint64]ringRecord, len(r.recs))
	maps.Copy(recs, r.recs)
	r.recs, r.grown = recs, len(recs)
}

// Flows reports to the spool whether the link works. While it does, the ring keeps its full size even if no record is taken, so that records that
// wait for a consumer leave in order when it arrives.
func (s *Spool) Flows(now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring.flows && !now {
		s.ring.ceased = time.Now()
	}
	s.ring.flows = now
}

// leads reports whether records of a class on disk leave before those in the ring, because there is no outage.
func (s *Spool) leads(l *lane, q *queue) bool {
	if q.pend[1] == 0 || q.old {
		return false
	}
	for _, g := range l.segs {
		if arrived, ok := g.waitingSince(q.class.index); ok {
			q.old = min(s.since(arrived), s.opts.clock.Booted()-s.opened) > outageAfter // the wait counts from the start at most
			break
		}
	}
	return !q.old
}

// waitingSince returns the tick at which the first backlog record of a class was committed.
func (g *segment) waitingSince(class uint16) (arrived uint32, ok bool) {
	for t := range g.tallies {
		if tl := &g.tallies[t]; tl.class == class && tl.pend[1] > 0 {
			if g.paged == nil {
				g.date(tl)
			}
			return tl.arrived, true
		}
	}
	return 0, false
}

// date sets a tally's tick of the first backlog record. There must be one.
func (g *segment) date(tl *tally) {
	i := int(tl.lo[1])
	for g.entries[i].class != tl.class || g.entries[i].state != backlog {
		i++
	}
	tl.arrived = g.entries[i].arrived
}

// evict moves records that exceed the ring to the backlog.
func (s *Spool) evict() {
	now := time.Now()
	most := s.ring.bound(now)
	for {
		seq, g, ok := s.ring.oldest(most)
		if !ok {
			break
		}
		i := g.find(seq)
		switch g.entries[i].state {
		case live:
			s.move(g, i, backlog)
		case leasedLive:
			s.move(g, i, leased)
		}
	}
	s.ring.trim(most)
}
