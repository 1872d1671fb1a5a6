package functions

import (
	"math"
	"sync/atomic"
	"time"

	"app-offload/functions/clock"
	"app-offload/functions/host"
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

// note looks through the decisions of a run.
func (l *lateness) note(r *run) {
	worst := 0.0
	for _, j := range r.here {
		worst = max(worst, latenessOf(j, r.state.Time))
	}
	l.store(worst, r.state.Time)
}

// see looks at one decision that came later than its task.
func (l *lateness) see(j *job, s *host.State) { l.store(latenessOf(j, s.Time), s.Time) }

// latenessOf is by how many seconds a task is predicted to be late here, below 0 where it is in time.
func latenessOf(j *job, now int64) float64 {
	if j.Task.Deadline <= 0 {
		return 0
	}
	waited := float64(now-j.Task.Received) / 1e9
	return j.Estimate.LocalTime + waited - j.Task.Deadline.Seconds()
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
