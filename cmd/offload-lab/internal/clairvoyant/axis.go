package clairvoyant

import (
	"math"
	"sort"

	"app-offload/cmd/offload-lab/internal/sim"
)

// axis is one server's work, cut into slots within which its rate is constant. A time in which the server can do nothing is
// no slot.
type axis struct {
	work   []float64 // at the begin of each slot, and at the end of the last; ascending
	time   []float64 // s, at the begin of each slot
	rate   []float64 // work a second within each slot
	width  []float64 // s, of each slot
	price  []float64 // cost of a second of the server's time in each slot
	sum    []float64 // price of all slots before each one, and at the end of all
	used   []float64 // s of each slot that tasks take
	follow []float64 // direction in which prices move
}

// newAxis cuts the time from 0 to end into slots of at most step seconds.
func newAxis(r sim.Rate, end, step float64) *axis {
	a := &axis{}
	for t := 0.0; t < end; {
		next := min(r.Next(t), end)
		slots := math.Ceil((next - t) / step)
		from := t
		for i := 1.0; i <= slots; i++ {
			to := t + (next-t)*i/slots
			a.slot(from, to, r.Done(from), r.Done(to))
			from = to
		}
		t = next
	}
	n := len(a.time)
	a.price, a.sum, a.used, a.follow = make([]float64, n), make([]float64, n+1), make([]float64, n), make([]float64, n)
	return a
}

func (a *axis) slot(from, to, begin, end float64) {
	if !(end > begin) || !(to > from) {
		return
	}
	if len(a.work) == 0 {
		a.work = append(a.work, begin)
	}
	a.work = append(a.work, end)
	a.time = append(a.time, from)
	a.width = append(a.width, to-from)
	a.rate = append(a.rate, (end-begin)/(to-from))
}

// add brings sum up to date with the prices, and gives the price of all slots together.
func (a *axis) add() float64 {
	for k, p := range a.price {
		a.sum[k+1] = a.sum[k] + p*a.width[k]
	}
	return a.sum[len(a.price)]
}

// last is the slot with work[k] < x ≤ work[k+1], −1 for work before the first, and the number of slots for work beyond all.
func (a *axis) last(x float64) int { return sort.SearchFloat64s(a.work, x) - 1 }

// ends is last for the end of a task. Work that is beyond the end of a slot by rounding alone ends there: the next slot may
// begin much later.
func (a *axis) ends(x float64) int { return a.last(x - 1e-12*math.Abs(x)) }

// into is how far within slot k the work x is, s.
func (a *axis) into(x float64, k int) float64 { return (x - a.work[k]) / a.rate[k] }

// when is the first time at which the work reaches x, which lies in slot k.
func (a *axis) when(x float64, k int) float64 { return a.time[k] + a.into(x, k) }

// priceOf is what a task at p pays for the server's time.
func (a *axis) priceOf(p *spot) float64 {
	return a.sum[p.to] + a.price[p.to]*p.upTo - a.sum[p.from] - a.price[p.from]*p.into
}

// take books the slots of a task at p.
func (a *axis) take(p *spot) {
	if p.from == p.to {
		a.used[p.from] += p.upTo - p.into
		return
	}
	a.used[p.from] += a.width[p.from] - p.into
	for k := p.from + 1; k < p.to; k++ {
		a.used[k] += a.width[k]
	}
	a.used[p.to] += p.upTo
}

// each gives every slot with the gradient of L in its price: by how much tasks take more of the slot than there is.
// Where a price of 0 would fall it is left out.
func (a *axis) each(f func(k int, gradient float64)) {
	for k, u := range a.used {
		if g := u - a.width[k]; g > 0 || a.price[k] > 0 {
			f(k, g)
		}
	}
}
