package clairvoyant

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/cmd/offload-lab/internal/oracle"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/trace"
)

func world(t *testing.T, tasks int, busy float64) *sim.World {
	t.Helper()
	c := sim.DefaultConfig()
	c.Tasks, c.Rates = tasks, [2]float64{busy, busy}
	w, err := sim.NewWorld(c, trace.Synthetic(7, 12, 4, 4))
	require.NoError(t, err)
	return w
}

// best is the cost of the best plan by exhaustive search over orders and paths. Each task starts as soon as task and server are available, or when it
// is hopeless.
func best(e *sim.Episode) float64 {
	least, used := math.Inf(1), make([]bool, len(e.Jobs))
	var try func(edge, link, cost float64, left int)
	try = func(edge, link, cost float64, left int) {
		if left == 0 {
			least = min(least, cost)
			return
		}
		for i := range e.Jobs {
			if used[i] || cost >= least {
				continue
			}
			used[i] = true
			next, took := e.Local(i, edge)
			try(next, link, cost+e.Cost(i, false, took), left-1)
			next, took = e.Cloud(i, link)
			try(edge, next, cost+e.Cost(i, true, took), left-1)
			used[i] = false
		}
	}
	s := e.Idle()
	try(s.Edge, s.Link, 0, len(e.Jobs))
	return least
}

// The bound holds for any prices, and local search finds the best plan of these few tasks.
func TestTheBestPlanLiesBetweenTheBounds(t *testing.T) {
	w := world(t, 5, 12)
	search := Search{Slot: 0.02, Steps: 300, Moves: 2000, Seed: 1}
	gap := 0.0
	for seed := range uint64(60) {
		e := w.Draw(seed)
		if seed%3 == 1 {
			e = e.With(sim.Tail{PerSecond: 1, From: 4, To: 9})
		}
		want, p := best(e), search.Solve(e)
		require.LessOrEqual(t, p.Bound, want+1e-12, "seed %d", seed)
		require.InDelta(t, want, p.Cost, 1e-9, "seed %d", seed)
		gap += (want - p.Bound) / 5 / 60
	}
	require.Less(t, gap, 0.03, "the bound is to be of use")
}

// L is a bound for any prices, not only for those of the search.
func TestAnyPricesGiveABound(t *testing.T) {
	w := world(t, 5, 12)
	rng := rand.New(rand.NewPCG(3, 4))
	for seed := range uint64(20) {
		e := w.Draw(seed)
		want := best(e)
		for _, slot := range []float64{0.01, 0.3, 2} {
			d := newDual(e, slot)
			for range 20 {
				scale := rng.ExpFloat64()
				for _, a := range d.axes {
					for k := range a.price {
						a.price[k] = scale * max(rng.NormFloat64(), 0)
					}
				}
				require.LessOrEqual(t, d.value(), want, "seed %d, slots of %v s", seed, slot)
			}
		}
	}
}

// The inner minimum is exact: no position between the candidates is cheaper, even with a rate of 0 for a while.
func TestNoPlaceBetweenTheSpotsIsCheaper(t *testing.T) {
	c := sim.DefaultConfig()
	c.Tasks = 6
	set := trace.Synthetic(7, 3, 3, 3)
	for i := range set.Links {
		for k := range set.Links[i].Values {
			if k%4 == 2 {
				set.Links[i].Values[k] = 0
			}
		}
	}
	w, err := sim.NewWorld(c, set)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(5, 6))
	for seed := range uint64(20) {
		e := w.Draw(seed)
		d := newDual(e, 0.1)
		for _, a := range d.axes {
			for k := range a.price {
				a.price[k] = max(rng.NormFloat64(), 0)
			}
		}
		d.value()
		for i := range e.Jobs {
			least := d.giveUp[i]
			if p := d.places[i]; p.server != nowhere {
				least = p.spot.cost + d.axes[p.server].priceOf(&p.spot)
			}
			for s, r := range [2]sim.Rate{e.Edge, e.Link} {
				for range 300 {
					at := e.Jobs[i].At + rng.Float64()*hopeless(e, i)
					own, away := e.Jobs[i].Mcycles, 0.0
					if s == sim.Cloud {
						own, away = e.Jobs[i].Bytes+c.HeaderBytes, e.Away(i)
					}
					w := r.Done(at)
					a := d.axes[s]
					if w+own > a.work[len(a.work)-1] {
						continue
					}
					took := r.When(w+own) - e.Jobs[i].At + away
					from, to := max(a.last(w), 0), a.ends(w+own)
					v := e.Cost(i, s == sim.Cloud, took) + a.upTo(w+own, to) - a.upTo(w, from)
					require.GreaterOrEqual(t, v, least-1e-9, "seed %d, task %d, server %d", seed, i, s)
				}
			}
		}
	}
}

func (a *axis) upTo(x float64, k int) float64 { return a.sum[k] + a.price[k]*a.into(x, k) }

// The plan has the stated cost in the simulator, binds each task once, in order of time and not before its arrival, and is never worse than the
// optimum of binding on arrival.
func TestThePlanHoldsInTheSimulator(t *testing.T) {
	w := world(t, 200, 3)
	env, err := sim.NewEnv(w)
	require.NoError(t, err)
	for seed := range uint64(6) {
		e := w.Draw(seed)
		p := Search{Slot: 0.05, Steps: 300, Moves: 30_000, Seed: 1}.Solve(e)
		now, cost, done := 0.0, 0.0, map[int]bool{}
		for _, s := range p.Steps {
			require.GreaterOrEqual(t, s.At, now)
			require.GreaterOrEqual(t, s.At, e.Jobs[s.Job].At)
			require.False(t, done[s.Job])
			done[s.Job], now = true, s.At
		}
		require.Len(t, done, 200)
		p.Play(env, e, func(i sim.Info) { cost += i.Cost })
		require.InDelta(t, p.Cost, cost, 1e-6, "seed %d", seed)
		require.Less(t, p.Bound, p.Cost)
		require.Less(t, p.Cost, oracle.DefaultSearch().Solve(e).Cost)
		require.Equal(t, p, Search{Slot: 0.05, Steps: 300, Moves: 30_000, Seed: 1}.Solve(e), "equal searches, equal plans")
	}
}

// The load is the minimum load of the busier server: no split between λ and 1−λ of both is lower.
func TestLoadIsThatOfTheBestDivision(t *testing.T) {
	c := sim.DefaultConfig()
	c.HeaderBytes = 0
	e, err := sim.Steady(&c, []sim.Job{{Mcycles: 100, Bytes: 100}, {Mcycles: 100, Bytes: 300}, {At: 10, Mcycles: 300, Bytes: 100}}, 30, 30)
	require.NoError(t, err)
	// Capacity 300 each. The second goes to the node (100), the third to the link (100); the first is halved: 150 each.
	require.InDelta(t, 0.5, Load(e), 1e-12)
	require.Zero(t, Load(&sim.Episode{}))
}

// Bound and plan of an episode never change, also where most tasks are dropped: published figures stay comparable.
func TestAPlanIsWhatItAlwaysWas(t *testing.T) {
	var b strings.Builder
	for _, busy := range []float64{2, 8, 40} {
		w := world(t, 60, busy)
		for seed := range uint64(3) {
			p := Search{Slot: 0.05, Steps: 150, Moves: 6000, Seed: 1}.Solve(w.Draw(seed))
			at, cloud := 0.0, 0
			for _, s := range p.Steps {
				if at += s.At; s.Cloud {
					cloud++
				}
			}
			fmt.Fprintf(&b, "rate %g, seed %d: cost %.9g bound %.9g, %d steps at %.9g, %d to the cloud, load %.9g\n", busy, seed, p.Cost, p.Bound, len(p.Steps), at, cloud, Load(w.Draw(seed)))
		}
	}
	golden.Require(t, "plans.golden", b.String())
}
