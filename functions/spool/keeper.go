package spool

import (
	"errors"
	"fmt"
	"time"

	"app-offload/functions/clock"
)

// sweepEvery is the interval at which the keeper removes expired records, requests missing keys, and relaxes a lowered limit.
const sweepEvery = time.Second

// keeper does the background work: states, index files, expiry, syncs under "interval", disposal of empty segments.
func (s *Spool) keeper(fresh bool) {
	defer s.group.Done()
	if fresh {
		s.report(s.prefill())
	}
	ack := clock.NewTicker(s.limits.ackEvery)
	defer ack.Stop()
	sweep := clock.NewTicker(sweepEvery)
	defer sweep.Stop()
	sync := time.NewTicker(s.limits.syncEvery)
	defer sync.Stop()
	if s.limits.Sync != SyncInterval {
		sync.Stop()
	}
	var kicked, saved, synced, swept error // a problem ends when the same work succeeds, not when other work does
	for {
		select {
		case <-s.stop:
			return
		case <-s.kick:
			kicked = errors.Join(s.afterFetch(), s.writeIndexes(), s.remember(), s.buryDue())
		case <-ack.C:
			saved = errors.Join(s.remember(), s.Checkpoint())
		case <-sync.C:
			synced = s.syncWritten()
		case <-sweep.C:
			swept = s.sweep()
		}
		s.report(errors.Join(kicked, saved, synced, swept))
	}
}

// Checkpoint makes durable which records are done and dropped so far. The spool calls it every AckInterval.
func (s *Spool) Checkpoint() error {
	if err := s.inPlace(); err != nil { // reported even if there is no record to store
		return err
	}
	s.mu.Lock()
	idle := !s.dirty && len(s.dying) == 0
	s.mu.Unlock()
	if idle {
		return nil
	}
	return s.checkpoint()
}

func (s *Spool) checkpoint() error {
	s.house.Lock()
	defer s.house.Unlock()
	if err := s.writeState(); err != nil {
		return err
	}
	return s.bury()
}

// buryDue disposes of dying segments early, so that a fast flow finds spares to overwrite.
func (s *Spool) buryDue() error {
	s.mu.Lock()
	due := s.buryNow()
	s.mu.Unlock()
	if !due {
		return nil
	}
	return errors.Join(s.checkpoint(), s.checkpoint())
}

// writeState writes the state to the older of the two slots, in place: this needs no space on a full disk, and a torn write leaves the other slot
// intact. The caller holds the house.
func (s *Spool) writeState() error { return s.writeStateOf(s.epoch) }

// writeStateOf is writeState with a given epoch. The epoch changes only while the house is held.
func (s *Spool) writeStateOf(epoch string) error {
	if err := s.inPlace(); err != nil {
		return err
	}
	_ = s.unburden() // the keeper tries it too, and reports the error
	s.mu.Lock()
	st := s.snapshot()
	st.epoch = epoch
	wasDirty := s.dirty
	s.dirty = false
	s.encoded = st.gen
	b := st.encode()
	s.mu.Unlock()
	f := s.slots[st.gen&1]
	err := s.writeAt(f, b, 0)
	if err == nil {
		err = s.syncData(syncState, f)
	}
	if err == nil {
		err = f.At(s.path(slotNames[st.gen&1]))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.dirty = s.dirty || wasDirty
		return fmt.Errorf("writing state %s: %w", slotNames[st.gen&1], err)
	}
	s.durable = st.gen
	return nil
}

// snapshot returns the current state. Its generation follows the durable one, so that a failed write is repeated on the same slot and never
// overwrites the good one.
func (s *Spool) snapshot() *savedState {
	st := &savedState{
		gen: s.durable + 1, epoch: s.epoch, origin: s.origin, next: s.next, reserved: s.reserved, counted: s.counted,
		clock: int64(s.clock()), at: s.opts.clock.Moment(), clean: s.clean, nextID: s.nextID, fates: s.fates,
	}
	for _, c := range s.classes {
		st.classes = append(st.classes, *c)
	}
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			sg := savedSegment{lane: l, id: g.id, base: g.base, records: g.records(), gone: g.goneRanges(), holes: g.holes}
			if g.sealed {
				sg.end = g.end
			}
			st.segments = append(st.segments, sg)
		}
	}
	return st
}

// writeIndexes writes the index files of recently sealed segments.
func (s *Spool) writeIndexes() error {
	s.mu.Lock()
	todo := s.toIndex
	s.toIndex = nil
	s.mu.Unlock()
	var errs []error
	for _, g := range todo {
		if err := s.writeIndex(g); !isNoSpace(err) { // without an index the next start reads the segment itself
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// writeIndex replaces the index through a temporary file. It does not sync: the checksum reveals damage by a power cut.
func (s *Spool) writeIndex(g *segment) error {
	s.house.Lock() // keeps the segment from being rewritten or removed
	defer s.house.Unlock()
	s.mu.Lock()
	if g.held == 0 {
		s.mu.Unlock()
		return nil
	}
	names := make([]string, len(s.classes))
	for i, c := range s.classes {
		names[i] = c.name
	}
	b := encodeIndex(g, names)
	s.disk += int64(len(b)) - g.indexSize
	g.indexSize = int64(len(b))
	s.mu.Unlock()
	name := s.path(indexName(g.lane, g.id))
	if err := s.writeFile(name+".tmp", b); err != nil {
		return fmt.Errorf("writing index of segment %s: %w", g.name(), err)
	}
	if err := s.fs.Rename(name+".tmp", name); err != nil {
		return fmt.Errorf("writing index of segment %s: %w", g.name(), err)
	}
	s.mu.Lock()
	g.indexed = true
	s.mu.Unlock()
	return nil
}

// syncWritten syncs the written segments under "interval".
func (s *Spool) syncWritten() error {
	s.mu.Lock()
	var files []*handle
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			if g.unsynced {
				g.unsynced = false
				g.h.users++
				files = append(files, g.h)
			}
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, h := range files {
		errs = append(errs, s.syncData(syncCommit, h), s.unref(h))
	}
	return errors.Join(errs...)
}

// sweep drops expired records, requests missing keys, and relaxes a lowered limit.
func (s *Spool) sweep() error {
	now := s.tick()
	s.mu.Lock()
	s.sweeps++
	s.history.rest()
	if s.sweeps%10 == 0 {
		s.relax()
	}
	var all []*segment
	for l := range s.lanes {
		all = append(all, s.lanes[l].segs...)
	}
	s.mu.Unlock()
	var errs []error
	for _, g := range all { // one segment at a time, so that callers do not wait long while a whole backlog expires
		s.mu.Lock()
		s.expire(g, now)
		waiting := g.locked && g.held > 0
		s.mu.Unlock()
		errs = append(errs, s.remember())
		if waiting {
			errs = append(errs, s.unlock(g))
		}
	}
	s.pageIdle()
	s.reportRest(time.Now())
	return errors.Join(errs...)
}

// reportRest reports the number of damages that had no report of their own.
func (s *Spool) reportRest(now time.Time) {
	s.mu.Lock()
	n := s.unreported
	if now.Sub(s.reportSince) < reportEvery {
		n = 0
	}
	s.unreported -= n
	s.mu.Unlock()
	if n > 0 && s.opts.problem != nil {
		s.opts.problem(fmt.Errorf("%d more damaged places found in the spool; see `offloadctl spool verify` and the quarantined bytes in %s", n, s.path(quarantineDir)))
	}
}

// expire drops the expired records of a segment, except leased ones.
func (s *Spool) expire(g *segment, now uint32) {
	if g.due == 0 || g.due > now || !s.fetch(g) {
		return
	}
	next := uint32(0)
	for i := 0; i < len(g.entries); i++ {
		e := &g.entries[i]
		if e.state == gone || e.due == 0 {
			continue
		}
		if e.due <= now && e.state != leased && e.state != leasedLive {
			s.end(g, i, ReasonExpired)
			continue
		}
		if next == 0 || e.due < next {
			next = e.due
		}
	}
	g.due = next
}

// unlock makes a segment's records available once its key is available.
func (s *Spool) unlock(g *segment) error {
	aead, err := findKey(s.opts.keys, &g.segmentHeader)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.aead, g.locked = aead, false
	for i := range g.entries {
		if g.entries[i].state == locked {
			s.move(g, i, backlog)
		}
	}
	s.signal()
	return nil
}

// shut completes Close: it seals, indexes and saves everything.
func (s *Spool) shut() error {
	var errs []error
	if s.limits.Sync == SyncInterval || s.limits.Sync == SyncNone {
		errs = append(errs, s.syncWritten())
	}
	s.trimIdle()
	s.mu.Lock()
	s.clean = true
	s.mu.Unlock()
	errs = append(errs, s.afterFetch(), s.writeIndexes(), s.checkpoint(), s.checkpoint())
	s.mu.Lock()
	errs = append(errs, s.closeFiles())
	s.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing spool in %s: %w", s.dir, err)
	}
	return nil
}
