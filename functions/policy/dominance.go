package policy

import (
	"math"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
)

// terms weighs the two targets of one task term by term: time, energy, money and memory. The delay that a task causes to others is no
// term of its own: a price on it must not buy what is worse in everything else.
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

// saves reports whether a target costs less of anything but time.
func (m terms) saves(target decision.Target) bool {
	if target == decision.Cloud {
		return m.memory != 0 || bounded(m.e.CloudEnergy) < bounded(m.e.LocalEnergy)
	}
	return m.money != 0 || bounded(m.e.LocalEnergy) < bounded(m.e.CloudEnergy)
}

// settle turns a decision round whose target is dominated, and holds its score on the side of the threshold where that is.
func (m terms) settle(d decision.Decision) decision.Decision {
	if m.dominated(d.Target) {
		return turned(d, decision.Dominated)
	}
	return d
}

// turned is a decision for the other target, for that reason, with its score on that side of the threshold.
func turned(d decision.Decision, why decision.Reason) decision.Decision {
	d.Target, d.Reason, d.Propensity = decision.Cloud-d.Target, why, 1
	if d.Target == decision.Local {
		d.Score = min(d.Score, math.Nextafter(d.Threshold, math.Inf(-1)))
	} else {
		d.Score = max(d.Score, d.Threshold)
	}
	return d
}

// predicted is the terms by the estimate alone.
func (c *scarce) predicted(e *score.Estimate, s *host.State) terms {
	return terms{local: e.LocalTime, cloud: e.CloudTime, e: e, money: c.paid(e), memory: c.stall(s)}
}
