package intake

import (
	"context"
	"sync"
)

// acker acknowledges messages from a goroutine of its own, because whoever finishes an event must not wait for the
// connection. What is waiting is bounded by the gate, whose room is given back with the acknowledgement only.
type acker struct {
	send func(arrival)
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	waiting []arrival
	closed  bool
}

func newAcker(send func(arrival)) *acker {
	return &acker{send: send, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (a *acker) start() { go a.run() }

func (a *acker) add(messages ...arrival) {
	a.mu.Lock()
	a.waiting = append(a.waiting, messages...)
	a.mu.Unlock()
	a.nudge()
}

func (a *acker) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *acker) run() {
	defer close(a.done)
	var group []arrival
	for range a.wake {
		var closed bool
		a.mu.Lock()
		group, a.waiting, closed = a.waiting, group[:0], a.closed
		a.mu.Unlock()
		for _, m := range group {
			a.send(m)
		}
		clear(group) // the messages must not live on in the spare slice
		if closed {
			return
		}
	}
}

// stop sends what is waiting, and ends. It is false when the context ended first.
func (a *acker) stop(ctx context.Context) bool {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.nudge()
	select {
	case <-a.done:
		return true
	case <-ctx.Done():
		return false
	}
}
