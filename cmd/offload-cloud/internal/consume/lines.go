package consume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/say"
	"app-offload/functions/task"
)

// Line is the JSON form of a record, one object a line.
type Line struct {
	Node       string          `json:"node"`
	Epoch      string          `json:"epoch"`
	Sequence   uint64          `json:"sequence"`
	Event      string          `json:"event"`
	Chunk      int             `json:"chunk"`
	Of         int             `json:"of"`
	Device     string          `json:"device"`
	Profile    string          `json:"profile"`
	Source     string          `json:"source"`
	Resource   string          `json:"resource,omitempty"`
	Class      string          `json:"class"`
	Critical   bool            `json:"critical,omitempty"`
	Origin     int64           `json:"origin"`
	Data       json.RawMessage `json:"data,omitempty"`       // the event, or the frame of an event
	DataText   string          `json:"dataText,omitempty"`   // elements of an array
	DataBase64 []byte          `json:"dataBase64,omitempty"` // anything else
}

// NewLine describes a record. It writes the data in the most readable exact form.
func NewLine(f store.Fresh) *Line {
	t := f.Task
	l := &Line{
		Node: f.Node, Epoch: f.Epoch, Sequence: f.Sequence, Event: t.EventID, Chunk: t.Chunk, Of: t.Of, Device: t.Device,
		Profile: t.Profile, Source: t.Source, Resource: t.Resource, Critical: t.Critical, Origin: t.Origin,
	}
	if t.Class != nil {
		l.Class = t.Class.Name
	}
	switch {
	case t.Encoding == task.JSON && json.Valid(t.Data):
		l.Data = t.Data
	case t.Encoding == task.Text:
		l.DataText = string(t.Data)
	default:
		l.DataBase64 = t.Data
	}
	return l
}

// linesMax is the maximum size of queued lines.
const linesMax = 8 << 20

// printer writes new records as lines in the background: the lines are only a view, the database is the record. A slow reader slows the consumer for
// a while, a stuck or closed one does not. A stored record that was not printed when the process died is not printed later.
type printer struct {
	out      io.Writer
	counts   *Counts
	patience time.Duration
	log      *slog.Logger
	queue    chan []byte
	room     *semaphore.Weighted
	hangs    bool // owned by the caller of print
	gone     atomic.Bool
	done     chan struct{}
}

func newPrinter(out io.Writer, counts *Counts, patience time.Duration, log *slog.Logger) *printer {
	if out == nil {
		return nil
	}
	p := &printer{
		out: out, counts: counts, patience: patience, log: log,
		queue: make(chan []byte, 1024), room: semaphore.NewWeighted(linesMax), done: make(chan struct{}),
	}
	go p.write()
	return p
}

// print queues the lines of one transaction.
func (p *printer) print(fresh []store.Fresh) {
	if p == nil || len(fresh) == 0 || p.gone.Load() {
		return
	}
	buffer := &bytes.Buffer{}
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	for _, f := range fresh {
		if err := encoder.Encode(NewLine(f)); err != nil { // encoding a line cannot fail
			p.log.Error("writing a JSON line failed", "error", err)
		}
		if buffer.Len() >= linesMax/8 {
			p.push(buffer.Bytes())
			buffer = &bytes.Buffer{}
			encoder = json.NewEncoder(buffer)
			encoder.SetEscapeHTML(false)
		}
	}
	p.push(buffer.Bytes())
}

// push waits for room once. While the reader is stuck, it does not wait again.
func (p *printer) push(lines []byte) {
	if len(lines) == 0 {
		return
	}
	weight := min(int64(len(lines)), linesMax)
	ok := p.room.TryAcquire(weight)
	if !ok && !p.hangs {
		ctx, cancel := context.WithTimeout(context.Background(), p.patience)
		ok = p.room.Acquire(ctx, weight) == nil
		cancel()
	}
	if ok {
		select {
		case p.queue <- lines:
			if p.hangs {
				p.log.Info("the reader of -jsonl resumed", "dropped", p.counts.LinesDropped.Load())
			}
			p.hangs = false
			return
		default: // the queue is full of small ones
			p.room.Release(weight)
		}
	}
	p.counts.LinesDropped.Add(int64(bytes.Count(lines, []byte{'\n'})))
	if !p.hangs && !p.gone.Load() {
		p.log.Error("the reader of -jsonl hangs, dropping lines; records are still stored")
	}
	p.hangs = true
}

func (p *printer) write() {
	defer close(p.done)
	var once say.Once
	for lines := range p.queue {
		if !p.gone.Load() {
			_, err := p.out.Write(lines)
			switch {
			case errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe):
				p.gone.Store(true)
				p.log.Warn("the reader of -jsonl exited, printing no more lines; records are still stored")
			case err != nil && once.New("write", "fails"):
				p.log.Error("writing JSON lines failed", "error", err)
			case err == nil:
				once.New("write", "")
			}
		}
		p.room.Release(min(int64(len(lines)), linesMax))
	}
}

// close prints the queued lines within a time limit: a write to a stuck reader cannot be interrupted.
func (p *printer) close(within time.Duration) {
	if p == nil {
		return
	}
	close(p.queue)
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
}
