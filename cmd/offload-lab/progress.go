package main

import (
	"fmt"
	"os"
)

// progress shows on a terminal how far a long verb is; into a pipe or a file it writes nothing.
type progress struct {
	to    *os.File
	total int
	shown bool
}

func newProgress(to *os.File, total int) *progress {
	info, err := to.Stat()
	return &progress{to: to, total: total, shown: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (p *progress) show(done int) {
	if p.shown {
		fmt.Fprintf(p.to, "\r%d of %d episodes", done, p.total)
	}
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.to, "\r\033[K")
	}
}
