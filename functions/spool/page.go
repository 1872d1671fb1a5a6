package spool

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Paging bounds the memory of a backlog. Once all remaining records of a sealed segment can only be read from disk, its entries are dropped from
// memory and read from its index file when needed; only a summary stays. The index has all entries; goneSeqs records which are gone, as in the state.
// If the index is missing or damaged, the segment itself is read.

// summary is the part of a paged-out segment that stays in memory.
type summary struct {
	records int     // entries in the index
	floor   uint64  // the oldest sequence held
	last    uint64  // the highest sequence
	arrived uint32  // tick at which the oldest was committed
	low     float32 // the lowest score
}

// records returns the number of entries, including those gone.
func (g *segment) records() int {
	if g.paged != nil {
		return g.paged.records
	}
	return len(g.entries)
}

// idle reports whether the segment may be paged out: it is complete, its index is on disk, and none of its records is in the ring or leased.
func (g *segment) idle() bool {
	if g.paged != nil || !g.sealed || !g.indexed || g.locked || g.held == 0 {
		return false
	}
	n := 0
	for t := range g.tallies {
		n += int(g.tallies[t].pend[1])
	}
	return n == g.held
}

func (g *segment) pageOut() {
	first := g.firstHeld()
	g.goneRanges()
	g.paged = &summary{
		records: len(g.entries), floor: g.seq(first), last: g.seq(len(g.entries) - 1), arrived: g.entries[first].arrived,
		low: g.entries[g.lowest()].score,
	}
	for t := range g.tallies {
		if g.tallies[t].pend[1] > 0 {
			g.date(&g.tallies[t])
		}
	}
	g.entries = nil
}

// pageIdle pages out segments unused since the last call. It takes the house, since a rewrite relies on the entries.
func (s *Spool) pageIdle() {
	s.house.Lock()
	defer s.house.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			if !g.used && g.idle() {
				g.pageOut()
			}
			g.used = false
		}
	}
}

// fetch loads a segment's entries into memory. It fails only if neither the index nor the segment can be read; the caller then skips the segment and
// retries it later.
func (s *Spool) fetch(g *segment) bool {
	g.used = true
	if g.paged == nil {
		return true
	}
	f := &found{segmentHeader: g.segmentHeader, size: g.size}
	l := &loader{fs: s.fs, dir: s.dir}
	if x := l.index(f, g.end); x != nil && len(x.entries) == g.paged.records {
		s.readable()
		g.paged = nil
		if s.pageIn(g, x.entries, x.classes) == g.held {
			return true
		}
		s.recount(g)
		return true
	}
	b, _, err := readAround(g.h, g.end)
	if err != nil {
		s.unread = fmt.Errorf("reading segment %s without a usable index: %w", g.name(), err)
		s.nudge()
		return false
	}
	s.readable()
	scan(f, b, nil, true)
	g.paged = nil
	s.pageIn(g, f.entries, f.names)
	s.recount(g)
	s.discover(g, f.damage)
	s.toIndex = append(s.toIndex, g)
	g.indexed = false
	s.nudge()
	return true
}

// readable clears the problem of an unreadable disk. The keeper reports its end when it wakes without a new problem.
func (s *Spool) readable() {
	if s.unread != nil {
		s.unread = nil
		s.nudge()
	}
}

// pageIn installs entries and returns the number of held ones.
func (s *Spool) pageIn(g *segment, entries []entry, names []string) (held int) {
	classes := make([]*class, len(names))
	g.entries = entries
	since := make([]uint32, len(names)) // the index does not contain releases after it was written
	walk := newGoneWalk(g.base, g.goneSeqs)
	for i := range entries {
		e := &entries[i]
		k := e.class
		e.class = 0
		if walk.gone(g.seq(i)) {
			continue
		}
		if classes[k] == nil { // only now: a class without remaining records may have been forgotten
			classes[k] = s.class(names[k])
			since[k] = g.tally(classes[k].index).arrived
		}
		e.class, e.state, e.arrived = classes[k].index, backlog, max(e.arrived, since[k])
		held++
	}
	return held
}

// recount recounts a segment whose entries were not read from its own index. Records that are now missing were damaged meanwhile.
func (s *Spool) recount(g *segment) {
	want := make(map[uint16]int, len(g.tallies))
	for t := range g.tallies {
		tl := &g.tallies[t]
		want[tl.class] = int(tl.pend[1])
		s.uncount(g, tl)
	}
	g.first, g.lowOK, g.goneDirty = 0, false, true
	for i := range g.entries {
		if g.entries[i].state == backlog {
			want[g.entries[i].class]--
			s.count(g, i, 1)
		}
	}
	g.retally()
	for class, missing := range want {
		c := s.classes[class]
		for ; missing > 0; missing-- {
			s.drop(c, ReasonQuarantined)
		}
		c.appended += uint64(-missing) // not positive: records counted as lost that are present after all
	}
	s.dirty = true
	if g.held == 0 {
		s.hollow = append(s.hollow, g)
	}
}

// uncount removes a tally of backlog records from every count.
func (s *Spool) uncount(g *segment, tl *tally) {
	c, n, bytes := s.classes[tl.class], int(tl.pend[1]), tl.bytes[1]
	q := s.lanes[g.lane].queue(c)
	g.held -= n
	s.held -= uint64(n) // not negative
	c.held -= uint64(n) // not negative
	s.ready[1] -= n
	q.pend[1] -= n
	tl.pend[1] = 0
	g.heldBytes -= bytes
	s.bytes -= bytes
	c.heldBytes -= bytes
	q.bytes[1] -= bytes
	tl.bytes[1] = 0
}

// discover passes damage found under the lock to the keeper, which writes it to the quarantine.
func (s *Spool) discover(g *segment, damages []damage) {
	for i := range damages {
		d := &damages[i]
		at := hole{uint32(d.Offset), uint32(d.Length)} // a segment is below 4 GiB
		if slices.Contains(g.holes, at) || (d.Seq > 0 && newGoneWalk(g.base, g.goneSeqs).gone(d.Seq)) {
			continue
		}
		g.holes = append(g.holes, at)
		if d.Seq > 0 {
			s.fates.add(d.Seq, d.Seq, ReasonQuarantined)
		}
		s.found = append(s.found, *d)
	}
}

// afterFetch does the work that fetch cannot do under the lock: it reports damage, and retires segments without records.
func (s *Spool) afterFetch() error {
	s.mu.Lock()
	found, unread := s.found, s.unread
	s.found = nil
	for _, g := range s.hollow {
		s.retire(g)
	}
	s.hollow = nil
	s.mu.Unlock()
	for i := range found {
		s.setAside(found[i].Damage, found[i].bytes)
	}
	return unread
}

// unread is a range of a file that could not be read.
type unread struct{ from, to int64 }

// readAround reads the first n bytes of a file, or fewer if it ends. Unreadable parts stay zero. It fails only if no part can be read.
func readAround(f File, n int64) (b []byte, bad []unread, err error) {
	if b, err = readUpTo(f, n); err == nil {
		return b, nil, nil
	}
	const piece = 4096
	b = make([]byte, n)
	good := false
	for at := int64(0); at < n; at += piece {
		end := min(at+piece, n)
		_, one := f.ReadAt(b[at:end], at)
		switch last := len(bad) - 1; {
		case one == nil || errors.Is(one, io.EOF):
			good = true
		case last >= 0 && bad[last].to == at:
			bad[last].to = end
		default:
			bad = append(bad, unread{at, end})
		}
	}
	if !good {
		return nil, nil, err
	}
	return b, bad, nil
}
