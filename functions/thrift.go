package functions

import (
	"os"
	"runtime/debug"
)

// thrift collects garbage earlier while nothing leaves, or less than comes in. What waits then takes memory that it does not take
// else, and the work of sealing and sending, which it would slow down, is little; so an outage or a slow link needs hardly more memory than a
// good one. It belongs to one goroutine. Whoever sets GOGC decides himself.
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
