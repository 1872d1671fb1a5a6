package clock

import (
	"sync"
	"time"
)

// Ticker ticks on C until Stop.
type Ticker struct {
	C <-chan time.Time

	mu      sync.Mutex
	ticker  *time.Ticker
	stopped bool
}

// NewTicker is time.NewTicker with ticks at whole multiples of d by the wall clock at the time of the call. So all tickers of a process wake it
// together, and a sleeping processor wakes once for all of them. The first tick arrives within 2·d.
func NewTicker(d time.Duration) *Ticker {
	t, now := &Ticker{ticker: time.NewTicker(d)}, time.Now()
	t.C = t.ticker.C
	if past := now.Sub(now.Truncate(d)); past > 0 {
		time.AfterFunc(d-past, func() { t.align(d) })
	}
	return t
}

func (t *Ticker) align(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped {
		t.ticker.Reset(d)
	}
}

// Stop ends the ticks.
func (t *Ticker) Stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	t.ticker.Stop()
}
