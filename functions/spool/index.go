package spool

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// The layout of an index file; FORMAT.md has the table.
const (
	indexMagic   = "aOindex1"
	indexVersion = 2
)

// indexed is what an index file says of a segment. Offsets are not stored where a record follows the one before it.
type indexed struct {
	size    int64 // of the file
	end     int64
	entries []entry
	classes []string // entry.class points into it
}

// encodeIndex writes down a sealed segment's entries. The file is only a shortcut: it is neither synced nor trusted
// further than its checksum, and a missing one is rebuilt from the segment.
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
	at, seq, came := uint32(dataStart), uint32(0), uint32(0)
	for i := range g.entries {
		e := &g.entries[i]
		b = binary.AppendUvarint(b, uint64(e.off-at))
		b = binary.AppendUvarint(b, uint64(e.size))
		b = binary.AppendUvarint(b, uint64(e.seq-seq))
		b = binary.AppendUvarint(b, uint64(e.class))
		b = binary.AppendUvarint(b, uint64(e.due))
		b = binary.AppendVarint(b, int64(e.came)-int64(came))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.score))
		at, seq, came = e.off+e.size, e.seq, e.came
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeIndex reads the index of the segment with this header.
func decodeIndex(b []byte, h *segmentHeader) (*indexed, error) {
	le := binary.LittleEndian
	if len(b) < 20 || string(b[:8]) != indexMagic || le.Uint32(b[8:]) != indexVersion {
		return nil, errMalformed
	}
	if le.Uint32(b[len(b)-4:]) != crc32.Checksum(b[:len(b)-4], castagnoli) {
		return nil, errDamaged
	}
	if le.Uint32(b[12:]) != h.seed() {
		return nil, fmt.Errorf("index belongs to another life of the segment: %w", errMalformed)
	}
	d := &decoder{b: b[16 : len(b)-4]}
	if d.uvarint() != h.id || d.uvarint() != uint64(h.rev) {
		return nil, fmt.Errorf("index belongs to another form of the segment: %w", errMalformed)
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
	at, seq, came := uint64(dataStart), uint64(0), int64(0)
	for ; n > 0 && d.err == nil; n-- {
		off := at + d.uvarint()
		size := d.uvarint()
		seq += d.uvarint()
		class := d.uvarint()
		due := d.uvarint()
		came += d.varint()
		score := math.Float32frombits(d.uint32())
		at = off + size
		if at > uint64(x.end) || x.end > math.MaxUint32 || seq > math.MaxUint32 || class >= uint64(len(x.classes)) || size < headerSize {
			d.fail()
			return
		}
		x.entries = append(x.entries, entry{
			off: uint32(off), size: uint32(size), seq: uint32(seq), due: uint32(due), // checked above
			came: uint32(came), score: score, class: uint16(class), // checked above
		})
	}
}
