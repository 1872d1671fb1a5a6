package spool

import (
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"slices"
)

// The layout of the history file; FORMAT.md has the table.
const (
	historyName    = "history"
	historyMagic   = "aOfates1"
	historyVersion = 1
	historySlot    = 2 << 10
	historyHeader  = 64
	historyMost    = 16 << 20 // bytes of the file
	blockMost      = 8192     // ranges in a block
	unpackedMost   = 1 << 20  // bytes of a block, unpacked
)

// history stores on disk the fates of sequences that exceed the memory: blocks of ranges in the slots of one file, overwritten in turn. It explains
// the gaps of a long outage, in which records of one class are removed while those of another between them stay, so that the ranges do not merge. A
// fate in memory, or in a later block, overrides an earlier one.
type history struct {
	f     File    // nil until the first block is written
	slots []block // by position; generation g is in slot g mod their number
	gen   uint64  // of the latest block

	window uint64   // number of the window that near covers, plus 1
	near   []uint64 // generations of the blocks that overlap it, latest first
	open   map[uint64]*fates
}

// block is the summary of a slot. Its generation is 0 if the slot is empty or unreadable.
type block struct{ gen, lo, hi uint64 }

// history returns the size of the file.
func (l *limits) history() int64 {
	return min(l.quota/64, historyMost) / historySlot * historySlot
}

// historyBurst is the number of ranges above Config.History that memory may hold until the keeper has moved them: a whole segment may expire at once.
const historyBurst = 1 << 16

// remember moves the oldest ranges from memory to the file if there are too many.
func (s *Spool) remember() error {
	s.house.Lock()
	defer s.house.Unlock()
	return s.unburden()
}

// unburden is remember for a caller that holds the house. Ranges leave memory only once they are durable, so no state without them precedes the block
// that has them. If the disk rejects them, ranges above twice History are forgotten, or the state would outgrow its slot.
func (s *Spool) unburden() error {
	for s.limits.history() > 0 {
		s.mu.Lock()
		old := s.fates.oldest(s.limits.History)
		s.mu.Unlock()
		if len(old) == 0 {
			return nil
		}
		n, err := s.writeBlock(old)
		s.mu.Lock()
		s.dirty = true
		if err != nil {
			s.fates.trim(2 * s.limits.History)
		} else {
			s.fates.remove(old[:n])
		}
		s.mu.Unlock()
		switch {
		case isNoSpace(err):
			return nil
		case err != nil:
			return fmt.Errorf("writing %s: %w", historyName, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fates.trim(2 * s.limits.History)
	return nil
}

// oldest returns up to a block of the lowest ranges if there are more than keep.
func (f *fates) oldest(keep int) []fateRange {
	if len(f.ranges) <= keep {
		return nil
	}
	return slices.Clone(f.ranges[:min(len(f.ranges)-keep/4, blockMost)])
}

// remove removes the ranges that are unchanged.
func (f *fates) remove(old []fateRange) {
	kept := f.ranges[:0]
	for _, r := range f.ranges {
		for len(old) > 0 && old[0].lo < r.lo {
			old = old[1:]
		}
		if len(old) == 0 || old[0] != r {
			kept = append(kept, r)
		}
	}
	clear(f.ranges[len(kept):])
	f.ranges = kept
}

// writeBlock makes as many of the ranges durable as fit into one block, and returns their number. The caller holds the house.
func (s *Spool) writeBlock(ranges []fateRange) (n int, err error) {
	body, n := packBlock(ranges)
	if body == nil {
		return 1, nil // a reason too long for any block
	}
	if err := s.makeHistory(); err != nil {
		return 0, err
	}
	h := &s.history
	b := block{gen: h.gen + 1, lo: ranges[0].lo, hi: ranges[n-1].hi}
	s.mu.Lock()
	h.forget(b.gen)
	s.mu.Unlock()
	if err := s.writeAt(h.f, sealBlock(b, s.origin, body), h.at(b.gen)); err != nil {
		return 0, err
	}
	if err := s.syncData(syncHistory, h.f); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.gen = b.gen
	h.slots[b.gen%uint64(len(h.slots))] = b
	return n, nil
}

// makeHistory creates the file if it is missing. Its room in the quota is reserved in any case.
func (s *Spool) makeHistory() error {
	if s.history.f != nil {
		return nil
	}
	f, err := s.fs.Create(s.path(historyName))
	if err != nil {
		return err
	}
	size := s.limits.history()
	err = f.Preallocate(size)
	if err == nil {
		err = s.syncDir(syncHistoryName, s.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), ignoreMissing(s.fs.Remove(s.path(historyName))))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history.f, s.history.slots = f, make([]block, size/historySlot)
	return nil
}

// openHistory reads the blocks of an earlier run. Unreadable blocks are forgotten.
func (s *Spool) openHistory() error {
	s.disk += s.limits.history()
	f, err := s.fs.Open(s.path(historyName), true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", historyName, err)
	}
	size, err := f.Size()
	if err != nil || size < historySlot {
		return f.Close() // truncated by a crash; it is created anew
	}
	s.disk += size - s.limits.history()
	h := &s.history
	h.f, h.slots = f, make([]block, size/historySlot)
	b := make([]byte, historyHeader)
	for i := range h.slots {
		if _, err := f.ReadAt(b, int64(i)*historySlot); err != nil {
			continue
		}
		if x, ok := parseBlock(b, s.origin); ok && x.gen%uint64(len(h.slots)) == uint64(i) {
			h.slots[i] = x
			h.gen = max(h.gen, x.gen)
		}
	}
	return nil
}

func (h *history) at(gen uint64) int64 { return int64(gen%uint64(len(h.slots))) * historySlot } // within the file

// forget clears the slot of a block of this generation.
func (h *history) forget(gen uint64) {
	h.slots[gen%uint64(len(h.slots))] = block{}
	h.window = 0
	clear(h.open)
}

// A lookup in the history loads a window of sequences, since callers ask for the sequences of a gap one after the other.
const (
	historyWindow = 4096
	openMost      = 8 // blocks unpacked at a time
)

// of returns the fate of a sequence, FateUnknown if no block has it, and the last sequence for which the blocks around it agree.
func (h *history) of(seq uint64) (why string, last uint64) {
	last = math.MaxUint64
	if len(h.slots) == 0 {
		return FateUnknown, last
	}
	if w := seq/historyWindow + 1; w != h.window {
		h.window = w
		h.look((w-1)*historyWindow, w*historyWindow-1)
	}
	for _, gen := range h.near {
		x := h.slots[gen%uint64(len(h.slots))]
		if x.gen != gen || seq < x.lo || seq > x.hi {
			continue
		}
		f := h.unpacked(gen)
		if why, end := f.run(seq); why != FateUnknown {
			return why, min(last, end)
		}
		last = min(last, x.hi, f.before(seq))
	}
	return FateUnknown, last
}

// run is of, with a last that holds for all blocks.
func (h *history) run(seq uint64) (why string, last uint64) {
	why, last = h.of(seq)
	for _, x := range h.slots {
		if x.gen > 0 && x.lo > seq {
			last = min(last, x.lo-1)
		}
	}
	return why, last
}

func (h *history) look(first, last uint64) {
	h.near = h.near[:0]
	for _, x := range h.slots {
		if x.gen > 0 && x.lo <= last && x.hi >= first {
			h.near = append(h.near, x.gen)
		}
	}
	slices.SortFunc(h.near, func(a, b uint64) int { return cmp.Compare(b, a) })
}

// unpacked reads a block. A damaged block reads as empty.
func (h *history) unpacked(gen uint64) *fates {
	if f := h.open[gen]; f != nil {
		return f
	}
	f := &fates{}
	b := make([]byte, historySlot)
	if _, err := h.f.ReadAt(b, h.at(gen)); err == nil {
		f.ranges, _ = openBlock(b)
	}
	if h.open == nil || len(h.open) >= openMost {
		h.open = map[uint64]*fates{}
	}
	h.open[gen] = f
	return f
}

// rest frees the memory of the last lookup.
func (h *history) rest() { h.open, h.window = nil, 0 }

// packBlock packs as many of the ranges as fit into a slot, or returns nil if not even the first fits.
func packBlock(ranges []fateRange) (body []byte, n int) {
	for n = len(ranges); n > 0; n /= 2 {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, flate.DefaultCompression) // fails only for levels that do not exist
		_, _ = w.Write(encodeRanges(ranges[:n]))              // a buffer never fails
		_ = w.Close()
		if b.Len() <= historySlot-historyHeader {
			return b.Bytes(), n
		}
	}
	return nil, 0
}

// encodeRanges encodes ranges with a table of their reasons.
func encodeRanges(ranges []fateRange) []byte {
	words := map[string]uint64{}
	var names, list []byte
	at := uint64(0)
	for _, r := range ranges {
		word, known := words[r.why]
		if !known {
			word = uint64(len(words))
			words[r.why] = word
			names = appendString(names, r.why)
		}
		list = binary.AppendUvarint(list, r.lo-at)
		list = binary.AppendUvarint(list, r.hi-r.lo)
		list = binary.AppendUvarint(list, word)
		at = r.hi
	}
	b := binary.AppendUvarint(nil, uint64(len(words)))
	b = append(b, names...)
	b = binary.AppendUvarint(b, uint64(len(ranges)))
	return append(b, list...)
}

func decodeRanges(b []byte) ([]fateRange, error) {
	d := &decoder{b: b}
	var words []string
	for n := d.count(1); n > 0 && d.err == nil; n-- {
		words = append(words, d.string())
	}
	n := d.count(3)
	ranges := make([]fateRange, 0, n)
	at := uint64(0)
	for ; n > 0 && d.err == nil; n-- {
		lo := at + d.uvarint()
		hi := lo + d.uvarint()
		word := d.uvarint()
		if d.err != nil || lo < at || hi < lo || word >= uint64(len(words)) {
			return nil, errMalformed
		}
		ranges = append(ranges, fateRange{lo, hi, words[word]})
		at = hi
	}
	return ranges, d.err
}

// sealBlock returns the bytes of a slot.
func sealBlock(x block, epoch string, body []byte) []byte {
	b := make([]byte, historyHeader, historySlot)
	copy(b, historyMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], historyVersion)
	le.PutUint32(b[12:], uint32(len(body))) // fits into a slot
	le.PutUint64(b[16:], x.gen)
	le.PutUint64(b[24:], x.lo)
	le.PutUint64(b[32:], x.hi)
	copy(b[40:56], epoch)
	le.PutUint32(b[56:], crc32.Checksum(body, castagnoli))
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return append(b, body...)
}

// parseBlock parses a slot's header. It rejects a slot of another spool.
func parseBlock(b []byte, epoch string) (block, bool) {
	le := binary.LittleEndian
	if string(b[:8]) != historyMagic || le.Uint32(b[8:]) != historyVersion || le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return block{}, false
	}
	return block{le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[32:])}, string(bytes.TrimRight(b[40:56], "\x00")) == epoch
}

// openBlock returns the ranges of a slot.
func openBlock(b []byte) ([]fateRange, error) {
	le := binary.LittleEndian
	if len(b) < historyHeader || int64(le.Uint32(b[12:])) > int64(len(b)-historyHeader) {
		return nil, errMalformed
	}
	body := b[historyHeader : historyHeader+int(le.Uint32(b[12:]))]
	if le.Uint32(b[56:]) != crc32.Checksum(body, castagnoli) {
		return nil, errDamaged
	}
	raw, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body)), unpackedMost))
	if err != nil {
		return nil, err
	}
	return decodeRanges(raw)
}
