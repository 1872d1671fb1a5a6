// Package quarantine keeps what could not be taken as an event, for people who look for a fault: the latest payloads in memory, and, where
// a folder is configured, on disk (folder.go).
package quarantine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
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
