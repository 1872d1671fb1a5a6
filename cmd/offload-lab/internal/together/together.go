// Package together measures the benefit of federated learning: the cost of a new gateway's first tasks with and without the statistics of other
// gateways, and with a hostile gateway among them. It uses the service's own statistics, clipping, sums and priors.
package together

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"

	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/functions/decision"
	"app-offload/functions/fleet"
	"app-offload/functions/policy"
	"app-offload/functions/pool"
	"app-offload/functions/score"
)

// Trial is a comparison.
type Trial struct {
	Learn, Judge *sim.World // of the learning gateways, and of the new one
	Policy       string
	Nodes        int // learning gateways, one episode each
	Fleets       int // number of fleets; the common errors are drawn for each
	Newcomers    int // per fleet, one episode each
	Seed         uint64
	Epsilon      float64 // of the noise, 0 means no noise
	Config       fleet.Config
}

// Starts are the starts of a new gateway.
var Starts = []string{"alone", "fleet", "hostile"}

// Firsts are the numbers of first tasks whose cost is shown.
var Firsts = []int{20, 50, 100, 200, 600}

// Result is the cost of the first tasks, by start and number of tasks, for each fleet: the mean over its newcomers.
type Result struct{ Costs [3][5][]float64 }

// Mean returns the mean over the fleets of the cost of the first tasks with a start, and the half-width of its 95 % confidence interval, infinite for
// one fleet; less is the mean saving over the first start.
func (r *Result) Mean(start, first int) (mean, less, lessCI float64) {
	n := float64(len(r.Costs[start][first]))
	squares := 0.0
	for i, c := range r.Costs[start][first] {
		mean += c / n
		less += (r.Costs[0][first][i] - c) / n
	}
	for i, c := range r.Costs[start][first] {
		off := r.Costs[0][first][i] - c - less
		squares += off * off
	}
	if n < 2 {
		return mean, less, math.Inf(1)
	}
	return mean, less, 1.96 * math.Sqrt(squares/(n-1)/n)
}

// Run runs all fleets.
func (t *Trial) Run(ctx context.Context) (*Result, error) {
	r := &Result{}
	for i := range t.Fleets {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := t.fleet(uint64(i), r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (t *Trial) fleet(i uint64, r *Result) error {
	seed := t.Seed*1_000_003 + i
	rng := rand.New(rand.NewPCG(seed, 0x746f67))
	belief := math.Exp(rng.NormFloat64()) // of the cloud's speed, the error common to all
	var all []pool.Parts
	for node := range t.Nodes {
		own, err := t.play(t.Learn, seed*1000+uint64(node), seed+1, belief, nil, nil)
		if err != nil {
			return err
		}
		all = append(all, own.Clip(t.Config.Clip))
	}
	priors := [3]pool.Parts{nil, t.prior(all, rng), t.prior(append(all[1:len(all):len(all)], hostile(all[0], t.Config.Clip)), rng)}
	for start := range Starts {
		var sums [5]float64
		for k := range t.Newcomers {
			if _, err := t.play(t.Judge, seed*1000+500+uint64(k), seed+1, belief, priors[start], &sums); err != nil {
				return err
			}
		}
		for first := range Firsts {
			r.Costs[start][first] = append(r.Costs[start][first], sums[first]/float64(t.Newcomers))
		}
	}
	return nil
}

// prior is the prior of a new gateway.
func (t *Trial) prior(all []pool.Parts, rng *rand.Rand) pool.Parts {
	sum, from, terms := pool.Parts{}, map[string]int{}, fleet.DefaultTerms()
	for _, one := range all {
		sum.Add(one)
		for part := range one {
			from[part]++
		}
	}
	maps.DeleteFunc(sum, func(part string, _ pool.Part) bool { return from[part] < terms.Least })
	terms.Clip, terms.Epsilon = t.Config.Clip, t.Epsilon
	if d := terms.Deviation(len(from)); d > 0 {
		seed := rng.Uint64()
		sum.Noise(d, func(part string) func() float64 { // parts come in any order
			h := fnv.New64a()
			_, _ = h.Write([]byte(part))
			return rand.New(rand.NewPCG(seed, h.Sum64())).NormFloat64
		})
	}
	return sum.Weigh(t.Config.Weight)
}

// hostile claims, with the maximum weight, that local work takes as long as statistics may state, and the cloud no time.
func hostile(honest pool.Parts, clip float64) pool.Parts {
	lie := pool.Parts{}
	for name, p := range honest {
		sign := -1.0
		if name == pool.Bandit+"local" || name == pool.All+"local" || name[:len(pool.Local)] == pool.Local {
			sign = 1
		}
		q := pool.Part{Matrix: make([]float64, len(p.Matrix)), Moments: make([]float64, len(p.Moments))}
		for i := range p.Matrix {
			q.Matrix[i] = p.Matrix[i] * 1e6
		}
		for i := range p.Moments {
			q.Moments[i] = sign * 1e9
		}
		lie[name] = q
	}
	return lie.Clip(clip)
}

// play runs an episode of a gateway and returns its contribution. sums, if not nil, gets the cost of its first tasks.
func (t *Trial) play(w *sim.World, episode, shared uint64, belief float64, prior pool.Parts, sums *[5]float64) (pool.Parts, error) {
	own := *w // the recordings are shared
	rng := rand.New(rand.NewPCG(episode, 0x6e6f6465))
	own.Config.Unknown.Fleet, own.Config.Beliefs.Cloud = shared, belief
	own.Config.Beliefs.Edge = math.Exp(0.2 * rng.NormFloat64()) // a node's own calibration has a small error
	env, err := sim.NewEnv(&own)
	if err != nil {
		return nil, err
	}
	c := policy.DefaultConfig()
	c.RandomSeed = int(episode % 1e9)
	p, err := policy.New(t.Policy, c)
	if err != nil {
		return nil, fmt.Errorf("-policies: %w", err)
	}
	pooled, learns := p.(policy.Pooled)
	if learns {
		pooled.Prior(prior)
	}
	var model *score.Model
	env.Begins = func(m *score.Model) {
		model = m
		m.Prior(prior)
	}
	sim.Play(env, own.Draw(episode), p, func(_ *sim.Situation, _ decision.Decision, info sim.Info) {
		for i, first := range Firsts {
			if sums != nil && info.Job < first {
				sums[i] += info.Cost / float64(first)
			}
		}
	})
	parts := model.Statistics(int64(t.Config.MinOutcomes))
	if learns {
		parts.Add(pooled.Statistics(int64(t.Config.MinOutcomes)))
	}
	return parts, nil
}
