package policy

import (
	"fmt"
	"math"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var costInfo = Info{
	Name:    "cost",
	Summary: "Takes the target with the lower predicted cost: lateness, missed deadlines, energy, money, and the delay that the task causes to later ones.",
	WhenNot: "Predictions are far off: it does not learn from its errors. Use bandit until measurements have corrected them.",
}

// cost is J = time·min(T/D, κ) + miss·[T > D] + energy·e/e₀ + money·m on the predictions, plus a shadow price.
//
// The shadow price is the delay that a task causes to other tasks: each second of the node's or the link's time that it takes lets every task that
// arrives before the queue is empty wait a second longer. The price rises with the queue, since more tasks arrive before a longer queue is empty. It
// falls again where the queue is so long that its tasks are late anyway, and for a single task so long that no other task should use this server:
// hopeless tasks go there. Without the price the policy is greedy, and measured worse. The prices follow the arrivals, and the tail has a
// small cost: with fixed prices and no tail, a queue of hopeless tasks grew forever where deadlines were short, beside an idle server.
//
// A prediction is uncertain, so the step at the deadline is a ramp. The goodput of a link is more often much worse than expected than much better, so
// the predicted link time is multiplied by a caution.
type cost struct {
	time, miss, energy float64
	scarce
	kappa, joules, patience float64
	doubt, tail, caution    float64
	edge, link              shadow
	tempo                   *tempo // nil in a cost that does not decide
}

// shadow is the cost to other tasks of a second of a server.
type shadow struct {
	base, wait float64 // for an idle server, and its increase with each second of the queue
	ease       float64 // s of queue at which the price has fallen to half, and half of the time of one task at which it has
}

func newCost(c Config) Policy { return pricedBy(c) }

// pricedBy is costOf with prices that follow the deadlines of the arriving tasks.
func pricedBy(c Config) *cost {
	k := costOf(c)
	k.tempo = &tempo{}
	return k
}

func costOf(c Config) *cost {
	k := &cost{
		time: c.CostTime, miss: c.CostMiss, energy: c.CostEnergy,
		scarce: scarce{money: c.CostMoney, price: c.CostPrice, memory: c.CostMemory, battery: c.CostBattery},
		kappa:  c.CostKappa, joules: c.CostJoules, patience: c.CostPatience, caution: 1,
	}
	if c.CostShadow {
		k.doubt, k.tail, k.caution = c.CostDoubt, c.CostTail, c.CostCaution
		k.edge = shadow{c.CostEdgePrice, c.CostEdgeWait, c.CostEdgeEase}
		k.link = shadow{c.CostLinkPrice, c.CostLinkWait, c.CostLinkEase}
	}
	return k
}

func (k *cost) Name() string { return costInfo.Name }

// Decide scores local/(local + cloud) of the costs: above a half the cloud is cheaper.
func (k *cost) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	k.tempo.note(t, s, k.patience)
	return k.DecideAgain(t, e, s)
}

// DecideAgain decides a task whose arrival is already counted.
func (k *cost) DecideAgain(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	return k.decide(t, e, s, k.tempo.beat(s.Time))
}

// decide decides with prices scaled by b.
func (k *cost) decide(t *task.Task, e *score.Estimate, s *host.State, b beat) decision.Decision {
	local, cloud := timings(e, s)
	return k.predicted(e, s).settle(k.choose(t, e, s, local, cloud, b))
}

// Arrived counts a task that another policy decides.
func (k *cost) Arrived(t *task.Task, s *host.State) { k.tempo.arrived(t, s, k.patience) }

// inherit continues with the arrival statistics of the previous cost.
func (k *cost) inherit(from Policy) {
	if old, ok := from.(*cost); ok {
		k.tempo = old.tempo
	}
}

// choose takes the cheaper of two targets, whose times the bandit may have corrected. The shadow prices are of a usual node, scaled by b.
func (k *cost) choose(t *task.Task, e *score.Estimate, s *host.State, local, cloud timing, b beat) decision.Decision {
	waited, deadline := k.clock(t, s)
	localCost := k.of(waited+local.time(), deadline, e.LocalEnergy*k.strain(s)) + b.rush*k.edge.of(local.own*b.usual, local.wait*b.usual) + k.stall(s)
	cloudCost := math.Inf(1)
	if !math.IsInf(e.CloudTime, 1) {
		link := (cloud.wait + cloud.own) * k.caution
		cloudCost = k.of(waited+link+cloud.after, deadline, e.CloudEnergy*k.strain(s)) + b.rush*k.link.of(cloud.own*b.usual, cloud.wait*b.usual) + k.paid(e)
	}
	d := decision.Decision{Threshold: half, Propensity: 1, Score: share(localCost, cloudCost), Target: decision.Local, Reason: decision.CheaperLocal}
	if d.Score >= half {
		d.Target, d.Reason = decision.Cloud, decision.CheaperCloud
	}
	return d
}

// clock returns how long the task has waited already, and its deadline since reception, +Inf without one.
func (k *cost) clock(t *task.Task, s *host.State) (waited, deadline float64) {
	if t.Deadline <= 0 {
		return 0, math.Inf(1)
	}
	deadline = t.Deadline.Seconds()
	return deadline - score.Slack(t, s), deadline
}

// of returns the cost of a result after so many seconds, energy included. No time costs more than an infinite one.
func (k *cost) of(took, deadline, joules float64) float64 {
	joule := k.joule(joules)
	if math.IsInf(deadline, 1) {
		return k.time*min(bounded(took)/k.patience, k.kappa) + joule
	}
	late := bounded(took / deadline)
	return k.time*min(late, k.kappa) + k.tail*max(late-k.kappa, 0) + k.miss*k.ramp(late) + joule
}

// joule returns the cost of energy.
func (k *cost) joule(joules float64) float64 { return k.energy * bounded(joules) / k.joules }

// ramp returns the probability that the deadline is missed at a predicted lateness. Without doubt it is a step.
func (k *cost) ramp(late float64) float64 {
	if k.doubt == 0 {
		if late > 1 {
			return 1
		}
		return 0
	}
	return min(max((late-1)/(2*k.doubt)+half, 0), 1)
}

func (p shadow) of(own, wait float64) float64 {
	own, wait = bounded(own), bounded(wait)
	if p.base == 0 && p.wait == 0 {
		return 0
	}
	over, long := wait/p.ease, own/(2*p.ease)
	return own * (p.base + p.wait*wait) / ((1 + over*over) * (1 + long*long))
}

// worst bounds predictions, so that sums and products stay finite.
const worst = 1e9

func bounded(v float64) float64 {
	if !(v > 0) {
		return 0 // also for NaN
	}
	return min(v, worst)
}

// timing is a predicted time in parts: in the queue, at the server, and after it.
type timing struct{ wait, own, after float64 }

func (p timing) time() float64 { return p.wait + p.own + p.after }

// timings splits the two predictions into their parts.
func timings(e *score.Estimate, s *host.State) (local, cloud timing) {
	localTime := bounded(e.LocalTime)
	local.own = localTime
	if queue, cycles := bounded(s.QueueCycles), bounded(e.Cycles); queue > 0 {
		local.own = localTime * cycles / (queue + cycles)
	}
	local.wait = localTime - local.own

	cloudTime, bytes := bounded(e.CloudTime), bounded(e.Bytes)
	ahead := s.Link.BytesAhead(1, 1)
	if s.Link.Goodput > 0 {
		cloud.own = min(bytes/s.Link.Goodput, cloudTime)
		cloud.wait = min(ahead/s.Link.Goodput, cloudTime-cloud.own)
	}
	cloud.after = cloudTime - cloud.own - cloud.wait
	return local, cloud
}

var (
	_ Pacer = (*cost)(nil)
	_ heir  = (*cost)(nil)
)

func (k *cost) String() string {
	return "cost: " + k.formula()
}

func (k *cost) formula() string {
	text := fmt.Sprintf("%.4g·min(T/D, %.4g) + %.4g·[T > D] + %.4g·J/%.4g + %.4g in the cloud", k.time, k.kappa, k.miss, k.energy, k.joules, k.money) + k.scarce.String()
	if k.edge != (shadow{}) || k.link != (shadow{}) {
		text += fmt.Sprintf("; a second costs others %s locally and %s on the link", k.edge, k.link)
	}
	return text + "; the cheaper target"
}

func (p shadow) String() string {
	return fmt.Sprintf("(%.4g + %.4g·wait)/(1 + (wait/%.4g)²)/(1 + (own/%.4g)²)", p.base, p.wait, p.ease, 2*p.ease)
}
