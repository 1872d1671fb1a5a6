package functions

import (
	"math"
	"sync/atomic"
	"time"
)

// lateness remembers by how much work that stayed here was last predicted to be late, for those who must not make it later.
// It is safe for concurrent use.
type lateness struct {
	late atomic.Uint64 // bits of s
	at   atomic.Int64  // ns since the Unix epoch
}

// latenessHolds is how long a prediction counts: a queue that made one task late is likely still there.
const latenessHolds = 10 * time.Second

// note looks through the decisions of a run.
func (l *lateness) note(r *run) {
	worst := 0.0
	for _, j := range r.here {
		if j.task.Deadline > 0 {
			waited := float64(r.state.Time-j.task.Received) / 1e9
			worst = max(worst, j.estimate.LocalTime+waited-j.task.Deadline.Seconds())
		}
	}
	if worst > 0 {
		l.late.Store(math.Float64bits(worst))
		l.at.Store(r.state.Time)
	}
}

// seconds is the predicted lateness at present, 0 without any.
func (l *lateness) seconds() float64 {
	if time.Since(time.Unix(0, l.at.Load())) > latenessHolds {
		return 0
	}
	return math.Float64frombits(l.late.Load())
}
