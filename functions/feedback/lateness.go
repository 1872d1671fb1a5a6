package feedback

import (
	"math"
	"sync/atomic"
	"time"

	"app-offload/functions/clock"
	"app-offload/functions/decide"
)

// lateness remembers by how much work that stayed here was last predicted to be late, for those who must not make it later.
// It is safe for concurrent use.
type lateness struct {
	late  atomic.Uint64 // bits of s
	at    atomic.Int64  // stamp
	clock *clock.Clock
}

// latenessHolds is how long a prediction counts: a queue that made one task late is likely still there.
const latenessHolds = 10 * time.Second

// see looks at decisions for local work that were made in one state.
func (l *lateness) see(cases []*decide.Case, now int64) {
	worst := 0.0
	for _, c := range cases {
		worst = max(worst, latenessOf(c, now))
	}
	l.store(worst, now)
}

// latenessOf is by how many seconds a task is predicted to be late here, below 0 where it is in time.
func latenessOf(c *decide.Case, now int64) float64 {
	if c.Task.Deadline <= 0 {
		return 0
	}
	waited := float64(now-c.Task.Received) / 1e9
	return c.Estimate.LocalTime + waited - c.Task.Deadline.Seconds()
}

func (l *lateness) store(late float64, now int64) {
	if late > 0 {
		l.late.Store(math.Float64bits(late))
		l.at.Store(now)
	}
}

// seconds is the predicted lateness at present, 0 without any.
func (l *lateness) seconds() float64 {
	if l.clock.Since(l.at.Load()) > latenessHolds {
		return 0
	}
	return math.Float64frombits(l.late.Load())
}
