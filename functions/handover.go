package functions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"app-offload/functions/answer"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/infer"
	"app-offload/functions/local"
	"app-offload/functions/shed"
	"app-offload/functions/spool"
	"app-offload/functions/task"
	"app-offload/functions/track"
)

// dispatch moves a job by one event and returns its next state. The caller passes jobs in state instead to the local workers. err is the cause, nil
// on success. Only the goroutine that owns the job calls dispatch. It does not block.
func (p *Pipeline) dispatch(j *job, ev jobEvent, err error) jobState {
	t := &transitions[j.state][ev]
	if t.next == impossible {
		panic(fmt.Sprintf("dispatching task %s/%d: event %d cannot happen in state %d", j.Task.EventID, j.Task.Chunk, ev, j.state))
	}
	next := t.next
	j.state = next
	for _, a := range t.do {
		p.act(j, a, err)
	}
	return next // another goroutine may own j by now
}

func (p *Pipeline) act(j *job, a action, err error) {
	switch a {
	case conclude:
		p.countShed(&j.Case)
		j.event.conclude(nil)
	case finish:
		p.countShed(&j.Case)
		p.ledger.Local(1)
		p.feedback.Done(&j.Case)
		j.event.conclude(nil)
	case goLocal:
		p.amend(&j.Case, decision.Local, decision.SpoolFull)
	case goCloud:
		p.amend(&j.Case, decision.Cloud, whyFailed(err))
	case goHard:
		j.Decision.Confidence = j.first.Inference.Confidence
		p.amend(&j.Case, decision.Cloud, decision.HardExample)
	case finishFirst:
		p.finishFirst(j)
	case resend:
		p.resend(j)
	case dropTooLarge:
		p.drop(j, ReasonTooLarge)
	case dropFull: // no record in the spool may be dropped for it, and refusing would hold up every event behind it
		p.drop(j, spool.ReasonFull)
	case dropOverload:
		p.countShed(&j.Case)
		p.feedback.Shed(&j.Case)
		p.drop(j, j.Decision.Reason.String())
	case dropFailed:
		p.logDropped(j.Task, err)
		p.drop(j, reasonOf(err))
	case refuse:
		p.refuse(j, err)
	case refuseTrack:
		p.refuseTrack(j, err)
	case leaveTrack:
		p.leaveTrack(j)
	}
}

// store offers tasks to the spool. It returns the tasks to be processed locally because the spool rejected them, and the refused tasks, both in
// order. The spool takes all tasks of a commit or none, so after a rejection store offers each event alone: some may fit, or make room by their
// class's strategy. After ErrTooLarge it offers a single task, since only one may be too large.
func (p *Pipeline) store(jobs []*job) (here, back []*job) {
	err := p.append(jobs)
	if err == nil {
		return nil, nil
	}
	if len(jobs) == 1 || !errors.Is(err, spool.ErrFull) && !errors.Is(err, spool.ErrTooLarge) {
		return p.divert(jobs, err)
	}
	var blocked map[track.Key]bool
	for left := jobs; len(left) > 0; {
		some := left[:chunks(left)]
		k := some[0].Track()
		if blocked[k] {
			for _, j := range some {
				p.dispatch(j, behind, errBehind)
			}
			back, left = append(back, some...), left[len(some):]
			continue
		}
		err := p.append(some)
		if errors.Is(err, spool.ErrTooLarge) && len(some) > 1 {
			some = left[:1]
			err = p.append(some)
		}
		left = left[len(some):]
		if err == nil {
			continue
		}
		local, returned := p.divert(some, err)
		here, back = append(here, local...), append(back, returned...)
		if len(returned) > 0 {
			if blocked == nil {
				blocked = map[track.Key]bool{}
			}
			blocked[k] = true
		}
	}
	return here, back
}

// chunks returns the number of leading jobs of the same event and class. They share one fate, since a part of them is useless.
func chunks(jobs []*job) (n int) {
	for n < len(jobs) && jobs[n].event == jobs[0].event && jobs[n].Task.OwnClass() == jobs[0].Task.OwnClass() {
		n++
	}
	return n
}

// divert dispatches tasks that the spool rejected. It returns the tasks to be processed locally and the refused ones.
func (p *Pipeline) divert(jobs []*job, err error) (here, back []*job) {
	for _, j := range jobs {
		ev := p.spoolEvent(j, err)
		cause := err
		if ev == unstored || ev == fullLocal {
			cause = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		switch p.dispatch(j, ev, cause) {
		case instead:
			here = append(here, j)
		case refused:
			back = append(back, j)
		}
	}
	return here, back
}

// room is the reusable memory of a commit: its records, and the rest of a buffer for their payloads.
type room struct {
	records []spool.Record
	rest    []byte
}

var rooms = sync.Pool{New: func() any { return new(room) }}

// mostRoom is the largest commit, in records, whose room is reused.
const mostRoom = 1024

func (m *room) free() {
	if cap(m.records) > mostRoom {
		return
	}
	clear(m.records)
	rooms.Put(m)
}

// append stores the jobs' tasks in one commit.
func (p *Pipeline) append(jobs []*job) error {
	m := rooms.Get().(*room)
	m.records = slices.Grow(m.records[:0], len(jobs))
	// Several payloads share an allocation, but not too many: each keeps its neighbours in memory, whether in the spool's ring or in flight.
	stepped := int64(p.clock.Stepped())
	for i, j := range jobs {
		t := *j.Task
		t.Restore()
		t.Received += stepped // records leave this process, so they carry the time of day
		if size := recordSize(&t); cap(m.rest) < size {
			m.rest = make([]byte, 0, bufferSize(jobs[i:]))
		}
		payload := t.Append(m.rest)
		m.records = append(m.records, record(j, &t, payload[:len(payload):len(payload)]))
		m.rest = payload[len(payload):]
	}
	err := p.offer(m.records, func(err error) {
		m.free() // the spool keeps only the payloads
		p.committed(jobs, err)
	})
	if err != nil {
		m.free()
	}
	return err
}

// offer passes records to the spool. The committer calls then, which must not block.
func (p *Pipeline) offer(records []spool.Record, then func(error)) error {
	p.working.Add(1)
	err := p.spool.Offer(records, func(err error) {
		defer p.working.Done()
		then(err)
	})
	if err != nil {
		p.working.Done()
	}
	return err
}

// recordSize estimates what task.Append writes: data, strings, and the tags and numbers between them.
func recordSize(t *task.Task) int {
	return t.Size() + len(t.EventID) + len(t.Device) + len(t.Profile) + len(t.Source) + len(t.Class.Name) + len(t.CorrelationID) + recordOverhead
}

const recordOverhead = 96

// bufferSize returns the size of a buffer for the payloads of the first jobs: a shared one if many fit into it, else one for these alone.
func bufferSize(jobs []*job) (size int) {
	if recordSize(jobs[0].Task) <= sharedBuffer/8 {
		return sharedBuffer
	}
	for i, j := range jobs {
		next := recordSize(j.Task)
		if i > 0 && size+next > sharedBuffer {
			break
		}
		size += next
	}
	return size
}

// sharedBuffer is the size in bytes of a buffer that payloads share. The last of its payloads keeps it in memory.
const sharedBuffer = 16 << 10

func record(j *job, t *task.Task, payload []byte) spool.Record {
	class := t.Class
	r := spool.Record{
		Lane: class.Priority, Class: class.Name, Score: float32(j.Decision.Score), OnFull: class.OnFull,
		Time: t.Received, Payload: payload, Tag: j.ID, Hold: j.state == parked,
	}
	if ttl := shed.TTL(class, j.within); ttl > 0 {
		r.Expires = t.Received + int64(ttl)
	}
	return r
}

// committed accounts for a commit. It runs on the committer's goroutine and must not block it. A disk failure shows only here, after later tasks were
// handed over: this is the one case in which later tasks may overtake a task that changes its path.
func (p *Pipeline) committed(jobs []*job, err error) {
	if err == nil {
		p.ledger.Spooled(len(jobs))
		for _, j := range jobs {
			p.dispatch(j, kept, nil)
		}
		return
	}
	p.eachAfterwards(jobs, func(jobs []*job) { // local work may have no room for hours, and must not accumulate goroutines
		here, _ := p.divert(jobs, err)
		p.tracks.Enter(here)
		p.operate(here)
	})
}

// afterwards runs f, which may block, in the background and counts it as work in flight. Classes with a model use a queue of their own: waiting for a
// model holds up only them.
func (p *Pipeline) afterwards(class *task.Class, f func()) {
	queue := &p.background
	if class != nil && class.Model != "" {
		queue = &p.heavy
	}
	p.working.Add(1)
	queue.Do(func() {
		defer p.working.Done()
		f()
	})
}

// eachAfterwards is afterwards for jobs of several classes. Jobs of one class keep their order.
func (p *Pipeline) eachAfterwards(jobs []*job, f func([]*job)) {
	var light, heavy []*job
	for _, j := range jobs {
		if j.Task.OwnClass().Model == "" {
			light = append(light, j)
		} else {
			heavy = append(heavy, j)
		}
	}
	for _, some := range [][]*job{light, heavy} {
		if len(some) > 0 {
			p.afterwards(some[0].Task.OwnClass(), func() { f(some) })
		}
	}
}

// resend offers a task whose local work failed to the spool, and then releases its track. The worker must not wait for the spool.
func (p *Pipeline) resend(j *job) {
	p.afterwards(j.Task.OwnClass(), func() {
		k := j.Track()
		p.store([]*job{j}) // none of it returns to the local workers
		p.leaveTrackOf(k)
	})
}

// operate passes jobs to the local workers, and waits for room in their queues.
func (p *Pipeline) operate(jobs []*job) {
	if len(jobs) == 0 {
		return
	}
	items := make([]local.Item, len(jobs))
	for i, j := range jobs {
		items[i] = itemOf(j)
	}
	p.working.Add(len(jobs))
	p.local.Process(p.ctx, items, func(i int, err error) {
		defer p.working.Done()
		defer p.parker.Nudge()
		jobs[i].first = firstOf(err)
		p.dispatch(jobs[i], localEvent(jobs[i], err), err)
	})
}

// itemOf returns a job as an item for the local workers. A job that the spool rejected must stay local.
func itemOf(j *job) local.Item {
	return local.Item{
		Task: j.Task, Cycles: j.Estimate.Cycles, Took: &j.Took, Sure: &j.Sure, Stay: j.Task.OwnClass().NeverLeave || j.state == instead,
	}
}

// firstOf returns the local model's provisional answer, or nil.
func firstOf(err error) *answer.Answer {
	if err == nil {
		return nil // errors.As allocates
	}
	if hard := (*infer.HardError)(nil); errors.As(err, &hard) {
		return hard.Answer
	}
	return nil
}

// leaveTrack runs after local work and releases the tasks queued behind the job.
func (p *Pipeline) leaveTrack(j *job) { p.leaveTrackOf(j.Track()) }

func (p *Pipeline) leaveTrackOf(k track.Key) {
	if p.tracks.Leave(k) {
		p.afterwards(p.rules.Load().Class(k.Class), func() { p.moveOn(k) }) // it may wait for room
	}
}

// moveOn hands over the queued tasks of a track, as far as their order allows.
func (p *Pipeline) moveOn(k track.Key) {
	for {
		run := p.tracks.Next(k)
		if len(run) == 0 {
			return
		}
		state := working
		if run[0].Leaves() {
			state = sending
		}
		for _, j := range run {
			j.state = state
		}
		if state == sending {
			run, _ = p.store(run)
			p.tracks.Enter(run)
		}
		p.operate(run)
	}
}

// refuseTrack refuses a task and all tasks queued behind it, which would otherwise overtake it.
func (p *Pipeline) refuseTrack(j *job, err error) {
	k := j.Track()
	if j.event.run.again {
		p.tracks.Block(k, j.Task.EventID) // before the sender learns of the refusal, since it may be sending
	}
	p.refuse(j, err)
	for _, held := range p.tracks.Empty(k) {
		p.dispatch(held, behind, errBehind)
	}
}

// finishFirst makes the provisional answer of a task the final one, since the task cannot be sent to the cloud. It may wait for the bus, so it runs
// on the background goroutine. If the bus is unavailable, the task is returned to its sender; if the bus rejects the answer, the task is dropped as
// ReasonFailed.
func (p *Pipeline) finishFirst(j *job) {
	p.amend(&j.Case, decision.Local, decision.SpoolFull)
	final := *j.first
	final.Provisional = false
	p.local.Publish(&final, false, func(err error) {
		switch {
		case err == nil:
			p.act(j, finish, nil)
		case errors.Is(err, local.ErrAway):
			p.refuseTrack(j, err)
		default:
			p.logDropped(j.Task, err)
			p.drop(j, ReasonFailed)
		}
	})
}

// drop drops a task that can be neither processed nor stored, now or later. It counts as accepted, so that its event is not redelivered forever.
func (p *Pipeline) drop(j *job, reason string) {
	p.ledger.Dropped(reason, 1)
	p.drops.Early(j.Task.OwnClass().Name, reason)
	p.feedback.Failed(j.ID)
	j.event.conclude(nil)
}

// refuse returns a task to its sender. The task was never accepted, and the sender owns its event again.
func (p *Pipeline) refuse(j *job, err error) {
	p.ledger.Leave(1)
	p.refused.Add(1)
	p.feedback.Withdraw(j.event.run.rules, &j.Case, &j.event.run.state)
	j.event.conclude(err)
}

// amend records that a task took another path than decided. Its propensity is 1: any decision would have led to this path.
func (p *Pipeline) amend(c *decide.Case, target decision.Target, why decision.Reason) {
	c.Decision.Target, c.Decision.Reason, c.Decision.Propensity = target, why, 1
	p.feedback.Amend(c)
}

// dropLogEvery is the shortest interval between two warnings about dropped tasks. There may be thousands, and all are counted.
const dropLogEvery = time.Minute

func (p *Pipeline) logDropped(t *task.Task, err error) {
	now, last := p.clock.Now(), p.dropLogged.Load()
	if now-last < int64(dropLogEvery) || !p.dropLogged.CompareAndSwap(last, now) {
		p.log.Debugf("dropping task: event=%s chunk=%d device=%q error=%q", t.EventID, t.Chunk, t.Device, err)
		return
	}
	p.log.Warnf("dropping task: event=%s chunk=%d device=%q reason=%s error=%q (similar messages suppressed for %v)",
		t.EventID, t.Chunk, t.Device, reasonOf(err), err, dropLogEvery)
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
