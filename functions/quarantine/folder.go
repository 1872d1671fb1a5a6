package quarantine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

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
		if err != nil || !strings.HasSuffix(entry.Name(), folderSuffix) {
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
		return err
	}
	f.files = append(f.files, folderFile{name, size})
	f.bytes += size
	return nil
}

func (f *folder) makeRoom(size int64) error {
	for len(f.files) > 0 && f.bytes+size > f.maxBytes {
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
