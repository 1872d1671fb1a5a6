package functions

import (
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/spool"
	"app-offload/functions/wait"
)

// parking lets the pool of late binding take tasks out of a run. The pool decides which of them wait, and where they go in the end; parking
// makes them durable, and concludes their events.
type parking struct {
	*wait.Pool
	p *Pipeline
}

// openParking comes after whatever tasks are bound to, so that the pool is empty before any of it stops.
func (s *Service) openParking() error {
	pool := wait.New(wait.Deps{
		Rules: s.rules.Load, Look: s.look, Spool: s.spool, Local: s.local, Feedback: s.feedback, Most: s.spool.Stats().Limit / parkedShare,
		Hasten: s.scheduler.Hasten,
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
	})
	s.parker = parking{pool, s.Pipeline}
	s.life.onStop("waiting room", pool.Open())
	return nil
}

// parkedShare is the share (1/n) of the spool that may be held for parked tasks. Held records cannot be dropped, so the rest of the
// spool is kept for records that can.
const parkedShare = 4

// park lets those tasks wait whose policy would rather: they leave the run. What the spool does not take stays in it.
func (k parking) park(r *run) {
	turn := k.Turn(r.rules, &r.state)
	if turn == nil {
		return
	}
	var waiting []*job
	for i := range r.jobs {
		j := &r.jobs[i]
		if !turn.Waits(&j.Case) {
			continue
		}
		d := j.Decision
		d.Reason = decision.Undecided
		j.state, j.ID = parked, k.p.enter(r, j, d)
		waiting = append(waiting, j)
	}
	if len(waiting) == 0 || k.parkAll(waiting) == nil {
		return
	}
	for i := range waiting {
		if j := waiting[i]; k.parkAll(waiting[i:i+1]) != nil {
			k.Leave(j.Task)
			j.state = decided
		}
	}
}

// parkAll offers tasks to the spool in one commit, to be held there.
func (k parking) parkAll(jobs []*job) error {
	p := k.p
	records, stepped := make([]spool.Record, len(jobs)), int64(p.clock.Stepped())
	for i, j := range jobs {
		t := *j.Task
		t.Received += stepped
		records[i] = record(j, &t, t.Append(make([]byte, 0, j.Task.Size()+recordOverhead))) // in one buffer each would keep all others in memory
	}
	return p.offer(records, func(err error) {
		if err != nil {
			p.afterwards(func() { k.unparkAll(jobs, err) })
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
		k.Leave(own.Task)
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
