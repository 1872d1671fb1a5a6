package clairvoyant

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"app-offload/cmd/offload-lab/internal/sim"
)

// lists is a plan as orders of tasks: each server does its tasks in order, as soon as task and server are available. Dropped tasks are in neither
// list; they are done after all others.
type lists struct {
	episode *sim.Episode
	order   [2][]int     // by action
	end     [2][]float64 // work at which each task of the order ends
	costs   []float64    // of each task
	at      []int8       // server of each task, or nowhere
	giveUp  []float64
	release [2][]float64
	own     [2][]float64
	away    []float64
	cost    float64
}

// newLists begins with every task dropped.
func newLists(e *sim.Episode, giveUp []float64) *lists {
	n := len(e.Jobs)
	l := &lists{episode: e, costs: make([]float64, n), at: slices.Repeat([]int8{nowhere}, n), giveUp: giveUp, away: make([]float64, n)}
	for s, r := range [2]sim.Rate{sim.Local: e.Edge, sim.Cloud: e.Link} {
		l.release[s], l.own[s] = make([]float64, n), make([]float64, n)
		for i := range e.Jobs {
			l.release[s][i], l.own[s][i] = r.Done(e.Jobs[i].At), e.Jobs[i].Mcycles
			if s == sim.Cloud {
				l.own[s][i], l.away[i] = e.Jobs[i].Bytes+e.Config.HeaderBytes, e.Away(i)
			}
		}
	}
	return l
}

// fill adopts the positions of a solution of the dual, for each server in order of their beginning.
func (l *lists) fill(places []place) {
	l.order = [2][]int{}
	for i, p := range places {
		if l.at[i] = int8(p.server); p.server != nowhere {
			l.order[p.server] = append(l.order[p.server], i)
		}
	}
	for s := range l.order {
		slices.SortStableFunc(l.order[s], func(i, k int) int {
			if places[i].spot.work < places[k].spot.work {
				return -1
			}
			return 1
		})
	}
}

// total computes all ends and costs.
func (l *lists) total() {
	copy(l.costs, l.giveUp)
	for s := range l.order {
		l.end[s] = slices.Grow(l.end[s][:0], len(l.order[s]))[:len(l.order[s])]
		free := math.Inf(-1)
		for k, i := range l.order[s] {
			free = max(free, l.release[s][i]) + l.own[s][i]
			l.end[s][k], l.costs[i] = free, l.ended(s, i, free)
		}
	}
	l.cost = 0
	for _, c := range l.costs {
		l.cost += c
	}
}

// ended is the cost of task i if its work on server s ends at x.
func (l *lists) ended(s, i int, x float64) float64 {
	at := l.episode.Jobs[i].At
	if s == sim.Cloud {
		return l.episode.Cost(i, true, l.episode.Link.When(x)-at+l.away[i])
	}
	return l.episode.Cost(i, false, l.episode.Edge.When(x)-at)
}

// remove returns the saving of removing the k-th task from server s, without its own cost.
func (l *lists) remove(s, k int) (saved float64) {
	free := math.Inf(-1)
	if k > 0 {
		free = l.end[s][k-1]
	}
	for _, i := range l.order[s][k+1:] {
		k++
		free = max(free, l.release[s][i]) + l.own[s][i]
		if free >= l.end[s][k] {
			break
		}
		saved += l.costs[i] - l.ended(s, i, free)
	}
	return saved
}

// insert returns the cost of inserting task i before the k-th task of server s, its own cost included, or any number above limit.
func (l *lists) insert(s, k, i int, limit float64) (cost float64) {
	free := l.release[s][i]
	if k > 0 {
		free = max(free, l.end[s][k-1])
	}
	free += l.own[s][i]
	cost = l.ended(s, i, free)
	for at := k; at < len(l.order[s]) && cost <= limit; at++ {
		next := l.order[s][at]
		end := max(free, l.release[s][next]) + l.own[s][next]
		if end <= l.end[s][at] {
			break
		}
		cost += l.ended(s, next, end) - l.costs[next]
		free = end
	}
	return cost
}

// cut removes the k-th task of server s, and put inserts a task. Both update ends and costs.
func (l *lists) cut(s, k int) {
	l.order[s], l.end[s] = slices.Delete(l.order[s], k, k+1), slices.Delete(l.end[s], k, k+1)
	l.again(s, k, k)
}

func (l *lists) put(s, k, i int) {
	l.order[s], l.end[s] = slices.Insert(l.order[s], k, i), slices.Insert(l.end[s], k, 0)
	l.again(s, k, k+1)
}

// again computes ends and costs from the k-th task on, until an end is unchanged. Tasks before fresh have no end yet.
func (l *lists) again(s, k, fresh int) {
	free := math.Inf(-1)
	if k > 0 {
		free = l.end[s][k-1]
	}
	for ; k < len(l.order[s]); k++ {
		i := l.order[s][k]
		free = max(free, l.release[s][i]) + l.own[s][i]
		if k >= fresh && free == l.end[s][k] {
			return
		}
		l.end[s][k] = free
		l.costs[i] = l.ended(s, i, free)
	}
}

// improve repeatedly removes a random task and inserts it where it costs least: on either server, near the position given by its arrival, or nowhere.
// It sometimes accepts a slightly worse plan, with decreasing probability (simulated annealing), and ends with the best plan found.
func (l *lists) improve(moves int, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0x706c616e))
	best := l.keep()
	l.total()
	least := l.cost
	for n := range moves {
		heat := heatFrom * math.Pow(heatTo/heatFrom, float64(n)/float64(moves))
		if l.shift(rng.IntN(len(l.at)), heat, rng); l.cost < least-hair {
			least = l.cost
			best = l.keepIn(best)
		}
	}
	l.order, l.at = best.order, best.at
	l.total()
}

// shift removes task i and inserts it where its cost plus noise of the heat's size is least: worse positions are chosen with the probability that the
// heat gives them.
func (l *lists) shift(i int, heat float64, rng *rand.Rand) {
	l.cost -= l.costs[i]
	if was := int(l.at[i]); was != nowhere {
		k := slices.Index(l.order[was], i)
		l.cost -= l.remove(was, k)
		l.cut(was, k)
	}
	to, where, cost, drawn := nowhere, 0, l.giveUp[i], l.giveUp[i]+heat*gumbel(rng)
	for s := range l.order {
		first, beyond := l.window(s, i)
		for k := first; k <= beyond; k++ {
			noise := heat * gumbel(rng)
			if c := l.insert(s, k, i, drawn-noise); c+noise < drawn {
				to, where, cost, drawn = s, k, c, c+noise
			}
		}
	}
	l.at[i] = int8(to)
	if to == nowhere {
		l.costs[i] = l.giveUp[i]
	} else {
		l.put(to, where, i)
	}
	l.cost += cost
}

const (
	heatFrom = 0.3 // relative to the cost of a task
	heatTo   = 0.01
)

// gumbel is noise with which the minimum of noisy costs has Boltzmann's distribution.
func gumbel(rng *rand.Rand) float64 { return math.Log(rng.ExpFloat64() + 1e-300) }

// window is the range of useful positions of task i on server s: from the first task that ends after its arrival to the last that begins before it is
// hopeless.
func (l *lists) window(s, i int) (first, beyond int) {
	first, _ = slices.BinarySearch(l.end[s], l.release[s][i])
	j := &l.episode.Jobs[i]
	r := l.episode.Edge
	if s == sim.Cloud {
		r = l.episode.Link
	}
	latest := r.Done(j.At + hopeless(l.episode, i))
	beyond, _ = slices.BinarySearch(l.end[s], latest)
	return first, min(beyond, first+widest)
}

const widest = 60 // maximum number of positions tried

// kept is a saved order of tasks.
type kept struct {
	order [2][]int
	at    []int8
}

func (l *lists) keep() kept { return l.keepIn(kept{}) }

func (l *lists) keepIn(k kept) kept {
	for s := range l.order {
		k.order[s] = append(k.order[s][:0], l.order[s]...)
	}
	k.at = append(k.at[:0], l.at...)
	return k
}

// Search bounds the work of Solve. Equal searches of equal episodes give equal results.
type Search struct {
	Slot  float64 // s, at the usual time scale, per price: shorter slots give a higher bound
	Steps int     // maximum steps of the prices
	Moves int     // of the local search
	Seed  uint64  // of the local search
}

// DefaultSearch takes about a second for 600 tasks.
func DefaultSearch() Search { return Search{Slot: 0.02, Steps: 1500, Moves: 400_000, Seed: 1} }

// Step binds a task to a server.
type Step struct {
	Job   int
	At    float64 // s since the start of the episode
	Cloud bool
}

// Plan is a plan in order of time, with its cost and bound.
type Plan struct {
	Steps []Step
	Cost  float64 // J of the plan, summed over all tasks
	Bound float64 // lower bound of all plans
}

// Solve computes a lower bound of the best plan's cost, and a plan close to it.
func (s Search) Solve(e *sim.Episode) Plan {
	d := newDual(e, s.Slot*e.Config.Scale)
	l := newLists(e, d.giveUp)
	l.improve(s.Moves/20, s.Seed) // the search of the prices needs an upper bound
	bound, places := d.search(s.Steps, l.cost)
	l.fill(places)
	l.improve(s.Moves, s.Seed)
	return Plan{Steps: l.steps(), Cost: l.cost, Bound: bound}
}

// steps returns the plan in execution order: a task is bound when its server has done all earlier tasks.
func (l *lists) steps() (all []Step) {
	last := 0.0
	for s, r := range [2]sim.Rate{sim.Local: l.episode.Edge, sim.Cloud: l.episode.Link} {
		free := 0.0
		for k, i := range l.order[s] {
			all = append(all, Step{i, max(free, l.episode.Jobs[i].At), s == sim.Cloud})
			free = r.When(l.end[s][k])
		}
		last = max(last, free)
	}
	for i, s := range l.at {
		if s == nowhere {
			late := hopeless(l.episode, i)
			cloud := l.episode.Cost(i, true, late) < l.episode.Cost(i, false, late)
			all = append(all, Step{i, max(last, l.episode.Jobs[i].At+late), cloud})
		}
	}
	slices.SortStableFunc(all, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return all
}

// Play runs the plan in the simulator.
func (p *Plan) Play(env *sim.Env, e *sim.Episode, each func(sim.Info)) {
	env.Begin(e)
	for _, s := range p.Steps {
		each(env.Bind(s.Job, s.At, s.Cloud))
	}
}

// Load is the work of the episode relative to the capacity of both servers until its last task arrives, with the work divided between them so that
// the busier one has the least to do.
//
// For any share x_i of task i on the node, the load of the busier one is at least λ·node + (1−λ)·link for every λ in [0,1], and the best division
// takes the tasks in order of bytes per Mcycle: it is the fractional knapsack of two resources.
func Load(e *sim.Episode) float64 {
	if len(e.Jobs) == 0 {
		return 0
	}
	last := e.Jobs[len(e.Jobs)-1].At
	node, link := e.Edge.Done(last)-e.Edge.Done(0), e.Link.Done(last)-e.Link.Done(0)
	type need struct{ node, link float64 }
	needs, sent, kept := make([]need, len(e.Jobs)), 0.0, 0.0
	for i := range e.Jobs {
		needs[i] = need{e.Jobs[i].Mcycles / node, (e.Jobs[i].Bytes + e.Config.HeaderBytes) / link}
		sent += needs[i].link
	}
	slices.SortFunc(needs, func(a, b need) int { return cmp.Compare(b.link*a.node, a.link*b.node) })
	for _, n := range needs { // move from link to node, the tasks that relieve the link most first
		if kept+n.node > sent-n.link {
			share := (sent - kept) / (n.node + n.link)
			return kept + max(share, 0)*n.node
		}
		kept, sent = kept+n.node, sent-n.link
	}
	return max(kept, sent)
}
