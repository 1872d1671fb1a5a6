package policy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

// tempo measures the rate of arrivals and their deadlines: the unit of time of this node's work. Its means are over tasks and not over seconds, so
// that they do not depend on the scale of time. It is safe for concurrent use; the lock is held for some nanoseconds.
type tempo struct {
	used atomic.Bool // a policy decides by it, so arrivals are counted

	mu   sync.Mutex
	last int64   // arrival, ns
	gap  float64 // s between arrivals
	wish float64 // 1/s, of 1/deadline
	n    float64 // tasks, up to tempoTasks
}

// pulse is the tempo at one moment.
type pulse struct {
	arrivals float64 // in a mean deadline
	unit     float64 // that deadline, s: the harmonic mean
	known    bool
}

const (
	tempoTasks = 24   // number of tasks that a mean is over
	fewTasks   = 3    // below so many tasks the pulse is one task in a deadline of a second
	mostPulse  = 1e4  // arrivals in a deadline beyond which more make no difference
	leastUnit  = 1e-6 // s
)

// note counts a task that arrived. A task without a deadline counts as having one of patience seconds.
func (p *tempo) note(t *task.Task, s *host.State, patience float64) {
	now, deadline := arrival(t, s), max(t.Deadline.Seconds(), leastUnit)
	if t.Deadline <= 0 {
		deadline = patience
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n = min(p.n+1, tempoTasks)
	p.wish += (1/deadline - p.wish) / p.n
	if p.n > 1 {
		p.gap += (time.Duration(max(now-p.last, 0)).Seconds() - p.gap) / (p.n - 1)
	}
	p.last = max(p.last, now)
}

// copy returns an independent copy.
func (p *tempo) copy() *tempo {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := &tempo{last: p.last, gap: p.gap, wish: p.wish, n: p.n}
	own.used.Store(p.used.Load())
	return own
}

// arrived counts a task that another policy decides: it fills the same queues.
func (p *tempo) arrived(t *task.Task, s *host.State, patience float64) {
	if p.used.Load() {
		p.note(t, s, patience)
	}
}

// beat scales prices of a usual node's seconds to prices of this node's.
type beat struct {
	usual float64 // usual seconds in a second
	rush  float64 // factor on the cost of a usual second to other tasks
}

// beat returns the beat at a time, that of a usual node until the tempo is known. The cost of a busy second to other tasks is between independent of
// their number, where they can take the other server, and in proportion to it, where they must wait: the square root was measured best over all worlds.
func (p *tempo) beat(now int64) beat {
	at := p.now(now)
	if !at.known {
		return beat{1, 1}
	}
	return beat{usualDeadline / at.unit, math.Sqrt(at.arrivals / usualPerDeadline)}
}

// After so many gaps without a task, or this long, no task is expected soon.
const (
	quietGaps = 10
	quietMost = 10 * time.Second
)

// quiet reports whether no task is expected soon.
func (p *tempo) quiet(now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	silence := time.Duration(now - p.last)
	return silence >= quietMost || p.n >= fewTasks && silence.Seconds() >= quietGaps*p.gap
}

// usual returns the number of usual seconds in a second.
func (p *tempo) usual(now int64) float64 { return p.beat(now).usual }

// The node that the prices were learned on: the mean deadline of its tasks, s, and the number of arrivals within one.
const (
	usualDeadline    = 1.37
	usualPerDeadline = 2.9
)

// now returns the tempo at a time. A pause longer than two gaps lowers the rate of arrivals.
func (p *tempo) now(at int64) pulse {
	if !p.used.Load() {
		p.used.Store(true)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n < fewTasks {
		return pulse{arrivals: 1, unit: 1}
	}
	gap := max(p.gap, time.Duration(at-p.last).Seconds()/2)
	return pulse{arrivals: 1 / max(gap*p.wish, 1/mostPulse), unit: 1 / p.wish, known: true}
}
