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

// logEvery is how often the figures are logged where there is no terminal to show them on.
const logEvery = 30 * time.Second

// progress is where log lines and the progress line meet: on a terminal the line is taken away before anything else is
// written and comes back with the next second.
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

// Write writes what is not the progress line.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	return p.out.Write(b)
}

func (p *progress) clear() {
	if p.shown {
		_, _ = io.WriteString(p.out, "\r\x1b[K") // a terminal that is gone shows nothing
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

// start shows or logs the figures until the returned function is called, which waits for the last ones.
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

// figures shows one second, or logs one interval in which something happened.
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
