// Package desk receives the results that the cloud sends, and publishes their answers on the MessageBus.
//
// A result is checked, published if its answer was not published before, recorded in a file, and then confirmed, so that the cloud stops publishing
// it. The cloud sends an unconfirmed result again: a result that finds no room, or whose answer the bus does not accept, is dropped and counted. Each
// answer is published once; after a kill between the publish and the record, or after a power cut, once more with the same id.
//
// Take does not block. Memory and the file are bounded: the answers of maxSeen results or slightly more are remembered.
package desk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"app-offload/functions/answer"
	"app-offload/functions/atomicfile"
	"app-offload/functions/check"
	"app-offload/functions/say"
	"app-offload/functions/seal"
)

const (
	maxQueue = 1024     // maximum number of waiting results
	maxBytes = 16 << 20 // maximum size of their payloads
	together = 64       // results confirmed with one message

	firstPause  = 100 * time.Millisecond // before the bus is tried again; it doubles
	lastPause   = 5 * time.Second
	patience    = 30 * time.Second // with a bus that does not accept an answer; the cloud then sends the result again
	maxReason   = 120              // bytes
	reportEvery = 10 * time.Minute
)

// Deps are the dependencies of a desk.
type Deps struct {
	Dir     string                       // of the file that remembers published answers
	Publish func(*answer.Answer) error   // blocks until the bus has the answer, or fails; nil without a MessageBus: answers are then confirmed all the same
	Confirm func([]seal.ConfirmedResult) // informs the cloud; must not block
	Log     say.Logger
}

// Counts are a desk's counts since its start.
type Counts struct {
	Published int64 `json:"published"` // answers of the cloud published on the bus
	Repeated  int64 `json:"repeated"`  // results whose answer was already on the bus
	Refused   int64 `json:"refused"`   // answers that cannot become an event
	Failed    int64 `json:"failed"`    // results with an error instead of an answer
	Outcomes  int64 `json:"outcomes"`  // results without an answer of a model: they only settle their task
	Full      int64 `json:"full"`      // results dropped for lack of room; the cloud sends them again
	NoBus     int64 `json:"noBus"`     // answers confirmed without being published, as there is no MessageBus
	Bus       int64 `json:"bus"`       // results dropped because the bus did not accept their answer; likewise
}

// Desk publishes answers. It is safe for concurrent use.
type Desk struct {
	deps  Deps
	seen  *seen
	queue chan seal.Result
	bytes atomic.Int64
	stop  context.CancelFunc
	ended chan struct{}
	said  *say.Every

	mu     sync.Mutex
	counts Counts
}

// Open reads which answers were published before, and starts the goroutine that Close ends.
func Open(deps Deps) (*Desk, error) {
	s, err := openSeen(deps.Dir, maxSeen)
	if err != nil {
		return nil, err
	}
	d := &Desk{deps: deps, seen: s, queue: make(chan seal.Result, maxQueue), ended: make(chan struct{}), said: say.NewEvery(reportEvery)}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	go func() {
		defer close(d.ended)
		d.run(ctx)
	}()
	return d, nil
}

// Take queues a result. Without room the result is dropped: it is not confirmed, so the cloud sends it again.
func (d *Desk) Take(r seal.Result) {
	size := int64(len(r.Payload))
	if d.bytes.Add(size) <= maxBytes || size == 0 {
		select {
		case d.queue <- r:
			return
		default:
		}
	}
	d.bytes.Add(-size)
	d.count(func(c *Counts) { c.Full++ })
	d.report("full", "results of the cloud arrive faster than the MessageBus accepts them; the cloud sends them again")
}

// Counts returns the current counts.
func (d *Desk) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Close drops the queued results, which the cloud sends again, and returns when the current answer is published or dropped.
func (d *Desk) Close(ctx context.Context) error {
	d.stop()
	select {
	case <-d.ended:
		return d.seen.close()
	case <-ctx.Done():
		return fmt.Errorf("publishing an answer of the cloud: %w", ctx.Err())
	}
}

func (d *Desk) count(f func(*Counts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.counts)
}

func (d *Desk) report(kind, text string) {
	if n, due := d.said.Due(kind); due {
		d.deps.Log.Warnf("answers: %s: reason=%s count=%d (similar messages suppressed for %v)", text, kind, n, reportEvery)
	}
}

// run publishes one result after the other, and confirms those that were queued together with one message.
func (d *Desk) run(ctx context.Context) {
	var dealt []seal.ConfirmedResult
	for {
		var r seal.Result
		select {
		case <-ctx.Done():
			return
		case r = <-d.queue:
		}
		for more := true; more; {
			d.bytes.Add(-int64(len(r.Payload)))
			if c, ok := d.deal(ctx, &r); ok {
				dealt = append(dealt, c)
			}
			if len(dealt) == together || ctx.Err() != nil {
				break
			}
			select {
			case r = <-d.queue:
			default:
				more = false
			}
		}
		if len(dealt) > 0 {
			d.deps.Confirm(dealt)
			dealt = nil
		}
	}
}

// deal handles a result. It returns the confirmation for the cloud, and whether the result is settled.
func (d *Desk) deal(ctx context.Context, r *seal.Result) (c seal.ConfirmedResult, dealt bool) {
	c.ID = r.ID
	switch {
	case !r.OK:
		d.count(func(c *Counts) { c.Failed++ })
		d.report("failed", "the cloud has no answer: event="+check.Cut(r.EventID, 64)+" why="+check.Cut(r.Error, maxReason))
		return c, true
	case r.ContentType != answer.ContentType:
		d.count(func(c *Counts) { c.Outcomes++ })
		return c, true
	}
	a, err := read(r)
	if err != nil {
		d.count(func(c *Counts) { c.Refused++ })
		c.Refused = check.Cut(err.Error(), maxReason)
		d.report("refused", "an answer of the cloud cannot be published: event="+check.Cut(r.EventID, 64)+" why="+c.Refused)
		return c, true
	}
	if d.deps.Publish == nil {
		d.count(func(c *Counts) { c.NoBus++ })
		return c, true
	}
	id := a.ID()
	if d.seen.has(id) {
		d.count(func(c *Counts) { c.Repeated++ })
		return c, true
	}
	if err := d.publish(ctx, a); err != nil {
		d.count(func(c *Counts) { c.Bus++ })
		d.report("bus", fmt.Sprintf("the MessageBus does not accept an answer of the cloud, which sends it again: %v", err))
		return c, false
	}
	d.count(func(c *Counts) { c.Published++ })
	if err := d.seen.add(id); err != nil {
		d.report("file", fmt.Sprintf("cannot record published answers; after a restart answers may be published twice: %v", err))
	}
	return c, true
}

// read checks that the answer belongs to the result.
func read(r *seal.Result) (*answer.Answer, error) {
	a, err := answer.Decode(r.Payload)
	switch {
	case err != nil:
		return nil, err
	case a.EventID != r.EventID || a.Chunk != r.Chunk:
		return nil, errors.New("the answer and its result are of different tasks")
	case a.ComputedBy != answer.Cloud:
		return nil, errors.New("computedBy is not cloud")
	}
	return a, nil
}

// publish tries until the bus has the answer, the patience is over, or ctx ends.
func (d *Desk) publish(ctx context.Context, a *answer.Answer) error {
	began, pause := time.Now(), firstPause
	for {
		err := d.deps.Publish(a)
		if err == nil || time.Since(began) > patience {
			return err
		}
		again := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			again.Stop()
			return err
		case <-again.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// idSize is the size of an answer's id.
const idSize = len(uuid.UUID{})

// maxSeen is the number of answers that each of the two files remembers: together about 1.3 MB, and in memory 4 MB at most.
const maxSeen = 1 << 15

// seen remembers published answers over restarts. It appends to the newer of two files; when that is full the older one is emptied and takes its
// place. An entry is an id and its CRC-32; an entry left incomplete by a kill or a power cut is skipped. Nothing is synced, so a power cut may lose
// the latest entries. It belongs to one goroutine.
type seen struct {
	dir        string
	most       int
	file       *os.File // the newer one; nil before the first entry
	name       int      // its number, 0 or 1
	young, old map[uuid.UUID]struct{}
}

const entrySize = idSize + 4

func (s *seen) path(n int) string { return filepath.Join(s.dir, fmt.Sprintf("answers-%d", n)) }

func openSeen(dir string, most int) (*seen, error) {
	s := &seen{dir: dir, most: most}
	var sets [2]map[uuid.UUID]struct{}
	for n := range sets {
		var err error
		if sets[n], err = load(s.path(n), most); err != nil {
			return nil, fmt.Errorf("reading the published answers: %w", check.Access(err))
		}
	}
	// A full file is the older one. If neither is full the second one has just begun, or was never begun.
	s.young, s.old = sets[0], sets[1]
	if len(sets[0]) >= most || len(sets[1]) > 0 && len(sets[1]) < most {
		s.name, s.young, s.old = 1, sets[1], sets[0]
	}
	return s, nil
}

func load(path string, most int) (map[uuid.UUID]struct{}, error) {
	set := map[uuid.UUID]struct{}{}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return set, nil
	}
	if err == nil && info.Size() > int64(2*most*entrySize) {
		return set, os.Remove(path) // it grew because it could not be emptied
	}
	if err != nil {
		return nil, err
	}
	b, err := atomicfile.Read(path)
	if err != nil {
		return nil, err
	}
	for ; len(b) >= entrySize; b = b[entrySize:] {
		if crc32.ChecksumIEEE(b[:idSize]) == binary.BigEndian.Uint32(b[idSize:]) {
			set[uuid.UUID(b[:idSize])] = struct{}{}
		}
	}
	return set, nil
}

func (s *seen) has(id uuid.UUID) bool {
	_, young := s.young[id]
	_, old := s.old[id]
	return young || old
}

// add remembers an id, on an error in memory only. A full file is replaced immediately: after a restart with two full files it would be unknown which
// is the older.
func (s *seen) add(id uuid.UUID) error {
	s.young[id] = struct{}{}
	err := s.write(id)
	if len(s.young) >= s.most {
		err = errors.Join(err, s.turn())
	}
	return err
}

func (s *seen) write(id uuid.UUID) error {
	if s.file == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	entry := binary.BigEndian.AppendUint32(append(make([]byte, 0, entrySize), id[:]...), crc32.ChecksumIEEE(id[:]))
	if _, err := s.file.Write(entry); err != nil {
		return errors.Join(err, s.shut()) // reopened at a whole entry for the next one
	}
	return nil
}

// open continues the newer file after its last whole entry.
func (s *seen) open() error {
	f, err := os.OpenFile(s.path(s.name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return check.Access(err)
	}
	info, err := f.Stat()
	if err == nil {
		whole := info.Size() / int64(entrySize) * int64(entrySize)
		if err = f.Truncate(whole); err == nil {
			_, err = f.Seek(whole, 0)
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file = f
	return nil
}

// turn empties the older file and makes it the newer one.
func (s *seen) turn() error {
	s.name, s.young, s.old = 1-s.name, map[uuid.UUID]struct{}{}, s.young
	err := s.shut()
	if gone := os.Remove(s.path(s.name)); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

func (s *seen) shut() error {
	f := s.file
	if s.file = nil; f == nil {
		return nil
	}
	return f.Close()
}

func (s *seen) close() error { return s.shut() }
