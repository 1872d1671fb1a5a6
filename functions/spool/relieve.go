package spool

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// relieve frees disk space until size more bytes fit into the quota or a spare exists: it removes dead segments, then truncates idle ones, then
// rewrites the sparsest. The caller holds the house.
func (s *Spool) relieve(size int64) bool {
	s.trimIdle()
	s.dropSpares(size)
	err := s.writeBoth() // without a saved state no segment may be removed
	if err == nil {
		err = s.bury()
	}
	for freed := true; err == nil && freed && !s.fits(size) && !s.hasSpare(size); {
		freed, err = s.rewriteSparsest()
	}
	if err != nil {
		s.report(fmt.Errorf("making room on disk: %w", err))
	}
	return s.fits(size) || s.hasSpare(size)
}

// dropSpares deletes spares to make room for a file of another size.
func (s *Spool) dropSpares(size int64) {
	for !s.fits(size) && !s.hasSpare(size) {
		s.mu.Lock()
		if len(s.spares) == 0 {
			s.mu.Unlock()
			return
		}
		sp := s.spares[len(s.spares)-1]
		s.spares = s.spares[:len(s.spares)-1]
		s.disk -= s.limits.segment
		s.mu.Unlock()
		if err := errors.Join(s.fs.Remove(s.path(sp.name)), s.unref(sp.h)); err != nil {
			s.report(fmt.Errorf("removing %s: %w", sp.name, err))
		}
	}
}

// trimIdle seals the segments that the current group did not write to, and truncates their unused ends. Only the committer calls it.
func (s *Spool) trimIdle() {
	for l := range s.writers {
		w := &s.writers[l]
		if w.g == nil || w.g.tail != w.g.end {
			continue
		}
		s.mu.Lock()
		s.seal(w.g)
		s.mu.Unlock()
		s.trim(w.g)
		w.g = nil
	}
}

// trim truncates the unused end of a sealed segment. If that fails, the file only stays larger than needed.
func (s *Spool) trim(g *segment) {
	if err := g.h.Truncate(g.end); err != nil {
		s.report(fmt.Errorf("truncating segment %s: %w", g.name(), err))
		return
	}
	s.mu.Lock()
	s.disk += g.end - g.size
	g.size = g.end
	s.mu.Unlock()
}

// rewriteSparsest rewrites the sealed segment that frees the most space, if that is at least an eighth of it.
func (s *Spool) rewriteSparsest() (freed bool, err error) {
	s.mu.Lock()
	var best *segment
	gain := int64(0)
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			if n := g.size - dataStart - g.heldBytes; g.sealed && n > gain && n > g.size/8 {
				best, gain = g, n
			}
		}
	}
	s.mu.Unlock()
	if best == nil {
		return false, nil
	}
	return true, s.rewrite(best)
}

// rewrite replaces a sealed segment by one with only the held records, under the same name. Records keep their bytes, so nothing is encrypted twice.
// The records omitted must be gone in both slots before. The rewrite needs as much free space as the held records. The caller holds the house.
func (s *Spool) rewrite(g *segment) error {
	s.mu.Lock()
	if g.retired { // its last record ended after it was chosen
		s.mu.Unlock()
		return nil
	}
	var keep []entry
	if !s.fetch(g) {
		s.mu.Unlock()
		return fmt.Errorf("rewriting segment %s: its entries cannot be read", g.name())
	}
	for _, e := range g.entries {
		if e.state != gone {
			keep = append(keep, e)
		}
	}
	head := g.segmentHeader
	s.mu.Unlock()
	head.rev++
	if err := s.writeBoth(); err != nil {
		return err
	}
	temp := s.path(g.name() + ".tmp")
	f, err := s.fs.Create(temp)
	if err != nil {
		return fmt.Errorf("rewriting segment %s: %w", g.name(), err)
	}
	moved, end, err := s.copyRecords(f, g, &head, keep)
	if err == nil {
		err = s.syncData(syncRewrite, f)
	}
	if err == nil {
		err = s.fs.Rename(temp, s.path(g.name()))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("rewriting segment %s: %w", g.name(), err), f.Close(), ignoreMissing(s.fs.Remove(temp)))
	}
	// The next state contains the new end, which must not be applied to the old file.
	if err := s.syncDir(syncSwap, s.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	return s.replace(g, head, f, moved, end)
}

// copyRecords copies the entries' bytes after a new header and returns their new positions.
func (s *Spool) copyRecords(dst File, g *segment, head *segmentHeader, keep []entry) (moved []entry, end int64, err error) {
	moved, end = slices.Clone(keep), dataStart
	if err := s.writeAt(dst, head.encode(), 0); err != nil {
		return nil, 0, err
	}
	var buf []byte
	for i := 0; i < len(keep); {
		from, n := i, 0
		for i < len(keep) && (i == from || keep[i].off == keep[i-1].off+keep[i-1].size) && (i == from || n < 1<<20) {
			moved[i].off = uint32(end) + uint32(n) // smaller than the old offset
			n += int(keep[i].size)
			i++
		}
		buf = slices.Grow(buf[:0], n)[:n]
		if _, err := g.h.ReadAt(buf, int64(keep[from].off)); err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		if err := s.writeAt(dst, buf, end); err != nil {
			return nil, 0, err
		}
		end += int64(n)
	}
	return moved, end, nil
}

// replace installs the rewritten file. Records that ended meanwhile stay as gone entries. A segment that was retired meanwhile has no entries; only
// its file changes.
func (s *Spool) replace(g *segment, head segmentHeader, f File, moved []entry, end int64) error {
	s.mu.Lock()
	if g.retired {
		moved = nil
	}
	for i := range moved {
		// moved has only entries that were held, so each is still found.
		off := moved[i].off
		moved[i] = g.entries[g.find(g.base+uint64(moved[i].seq))]
		moved[i].off = off
	}
	old := g.h
	s.disk += end - g.size
	g.segmentHeader, g.h = head, &handle{File: f, users: 1}
	g.entries, g.end, g.size, g.first, g.lowOK, g.holes = moved, end, end, 0, false, nil
	if !g.retired {
		g.retally()
		g.goneDirty, g.indexed = true, false
		s.toIndex = append(s.toIndex, g)
	}
	s.dirty = true
	s.mu.Unlock()
	return s.unref(old)
}

// retally resets the bounds of the classes after entries moved.
func (g *segment) retally() {
	for t := range g.tallies {
		tl := &g.tallies[t]
		tl.lo, tl.hi = [2]int32{}, [2]int32{int32(len(g.entries) - 1), int32(len(g.entries) - 1)} // a segment has fewer records
	}
}
