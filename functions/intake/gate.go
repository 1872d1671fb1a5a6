package intake

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// The refusals of a gate. A caller that may block uses Wait instead of retrying.
var (
	ErrFullEvents = errors.New("too many events in progress")
	ErrFullBytes  = errors.New("too many bytes of events in progress")
	ErrClosed     = errors.New("the intake is closed")
)

// Gate limits the events in progress by number and by bytes. It is safe for concurrent use.
type Gate struct {
	maxEvents, maxBytes int

	mu      sync.Mutex
	counts  GateCounts
	closed  bool
	changed chan struct{} // closed and renewed when room is made; nil while no caller waits
}

// GateCounts is the state of a gate at one moment.
type GateCounts struct {
	Events, Bytes int    // in progress
	Entered       uint64 // in total
	RefusedEvents uint64 // because of ErrFullEvents
	RefusedBytes  uint64 // because of ErrFullBytes
	RefusedClosed uint64 // because of ErrClosed
}

// NewGate returns an open gate with the limits MaxEvents and MaxMiB.
func NewGate(cfg Config) *Gate {
	return &Gate{maxEvents: cfg.MaxEvents, maxBytes: cfg.MaxMiB << 20}
}

// Pass holds the room of one event. The zero Pass holds none, and its Leave does nothing.
type Pass struct {
	gate  *Gate
	bytes int
}

// Leave releases the room. It is called once for each Pass.
func (p Pass) Leave() {
	if p.gate != nil {
		p.gate.leave(p.bytes)
	}
}

// Enter requests room for one event of so many bytes. It never blocks: without room it counts the refusal and returns one of the errors above. An
// event above the limit of bytes enters alone.
func (g *Gate) Enter(bytes int) (Pass, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.admit(bytes)
	switch err {
	case ErrFullEvents:
		g.counts.RefusedEvents++
	case ErrFullBytes:
		g.counts.RefusedBytes++
	case ErrClosed:
		g.counts.RefusedClosed++
	default:
		return Pass{g, bytes}, nil
	}
	return Pass{}, err
}

// Try is Enter for a caller that then waits for room: a failure is not counted as a refusal.
func (g *Gate) Try(bytes int) (pass Pass, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.admit(bytes) != nil {
		return Pass{}, false
	}
	return Pass{g, bytes}, true
}

// Wait is Enter for a caller that may block until there is room. It returns early with ErrClosed or the context's error, and never admits a caller
// whose context has ended.
func (g *Gate) Wait(ctx context.Context, bytes int) (Pass, error) {
	for {
		if ctx.Err() != nil {
			return Pass{}, ctx.Err()
		}
		g.mu.Lock()
		err := g.admit(bytes)
		if err == nil || err == ErrClosed {
			g.mu.Unlock()
			if err != nil {
				return Pass{}, err
			}
			return Pass{g, bytes}, nil
		}
		changed := g.change()
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Pass{}, ctx.Err()
		}
	}
}

func (g *Gate) admit(bytes int) error {
	switch {
	case g.closed:
		return ErrClosed
	case g.counts.Events >= g.maxEvents:
		return ErrFullEvents
	case g.counts.Bytes+bytes > g.maxBytes && g.counts.Events > 0:
		return ErrFullBytes
	}
	g.counts.Events++
	g.counts.Bytes += bytes
	g.counts.Entered++
	return nil
}

func (g *Gate) leave(bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts.Events--
	g.counts.Bytes -= bytes
	g.wake()
}

// change returns a channel that is closed at the next change. The lock is held.
func (g *Gate) change() <-chan struct{} {
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

// wake makes all waiting callers check again. The lock is held.
func (g *Gate) wake() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// Shut refuses every caller from now on.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.wake()
}

// Close shuts the gate and waits until all passes are released, or the context ends.
func (g *Gate) Close(ctx context.Context) error {
	g.Shut()
	for {
		g.mu.Lock()
		events, changed := g.counts.Events, g.change()
		g.mu.Unlock()
		if events == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d events in progress: %w", events, ctx.Err())
		}
	}
}

// Counts returns the current counts.
func (g *Gate) Counts() GateCounts {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counts
}
