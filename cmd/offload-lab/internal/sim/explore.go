package sim

import (
	"math/rand/v2"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// explorer takes the other way at times, with propensities that say so.
type explorer struct {
	policy.Policy
	share float64
	rng   *rand.Rand
}

// Explore makes a policy that takes the other way than p in that share of its decisions. Its decisions can teach what p's
// own, which may be certain, cannot. It belongs to one goroutine.
func Explore(p policy.Policy, share float64, seed uint64) policy.Policy {
	x := &explorer{p, share, rand.New(rand.NewPCG(seed, 0x6578706c6f7265))}
	if learner, ok := p.(policy.Learner); ok {
		return &student{learner, x}
	}
	return x
}

// student is an explorer that learns from what it explored.
type student struct {
	policy.Learner
	explorer *explorer
}

// Decide explores.
func (s *student) Decide(t *task.Task, e *score.Estimate, state *host.State) decision.Decision {
	return s.explorer.Decide(t, e, state)
}

// Decide takes the probability of the target from both how p chose it and how it may have been turned round.
func (x *explorer) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	d := x.Policy.Decide(t, e, s)
	if x.rng.Float64() < x.share {
		d.Target, d.Propensity, d.Reason = decision.Cloud-d.Target, 1-d.Propensity, decision.Explored
	}
	d.Propensity = d.Propensity*(1-x.share) + (1-d.Propensity)*x.share
	return d
}
