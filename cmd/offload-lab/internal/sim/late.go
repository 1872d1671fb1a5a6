package sim

import (
	"math"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// lateTick is how often the service looks again while tasks wait, s: predictions change although nothing has happened.
const lateTick = 0.025

// late is an episode under a policy that binds tasks to a server when it is free.
type late struct {
	env     *Env
	binder  policy.Binder
	waiting policy.Waiting
	now     float64
	each    func(*Situation, decision.Decision, Info)
}

// playLate is Play for such a policy. The servers stay first in, first out; what comes in is no longer what arrives.
func playLate(env *Env, e *Episode, b policy.Binder, each func(*Situation, decision.Decision, Info)) {
	l := late{env: env, binder: b, each: each}
	env.Begin(e)
	for i := range e.Jobs {
		l.until(e.Jobs[i].At)
		l.arrive(i)
	}
	l.until(math.Inf(1))
}

// until lives through the time before t, as long as tasks wait.
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

// next is when the outcome of a bound task reaches the gateway, or else the next tick.
func (l *late) next() float64 {
	next := l.now + lateTick
	if heard := l.env.watch.next(); heard > l.now {
		next = min(next, heard)
	}
	return next
}

// arrive decides about a task, or lets it wait.
func (l *late) arrive(i int) {
	l.env.situate(i, l.now)
	s := &l.env.seen
	d, held := l.env.guard()
	if !held {
		d = l.binder.Decide(&s.Task, &s.Estimate, &s.State)
	}
	if !held && l.binder.Waits(&s.Task, &s.Estimate, &s.State, &d) {
		kept := s.Task
		if l.waiting.Add(policy.Held{Task: &kept, Tag: i}, l.binder.Room()) {
			l.bind()
			return
		}
	}
	l.act(i, d)
}

// bind gives free servers what they are to have.
func (l *late) bind() {
	for {
		l.env.look(l.now)
		s := &l.env.seen
		h, d, e, ok := l.waiting.Next(l.binder, l.env.model, &s.State)
		if !ok {
			return
		}
		s.Task, s.Estimate = *h.Task, e
		l.env.model.Features(&s.Task, &s.Estimate, &s.State, &s.Features)
		l.act(h.Tag.(int), d)
	}
}

func (l *late) act(i int, d decision.Decision) {
	before := l.env.seen
	info := l.env.act(i, l.now, d)
	if l.each != nil {
		l.each(&before, d, info)
	}
}
