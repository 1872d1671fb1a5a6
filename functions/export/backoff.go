package export

import (
	"math/rand/v2"
	"time"
)

// backoff spreads the attempts of many nodes after one broker's outage: full jitter, a random part of a bound that
// doubles. Used by one goroutine.
type backoff struct {
	low, high time.Duration
	bound     time.Duration
}

func (b *backoff) next() time.Duration {
	b.bound = min(max(2*b.bound, b.low), b.high)
	return rand.N(b.bound) + 1
}

func (b *backoff) reset() { b.bound = 0 }
