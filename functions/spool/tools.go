package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"app-offload/functions/check"
)

// Report is the result of Inspect, Verify and Repair.
type Report struct {
	Epoch    string          `json:"epoch"`
	InUse    bool            `json:"inUse"`           // a process has the spool open: the newest data may be half written
	State    string          `json:"state"`           // "ok", "one slot damaged", or "lost"
	Saved    time.Time       `json:"saved"`           // when the state was written
	Next     uint64          `json:"next"`            // the next sequence, from the state
	Appended uint64          `json:"appended"`        // from the state
	Done     uint64          `json:"done"`            // from the state
	Held     int             `json:"held"`            // records found and not gone
	Bytes    int64           `json:"bytes"`           // of those
	Disk     int64           `json:"disk"`            // bytes of the segments
	Torn     int64           `json:"torn"`            // bytes of incomplete commits
	Locked   int             `json:"locked"`          // records whose key is unavailable; not verified
	Classes  map[string]int  `json:"classes"`         // held, by class
	Segments []SegmentReport `json:"segments"`        // by lane and age
	Damages  []Damage        `json:"damages"`         // new ones; those handled before are in the directory "quarantine"
	Kept     []string        `json:"kept,omitempty"`  // the files in "quarantine"
	Notes    []string        `json:"notes,omitempty"` // other anomalies
}

// SegmentReport describes one segment.
type SegmentReport struct {
	File    string `json:"file"`
	Lane    int    `json:"lane"`
	Records int    `json:"records"`
	Held    int    `json:"held"`
	First   uint64 `json:"first"` // the smallest sequence it may contain
	Bytes   int64  `json:"bytes"`
	Key     string `json:"key,omitempty"`
	Indexed bool   `json:"indexed"`
}

// Inspect reports the content of a spool's directory, without reading payloads if there is an index. It changes nothing, and works beside the running
// service and on a read-only disk.
func Inspect(dir string, opts ...Option) (*Report, error) {
	v, err := newViewer(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("inspecting spool %s: %w", dir, err)
	}
	err = v.each(func(*viewed) error { return nil })
	return &v.Report, err
}

// Verify reads every byte, checks every checksum, and decrypts records if it has the key. It changes nothing.
func Verify(dir string, opts ...Option) (*Report, error) {
	v, err := newViewer(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("verifying spool %s: %w", dir, err)
	}
	v.rescan = true
	err = v.each(func(g *viewed) error { return g.records(func(Record) error { return nil }) })
	return &v.Report, err
}

// Export calls each for every held and readable record, lane by lane from the highest, in order. It changes nothing; the records stay.
func Export(dir string, each func(Record) error, opts ...Option) (*Report, error) {
	v, err := newViewer(dir, opts)
	if err != nil {
		return nil, fmt.Errorf("exporting spool %s: %w", dir, err)
	}
	err = v.each(func(g *viewed) error { return g.records(each) })
	return &v.Report, err
}

// Repair does what Open does after a crash, but reads every byte: it quarantines damage, cuts torn ends, and rewrites state and indexes. It fails
// with ErrLocked while the service runs.
func Repair(dir string, opts ...Option) (*Report, error) {
	before, err := Verify(dir, opts...)
	if err != nil {
		return nil, err
	}
	cfg := DefaultConfig()
	cfg.QuotaMiB = 1 << 24 // nothing is appended, and spares of any size may be deleted
	s, err := Open(dir, cfg, append(opts, func(o *options) { o.rescan = true })...)
	if err != nil {
		return nil, fmt.Errorf("repairing: %w", err)
	}
	lost := s.Damages()
	if err := s.Close(); err != nil {
		return nil, fmt.Errorf("repairing: %w", err)
	}
	after, err := Inspect(dir, opts...)
	if err != nil {
		return nil, err
	}
	after.Damages, after.Torn = append(lost, before.forged()...), before.Torn
	return after, nil
}

// forged returns the damages found only by decryption, which Open leaves to the first Take.
func (r *Report) forged() []Damage {
	return slices.DeleteFunc(slices.Clone(r.Damages), func(d Damage) bool { return !strings.HasPrefix(d.Reason, reasonForged) })
}

// viewer reads a directory.
type viewer struct {
	loader
	Report
	keys  Keys
	state *savedState
	saved map[uint64]*savedSegment
	ids   []fileID
}

// viewed is one segment being read.
type viewed struct {
	*viewer
	*found
	held []entry
}

func newViewer(dir string, opts []Option) (*viewer, error) {
	o := options{fs: osFS{}}
	for _, f := range opts {
		f(&o)
	}
	dir = path.Clean(dir)
	names, err := o.fs.List(dir)
	if err != nil {
		return nil, err
	}
	v := &viewer{loader: loader{fs: o.fs, dir: dir}, keys: o.keys, saved: map[uint64]*savedSegment{}, ids: segmentFiles(names)}
	v.Classes = map[string]int{}
	if lock, err := o.fs.Lock(dir + "/lock"); err == nil {
		_ = lock.Close() // only a probe
	} else {
		v.InUse = errors.Is(err, ErrLocked)
	}
	for _, name := range slotNames {
		if f, err := o.fs.Open(dir+"/"+name, false); err == nil {
			_ = f.Close() // only a probe
		} else if errors.Is(err, fs.ErrPermission) {
			return nil, check.Access(err) // it exists and is not lost
		}
	}
	if err := v.readState(); err != nil {
		return nil, err
	}
	v.Kept, _ = o.fs.List(dir + "/" + quarantineDir) // it is missing in most spools
	slices.Sort(v.Kept)
	if len(v.ids) == 0 && v.state == nil {
		return nil, errors.New("no spool found")
	}
	return v, nil
}

func (v *viewer) readState() error {
	st, damaged, err := readState(v.fs, v.dir)
	v.state, v.State, v.lost = st, "ok", st == nil
	if damaged {
		v.State = "one slot damaged"
	}
	if st == nil {
		v.State = "lost"
		return err
	}
	v.Epoch, v.Next, v.Saved = st.epoch, st.next, time.Unix(0, st.at.Wall)
	for _, c := range st.classes {
		v.Appended += c.appended
		v.Done += c.done
	}
	for i := range st.segments {
		v.saved[st.segments[i].id] = &st.segments[i]
	}
	return err
}

// each reads the segments, highest lane first.
func (v *viewer) each(f func(*viewed) error) error {
	slices.SortStableFunc(v.ids, func(a, b fileID) int { return b.lane - a.lane })
	for _, id := range v.ids {
		saved := v.saved[id.id]
		if saved == nil && v.state != nil && id.id < v.state.nextID {
			continue // all its records are gone
		}
		seg, err := v.load(id.lane, id.id, saved)
		if err != nil {
			v.Notes = append(v.Notes, fmt.Sprintf("segment %s: %v", segmentName(id.lane, id.id), err))
			continue
		}
		g := &viewed{viewer: v, found: seg}
		g.count(saved)
		if err := f(g); err != nil {
			return err
		}
	}
	return nil
}

func (g *viewed) count(saved *savedSegment) {
	var ranges []byte
	var holes []hole
	if saved != nil {
		ranges, holes = saved.gone, saved.holes
	}
	walk := newGoneWalk(g.base, ranges)
	for i := range g.entries {
		if e := g.entries[i]; !walk.gone(g.base + uint64(e.seq)) {
			g.held = append(g.held, e)
			g.Bytes += int64(e.size)
			g.Classes[g.names[e.class]]++
		}
	}
	for i := range g.damage {
		d := &g.damage[i]
		if !slices.Contains(holes, hole{uint32(d.Offset), uint32(d.Length)}) { // a segment is below 4 GiB
			g.Damages = append(g.Damages, d.Damage)
		}
	}
	if g.Epoch == "" {
		g.Epoch = g.epoch
	}
	g.Held += len(g.held)
	g.Disk += g.size
	g.Torn += g.torn
	g.Segments = append(g.Segments, SegmentReport{
		File: g.name(), Lane: g.lane, Records: len(g.entries), Held: len(g.held), First: g.base, Bytes: g.size, Key: g.keyID, Indexed: g.indexed,
	})
}

// records reads the held records. It adds unreadable ones to the report.
func (g *viewed) records(each func(Record) error) error {
	aead, err := findKey(g.keys, &g.segmentHeader)
	if err != nil {
		g.Locked += len(g.held)
		g.Notes = append(g.Notes, err.Error())
		return nil
	}
	file, err := g.fs.Open(g.dir+"/"+g.name(), false)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only
	for _, e := range g.held {
		b := make([]byte, e.size)
		seq := g.base + uint64(e.seq)
		_, err := file.ReadAt(b, int64(e.off))
		var r Record
		if err == nil {
			r, err = decodeRecord(b, g.seed(), seq, aead)
		}
		if err != nil {
			g.Damages = append(g.Damages, Damage{
				File: g.name(), Offset: int64(e.off), Length: int64(e.size), Seq: seq, Lane: g.lane, Class: g.names[e.class], Reason: err.Error(),
			})
			continue
		}
		r.Lane = g.lane
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}
