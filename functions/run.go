package functions

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/answer"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/task"
	"app-offload/functions/track"
)

// run is one slice of events on its way through the stages. It belongs to the goroutine that submitted it until the
// last stage; after that only its jobs are touched, by the code that concludes them.
type run struct {
	events []*task.Event
	done   func(i int, err error) // is told of the i-th event when each of its tasks is concluded, or one is refused
	over   func()                 // when each task of an event is concluded
	again  bool                   // the sender offers again what was refused; see Again
	rules  *decide.Rules
	state  host.State
	entry  decision.Entry // scratch, so that noting a decision allocates nothing
	tasks  []*task.Task   // scratch, the tasks of one event
	cases  []*decide.Case // scratch
	jobs   []job
	parked []*job // in order; they are handed over last
	queued bool   // parked tasks keep their order

	inOrder func(*task.Task) bool // whether the operators of a task need the order of its device, where parked tasks keep theirs
	back    []*job                // refused, since the spool took none of them
	away    []*job
	here    []*job
	open    []countdown
}

// job is one task with what was found out about it.
type job struct {
	decide.Case
	first *answer.Answer // of the local model, out as provisional, nil without one
	event *countdown
	place int // among the jobs of its run

	within time.Duration // from reception, for which the result is of use; 0 where the class does not say that its tasks expire
	state  jobState
}

// Track is that of the job's task.
func (j *job) Track() track.Key { return trackOf(j.Task) }

func trackOf(t *task.Task) track.Key { return track.Key{Device: t.Device, Class: t.OwnClass().Name} }

// Leaves reports whether the job's task is for the cloud.
func (j *job) Leaves() bool { return j.Decision.Target == decision.Cloud }

// Free reports whether it may be processed locally before an earlier task that is parked: its operators need no order.
func (j *job) Free() bool {
	needs := j.event.run.inOrder
	return needs != nil && !needs(j.Task)
}

// casesOf are those of jobs, until it is called again.
func (r *run) casesOf(jobs []*job) []*decide.Case {
	r.cases = r.cases[:0]
	for _, j := range jobs {
		r.cases = append(r.cases, &j.Case)
	}
	return r.cases
}

// follows reports whether an earlier task of the job's device and class was refused in this run.
func (r *run) follows(j *job) bool {
	return slices.ContainsFunc(r.back, func(x *job) bool { return x.place < j.place && x.Track() == j.Track() })
}

// left are the jobs that no stage has handed over yet, in order, those that are to wait among them.
func (r *run) left(yield func(*job) bool) {
	for i := range r.jobs {
		if j := &r.jobs[i]; j.state != dropped && !yield(j) {
			return
		}
	}
}

// decided are the cases of those that are to go now, until casesOf is called.
func (r *run) decided() []*decide.Case {
	r.cases = slices.Grow(r.cases[:0], len(r.jobs))
	for j := range r.left {
		if j.state == decided {
			r.cases = append(r.cases, &j.Case)
		}
	}
	return r.cases
}

// countdown waits for the tasks of one event, the i-th of its run.
type countdown struct {
	run  *run
	i    int
	left atomic.Int32
	once sync.Once
}

// conclude counts one task of the event off. The first error is the event's, and reported at once, so that the sender holds back what follows.
func (c *countdown) conclude(err error) {
	if err != nil {
		c.once.Do(func() { c.run.done(c.i, err) }) // before the count, or the last task would report success
	}
	if c.left.Add(-1) == 0 {
		c.once.Do(func() { c.run.done(c.i, nil) })
		c.run.over()
	}
}

// add binds tasks to the i-th event.
func (r *run) add(i int, tasks []*task.Task) {
	r.open[i].left.Store(int32(len(tasks))) //nolint:gosec // an event's size is bounded long before 2³¹ chunks
	for _, t := range tasks {
		r.jobs = append(r.jobs, job{Case: decide.Case{Task: t}, event: &r.open[i], place: len(r.jobs), state: decided})
	}
}

// begin makes a run of events under the rules of this moment.
func (p *Pipeline) begin(events []*task.Event, done func(i int, err error)) *run {
	r := &run{
		events: events, rules: p.rules.Load(), jobs: make([]job, 0, len(events)), open: make([]countdown, len(events)),
		done: done, over: p.working.Done,
	}
	p.look(&r.state)
	p.working.Add(len(events))
	for i := range r.open {
		r.open[i].run, r.open[i].i = r, i
	}
	return r
}

// enter notes a decision and returns its id.
func (p *Pipeline) enter(r *run, j *job, d decision.Decision) uint64 {
	r.entry = decision.NewEntry(j.Task, &j.Estimate, r.rules.Seen(j.Task, &r.state), d, j.Policy, r.rules.Version())
	return p.feedback.Add(&r.entry)
}
