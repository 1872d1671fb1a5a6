package clairvoyant

import (
	"math"
	"slices"
	"sort"

	"app-offload/cmd/offload-lab/internal/sim"
)

// spot is one place of a task at which its cost, prices included, can be least.
type spot struct {
	cost     float64 // without prices
	into     float64 // s of slot from before the task begins
	upTo     float64 // s of slot to before it ends
	work     float64 // at which it begins
	from, to int32   // the slots in which it begins and ends
}

// nowhere is the server of a task that is dropped: it is done after all others.
const nowhere = -1

// place is where a task is best put at some prices.
type place struct {
	server int
	spot   spot
}

// dual is an episode with prices for the time of its servers.
type dual struct {
	axes   [2]*axis    // by action
	spots  [2][][]spot // by action and task, in the order of their begin
	giveUp []float64   // cost of a task that is as late as makes no difference
	places []place     // of the latest value
}

// newDual cuts the axes into slots of that many seconds. Prices are 0.
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

// hopeless is a completion time from which on job i costs no more, s.
func hopeless(e *sim.Episode, i int) float64 {
	return max(max(e.Config.Cost.Kappa, 1+2*hair)*e.Jobs[i].Deadline, e.Config.Cost.Tail.To)
}

// hair is the relative rounding that is granted to a task: that much later than its deadline is not late.
const hair = 1e-9

// spotsOf lists where the cost of job i can be least, as the package's comment proves. Those that cost no less than giving
// the task up are left out.
func spotsOf(e *sim.Episode, i int, cloud bool, r sim.Rate, a *axis, giveUp float64) (spots []spot) {
	j, c := &e.Jobs[i], &e.Config.Cost
	own, away := j.Mcycles, 0.0
	if cloud {
		own, away = j.Bytes+e.Config.HeaderBytes, e.Away(i)
	}
	release := r.Done(j.At)
	// add reports whether a later place can still be worth anything. The task ends in slot to or at its end.
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

// value is L at the present prices. It leaves in places where each task went, and books the slots that it takes.
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

// search moves the prices up the gradient of L and gives the highest L that it met, of so many. upper is what a plan costs.
// The direction is deflected after Camerini, Fratta and Maffioli, "On improving relaxation methods by modified gradient
// techniques", Mathematical Programming Study 3 (1975); the step is Polyak's towards upper.
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

// patience is for how many steps L may rise by next to nothing before the steps become shorter.
const patience = 20

// move makes a step that would raise L by rise if L went straight on, and reports false where L is at its highest.
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
