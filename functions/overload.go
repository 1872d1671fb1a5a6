package functions

import (
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/shed"
	"app-offload/functions/task"
)

// shed takes the tasks out of the run that are dropped because both paths are overloaded, and reduces or reroutes others, as their classes say.
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

// fate is what became of the first task of an event, which is a critical one where there are any.
type fate struct {
	event   *countdown
	class   *task.Class
	verdict shed.Verdict
}

// of is the verdict on a task, given those on the ones of its event that were judged before it: the cloud can do nothing with a part of an
// event, so what is left of one is not dropped, and what is left of one that was dropped is not sent. No class gives way for another one.
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

// readsAs reports whether local work on a task as one of a class loses none of it.
func (p *Pipeline) readsAs(t *task.Task, class *task.Class) bool {
	as := *t
	as.Class = class
	return p.local.ReadsAll(&as)
}

// countShed counts a task for what overload has made of it, if anything, once that is final: a task that is refused comes again.
func (p *Pipeline) countShed(c *decide.Case) {
	switch why := c.Decision.Reason; why {
	case decision.Overload, decision.TooLate, decision.Rerouted, decision.Reduced:
		p.shedder.Count(c.Task.OwnClass().Name, why)
	}
}
