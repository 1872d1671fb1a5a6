// Package quarantine keeps payloads that were rejected as events, for troubleshooting: the latest in memory and, if a folder is configured, on disk.
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

// maxText is the maximum length of a detail, topic or content type, in bytes.
const maxText = 512

// Quarantine keeps rejected payloads: the latest in memory for the API and, if a folder is configured, on disk. Both are bounded and discard the
// oldest first. Add does not wait for the disk; payloads that the disk cannot keep up with are counted. It is safe for concurrent use.
type Quarantine struct {
	maxEntries, maxBytes int
	folder               *folder // nil if not configured

	mu      sync.Mutex
	entries []Rejected // oldest first
	bytes   int
	next    uint64
	counts  map[string]uint64
	notice  func(Rejected) // may be nil
	noticed map[string]time.Time
}

// noticeEvery is the shortest interval between two notices of one reason: a faulty device sends an invalid payload with each message.
const noticeEvery = 10 * time.Minute

// OnNotice sets the function called for the first payload of each reason, and again at intervals. f must not call the quarantine.
func (q *Quarantine) OnNotice(f func(Rejected)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notice = f
}

// Bounds limit what is kept; see the fields Quarantine… of intake.Config.
type Bounds struct {
	Entries, KiB int    // in memory
	Dir          string // "" writes no files
	DirMiB       int
}

// New creates the folder if one is configured, and fails if it cannot be used.
func New(b Bounds) (*Quarantine, error) {
	q := &Quarantine{maxEntries: b.Entries, maxBytes: b.KiB << 10, counts: map[string]uint64{}, noticed: map[string]time.Time{}}
	if b.Dir == "" {
		return q, nil
	}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the quarantine's folder %q (Intake.QuarantineDir): %w", b.Dir, err)
	}
	f, err := openFolder(b.Dir, int64(b.DirMiB)<<20, int64(max(q.maxBytes, folderBytes)))
	if err != nil {
		return nil, fmt.Errorf("reading the quarantine's folder %q (Intake.QuarantineDir): %w", b.Dir, err)
	}
	q.folder = f
	return q, nil
}

// Add quarantines a payload and counts it under the error's reason; an error that is not a *parse.RejectError counts as malformed. It copies the
// payload.
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

// keep adds an entry in memory and discards old ones to make room. The caller holds the lock.
func (q *Quarantine) keep(entry Rejected) {
	if q.maxEntries == 0 {
		return
	}
	q.entries = append(q.entries, entry)
	q.bytes += entry.bytes()
	out := 0
	for len(q.entries)-out > q.maxEntries || q.bytes > q.maxBytes && len(q.entries)-out > 1 {
		q.bytes -= q.entries[out].bytes()
		q.entries[out] = Rejected{} // so that the payload can be collected
		out++
	}
	q.entries = q.entries[out:]
}

// List returns the entries in memory, the latest first.
func (q *Quarantine) List() []Rejected {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := append([]Rejected{}, q.entries...) // an empty list in JSON, not null
	slices.Reverse(list)
	return list
}

// Counts returns the number of payloads quarantined since the start, by reason.
func (q *Quarantine) Counts() map[string]uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.counts)
}

// Unwritten returns the number of payloads that did not reach the folder, because the disk was too slow or failed.
func (q *Quarantine) Unwritten() uint64 {
	if q.folder == nil {
		return 0
	}
	return q.folder.unwritten.Load()
}

// Close writes the payloads still queued for the folder. Payloads added afterwards stay in memory.
func (q *Quarantine) Close() error {
	if q.folder == nil {
		return nil
	}
	return q.folder.close()
}

const (
	folderQueue  = 64      // payloads queued for the disk,
	folderBytes  = 4 << 20 // and their bytes, unless Intake.QuarantineKiB is more
	folderSuffix = ".rejected.json"
)

// folder is the quarantine on disk: one JSON file a payload. Names begin with the time, so that they sort by age. One goroutine owns it.
type folder struct {
	dir       string
	maxBytes  int64
	queue     chan Rejected
	maxQueued int64        // maximum bytes queued, unless a single payload is larger
	queued    atomic.Int64 // bytes queued or being written
	stop      chan struct{}
	done      chan struct{}
	unwritten atomic.Uint64

	files  []folderFile // oldest first
	bytes  int64
	err    error // of the latest failed write
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

// offer enqueues a payload, unless too many payloads or bytes are queued.
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

// write adds one file. It does not sync: the payloads are for troubleshooting, so losing the latest to a power cut is acceptable, and flash lasts
// longer.
func (f *folder) write(entry Rejected) error {
	body, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	size := int64(len(body))
	if size > f.maxBytes {
		return fmt.Errorf("a payload of %d bytes exceeds Intake.QuarantineDirMiB", size)
	}
	if err := f.makeRoom(size); err != nil {
		return err
	}
	name := fmt.Sprintf("%020d-%06d-%s%s", entry.Time.UnixNano(), entry.ID, entry.Reason, folderSuffix)
	if err := os.WriteFile(filepath.Join(f.dir, name), body, 0o600); err != nil {
		_ = os.Remove(filepath.Join(f.dir, name)) // on a full disk a partial or empty file remains
		return err
	}
	f.files = append(f.files, folderFile{name, size})
	f.bytes += size
	return nil
}

func (f *folder) makeRoom(size int64) error {
	for f.bytes+size > f.maxBytes { // files exist, since size alone fits
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

// Rejected is a quarantined payload.
type Rejected struct {
	ID          uint64    `json:"id"` // ascending from 1 since the start
	Time        time.Time `json:"time"`
	Reason      string    `json:"reason"`
	Detail      string    `json:"detail"` // truncated to 512 bytes, like topic and content type
	Topic       string    `json:"topic"`  // topic of the message, "" if the trigger does not report it
	ContentType string    `json:"contentType"`
	Size        int       `json:"size"`    // of the payload as received
	Payload     []byte    `json:"payload"` // its beginning, as far as the bounds allow
}

func (r *Rejected) bytes() int {
	return len(r.Payload) + len(r.Detail) + len(r.Topic) + len(r.ContentType)
}
