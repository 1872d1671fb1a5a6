// Package spool stores records on disk, in lanes by priority, until they are done.
//
// Append stores records durably: one fdatasync serves all waiting calls. Take leases them, fresh records (Live) mostly from memory and those of an
// outage (Backlog) from disk. Done and Drop end records, Release ends leases. A record appended with Hold is leased from its commit on. A record
// stays until Done or Drop, across restarts and crashes; after them leased records are available again. A crash may return a record once more whose
// Done or Drop was called within the last AckInterval.
//
// Only Append waits for the disk: if more than PendingMiB is queued for the committer. No call waits for a consumer. All methods are safe for
// concurrent use. A damaged record affects no other: it is moved to the directory "quarantine", counted, and listed by Damages. A torn end of the
// log, as every power cut may leave, is cut off and is not damage.
//
// The spool's own clock counts ages and times to live. It follows the time since the machine booted. Across a reboot it follows the wall clock only
// if that was synchronised before and after, so that no step of the wall clock ages a record.
//
// Memory is bounded by the ring and the records in flight, not by the backlog: a segment whose records can all be read only from disk keeps a summary
// in memory and its entries in its index file (page.go). The strategy "dropLowestScore" is an exception, since it must find the lowest score of all:
// with it 28 bytes a record stay in memory while the spool is full.
//
// FORMAT.md describes the files. The files of the package, and the state that each owns:
//
//	types.go, config.go       the API; stats.go: counters, and the fate of a sequence
//	spool.go                  the Spool and its lock, which guards all state except as stated below
//	append.go                 admission: the limit and the strategies at it; commit.go: group commits, on a goroutine that owns the writing
//	take.go, ring.go          leases; the records still in memory
//	page.go                   the records that are only on disk
//	keeper.go                 the goroutine for upkeep; roll.go, relieve.go: segments opened, sealed and freed
//	history.go                fates of sequences, across restarts; epoch.go: the life of the spool
//	recover.go, restore.go    Open: scan.go reads the segments, quarantine.go keeps damage
//	state.go                  the saved state and the index files, their encoding, and the fates of recent sequences
//	record.go, segment.go     the layouts on disk, with encryption; no state
//	fs.go, osfs*.go           the file system; tools.go inspects and repairs a directory without opening it
package spool

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Spool is an open spool. Locks are taken in the order house, mu.
type Spool struct {
	dir    string
	opts   options
	fs     FS
	limits limits

	// house guards the files that the committer does not own: slots, spares, dying and rewritten segments
	house sync.Mutex
	slots [2]File

	mu       sync.Mutex
	work     *sync.Cond // there are records to commit, or the spool closes
	space    *sync.Cond // a commit finished
	waiting  []*appending
	pending  int64 // bytes in waiting and with the committer
	records  int   // in waiting
	closing  bool
	clean    bool // everything is committed and synced, and the next state is the last
	epoch    string
	origin   string // the first epoch; segments and history with it belong to this spool
	session  string
	leases   uint64 // number of times that all leases ended
	next     uint64
	reserved uint64
	counted  uint64
	nextID   uint64
	classes  []*class
	byName   map[string]*class
	lanes    [Lanes]lane
	held     uint64
	bytes    int64
	leased   int
	locked   int
	ready    [2]int // pending records, by kind
	ring     ring
	fates    fates
	history  history // its file is written while the house is held
	squeeze  int64   // a limit below the configured one, after disk or quota had no room for a segment; 0 means none
	refusal  int64   // bytes of the largest record that recently found no room
	disk     int64   // bytes of all files
	spares   []spare
	dying    []dying
	toIndex  []*segment
	hollow   []*segment // found without held records when their entries were read again
	found    []damage   // found when entries were read again, not yet reported
	unread   error      // why entries could not be read; nil once a read succeeds
	sweeps   int
	dirty    bool   // the state changed since the last checkpoint
	encoded  uint64 // generation of the last encoded state
	durable  uint64 // generation of the last durable state
	damages  []Damage
	kept     int64 // bytes in quarantine
	problem  string

	reportSince          time.Time // begin of the period in which damages are reported,
	reported, unreported int       // number of those reported, and not reported

	writers [Lanes]writer // the committer's
	placing int64         // bytes of the current commit already placed in segments; the committer's

	clockBase time.Duration
	opened    time.Duration // since the machine's start

	commits, syncs, written, refused, failed, diskFull, quarantined atomic.Uint64

	urgent  chan struct{} // the next commit must begin immediately: it is full, or the spool closes
	began   time.Time     // start of the latest commit; the committer's
	syncing time.Duration // duration of a sync, as a moving average; the committer's

	wake   chan struct{}
	kick   chan struct{}
	stop   chan struct{}
	group  sync.WaitGroup // the keeper
	comm   sync.WaitGroup // the committer
	lock   io.Closer
	folder File // detects that the folder was moved or removed
}

// limits is the configuration in the units of the code.
type limits struct {
	Config
	quota, segment, spare, slot, ring, pending, quarantine int64
	syncEvery, commitEvery, ackEvery                       time.Duration
}

// Close commits the appended records, saves the state, and closes the spool. The next Open makes leased records available again.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return nil
	}
	s.closing = true
	s.hurry()
	s.work.Broadcast()
	s.space.Broadcast()
	s.mu.Unlock()
	s.comm.Wait()
	close(s.stop)
	s.group.Wait()
	return s.shut()
}

// Wait returns a channel that signals that there may be new records to take. It holds at most one signal, so it is for one reader.
func (s *Spool) Wait() <-chan struct{} { return s.wake }

func (s *Spool) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tickLength is the resolution of the spool's clock.
const tickLength = 100 * time.Millisecond

func (s *Spool) clock() time.Duration { return s.clockBase + s.opts.clock.Booted() - s.opened }

func (s *Spool) tick() uint32 { return ticks(s.clock()) }

// since returns the time since a tick.
func (s *Spool) since(tick uint32) time.Duration {
	return max(s.clock()-time.Duration(tick)*tickLength, 0)
}

// ticks converts a duration to ticks, saturating after 13 years.
func ticks(d time.Duration) uint32 {
	return uint32(min(max(d/tickLength, 1), 1<<32-1))
}

// class returns the counters of a class, and creates them if needed.
func (s *Spool) class(name string) *class {
	c := s.byName[name]
	if c == nil {
		c = &class{index: uint16(len(s.classes)), name: name, dropped: map[string]uint64{}} // little more than maxClasses
		s.classes = append(s.classes, c)
		s.byName[name] = c
		s.dirty = true
	}
	return c
}

// rename reassigns the slot of a class without records to a new class, and reports whether there was one. A class with drops keeps its slot, since
// they are shown by class. The counters of the replaced class are added to the class without a name, which counts records with a damaged header.
func (s *Spool) rename(name string) bool {
	past := s.class("")
	i := slices.IndexFunc(s.classes, func(c *class) bool {
		here := c.dropped[ReasonHere] > 0
		return c != past && c.held == 0 && c.used < s.durable && (len(c.dropped) == 0 || here && len(c.dropped) == 1)
	})
	if i < 0 {
		return false
	}
	c := s.classes[i]
	past.appended += c.appended
	past.done += c.done
	if here := c.dropped[ReasonHere]; here > 0 {
		past.dropped[ReasonHere] += here
	}
	delete(s.byName, c.name)
	*c = class{index: c.index, name: name, dropped: map[string]uint64{}}
	s.byName[name] = c
	s.dirty = true
	return true
}

// move changes the state of a record and updates every count. No other function does so.
func (s *Spool) move(g *segment, i int, to state) {
	e := &g.entries[i]
	s.count(g, i, -1)
	e.state = to
	s.count(g, i, 1)
}

func (s *Spool) count(g *segment, i int, sign int) {
	e := &g.entries[i]
	if e.state == gone {
		return
	}
	c, n := s.classes[e.class], int64(sign)*int64(e.size)
	g.held += sign
	g.heldBytes += n
	s.held += uint64(sign) // wraps to a subtraction
	s.bytes += n
	c.held += uint64(sign) // wraps to a subtraction
	c.heldBytes += n
	switch e.state {
	case leased, leasedLive:
		s.leased += sign
	case locked:
		s.locked += sign
	default:
		s.countReady(g, i, sign)
	}
}

func (s *Spool) countReady(g *segment, i int, sign int) {
	e := &g.entries[i]
	k, n := e.state.kind(), int64(sign)*int64(e.size)
	s.ready[k] += sign
	q := s.lanes[g.lane].queue(s.classes[e.class])
	q.pend[k] += sign
	q.bytes[k] += n
	q.old = q.old && q.pend[1] > 0
	t := g.tally(e.class)
	t.pend[k] += int32(sign) // ±1
	t.bytes[k] += n
	if sign > 0 {
		g.lowOK = g.lowOK && g.entries[g.low].score <= e.score
		t.lo[k] = min(t.lo[k], int32(i)) // a segment has fewer records
		t.hi[k] = max(t.hi[k], int32(i)) // a segment has fewer records
	}
}

// end counts a record as done ("") or dropped, and forgets it. It retires the segment after its last record.
func (s *Spool) end(g *segment, i int, why string) {
	e := &g.entries[i]
	c, seq := s.classes[e.class], g.seq(i)
	c.used = s.encoded
	s.move(g, i, gone)
	s.ring.drop(seq)
	g.goneDirty = true
	s.dirty = true
	s.fates.add(seq, seq, s.drop(c, why))
	if len(s.fates.ranges) == s.limits.History+s.limits.History/2 {
		s.nudge()
	}
	if g.held == 0 && g.sealed {
		s.retire(g)
	}
}

// drop counts a drop and returns the fate. The number of distinct reasons is bounded, except for ReasonHere, which is not a loss.
func (s *Spool) drop(c *class, why string) string {
	if why == "" {
		c.done++
		return FateDone
	}
	if _, known := c.dropped[why]; !known && len(c.dropped) >= maxReasons && why != ReasonHere {
		why = "other"
	}
	c.dropped[why]++
	return fateOf(why)
}

func fateOf(why string) string {
	switch why {
	case ReasonExpired, ReasonQuarantined, ReasonHere:
		return why
	}
	return "dropped:" + why
}

const (
	maxReasons = 64
	maxClasses = 4096
)

// locate returns a held record. It searches segments in memory first, and reads no index for a record with a known fate.
func (s *Spool) locate(seq uint64) (*segment, int) {
	for l := range s.lanes {
		if g := s.lanes[l].segment(seq); g != nil {
			if i := g.find(seq); i >= 0 && g.entries[i].state != gone {
				return g, i
			}
		}
	}
	if s.fates.of(seq) != FateUnknown {
		return nil, -1
	}
	for l := range s.lanes {
		g := s.lanes[l].segment(seq)
		if g == nil || g.paged == nil || seq < g.paged.floor || seq > g.paged.last || !s.fetch(g) {
			continue
		}
		if i := g.find(seq); i >= 0 && g.entries[i].state != gone {
			return g, i
		}
	}
	return nil, -1
}

// report reports a background problem: to the caller's function whenever it changes, and in Stats until it ends.
func (s *Spool) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	fresh := text != s.problem && text != ""
	s.problem = text
	s.mu.Unlock()
	if fresh && s.opts.problem != nil {
		s.opts.problem(err)
	}
}

// inPlace fails if the folder is no longer at its path: the next start would not find records stored now.
func (s *Spool) inPlace() error { return s.folder.At(s.dir) }

func (s *Spool) path(name string) string { return s.dir + "/" + name }

// syncPoint names each place where the spool makes data durable, so that a test can omit one and verify that the power-cut test fails.
type syncPoint string

const (
	syncCommit      syncPoint = "data of a commit"
	syncRoll        syncPoint = "directory after a new segment"
	syncParent      syncPoint = "parent of a new directory"
	syncState       syncPoint = "state slot"
	syncSwap        syncPoint = "directory after that rename"
	syncRewrite     syncPoint = "rewritten segment before its rename"
	syncHistory     syncPoint = "block of the history"
	syncHistoryName syncPoint = "directory after a new history"
)

func (s *Spool) syncData(p syncPoint, f File) error {
	if s.opts.without == p {
		return nil
	}
	s.syncs.Add(1)
	return f.SyncData()
}

func (s *Spool) syncDir(p syncPoint, dir string) error {
	if s.opts.without == p {
		return nil
	}
	if err := s.fs.SyncDir(dir); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}

func (s *Spool) writeAt(f File, b []byte, at int64) error {
	_, err := f.WriteAt(b, at)
	s.written.Add(uint64(len(b)))
	return err
}

// nudge wakes the keeper.
func (s *Spool) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *Spool) writeFile(name string, b []byte) error {
	f, err := s.fs.Create(name)
	if err != nil {
		return err
	}
	err = errors.Join(s.writeAt(f, b, 0), f.Close())
	if err != nil {
		return errors.Join(err, ignoreMissing(s.fs.Remove(name)))
	}
	return nil
}
