package policy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

// tempo measures how fast tasks arrive and how soon they are wanted: the unit of time of this node's work. Its means are over tasks and not over
// seconds, so that they do not depend on the scale of time. It is safe for concurrent use; the lock is held for some nanoseconds.
type tempo struct {
	used atomic.Bool // a policy decides by it, so arrivals matter

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
	tempoTasks = 24   // that a mean is over
	fewTasks   = 3    // before so many the pulse is that of one task in a deadline of a second
	mostPulse  = 1e4  // arrivals in a deadline beyond which more make no difference
	leastUnit  = 1e-6 // s
)

// note takes in a task that arrived. One without a deadline counts as having so many seconds.
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

// copy is a tempo that goes on from here on its own.
func (p *tempo) copy() *tempo {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := &tempo{last: p.last, gap: p.gap, wish: p.wish, n: p.n}
	own.used.Store(p.used.Load())
	return own
}

// decided takes in a task that arrived and that the tempo's own policy decides; with a nil tempo that is nothing.
func (p *tempo) decided(t *task.Task, s *host.State, patience float64) {
	if p != nil {
		p.note(t, s, patience)
	}
}

// arrived takes in a task that another policy decides: the queues that it fills are those of all.
func (p *tempo) arrived(t *task.Task, s *host.State, patience float64) {
	if p != nil && p.used.Load() {
		p.note(t, s, patience)
	}
}

// beat turns prices of a usual node's seconds into prices of this node's.
type beat struct {
	usual float64 // usual seconds in a second
	rush  float64 // factor on what a usual second costs others
}

// beat returns that of a usual node with a nil tempo. What a busy second costs others lies between nothing to do with their number, where
// they can take the other server, and in proportion to it, where they must wait: the square root was measured best in all worlds
// together.
func (p *tempo) beat(now int64) beat {
	if p == nil {
		return beat{1, 1}
	}
	at := p.now(now)
	if !at.known {
		return beat{1, 1}
	}
	return beat{usualDeadline / at.unit, math.Sqrt(at.arrivals / usualPerDeadline)}
}

// After so many gaps without a task, or so long, none is expected soon.
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

// usual is the number of usual seconds in a second.
func (p *tempo) usual(now int64) float64 { return p.beat(now).usual }

// What prices for a second were learned with: the mean deadline of tasks, s, and how many arrive within one.
const (
	usualDeadline    = 1.37
	usualPerDeadline = 2.9
)

// now is the tempo at a time. A pause of more than two gaps counts as one.
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
	return pulse{arrivals: min(1/max(gap*p.wish, 1/mostPulse), mostPulse), unit: 1 / p.wish, known: true}
}
