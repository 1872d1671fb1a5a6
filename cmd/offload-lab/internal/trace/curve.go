package trace

import (
	"fmt"
	"math"
	"sort"
)

// Curve is a periodic rate over time that is constant between its steps. Its integral and the inverse of that are exact, and computed without a
// search through all steps. It is immutable.
type Curve struct {
	start  []float64 // of each step, s; the first is 0
	rate   []float64 // during each step
	sum    []float64 // the integral at each start, and at the end of the period
	period float64   // s

	atTime, atSum guide
}

// NewCurve creates a curve from samples: each holds until the next, the last until period. The mean must be above zero.
func NewCurve(start, rate []float64, period float64) (*Curve, error) {
	if len(start) == 0 || len(start) != len(rate) || start[0] != 0 {
		return nil, fmt.Errorf("a curve of %d starts and %d rates: needs one rate a start, the first at 0", len(start), len(rate))
	}
	c := &Curve{start: start, rate: rate, sum: make([]float64, len(start)+1), period: period}
	for i, r := range rate {
		length := c.end(i) - start[i]
		if !(length > 0) || !(r >= 0) || math.IsInf(r, 1) {
			return nil, fmt.Errorf("step %d of a curve lasts %g s at rate %g: needs a length above 0 and a finite rate", i, length, r)
		}
		c.sum[i+1] = c.sum[i] + length*r
	}
	if !(c.total() > 0) {
		return nil, fmt.Errorf("a curve of %d steps is zero all the time", len(start))
	}
	c.atTime = newGuide(period, len(start), func(i int) float64 { return c.end(i) })
	c.atSum = newGuide(c.total(), len(start), func(i int) float64 { return c.sum[i+1] })
	return c, nil
}

func (c *Curve) end(i int) float64 {
	if i+1 < len(c.start) {
		return c.start[i+1]
	}
	return c.period
}

func (c *Curve) total() float64 { return c.sum[len(c.rate)] }

// Period is the period in s.
func (c *Curve) Period() float64 { return c.period }

// At returns the rate at time t, which may be negative or beyond the period.
func (c *Curve) At(t float64) float64 {
	_, within := split(t, c.period)
	return c.rate[c.stepAt(within)]
}

// Integral returns the integral from 0 to t.
func (c *Curve) Integral(t float64) float64 {
	rounds, within := split(t, c.period)
	i := c.stepAt(within)
	return rounds*c.total() + c.sum[i] + (within-c.start[i])*c.rate[i]
}

// Inverse returns the first time at which the integral reaches v.
func (c *Curve) Inverse(v float64) float64 {
	rounds, within := split(v, c.total())
	if within == 0 { // reached at the end of the previous period, and perhaps long before
		rounds, within = rounds-1, c.total()
	}
	i := c.atSum.look(within)
	for i > 0 && c.sum[i] >= within {
		i--
	}
	for i+1 < len(c.rate) && c.sum[i+1] < within {
		i++
	}
	at := c.start[i]
	if within > c.sum[i] {
		at += (within - c.sum[i]) / c.rate[i]
	}
	return rounds*c.period + at
}

// Next is the end of the step at time t: the rate is constant from t until then. It is always greater than t.
func (c *Curve) Next(t float64) float64 {
	rounds, within := split(t, c.period)
	for i := c.stepAt(within); ; i++ { // more than once if t is the very end of a step, by rounding
		if i == len(c.start) {
			rounds, i = rounds+1, 0
		}
		if next := rounds*c.period + c.end(i); next > t {
			return next
		}
	}
}

func (c *Curve) stepAt(within float64) int {
	i := c.atTime.look(within)
	for c.start[i] > within { // a value at the very edge of its bucket, by rounding
		i--
	}
	for i+1 < len(c.start) && c.start[i+1] <= within {
		i++
	}
	return i
}

// split divides v by the period into whole rounds and the remainder.
func split(v, period float64) (rounds, within float64) {
	rounds = math.Floor(v / period)
	return rounds, min(max(v-rounds*period, 0), period)
}

// guide finds in constant time a step near a value: the first step that ends after the value's bucket begins.
type guide struct {
	first []int32
	scale float64
}

func newGuide(span float64, buckets int, end func(i int) float64) guide {
	g := guide{first: make([]int32, buckets), scale: float64(buckets) / span}
	for b := range g.first {
		begins := float64(b) / g.scale
		g.first[b] = int32(sort.Search(buckets-1, func(i int) bool { return end(i) >= begins })) // fewer steps than lines in a file
	}
	return g
}

func (g *guide) look(v float64) int {
	return int(g.first[min(int(v*g.scale), len(g.first)-1)])
}
