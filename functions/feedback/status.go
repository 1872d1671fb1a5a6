package feedback

import (
	"math"

	"app-offload/functions/status"
	"app-offload/functions/trial"
)

// Status returns the status of decisions and policies.
func (f *Feedback) Status() status.PolicyStatus {
	r := f.rules()
	p := status.PolicyStatus{
		Acting: map[string]string{"": r.For("").Name()}, Shadows: []status.ShadowStatus{},
		Unsettled: f.ring.Unsettled(), Learned: f.learned.status(), DecisionLog: f.log.status(),
	}
	p.Learned.Outcomes = map[string]status.TaughtCount{}
	for _, l := range r.Learners() {
		local, cloud := l.Outcomes()
		p.Learned.Outcomes[l.Name()] = status.TaughtCount{Local: local, Cloud: cloud}
	}
	for _, c := range r.Classes.All() {
		if c.Policy != "" {
			p.Acting[c.Name] = r.For(c.Policy).Name()
		}
	}
	for _, c := range r.Shadows() {
		n := math.Max(float64(c.Decisions), 1)
		p.Shadows = append(p.Shadows, status.ShadowStatus{
			Policy: c.Policy, Decisions: c.Decisions, Agreement: float64(c.Agreed) / n, Cost: c.Cost / n, ActingCost: c.ActingCost / n,
		})
	}
	p.Canary = f.Canary()
	f.tally.report(&p)
	return p
}

// Canary returns the status of the canary, nil if none is configured.
func (f *Feedback) Canary() *status.CanaryStatus {
	c, on := f.rules().Canary()
	if !on {
		return nil
	}
	state := "running"
	if c.RolledBack {
		state = "rolledBack"
	}
	return &status.CanaryStatus{
		Policy: c.Policy, Share: c.Share, State: state, Reason: c.Reason, Canary: arm(c.Canary), Incumbent: arm(c.Incumbent),
	}
}

func arm(a trial.ArmCount) status.ArmStatus {
	return status.ArmStatus{Outcomes: a.Outcomes, MissShare: a.MissShare(), Cost: a.MeanCost()}
}
