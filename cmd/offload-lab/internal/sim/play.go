package sim

import (
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/task"
)

// Play lets a policy of the service live through the episode, by the service's own rules: guards, policy, and whether a task is parked. each,
// where it is not nil, sees every situation with the decision and what came of it. A policy that learns gets each outcome when a gateway would:
// when the result is there.
func Play(env *Env, e *Episode, p policy.Policy, each func(*Situation, decision.Decision, Info)) {
	env.Begin(e)
	rules := env.rules(p)
	if b, ok := p.(policy.Binder); ok {
		env.line = b.Room().Line()
		(&late{env: env, rules: rules, binder: b, each: each, linked: true}).play(e)
		return
	}
	env.feed.learner, _ = p.(policy.Learner)
	for over := false; !over; {
		c := decide.Case{Task: &env.seen.Task}
		env.decide(rules, p, &c)
		now := e.Jobs[env.at].At
		gone := env.giveUp(rules, &c)
		var before Situation
		if each != nil {
			before = *env.Situation()
		}
		info := e.gone(env.at, now)
		if !gone {
			info = env.act(env.at, now, c.Decision)
		}
		over = env.step()
		if each != nil {
			each(&before, c.Decision, info)
		}
	}
}

// rules makes the service's rules for an episode in which one policy decides. Operators read all of every task.
func (e *Env) rules(p policy.Policy) *decide.Rules {
	reads := func(*task.Task) bool { return true }
	r, err := decide.New(decide.Parts{Policy: policy.DefaultConfig(), Only: p, Model: e.model, Local: decide.Local{Reads: reads}}, nil)
	if err != nil {
		panic(err) // the default configuration is valid
	}
	return r
}

// decide decides a case in the present state, and takes its estimate into the situation.
func (e *Env) decide(r *decide.Rules, p policy.Policy, c *decide.Case) {
	s := &e.seen
	if e.episode.Config.View.Unguarded {
		c.Estimate = e.model.Estimate(c.Task, &s.State)
		c.Decision, c.Policy = p.Decide(c.Task, &c.Estimate, &s.State), p.Name()
	} else {
		r.Decide(c, &s.State)
	}
	s.Estimate = c.Estimate
}
