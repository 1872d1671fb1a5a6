package sim

import (
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// Play lets a policy of the service live through the episode. each, where it is not nil, sees every situation with the
// decision and what came of it. A policy that learns gets each outcome when a gateway would: when the result is there.
func Play(env *Env, e *Episode, p policy.Policy, each func(*Situation, decision.Decision, Info)) {
	if b, ok := p.(policy.Binder); ok {
		playLate(env, e, b, each)
		return
	}
	env.Begin(e)
	env.feed.learner, _ = p.(policy.Learner)
	for over := false; !over; {
		s := env.Situation()
		d, held := env.guard()
		if !held {
			d = p.Decide(&s.Task, &s.Estimate, &s.State)
		}
		var before Situation
		if each != nil {
			before = *s
		}
		_, _, _, truncated, info := env.Step(int(d.Target))
		over = truncated
		if each != nil {
			each(&before, d, info)
		}
	}
}

// guard asks the guards that stand above every policy.
func (e *Env) guard() (decision.Decision, bool) {
	if e.episode.Config.View.Unguarded {
		return decision.Decision{}, false
	}
	s := &e.seen
	return e.guards.Check(&s.Task, &s.Estimate, &s.State)
}
