package policy

import (
	"math"
	"sync"
	"time"
)

// Arrivals is how many tasks a second have been arriving: what says best how long a queue will last.
type Arrivals struct{ Lately, Long float64 }

// The times over which arrivals are averaged, s, and what is assumed before there are any, tasks/s.
const (
	latelySeconds = 5.0
	longSeconds   = 20.0
	usualArrivals = 2.0
)

// Next is the arrivals after one more task, so many seconds after the one before.
func (a Arrivals) Next(gap float64) Arrivals {
	return Arrivals{
		Lately: a.Lately*math.Exp(-gap/latelySeconds) + 1/latelySeconds,
		Long:   a.Long*math.Exp(-gap/longSeconds) + 1/longSeconds,
	}
}

// UsualArrivals is where counting begins.
func UsualArrivals() Arrivals { return Arrivals{usualArrivals, usualArrivals} }

// pace counts arrivals. The lock is held for some nanoseconds.
type pace struct {
	mu       sync.Mutex
	last     int64 // ns
	arrivals Arrivals
}

// note takes in a task that arrived at the time now, ns since the epoch, and gives the arrivals with it. Tasks that are decided
// out of their order count as if they had come together.
func (p *pace) note(now int64) Arrivals {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == 0 {
		p.arrivals = UsualArrivals()
	} else {
		p.arrivals = p.arrivals.Next(time.Duration(max(now-p.last, 0)).Seconds())
	}
	p.last = max(p.last, now)
	return p.arrivals
}

// now is the arrivals as they are, without one more.
func (p *pace) now() Arrivals {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == 0 {
		return UsualArrivals()
	}
	return p.arrivals
}
