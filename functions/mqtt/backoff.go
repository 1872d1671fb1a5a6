package mqtt

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff spreads the attempts of many clients after one broker's outage: full jitter, a random part of a bound that
// doubles from Low to High. Used by one goroutine.
type Backoff struct {
	Low, High time.Duration
	bound     time.Duration
}

// Next is the wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	b.bound = min(max(2*b.bound, b.Low), b.High)
	return rand.N(b.bound) + 1
}

// Reset begins anew after a success.
func (b *Backoff) Reset() { b.bound = 0 }

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
