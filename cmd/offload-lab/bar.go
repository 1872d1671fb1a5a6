package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// bar shows progress: one line that is redrawn on a terminal, otherwise a line for every tenth.
type bar struct {
	out      io.Writer
	terminal bool
	total    int
	start    time.Time
	from     int // start of this run
	drawn    time.Time
	tenth    int
}

func newBar(out io.Writer, total, from int) *bar {
	f, ok := out.(*os.File)
	return &bar{out: out, terminal: ok && term.IsTerminal(int(f.Fd())), total: total, from: from, start: time.Now(), tenth: from * 10 / max(total, 1)}
}

const barWidth = 30

// show draws the bar with a remark, at most ten times a second.
func (b *bar) show(done int, word string) {
	finished := done >= b.total
	if b.terminal {
		if !finished && time.Since(b.drawn) < 100*time.Millisecond {
			return
		}
		b.drawn = time.Now()
	} else {
		if tenth := done * 10 / max(b.total, 1); tenth > b.tenth {
			b.tenth = tenth
		} else {
			return
		}
	}
	line := b.line(done, word)
	switch {
	case !b.terminal:
		fmt.Fprintln(b.out, line)
	case finished:
		fmt.Fprintf(b.out, "\r\x1b[K%s\n", line)
	default:
		fmt.Fprintf(b.out, "\r\x1b[K%s", line)
	}
}

func (b *bar) line(done int, word string) string {
	share := min(float64(done)/float64(max(b.total, 1)), 1)
	full := int(share * barWidth)
	spent := time.Since(b.start)
	left := "?"
	if done > b.from {
		left = (spent * time.Duration(max(b.total-done, 0)) / time.Duration(done-b.from)).Round(time.Second).String()
	}
	return fmt.Sprintf("[%s%s] %3.0f%%  %s  %s, %s left", strings.Repeat("█", full), strings.Repeat("·", barWidth-full), 100*share, word,
		spent.Round(time.Second), left)
}
