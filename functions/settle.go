package functions

import (
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// settle notes what came of a decision and shows it to all who learn from it, however late it comes and in whatever order.
// A second outcome of the same decision replaces the first for those who look, and teaches nothing. what may leave the
// decision as it is by returning false. It neither blocks nor does any I/O.
func (p *Pipeline) settle(id uint64, what func(*decision.Entry) (decision.Outcome, bool)) {
	rules, fresh, rolledBack := p.rules.Load(), false, ""
	known := p.ring.Edit(id, func(e *decision.Entry) {
		o, ok := what(e)
		if !ok {
			return
		}
		fresh = !e.Outcome.Known
		o.Known = true
		e.Outcome = o
		if fresh {
			rolledBack = p.learn(rules, e)
		}
	})
	switch {
	case !known:
		p.tally.forgot()
	case fresh:
		p.decisions.offer(shown{p}, id)
	}
	p.sayRolledBack(rules, rolledBack)
}

// learn shows an entry with its first outcome to everything that learns. It runs under the lock of the entry. A task that waited
// out an outage is judged like any other, but no policy learns from it: the next decision will know whether there is a link.
func (p *Pipeline) learn(r *decide.Rules, e *decision.Entry) (rolledBack string) {
	p.tally.settled(e)
	if e.Decision.Target == decision.Cloud && e.Time < p.outage.latest.Load() {
		return r.OnTrial(e)
	}
	if e.Decision.Target == decision.Cloud && !e.Outcome.Failed {
		if class := r.Class(e.Class); class != nil {
			r.Model.ObserveTrip(class, e.Size, e.Complexity, &e.State, e.Outcome.Time)
		}
	}
	return r.Observe(e)
}

// outage remembers when the link was last gone for long. Short gaps are of the link's nature, and are learned from.
type outage struct {
	latest atomic.Int64 // stamp
	since  time.Time    // of the present one, zero while the link is up; see's alone
}

const outageLong = 5 * time.Second

// see takes one look at the link.
func (o *outage) see(up bool, now time.Time) {
	switch {
	case up:
		o.since = time.Time{}
	case o.since.IsZero():
		o.since = now
	case now.Sub(o.since) >= outageLong:
		o.latest.Store(now.UnixNano())
	}
}

func (p *Pipeline) sayRolledBack(r *decide.Rules, why string) {
	if why == "" {
		return
	}
	c, _ := r.Canary()
	p.log.Warnf("canary %s is rolled back and stays so until Policy is configured anew: %s", c.Policy, why)
}

// failed notes that no result will come.
func (p *Pipeline) failed(id uint64) {
	p.settle(id, func(*decision.Entry) (decision.Outcome, bool) { return decision.Outcome{Failed: true}, true })
}

// done notes a result of local work. Its energy is measured where the node measures its power, else as predicted.
func (p *Pipeline) done(j *job) {
	now, watts := p.clock.Now(), p.host.State().CoreWatts()
	p.settle(j.id, func(e *decision.Entry) (decision.Outcome, bool) {
		o := outcomeAt(e, now)
		e.Decision.Confidence = j.sure
		o.Energy = e.Estimate.LocalEnergy
		if watts > 0 {
			o.Energy = watts * j.took.Seconds()
		}
		return o, true
	})
}

// outcomeAt is an outcome that came now, a stamp of the clock that the decision was stamped by.
func outcomeAt(e *decision.Entry, now int64) decision.Outcome {
	took := time.Duration(max(now-e.Time, 0))
	return decision.Outcome{Time: took.Seconds(), Met: e.Deadline == 0 || e.Waited+took <= e.Deadline}
}

// receipted takes the records that are safe with the consumer. The receipt is the outcome of their decisions, unless the
// consumer answers tasks of the class with results: then the result is.
func (p *Pipeline) receipted(records []spool.Record) {
	defer p.room.nudge()
	now := p.clock.Now()
	for i := range records {
		r := &records[i]
		id := p.decisionOf(r)
		if id == 0 {
			continue // of an earlier life of this process
		}
		p.settle(id, func(e *decision.Entry) (decision.Outcome, bool) {
			if e.Outcome.Known {
				return e.Outcome, false // the result came before
			}
			o := outcomeAt(e, now)
			o.Energy, o.Bytes = e.Estimate.CloudEnergy, int64(len(r.Payload))
			if p.answers.expected(e.Class) {
				e.Outcome.Bytes = o.Bytes
				return o, false
			}
			return o, true
		})
	}
}

// decisionOf is the decision by which a record was sent, 0 if it is not known. A record that was read back from disk has no
// tag; its decision is found by the event ID in its payload.
func (p *Pipeline) decisionOf(r *spool.Record) uint64 {
	if id, ok := r.Tag.(uint64); ok {
		return id
	}
	t, err := task.Decode(r.Payload)
	if err != nil {
		return 0 // the consumer, which has it, is the one to complain
	}
	return p.ring.Find(t.EventID, t.Chunk)
}

// resulted takes the consumer's result of a task. Its time of arrival counts, because the cloud's clock is another one.
func (p *Pipeline) resulted(r seal.Result) {
	now := p.clock.Now()
	id := p.ring.Find(r.EventID, r.Chunk)
	p.settle(id, func(e *decision.Entry) (decision.Outcome, bool) {
		p.answers.came(e.Class)
		o := outcomeAt(e, now)
		o.Energy, o.Bytes, o.Failed = e.Estimate.CloudEnergy, e.Outcome.Bytes, !r.OK
		o.Met = o.Met && r.OK
		return o, true
	})
}

// answers remembers for which classes the consumer sends results. One result makes the next receipts wait for theirs;
// after answerPatience receipts without a result they count by themselves again. Safe for concurrent use.
type answers struct {
	mu   sync.Mutex
	left map[string]int // receipts that may still wait, by class
}

const (
	answerPatience = 100
	maxAnswers     = 4096 // classes remembered
)

func newAnswers() *answers { return &answers{left: map[string]int{}} }

func (a *answers) came(class string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.left[class]; known || len(a.left) < maxAnswers {
		a.left[class] = answerPatience
	}
}

func (a *answers) expected(class string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.left[class]
	if left > 0 {
		a.left[class] = left - 1
	}
	return left > 0
}

// sweep counts decisions whose outcome is overdue as late, for the canary: a policy that sends everything where nothing comes
// back from would otherwise never be found out. Overdue is what costs no more by taking longer and is late in any class.
func (p *Pipeline) sweep(now time.Time) {
	rules := p.rules.Load()
	if _, on := rules.Canary(); !on {
		return
	}
	age := time.Duration(rules.Judge().Horizon() * float64(time.Second))
	for _, c := range rules.Classes.All() {
		age = max(age, c.Deadline)
	}
	p.ring.Sweep(now.Add(-age).UnixNano(), func(e *decision.Entry) { p.overdue(e, now.UnixNano()) })
}

// overdue shows the canary's trial a decision whose outcome is not waited for any longer, with what it has cost so far.
func (p *Pipeline) overdue(e *decision.Entry, now int64) {
	if e.Arm == decision.NoArm || e.Overdue {
		return
	}
	rules, late := p.rules.Load(), *e
	late.Outcome = outcomeAt(e, now)
	late.Outcome.Known = true
	p.sayRolledBack(rules, rules.OnTrial(&late))
	e.Overdue = true
}

// observe learns how long the operators took for a task, at once: a prediction for the next one may be asked for before
// this one is concluded.
func (p *Pipeline) observe(t *task.Task, seconds float64) {
	if t.Class != nil && t.Class.Model != "" {
		return // what counts is the run of the model
	}
	p.rules.Load().Model.ObserveLocal(t.Class, t.Size(), t.Complexity, seconds)
}
