package functions

import (
	"app-offload/functions/policy"
	"app-offload/functions/task"
)

// Submit takes events on their way: split, score, decide, and then either keep or process. It returns when every task
// is queued for the disk or for a local worker, and blocks while those queues are full. done is called once an event,
// from any goroutine, when each of its tasks is done here or durable, or with the error for which it was refused.
//
// A task whose policy would rather wait until node or link is free is kept, undecided, and comes a second way later on
// (late.go): attend, bind, and then it is sent from where it is kept, or processed and taken out of there.
//
// Events of one device must come from one caller at a time, in order; their tasks then leave in that order, but for those that waited.
func (p *Pipeline) Submit(events []*task.Event, done func(i int, err error)) {
	r := p.begin(events, done)
	for _, stage := range []func(*run){
		p.split,   // events become tasks, critical ones first
		p.score,   // what either way would cost
		p.decide,  // local or cloud, and why, or not yet
		p.keep,    // what is to leave, and what waits: durable in the spool, in one commit
		p.process, // the rest: here, now
	} {
		stage(r)
	}
}

// split cuts the events, and starts the countdown of each. Results that no class asks for are done with.
func (p *Pipeline) split(r *run) {
	for i, ev := range r.events {
		if !p.kinship.admit(ev, r.rules.classes) {
			r.done(i, nil)
			continue
		}
		r.tasks = task.Split(ev, func(resource string) *task.Class { return r.rules.classes.ForResource(ev, resource) }, r.tasks[:0])
		r.add(i, r.tasks)
	}
	p.ledger.Enter(len(r.jobs))
}

// score predicts the cost of both ways for each task, in the state the node is in.
func (p *Pipeline) score(r *run) {
	for i := range r.jobs {
		j := &r.jobs[i]
		j.estimate = r.rules.model.Estimate(j.task, &r.state)
	}
}

// decide asks the guards, then the policy of the task's class, and writes the answer down.
func (p *Pipeline) decide(r *run) {
	decider := r.rules.decider
	for i := range r.jobs {
		j := &r.jobs[i]
		j.decision, j.policy = decider.Decide(j.task, &j.estimate, &r.state)
		decider.Look(j.task, &j.estimate, &r.state, &j.decision)
		p.overrule(j)
		j.task.Score, j.task.Policy = j.decision.Score, j.policy
		j.waits = p.waits(r, j)
		j.id = p.note(r, j)
		if j.waits || j.decision.Target == policy.Cloud {
			r.away = append(r.away, j)
		} else {
			r.here = append(r.here, j)
		}
	}
	p.tally.decide(r)
	p.lateness.note(r)
}

// keep hands what is to leave, or waits undecided, to the spool; all of it waits for the same commit.
func (p *Pipeline) keep(r *run) {
	if len(r.away) > 0 {
		p.append(r.away)
	}
}

// process hands the rest to the local workers.
func (p *Pipeline) process(r *run) {
	if len(r.here) > 0 {
		p.operate(r.here)
	}
}
