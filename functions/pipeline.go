package functions

import (
	"cmp"
	"slices"

	"app-offload/functions/decision"
	"app-offload/functions/intake/parse"
	"app-offload/functions/task"
	"app-offload/functions/track"
)

// Submit takes events on their way: split, score, decide, and then either keep or process. It returns when every task
// is queued for the disk or for a local worker, or behind an earlier task of its device and class, and blocks while those queues are
// full. done is called once an event, from any goroutine, when each of its tasks is done here or durable, or with the error for which the
// first of them was refused: before Submit returns where that is for want of room.
//
// A task whose policy would rather wait until node or link is free is kept, undecided, and taken on by the room wait: it is sent from where
// it is kept, or processed and taken out of there.
//
// Events of one device must come from one caller at a time, in order; their tasks then leave in that order, but for those that waited where
// they keep no order.
func (p *Pipeline) Submit(events []*task.Event, done func(i int, err error)) {
	p.pass(p.begin(events, done))
}

// Again is the Pipeline for a sender that offers again what was refused, in order and before anything new. Until it has done so, what
// comes after a refused task of a device and class is refused as well, also where the sender could not know yet.
type Again struct{ *Pipeline }

// Submit is that of the Pipeline.
func (p Again) Submit(events []*task.Event, done func(i int, err error)) {
	p.tracks.Unblock(func(id string) bool {
		return slices.ContainsFunc(events, func(ev *task.Event) bool { return ev.ID == id })
	})
	r := p.begin(events, done)
	r.again = true
	p.pass(r)
}

// pass takes a run through the stages.
func (p *Pipeline) pass(r *run) {
	for _, stage := range []func(*run){
		p.split,       // events become tasks, critical ones first
		p.decide,      // what either target would cost; local or cloud, and why
		p.shed,        // or neither: both paths are overloaded, and its class gives way
		p.parker.park, // or not yet: durable and undecided
		p.note,        // the decision, for those who ask and for its outcome
		p.part,        // each task to those of its path, or behind the one before it
		p.keep,        // what is to leave: durable in the spool, in one commit
		p.process,     // the rest: here, now; and those that wait: durable in the spool
	} {
		stage(r)
	}
}

// split cuts the events, and starts the countdown of each. Results that no class asks for are done with.
func (p *Pipeline) split(r *run) {
	for i, ev := range r.events {
		if !p.kinship.Admit(ev, r.rules.Classes) {
			r.done(i, nil)
			r.over()
			continue
		}
		r.tasks = task.Split(ev, func(resource string) *task.Class { return r.rules.Classes.ForResource(ev, resource) }, r.tasks[:0])
		if p.setAside != nil {
			if size, largest, found := r.rules.Unsendable(r.tasks); found {
				p.setAside(ev, parse.TooLargeToLeave(size, largest))
				r.done(i, nil)
				r.over()
				continue
			}
		}
		r.add(i, r.tasks)
	}
	p.ledger.Enter(len(r.jobs))
}

// decide predicts what either target would cost for each task in the state the node is in, and chooses one.
func (p *Pipeline) decide(r *run) {
	for i := range r.jobs {
		r.rules.Decide(&r.jobs[i].Case, &r.state)
	}
}

// note writes the decisions into the ring and counts them. One that was to wait and finds no room is there already.
func (p *Pipeline) note(r *run) {
	for j := range r.left {
		switch {
		case j.state != decided:
		case j.ID == 0:
			j.ID = p.enter(r, j, j.Decision)
		default:
			p.feedback.Amend(&j.Case)
		}
	}
	p.feedback.Decided(r.rules, r.decided(), &r.state)
}

// part puts each task among those of its path, or behind the one before it. From then on others may work on the task.
func (p *Pipeline) part(r *run) {
	for j := range r.left {
		if j.state == parked {
			p.tracks.Park(j.Track(), r.queued)
			continue
		}
		switch on := p.tracks.Admit(j); {
		case on == track.Waits:
		case on == track.Blocked:
			p.dispatch(j, behind, errBehind)
		case j.Decision.Target == decision.Cloud:
			j.state = sending
			r.away = append(r.away, j)
		default:
			j.state = working
			r.here = append(r.here, j)
		}
	}
	p.feedback.Stays(r.casesOf(r.here), &r.state)
}

// keep hands what is to leave to the spool; all of it waits for the same commit. What finds no room there may be
// processed here, in its place among the rest; what comes after a refused task of its device and class is refused as well.
func (p *Pipeline) keep(r *run) {
	if len(r.away) == 0 {
		return
	}
	diverted, back := p.store(r.away)
	r.back = back
	p.tracks.Enter(diverted)
	r.here = append(r.here, diverted...)
	slices.SortFunc(r.here, func(a, b *job) int { return cmp.Compare(a.place, b.place) })
	r.here = slices.DeleteFunc(r.here, func(j *job) bool {
		follows := r.follows(j)
		if follows {
			p.dispatch(j, behind, errBehind)
		}
		return follows
	})
}

// process hands the rest to the local workers, and then those that wait to the spool: they come after all that went before them.
func (p *Pipeline) process(r *run) {
	p.operate(r.here)
	p.parker.keep(r)
}
