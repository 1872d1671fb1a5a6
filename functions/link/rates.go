package link

import "slices"

// rates are the link's latest rates, each over the same stretch of busy time: those of single measurements would say less of the
// link than of how acknowledgements happen to come. They are the link's, under its lock.
type rates struct {
	bytes, busy float64 // of the stretch that is under way
	latest      [rateStretches]float64
	at, n       int
}

const (
	rateStretch   = 0.25 // s of busy time, short enough to show a dip
	rateStretches = 240  // a minute of busy time
)

// add takes in so many bytes acknowledged over so much busy time in s. One measurement may be of many stretches, as after a
// stall: they were all as slow.
func (r *rates) add(bytes, busy float64) {
	r.bytes += bytes
	r.busy += busy
	whole := int(min(r.busy/rateStretch, rateStretches))
	if whole == 0 {
		return
	}
	for range whole {
		r.latest[r.at] = r.bytes / r.busy
		r.at = (r.at + 1) % rateStretches
	}
	r.n = min(r.n+whole, rateStretches)
	r.bytes, r.busy = 0, 0
}

// quantiles are the rates below which a tenth and a half of the stretches were; smoothed stands for them before the first is
// over.
func (r *rates) quantiles(smoothed float64) (tenth, half float64) {
	if r.n == 0 {
		return smoothed, smoothed
	}
	sorted := r.latest
	slices.Sort(sorted[:r.n])
	return sorted[(r.n-1)/10], sorted[(r.n-1)/2]
}
