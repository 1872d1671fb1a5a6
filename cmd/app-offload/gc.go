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

// thrift collects garbage nearly twice as often as Go does by default: a sixth more CPU at the maximum rate, and a sixth less memory
// ("Where the microseconds go" has the figures). And it has the collector work as hard as it must where memory comes near to what is
// configured: a few messages of the largest size are held within that, while their garbage is not. It belongs to one goroutine. A GOGC or GOMEMLIMIT that is set takes precedence.
type thrift struct {
	percent, limit bool // may be set
	before         int  // the percentage
	most           int64
}

const (
	percentGC = 55
	ownBytes  = 20 << 20 // of the process without what is configured; of the 80 MiB that users are to reckon with, the rest is outside of Go's memory
	leastNew  = 1 << 20  // a change of the limit below that is not worth it
)

// newThrift begins with the percentage.
func newThrift() *thrift {
	t := &thrift{percent: os.Getenv("GOGC") == "", limit: os.Getenv("GOMEMLIMIT") == ""}
	if t.percent {
		t.before = debug.SetGCPercent(percentGC)
	}
	return t
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
	if t.percent {
		debug.SetGCPercent(t.before)
	}
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
		t.hold(s.Holds())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
