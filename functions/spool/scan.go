package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// found is a segment as read from disk.
type found struct {
	segmentHeader
	size      int64
	end       int64
	entries   []entry
	names     []string // of the classes, entry.class points into it
	indexed   bool     // the entries come from the index file; no payload was read
	indexSize int64    // of that file
	torn      int64    // bytes of an incomplete last commit
	damage    []damage
}

// damage is a place in a segment without an intact record.
type damage struct {
	Damage
	bytes  []byte
	last   uint64 // the sequence before it
	proven bool   // its bytes were durable; otherwise a power cut may have left them from an incomplete commit
}

// scanner walks through the bytes of a segment.
type scanner struct {
	*found
	b      []byte
	seed   uint32
	names  map[string]uint16
	last   uint64
	synced int64 // bytes before it were durable, according to later records
	open   []damage
	unread []unread
}

// scan reads a segment's records from its bytes. sealed means that the segment was complete, so a record that is not intact is damaged. Otherwise
// bytes after the last intact record are the torn end of the log, unless they could not be read.
func scan(f *found, b []byte, unread []unread, sealed bool) {
	sc := &scanner{found: f, b: b, seed: f.seed(), names: map[string]uint16{}, synced: dataStart, unread: unread}
	if f.base > 0 {
		sc.last = f.base - 1
	}
	at := min(dataStart, len(b))
	f.end = int64(at)
	for at < len(b) {
		next := sc.step(at)
		if next < 0 {
			break
		}
		at = next
	}
	sc.finish(at, sealed)
}

// step processes the bytes at the offset and returns the offset of the next record, -1 at the end.
func (sc *scanner) step(at int) int {
	h, _, ok, err := parseRecord(sc.b[at:], sc.seed)
	if ok && h.seq <= sc.last {
		ok = false
	}
	if ok && err != nil {
		sc.open = append(sc.open, sc.lost(at, h.size(), &h, "payload: "+err.Error()))
		return at + h.size()
	}
	if ok {
		return sc.take(at, &h)
	}
	if head, mended := heal(sc.b[at:], sc.seed); mended {
		h, _ = parseHeader(head, sc.seed)
		if h.seq > sc.last {
			return sc.take(at, &h)
		}
	}
	next := resync(sc.b, at+1, sc.seed, sc.last)
	if next > 0 {
		sc.open = append(sc.open, sc.lost(at, next-at, nil, "header: "+errDamaged.Error()))
	}
	return next
}

// resync returns the position of the next intact header at or after from whose sequence is above last, or -1.
func resync(b []byte, from int, seed uint32, last uint64) int {
	for from < len(b) {
		i := bytes.Index(b[from:], []byte(recordMagic))
		if i < 0 {
			return -1
		}
		h, ok := parseHeader(b[from+i:], seed)
		if ok && h.seq > last && h.size() <= len(b)-from-i {
			return from + i
		}
		from += i + 1
	}
	return -1
}

// take adds an intact record. Damage before it is now certain, not a torn end.
func (sc *scanner) take(at int, h *header) int {
	sc.damage = append(sc.damage, sc.open...)
	sc.open = sc.open[:0]
	class, known := sc.names[string(h.class)]
	if !known && len(sc.found.names) < math.MaxUint16 {
		class = uint16(len(sc.found.names))
		sc.names[string(h.class)] = class
		sc.found.names = append(sc.found.names, string(h.class))
	}
	sc.entries = append(sc.entries, entry{
		off: uint32(at), size: uint32(h.size()), seq: uint32(h.seq - sc.base), // a segment is below 4 GiB
		due: storedDue(h), arrived: h.clock, score: h.score, class: class,
	})
	sc.last = h.seq
	sc.synced = max(sc.synced, int64(h.synced))
	sc.end = int64(at + h.size())
	return at + h.size()
}

// storedDue is due for a record read from disk.
func storedDue(h *header) uint32 {
	if h.expires == 0 {
		return 0
	}
	return dueAfter(time.Duration(h.expires-h.time), time.Duration(h.clock)*tickLength)
}

func (sc *scanner) lost(at, n int, h *header, reason string) damage {
	d := damage{last: sc.last, bytes: bytes.Clone(sc.b[at : at+n])}
	d.Damage = Damage{File: sc.name(), Offset: int64(at), Length: int64(n), Lane: sc.lane, Reason: reason}
	if h != nil {
		d.Seq, d.Class = h.seq, string(h.class)
	}
	return d
}

// finish classifies the end: bytes that were durable and are not intact are damage, the rest is torn.
func (sc *scanner) finish(at int, sealed bool) {
	from, to := int64(at), int64(at+len(recordMagic))
	if bytes.HasPrefix(sc.b[at:], []byte(recordMagic)) {
		to = int64(at + headerSize + maxClass)
	}
	if len(sc.open) > 0 {
		from = sc.open[0].Offset
	}
	for _, u := range sc.unread {
		if u.from < to && u.to > from { // a durable record may have been there
			sc.synced = max(sc.synced, u.to)
		}
	}
	for _, d := range sc.open {
		if sealed || d.Offset < sc.synced {
			sc.damage = append(sc.damage, d)
			sc.end = d.Offset + d.Length
		} else {
			sc.torn += d.Length
		}
	}
	if end := int64(len(sc.b)); int64(at) < sc.synced && sc.synced <= end {
		n := int(sc.synced) - at
		sc.damage = append(sc.damage, sc.lost(at, n, nil, "header: "+errDamaged.Error()))
		sc.end = sc.synced
	}
	for i := range sc.damage {
		d := &sc.damage[i]
		d.proven = sealed || d.Offset < sc.synced
		if !d.proven {
			d.Reason += ", or its commit was not finished"
		}
	}
}

// loader reads segments from a directory without changing anything.
type loader struct {
	fs     FS
	dir    string
	rescan bool
	lost   bool // the state is lost: a header of zeros does not prove that no commit was finished
	weak   bool // a crash under a weaker sync policy: records known to the state may not have reached the disk
}

var errNoHeader = errors.New("neither copy of the segment's header is intact")

// errUnread reports that the header cannot be read. If the state could be read, other parts of the disk can.
var errUnread = errors.New("the segment's header cannot be read")

// errUnused reports a file that was about to become a segment but never did. It contains no record.
var errUnused = errors.New("segment was never written to")

// load reads one segment. saved is the state's entry of it, or nil. A later segment proves nothing about the end of this one: one commit may have
// written to both.
func (l *loader) load(lane int, id uint64, saved *savedSegment) (*found, error) {
	file, err := l.fs.Open(l.dir+"/"+segmentName(lane, id), false)
	if err != nil {
		return nil, fmt.Errorf("opening segment %s: %w", segmentName(lane, id), err)
	}
	f, err := l.read(file, lane, id, saved)
	return f, errors.Join(err, file.Close())
}

func (l *loader) read(file File, lane int, id uint64, saved *savedSegment) (*found, error) {
	f := &found{}
	var err error
	if f.size, err = file.Size(); err != nil {
		return nil, fmt.Errorf("reading segment %s: %w", segmentName(lane, id), err)
	}
	head, _, err := readAround(file, min(f.size, dataStart)) // retries piece by piece
	if err != nil {
		return f, fmt.Errorf("reading segment %s: %w: %w", segmentName(lane, id), errUnread, err)
	}
	if err := laterVersion(head); err != nil {
		return f, fmt.Errorf("reading segment %s: %w", segmentName(lane, id), err)
	}
	var ok bool
	if f.segmentHeader, ok = parseSegmentHeader(head); !ok {
		if blank(head) && !(l.lost && l.written(file, f.size)) {
			return f, errUnused
		}
		return f, errNoHeader
	}
	if f.lane != lane || f.id != id {
		return f, errUnused
	}
	limit, sealed := f.size, false
	if saved != nil && saved.end > 0 {
		limit, sealed = min(limit, saved.end), !l.weak
	}
	if x := l.index(f, limit); x != nil {
		f.entries, f.names, f.end, f.indexed, f.indexSize = x.entries, x.classes, x.end, true, x.size
		return f, nil
	}
	b, unread, err := readAround(file, limit)
	if err != nil {
		return f, fmt.Errorf("reading segment %s: %w", segmentName(lane, id), err)
	}
	scan(f, b, unread, sealed)
	return f, nil
}

// written reports whether anything but zeros follows the header, or cannot be read.
func (l *loader) written(file File, size int64) bool {
	b, bad, err := readAround(file, min(size, 64<<10))
	return err != nil || len(bad) > 0 || !blank(b)
}

func blank(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// index reads the segment's index, or returns nil if it is missing, damaged, or does not match the segment.
func (l *loader) index(f *found, limit int64) *indexed {
	if l.rescan {
		return nil
	}
	file, err := l.fs.Open(l.dir+"/"+indexName(f.lane, f.id), false)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }() // read only
	size, err := file.Size()
	if err != nil {
		return nil
	}
	b, err := readUpTo(file, size)
	if err != nil {
		return nil
	}
	x, err := decodeIndex(b, &f.segmentHeader)
	if err != nil || x.end > limit {
		return nil
	}
	x.size = size
	return x
}

// readUpTo reads the first n bytes of a file, or fewer if it ends.
func readUpTo(f File, n int64) ([]byte, error) {
	b := make([]byte, n)
	k, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:k], err
}

// segmentFiles returns the segments among the names, by lane and number.
func segmentFiles(names []string) []fileID {
	var ids []fileID
	for _, n := range names {
		if id, ok := parseSegmentName(n); ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b fileID) int { return cmp.Or(cmp.Compare(a.lane, b.lane), cmp.Compare(a.id, b.id)) })
	return ids
}

func parseSegmentName(name string) (fileID, bool) {
	lane, id, ok := strings.Cut(strings.TrimSuffix(name, ".seg"), "-")
	if !ok || !strings.HasSuffix(name, ".seg") || len(lane) != 1 || lane[0] < '0' || lane[0] > '9' {
		return fileID{}, false
	}
	n, err := strconv.ParseUint(id, 16, 64)
	return fileID{int(lane[0] - '0'), n}, err == nil && len(id) == 16
}
