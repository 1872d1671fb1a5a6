package wait

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// attendEvery is the longest interval between two scans of the parked tasks: the link runs idle before its last acknowledgement has
// arrived and triggers a scan.
const attendEvery = 25 * time.Millisecond

// expireCost limits the search for hopeless tasks to a few percent of a core, however many are parked: a task takes about 1 µs.
const expireCost = 25 * time.Microsecond

// Turn is one view of the node in which several tasks are decided one after the other. It belongs to one goroutine.
type Turn struct {
	pool  *Pool
	rules *decide.Rules
	busy  host.State      // includes the tasks that this turn has dispatched
	ahead map[stream]bool // whether the last task of this turn that wanted to be parked was parked, false also for a held one; nil if parked tasks keep no order
	here  map[stream]bool // streams of which this turn has dispatched a task to the node
	runs  float64         // s of the models' runs among them
	shown float64         // s that they add to the wait for a model
}

// Turn begins a turn under rules and a state. It returns nil if no task may wait.
func (m *Pool) Turn(r *decide.Rules, s *host.State) *Turn {
	if !r.InCharge(r.Binder().Name()) {
		return nil
	}
	t := &Turn{pool: m, rules: r, busy: *s}
	if r.Binder().Room().Ordered {
		t.ahead, t.here = map[stream]bool{}, map[stream]bool{}
	}
	return t
}

// Waits reports whether a decided case is to be parked, and reserves a place for it; Enter or Leave must follow. Tasks dispatched immediately count
// as load for the rest of the turn.
func (t *Turn) Waits(c *decide.Case) bool {
	if t.wants(c) {
		took := t.pool.take(t.rules.Binder().Room(), c)
		t.note(c.Task, took)
		if took {
			return true
		}
	}
	t.follow(c)
	if c.Decision.Target == decision.Cloud {
		t.busy.Link.BacklogTasks++
		t.busy.Link.BacklogBytes += int64(c.Task.Size())
	} else if seconds, ok := t.pool.Local.Seconds(c.Task.Class); ok {
		t.run(seconds)
	} else {
		t.busy.QueueTasks++
		t.busy.QueueCycles += c.Estimate.Cycles / float64(t.pool.Local.Operators())
	}
	return false
}

// run counts the run of a dispatched model. The next run waits only if no worker is free, and all workers share the runs before it.
func (t *Turn) run(seconds float64) {
	workers := max(t.pool.Local.Workers(), 1)
	before := t.busy.ModelSeconds - t.shown
	t.runs += seconds
	if t.busy.ModelTasks++; t.busy.ModelTasks >= workers {
		t.shown = t.runs / float64(workers)
		t.busy.ModelSeconds = before + t.shown
	}
}

// wants reports whether a case is to be parked: its target is busy, or it must not overtake a parked task. A task that waits in memory for a parked
// one has no record yet, so a later task must not have one either. A task that must not leave is never parked, since a crash would send it.
func (t *Turn) wants(c *decide.Case) bool {
	if t.ahead != nil && !c.Task.Class.NeverLeave {
		parked, waits, _ := t.pool.Order.Ahead(c.Task)
		if before, known := t.ahead[streamOf(c.Task)]; known {
			parked, waits = true, waits || !before
		}
		if waits {
			return false
		}
		if parked && (c.Decision.Target == decision.Cloud || t.pool.Local.InOrder(c.Task)) {
			return true
		}
	}
	return t.rules.Waits(c, &t.busy)
}

// follow records a dispatched case that is held in memory: a task for the cloud behind local work. It has no record until then.
func (t *Turn) follow(c *decide.Case) {
	if t.ahead == nil {
		return
	}
	s := streamOf(c.Task)
	if c.Decision.Target == decision.Local {
		t.here[s] = true
		return
	}
	if _, _, here := t.pool.Order.Ahead(c.Task); here || t.here[s] {
		t.note(c.Task, false)
	}
}

// note records whether a task that was to be parked was parked, for later tasks of its stream.
func (t *Turn) note(one *task.Task, parked bool) {
	if t.ahead == nil {
		return
	}
	s := streamOf(one)
	if before, known := t.ahead[s]; !known || before {
		t.ahead[s] = parked
	}
}

// stream identifies tasks whose order is kept.
type stream struct{ device, class string }

func streamOf(t *task.Task) stream { return stream{t.Device, t.OwnClass().Name} }

// Leave releases the place of a case that is not parked after all.
func (m *Pool) Leave(c *decide.Case) {
	m.free(c.Task.Size())
	m.leave(c.Task, m.place(c))
}

func atStop() decision.Decision {
	return decision.Decision{Target: decision.Cloud, Score: 1, Propensity: 1, Reason: decision.LetGo}
}

// attend is the owner of the parked tasks. It sleeps while there are none, and sends all of them when ctx ends.
func (m *Pool) attend(ctx context.Context) {
	again := time.NewTimer(attendEvery)
	for {
		if again.Stop(); m.waiting.Len() > 0 {
			again.Reset(attendEvery)
		}
		select {
		case <-ctx.Done():
			m.sendAll(ctx)
			m.moving.Wait()
			return
		case <-m.wake:
		case <-again.C:
		}
		m.bindSome(ctx)
	}
}

// bindSome binds as many tasks as node and link have room for. Each bound task shows in the state of the next look.
func (m *Pool) bindSome(ctx context.Context) {
	m.review(ctx)
	m.welcome(ctx)
	m.expire()
	for b := m.rules.Binder(); ctx.Err() == nil; {
		m.look(b.Room().Ahead)
		h, d, e, ok := m.waiting.Next(b, m.rules.Model, &m.state)
		if !ok {
			break
		}
		j := h.Tag.(*parked)
		if j.fixed {
			if !j.settled() {
				m.rules.DecideAgain(&j.Case, &m.state)
			}
			m.bind(ctx, j)
			continue
		}
		j.Decision, j.Estimate = d, e
		if d.Reason == decision.LongestWait { // bound by age alone, with or without a link: no wait overrides the guards
			m.rules.Guard(&j.Case, &m.state)
		}
		m.bind(ctx, j)
	}
	if m.sent {
		m.sent = false
		m.Hasten() // they have waited for the link, and need not wait for a full batch as well
	}
}

// look reads the current node state. Workers that accept no task count as busy.
func (m *Pool) look(ahead float64) {
	m.Look(&m.state)
	if m.Local.Full() {
		occupy(m.rules.Model, &m.state, ahead)
	}
	if m.Local.ModelsFull() { // as occupy
		m.state.ModelSeconds = max(m.state.ModelSeconds, 2*ahead)
	}
}

// settled reports whether overload has decided the path of a task: reduced, or rerouted against its policy.
func (j *parked) settled() bool {
	return j.Decision.Reason == decision.Reduced || j.Decision.Reason == decision.Rerouted
}

// expire drops the tasks that no path can finish in time, if their class says so.
func (m *Pool) expire() {
	pause := attendEvery + time.Duration(m.waiting.Len())*expireCost
	if !m.expires || time.Duration(m.state.Time-m.expired) < pause {
		return
	}
	m.expired = m.state.Time
	for _, h := range m.waiting.Without(func(t *task.Task) bool { return m.Hopeless(m.rules.Model, t, m.rules.Seen(t, &m.state)) }) {
		j := h.Tag.(*parked)
		j.Decision.Reason, j.Decision.Propensity = decision.TooLate, 1
		if j.Task.Class.Overload == task.OverloadDrop {
			j.Decision.Reason = decision.Overload
		}
		m.leave(j.Task, j.place)
		m.gone(j)
		m.Spool.Drop([]uint64{j.seq}, j.Decision.Reason.String())
		m.Feedback.Shed(&j.Case)
		m.Shed(&j.Case)
	}
}

// review decides all parked tasks again if the rules changed or the link went down: the guards also override waiting.
func (m *Pool) review(ctx context.Context) {
	rules := m.Rules()
	m.Look(&m.state)
	gone := m.linked && !m.state.Link.Up
	m.linked = m.state.Link.Up
	if m.rules == rules && !gone {
		return
	}
	m.rules = rules
	m.expires = m.expires || slices.ContainsFunc(rules.Classes.All(), (*task.Class).Sheds) // a task may keep a class that was removed
	for _, h := range m.waiting.All() {
		m.reconsider(ctx, h.Tag.(*parked))
	}
}

// welcome takes in the arrivals. A task decided under other rules, or arriving while the link is down, is decided again, since the last review did
// not see it.
func (m *Pool) welcome(ctx context.Context) {
	for _, j := range m.arrivals(false) {
		same := m.state.Link.Up && m.rules.Class(j.Task.Class.Name) == j.Task.Class
		if !same || !m.waiting.Add(m.asHeld(j), m.rules.Binder().Room()) {
			m.reconsider(ctx, j)
		}
	}
}

func (m *Pool) asHeld(j *parked) policy.Held {
	return policy.Held{Task: j.Task, Tag: j, InOrder: j.fixed || m.Local.InOrder(j.Task)} // a fixed one may turn out to be for the cloud
}

// occupy makes the node count as just busy in a state with a short queue that accepts no tasks.
func occupy(m *score.Model, s *host.State, ahead float64) {
	s.QueueCycles = max(s.QueueCycles, 1)
	if e := m.EstimateWork(nil, 0, 0, s); e.LocalTime <= ahead {
		s.QueueCycles *= 2 * ahead / e.LocalTime
	}
}

// reconsider decides a task again, unless it is reduced. It keeps waiting if rules and state say so; otherwise it is dispatched, which shows in the
// state.
func (m *Pool) reconsider(ctx context.Context, j *parked) {
	if class := m.rules.Class(j.Task.Class.Name); class != nil {
		j.Task.Class = class
	}
	if j.Decision.Reason != decision.Reduced { // overload has decided it already
		m.rules.DecideAgain(&j.Case, &m.state)
	}
	j.fixed = !m.rules.MayWait(&j.Case)
	free := j.Decision.Target == decision.Local && !m.Local.InOrder(j.Task)
	stays := m.rules.Waits(&j.Case, &m.state) || !free && m.waiting.Follows(j.Task)
	if stays && m.waiting.Add(m.asHeld(j), m.rules.Binder().Room()) {
		return
	}
	for !free && m.waiting.Follows(j.Task) { // no room for it behind the earlier tasks
		before, _ := m.waiting.Before(j.Task)
		m.bind(ctx, before.Tag.(*parked))
	}
	m.bind(ctx, j)
	m.Look(&m.state)
}

// bind dispatches a task as decided, in the current state.
func (m *Pool) bind(ctx context.Context, j *parked) {
	m.Feedback.Bound(m.rules, &j.Case, &m.state)
	if j.Decision.Target == decision.Cloud {
		m.sent = true
		m.Shed(&j.Case)
		m.release(j)
		m.leave(j.Task, j.place)
		return
	}
	m.Feedback.Stays([]*decide.Case{&j.Case}, &m.state)
	m.move(ctx, j)
}

// move passes a task to the local workers without waiting for them. If they have no room, the task keeps its place until they do, and is processed in
// its turn.
func (m *Pool) move(ctx context.Context, j *parked) {
	item := local.Item{Task: j.Task, Cycles: j.Estimate.Cycles, Took: &j.Took, Sure: &j.Sure, Stay: j.Task.OwnClass().NeverLeave}
	done := func(_ int, err error) { m.boundHere(j, err) }
	if !m.queued.any(j.Task.Device) && m.Local.Offer(item, done) {
		m.leave(j.Task, j.place)
		return
	}
	m.moving.Add(1)
	m.queued.add(j.Task.Device, 1)
	queue := &m.background
	if j.Task.OwnClass().Model != "" { // a reduced one keeps its place in its class
		queue = &m.heavy
	}
	queue.Do(func() {
		defer m.moving.Done()
		m.Local.Process(ctx, []local.Item{item}, done)
		m.queued.add(j.Task.Device, -1)
		m.leave(j.Task, j.place)
	})
}

// queues counts the tasks that wait for room at the local workers, by device: later tasks must not overtake them. It is safe for concurrent use.
type queues struct {
	mu sync.Mutex
	of map[string]int
}

func (q *queues) any(device string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.of[device] > 0
}

func (q *queues) add(device string, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.of == nil {
		q.of = map[string]int{}
	}
	if q.of[device] += n; q.of[device] == 0 {
		delete(q.of, device)
	}
}

// release releases the record of a task to be sent.
func (m *Pool) release(j *parked) {
	m.gone(j)
	m.Spool.Release([]uint64{j.seq})
}

// boundHere handles the outcome of local work on a parked task. A local worker calls it, so it must not block. After a crash before the spool has
// saved the removal of the record, the task is also sent.
func (m *Pool) boundHere(j *parked, err error) {
	defer m.Nudge()
	switch {
	case err == nil:
		m.Shed(&j.Case)
		m.gone(j)
		m.Spool.Drop([]uint64{j.seq}, spool.ReasonHere)
		m.Feedback.Done(&j.Case)
	case errors.Is(err, local.ErrClosed) || errors.Is(err, local.ErrFull):
		if !m.neverLeaves(j) {
			j.Decision.Target, j.Decision.Reason, j.Decision.Propensity = decision.Cloud, decision.LetGo, 1
			m.Feedback.Amend(&j.Case)
			m.release(j)
		} // otherwise it stays in the spool as a held record
	case m.neverLeaves(j):
		m.gone(j)
		m.Spool.Drop([]uint64{j.seq}, m.Dropped(&j.Case, err))
		m.Feedback.Failed(j.ID)
	default:
		m.Sent(&j.Case, err)
		m.release(j)
	}
}

// neverLeaves reports whether a parked task must not leave by the current rules: tasks of such a class are not parked.
func (m *Pool) neverLeaves(j *parked) bool {
	own := j.Task.OwnClass()
	class := m.Rules().Class(own.Name)
	return own.NeverLeave || class != nil && class.NeverLeave
}

// sendAll empties the pool permanently: parked tasks are sent, now or after the next start. Those that must not leave stay held in the spool.
func (m *Pool) sendAll(ctx context.Context) {
	m.rules = m.Rules()
	m.Look(&m.state)
	var all []*parked
	for _, h := range m.waiting.All() {
		all = append(all, h.Tag.(*parked))
	}
	for _, j := range append(all, m.arrivals(true)...) { // in order of arrival
		if m.neverLeaves(j) {
			m.leave(j.Task, j.place)
			continue
		}
		j.Estimate = m.rules.Model.Estimate(j.Task, m.rules.Seen(j.Task, &m.state))
		j.Decision = atStop()
		m.bind(ctx, j)
	}
}
