package sim

import (
	"math/rand/v2"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// explorer sometimes reverses the target, and reports the resulting propensities.
type explorer struct {
	policy.Policy
	share float64
	rng   *rand.Rand
}

// Explore returns a policy that reverses p's target in that share of its decisions. Its outcomes cover targets that p itself may never choose. It
// must be used by one goroutine.
func Explore(p policy.Policy, share float64, seed uint64) policy.Policy {
	x := &explorer{p, share, rand.New(rand.NewPCG(seed, 0x6578706c6f7265))}
	if learner, ok := p.(policy.Learner); ok {
		return &student{learner, x}
	}
	return x
}

// student is an explorer that learns from its outcomes.
type student struct {
	policy.Learner
	explorer *explorer
}

// Decide explores.
func (s *student) Decide(t *task.Task, e *score.Estimate, state *host.State) decision.Decision {
	return s.explorer.Decide(t, e, state)
}

// Decide computes the probability of the target from p's own propensity and the probability of a reversal.
func (x *explorer) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	d := x.Policy.Decide(t, e, s)
	if x.rng.Float64() < x.share {
		d.Target, d.Propensity, d.Reason = decision.Cloud-d.Target, 1-d.Propensity, decision.Explored
	}
	d.Propensity = d.Propensity*(1-x.share) + (1-d.Propensity)*x.share
	return d
}
