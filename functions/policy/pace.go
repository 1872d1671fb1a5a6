package policy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

// Arrivals is how many tasks have been arriving in a usual second, which says best how long a queue will last. A usual second is a second
// where tasks have the deadlines of the training; where those that arrive have others, it is as much longer or shorter as they are.
type Arrivals struct {
	Lately, Long float64 // tasks in a usual second
	Usual        float64 // usual seconds in a second
}

// The times over which arrivals are averaged, usual s, and what is assumed before there are any, tasks in a usual second.
const (
	latelySeconds = 5.0
	longSeconds   = 20.0
	usualArrivals = 2.0
)

// next is the arrivals after one more task, so many usual seconds after the previous one.
func (a Arrivals) next(gap float64) Arrivals {
	a.Lately = a.Lately*math.Exp(-gap/latelySeconds) + 1/latelySeconds
	a.Long = a.Long*math.Exp(-gap/longSeconds) + 1/longSeconds
	return a
}

// UsualArrivals is the start of counting.
func UsualArrivals() Arrivals { return Arrivals{usualArrivals, usualArrivals, 1} }

// Pace counts arrivals. It is safe for concurrent use; its locks are held for some nanoseconds. The zero value is ready for use.
type Pace struct {
	tempo    tempo
	used     atomic.Bool // a policy decides by it, so arrivals matter
	mu       sync.Mutex
	last     int64 // ns
	arrivals Arrivals
}

// Note counts a task and returns the arrivals with it. A task without a deadline counts as having one of patience seconds. Tasks
// that are decided out of order count as if they had arrived together.
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

// now returns the arrivals without counting another task.
func (p *Pace) now() Arrivals {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == 0 {
		return UsualArrivals()
	}
	return p.arrivals
}
