package twin

import (
	"fmt"
	"sync/atomic"
	"time"

	"app-offload/functions/badlink"
)

// taskPiece is the least size of a piece of a task in bytes; acknowledgements and pings are smaller.
const taskPiece = 1000

// link is a proxy to the broker with a rate upwards and a round trip, and counts what enters it.
type link struct {
	*badlink.Link
	shape badlink.Trouble

	carried atomic.Int64 // bytes towards the broker
	entered atomic.Int64 // ns since the Unix epoch, when the first piece of a task entered since this was 0
}

// newLink opens a link with a rate in bytes/s towards the broker, 0 for no bound.
func newLink(upstream string, rate float64, rtt time.Duration) (*link, error) {
	l := &link{}
	var err error
	if l.Link, err = badlink.Observed(upstream, l.observe); err != nil {
		return nil, fmt.Errorf("starting the proxy to the broker: %w", err)
	}
	l.shape = badlink.Trouble{
		Up:   badlink.Flow{Rate: rate, Distance: rtt / 2},
		Down: badlink.Flow{Distance: rtt / 2},
	}
	if err := l.mend(); err != nil {
		l.Close()
		return nil, fmt.Errorf("shaping the link: %w", err)
	}
	return l, nil
}

// cut interrupts the link, and mend gives it its rate and round trip again.
func (l *link) cut() error  { return l.Harm(badlink.Trouble{Cut: true}) }
func (l *link) mend() error { return l.Harm(l.shape) }

func (l *link) observe(bytes int, at time.Time) {
	l.carried.Add(int64(bytes))
	if bytes >= taskPiece {
		l.entered.CompareAndSwap(0, at.UnixNano())
	}
}

// passed is what the link has seen of a lone task.
type passed struct {
	bytes   int64
	entered int64 // ns since the Unix epoch
}

// watch begins to observe the next task; the function that it returns gives the figures once the task is done.
func (l *link) watch() func() passed {
	before := l.carried.Load()
	l.entered.Store(0)
	return func() passed { return passed{l.carried.Load() - before, l.entered.Load()} }
}
