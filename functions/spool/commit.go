package spool

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// A group commit begins immediately when this many bytes or records are waiting. It takes about groupBytes; the next one takes the remaining records.
const (
	groupBytes   = 4 << 20
	groupRecords = 4096
)

// appending is one pending call of Append.
type appending struct {
	recs  []Record
	done  func(error)
	bytes int64
	err   error
}

// committer runs until the spool closes and no call waits.
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
	s.waiting = slices.Delete(s.waiting, 0, n) // Delete clears the vacated elements, so that no payload is kept from the collector
	return group, true
}

// pace delays a commit that follows shortly after another, so that it serves more records. The caller holds the lock; pace releases it while it
// waits.
func (s *Spool) pace() {
	apart := min(max(s.limits.commitEvery, 2*s.syncing), 4*s.limits.commitEvery)
	if wait := apart - time.Since(s.began); wait > 0 && !s.closing && !s.enough() {
		select {
		case <-s.urgent: // left from a commit that has begun since
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

// enough reports whether the waiting records fill a commit, or block further calls of Append. The caller holds the lock.
func (s *Spool) enough() bool {
	return s.records >= groupRecords || len(s.waiting) >= groupRecords || s.pending >= min(groupBytes, s.limits.pending)
}

// hurry ends the committer's delay.
func (s *Spool) hurry() {
	select {
	case s.urgent <- struct{}{}:
	default:
	}
}

// commit is the committer's own state. It is reused from group to group for its buffers.
type commit struct {
	*Spool
	placed  []placed
	touched []*segment // written to but not yet synced
	sealing []*segment // full; sealed after their records are in the index
}

// writer collects the bytes that a group writes to one segment.
type writer struct {
	g   *segment
	buf []byte
	err error // no segment could be opened; not retried within the group
}

// placed is a record with its position.
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
	out := c.inPlace()
	for _, a := range group {
		if a.err = cmp.Or(a.err, out); a.err == nil {
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

// place encodes the records of an Append into the buffers of their lanes.
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
		if len(w.buf) >= groupBytes { // bounds the buffer: one Append may have many records
			c.write(w)
		}
		c.placed = append(c.placed, placed{a, r, w.g, entry{
			off: uint32(off), size: uint32(size), seq: uint32(r.Seq - w.g.base), // checked by fit
			due: due(r, now), arrived: ticks(now), score: r.Score,
		}})
	}
	return nil
}

// due returns the tick at which a record expires. Its time to live counts from Append on.
func due(r *Record, now time.Duration) uint32 {
	if r.Expires == 0 {
		return 0
	}
	return dueAfter(time.Duration(r.Expires-r.Time), now)
}

// reserve keeps sequences unique where a crash may lose records that were already exported: the state on disk is always ahead of the assigned
// sequences.
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

// fit ensures that the lane's segment takes the record. It rolls to a new segment if the current one is full or failed, its key is no longer current,
// or the sequence is too far from its base.
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

// keyIsCurrent makes a key rotation effective with the next record. Without a current key it is false: the old key is gone from the secret, so
// records written with it would be unreadable after a restart.
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

// sync makes the group durable, unless configured otherwise: one fdatasync for each segment written to, in parallel. It checks that each is still in
// its place.
func (c *commit) sync() {
	if len(c.touched) == 0 {
		return
	}
	one := func(g *segment) {
		var err error
		if c.limits.Sync == SyncAlways {
			err = c.syncData(syncCommit, g.h)
		}
		if err == nil {
			err = g.h.At(c.path(g.name()))
		}
		if err != nil {
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

// publish adds the stored records to the index and seals the segments that are full or failed.
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

// finish records how far a segment is durable, and abandons a failed segment: the bytes behind its last good record are unknown.
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

// enter adds one stored record to the index. If its Append failed because of another record, its bytes are on disk nevertheless; it was never
// appended, so it counts as gone from the start.
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

// settle frees the bytes that an Append reserved. If the Append failed, it marks its sequences as skipped.
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
