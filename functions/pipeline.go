package functions

import (
	"cmp"
	"slices"

	"app-offload/functions/decision"
	"app-offload/functions/intake/parse"
	"app-offload/functions/task"
	"app-offload/functions/track"
)

// Submit runs events through the stages: split, score, decide, then store or process. It returns when every task is queued for the disk, for a local
// worker, or behind an earlier task of its device and class. It blocks while those queues are full. done is called once for each event, from any
// goroutine: when each of its tasks is done locally or durable, or with the error of the first refused task. An event refused for lack of room is
// reported before Submit returns.
//
// A task whose policy prefers to wait for node or link is parked: the spool holds it, and the package wait later decides whether to send it from the
// spool or to process it locally.
//
// Events of one device must come from one caller at a time, in order. Their tasks then leave in that order, except parked tasks whose policy does not
// keep the order.
func (p *Pipeline) Submit(events []*task.Event, done func(i int, err error)) {
	p.pass(p.begin(events, done))
}

// Again is the Pipeline for a sender that retries refused events in order, before any new event. Until the sender has retried a refused task, later
// tasks of its device and class are refused as well, even if the sender sent them before it knew of the refusal.
type Again struct{ *Pipeline }

// Submit is Pipeline.Submit for such a sender.
func (p Again) Submit(events []*task.Event, done func(i int, err error)) {
	p.tracks.Unblock(func(id string) bool {
		return slices.ContainsFunc(events, func(ev *task.Event) bool { return ev.ID == id })
	})
	r := p.begin(events, done)
	r.again = true
	p.pass(r)
}

// pass runs the stages.
func (p *Pipeline) pass(r *run) {
	for _, stage := range []func(*run){
		p.split,       // events become tasks, critical ones first
		p.decide,      // predict the cost of both targets; choose local or cloud, with a reason
		p.shed,        // drop or reduce instead, where both paths are overloaded and the class allows it
		p.parker.park, // park: durable and undecided
		p.note,        // record the decision, for the API and for its outcome
		p.part,        // sort the tasks by path, or queue them behind an earlier task
		p.keep,        // store the tasks for the cloud in the spool, in one commit
		p.process,     // process the local tasks; then store the parked tasks in the spool
	} {
		stage(r)
	}
}

// split cuts events into tasks and starts the countdown of each event. Results of an app-offload that no class takes are concluded immediately.
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

// decide predicts the cost of both targets for each task in the current node state, and chooses one.
func (p *Pipeline) decide(r *run) {
	for i := range r.jobs {
		r.rules.Decide(&r.jobs[i].Case, &r.state)
	}
}

// note records the decisions in the ring and counts them. A task that was to be parked but found no room is already recorded.
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

// part sorts each task by its path, or queues it behind an earlier task of its track. From then on other goroutines may work on the task.
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

// keep offers the tasks for the cloud to the spool in one commit. A task that the spool rejects may be processed locally, in its place among the
// local tasks. Tasks that follow a refused task of their device and class are refused as well.
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

// process passes the local tasks to the workers, and then the parked tasks to the spool: they come after all other tasks of the run.
func (p *Pipeline) process(r *run) {
	p.operate(r.here)
	p.parker.keep(r)
}
