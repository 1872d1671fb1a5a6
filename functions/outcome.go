package functions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// ErrRefused says that a task found no room and its class refuses rather than drops. Its event is not acknowledged.
var ErrRefused = errors.New("refused: the spool is full, and the task can neither be dropped nor be done here")

// ReasonFailed counts tasks whose local work failed and that had no other way to go.
const ReasonFailed = "localFailed"

// ReasonUnread counts tasks that must not leave and hold a value that is no number of its type.
const ReasonUnread = "unread"

// reasonOf is the word for a task that local work failed on.
func reasonOf(err error) string {
	if unread := (*local.UnreadError)(nil); errors.As(err, &unread) {
		return ReasonUnread
	}
	return ReasonFailed
}

// ReasonTooLarge counts tasks that can be in no spool of this size and that local work failed on.
const ReasonTooLarge = "tooLarge"

// store hands tasks to the spool, and returns those that are to be processed here because it does not take them, in order. The spool
// takes all tasks of a commit or none, so where it refuses it is asked for each by itself: some may fit, or may make room by their
// class's strategy, and of those too large there may be a single one.
func (p *Pipeline) store(jobs []*job) (here []*job) {
	err := p.append(jobs)
	if err == nil {
		return nil
	}
	if len(jobs) == 1 || !errors.Is(err, spool.ErrFull) && !errors.Is(err, spool.ErrTooLarge) {
		return p.divert(jobs, err)
	}
	var refused map[trackKey]bool
	for i, j := range jobs {
		if k := j.track(); !j.waits && refused[k] {
			p.refuse(j, errBehind)
			continue
		} else if err := p.append(jobs[i : i+1]); err != nil {
			here = append(here, p.divert(jobs[i:i+1], err)...)
			if j.refused {
				if refused == nil {
					refused = map[trackKey]bool{}
				}
				refused[k] = true
			}
		}
	}
	return here
}

// divert finds another way for tasks that the spool does not take, and returns those that are to be processed here.
func (p *Pipeline) divert(jobs []*job, err error) (here []*job) {
	for _, j := range jobs {
		if p.otherwise(j, err) {
			here = append(here, j)
		}
	}
	return here
}

// append stores the jobs' tasks in one commit, or returns why they cannot be.
func (p *Pipeline) append(jobs []*job) error {
	records := make([]spool.Record, len(jobs))
	size := 0
	for _, j := range jobs {
		if !j.waits {
			size += j.task.Size() + recordOverhead
		}
	}
	buffer := make([]byte, 0, size) // one allocation for all payloads; they leave memory together, or nearly so
	stepped := int64(p.clock.Stepped())
	for i, j := range jobs {
		t := *j.task
		t.Received += stepped // a record is read by others: it has the time of day
		if j.waits {          // and would keep those of all others in memory
			records[i] = record(j, &t, t.Append(make([]byte, 0, j.task.Size()+recordOverhead)))
			continue
		}
		at := len(buffer)
		buffer = t.Append(buffer)
		records[i] = record(j, &t, buffer[at:len(buffer):len(buffer)])
	}
	p.working.Add(1)
	err := p.spool.Offer(records, func(err error) {
		defer p.working.Done()
		p.kept(jobs, records, err)
	})
	if err != nil {
		p.working.Done()
	}
	return err
}

// recordOverhead is roughly what task.Append adds to the data.
const recordOverhead = 320

func record(j *job, t *task.Task, payload []byte) spool.Record {
	class := t.Class
	r := spool.Record{
		Lane: class.Priority, Class: class.Name, Score: float32(j.decision.Score), OnFull: class.OnFull,
		Time: t.Received, Payload: payload, Tag: j.id, Hold: j.waits,
	}
	if class.TTL > 0 {
		r.Expires = t.Received + int64(class.TTL)
	}
	return r
}

// kept books what became of a commit. It runs on the committer's goroutine and must not block it. A disk that fails shows only
// here, after later tasks went their ways: the one case in which a task that changes its path may be passed by others.
func (p *Pipeline) kept(jobs []*job, records []spool.Record, err error) {
	if err == nil {
		p.ledger.Spooled(len(jobs))
		for i, j := range jobs {
			if j.waits {
				p.hold(j, &records[i])
			}
			j.event.conclude(nil)
		}
		return
	}
	p.working.Add(1)
	p.later.do(func() { // there may be no room for local work for hours, and goroutines are not to grow for it
		defer p.working.Done()
		if here := p.divert(jobs, err); len(here) > 0 {
			p.tracks.enter(here)
			p.operate(here)
		}
	})
}

// otherwise does what the task's class says of a spool that cannot take it, and reports whether that is to process it here. Other errors
// than a full spool, such as a broken disk, are treated alike: what can be done here is done here.
func (p *Pipeline) otherwise(j *job, err error) (here bool) {
	if j.waits {
		p.unhold(j)
		if j.decision.Target == policy.Local {
			return true
		}
	}
	tooLarge := errors.Is(err, spool.ErrTooLarge)
	if (tooLarge || j.task.Class.OnFull == spool.Local) && !j.tried && p.local.ReadsAll(j.task) {
		j.tried = true
		p.amend(j, policy.Local, policy.SpoolFull)
		return true
	}
	switch onFull := j.task.Class.OnFull; {
	case tooLarge:
		p.drop(j, ReasonTooLarge)
	case errors.Is(err, spool.ErrFull) && (onFull == spool.DropOldest || onFull == spool.DropLowestScore):
		// All that the spool holds goes before this one. To refuse it would hold up every event behind it until there is
		// room, which its class does not want.
		p.drop(j, spool.ReasonFull)
	default:
		p.refuseTrack(j, fmt.Errorf("%w: %w", ErrRefused, err))
	}
	return false
}

// drop gives a task up that can be neither processed nor kept, now or later. It is accepted and counted, so that its
// event does not come back for ever.
func (p *Pipeline) drop(j *job, reason string) {
	p.ledger.Dropped(reason, 1)
	p.drops.early(j.task.Class.Name, reason)
	p.failed(j.id)
	j.event.conclude(nil)
}

// refuse gives a task back: it was never accepted, and its event is the sender's again.
func (p *Pipeline) refuse(j *job, err error) {
	j.refused = true
	p.ledger.Leave(1)
	p.refused.Add(1)
	p.tally.withdraw(j.event.run.rules.decider.Judge(), j, &j.event.run.state)
	j.event.conclude(err)
}

// operate hands jobs to the local workers, and waits for room in their queues.
func (p *Pipeline) operate(jobs []*job) {
	items := make([]local.Item, len(jobs))
	for i, j := range jobs {
		items[i] = local.Item{Task: j.task, Cycles: j.estimate.Cycles, Took: &j.took}
	}
	p.working.Add(len(jobs))
	p.local.Process(p.ctx, items, func(i int, err error) {
		defer p.working.Done()
		p.operated(jobs[i], err)
	})
}

// operated hears what became of local work. It is called by a local worker and must not block it.
func (p *Pipeline) operated(j *job, err error) {
	defer p.room.nudge()
	switch {
	case err == nil:
		p.ledger.Local(1)
		p.done(j)
		j.event.conclude(nil)
	case errors.Is(err, local.ErrClosed) || errors.Is(err, local.ErrFull):
		p.refuseTrack(j, err)
	case j.tried || j.task.Class.NeverLeave:
		p.sayGivenUp(j, err)
		p.drop(j, reasonOf(err))
	default:
		j.tried = true
		p.amend(j, policy.Cloud, policy.LocalFailed)
		p.working.Add(1)
		p.later.do(func() { // the spool may make us wait; the worker must not
			defer p.working.Done()
			p.store([]*job{j}) // it was tried here, so none comes back
			p.leaveTrack(j)
		})
		return
	}
	p.leaveTrack(j)
}

// amend notes that a task had to go another way than was decided. Whatever the policy had said, it would have ended there.
func (p *Pipeline) amend(j *job, target policy.Target, why policy.Reason) {
	j.decision.Target, j.decision.Reason, j.decision.Propensity = target, why, 1
	p.ring.Amend(j.id, j.decision)
}

// overrule sends a task away that holds something which no operator reads: local work would lose it. Such a task goes to the cloud
// whatever the policy says, so that is certain and no draw.
func (p *Pipeline) overrule(j *job) {
	d := &j.decision
	if j.task.Class.NeverLeave || (d.Target == policy.Cloud && d.Propensity == 1) || p.local.ReadsAll(j.task) {
		return
	}
	if d.Target == policy.Local {
		d.Target, d.Reason = policy.Cloud, policy.NoOperator
	}
	d.Propensity = 1
}

// begin makes a run of events under the rules of this moment.
func (p *Pipeline) begin(events []*task.Event, done func(i int, err error)) *run {
	r := &run{
		events: events, rules: p.rules.Load(), jobs: make([]job, 0, len(events)), open: make([]countdown, len(events)),
		done: done, over: p.working.Done,
	}
	p.look(&r.state)
	if r.rules.late {
		r.busy = r.state
	}
	p.working.Add(len(events))
	for i := range r.open {
		r.open[i].run, r.open[i].i = r, i
	}
	return r
}

// note writes a decision into the ring.
func (p *Pipeline) note(r *run, j *job) uint64 {
	d := j.decision
	if j.waits {
		d.Reason = policy.Undecided
	}
	r.entry = policy.NewEntry(j.task, &j.estimate, &r.state, d, j.policy, r.rules.decider.Version())
	return p.ring.Add(&r.entry)
}

// givenUpEvery is the shortest time between two log lines about tasks that are given up: there may be thousands, and all are counted.
const givenUpEvery = time.Minute

func (p *Pipeline) sayGivenUp(j *job, err error) {
	now, last := p.clock.Now(), p.givenUpSaid.Load()
	if now-last < int64(givenUpEvery) || !p.givenUpSaid.CompareAndSwap(last, now) {
		p.log.Debugf("task %s/%d of %s is given up: %v", j.task.EventID, j.task.Chunk, j.task.Device, err)
		return
	}
	p.log.Warnf("task %s/%d of %s is given up, counted as dropped for %s; the next such line comes in %v at the earliest: %v",
		j.task.EventID, j.task.Chunk, j.task.Device, reasonOf(err), givenUpEvery, err)
}

// drain waits until every event that was submitted is concluded, or ctx ends.
func (p *Pipeline) drain(ctx context.Context) error {
	idle := make(chan struct{})
	go func() {
		p.working.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d tasks are still in flight: %w", p.ledger.InFlight(), ctx.Err())
	}
}
