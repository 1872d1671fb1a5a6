package policy

import (
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Guards stand above every policy: what they decide, no policy can weaken. They are immutable.
type Guards struct {
	backlogLimit float64
	deadlineOnly bool // while the link is down, keep only tasks with a deadline here
}

// NewGuards takes the guards' part of the configuration.
func NewGuards(c Config) (*Guards, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Guards{backlogLimit: c.BacklogLimit, deadlineOnly: c.LinkDown == "deadline"}, nil
}

// Check decides the task if a guard applies, and reports whether one did. What must never leave comes first, as it holds
// whatever the link does.
func (g *Guards) Check(t *task.Task, _ *score.Estimate, s *host.State) (decision.Decision, bool) {
	switch {
	case t.Class != nil && t.Class.NeverLeave:
		return kept(decision.GuardNeverLeave, 0), true
	case !s.Link.Up && (!g.deadlineOnly || t.Deadline > 0):
		return kept(decision.GuardLinkDown, 0), true
	case s.Link.BacklogShare > g.backlogLimit:
		return kept(decision.GuardBacklog, g.backlogLimit), true
	}
	return decision.Decision{}, false
}

func kept(why decision.Reason, limit float64) decision.Decision {
	return decision.Decision{Target: decision.Local, Threshold: limit, Propensity: 1, Reason: why}
}
