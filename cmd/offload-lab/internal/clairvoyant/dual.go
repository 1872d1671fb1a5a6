package clairvoyant

import (
	"math"
	"slices"
	"sort"

	"app-offload/cmd/offload-lab/internal/sim"
)

// spot is a candidate position for the minimum cost of a task, prices included.
type spot struct {
	cost     float64 // without prices
	into     float64 // s of its first slot before the task begins
	upTo     float64 // s of its last slot before the task ends
	work     float64 // position at which it begins
	from, to int32   // its first and last slot
}

// nowhere is the server of a dropped task: it is done after all others.
const nowhere = -1

// place is the best position of a task at some prices.
type place struct {
	server int
	spot   spot
}

// dual is an episode with prices for its servers' time.
type dual struct {
	axes   [2]*axis    // by action
	spots  [2][][]spot // by action and task, in order of their beginning
	giveUp []float64   // cost of a task whose lateness no longer matters
	places []place     // of the latest value
}

// newDual cuts the axes into slots of step seconds. Prices are 0.
func newDual(e *sim.Episode, step float64) *dual {
	d := &dual{giveUp: make([]float64, len(e.Jobs)), places: make([]place, len(e.Jobs))}
	end := 1.0
	for i := range e.Jobs {
		late := hopeless(e, i)
		end = max(end, e.Jobs[i].At+late)
		d.giveUp[i] = min(e.Cost(i, false, late), e.Cost(i, true, late))
	}
	for s, r := range [2]sim.Rate{sim.Local: e.Edge, sim.Cloud: e.Link} {
		d.axes[s] = newAxis(r, end, step)
		d.spots[s] = make([][]spot, len(e.Jobs))
		for i := range e.Jobs {
			d.spots[s][i] = spotsOf(e, i, s == sim.Cloud, r, d.axes[s], d.giveUp[i])
		}
	}
	return d
}

// hopeless returns a completion time in s from which on job i costs no more.
func hopeless(e *sim.Episode, i int) float64 {
	return max(max(e.Config.Cost.Kappa, 1+2*hair)*e.Jobs[i].Deadline, e.Config.Cost.Tail.To)
}

// hair is the relative tolerance for rounding: a task that much after its deadline is not late.
const hair = 1e-9

// spotsOf lists the possible minima of job i's cost, as proved in the package's comment. It omits those that cost at least as much as dropping the
// task.
func spotsOf(e *sim.Episode, i int, cloud bool, r sim.Rate, a *axis, giveUp float64) (spots []spot) {
	j, c := &e.Jobs[i], &e.Config.Cost
	own, away := j.Mcycles, 0.0
	if cloud {
		own, away = j.Bytes+e.Config.HeaderBytes, e.Away(i)
	}
	release := r.Done(j.At)
	// add reports whether a later position can still be useful. The task ends in slot to or at its end.
	add := func(w, x float64, to int) bool {
		if w < release || to < 0 || to >= len(a.time) {
			return w < release
		}
		took := a.when(x, to) - j.At + away
		if took > j.Deadline && took <= j.Deadline*(1+hair) {
			took = j.Deadline
		}
		from := max(a.last(w), 0)
		s := spot{e.Cost(i, cloud, took), a.into(w, from), a.into(x, to), w, int32(from), int32(to)} // far fewer than 2³¹ slots
		if s.cost < giveUp {
			spots = append(spots, s)
		}
		return s.cost < giveUp
	}
	add(release, release+own, a.ends(release+own))
	for k := a.last(release) + 1; k < len(a.work) && add(a.work[max(k, 0)], a.work[max(k, 0)]+own, a.ends(a.work[max(k, 0)]+own)); k++ {
	}
	for k := a.ends(release+own) + 1; k < len(a.work) && add(a.work[k]-own, a.work[k], k-1); k++ {
	}
	for _, t := range []float64{j.Deadline, c.Kappa * j.Deadline, c.Tail.From, c.Tail.To} {
		if t > away {
			x := r.Done(j.At + t - away)
			add(x-own, x, a.ends(x))
		}
	}
	slices.SortFunc(spots, func(s, t spot) int {
		if s.cost < t.cost || s.cost == t.cost && s.work < t.work {
			return -1
		}
		return 1
	})
	return spots
}

// value returns L at the current prices. It stores each task's position in places, and adds up the used slots.
func (d *dual) value() float64 {
	total, size := 0.0, 1.0
	for _, a := range d.axes {
		all := a.add()
		total -= all
		size += all
		clear(a.used)
	}
	for i := range d.places {
		best, at := d.giveUp[i], place{server: nowhere}
		for s, a := range d.axes {
			for k := range d.spots[s][i] {
				p := &d.spots[s][i][k]
				if p.cost >= best {
					break // prices are not negative
				}
				if v := p.cost + a.priceOf(p); v < best {
					best, at = v, place{s, *p}
				}
			}
		}
		total += best
		size += best
		d.places[i] = at
		if at.server != nowhere {
			d.axes[at.server].take(&at.spot)
		}
	}
	return total - hair*size
}

// search moves the prices along the gradient of L for a number of steps, and returns the highest L found. upper is the cost of a plan. The direction
// is deflected after Camerini, Fratta and Maffioli, "On improving relaxation methods by modified gradient techniques", Mathematical Programming Study
// 3 (1975); the step is Polyak's towards upper.
func (d *dual) search(steps int, upper float64) (bound float64, places []place) {
	bound = math.Inf(-1)
	scale, since := 1.0, 0
	best := [2][]float64{}
	for range steps {
		v := d.value()
		if v > bound {
			if v > bound+1e-5*math.Abs(upper) {
				since = 0
			}
			bound = v
			places = append(places[:0], d.places...)
			for s, a := range d.axes {
				best[s] = append(best[s][:0], a.price...)
			}
		}
		if since++; since > patience {
			scale, since = scale/2, 0
			for s, a := range d.axes {
				copy(a.price, best[s])
				clear(a.follow)
			}
			continue
		}
		if !(upper > v) || scale < 1e-4 || !d.move(scale*(upper-v)) {
			break
		}
	}
	return bound, places
}

// patience is the number of steps without a relevant rise of L before the steps become shorter.
const patience = 20

// move makes a step that would raise L by rise if L were linear, and reports false at the maximum of L.
func (d *dual) move(rise float64) bool {
	dot, norm, steep := 0.0, 0.0, 0.0
	for _, a := range d.axes {
		a.each(func(k int, g float64) {
			dot += g * a.follow[k]
			norm += a.follow[k] * a.follow[k]
			steep += g * g
		})
	}
	if steep == 0 {
		return false
	}
	deflect := 0.0
	if dot < 0 {
		deflect = -1.5 * dot / norm
	}
	norm = 0
	for _, a := range d.axes {
		a.each(func(k int, g float64) {
			a.follow[k] = g + deflect*a.follow[k]
			norm += a.follow[k] * a.follow[k]
		})
	}
	for _, a := range d.axes {
		for k := range a.price {
			a.price[k] = max(a.price[k]+rise/norm*a.follow[k], 0)
		}
	}
	return true
}

// axis is one server's work, cut into slots of constant rate. Periods in which the server can do nothing are not slots.
type axis struct {
	work   []float64 // at the start of each slot, and at the end of the last; ascending
	time   []float64 // s, at the start of each slot
	rate   []float64 // work per second within each slot
	width  []float64 // s, of each slot
	price  []float64 // cost of a second of the server's time in each slot
	sum    []float64 // price of all slots before each one, and at the end of all
	used   []float64 // s of each slot used by tasks
	follow []float64 // direction of the prices
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

// add updates sum from the prices, and returns the total price of all slots.
func (a *axis) add() float64 {
	for k, p := range a.price {
		a.sum[k+1] = a.sum[k] + p*a.width[k]
	}
	return a.sum[len(a.price)]
}

// last returns the slot with work[k] < x ≤ work[k+1], −1 for work before the first, and the number of slots for work beyond the last.
func (a *axis) last(x float64) int { return sort.SearchFloat64s(a.work, x) - 1 }

// ends is last for the end of a task. Work beyond the end of a slot only by rounding ends there: the next slot may begin much later.
func (a *axis) ends(x float64) int { return a.last(x - 1e-12*math.Abs(x)) }

// into is the position of work x within slot k, s.
func (a *axis) into(x float64, k int) float64 { return (x - a.work[k]) / a.rate[k] }

// when is the first time at which the work reaches x, which is in slot k.
func (a *axis) when(x float64, k int) float64 { return a.time[k] + a.into(x, k) }

// priceOf is the price of the server's time for a task at p.
func (a *axis) priceOf(p *spot) float64 {
	return a.sum[p.to] + a.price[p.to]*p.upTo - a.sum[p.from] - a.price[p.from]*p.into
}

// take adds a task at p to the used slots.
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

// each calls f for every slot with the gradient of L in its price: the excess use of the slot. It skips slots with a price of 0 that would fall.
func (a *axis) each(f func(k int, gradient float64)) {
	for k, u := range a.used {
		if g := u - a.width[k]; g > 0 || a.price[k] > 0 {
			f(k, g)
		}
	}
}
