package spool

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sort"
)

// The layout of a segment's file; FORMAT.md has the table.
const (
	segmentMagic   = "aOspool1"
	segmentVersion = 1
	copySize       = 512          // one copy of the header
	dataStart      = 2 * copySize // two copies, so that one flipped bit does not cost the salt
	epochSize      = 16
	maxKeyID       = 255
)

// segmentHeader is the content of a segment's header.
type segmentHeader struct {
	lane    int
	flags   uint8
	rev     uint32 // number of rewrites of the segment
	id      uint64
	base    uint64 // no record has a smaller sequence
	created int64
	epoch   string
	origin  string // the spool's first epoch
	salt    [saltSize]byte
	check   [checkSize]byte
	keyID   string
}

func (h *segmentHeader) encrypted() bool { return h.flags&flagEncrypted != 0 }

// seed returns the seed of every checksum of the segment's records.
func (h *segmentHeader) seed() uint32 { return crc32.Checksum(h.salt[:], castagnoli) }

func (h *segmentHeader) name() string { return segmentName(h.lane, h.id) }

func segmentName(lane int, id uint64) string { return fmt.Sprintf("%d-%016x.seg", lane, id) }

func indexName(lane int, id uint64) string { return fmt.Sprintf("%d-%016x.idx", lane, id) }

func (h *segmentHeader) encode() []byte {
	b := make([]byte, 0, dataStart)
	b = append(b, segmentMagic...)
	b = append(b, segmentVersion, byte(h.lane), h.flags, byte(len(h.keyID))) // both are bounded
	b = binary.LittleEndian.AppendUint32(b, h.rev)
	b = binary.LittleEndian.AppendUint64(b, h.id)
	b = binary.LittleEndian.AppendUint64(b, h.base)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.created)) // bits are kept
	b = append(b, h.epoch...)
	b = append(b, h.salt[:]...)
	b = append(b, h.check[:]...)
	b = append(b, h.keyID...)
	if h.origin != h.epoch {
		b = append(b, h.origin...)
	}
	b = append(b, make([]byte, copySize-4-len(b))...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, b...)
}

// laterVersion fails if a copy is intact and has a later format.
func laterVersion(b []byte) error {
	for ; len(b) >= copySize; b = b[copySize:] {
		if wholeCopy(b[:copySize]) && b[8] != segmentVersion {
			return fmt.Errorf("%w: format %d, this version reads %d", errLater, b[8], segmentVersion)
		}
	}
	return nil
}

func wholeCopy(b []byte) bool {
	return bytes.HasPrefix(b, []byte(segmentMagic)) && binary.LittleEndian.Uint32(b[copySize-4:]) == crc32.Checksum(b[:copySize-4], castagnoli)
}

// parseSegmentHeader parses the first intact copy.
func parseSegmentHeader(b []byte) (segmentHeader, bool) {
	for ; len(b) >= copySize; b = b[copySize:] {
		if h, ok := parseSegmentCopy(b[:copySize]); ok {
			return h, true
		}
	}
	return segmentHeader{}, false
}

func parseSegmentCopy(b []byte) (h segmentHeader, ok bool) {
	le := binary.LittleEndian
	if !wholeCopy(b) || b[8] != segmentVersion || b[9] >= Lanes {
		return h, false
	}
	h.lane, h.flags = int(b[9]), b[10]
	h.rev = le.Uint32(b[12:])
	h.id, h.base = le.Uint64(b[16:]), le.Uint64(b[24:])
	h.created = int64(le.Uint64(b[32:])) // bits are kept
	h.epoch = string(b[40 : 40+epochSize])
	copy(h.salt[:], b[56:])
	copy(h.check[:], b[56+saltSize:])
	end := 96 + int(b[11])
	h.keyID = string(b[96:end])
	if h.origin = string(b[end : end+epochSize]); h.origin == string(make([]byte, epochSize)) {
		h.origin = h.epoch
	}
	return h, true
}

// state is the state of a record.
type state uint8

const (
	gone       state = iota // done or dropped
	live                    // can be taken from the ring
	backlog                 // can be taken from disk
	leasedLive              // taken, still in the ring
	leased                  // taken, not in the ring
	locked                  // cannot be taken: the segment's key is missing
)

// kind returns the source to which a pending record counts, or -1 if it is not pending.
func (st state) kind() int {
	switch st {
	case live:
		return 0
	case backlog:
		return 1
	}
	return -1
}

// entry is the index entry of one record: 28 bytes of memory for each record of a segment that is not paged out.
type entry struct {
	off, size uint32 // in the segment's file, including the header
	seq       uint32 // relative to the segment's base
	due       uint32 // tick of the spool's clock at which it expires, 0 for never
	arrived   uint32 // tick of the spool's clock at which it was committed, or released by its holder
	score     float32
	class     uint16 // index into the spool's classes
	state     state
	parked    bool // leased by Hold and not yet released
}

// tally counts one class within one segment. Take skips segments without pending records of the class, and searches a segment only between lo and hi,
// outside of which none is pending.
type tally struct {
	class   uint16
	pend    [2]int32
	bytes   [2]int64
	lo, hi  [2]int32
	arrived uint32 // tick at which the first backlog record was committed, as of the last search or of paging out
}

// segment is one file of a lane's log. All fields but those of the committer are guarded by the spool's mutex.
type segment struct {
	segmentHeader
	sum       uint32 // seed of the checksums
	aead      cipher.AEAD
	locked    bool // the key for aead is missing
	retired   bool // it has no held records: it has left its lane and waits to be reused or removed
	h         *handle
	size      int64 // of the file
	end       int64 // after the last committed record
	sealed    bool  // no more records are appended
	entries   []entry
	paged     *summary // set while the entries are only on disk
	used      bool     // the entries were used since the keeper's last sweep
	indexed   bool     // the index file on disk matches the segment
	tallies   []tally
	held      int
	heldBytes int64
	first     int    // no entry before it is held
	due       uint32 // no entry is due before it, 0 if none ever is
	low       int    // the pending record with the lowest score, if lowOK
	lowOK     bool
	holes     []hole // damaged places already handled
	indexSize int64  // of its index file
	unsynced  bool   // written to since the last sync, if commits do not sync

	goneDirty bool // goneRanges is out of date
	goneSeqs  []byte

	tail int64 // the committer's: where the next record goes
	safe int64 // the committer's: bytes before it are durable
	err  error // the committer's: the segment failed and takes no more records
}

// handle is an open file that closes with its last user.
type handle struct {
	File
	users int
}

func (g *segment) tally(class uint16) *tally {
	for i := range g.tallies {
		if g.tallies[i].class == class {
			return &g.tallies[i]
		}
	}
	top := int32(math.MaxInt32)
	g.tallies = append(g.tallies, tally{class: class, lo: [2]int32{top, top}})
	return &g.tallies[len(g.tallies)-1]
}

// find returns the index of a sequence among the entries, or -1.
func (g *segment) find(seq uint64) int {
	if seq < g.base || seq-g.base > math.MaxUint32 {
		return -1
	}
	want := uint32(seq - g.base) // checked above
	i := sort.Search(len(g.entries), func(i int) bool { return g.entries[i].seq >= want })
	if i == len(g.entries) || g.entries[i].seq != want {
		return -1
	}
	return i
}

// firstHeld returns the index of the oldest held record, or -1.
func (g *segment) firstHeld() int {
	for ; g.first < len(g.entries); g.first++ {
		if g.entries[g.first].state != gone {
			return g.first
		}
	}
	return -1
}

// oldest returns the sequence of the oldest held record, and the tick at which it was committed.
func (g *segment) oldest() (seq uint64, arrived uint32, ok bool) {
	if g.paged != nil {
		return g.paged.floor, g.paged.arrived, true
	}
	i := g.firstHeld()
	if i < 0 {
		return 0, 0, false
	}
	return g.seq(i), g.entries[i].arrived, true
}

func (g *segment) seq(i int) uint64 { return g.base + uint64(g.entries[i].seq) }

// goneRanges encodes which of the segment's sequences are gone, as pairs: the distance to the first and the length of each run. A run may include
// sequences of other lanes.
func (g *segment) goneRanges() []byte {
	if !g.goneDirty || g.paged != nil {
		return g.goneSeqs
	}
	g.goneDirty = false
	g.goneSeqs = g.goneSeqs[:0]
	at := g.base
	for i := 0; i < len(g.entries); {
		if g.entries[i].state != gone {
			i++
			continue
		}
		from := i
		for i < len(g.entries) && g.entries[i].state == gone {
			i++
		}
		lo, hi := g.seq(from), g.seq(i-1)
		g.goneSeqs = binary.AppendUvarint(g.goneSeqs, lo-at)
		g.goneSeqs = binary.AppendUvarint(g.goneSeqs, hi-lo)
		at = hi
	}
	return g.goneSeqs
}

// lane is the log of one priority.
type lane struct {
	segs   []*segment // ascending by id and so by sequence: those with held records, and the one written to
	queues []*queue   // by index of the class, nil if the lane has none of it
}

// queue counts the pending records of one class in one lane, by kind.
type queue struct {
	class *class
	pend  [2]int
	bytes [2]int64
	old   bool // its backlog is that of an outage: fresh records overtake it until it is empty
}

// class holds the counters of one class over all lanes.
type class struct {
	index          uint16
	name           string
	appended, done uint64
	held           uint64
	heldBytes      int64
	dropped        map[string]uint64
	used           uint64 // generation of the latest state when a record was added or ended: a later state on disk includes all of them
}

// segment returns the lane's segment that may contain the sequence.
func (l *lane) segment(seq uint64) *segment {
	i := sort.Search(len(l.segs), func(i int) bool { return l.segs[i].base > seq })
	if i == 0 {
		return nil
	}
	return l.segs[i-1]
}

func (l *lane) remove(g *segment) {
	if i := slices.Index(l.segs, g); i >= 0 {
		l.segs = slices.Delete(l.segs, i, i+1)
	}
}

func (l *lane) queue(c *class) *queue {
	for len(l.queues) <= int(c.index) {
		l.queues = append(l.queues, nil)
	}
	if l.queues[c.index] == nil {
		l.queues[c.index] = &queue{class: c}
	}
	return l.queues[c.index]
}
