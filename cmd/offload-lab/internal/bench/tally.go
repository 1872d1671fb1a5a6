package bench

import (
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
	first, last time.Time
}

func newTally(events int) *tally { return &tally{seen: make([]uint8, events)} }

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
		t.at(now)
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
