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

// thrift collects garbage nearly twice as often as Go does by default: it costs a sixth more CPU at the maximum rate and saves a sixth of the memory
// ("Where the microseconds go" has the figures). It also sets a memory limit, so that the collector works harder when memory comes near the
// configured sum: a few messages of the largest size fit into that, their garbage does not. It belongs to one goroutine. GOGC and GOMEMLIMIT take
// precedence if set.
type thrift struct {
	percent, limit bool // not set by GOGC or GOMEMLIMIT
	before         int  // previous percentage
	most           int64
}

const (
	percentGC = 55
	ownBytes  = 20 << 20 // the process without the configured memory; the documentation states 80 MiB, the rest of which is outside Go's heap
	leastNew  = 1 << 20  // smaller changes of the limit are not applied
)

// newThrift sets the percentage.
func newThrift() *thrift {
	t := &thrift{percent: os.Getenv("GOGC") == "", limit: os.Getenv("GOMEMLIMIT") == ""}
	if t.percent {
		t.before = debug.SetGCPercent(percentGC)
	}
	return t
}

// hold sets the memory limit for a service that may hold that many bytes.
func (t *thrift) hold(bytes int64) {
	if most := bytes + ownBytes; t.limit && max(most-t.most, t.most-most) >= leastNew {
		t.most = most
		debug.SetMemoryLimit(most)
	}
}

// end restores the previous settings.
func (t *thrift) end() {
	if t.percent {
		debug.SetGCPercent(t.before)
	}
	if t.most > 0 {
		t.most = 0
		debug.SetMemoryLimit(math.MaxInt64)
	}
}

// run follows the service's limit until ctx ends.
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
