package functions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// lifecycle holds the stops of everything that was started. Each stop is registered right after the start, and they run in reverse order, so that
// nothing stops while something that needs it still runs. It is safe for concurrent use.
type lifecycle struct {
	mu      sync.Mutex
	stops   []stop
	stopped []string // names in the order in which they stopped
}

type stop struct {
	name string
	run  func(context.Context) error
}

// onStop registers the stop of what was just started.
func (l *lifecycle) onStop(name string, run func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stops = append(l.stops, stop{name, run})
}

// onLast registers a stop that runs after all others, for parts that the others use until their own end.
func (l *lifecycle) onLast(name string, run func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stops = append([]stop{{name, run}}, l.stops...)
}

// afterGrace is the time for each further stop once the grace period is over: enough to close files, and to write what is buffered.
const afterGrace = 100 * time.Millisecond

// stop runs every stop once, the last registered first, even if one of them fails. A second call does nothing.
func (l *lifecycle) stop(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range slices.Backward(l.stops) {
		if err := within(ctx, s.run); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", s.name, err))
		}
		l.stopped = append(l.stopped, s.name)
	}
	l.stops = nil
	return errors.Join(errs...)
}

// within runs a stop within the rest of the grace period, or within afterGrace once that is over.
func within(ctx context.Context, run func(context.Context) error) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), afterGrace)
		defer cancel()
	}
	return run(ctx)
}
