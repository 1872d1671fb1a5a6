package clock

import "time"

// NewTicker is time.NewTicker with ticks at whole multiples of d by the wall clock, as that stood when the ticker was made. So all tickers of
// a process wake it together, which a processor that sleeps in between pays for once. The first tick comes within 2·d.
func NewTicker(d time.Duration) *time.Ticker {
	t, now := time.NewTicker(d), time.Now()
	if past := now.Sub(now.Truncate(d)); past > 0 {
		time.AfterFunc(d-past, func() { t.Reset(d) })
	}
	return t
}
