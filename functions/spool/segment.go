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

// segmentHeader is what the first bytes of a segment say.
type segmentHeader struct {
	lane    int
	flags   uint8
	rev     uint32 // how often the segment was rewritten
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

// seed starts every checksum of the segment's records.
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

// laterVersion fails where a copy is whole and of a format that came later.
func laterVersion(b []byte) error {
	for ; len(b) >= copySize; b = b[copySize:] {
		if wholeCopy(b[:copySize]) && b[8] != segmentVersion {
			return fmt.Errorf("%w: format %d, this one reads %d", errLater, b[8], segmentVersion)
		}
	}
	return nil
}

func wholeCopy(b []byte) bool {
	return bytes.HasPrefix(b, []byte(segmentMagic)) && binary.LittleEndian.Uint32(b[copySize-4:]) == crc32.Checksum(b[:copySize-4], castagnoli)
}

// parseSegmentHeader reads the first intact copy.
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

// state is where a record stands.
type state uint8

const (
	gone       state = iota // done or dropped
	live                    // to be taken from the ring
	backlog                 // to be taken from disk
	leasedLive              // taken, and still in the ring
	leased                  // taken, no longer or never in the ring
	locked                  // not to be taken: the segment's key is missing
)

// kind says which of the two sources a pending record counts for, -1 for a record that is not pending.
func (st state) kind() int {
	switch st {
	case live:
		return 0
	case backlog:
		return 1
	}
	return -1
}

// entry is the index of one record: 28 bytes of memory for each record of a segment that is not paged out.
type entry struct {
	off, size uint32 // in the segment's file, header included
	seq       uint32 // above the segment's base
	due       uint32 // tick of the spool's clock at which it expires, 0 never
	came      uint32 // tick of the spool's clock at which it was committed, or released by its holder
	score     float32
	class     uint16 // index into the spool's classes
	state     state
	parked    bool // leased by Hold, and not yet released
}

// tally counts one class within one segment, so that Take walks over no segment in vain, and within one only between
// lo and hi, outside of which nothing of the class is pending.
type tally struct {
	class  uint16
	pend   [2]int32
	bytes  [2]int64
	lo, hi [2]int32
	came   uint32 // tick at which the first that is to be read from disk came, as of the last look or of paging out
}

// segment is one file of a lane's log. All but the fields of its writer belong to the spool's mutex.
type segment struct {
	segmentHeader
	sum       uint32 // seed of the checksums
	aead      cipher.AEAD
	locked    bool // aead is wanted and missing
	retired   bool // nothing of it is held: it has left its lane and waits for its burial
	h         *handle
	size      int64 // of the file
	end       int64 // after the last committed record
	sealed    bool  // nothing is appended any more
	entries   []entry
	paged     *summary // the entries are on disk alone; nil where they are in memory
	used      bool     // somebody wanted the entries since the keeper last looked
	indexed   bool     // the index file on disk is that of the segment as it is
	tallies   []tally
	held      int
	heldBytes int64
	first     int    // no entry before it is held
	due       uint32 // no entry is due before, 0 when none ever is
	low       int    // the pending record with the lowest score, where lowOK
	lowOK     bool
	holes     []hole // damaged places that were dealt with
	indexSize int64  // of its index file
	unsynced  bool   // written to since the last sync, where commits do not sync

	goneDirty bool // goneRanges is out of date
	goneSeqs  []byte

	tail int64 // the committer's: where the next record goes
	safe int64 // the committer's: what lies before is durable
	err  error // the committer's: the segment failed and takes no more
}

// handle is an open file that closes when the last user lets go.
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
	g.tallies = append(g.tallies, tally{class: class, lo: [2]int32{top, top}, hi: [2]int32{-1, -1}})
	return &g.tallies[len(g.tallies)-1]
}

// find is the position of a sequence among the entries, -1 where it is not.
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

// firstHeld is the position of the oldest record held, -1 without one.
func (g *segment) firstHeld() int {
	for ; g.first < len(g.entries); g.first++ {
		if g.entries[g.first].state != gone {
			return g.first
		}
	}
	return -1
}

// oldest is the sequence of the oldest record held, and the tick at which it came.
func (g *segment) oldest() (seq uint64, came uint32, ok bool) {
	if g.paged != nil {
		return g.paged.floor, g.paged.came, true
	}
	i := g.firstHeld()
	if i < 0 {
		return 0, 0, false
	}
	return g.seq(i), g.entries[i].came, true
}

func (g *segment) seq(i int) uint64 { return g.base + uint64(g.entries[i].seq) }

// goneRanges encodes which of the segment's sequences are gone, as pairs of the distance to the first and the length of each
// run. Runs span whatever other lanes hold in between.
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
	segs   []*segment // ascending by id and so by sequence; those with records held, and the one written to
	queues []*queue   // by index of the class, nil where the lane has none
}

// queue counts what can be taken of one class in one lane, by kind.
type queue struct {
	class *class
	pend  [2]int
	bytes [2]int64
	old   bool // its backlog is that of an outage: fresh records pass it until it is empty
}

// class counts one class over all lanes.
type class struct {
	index          uint16
	name           string
	appended, done uint64
	held           uint64
	heldBytes      int64
	dropped        map[string]uint64
	used           uint64 // generation of the state that was the latest when a record came or went: a later one on disk knows what became of all
}

// segment finds the lane's segment that may hold the sequence.
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
