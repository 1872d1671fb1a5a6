package spool

import (
	"maps"
	"slices"
	"time"
)

// ringCost is what a record costs in memory besides its payload; it bounds the ring when records are small.
const ringCost = 160

// ring holds the bytes of the records committed last, until they are done or newer ones need the room.
type ring struct {
	max, bytes int64
	recs       map[uint64]ringRecord
	order      []uint64 // sequences as they came; some are gone already
	head       int
	held       int       // records that cannot be taken before their owner releases them
	taken      time.Time // when something was last taken from it, or nothing was there to be taken
	flows      bool      // the link works, whether or not somebody takes anything
	ceased     time.Time // when it last ceased to
	grown      int       // the most records that recs has held since it was made
}

// A ring without a taker, because the link is gone, keeps only a part of what it may hold: its records
// have to wait anyway, and an outage is to need no more memory than a working link. What it gives up is backlog, which fresh data
// passes, so it gives up most of it only after a while: a pause is no outage. Nor is a consumer that is slow or starts late.
const (
	pauseAfter = time.Second
	pausePart  = 4
	restAfter  = 5 * time.Second
	restPart   = 16
)

// outageAfter is the age at which a record that left the ring makes an outage: fresh records pass it. Until then the order is kept.
const outageAfter = 10 * time.Second

// bound is how much the ring may hold now.
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

// empty reports whether there are no records to take: held records say nothing about the link.
func (r *ring) empty() bool { return len(r.recs) == r.held }

type ringRecord struct {
	seg           *segment
	payload       []byte
	tag           uint64
	time, expires int64
	held          bool
	own           bool // the payload shares its memory with no other
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

// release lets a record be taken that was held.
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

// oldest takes the next record out that has to go, if the ring holds more than that.
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

// trim keeps the order from growing behind one record that stays long, at a constant cost a record. A payload may share its memory with those that
// were appended beside it: where most of these are gone, it gets memory of its own. A ring that rests, and so may hold less than the most, gives
// back what it took.
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

// shrink gives back what recs took when it held more: a map never does so by itself.
func (r *ring) shrink() {
	if r.grown <= 2*len(r.recs)+1024 {
		return
	}
	recs := make(map[uint64]ringRecord, len(r.recs))
	maps.Copy(recs, r.recs)
	r.recs, r.grown = recs, len(recs)
}

// Flows says whether the link works. While it does the ring holds all that it may, even without a taker: a record that waits for a
// consumer is to leave in order when that comes.
func (s *Spool) Flows(now bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring.flows && !now {
		s.ring.ceased = time.Now()
	}
	s.ring.flows = now
}

// leads reports whether a class has records on disk that leave before those in the ring, as there is no outage.
func (s *Spool) leads(l *lane, q *queue) bool {
	if q.pend[1] == 0 || q.old {
		return false
	}
	for _, g := range l.segs {
		if came, ok := g.waitingSince(q.class.index); ok {
			q.old = min(s.since(came), s.opts.clock.Booted()-s.opened) > outageAfter // a start waits anew
			break
		}
	}
	return !q.old
}

// waitingSince is the tick at which the first record of a class that waits to be read from disk came.
func (g *segment) waitingSince(class uint16) (came uint32, ok bool) {
	for t := range g.tallies {
		if tl := &g.tallies[t]; tl.class == class && tl.pend[1] > 0 {
			if g.paged == nil {
				g.date(tl)
			}
			return tl.came, true
		}
	}
	return 0, false
}

// date notes in a tally when the first record came that waits to be read from disk. There is one.
func (g *segment) date(tl *tally) {
	i := int(tl.lo[1])
	for g.entries[i].class != tl.class || g.entries[i].state != backlog {
		i++
	}
	tl.came = g.entries[i].came
}

// evict moves what the ring cannot hold to the backlog.
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
