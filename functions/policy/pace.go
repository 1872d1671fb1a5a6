package policy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

// Arrivals is the number of recent arrivals in a usual second, the best indicator of how long a queue will last. A usual second is a second where
// tasks have the deadlines of the training; with other deadlines it is longer or shorter in proportion.
type Arrivals struct {
	Lately, Long float64 // tasks in a usual second
	Usual        float64 // usual seconds in a second
}

// The times over which arrivals are averaged, in usual s, and the rate assumed before the first arrival, in tasks per usual second.
const (
	latelySeconds = 5.0
	longSeconds   = 20.0
	usualArrivals = 2.0
)

// next returns the arrivals after one more task, gap usual seconds after the previous one.
func (a Arrivals) next(gap float64) Arrivals {
	a.Lately = a.Lately*math.Exp(-gap/latelySeconds) + 1/latelySeconds
	a.Long = a.Long*math.Exp(-gap/longSeconds) + 1/longSeconds
	return a
}

// UsualArrivals is the initial value.
func UsualArrivals() Arrivals { return Arrivals{usualArrivals, usualArrivals, 1} }

// Pace counts arrivals. It is safe for concurrent use; its locks are held for some nanoseconds. The zero value is ready for use.
type Pace struct {
	tempo    tempo
	used     atomic.Bool // a policy decides by it, so arrivals are counted
	mu       sync.Mutex
	last     int64 // ns
	arrivals Arrivals
}

// Note counts a task and returns the arrivals including it. A task without a deadline counts as having one of patience seconds. Tasks decided out of
// order count as having arrived together.
func (p *Pace) Note(t *task.Task, s *host.State, patience float64) Arrivals {
	p.tempo.note(t, s, patience)
	now := arrival(t, s)
	usual := p.tempo.usual(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == 0 {
		p.arrivals = UsualArrivals()
	} else {
		p.arrivals = p.arrivals.next(time.Duration(max(now-p.last, 0)).Seconds() * usual)
	}
	p.arrivals.Usual = usual
	p.last = max(p.last, now)
	return p.arrivals
}

// now returns the arrivals without counting a task.
func (p *Pace) now() Arrivals {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == 0 {
		return UsualArrivals()
	}
	return p.arrivals
}
