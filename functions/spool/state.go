package spool

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"time"

	"app-offload/functions/clock"
)

// The layout of a state slot; FORMAT.md has the table.
const (
	stateMagic   = "aOstate1"
	stateVersion = 1
	slotHeader   = 8 + 4 + 4 + 8
	slotSize     = 256 << 10 // preallocated; a state that outgrows it needs new space
)

var slotNames = [2]string{"state-a", "state-b"}

// savedState is what a state slot says.
type savedState struct {
	gen      uint64
	epoch    string
	origin   string       // the first epoch
	next     uint64       // the next sequence to give
	reserved uint64       // no sequence from here on was given out, where commits are not durable; 0 where they are
	counted  uint64       // the counters include the records up to this sequence
	clock    int64        // the spool's clock, ns
	at       clock.Moment // by the machine's clocks; only the wall clock in states written before boots were noted
	clean    bool         // written by Close
	nextID   uint64       // no segment had this id yet
	classes  []class
	segments []savedSegment
	fates    fates
}

// hole is a damaged place that was dealt with and is not to be found anew.
type hole struct{ off, length uint32 }

// savedSegment is what the state knows of a segment that holds records.
type savedSegment struct {
	lane     int
	id, base uint64
	end      int64  // where a sealed one ends, 0 while it is open
	records  int    // in its index; with none its header may never have reached the disk
	gone     []byte // as goneRanges has it
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

// sealSlot fills in the slot's header: magic, version, length of the body, generation, and appends the checksum of all.
func sealSlot(b []byte, gen uint64) []byte {
	copy(b, stateMagic)
	binary.LittleEndian.PutUint32(b[8:], stateVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)-slotHeader)) // a few MiB at most
	binary.LittleEndian.PutUint64(b[16:], gen)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeState reads a slot, or fails where it is not whole.
func decodeState(b []byte) (*savedState, error) {
	le := binary.LittleEndian
	if len(b) < slotHeader+4 || string(b[:8]) != stateMagic || le.Uint32(b[8:]) != stateVersion {
		return nil, errMalformed
	}
	size := le.Uint32(b[12:])
	if int64(size) > int64(len(b)-slotHeader-4) {
		return nil, errDamaged
	}
	n := int(size) // on 32 bit only what is not larger fits
	if le.Uint32(b[slotHeader+n:]) != crc32.Checksum(b[:slotHeader+n], castagnoli) {
		return nil, errDamaged
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
	if len(d.b) > 0 { // else it was written before boots were noted
		st.at.Boot, st.at.Booted, st.at.Synchronised = d.string(), time.Duration(d.varint()), d.flag()
	}
	st.origin = st.epoch
	if len(d.b) > 0 { // else it was written before epochs could change
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

// goneWalk walks the encoded ranges of gone sequences alongside ascending sequences.
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

// writeBoth brings both slots up to what holds now, so that either alone is enough. The house is held.
func (s *Spool) writeBoth() error {
	if err := s.writeState(); err != nil {
		return err
	}
	return s.writeState()
}
