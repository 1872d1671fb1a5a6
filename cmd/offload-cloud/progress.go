package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"app-offload/cmd/offload-cloud/internal/consume"
)

// logEvery is the interval of the logged progress without a terminal.
const logEvery = 30 * time.Second

// progress coordinates log lines and the progress line: on a terminal the line is removed before other output and shown again with the next second.
type progress struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	shown    bool
}

func newProgress(out io.Writer) *progress {
	f, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// Write writes other output than the progress line.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	return p.out.Write(b)
}

func (p *progress) clear() {
	if p.shown {
		_, _ = io.WriteString(p.out, "\r\x1b[K") // a closed terminal shows nothing
		p.shown = false
	}
}

func (p *progress) show(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	_, _ = io.WriteString(p.out, line)
	p.shown = true
}

// start shows or logs the progress until the returned function is called, which waits for the last line.
func (p *progress) start(c *consume.Counts, log *slog.Logger) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		every := logEvery
		if p.terminal {
			every = time.Second
		}
		ticker := time.Tick(every)
		for last, at := int64(0), time.Now(); ; {
			select {
			case <-ticker:
			case <-quit:
				p.figures(c, log, last, at)
				return
			}
			p.figures(c, log, last, at)
			last, at = c.Records.Load(), time.Now()
		}
	}()
	return func() {
		close(quit)
		<-done
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.shown {
			_, _ = io.WriteString(p.out, "\n")
			p.shown = false
		}
	}
}

// figures shows the current progress, or logs an interval with progress.
func (p *progress) figures(c *consume.Counts, log *slog.Logger, last int64, at time.Time) {
	records := c.Records.Load()
	rate := float64(records-last) / max(time.Since(at).Seconds(), 0.001)
	if p.terminal {
		p.show(fmt.Sprintf("%7.0f records/s  %d records  %d tasks  %d gaps  %d dead letters", rate, records, c.Tasks.Load(),
			c.Gaps.Load(), c.DeadLetters.Load()))
		return
	}
	if records > last {
		log.Info("progress", "recordsPerSecond", int64(rate), "records", records, "tasks", c.Tasks.Load(),
			"duplicateRecords", c.DuplicateRecords.Load(), "duplicateTasks", c.DuplicateTasks.Load(),
			"gaps", c.Gaps.Load(), "deadLetters", c.DeadLetters.Load())
	}
}
