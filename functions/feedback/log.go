package feedback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"app-offload/functions/decision"
	"app-offload/functions/say"
	"app-offload/functions/status"
)

// The files of the decision log: the current one, and the previous one.
const (
	decisionFile    = "decisions.jsonl"
	oldDecisionFile = "decisions.old.jsonl"
)

// decisionQueue is the maximum number of records that wait for the disk.
const decisionQueue = 1024

// decisionLog writes decisions with their outcomes to a folder, for off-line evaluation. It never blocks its callers: decisions that find its queue
// full, or cannot be written, are dropped and counted. A nil log accepts nothing.
type decisionLog struct {
	dir   string
	limit int64 // bytes of one file
	share float64
	queue chan decision.Entry
	ended chan struct{}
	log   say.Logger

	mu     sync.RWMutex // held for reading during an enqueue, so that the queue is not closed meanwhile
	closed bool

	written, dropped atomic.Uint64

	// Owned by the writer:
	file *os.File
	size int64
	line []byte
	once say.Once // problems
}

// openDecisionLog opens the log. The share of decisions is sampled by id.
func openDecisionLog(dir string, mib int, share float64, log say.Logger) (*decisionLog, error) {
	if dir == "" {
		return nil, nil
	}
	l := &decisionLog{
		dir: dir, limit: int64(mib) << 20 / 2, share: share, log: log,
		queue: make(chan decision.Entry, decisionQueue), ended: make(chan struct{}),
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("opening the decision log in Offload.DecisionLog = %q: %w", dir, err)
	}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("opening the decision log in Offload.DecisionLog = %q: %w", dir, err)
	}
	go l.run()
	return l, nil
}

// open continues the current file, after it truncates the partial line that a crash may have left.
func (l *decisionLog) open() error {
	f, err := os.OpenFile(filepath.Join(l.dir, decisionFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.size, err = wholeLines(f)
	if err == nil {
		err = f.Truncate(l.size)
	}
	if err == nil {
		_, err = f.Seek(l.size, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file = f
	return nil
}

// wholeLines returns the size of a file up to its last newline. No line is longer than decision.MaxRecord.
func wholeLines(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	tail := make([]byte, min(info.Size(), decision.MaxRecord))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return 0, err
	}
	return info.Size() - int64(len(tail)-1-bytes.LastIndexByte(tail, '\n')), nil
}

// offer enqueues a settled decision if it is in the sampled share.
func (l *decisionLog) offer(ring interface {
	Get(id uint64) (decision.Entry, bool)
}, id uint64,
) {
	if l == nil || !decision.Sampled(id, l.share) {
		return
	}
	e, ok := ring.Get(id)
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !ok || l.closed {
		l.dropped.Add(1)
		return
	}
	select {
	case l.queue <- e:
	default:
		l.dropped.Add(1)
	}
}

// run writes until the queue is closed and empty.
func (l *decisionLog) run() {
	defer close(l.ended)
	for e := range l.queue {
		err := l.write(&e)
		if err != nil {
			l.dropped.Add(1)
		} else {
			l.written.Add(1)
		}
		l.say(err)
	}
	l.say(l.file.Close())
}

// write leaves only whole lines in the file, even on a full disk.
func (l *decisionLog) write(e *decision.Entry) (err error) {
	if l.line, err = decision.AppendRecord(l.line[:0], e); err != nil {
		return err
	}
	if l.size+int64(len(l.line)) > l.limit {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if _, err := l.file.Write(l.line); err != nil {
		_, seek := l.file.Seek(l.size, io.SeekStart)
		return errors.Join(err, l.file.Truncate(l.size), seek)
	}
	l.size += int64(len(l.line))
	return nil
}

// rotate makes the current file the previous one. The old file stays in use until a new one is open.
func (l *decisionLog) rotate() error {
	err := os.Rename(filepath.Join(l.dir, decisionFile), filepath.Join(l.dir, oldDecisionFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is missing after an earlier attempt that failed below
		return err
	}
	full := l.file
	if err := l.open(); err != nil {
		return err
	}
	return full.Close()
}

// say logs a problem once until it changes or ends.
func (l *decisionLog) say(err error) {
	if l.once.Changed("write", err) {
		l.log.Warnf("writing the decision log failed, dropping and counting entries: error=%q", err)
	}
}

// close writes the pending entries, as long as ctx allows.
func (l *decisionLog) close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
	l.mu.Unlock()
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the decision log with %d records left: %w", len(l.queue), ctx.Err())
	}
}

func (l *decisionLog) status() *status.DecisionLogStatus {
	if l == nil {
		return nil
	}
	return &status.DecisionLogStatus{Folder: l.dir, Written: l.written.Load(), Dropped: l.dropped.Load()}
}
