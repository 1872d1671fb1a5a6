package sim

import (
	"math"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/shed"
	"app-offload/functions/task"
)

// lateTick is the longest interval between two scans of the parked tasks, s, as in the service.
const lateTick = 0.025

// late runs an episode under a policy that binds tasks when a server is free. With the service's rules it does the same as functions/wait.
type late struct {
	env     *Env
	rules   *decide.Rules
	binder  policy.Binder
	waiting policy.Waiting
	now     float64
	linked  bool
	each    func(*Situation, decision.Decision, Info)
}

// parked is a parked task.
type parked struct {
	decide.Case
	job   int
	place policy.Portion // in the line
}

// play is Play for such a policy. The servers remain FIFO, but tasks are served in the order of binding, not of arrival.
func (l *late) play(e *Episode) {
	for i := range e.Jobs {
		l.until(e.Jobs[i].At)
		l.arrive(i)
	}
	l.until(math.Inf(1))
	l.env.finish()
}

// until advances to time t while tasks are parked.
func (l *late) until(t float64) {
	for l.waiting.Len() > 0 {
		next := l.next()
		if next >= t {
			break
		}
		l.now = next
		l.bind()
	}
	l.now = t
}

// next is the time at which the outcome of a bound task reaches the gateway, or the next tick.
func (l *late) next() float64 {
	next := l.now + lateTick
	for {
		if heard := l.env.watch.next(); heard > l.now {
			next = min(next, heard)
		}
		o := l.env.outbox
		if o == nil || o.wake >= next {
			return next
		}
		o.until(o.wake) // records sent then may be acknowledged earlier
	}
}

// arrive decides about a task, or parks it.
func (l *late) arrive(i int) {
	l.env.situate(i, l.now)
	t := l.env.seen.Task
	p := &parked{Case: decide.Case{Task: &t}, job: i}
	l.env.decide(l.rules, l.binder, &p.Case)
	switch {
	case l.env.giveUp(l.rules, &p.Case):
		l.drop(p)
	case l.park(p):
		l.bind()
	default:
		l.act(p)
	}
}

// drop reports a dropped task.
func (l *late) drop(p *parked) {
	s := &l.env.seen
	s.Task, s.Estimate = *p.Task, p.Estimate
	if l.each != nil {
		before := *s
		l.each(&before, p.Decision, l.env.episode.gone(p.job, l.now))
	}
}

func (l *late) park(p *parked) bool {
	stays := l.rules.Waits(&p.Case, &l.env.seen.State) || p.Decision.Target == decision.Cloud && l.waiting.Follows(p.Task)
	if !stays || !l.waiting.Add(policy.Held{Task: p.Task, Tag: p}, l.binder.Room()) {
		return false
	}
	p.place = l.env.line.Portion(p.Task, p.Estimate.Cycles)
	l.env.line.Add(p.place)
	return true
}

// expire drops the parked tasks that no path can finish in time, for classes configured so.
func (l *late) expire() {
	if l.env.sheds == nil {
		return
	}
	for _, h := range l.waiting.Without(func(t *task.Task) bool { return l.env.gate.Hopeless(l.env.model, t, &l.env.seen.State) }) {
		p := h.Tag.(*parked)
		l.env.line.Remove(p.place)
		gone := shed.Late
		if p.Task.Class.Overload == task.OverloadDrop {
			gone = shed.Drop
		}
		gone.Apply(p.Task, &p.Decision)
		l.drop(p)
	}
}

// bind assigns parked tasks to free servers.
func (l *late) bind() {
	l.review()
	l.expire()
	sent := false
	for {
		l.env.look(l.now)
		s := &l.env.seen
		h, d, e, ok := l.waiting.Next(l.binder, l.env.model, &s.State)
		if !ok {
			break
		}
		sent = sent || d.Target == decision.Cloud
		p := h.Tag.(*parked)
		l.env.line.Remove(p.place)
		p.Decision, p.Estimate = d, e
		if d.Reason == decision.LongestWait {
			l.rules.Guard(&p.Case, &s.State)
		}
		l.act(p)
	}
	if sent && l.env.outbox != nil {
		l.env.outbox.hasten(l.now)
	}
}

// review decides all parked tasks again when the link is down: the guards also override waiting.
func (l *late) review() {
	l.env.look(l.now)
	s := &l.env.seen.State
	gone := l.linked && !s.Link.Up
	if l.linked = s.Link.Up; !gone {
		return
	}
	all := l.waiting.All()
	l.env.line = l.binder.Room().Line()
	for _, h := range all {
		p := h.Tag.(*parked)
		if l.rules.DecideAgain(&p.Case, s); !l.park(p) {
			l.act(p)
			l.env.look(l.now)
		}
	}
}

func (l *late) act(p *parked) {
	s := &l.env.seen
	s.Task, s.Estimate = *p.Task, p.Estimate
	l.env.model.Features(&s.Task, &s.Estimate, &s.State, &s.Features)
	before := *s
	l.env.do(p.job, l.now, p.Decision, func(info Info) {
		if l.each != nil {
			l.each(&before, p.Decision, info)
		}
	})
}

// Play runs the episode under a policy of the service with the service's own rules: guards, policy and parking. each, if not nil, is called with
// every situation, decision and outcome. A policy that learns gets each outcome when a gateway would: when the result has arrived.
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
		then := func(info Info) {
			if each != nil {
				each(&before, c.Decision, info)
			}
		}
		if gone {
			then(e.gone(env.at, now))
		} else {
			env.do(env.at, now, c.Decision, then)
		}
		over = env.step()
	}
	env.finish()
}

// Given is a decision made elsewhere.
type Given struct {
	Job          int
	At           float64 // time of binding, s; in ascending order
	Cloud, Waits bool    // Waits marks a task that was parked until then
}

// Replay binds tasks as given. each is called with the outcomes.
func Replay(env *Env, e *Episode, all []Given, each func(Info)) {
	env.Begin(e)
	for _, g := range all {
		if env.outbox == nil || !g.Cloud {
			each(env.Bind(g.Job, g.At, g.Cloud))
			continue
		}
		env.outbox.until(g.At)
		env.outbox.add(g.Job, g.At, each)
		if g.Waits {
			env.outbox.hasten(g.At)
		}
	}
	env.finish()
}

// finish sends all pending messages.
func (e *Env) finish() {
	if e.outbox != nil {
		e.outbox.until(math.Inf(1))
	}
}

// rules builds the service's rules for an episode with one policy. Operators read every task completely.
func (e *Env) rules(p policy.Policy) *decide.Rules {
	reads := func(*task.Task) bool { return true }
	r, err := decide.New(decide.Parts{Policy: policy.DefaultConfig(), Only: p, Model: e.model, Local: decide.Local{Reads: reads}}, nil)
	if err != nil {
		panic(err) // the default configuration is valid
	}
	return r
}

// decide decides a case in the current state, and copies its estimate into the situation.
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
