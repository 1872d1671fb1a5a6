package policy

import (
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Guards are rules above every policy: no policy can override them. They are immutable.
type Guards struct {
	backlogLimit float64
	deadlineOnly bool    // while the link is down, keep only tasks with a deadline local,
	latest       float64 // and only if their result is predicted within so many deadlines
	patience     float64 // deadline assumed for a task without one, s

	memory, battery, price float64 // limits; 0 disables
}

// NewGuards reads the guards' keys of the configuration.
func NewGuards(c Config) (*Guards, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Guards{
		backlogLimit: c.BacklogLimit, deadlineOnly: c.LinkDown == "deadline", latest: c.CostKappa, patience: c.CostPatience,
		memory: c.MemoryLimit, battery: c.BatteryLimit, price: c.PriceLimit,
	}, nil
}

// Check decides the task if a guard applies, and reports whether one did. NeverLeave comes first, as it holds in any link state. While the link is
// down, a task that would be far too late locally is spooled for the link: kept local, it would only delay the tasks behind it, also once the link is
// back.
func (g *Guards) Check(t *task.Task, e *score.Estimate, s *host.State) (decision.Decision, bool) {
	switch {
	case t.Class != nil && t.Class.NeverLeave:
		return kept(decision.GuardNeverLeave, 0), true
	case !s.Link.Up && (!g.deadlineOnly || t.Deadline > 0):
		d := kept(decision.GuardLinkDown, 0)
		if g.deadlineOnly && s.Link.BacklogShare <= g.backlogLimit && e.LocalTime-score.Slack(t, s) > (g.latest-1)*t.Deadline.Seconds() {
			d.Target, d.Score = decision.Cloud, 1
		}
		return d, true
	case s.Link.BacklogShare > g.backlogLimit:
		return kept(decision.GuardBacklog, g.backlogLimit), true
	}
	return g.scarce(t, e, s)
}

// scarce decides by the limits on memory, battery and price. Memory comes before energy, and energy before money.
func (g *Guards) scarce(t *task.Task, e *score.Estimate, s *host.State) (decision.Decision, bool) {
	switch {
	case g.memory > 0 && s.MemoryStall > g.memory && s.Link.Up:
		return sent(decision.GuardMemory, g.memory), true
	case g.battery > 0 && s.OnBattery && s.Battery < g.battery && s.Link.Up:
		if e.CloudEnergy < e.LocalEnergy {
			return sent(decision.GuardBattery, g.battery), true
		}
		return kept(decision.GuardBattery, g.battery), true
	case g.price > 0 && s.Link.Price > g.price && g.inTime(t, e, s):
		return kept(decision.GuardPrice, g.price), true
	}
	return decision.Decision{}, false
}

// inTime reports whether the local result is predicted within latest deadlines.
func (g *Guards) inTime(t *task.Task, e *score.Estimate, s *host.State) bool {
	if t.Deadline <= 0 {
		return e.LocalTime <= g.latest*g.patience
	}
	return e.LocalTime-score.Slack(t, s) <= (g.latest-1)*t.Deadline.Seconds()
}

func sent(why decision.Reason, limit float64) decision.Decision {
	return decision.Decision{Target: decision.Cloud, Score: 1, Threshold: limit, Propensity: 1, Reason: why}
}

// LeavesOpen reports whether a task that a guard decided for this reason may be parked instead of queued locally: the guard only prevents that the
// task depends on the link.
func (g *Guards) LeavesOpen(why decision.Reason) bool {
	return !why.IsGuard() || why == decision.GuardLinkDown && g.deadlineOnly
}

func kept(why decision.Reason, limit float64) decision.Decision {
	return decision.Decision{Target: decision.Local, Threshold: limit, Propensity: 1, Reason: why}
}
