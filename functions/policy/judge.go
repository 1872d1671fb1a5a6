package policy

import (
	"math"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Judge prices predictions and outcomes by one formula: J = time·min(T/D, κ) + miss·[T > D] + energy·e/e₀ + money·m and the terms of scarce
// resources. It is the formula of policy cost without shadow prices, tail and doubt, which serve to decide and not to judge. A Judge is immutable.
type Judge struct{ k cost }

// NewJudge returns a judge with the costs of a valid configuration.
func NewJudge(c Config) *Judge {
	c.CostShadow = false
	return &Judge{*costOf(c)}
}

// Predicted returns the expected cost of both targets. An unusable target costs as much as an infinite delay.
func (j *Judge) Predicted(t *task.Task, e *score.Estimate, s *host.State) (local, cloud float64) {
	waited, deadline := j.k.clock(t, s)
	local = j.k.of(waited+bounded(e.LocalTime), deadline, e.LocalEnergy*j.k.strain(s)) + j.k.stall(s)
	cloud = j.k.of(waited+bounded(e.CloudTime), deadline, e.CloudEnergy*j.k.strain(s)) + j.k.paid(e)
	return local, cloud
}

// Actual returns the cost of a decision whose outcome is known, and whether the deadline was missed. A failed task costs the maximum of lateness.
func (j *Judge) Actual(e *decision.Entry) (cost float64, missed bool) {
	took, deadline := e.Outcome.Time+e.Waited.Seconds(), e.Deadline.Seconds()
	if e.Outcome.Failed {
		took = math.Inf(1)
	}
	if e.Deadline <= 0 {
		deadline = math.Inf(1)
		took -= e.Waited.Seconds()
	}
	cost = j.k.of(bounded(took), deadline, e.Outcome.Energy*j.k.strain(&e.State))
	if e.Decision.Target == decision.Cloud {
		cost += j.k.paid(&e.Estimate)
	} else {
		cost += j.k.stall(&e.State)
	}
	return cost, bounded(took) > deadline
}

// Worst is the largest cost that a single decision is assumed to have: all of lateness, money except for the price of bytes, memory, and ten times
// the unit of energy.
func (j *Judge) Worst() float64 {
	return j.k.time*j.k.kappa + j.k.miss + j.k.money + j.k.memory + 10*j.k.energy + 1e-9
}

// Horizon is the age in seconds beyond which a decision without a deadline costs no more by taking longer.
func (j *Judge) Horizon() float64 { return j.k.patience * j.k.kappa }
