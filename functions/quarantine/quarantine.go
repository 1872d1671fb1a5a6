// Package quarantine keeps what could not be taken as an event, for people who look for a fault: the latest payloads in memory, and, where
// a folder is configured, on disk.
package quarantine

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/intake/parse"
)

// maxText is how many bytes of a detail, topic or content type are kept.
const maxText = 512

// Quarantine keeps what could not be taken as an event: the latest in memory for the API, and, where a folder is
// configured, on disk. Both are bounded, the oldest go first. Add does not wait for the disk; what the disk cannot keep
// up with is counted. It is safe for concurrent use.
type Quarantine struct {
	maxEntries, maxBytes int
	folder               *folder // nil without one

	mu      sync.Mutex
	entries []Rejected // oldest first
	bytes   int
	next    uint64
	counts  map[string]uint64
	notice  func(Rejected) // may be nil
	noticed map[string]time.Time
}

// noticeEvery is the shortest time between two notices of one reason: a device that sends rubbish sends it with each message.
const noticeEvery = 10 * time.Minute

// OnNotice has f called for the first payload of each reason, and again once in a while. f must not call the quarantine.
func (q *Quarantine) OnNotice(f func(Rejected)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notice = f
}

// Bounds are how much is kept; see intake.Config, which has them as Quarantine….
type Bounds struct {
	Entries, KiB int    // in memory
	Dir          string // "" writes none
	DirMiB       int
}

// New makes the folder where one is configured, and fails if it cannot be written to.
func New(b Bounds) (*Quarantine, error) {
	q := &Quarantine{maxEntries: b.Entries, maxBytes: b.KiB << 10, counts: map[string]uint64{}, noticed: map[string]time.Time{}}
	if b.Dir == "" {
		return q, nil
	}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the quarantine's folder %q (Intake.QuarantineDir): %w", b.Dir, err)
	}
	f, err := openFolder(b.Dir, int64(b.DirMiB)<<20, int64(max(q.maxBytes, folderBytes)))
	if err != nil {
		return nil, fmt.Errorf("reading the quarantine's folder %q (Intake.QuarantineDir): %w", b.Dir, err)
	}
	q.folder = f
	return q, nil
}

// Add sets a payload aside and counts it under the error's reason; an error that is no *parse.RejectError counts as malformed.
// The payload is copied.
func (q *Quarantine) Add(topic, contentType string, payload []byte, cause error) {
	entry := Rejected{Time: time.Now(), Reason: parse.ReasonMalformed, Detail: cause.Error(), Topic: topic, ContentType: contentType, Size: len(payload)}
	var rejected *parse.RejectError
	if errors.As(cause, &rejected) {
		entry.Reason, entry.Detail, entry.Size = rejected.Reason, rejected.Detail, max(entry.Size, rejected.Size)
	}
	entry.Detail, entry.Topic, entry.ContentType = check.Cut(entry.Detail, maxText), check.Cut(topic, maxText), check.Cut(contentType, maxText)
	entry.Payload = append([]byte(nil), payload[:min(len(payload), q.maxBytes)]...)
	q.mu.Lock()
	q.next++
	entry.ID = q.next
	q.counts[entry.Reason]++
	q.keep(entry)
	notice := q.notice
	if entry.Time.Sub(q.noticed[entry.Reason]) >= noticeEvery {
		q.noticed[entry.Reason] = entry.Time
	} else {
		notice = nil
	}
	q.mu.Unlock()
	if notice != nil {
		notice(entry)
	}
	if q.folder != nil {
		q.folder.offer(entry)
	}
}

// keep adds to the memory and makes room there. The lock is held.
func (q *Quarantine) keep(entry Rejected) {
	if q.maxEntries == 0 {
		return
	}
	q.entries = append(q.entries, entry)
	q.bytes += entry.bytes()
	out := 0
	for len(q.entries)-out > q.maxEntries || q.bytes > q.maxBytes && len(q.entries)-out > 1 {
		q.bytes -= q.entries[out].bytes()
		q.entries[out] = Rejected{} // the payload must not live on behind the slice
		out++
	}
	q.entries = q.entries[out:]
}

// List is what is in memory, the latest first.
func (q *Quarantine) List() []Rejected {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := append([]Rejected{}, q.entries...) // no entries are an empty list in JSON
	slices.Reverse(list)
	return list
}

// Counts is how many payloads were ever set aside, by reason.
func (q *Quarantine) Counts() map[string]uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.counts)
}

// Unwritten is how many payloads did not reach the folder, because the disk was too slow or refused.
func (q *Quarantine) Unwritten() uint64 {
	if q.folder == nil {
		return 0
	}
	return q.folder.unwritten.Load()
}

// Close writes out what is still on its way to the folder. What is added afterwards stays in memory.
func (q *Quarantine) Close() error {
	if q.folder == nil {
		return nil
	}
	return q.folder.close()
}

const (
	folderQueue  = 64      // payloads on their way to the disk,
	folderBytes  = 4 << 20 // and their bytes, where Intake.QuarantineKiB is not more
	folderSuffix = ".rejected.json"
)

// folder is the quarantine's place on disk: one JSON file a payload, whose name begins with the time so that names sort
// by age. One goroutine owns it.
type folder struct {
	dir       string
	maxBytes  int64
	queue     chan Rejected
	maxQueued int64        // bytes that wait for the disk, but for a single payload
	queued    atomic.Int64 // bytes that wait or are being written
	stop      chan struct{}
	done      chan struct{}
	unwritten atomic.Uint64

	files  []folderFile // oldest first
	bytes  int64
	err    error // of the last write that failed
	closed sync.Once
}

type folderFile struct {
	name string
	size int64
}

func openFolder(dir string, maxBytes, maxQueued int64) (*folder, error) {
	f := &folder{dir: dir, maxBytes: maxBytes, maxQueued: maxQueued, queue: make(chan Rejected, folderQueue), stop: make(chan struct{}), done: make(chan struct{})}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries { // sorted by name
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(entry.Name(), folderSuffix) {
			continue
		}
		f.files = append(f.files, folderFile{entry.Name(), info.Size()})
		f.bytes += info.Size()
	}
	go f.run()
	return f, nil
}

// offer hands a payload over, unless the disk is behind by too many payloads or bytes.
func (f *folder) offer(entry Rejected) {
	size := int64(entry.bytes())
	if total := f.queued.Add(size); total > size && total > f.maxQueued {
		f.queued.Add(-size)
		f.unwritten.Add(1)
		return
	}
	select {
	case f.queue <- entry:
	default:
		f.queued.Add(-size)
		f.unwritten.Add(1)
	}
}

func (f *folder) run() {
	defer close(f.done)
	for {
		select {
		case entry := <-f.queue:
			f.try(entry)
		case <-f.stop:
			for {
				select {
				case entry := <-f.queue:
					f.try(entry)
				default:
					return
				}
			}
		}
	}
}

func (f *folder) try(entry Rejected) {
	defer f.queued.Add(-int64(entry.bytes()))
	if err := f.write(entry); err != nil {
		f.unwritten.Add(1)
		f.err = err
	}
}

// write adds one file. Losing the latest to a power cut is accepted here: the payloads are for people who look for a
// fault, and the flash lives longer without a sync for each.
func (f *folder) write(entry Rejected) error {
	body, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	size := int64(len(body))
	if size > f.maxBytes {
		return fmt.Errorf("a payload of %d bytes is over Intake.QuarantineDirMiB", size)
	}
	if err := f.makeRoom(size); err != nil {
		return err
	}
	name := fmt.Sprintf("%020d-%06d-%s%s", entry.Time.UnixNano(), entry.ID, entry.Reason, folderSuffix)
	if err := os.WriteFile(filepath.Join(f.dir, name), body, 0o600); err != nil {
		_ = os.Remove(filepath.Join(f.dir, name)) // a full disk leaves a part of it, or its name
		return err
	}
	f.files = append(f.files, folderFile{name, size})
	f.bytes += size
	return nil
}

func (f *folder) makeRoom(size int64) error {
	for f.bytes+size > f.maxBytes { // there are files, since size alone is not more
		oldest := f.files[0]
		if err := os.Remove(filepath.Join(f.dir, oldest.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		f.files = slices.Delete(f.files, 0, 1)
		f.bytes -= oldest.size
	}
	return nil
}

func (f *folder) close() error {
	f.closed.Do(func() { close(f.stop) })
	<-f.done
	return f.err
}

// Rejected is a payload that was set aside.
type Rejected struct {
	ID          uint64    `json:"id"` // ascending from 1 since the start
	Time        time.Time `json:"time"`
	Reason      string    `json:"reason"`
	Detail      string    `json:"detail"` // like topic and content type at most 512 bytes; the rest is cut
	Topic       string    `json:"topic"`  // on which it came, "" where the trigger does not report it
	ContentType string    `json:"contentType"`
	Size        int       `json:"size"`    // of the payload as it came
	Payload     []byte    `json:"payload"` // its beginning, as much as the bounds allow
}

func (r *Rejected) bytes() int {
	return len(r.Payload) + len(r.Detail) + len(r.Topic) + len(r.ContentType)
}
