package spool

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// spares returns the number of empty segments kept for overwriting: blocks that were written before sync nearly twice as fast as fresh ones, since
// the file system has no metadata to update. It always leaves enough of the quota for a record of unusual size.
func (l *limits) spares() int { return max(4, int(cmp.Or(l.spare, l.quota/4)/l.segment)) }

// spare is a file of a segment's size that can become a segment.
type spare struct {
	name string
	h    *handle
}

// roll opens a new segment for the record's lane. When it returns, the segment's name is durable; the header becomes durable with the first commit.
func (s *Spool) roll(r *Record, need int64) (*segment, error) {
	g, err := s.newSegment(r)
	if err != nil {
		return nil, err
	}
	g.size = max(s.limits.segment, need+dataStart)
	if err := s.openSegment(g, r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[g.lane]
	if n := len(l.segs); n > 0 && l.segs[n-1].size == g.size {
		g.entries = make([]entry, 0, len(l.segs[n-1].entries)) // the previous segment is full, so this one will have about as many
	}
	l.segs = append(l.segs, g)
	s.nextID = g.id + 1
	s.dirty = true
	return g, nil
}

func (s *Spool) newSegment(r *Record) (*segment, error) {
	s.mu.Lock()
	epoch, id := s.epoch, s.nextID // advanced only when the segment is in its lane: a state with the number but without the segment would delete it
	s.mu.Unlock()
	g := &segment{
		segmentHeader: segmentHeader{lane: r.Lane, id: id, base: r.Seq, created: time.Now().UnixNano(), epoch: epoch, origin: s.origin},
		end:           dataStart, tail: dataStart, safe: dataStart,
	}
	rand.Read(g.salt[:]) // never fails: it ends the process instead of returning weak bytes
	g.sum = g.seed()
	if !s.limits.Encrypt {
		return g, nil
	}
	keyID, key, err := s.opts.keys.Current()
	if err != nil {
		return nil, fmt.Errorf("getting the current key: %w", err)
	}
	if len(keyID) > maxKeyID {
		return nil, fmt.Errorf("encrypting with key %.40q…: an id has at most %d bytes", keyID, maxKeyID)
	}
	g.keyID, g.flags = keyID, flagEncrypted
	aead, check, err := segmentCipher(key, g.salt[:], g.epoch)
	if err != nil {
		return nil, fmt.Errorf("encrypting with key %q: %w", keyID, err)
	}
	copy(g.check[:], check)
	g.aead = aead
	return g, nil
}

// openSegment finds a file for the segment. On a full disk it retries after freeing all it can, and once more after the record's strategy dropped a
// segment's worth of records.
func (s *Spool) openSegment(g *segment, r *Record) error {
	s.house.Lock()
	defer s.house.Unlock()
	if !s.hasSpare(g.size) && !s.fits(g.size) && !s.relieve(g.size) {
		s.noSegment()
		return fmt.Errorf("%w: the quota of %d bytes leaves no room for a segment", ErrFull, s.limits.quota)
	}
	err := s.takeFile(g)
	for try := 0; try < 2 && isNoSpace(err); try++ {
		if try > 0 && !s.noSpace(r) {
			break
		}
		s.relieve(g.size)
		err = s.takeFile(g)
	}
	if isNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// noSegment handles a quota without room for a segment although the limit is not reached, for example because records nearly as large as segments
// waste their ends: it lowers the limit to the bytes held or being stored.
func (s *Spool) noSegment() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.squeeze = max(s.bytes+s.placing, 1)
}

// noSpace handles a disk that other files fill before the quota is reached: it lowers the limit below the bytes held or being stored, so that the
// strategies for a full spool apply. It reports whether the record's own strategy made room.
func (s *Spool) noSpace(r *Record) bool {
	s.diskFull.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.squeeze = max(s.bytes+s.placing-s.limits.segment, 1)
	v := eviction{Spool: s}
	ok := v.room(r, 0)
	v.end(ok)
	return ok
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (s *Spool) hasSpare(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spares) > 0 && size == s.limits.segment
}

func (s *Spool) fits(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disk+size <= s.limits.quota
}

// takeFile gives the segment a spare or a new file, with its header written and its name durable.
func (s *Spool) takeFile(g *segment) error {
	if s.hasSpare(g.size) {
		return s.reuse(g)
	}
	name := s.path(g.name())
	f, err := s.fs.Create(name)
	if err != nil {
		return fmt.Errorf("creating segment %s: %w", g.name(), err)
	}
	g.h = &handle{File: f, users: 1}
	err = f.Preallocate(g.size)
	if err == nil {
		err = s.writeAt(f, g.encode(), 0)
	}
	if err == nil {
		err = s.syncDir(syncRoll, s.dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("creating segment %s: %w", g.name(), err), f.Close(), s.fs.Remove(name))
	}
	s.mu.Lock()
	s.disk += g.size
	s.relax()
	s.mu.Unlock()
	return nil
}

// reuse writes the segment's header to a spare and renames it. At whatever point a crash happens, a file whose header names another segment than its
// name contains no record.
func (s *Spool) reuse(g *segment) error {
	s.mu.Lock()
	sp := s.spares[len(s.spares)-1]
	s.spares = s.spares[:len(s.spares)-1]
	s.mu.Unlock()
	g.h = sp.h
	err := s.writeAt(g.h, g.encode(), 0)
	if err == nil {
		err = s.fs.Rename(s.path(sp.name), s.path(g.name()))
	}
	if err == nil {
		err = s.syncDir(syncRoll, s.dir)
	}
	if err != nil {
		s.grow(-g.size)
		return errors.Join(fmt.Errorf("reusing %s as segment %s: %w", sp.name, g.name(), err), g.h.Close())
	}
	return nil
}

func (s *Spool) grow(n int64) {
	s.mu.Lock()
	s.disk += n
	s.mu.Unlock()
}

// seal ends a segment: it takes no more records, and the keeper writes its index.
func (s *Spool) seal(g *segment) {
	if g.sealed {
		return
	}
	g.sealed = true
	s.dirty = true
	if g.held == 0 {
		s.retire(g)
		return
	}
	s.toIndex = append(s.toIndex, g)
	s.nudge()
}

// dying is a segment without records. It is reused or removed once neither state slot refers to it, so that a damaged slot never brings back a state
// that misses it.
type dying struct {
	g     *segment
	after uint64 // generation of the state that must be durable first
}

func (s *Spool) retire(g *segment) {
	if g.retired {
		return
	}
	s.lanes[g.lane].remove(g)
	g.entries, g.tallies, g.goneSeqs, g.retired = nil, nil, nil, true
	s.dying = append(s.dying, dying{g, s.encoded + 2})
	s.dirty = true
	if s.buryNow() {
		s.nudge()
	}
}

// buryNow reports whether dying segments are needed as spares, or pile up, before the next regular state.
func (s *Spool) buryNow() bool { return len(s.dying) >= 2 || (len(s.dying) == 1 && len(s.spares) == 0) }

// bury reuses or removes the dying segments to which no state refers. The caller holds the house.
func (s *Spool) bury() error {
	s.mu.Lock()
	var dead []dying
	kept := s.dying[:0]
	for _, d := range s.dying {
		if d.after <= s.durable {
			dead = append(dead, d)
		} else {
			kept = append(kept, d)
		}
	}
	s.dying = kept
	s.mu.Unlock()
	var errs []error
	for _, d := range dead {
		errs = append(errs, s.dispose(d.g))
	}
	return errors.Join(errs...)
}

func (s *Spool) dispose(g *segment) error {
	err := ignoreMissing(s.fs.Remove(s.path(indexName(g.lane, g.id))))
	s.mu.Lock()
	reuse := g.size == s.limits.segment && g.h.users == 1 && len(s.spares) < s.limits.spares() && g.err == nil
	s.mu.Unlock()
	if reuse {
		name := fmt.Sprintf("spare-%016x", g.id)
		if e := s.fs.Rename(s.path(g.name()), s.path(name)); e != nil {
			return errors.Join(err, e)
		}
		s.mu.Lock()
		s.spares = append(s.spares, spare{name, g.h})
		s.disk -= g.indexSize
		s.mu.Unlock()
		return err
	}
	err = errors.Join(err, ignoreMissing(s.fs.Remove(s.path(g.name()))), s.unref(g.h))
	s.grow(-g.size - g.indexSize)
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// unref closes a file after its last user.
func (s *Spool) unref(h *handle) error {
	s.mu.Lock()
	h.users--
	last := h.users == 0
	s.mu.Unlock()
	if last {
		return h.Close()
	}
	return nil
}

// prefill creates the first spares of a new spool, filled with zeros once, so that its first commits are as fast as later ones, which overwrite empty
// segments. A growing backlog still uses fresh blocks: filling those in advance would write everything twice.
func (s *Spool) prefill() error {
	if s.hasSpare(s.limits.segment) {
		return nil // an interrupted first start created some, under the same names
	}
	zeros := make([]byte, 256<<10)
	for i := range 2 {
		name := fmt.Sprintf("spare-new-%d", i)
		if !s.fits(s.limits.quota / 2) {
			return nil
		}
		f, err := s.fs.Create(s.path(name))
		if err != nil {
			return fmt.Errorf("preparing %s: %w", name, err)
		}
		err = f.Preallocate(s.limits.segment)
		for at := int64(0); err == nil && at < s.limits.segment; at += int64(len(zeros)) {
			select {
			case <-s.stop:
				err = ErrClosed
			default:
				_, err = f.WriteAt(zeros[:min(int64(len(zeros)), s.limits.segment-at)], at)
			}
		}
		if err == nil {
			err = f.SyncData()
		}
		if err != nil {
			if isNoSpace(err) || errors.Is(err, ErrClosed) {
				err = nil // the spool works without
			} else {
				err = fmt.Errorf("preparing %s: %w", name, err)
			}
			return errors.Join(err, f.Close(), ignoreMissing(s.fs.Remove(s.path(name))))
		}
		s.mu.Lock()
		s.spares = append(s.spares, spare{name, &handle{File: f, users: 1}})
		s.disk += s.limits.segment
		s.mu.Unlock()
	}
	return nil
}
