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

// parking connects the pool of late binding to the pipeline. The pool decides which tasks wait and where they finally go; parking makes them durable
// and concludes their events.
type parking struct {
	*wait.Pool
	p *Pipeline

	inOrder func(*task.Task) bool
}

// openParking runs after all parts to which parked tasks may be bound are open, so that the pool is empty before any of those stops.
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
			s.logDropped(c.Task, err)
			return reasonOf(err)
		},
		Hopeless: s.shedder.Hopeless, Shed: s.countShed,
	})
	s.parker = parking{pool, s.Pipeline, pool.Local.InOrder}
	s.life.onStop("waiting room", pool.Open())
	return nil
}

// order keeps parked tasks in order with the other tasks of their device and class.
type order struct{ p *Pipeline }

func (o order) Ahead(t *task.Task) (parked, waits, here bool) { return o.p.tracks.Ahead(trackOf(t)) }

func (o order) Unpark(t *task.Task) {
	if k := trackOf(t); o.p.tracks.Unpark(k) {
		o.p.afterwards(o.p.rules.Load().Class(k.Class), func() { o.p.moveOn(k) })
	}
}

// parkedShare is the share (1/n) of the spool that parked tasks may occupy. Held records cannot be dropped, so the remaining space is kept for
// records that can.
const parkedShare = 4

// park chooses the tasks to be parked: their policy prefers to wait, or an earlier task of their device and class is parked.
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

// keep makes the parked tasks durable. A task that the spool rejects continues as decided, together with the later tasks of its track.
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

// refuse refuses a task that was to be parked, because an earlier task was refused.
func (k parking) refuse(r *run, j *job) bool {
	k.decided(r, j)
	k.Leave(&j.Case)
	return k.p.dispatch(j, behind, errBehind) == refused
}

// goOn hands over tasks that could not be parked, before the tasks queued behind them.
func (k parking) goOn(r *run, back []*job) {
	var moves []track.Key
	for _, j := range back {
		k.decided(r, j)
		if k.p.tracks.Hold(j, func(x *job) bool { return x.event.run == r && x.place > j.place }) {
			moves = append(moves, j.Track())
		}
	}
	for _, j := range back {
		k.Leave(&j.Case) // after all of them are held, or the tasks behind would move first
	}
	for _, on := range moves {
		k.p.moveOn(on)
	}
}

// decided restores the decision made before the task was to be parked.
func (k parking) decided(r *run, j *job) {
	j.state = decided
	k.p.feedback.Stands(r.rules, &j.Case, &r.state)
}

// parkAll offers tasks to the spool in one commit, as held records.
func (k parking) parkAll(jobs []*job) error {
	p := k.p
	records, stepped := make([]spool.Record, len(jobs)), int64(p.clock.Stepped())
	for i, j := range jobs {
		t := *j.Task
		t.Restore()
		t.Received += stepped
		records[i] = record(j, &t, t.Append(make([]byte, 0, j.Task.Size()+recordOverhead))) // in a shared buffer each payload would keep all others in memory
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

// unparkAll hands over tasks as decided, since the disk failed to store them. Their run may still read the jobs, so unparkAll works on copies.
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
