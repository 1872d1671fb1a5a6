package functions

import (
	"slices"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/spool"
	"app-offload/functions/task"
	"app-offload/functions/track"
	"app-offload/functions/wait"
)

// parking lets the pool of late binding take tasks out of a run. The pool decides which of them wait, and where they go in the end; parking
// makes them durable, and concludes their events.
type parking struct {
	*wait.Pool
	p *Pipeline

	inOrder func(*task.Task) bool
}

// openParking comes after whatever tasks are bound to, so that the pool is empty before any of it stops.
func (s *Service) openParking() error {
	pool := wait.New(wait.Deps{
		Rules: s.rules.Load, Look: s.look, Spool: s.spool, Local: s.local, Feedback: s.feedback, Most: s.spool.Stats().Limit / parkedShare,
		Hasten: s.scheduler.Hasten, Order: order{s.Pipeline},
		Sent: func(c *decide.Case, err error) {
			why := whyFailed(err)
			if first := firstOf(err); first != nil {
				c.Decision.Confidence, why = first.Inference.Confidence, decision.HardExample
			}
			s.amend(c, decision.Cloud, why)
		},
		Dropped: func(c *decide.Case, err error) string {
			s.sayGivenUp(c.Task, err)
			return reasonOf(err)
		},
		Hopeless: s.shedder.Hopeless, Shed: s.countShed,
	})
	s.parker = parking{pool, s.Pipeline, pool.Local.InOrder}
	s.life.onStop("waiting room", pool.Open())
	return nil
}

// order keeps parked tasks in order with those of their device and class that are not.
type order struct{ p *Pipeline }

func (o order) Ahead(t *task.Task) (parked, waits, here bool) { return o.p.tracks.Ahead(trackOf(t)) }

func (o order) Unpark(t *task.Task) {
	if k := trackOf(t); o.p.tracks.Unpark(k) {
		o.p.afterwards(o.p.rules.Load().Class(k.Class), func() { o.p.moveOn(k) })
	}
}

// parkedShare is the share (1/n) of the spool that may be held for parked tasks. Held records cannot be dropped, so the rest of the
// spool is kept for records that can.
const parkedShare = 4

// park chooses the tasks that are to wait, as their policy would rather, or as an earlier task of their device and class waits.
func (k parking) park(r *run) {
	turn := k.Turn(r.rules, &r.state)
	if turn == nil {
		return
	}
	if r.queued = r.rules.Binder().Room().Ordered; r.queued {
		r.inOrder = k.inOrder
	}
	for i := range r.jobs {
		j := &r.jobs[i]
		if j.state != decided {
			continue
		}
		if !turn.Waits(&j.Case) {
			continue
		}
		d := j.Decision
		d.Reason = decision.Undecided
		j.state, j.ID = parked, k.p.enter(r, j, d)
		r.parked = append(r.parked, j)
	}
}

// keep makes them durable. What the spool does not take goes as it was decided, and what comes after it on its track with it.
func (k parking) keep(r *run) {
	if r.queued && len(r.back) > 0 {
		r.parked = slices.DeleteFunc(r.parked, func(j *job) bool { return r.follows(j) && k.refuse(r, j) })
	}
	if len(r.parked) == 0 || k.parkAll(r.parked) == nil {
		return
	}
	var passed map[track.Key]bool
	var back []*job
	for i, j := range r.parked {
		if !passed[j.Track()] && k.parkAll(r.parked[i:i+1]) == nil {
			continue
		}
		if passed == nil {
			passed = map[track.Key]bool{}
		}
		passed[j.Track()] = true
		back = append(back, j)
	}
	k.goOn(r, back)
}

// refuse gives a task back that was to be parked, as one before it was refused.
func (k parking) refuse(r *run, j *job) bool {
	k.decided(r, j)
	k.Leave(&j.Case)
	return k.p.dispatch(j, behind, errBehind) == refused
}

// goOn sends tasks that could not be parked on their ways, before those that are held behind them.
func (k parking) goOn(r *run, back []*job) {
	var moves []track.Key
	for _, j := range back {
		k.decided(r, j)
		if k.p.tracks.Hold(j, func(x *job) bool { return x.event.run == r && x.place > j.place }) {
			moves = append(moves, j.Track())
		}
	}
	for _, j := range back {
		k.Leave(&j.Case) // after each of them is held, or what is held moves on before it
	}
	for _, on := range moves {
		k.p.moveOn(on)
	}
}

// decided lets the decision stand that was made before a task was to be parked.
func (k parking) decided(r *run, j *job) {
	j.state = decided
	k.p.feedback.Stands(r.rules, &j.Case, &r.state)
}

// parkAll offers tasks to the spool in one commit, to be held there.
func (k parking) parkAll(jobs []*job) error {
	p := k.p
	records, stepped := make([]spool.Record, len(jobs)), int64(p.clock.Stepped())
	for i, j := range jobs {
		t := *j.Task
		t.Restore()
		t.Received += stepped
		records[i] = record(j, &t, t.Append(make([]byte, 0, j.Task.Size()+recordOverhead))) // in one buffer each would keep all others in memory
	}
	return p.offer(records, func(err error) {
		if err != nil {
			p.eachAfterwards(jobs, func(jobs []*job) { k.unparkAll(jobs, err) })
			return
		}
		p.ledger.Spooled(len(jobs))
		for i, j := range jobs {
			k.Enter(j.event.run.rules, &j.Case, &j.event.run.state, &records[i])
			j.event.conclude(nil)
		}
	})
}

// unparkAll sends tasks on as they were decided, since the disk did not take them. Their run may still be looking at the jobs, so these
// are copies.
func (k parking) unparkAll(jobs []*job, err error) {
	p := k.p
	for _, j := range jobs {
		own := *j
		k.Leave(&own.Case)
		p.feedback.Stands(own.event.run.rules, &own.Case, &own.event.run.state)
		here := []*job{&own}
		if own.state = working; own.Decision.Target == decision.Cloud {
			own.state = sending
			here, _ = p.divert(here, err)
		}
		p.tracks.Enter(here)
		p.operate(here)
	}
}
