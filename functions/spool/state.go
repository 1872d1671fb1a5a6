package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"app-offload/functions/clock"
)

// The layout of a state slot; FORMAT.md has the table.
const (
	stateMagic   = "aOstate1"
	stateVersion = 1
	slotHeader   = 8 + 4 + 4 + 8
	slotSize     = 256 << 10 // preallocated; a larger state needs new disk space
)

var slotNames = [2]string{"state-a", "state-b"}

// savedState is the content of a state slot.
type savedState struct {
	gen      uint64
	epoch    string
	origin   string       // the first epoch
	next     uint64       // the next sequence to assign
	reserved uint64       // sequences from here on are unassigned, if commits are not durable; 0 if they are
	counted  uint64       // the counters include the records up to this sequence
	clock    int64        // the spool's clock, ns
	at       clock.Moment // by the machine's clocks; only the wall clock in states of earlier versions, which did not record boots
	clean    bool         // written by Close
	nextID   uint64       // no segment has had this id
	classes  []class
	segments []savedSegment
	fates    fates
}

// hole is a damaged place that was handled and must not be reported again.
type hole struct{ off, length uint32 }

// savedSegment is the state's entry of a segment with records.
type savedSegment struct {
	lane     int
	id, base uint64
	end      int64  // end of a sealed segment, 0 while it is open
	records  int    // in its index; if 0, its header may never have reached the disk
	gone     []byte // as encoded by goneRanges
	holes    []hole
}

func (st *savedState) encode() []byte {
	b := make([]byte, slotHeader, 4096)
	b = appendString(b, st.epoch)
	for _, v := range []uint64{st.next, st.reserved, st.counted, st.nextID} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendVarint(b, st.clock)
	b = binary.AppendVarint(b, st.at.Wall)
	b = append(b, flagByte(st.clean))
	b = binary.AppendUvarint(b, uint64(len(st.classes)))
	for i := range st.classes {
		b = appendClass(b, &st.classes[i])
	}
	b = binary.AppendUvarint(b, uint64(len(st.segments)))
	for _, g := range st.segments {
		for _, v := range []uint64{uint64(g.lane), g.id, g.base, uint64(g.end), uint64(g.records), uint64(len(g.gone))} { // none is negative
			b = binary.AppendUvarint(b, v)
		}
		b = append(b, g.gone...)
		b = binary.AppendUvarint(b, uint64(len(g.holes)))
		for _, h := range g.holes {
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(h.off)), uint64(h.length))
		}
	}
	b = st.fates.encode(b)
	b = appendString(b, st.at.Boot)
	b = binary.AppendVarint(b, int64(st.at.Booted))
	b = append(b, flagByte(st.at.Synchronised))
	b = appendString(b, st.origin)
	return sealSlot(b, st.gen)
}

func flagByte(on bool) byte {
	if on {
		return 1
	}
	return 0
}

func appendClass(b []byte, c *class) []byte {
	b = appendString(b, c.name)
	b = binary.AppendUvarint(b, c.appended)
	b = binary.AppendUvarint(b, c.done)
	b = binary.AppendUvarint(b, uint64(len(c.dropped)))
	for _, why := range slices.Sorted(maps.Keys(c.dropped)) {
		b = binary.AppendUvarint(appendString(b, why), c.dropped[why])
	}
	return b
}

// sealSlot fills in the slot's header (magic, version, length of the body, generation) and appends the checksum of all.
func sealSlot(b []byte, gen uint64) []byte {
	copy(b, stateMagic)
	binary.LittleEndian.PutUint32(b[8:], stateVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)-slotHeader)) // a few MiB at most
	binary.LittleEndian.PutUint64(b[16:], gen)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeState decodes a slot, and fails if it is not intact.
func decodeState(b []byte) (*savedState, error) {
	le := binary.LittleEndian
	if len(b) < slotHeader+4 || string(b[:8]) != stateMagic {
		return nil, errMalformed
	}
	size := le.Uint32(b[12:])
	if int64(size) > int64(len(b)-slotHeader-4) {
		return nil, errDamaged
	}
	n := int(size) // on 32-bit systems only what is not larger fits
	if le.Uint32(b[slotHeader+n:]) != crc32.Checksum(b[:slotHeader+n], castagnoli) {
		return nil, errDamaged
	}
	if v := le.Uint32(b[8:]); v != stateVersion {
		return nil, fmt.Errorf("%w: format %d, this version reads %d", errLater, v, stateVersion)
	}
	d := &decoder{b: b[slotHeader : slotHeader+n]}
	st := &savedState{gen: le.Uint64(b[16:]), epoch: d.string()}
	st.next, st.reserved, st.counted, st.nextID = d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
	st.clock, st.at.Wall = d.varint(), d.varint()
	st.clean = d.flag()
	for k := d.count(4); k > 0 && d.err == nil; k-- {
		st.classes = append(st.classes, decodeClass(d))
	}
	for k := d.count(7); k > 0 && d.err == nil; k-- {
		g := savedSegment{lane: int(d.uvarint() % Lanes), id: d.uvarint(), base: d.uvarint(), end: int64(d.uvarint()), records: int(d.uvarint())} // checksummed
		g.gone = d.bytes(d.count(1))
		for h := d.count(2); h > 0 && d.err == nil; h-- {
			g.holes = append(g.holes, hole{uint32(d.uvarint()), uint32(d.uvarint())}) // checksummed
		}
		st.segments = append(st.segments, g)
	}
	st.fates.decode(d)
	if len(d.b) > 0 { // absent in states written before boots were recorded
		st.at.Boot, st.at.Booted, st.at.Synchronised = d.string(), time.Duration(d.varint()), d.flag()
	}
	st.origin = st.epoch
	if len(d.b) > 0 { // absent in states written before epochs could change
		st.origin = d.string()
	}
	return st, d.err
}

func decodeClass(d *decoder) class {
	c := class{name: d.string(), appended: d.uvarint(), done: d.uvarint(), dropped: map[string]uint64{}}
	for k := d.count(2); k > 0 && d.err == nil; k-- {
		why := d.string()
		c.dropped[why] = d.uvarint()
	}
	return c
}

// goneWalk walks through encoded ranges of gone sequences along with ascending sequences.
type goneWalk struct {
	d      decoder
	at     uint64
	lo, hi uint64
	more   bool
}

func newGoneWalk(base uint64, ranges []byte) *goneWalk {
	w := &goneWalk{d: decoder{b: ranges}, at: base}
	w.advance()
	return w
}

func (w *goneWalk) advance() {
	w.more = len(w.d.b) > 0
	if !w.more {
		return
	}
	w.lo = w.at + w.d.uvarint()
	w.hi = w.lo + w.d.uvarint()
	w.at = w.hi
	w.more = w.d.err == nil
}

func (w *goneWalk) gone(seq uint64) bool {
	for w.more && w.hi < seq {
		w.advance()
	}
	return w.more && w.lo <= seq
}

// writeBoth writes the current state to both slots, so that either is sufficient. The caller holds the house.
func (s *Spool) writeBoth() error {
	if err := s.writeState(); err != nil {
		return err
	}
	return s.writeState()
}

var errMalformed = errors.New("malformed")

// errLater reports an intact file of a later format. It is not damaged, so it stays unchanged.
var errLater = errors.New("written by a later version of this program")

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder decodes the state and index files. After the first error it returns zeros and keeps the error.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail() {
	d.err = errMalformed
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count decodes the length of a list whose elements need at least size bytes, so that a corrupt number allocates no memory.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n) // bounded by len(b)
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) flag() bool {
	b := d.bytes(1)
	return len(b) == 1 && b[0] == 1
}

func (d *decoder) string() string { return string(d.bytes(d.count(1))) }

func (d *decoder) uint32() uint32 {
	b := d.bytes(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// The layout of an index file; FORMAT.md has the table.
const (
	indexMagic   = "aOindex1"
	indexVersion = 2
)

// indexed is the content of an index file. An offset is stored only if the record does not follow the previous one.
type indexed struct {
	size    int64 // of the file
	end     int64
	entries []entry
	classes []string // entry.class points into it
}

// encodeIndex encodes a sealed segment's entries. The file is only a shortcut: it is not synced, trusted only as far as its checksum, and rebuilt
// from the segment if missing.
func encodeIndex(g *segment, names []string) []byte {
	b := append(make([]byte, 0, 64+12*len(g.entries)), indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, indexVersion)
	b = binary.LittleEndian.AppendUint32(b, g.sum)
	for _, v := range []uint64{g.id, uint64(g.rev), uint64(g.end)} { // none is negative
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = appendString(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(g.entries)))
	at, seq, arrived := uint32(dataStart), uint32(0), uint32(0)
	for i := range g.entries {
		e := &g.entries[i]
		b = binary.AppendUvarint(b, uint64(e.off-at))
		b = binary.AppendUvarint(b, uint64(e.size))
		b = binary.AppendUvarint(b, uint64(e.seq-seq))
		b = binary.AppendUvarint(b, uint64(e.class))
		b = binary.AppendUvarint(b, uint64(e.due))
		b = binary.AppendVarint(b, int64(e.arrived)-int64(arrived))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.score))
		at, seq, arrived = e.off+e.size, e.seq, e.arrived
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeIndex decodes the index of the segment with this header.
func decodeIndex(b []byte, h *segmentHeader) (*indexed, error) {
	le := binary.LittleEndian
	if len(b) < 20 || string(b[:8]) != indexMagic || le.Uint32(b[8:]) != indexVersion {
		return nil, errMalformed
	}
	if le.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli) {
		return nil, errDamaged
	}
	if le.Uint32(b[12:]) != h.seed() {
		return nil, fmt.Errorf("index belongs to an earlier use of the segment's file: %w", errMalformed)
	}
	d := &decoder{b: b[16 : len(b)-4]}
	if d.uvarint() != h.id || d.uvarint() != uint64(h.rev) {
		return nil, fmt.Errorf("index belongs to another revision of the segment: %w", errMalformed)
	}
	x := &indexed{end: int64(d.uvarint())} // checked below
	for n := d.count(1); n > 0 && d.err == nil; n-- {
		x.classes = append(x.classes, d.string())
	}
	decodeEntries(d, x)
	return x, d.err
}

func decodeEntries(d *decoder, x *indexed) {
	n := d.count(10)
	x.entries = make([]entry, 0, n)
	at, seq, arrived := uint64(dataStart), uint64(0), int64(0)
	for ; n > 0 && d.err == nil; n-- {
		off := at + d.uvarint()
		size := d.uvarint()
		seq += d.uvarint()
		class := d.uvarint()
		due := d.uvarint()
		arrived += d.varint()
		score := math.Float32frombits(d.uint32())
		at = off + size
		if at > uint64(x.end) || x.end > math.MaxUint32 || seq > math.MaxUint32 || class >= uint64(len(x.classes)) || size < headerSize {
			d.fail()
			return
		}
		x.entries = append(x.entries, entry{
			off: uint32(off), size: uint32(size), seq: uint32(seq), due: uint32(due), // checked above
			arrived: uint32(arrived), score: score, class: uint16(class), // checked above
		})
	}
}

// fates holds the fates of sequences, as a bounded number of ranges. It forgets the lowest first.
type fates struct {
	max    int
	ranges []fateRange // ascending, disjoint
}

type fateRange struct {
	lo, hi uint64 // both included
	why    string
}

// add records the fate of lo … hi. The latest call wins where ranges overlap.
func (f *fates) add(lo, hi uint64, why string) {
	i := f.at(lo)
	if i < len(f.ranges) && f.ranges[i].lo <= lo && f.ranges[i].hi >= hi && f.ranges[i].why == why {
		return
	}
	i = f.clear(i, lo, hi)
	if i > 0 && f.ranges[i-1].why == why && f.ranges[i-1].hi+1 == lo {
		i--
		f.ranges[i].hi = hi
	} else {
		f.ranges = slices.Insert(f.ranges, i, fateRange{lo, hi, why})
	}
	if i+1 < len(f.ranges) && f.ranges[i+1].why == why && f.ranges[i+1].lo == hi+1 {
		f.ranges[i].hi = f.ranges[i+1].hi
		f.ranges = slices.Delete(f.ranges, i+1, i+2)
	}
	f.trim(f.max)
}

// trim forgets the lowest ranges above a number.
func (f *fates) trim(most int) {
	if n := len(f.ranges) - most; n > 0 {
		f.ranges = f.ranges[n:] // moves nothing; the memory is freed when the slice grows
	}
}

// clear removes lo … hi from the ranges from i on, and returns the index for a new range of it.
func (f *fates) clear(i int, lo, hi uint64) int {
	if i < len(f.ranges) && f.ranges[i].lo < lo {
		right := f.ranges[i]
		f.ranges[i].hi = lo - 1
		i++
		if right.hi > hi {
			right.lo = hi + 1
			f.ranges = slices.Insert(f.ranges, i, right)
			return i
		}
	}
	j := i
	for j < len(f.ranges) && f.ranges[j].hi <= hi {
		j++
	}
	f.ranges = slices.Delete(f.ranges, i, j)
	if i < len(f.ranges) && f.ranges[i].lo <= hi {
		f.ranges[i].lo = hi + 1
	}
	return i
}

// forget removes the fate of a sequence.
func (f *fates) forget(seq uint64) {
	if i := f.at(seq); i < len(f.ranges) && f.ranges[i].lo <= seq {
		f.clear(i, seq, seq)
	}
}

func (f *fates) of(seq uint64) string {
	why, _ := f.run(seq)
	return why
}

// run returns the fate of a sequence and the end of its range.
func (f *fates) run(seq uint64) (why string, last uint64) {
	if i := f.at(seq); i < len(f.ranges) && f.ranges[i].lo <= seq {
		return f.ranges[i].why, f.ranges[i].hi
	}
	return FateUnknown, seq
}

// before returns the last sequence before the next range after seq.
func (f *fates) before(seq uint64) uint64 {
	if i := f.at(seq); i < len(f.ranges) {
		return max(f.ranges[i].lo, 1) - 1
	}
	return math.MaxUint64
}

// at returns the index of the first range that ends at or after seq.
func (f *fates) at(seq uint64) int {
	return sort.Search(len(f.ranges), func(i int) bool { return f.ranges[i].hi >= seq })
}

func (f *fates) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(f.ranges)))
	at := uint64(0)
	for _, r := range f.ranges {
		b = binary.AppendUvarint(b, r.lo-at)
		b = binary.AppendUvarint(b, r.hi-r.lo)
		b = appendString(b, r.why)
		at = r.hi
	}
	return b
}

func (f *fates) decode(d *decoder) {
	at := uint64(0)
	for n := d.count(3); n > 0 && d.err == nil; n-- {
		lo := at + d.uvarint()
		hi := lo + d.uvarint()
		why := d.string()
		if lo < at || hi < lo {
			d.fail()
			return
		}
		f.ranges = append(f.ranges, fateRange{lo, hi, why})
		at = hi
	}
}
