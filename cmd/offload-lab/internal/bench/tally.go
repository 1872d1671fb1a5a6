package bench

import (
	"slices"
	"sync"
	"time"
)

// tally counts what has come out at the other end, event by event.
type tally struct {
	mu          sync.Mutex
	seen        []uint8 // how often, by the event's number
	arrived     int     // different events
	repeated    int     // events that came again
	local       int     // events that the service says it has done here
	foreign     int     // messages that are not events of the load
	overtaken   int     // events that came after a later one of their device
	latest      [devices]int
	passes      bool // what is fresh may pass the backlog
	backlog     [devices]int
	began       time.Time // of the load; zero where it keeps no rate
	every       time.Duration
	late        []uint32 // µs from the moment at which an event was due, whenever it was sent
	first, last time.Time
}

func newTally(events int) *tally { return &tally{seen: make([]uint8, events)} }

// schedule says when each event is due, which its latency is counted from: one that waits in the load because those before it are slow counts as
// slow itself.
func (t *tally) schedule(began time.Time, rate int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began, t.every, t.late = began, time.Second/time.Duration(rate), make([]uint32, 0, len(t.seen))
}

// quantile is that of the latencies, in milliseconds; 0 without any.
func (t *tally) quantile(q float64) float64 {
	if len(t.late) == 0 {
		return 0
	}
	slices.Sort(t.late)
	return float64(t.late[int(q*float64(len(t.late)-1))]) / 1000
}

// take books events by their numbers.
func (t *tally) take(numbers []int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range numbers {
		switch {
		case n < 0 || n >= len(t.seen):
			t.foreign++
			continue
		case t.seen[n] > 0:
			t.repeated++
			continue
		}
		t.seen[n]++
		t.arrived++
		t.order(n)
		if t.late != nil {
			t.late = append(t.late, uint32(max(now.Sub(t.began.Add(time.Duration(n)*t.every)), 0).Microseconds()))
		}
		t.at(now)
	}
}

// order notes the event's place among those of its device. Where fresh data may pass the backlog, each of the two is in order by itself.
func (t *tally) order(n int) {
	fresh, backlog := &t.latest[n%devices], &t.backlog[n%devices]
	switch {
	case n >= *fresh:
		*fresh = n
	case t.passes && n >= *backlog:
		*backlog = n
	default:
		t.overtaken++
	}
}

// tellLocal books how many events the service has done by itself so far.
func (t *tally) tellLocal(n int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > t.local {
		t.local = n
		t.at(now)
	}
}

func (t *tally) at(now time.Time) {
	if t.first.IsZero() {
		t.first = now
	}
	t.last = now
}

// concluded is the number of events that are through, by either way.
func (t *tally) concluded() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.arrived + t.local
}
