package functions

import (
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/shed"
	"app-offload/functions/task"
)

// shed drops tasks of the run because both paths are overloaded, or reduces or reroutes them, as their classes allow.
func (p *Pipeline) shed(r *run) {
	turn := p.shedder.Turn(r.rules.Classes, r.rules.Model, &r.state, shed.Servers{Operators: p.local.Operators(), Models: p.local.Workers()})
	if turn == nil {
		return
	}
	if b := r.rules.Binder(); b != nil {
		turn.Line = p.parker.Line(b.Room())
	}
	var whole fate
	for i := range r.jobs {
		j := &r.jobs[i]
		j.within = turn.Within(j.Task)
		verdict := whole.of(j, turn.Judge(j.Task, &j.Decision, r.rules.MayWait(&j.Case), func(c *task.Class) bool { return p.readsAs(j.Task, c) }))
		if verdict == shed.Keep {
			continue
		}
		switch gone := verdict.Apply(j.Task, &j.Decision); {
		case gone:
			j.ID = p.enter(r, j, j.Decision)
			p.dispatch(j, overload, nil)
		case verdict == shed.Reduce:
			j.Estimate = r.rules.Model.Estimate(j.Task, r.rules.Seen(j.Task, &r.state))
		}
	}
}

// fate is the verdict on the first task of an event, which is a critical one if the event has any.
type fate struct {
	event   *countdown
	class   *task.Class
	verdict shed.Verdict
}

// of returns the verdict on a task, given the verdict on the first task of its event. A part of an event is useless to the cloud: if the first task
// was dropped, later tasks of its class are dropped too; if it was kept, later tasks are not dropped. A drop in one class never causes a drop in
// another.
func (f *fate) of(j *job, v shed.Verdict) shed.Verdict {
	if j.event != f.event {
		*f = fate{j.event, j.Task.Class, v}
		return v
	}
	gone := f.verdict == shed.Late || f.verdict == shed.Drop
	switch {
	case gone && j.Task.Class == f.class:
		return f.verdict
	case f.verdict <= shed.Other && v > shed.Other:
		return shed.Keep
	}
	return v
}

// readsAs reports whether the operators of a class would read all of a task.
func (p *Pipeline) readsAs(t *task.Task, class *task.Class) bool {
	as := *t
	as.Class = class
	return p.local.ReadsAll(&as)
}

// countShed counts the effect of overload on a task, if any, once it is final. A refused task is not counted, since its sender submits it again.
func (p *Pipeline) countShed(c *decide.Case) {
	switch why := c.Decision.Reason; why {
	case decision.Overload, decision.TooLate, decision.Rerouted, decision.Reduced:
		p.shedder.Count(c.Task.OwnClass().Name, why)
	}
}
