package spool

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Take leases the oldest records of a class in a lane, in the order of their sequences, and appends them to dst: at most maxRecords and maxBytes as
// stored, but at least one if any is pending. class "" means any class of the lane; then records come only from memory or only from disk, as from
// says. A lease lasts until Done, Drop, Release or Close. Payloads are shared with the spool and the caller of Append and must not be changed.
func (s *Spool) Take(lane int, class string, from Source, maxRecords, maxBytes int, dst []Record) []Record {
	return s.takePooled(request{lane: lane, class: class, source: int(from) - 1, records: maxRecords, bytes: maxBytes}, dst)
}

// TakeNewest is Take from the backlog, newest record first.
func (s *Spool) TakeNewest(lane int, class string, maxRecords, maxBytes int, dst []Record) []Record {
	return s.takePooled(request{lane: lane, class: class, source: 1, newest: true, records: maxRecords, bytes: maxBytes}, dst)
}

// request is one call of Take.
type request struct {
	lane, source   int
	kind           int // of the records picked
	class          string
	newest         bool
	records, bytes int
	picks          []pick
	back           []uint64 // leased, to be released again: the disk does not respond
	expired        []place
	now            uint32
}

type place struct {
	g *segment
	i int
}

// pick is a leased record, with the location of its bytes.
type pick struct {
	g   *segment
	h   *handle
	e   entry
	rec Record // if live
}

// mostPooled is the largest request, in records, whose memory is reused.
const mostPooled = 4096

// requests keeps the memory of finished calls for later ones.
var requests = sync.Pool{New: func() any { return new(request) }}

func (s *Spool) takePooled(q request, dst []Record) []Record {
	own := requests.Get().(*request)
	q.picks, q.back, q.expired = own.picks[:0], own.back[:0], own.expired[:0]
	*own = q
	dst = s.take(own, dst)
	clear(own.picks) // so that payloads can be collected
	if cap(own.picks) <= mostPooled {
		requests.Put(own)
	}
	return dst
}

func (s *Spool) take(q *request, dst []Record) []Record {
	if q.lane < 0 || q.lane >= Lanes || q.source < 0 || q.source > 1 {
		return dst
	}
	q.now = s.tick()
	for {
		clear(q.picks)
		q.picks = q.picks[:0]
		s.mu.Lock()
		leases := s.leases
		s.pick(q)
		if q.source == 0 && len(q.picks) > 0 {
			s.ring.taken = time.Now()
		}
		s.mu.Unlock()
		if len(q.picks) == 0 {
			return dst
		}
		n := len(dst)
		if q.kind == 0 {
			dst = livePicks(q.picks, dst)
		} else {
			dst = s.read(q, dst)
		}
		s.mu.Lock()
		ended := s.leases != leases
		s.mu.Unlock()
		if ended { // the records read meanwhile are pending again
			dst = dst[:n]
			continue
		}
		if len(dst) > n || len(q.back) > 0 {
			return dst
		}
	}
}

// pick leases records until the request is full.
func (s *Spool) pick(q *request) {
	l := &s.lanes[q.lane]
	var cl *class // any
	if q.class != "" {
		cl = s.byName[q.class]
	}
	if q.kind = q.source; q.kind == 0 && cl != nil && s.leads(l, l.queue(cl)) {
		q.kind = 1
	}
	if q.class != "" && (cl == nil || l.queue(cl).pend[q.kind] == 0) {
		return
	}
	for n := range l.segs {
		g := l.segs[n]
		if q.newest {
			g = l.segs[len(l.segs)-1-n]
		}
		if s.pickFrom(g, q, cl) {
			break
		}
	}
	for _, x := range q.expired {
		s.end(x.g, x.i, ReasonExpired) // only now, since it may remove the segment from the lane
	}
	clear(q.expired)
	q.expired = q.expired[:0]
}

// pickFrom leases records of one segment, and reports whether the request is full.
func (s *Spool) pickFrom(g *segment, q *request, cl *class) (full bool) {
	lo, hi := g.bounds(cl, q.kind)
	if lo > hi || !s.fetch(g) {
		return false
	}
	hi = min(hi, len(g.entries)-1)
	for lo <= hi {
		i := lo
		if q.newest {
			i = hi
			hi--
		} else {
			lo++
		}
		e := &g.entries[i]
		if e.state.kind() != q.kind || (cl != nil && e.class != cl.index) {
			continue
		}
		if e.due != 0 && e.due <= q.now {
			q.expired = append(q.expired, place{g, i})
			continue
		}
		if len(q.picks) >= q.records || (len(q.picks) > 0 && int(e.size) > q.bytes) {
			g.narrow(cl, q, i)
			return true
		}
		q.bytes -= int(e.size)
		s.lease(g, i, q)
	}
	g.narrow(cl, q, lo)
	return false
}

// bounds returns the span that contains the pending records of a class, or of any class if nil.
func (g *segment) bounds(cl *class, kind int) (lo, hi int) {
	lo, hi = g.records(), -1
	for t := range g.tallies {
		tl := &g.tallies[t]
		if tl.pend[kind] > 0 && (cl == nil || tl.class == cl.index) {
			lo, hi = min(lo, int(tl.lo[kind])), max(hi, int(tl.hi[kind]))
		}
	}
	return lo, min(hi, g.records()-1)
}

// narrow records that no record of the class is pending before position i (for newest: after it).
func (g *segment) narrow(cl *class, q *request, i int) {
	for t := range g.tallies {
		tl := &g.tallies[t]
		if cl != nil && tl.class != cl.index {
			continue
		}
		if q.newest {
			tl.hi[q.kind] = min(tl.hi[q.kind], int32(i)) // a segment has fewer records
		} else {
			tl.lo[q.kind] = max(tl.lo[q.kind], int32(i)) // a segment has fewer records
		}
	}
}

func (s *Spool) lease(g *segment, i int, q *request) {
	e := &g.entries[i]
	p := pick{g: g, e: *e}
	if e.state == live {
		c, r := s.classes[e.class], s.ring.recs[g.seq(i)]
		p.rec = Record{Seq: g.seq(i), Lane: g.lane, Class: c.name, Score: e.score, Payload: r.payload, Tag: r.tag, Time: r.time, Expires: r.expires}
		s.move(g, i, leasedLive)
	} else {
		p.h = g.h
		g.h.users++
		s.move(g, i, leased)
	}
	q.picks = append(q.picks, p)
}

func livePicks(picks []pick, dst []Record) []Record {
	dst = slices.Grow(dst, len(picks))
	for i := range picks {
		dst = append(dst, picks[i].rec)
	}
	return dst
}

// read reads the picked records from disk, adjacent ones with one read.
func (s *Spool) read(q *request, dst []Record) []Record {
	q.back = q.back[:0]
	for picks := q.picks; len(picks) > 0; {
		n, lo, hi := run(picks)
		buf := make([]byte, hi-lo)
		_, err := picks[0].h.ReadAt(buf, lo)
		if errors.Is(err, io.EOF) {
			err = nil // a short file shows up as damage
		}
		for i := range picks[:n] {
			p := &picks[i]
			if at := int64(p.e.off) - lo; err == nil {
				dst = s.decode(p, buf[at:at+int64(p.e.size)], dst)
			} else {
				dst = s.readAlone(q, p, dst)
			}
			if e := s.unref(p.h); e != nil {
				s.report(fmt.Errorf("closing segment %s: %w", p.g.name(), e))
			}
		}
		picks = picks[n:]
	}
	if len(q.back) > 0 {
		s.unlease(q.back)
	}
	return dst
}

// readAlone reads one record of a run that could not be read as a whole, so that a bad sector costs only one record. If not even the segment's header
// can be read, the disk is unavailable, and the record stays.
func (s *Spool) readAlone(q *request, p *pick, dst []Record) []Record {
	buf := make([]byte, p.e.size)
	_, err := p.h.ReadAt(buf, int64(p.e.off))
	if err == nil || errors.Is(err, io.EOF) {
		return s.decode(p, buf, dst)
	}
	if _, away := p.h.ReadAt(make([]byte, copySize), 0); away != nil {
		q.back = append(q.back, p.g.base+uint64(p.e.seq))
		s.report(fmt.Errorf("reading segment %s: %w", p.g.name(), err))
		return dst
	}
	s.lose(p, nil, fmt.Sprintf("unreadable: %v", err))
	return dst
}

// lose ends a taken record that turned out to be damaged.
func (s *Spool) lose(p *pick, b []byte, reason string) {
	seq := p.g.base + uint64(p.e.seq)
	s.mu.Lock()
	g, i := s.locate(seq)
	if g == nil {
		s.mu.Unlock()
		return // it ended meanwhile
	}
	d := Damage{
		File: g.name(), Offset: int64(p.e.off), Length: int64(p.e.size), Seq: seq, Lane: g.lane,
		Class: s.classes[p.e.class].name, Reason: reason,
	}
	s.end(g, i, ReasonQuarantined)
	s.mu.Unlock()
	s.setAside(d, b)
}

// run returns the number of leading picks that are adjacent in one file, ascending or descending, and their extent.
func run(picks []pick) (n int, lo, hi int64) {
	lo = int64(picks[0].e.off)
	hi = lo + int64(picks[0].e.size)
	for n = 1; n < len(picks) && picks[n].h == picks[0].h && hi-lo < groupBytes; n++ {
		from := int64(picks[n].e.off)
		to := from + int64(picks[n].e.size)
		switch {
		case from == hi:
			hi = to
		case to == lo:
			lo = from
		default:
			return n, lo, hi
		}
	}
	return n, lo, hi
}

// decode checks and decrypts one record. A damaged record is quarantined and not returned.
func (s *Spool) decode(p *pick, b []byte, dst []Record) []Record {
	r, err := decodeRecord(b, p.g.sum, p.g.base+uint64(p.e.seq), p.g.aead)
	if err != nil {
		s.lose(p, b, err.Error())
		return dst
	}
	r.Lane = p.g.lane
	return append(dst, r)
}

// Done ends records that are safe elsewhere, whether they are leased or not. It ignores sequences that are not held.
func (s *Spool) Done(seqs []uint64) { s.finishAll(seqs, "") }

// Drop ends records as dropped, for a reason that Stats counts and Fate returns.
func (s *Spool) Drop(seqs []uint64, reason string) {
	if reason == "" {
		reason = "unspecified"
	}
	s.finishAll(seqs, reason)
}

func (s *Spool) finishAll(seqs []uint64, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range seqs {
		if g, i := s.locate(seq); g != nil {
			s.end(g, i, why)
		}
	}
}

// Release ends leases. The records can be taken again, in order, from the ring if it still has them, else from disk. It ignores sequences that are
// not leased.
func (s *Spool) Release(seqs []uint64) {
	s.unlease(seqs)
	s.signal()
}

func (s *Spool) unlease(seqs []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, seq := range seqs {
		g, i := s.locate(seq)
		if g == nil {
			continue
		}
		if e := &g.entries[i]; e.parked {
			e.parked, e.arrived = false, s.tick() // its wait begins now
		}
		switch g.entries[i].state {
		case leasedLive:
			s.move(g, i, live)
			s.ring.release(seq, now)
		case leased:
			s.move(g, i, backlog)
		}
	}
}
