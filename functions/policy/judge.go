package policy

import (
	"math"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Judge weighs what was predicted and what really came by one formula, J = time·min(T/D, κ) + miss·[T > D] +
// energy·e/e₀ + money·m and what else is scarce: that of policy cost without its shadow prices, its tail and its doubts, which serve deciding and
// not judging. It is immutable.
type Judge struct{ k cost }

// NewJudge takes the costs of the configuration, which is valid.
func NewJudge(c Config) *Judge {
	c.CostShadow = false
	return &Judge{*costOf(c)}
}

// Predicted is what either way is expected to cost. A way that cannot be used costs as much as being late for ever.
func (j *Judge) Predicted(t *task.Task, e *score.Estimate, s *host.State) (local, cloud float64) {
	waited, deadline := j.k.clock(t, s)
	local = j.k.of(waited+bounded(e.LocalTime), deadline, e.LocalEnergy*j.k.strain(s)) + j.k.stall(s)
	cloud = j.k.of(waited+bounded(e.CloudTime), deadline, e.CloudEnergy*j.k.strain(s)) + j.k.paid(e)
	return local, cloud
}

// Actual is what a decision has cost, once its outcome is known, and whether the deadline was missed. What failed has cost
// all that lateness can.
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
	return cost, e.Deadline > 0 && bounded(took) > deadline
}

// Worst is what no single decision is taken to cost more than: all of lateness, money but for the price of bytes, memory, and ten times the unit
// of energy.
func (j *Judge) Worst() float64 {
	return j.k.time*j.k.kappa + j.k.miss + j.k.money + j.k.memory + 10*j.k.energy + 1e-9
}

// Horizon is the age in seconds beyond which a decision without a deadline costs no more by taking longer.
func (j *Judge) Horizon() float64 { return j.k.patience * j.k.kappa }
