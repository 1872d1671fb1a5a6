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

// run is a slice of events on its path through the stages. The goroutine that submitted it owns it until the last stage; after that only its jobs are
// used, by the code that concludes them.
type run struct {
	events []*task.Event
	done   func(i int, err error) // called for the i-th event when each of its tasks is concluded, or one is refused
	over   func()                 // called when each task of an event is concluded
	again  bool                   // the sender retries refused events; see Again
	rules  *decide.Rules
	state  host.State
	entry  decision.Entry // scratch, so that recording a decision does not allocate
	tasks  []*task.Task   // scratch, the tasks of one event
	cases  []*decide.Case // scratch
	jobs   []job
	parked []*job // in order; handed over last
	queued bool   // parked tasks keep their order

	inOrder func(*task.Task) bool // reports whether a task's operators need the order of its device; set if parked tasks keep order
	back    []*job                // refused, since the spool rejected them
	away    []*job
	here    []*job
	open    []countdown
}

// job is a task with its decision and state.
type job struct {
	decide.Case
	first *answer.Answer // the local model's provisional answer, or nil
	event *countdown
	place int // index among the jobs of its run

	within time.Duration // how long after reception the result is of use; 0 if the class's tasks do not expire
	state  jobState
}

// Track returns the track of the job's task.
func (j *job) Track() track.Key { return trackOf(j.Task) }

func trackOf(t *task.Task) track.Key { return track.Key{Device: t.Device, Class: t.OwnClass().Name} }

// Leaves reports whether the job's task is for the cloud.
func (j *job) Leaves() bool { return j.Decision.Target == decision.Cloud }

// Free reports whether the task may be processed locally before an earlier parked task: its operators need no order.
func (j *job) Free() bool {
	needs := j.event.run.inOrder
	return needs != nil && !needs(j.Task)
}

// casesOf returns the cases of jobs. The slice is valid until the next call.
func (r *run) casesOf(jobs []*job) []*decide.Case {
	cases := r.cases[:0]
	for _, j := range jobs {
		cases = append(cases, &j.Case)
	}
	return cases
}

// follows reports whether an earlier task of the job's device and class was refused in this run.
func (r *run) follows(j *job) bool {
	return slices.ContainsFunc(r.back, func(x *job) bool { return x.place < j.place && x.Track() == j.Track() })
}

// left yields the jobs that no stage has handed over yet, in order, including those to be parked.
func (r *run) left(yield func(*job) bool) {
	for i := range r.jobs {
		if j := &r.jobs[i]; j.state != dropped && !yield(j) {
			return
		}
	}
}

// decided returns the cases of the jobs to be handed over now. The slice is valid until the next call of casesOf.
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

// conclude counts down one task of the event. The first error is the event's and is reported immediately, so that the sender holds back later events.
func (c *countdown) conclude(err error) {
	if err != nil {
		c.once.Do(func() { c.run.done(c.i, err) }) // before the count, or the last task would report success
	}
	if c.left.Add(-1) == 0 {
		c.once.Do(func() { c.run.done(c.i, nil) })
		c.run.over()
	}
}

// add adds the tasks of the i-th event.
func (r *run) add(i int, tasks []*task.Task) {
	r.open[i].left.Store(int32(len(tasks))) //nolint:gosec // an event's size is bounded long before 2³¹ chunks
	for _, t := range tasks {
		r.jobs = append(r.jobs, job{Case: decide.Case{Task: t}, event: &r.open[i], place: len(r.jobs), state: decided})
	}
}

// begin returns a run of events under the current rules and node state.
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

// enter records a decision and returns its id.
func (p *Pipeline) enter(r *run, j *job, d decision.Decision) uint64 {
	r.entry = decision.NewEntry(j.Task, &j.Estimate, r.rules.Seen(j.Task, &r.state), d, j.Policy, r.rules.Version())
	return p.feedback.Add(&r.entry)
}
