package functions

import (
	"os"
	"runtime/debug"
)

// thrift collects garbage earlier while no batch leaves, or fewer than come in. The backlog takes additional memory then, and there is
// little sealing and sending for the collector to slow down; so an outage or a slow link needs hardly more memory than a good link.
// It belongs to one goroutine. A GOGC that is set takes precedence.
type thrift struct {
	off    bool
	saving bool
}

const (
	usualGC  = 100 // Go's default
	savingGC = 50
)

func newThrift() *thrift { return &thrift{off: os.Getenv("GOGC") != ""} }

// set begins or ends the saving.
func (t *thrift) set(saving bool) {
	if t.off || t.saving == saving {
		return
	}
	t.saving = saving
	if saving {
		debug.SetGCPercent(savingGC)
	} else {
		debug.SetGCPercent(usualGC)
	}
}
