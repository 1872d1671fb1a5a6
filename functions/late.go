package functions

import (
	"context"
	"errors"
	"time"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/spool"
)

// Late binding: a task whose target is busy, and whose policy is a policy.Binder, is parked. It is durable in the spool, where it is
// held so that the exporter does not send it, and its event is concluded. Once node or link is free the task is bound: released to be
// sent, or done locally and then removed from the spool. After a crash a parked task is backlog like any other record, and is sent.

// attendEvery is the longest interval between two scans of the parked tasks: the link runs idle before its last acknowledgement has
// arrived and triggers a scan. A scan of 1,000 tasks takes about 0.3 ms.
const attendEvery = 25 * time.Millisecond

// park lets those tasks wait whose policy would rather: they leave the run. What the spool does not take stays in it.
func (p *Pipeline) park(r *run) {
	if !r.rules.InCharge(r.rules.Binder().Name()) {
		return
	}
	var parked []*job
	for i := range r.jobs {
		j := &r.jobs[i]
		if !p.waits(r, j) {
			continue
		}
		d := j.Decision
		d.Reason = decision.Undecided
		j.state, j.ID = parking, p.enter(r, j, d)
		parked = append(parked, j)
	}
	if len(parked) == 0 || p.parkAll(parked) == nil {
		return
	}
	for i := range parked {
		if j := parked[i]; p.parkAll(parked[i:i+1]) != nil {
			p.unpark(j)
			j.state = decided
		}
	}
}

// parkAll offers tasks to the spool in one commit, to be held there.
func (p *Pipeline) parkAll(jobs []*job) error {
	records, stepped := make([]spool.Record, len(jobs)), int64(p.clock.Stepped())
	for i, j := range jobs {
		t := *j.Task
		t.Received += stepped
		records[i] = record(j, &t, t.Append(make([]byte, 0, j.Task.Size()+recordOverhead))) // in one buffer each would keep all others in memory
	}
	return p.offer(records, func(err error) {
		if err != nil {
			p.afterwards(func() { p.unparkAll(jobs, err) })
			return
		}
		p.ledger.Spooled(len(jobs))
		for i, j := range jobs {
			p.hold(j, &records[i])
			j.event.conclude(nil)
		}
	})
}

// unparkAll sends tasks on as they were decided, since the disk did not take them. Their run may still be looking at the jobs, so these
// are copies.
func (p *Pipeline) unparkAll(jobs []*job, err error) {
	for _, j := range jobs {
		own := *j
		p.unpark(&own)
		p.countLate(&own)
		here := []*job{&own}
		if own.state = working; own.Decision.Target == decision.Cloud {
			own.state = sending
			here, _ = p.divert(here, err)
		}
		p.tracks.enter(here)
		p.operate(here)
	}
}

// waits reports whether a task is to wait undecided, and takes a place for it. What goes at once is busy work for those of its run
// that come after it.
func (p *Pipeline) waits(r *run, j *job) bool {
	if b := r.rules.Binder(); p.mayWait(r.rules, j) {
		busy := r.rules.Seen(j.Task, &r.busy)
		e := r.rules.Model.Estimate(j.Task, busy)
		if b.Waits(j.Task, &e, busy, &j.Decision) && p.room.take(b.Room(), j.Task.Size()) {
			return true
		}
	}
	if j.Decision.Target == decision.Cloud {
		r.busy.Link.BacklogTasks++
		r.busy.Link.BacklogBytes += int64(j.Task.Size())
	} else if seconds, ok := p.local.Seconds(j.Task.Class); ok {
		r.busy.ModelTasks++
		r.busy.ModelSeconds += seconds
	} else {
		r.busy.QueueTasks++
		r.busy.QueueCycles += j.Estimate.Cycles
	}
	return false
}

// mayWait reports whether there is anything to choose later on, and whether its policy leaves it open.
func (p *Pipeline) mayWait(r *decide.Rules, j *job) bool {
	return j.Policy == r.Binder().Name() && !j.Decision.Reason.IsGuard() && !j.Task.Class.NeverLeave && p.local.ReadsAll(j.Task)
}

// unpark gives the place of a task back that is not to wait after all.
func (p *Pipeline) unpark(j *job) {
	p.room.leave(j.Task.Size())
	p.room.free(j.Task.Size())
}

// countLate notes and counts the decision of a task that was to wait, as it stands.
func (p *Pipeline) countLate(j *job) {
	r := j.event.run
	p.feedback.Stands(r.rules, &j.Case, &r.state)
}

// hold gives a task that is durable to the room. After the last stop it is sent.
func (p *Pipeline) hold(j *job, r *spool.Record) {
	if p.room.enter(j, r) {
		return
	}
	own := *j // its run may still be looking at it
	own.Decision = letGo()
	p.unpark(&own)
	p.countLate(&own)
	p.spool.Release([]uint64{r.Seq})
}

func letGo() decision.Decision {
	return decision.Decision{Target: decision.Cloud, Score: 1, Propensity: 1, Reason: decision.LetGo}
}

// attend is the owner of the tasks that wait. It sleeps while there are none, and lets all of them go when ctx ends.
func (p *Pipeline) attend(ctx context.Context) {
	again := time.NewTimer(attendEvery)
	defer again.Stop()
	for {
		if again.Stop(); p.room.waiting.Len() > 0 {
			again.Reset(attendEvery)
		}
		select {
		case <-ctx.Done():
			p.letAllGo(ctx)
			p.room.moving.Wait()
			return
		case <-p.room.wake:
		case <-again.C:
		}
		p.bindSome(ctx)
	}
}

// bindSome binds as many tasks as there is room for on node and link. Each one that is bound shows in the state of the next look.
func (p *Pipeline) bindSome(ctx context.Context) {
	m := p.room
	p.review(ctx)
	p.welcome(ctx)
	for b := m.rules.Binder(); ctx.Err() == nil && m.waiting.Len() > 0; {
		p.look(&m.state)
		if p.local.Full() {
			occupy(m.rules.Model, &m.state, b.Room().Ahead)
		}
		h, d, e, ok := m.waiting.Next(b, m.rules.Model, &m.state)
		if !ok {
			break
		}
		j := h.Tag.(*job)
		j.Decision, j.Estimate = d, e
		if d.Reason == decision.LongestWait { // it goes because of its age alone, link or no link: no wait ends above the guards
			m.rules.Guard(&j.Case, &m.state)
		}
		p.bind(ctx, j)
	}
	if m.sent {
		m.sent = false
		p.scheduler.Hasten() // they have waited for the link, and need not wait for company as well
	}
}

// review decides all tasks that wait anew where the rules have changed or the link is gone: the guards stand above waiting, too.
func (p *Pipeline) review(ctx context.Context) {
	m, rules := p.room, p.rules.Load()
	p.look(&m.state)
	gone := m.linked && !m.state.Link.Up
	m.linked = m.state.Link.Up
	if m.rules == rules && !gone {
		return
	}
	m.rules = rules
	for _, h := range m.waiting.All() {
		p.reconsider(ctx, h.Tag.(*job))
	}
}

// welcome takes in what has come. What was decided under other rules, or comes while there is no link, is decided anew: a review since
// then has not seen it.
func (p *Pipeline) welcome(ctx context.Context) {
	m := p.room
	for _, j := range m.arrivals(false) {
		same := m.state.Link.Up && m.rules.Class(j.Task.Class.Name) == j.Task.Class
		if !same || !m.waiting.Add(policy.Held{Task: j.Task, Tag: j}, m.rules.Binder().Room()) {
			p.reconsider(ctx, j)
		}
	}
}

// occupy lets the node count as busy, and no more than that, in a state whose queue is short but takes nothing.
func occupy(m *score.Model, s *host.State, ahead float64) {
	s.QueueCycles = max(s.QueueCycles, 1)
	if e := m.EstimateWork(nil, 0, 0, s); e.LocalTime <= ahead {
		s.QueueCycles *= 2 * ahead / e.LocalTime
	}
}

// reconsider decides a task anew: it waits on where rules and state say so, and else goes as they say, which shows in the state.
func (p *Pipeline) reconsider(ctx context.Context, j *job) {
	m := p.room
	if class := m.rules.Class(j.Task.Class.Name); class != nil {
		j.Task.Class = class
	}
	m.rules.DecideAgain(&j.Case, &m.state)
	b := m.rules.Binder()
	if p.mayWait(m.rules, j) && b.Waits(j.Task, &j.Estimate, m.rules.Seen(j.Task, &m.state), &j.Decision) && m.waiting.Add(policy.Held{Task: j.Task, Tag: j}, b.Room()) {
		return
	}
	p.bind(ctx, j)
	p.look(&m.state)
}

// bind sends a task on the way that was decided for it in the state of now.
func (p *Pipeline) bind(ctx context.Context, j *job) {
	m := p.room
	p.feedback.Bound(m.rules, &j.Case, &m.state)
	if j.Decision.Target == decision.Cloud {
		m.leave(j.Task.Size())
		m.sent = true
		p.release(j)
		return
	}
	p.feedback.Stays(cases([]*job{j}), &m.state)
	p.move(ctx, j)
}

// move hands a task to the local workers without waiting for them. Where there is no room, the task has its place until there is, and
// gets it in its turn among all who wait for it.
func (p *Pipeline) move(ctx context.Context, j *job) {
	m, size := p.room, j.Task.Size()
	item := itemOf(j)
	done := func(_ int, err error) { p.boundHere(j, err) }
	if p.local.Offer(item, done) {
		m.leave(size)
		return
	}
	m.moving.Add(1)
	m.later.do(func() {
		defer m.moving.Done()
		p.local.Process(ctx, []local.Item{item}, done)
		m.leave(size)
	})
}

// release lets the record of a task leave with all others.
func (p *Pipeline) release(j *job) {
	p.room.gone(j)
	p.spool.Release([]uint64{j.seq})
}

// boundHere takes the outcome of local work on a parked task. A local worker calls it, so it must not block. A crash before the spool
// has written the removal of the record sends the task as well.
func (p *Pipeline) boundHere(j *job, err error) {
	defer p.room.nudge()
	switch {
	case err == nil:
		p.room.gone(j)
		p.spool.Drop([]uint64{j.seq}, spool.ReasonHere)
		p.feedback.Done(&j.Case)
	case errors.Is(err, local.ErrClosed) || errors.Is(err, local.ErrFull):
		if !p.neverLeaves(j) {
			p.amend(j, decision.Cloud, decision.LetGo)
			p.release(j)
		} // else it stays in the spool, held to the end
	case p.neverLeaves(j):
		p.sayGivenUp(j, err)
		p.room.gone(j)
		p.spool.Drop([]uint64{j.seq}, reasonOf(err))
		p.feedback.Failed(j.ID)
	case firstOf(err) != nil:
		j.Decision.Confidence = firstOf(err).Inference.Confidence
		p.amend(j, decision.Cloud, decision.HardExample)
		p.release(j)
	default:
		p.amend(j, decision.Cloud, whyFailed(err))
		p.release(j)
	}
}

// neverLeaves reports whether a task that waited must stay here by now: such a class lets none wait.
func (p *Pipeline) neverLeaves(j *job) bool {
	class := p.rules.Load().Class(j.Task.Class.Name)
	return j.Task.Class.NeverLeave || class != nil && class.NeverLeave
}

// letAllGo empties the room permanently: parked tasks are sent, now or after the next start. Those that must not leave stay held in
// the spool.
func (p *Pipeline) letAllGo(ctx context.Context) {
	m := p.room
	m.rules = p.rules.Load()
	p.look(&m.state)
	all := m.arrivals(true)
	for _, h := range m.waiting.All() {
		all = append(all, h.Tag.(*job))
	}
	for _, j := range all {
		if p.neverLeaves(j) {
			m.leave(j.Task.Size())
			continue
		}
		j.Estimate = m.rules.Model.Estimate(j.Task, m.rules.Seen(j.Task, &m.state))
		j.Decision = letGo()
		p.bind(ctx, j)
	}
}

// look reads the node's state as it is now: the one view of it for every policy, and for tasks that an API asks about. Of the link only
// what it has still to carry counts: neither what lacks nothing but its receipt, nor what has left, of which the acknowledgement is
// on its way.
func (p *Pipeline) look(s *host.State) {
	p.host.Read(s)
	s.ModelTasks, s.ModelSeconds = p.local.Models()
	s.Time = p.clock.Now() // of the decision: the sample may be a second old, and tasks are measured from now
	s.Link = p.room.link()
	s.Link.BacklogTasks, s.Link.BacklogBytes = p.spool.Ready()
}
