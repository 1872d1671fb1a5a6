package spool

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// A group commit begins at once when so many bytes or records wait. It takes about so many bytes; the next one takes the rest.
const (
	groupBytes   = 4 << 20
	groupRecords = 4096
)

// appending is one call of Append on its way.
type appending struct {
	recs  []Record
	done  func(error)
	bytes int64
	err   error
}

// committer runs until the spool closes and nothing waits.
func (s *Spool) committer() {
	defer s.comm.Done()
	c := &commit{Spool: s}
	for {
		group, ok := s.nextGroup()
		if !ok {
			return
		}
		c.run(group)
	}
}

func (s *Spool) nextGroup() (group []*appending, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) == 0 {
		if s.closing {
			return nil, false
		}
		s.work.Wait()
	}
	s.pace()
	n, recs, bytes := 0, 0, int64(0)
	for n < len(s.waiting) && (n == 0 || bytes < groupBytes) {
		bytes += s.waiting[n].bytes
		recs += len(s.waiting[n].recs)
		n++
	}
	s.records -= recs
	group = slices.Clone(s.waiting[:n])
	s.waiting = slices.Delete(s.waiting, 0, n) // which clears what it leaves, so that no payload is kept from the collector
	return group, true
}

// pace lets what comes shortly after a commit wait for company. The lock is held, but not while it waits.
func (s *Spool) pace() {
	apart := min(max(s.limits.commitEvery, 2*s.syncing), 4*s.limits.commitEvery)
	if wait := apart - time.Since(s.began); wait > 0 && !s.closing && !s.enough() {
		select {
		case <-s.urgent: // it was for a commit that has begun since
		default:
		}
		s.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.urgent:
		}
		timer.Stop()
		s.mu.Lock()
	}
	s.began = time.Now()
}

// enough reports whether the waiting records fill a commit, or keeps others from being appended. The lock is held.
func (s *Spool) enough() bool {
	return s.records >= groupRecords || len(s.waiting) >= groupRecords || s.pending >= min(groupBytes, s.limits.pending)
}

// hurry ends the committer's wait for company.
func (s *Spool) hurry() {
	select {
	case s.urgent <- struct{}{}:
	default:
	}
}

// commit is the committer's own state, kept from group to group to keep its buffers.
type commit struct {
	*Spool
	placed  []placed
	touched []*segment // written to and not yet synced
	sealing []*segment // full, to be sealed once their records are in the index
}

// writer collects what a group writes to one segment.
type writer struct {
	g   *segment
	buf []byte
	err error // no segment could be had; not tried again within the group
}

// placed is a record with its place.
type placed struct {
	a   *appending
	rec *Record
	g   *segment
	e   entry
}

func (c *commit) run(group []*appending) {
	c.placed, c.touched, c.sealing, c.placing = c.placed[:0], c.touched[:0], c.sealing[:0], 0
	for l := range c.writers {
		c.writers[l].err = nil
	}
	for _, a := range group {
		if a.err == nil {
			a.err = c.place(a)
		}
	}
	for l := range c.writers {
		c.write(&c.writers[l])
	}
	c.sync()
	c.publish(group)
	clear(c.placed)
	c.signal()
	for _, a := range group {
		a.done(a.err)
	}
}

// place encodes an Append's records into the buffers of their lanes.
func (c *commit) place(a *appending) error {
	if err := c.reserve(a); err != nil {
		return err
	}
	now := c.clock()
	for i := range a.recs {
		r := &a.recs[i]
		w := &c.writers[r.Lane]
		if err := c.fit(w, r); err != nil {
			return fmt.Errorf("storing record %d of class %q: %w", r.Seq, r.Class, err)
		}
		h := header{
			seq: r.Seq, time: r.Time, expires: r.Expires, score: r.Score, class: []byte(r.Class),
			clock: ticks(now), synced: uint32(w.g.safe), // a segment is below 4 GiB
		}
		off, from := w.g.tail, len(w.buf)
		w.buf = sealRecord(w.buf, &h, r.Payload, w.g.aead, w.g.sum)
		size := len(w.buf) - from
		w.g.tail += int64(size)
		c.placing += int64(size)
		if len(w.buf) >= groupBytes { // one Append may have more records than are to be copied at once
			c.write(w)
		}
		c.placed = append(c.placed, placed{a, r, w.g, entry{
			off: uint32(off), size: uint32(size), seq: uint32(r.Seq - w.g.base), // fit made sure
			due: due(r, now), came: ticks(now), score: r.Score,
		}})
	}
	return nil
}

// due is when a record expires by the spool's clock, which starts to count when the record comes in.
func due(r *Record, now time.Duration) uint32 {
	if r.Expires == 0 {
		return 0
	}
	return dueAfter(time.Duration(r.Expires-r.Time), now)
}

// reserve keeps the promise that no sequence is given twice, where a crash may forget records that were exported already:
// the state on disk is always ahead of the sequences given.
func (c *commit) reserve(a *appending) error {
	if c.limits.Sync == SyncAlways {
		return nil
	}
	c.mu.Lock()
	need := len(a.recs) > 0 && a.recs[len(a.recs)-1].Seq >= c.reserved
	if need {
		c.reserved = c.next + 1<<16
	}
	c.mu.Unlock()
	if !need {
		return nil
	}
	return c.checkpoint()
}

// fit makes sure that the lane's segment takes the record: it rolls to a new one when the segment is full or failed, its key is no longer
// the current one, or the sequence is too far from its base.
func (c *commit) fit(w *writer, r *Record) error {
	need := c.stored(r)
	if w.g != nil && w.g.err == nil && w.g.tail+need <= w.g.size && r.Seq-w.g.base <= math.MaxUint32 && c.keyIsCurrent(w.g) {
		return nil
	}
	if w.g != nil {
		c.write(w)
		c.sealing = append(c.sealing, w.g)
		w.g = nil
	}
	if w.err == nil {
		w.g, w.err = c.roll(r, need)
	}
	return w.err
}

// keyIsCurrent makes rotation take effect with the next record. Where there is no current key, nothing more is written with the old one:
// it is gone from the secret, and after a restart its records would be unreadable.
func (c *commit) keyIsCurrent(g *segment) bool {
	if !c.limits.Encrypt {
		return !g.encrypted()
	}
	id, _, err := c.opts.keys.Current()
	return err == nil && id == g.keyID
}

func (c *commit) write(w *writer) {
	if len(w.buf) == 0 {
		return
	}
	g := w.g
	if err := c.writeAt(g.h, w.buf, g.tail-int64(len(w.buf))); err != nil {
		g.err = fmt.Errorf("writing segment %s: %w", g.name(), err)
	}
	if !slices.Contains(c.touched, g) {
		c.touched = append(c.touched, g)
	}
	w.buf = w.buf[:0]
	if cap(w.buf) > 2*groupBytes {
		w.buf = nil
	}
}

// sync makes the group durable: one fdatasync for each segment it touched, at once where there are several.
func (c *commit) sync() {
	if c.limits.Sync != SyncAlways || len(c.touched) == 0 {
		return
	}
	one := func(g *segment) {
		if err := c.syncData(syncCommit, g.h); err != nil {
			g.err = errors.Join(g.err, fmt.Errorf("syncing segment %s: %w", g.name(), err))
		}
	}
	defer func(began time.Time) { c.syncing += (time.Since(began) - c.syncing) / 8 }(time.Now())
	var wg sync.WaitGroup
	for _, g := range c.touched[1:] {
		wg.Go(func() { one(g) })
	}
	one(c.touched[0])
	wg.Wait()
}

// publish enters what was stored into the index and seals the segments that are full or failed.
func (c *commit) publish(group []*appending) {
	for i := range c.placed {
		if p := &c.placed[i]; p.g.err != nil && p.a.err == nil {
			p.a.err = p.g.err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.placed {
		c.enter(&c.placed[i])
	}
	for _, g := range c.touched {
		c.finish(g)
	}
	for _, g := range c.sealing {
		c.seal(g)
	}
	for _, a := range group {
		c.settle(a)
	}
	c.commits.Add(1)
	c.evict()
	c.space.Broadcast()
}

// finish notes how far a segment is durable, and gives up one that failed: what lies behind its last good record is unknown.
func (c *commit) finish(g *segment) {
	if c.limits.Sync == SyncAlways {
		g.safe = g.end
	} else {
		g.unsynced = true
	}
	if g.err != nil {
		c.sealing = append(c.sealing, g)
		if w := &c.writers[g.lane]; w.g == g {
			w.g = nil
		}
	}
}

// enter adds one stored record to the index. A record whose Append failed over another one lies on the disk all the same; it was
// never appended, so it is gone from the start and in no count.
func (c *commit) enter(p *placed) {
	if p.g.err != nil {
		return
	}
	g, s := p.g, c.Spool
	cl := s.class(p.rec.Class)
	p.e.class = cl.index
	g.end = int64(p.e.off) + int64(p.e.size)
	g.entries = append(g.entries, p.e)
	i := len(g.entries) - 1
	s.counted = max(s.counted, p.rec.Seq)
	s.dirty = true
	if p.a.err != nil {
		g.goneDirty = true
		return
	}
	cl.appended++
	if p.e.due != 0 && (g.due == 0 || p.e.due < g.due) {
		g.due = p.e.due
	}
	if g.entries[i].parked = p.rec.Hold; p.rec.Hold {
		s.move(g, i, leasedLive)
	} else {
		s.move(g, i, live)
	}
	s.ring.add(g, p.rec, time.Now())
}

// settle frees what an Append reserved and, if it failed, says that its sequences were never used.
func (c *commit) settle(a *appending) {
	c.pending -= a.bytes
	if a.err == nil || a.bytes == 0 {
		return
	}
	c.failed.Add(uint64(len(a.recs)))
	for i := range a.recs {
		if seq := a.recs[i].Seq; c.fates.of(seq) == FateUnknown {
			c.fates.add(seq, seq, FateSkipped)
		}
	}
	c.dirty = true
}
