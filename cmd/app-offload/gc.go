package main

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"time"

	"app-offload/functions"
	"app-offload/functions/clock"
)

// thrift collects garbage earlier while no batch leaves, or fewer than come in. The backlog takes additional memory then, and there is
// little sealing and sending for the collector to slow down; so an outage or a slow link needs hardly more memory than a good link. And it
// has the collector work as hard as it must where memory comes near to what is configured: a few messages of the largest size are held within that, while their garbage is
// not. It belongs to one goroutine. A GOGC or GOMEMLIMIT that is set takes precedence.
type thrift struct {
	percent, limit bool // may be set
	saving         bool
	most           int64
}

const (
	usualGC  = 100 // Go's default
	savingGC = 50
	ownBytes = 20 << 20 // of the process without what is configured; of the 80 MiB that users are to reckon with, the rest is outside of Go's memory
	leastNew = 1 << 20  // a change of the limit below that is not worth it
)

func newThrift() *thrift {
	return &thrift{percent: os.Getenv("GOGC") == "", limit: os.Getenv("GOMEMLIMIT") == ""}
}

// set begins or ends the saving.
func (t *thrift) set(saving bool) {
	if !t.percent || t.saving == saving {
		return
	}
	t.saving = saving
	if saving {
		debug.SetGCPercent(savingGC)
	} else {
		debug.SetGCPercent(usualGC)
	}
}

// hold says what may be held, in bytes.
func (t *thrift) hold(bytes int64) {
	if most := bytes + ownBytes; t.limit && max(most-t.most, t.most-most) >= leastNew {
		t.most = most
		debug.SetMemoryLimit(most)
	}
}

// end takes back what was set.
func (t *thrift) end() {
	t.set(false)
	if t.most > 0 {
		t.most = 0
		debug.SetMemoryLimit(math.MaxInt64)
	}
}

// run follows the service until ctx ends.
func (t *thrift) run(ctx context.Context, s *functions.Service) {
	tick := clock.NewTicker(time.Second)
	defer tick.Stop()
	defer t.end()
	for {
		bytes, waiting := s.Holds()
		t.set(waiting)
		t.hold(bytes)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
