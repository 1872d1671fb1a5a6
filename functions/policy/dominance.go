package policy

import (
	"math"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
)

// terms compares the two targets of one task term by term: time, energy, money and memory. The delay that a task causes to other tasks is not a term:
// a price on it must not justify a target that is worse in everything else.
type terms struct {
	local, cloud float64 // predicted time, s
	e            *score.Estimate
	money        float64 // cost of the cloud
	memory       float64 // cost of more local work while memory is short
}

// dominated reports whether a target takes longer than the other and costs no less of anything.
func (m terms) dominated(target decision.Target) bool {
	longer := m.local > m.cloud
	if target == decision.Cloud {
		longer = m.cloud > m.local
	}
	return longer && !m.saves(target)
}

// saves reports whether a target costs less than the other in any term but time.
func (m terms) saves(target decision.Target) bool {
	if target == decision.Cloud {
		return m.memory != 0 || bounded(m.e.CloudEnergy) < bounded(m.e.LocalEnergy)
	}
	return m.money != 0 || bounded(m.e.LocalEnergy) < bounded(m.e.CloudEnergy)
}

// settle reverses a decision whose target is dominated, and moves its score to the matching side of the threshold.
func (m terms) settle(d decision.Decision) decision.Decision {
	if m.dominated(d.Target) {
		return turned(d, decision.Dominated)
	}
	return d
}

// turned returns the decision for the other target, for that reason, with its score on that side of the threshold.
func turned(d decision.Decision, why decision.Reason) decision.Decision {
	d.Target, d.Reason, d.Propensity = decision.Cloud-d.Target, why, 1
	if d.Target == decision.Local {
		d.Score = min(d.Score, math.Nextafter(d.Threshold, math.Inf(-1)))
	} else {
		d.Score = max(d.Score, d.Threshold)
	}
	return d
}

// predicted returns the terms by the estimate alone.
func (c *scarce) predicted(e *score.Estimate, s *host.State) terms {
	return terms{local: e.LocalTime, cloud: e.CloudTime, e: e, money: c.paid(e), memory: c.stall(s)}
}
