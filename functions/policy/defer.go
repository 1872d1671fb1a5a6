package policy

import (
	"errors"
	"fmt"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var deferInfo = Info{
	Name:    "defer",
	Summary: "Parks a task, durable and undecided, while its target is busy. When a server becomes free, it plans the parked tasks for both servers.",
	WhenNot: "Tasks must be decided on arrival; or a class needs its records in the cloud in the order of their events, and DeferOrder is off: a task that gains more from the link overtakes others.",
}

// deferring prices both targets as policy cost does, with its own prices for the time of both servers. A free server takes the first task of an
// outlook over all parked tasks.
type deferring struct {
	cost  *cost
	rule  Rule
	room  Room
	tempo *tempo
}

func newDefer(c Config) Policy {
	rule, _ := loadRule(c.DeferRule) // Validate has reported an unreadable rule where it is in use
	return deferBy(rule, c)
}

// DeferBy returns policy defer with a rule that is not in a file, for training.
func DeferBy(r Rule, c Config) (Binder, error) {
	if err := errors.Join(r.check(), c.Validate()); err != nil {
		return nil, err
	}
	return deferBy(r, c), nil
}

func deferBy(r Rule, c Config) *deferring {
	k := costOf(c)
	k.edge, k.link = shadow{}, shadow{}
	k.doubt, k.caution, k.tail = r.Doubt, r.Caution, r.Tail
	longest, _ := time.ParseDuration(c.DeferLongest) // validated
	ahead, _ := time.ParseDuration(c.DeferAhead)
	return &deferring{cost: k, rule: r, tempo: &tempo{}, room: Room{
		Tasks: c.DeferTasks, Bytes: int64(c.DeferMiB) << 20, Longest: longest, Ahead: ahead.Seconds(), Ordered: c.DeferOrder, patience: c.CostPatience,
	}}
}

func (p *deferring) Name() string { return deferInfo.Name }

// Room returns the limits, with Ahead scaled to the deadlines of this node's tasks.
func (p *deferring) Room() Room {
	r := p.room
	r.Ahead /= p.tempo.usual(0)
	return r
}

// Decide takes the target with the lower cost, including the prices of both servers' time.
func (p *deferring) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	p.tempo.note(t, s, p.cost.patience)
	return p.DecideAgain(t, e, s)
}

// DecideAgain decides a task whose arrival is already counted.
func (p *deferring) DecideAgain(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	w, at := p.weigh(t, e, s), p.tempo.now(s.Time)
	localCost := w.localCost + p.rule.price(decision.Local, w.local.wait+w.local.own, at) - p.rule.price(decision.Local, w.local.wait, at)
	cloudCost := w.cloudCost + p.rule.price(decision.Cloud, w.cloud.wait+w.cloud.own, at) - p.rule.price(decision.Cloud, w.cloud.wait, at)
	d := decision.Decision{Threshold: half, Propensity: 1, Score: share(localCost, cloudCost), Target: decision.Local, Reason: decision.CheaperLocal}
	if d.Score >= half {
		d.Target, d.Reason = decision.Cloud, decision.CheaperCloud
	}
	return p.cost.predicted(e, s).settle(d)
}

// Arrived counts a task that another policy decides: it fills the same queues.
func (p *deferring) Arrived(t *task.Task, s *host.State) {
	p.tempo.arrived(t, s, p.cost.patience)
}

// inherit continues with the arrival statistics of the previous defer.
func (p *deferring) inherit(from Policy) {
	if old, ok := from.(*deferring); ok {
		p.tempo = old.tempo
	}
}

// Waits parks a task whose target is busy. A task with no other ahead of it is dispatched immediately.
func (p *deferring) Waits(_ *task.Task, e *score.Estimate, s *host.State, d *decision.Decision) bool {
	local, cloud := timings(e, s)
	if d.Target == decision.Local {
		return local.wait > p.Room().Ahead
	}
	return cloud.wait > p.Room().Ahead+p.early(cloud.own, s)
}

// early returns the seconds beyond Room.Ahead at which a task for the link is bound already; own is the link time of the task, s. The end of a
// message's transmission is only predicted, and confirmed a round trip later; until then the link would be idle. So a task is bound up to a round
// trip before the link is free, and less early the more tasks arrive during its own transmission, as they might have gone before it. More than a
// round trip would let a measured round trip that includes the queue make the queue longer.
func (p *deferring) early(own float64, s *host.State) float64 {
	at := p.tempo.now(s.Time)
	return bounded(s.Link.RTT) / (1 + own*at.arrivals/at.unit)
}

// offer is a task with the costs of both targets, without the prices of their time.
type offer struct {
	waited, deadline     float64 // s
	local, cloud         timing
	localCost, cloudCost float64
}

func (p *deferring) weigh(t *task.Task, e *score.Estimate, s *host.State) (w offer) {
	_, w.deadline = p.cost.clock(t, s)
	if t.Received > 0 {
		w.waited = max(float64(s.Time-t.Received)/1e9, 0)
	}
	w.local, w.cloud = timings(e, s)
	w.cloud.wait *= p.rule.Caution
	w.cloud.own *= p.rule.Caution
	w.localCost = p.cost.of(w.waited+w.local.time(), w.deadline, e.LocalEnergy*p.cost.strain(s)) + p.cost.stall(s)
	w.cloudCost = p.cost.of(w.waited+w.cloud.time(), w.deadline, e.CloudEnergy*p.cost.strain(s)) + p.cost.paid(e)
	return w
}

func (p *deferring) String() string {
	r := &p.rule
	return fmt.Sprintf("defer: %s; busy time, in mean deadlines, costs each arriving task %.4g + %.4g·time/2 locally and %.4g + %.4g·time/2 on the link; a free server takes the first task planned for it",
		p.cost.formula(), r.EdgePrice, r.EdgeSquare, r.LinkPrice, r.LinkSquare)
}

var (
	_ Binder = (*deferring)(nil)
	_ Pacer  = (*deferring)(nil)
	_ heir   = (*deferring)(nil)
)
