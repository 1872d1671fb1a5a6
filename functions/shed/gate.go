package shed

import (
	"cmp"
	"math"
	"sync"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Verdict is the treatment of a task under overload.
type Verdict uint8

// The verdicts.
const (
	Keep   Verdict = iota // continue as decided
	Other                 // take the other path, as only the chosen one is overloaded
	Reduce                // process locally as a task of the reduced class
	Late                  // drop, as neither path can finish it within its bound
	Drop                  // drop, as both paths are overloaded and its class gives way
)

// reasons are the reasons of decisions changed by overload.
var reasons = [...]decision.Reason{Late: decision.TooLate, Drop: decision.Overload, Other: decision.Rerouted, Reduce: decision.Reduced}

// Apply applies the verdict to a task and its decision, and reports whether to drop the task.
func (v Verdict) Apply(one *task.Task, d *decision.Decision) (gone bool) {
	if v == Keep {
		return false
	}
	d.Reason, d.Propensity, d.Arm = reasons[v], 1, decision.NoArm
	switch v {
	case Other:
		d.Target = decision.Cloud - d.Target
		d.Score = float64(d.Target) // above any threshold for the cloud, below it for local
	case Reduce:
		one.Reduce()
		d.Target, d.Score = decision.Local, 0
	default:
		return true
	}
	return false
}

const (
	step      = 0.25 // difference between the pressures at which two successive values give way
	relieve   = 0.75 // share of that pressure at which a value no longer gives way
	newest    = 0.2  // weight of the latest task in the pressure of its class
	patience  = 2    // bounds after which a policy is overruled on an overloaded path, and even the reduced form of a task is useless
	ownBounds = 2    // a task that by itself takes longer than its bound counts as in time within so many times its own time
	targets   = 2
)

// Gate tracks the load of both paths. The zero value is ready. It is safe for concurrent use.
type Gate struct {
	mu    sync.Mutex
	plan  *plan
	flows map[course]*flow
	over  [targets][maxValue + 1]bool // the path is overloaded for tasks of that value

	counts map[string]*Effects
}

const maxValue = 9

// course identifies the tasks of a class that can take the same paths.
type course struct {
	class string
	uses  [targets]bool // paths that could finish such a task in time if they were idle
}

// flow is the load by the tasks of one course.
type flow struct {
	value    int
	pressure float64 // predicted age of the result over the bound
	at       int64   // stamp of the latest task
	bound    float64 // s
}

// now returns the pressure at a moment. Without new tasks it halves in each bound.
func (f *flow) now(at int64) float64 {
	if idle := float64(at-f.at) / 1e9 / f.bound; idle > 1 {
		return f.pressure * math.Exp2(1-idle)
	}
	return f.pressure
}

// plan holds the settings of one configuration.
type plan struct {
	classes *task.Classes
	starts  [maxValue + 1]float64 // pressure at which a value gives way, 0 where no class has it
	sheds   bool
}

func planOf(classes *task.Classes) *plan {
	p := &plan{classes: classes}
	for _, c := range classes.All() {
		if c.Sheds() {
			p.starts[c.Value], p.sheds = 1, true
		}
	}
	start := 1.0
	for v := range p.starts {
		if p.starts[v] > 0 {
			p.starts[v], start = start, start+step
		}
	}
	return p
}

// value returns the value of a task. A critical task has the highest value that gives way.
func (p *plan) value(t *task.Task) int {
	value := t.Class.Value
	if !t.Critical {
		return value
	}
	for v := maxValue; v > value; v-- {
		if p.starts[v] > 0 {
			return v
		}
	}
	return value
}

// Turn judges a series of tasks under one node state. It belongs to one goroutine.
type Turn struct {
	gate  *Gate
	model *score.Model
	state host.State
	idle  host.State
	local Servers
	added [targets]float64 // s for which this turn's tasks occupy a path

	Line policy.Line // of parked tasks; tasks of this turn that may be parked are added
}

// Servers are the numbers of servers that share the local work; 0 means one.
type Servers struct {
	Operators int // goroutines that run operators
	Models    int // models that compute at the same time
}

// of returns the number of servers that share the work on tasks of a class.
func (s Servers) of(class *task.Class) float64 {
	if class.Model != "" {
		return float64(max(s.Models, 1))
	}
	return float64(max(s.Operators, 1))
}

// Turn begins a turn under classes and predictions, in a state. It returns nil if no class gives way.
func (g *Gate) Turn(classes *task.Classes, m *score.Model, s *host.State, local Servers) *Turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.plan == nil || g.plan.classes != classes {
		g.plan, g.flows, g.over = planOf(classes), map[course]*flow{}, [targets][maxValue + 1]bool{}
	}
	if !g.plan.sheds {
		return nil
	}
	t := &Turn{gate: g, model: m, state: *s, local: local}
	m.Assume(&t.state.Link)
	t.idle = alone(&t.state)
	return t
}

// alone returns the state without any waiting work.
func alone(s *host.State) host.State {
	v := *s
	v.QueueTasks, v.QueueCycles, v.ModelTasks, v.ModelSeconds, v.ParkedCycles, v.ParkedBytes = 0, 0, 0, 0, 0, 0
	v.Link.BacklogTasks, v.Link.BacklogBytes, v.Link.InflightBytes = 0, 0, 0
	return v
}

// forecast is the predicted time of a task by either path, in s.
type forecast struct {
	own, all [targets]float64
	occupies [targets]float64 // time for which the path is busy, as long as other tasks wait for it
	queued   [targets]bool    // other tasks, parked ones excluded, are on the path
	place    policy.Portion
}

// forecast predicts a task, in the current queues plus the tasks that this turn has let through. A path forbidden by its class or its decision takes
// infinitely long.
func (t *Turn) forecast(one *task.Task, d *decision.Decision, parked bool) (f forecast) {
	own, all := t.estimate(one, &t.idle), t.estimate(one, &t.state)
	f.place = t.Line.Portion(one, own.Cycles)
	f.own = [targets]float64{own.LocalTime, own.CloudTime}
	f.occupies = [targets]float64{own.LocalTime / t.local.of(one.Class), own.Bytes / max(t.idle.Link.Goodput, 1)}
	f.all = [targets]float64{all.LocalTime + t.added[decision.Local], all.CloudTime + t.added[decision.Cloud]}
	for target := range f.all {
		f.queued[target] = f.all[target] > f.own[target]
		f.all[target] += t.behind(one.Class, &f.place, decision.Target(target), parked) // 0 or 1
	}
	if one.Class.NeverLeave || only(d.Reason) {
		other := decision.Cloud - d.Target
		f.own[other], f.all[other] = math.Inf(1), math.Inf(1)
	}
	return f
}

// only reports whether a task decided for this reason has no other path: a guard decided, no other target can process it, or its policy ignores
// times.
func only(why decision.Reason) bool {
	switch why {
	case decision.NoOperator, decision.JudgedHard, decision.Fixed, decision.Drawn, decision.AboveThreshold, decision.BelowThreshold:
		return true
	}
	return why.IsOverPolicies()
}

// reduced returns a task in its reduced form.
func reduced(one *task.Task) task.Task {
	as := *one
	as.Reduce()
	return as
}

// waitHere returns the time that a task would wait for local work in its reduced form, in s.
func (t *Turn) waitHere(one *task.Task) float64 {
	as := reduced(one)
	own := t.estimate(&as, &t.idle)
	place := t.Line.Portion(&as, own.Cycles)
	return t.estimate(&as, &t.state).LocalTime - own.LocalTime + t.behind(as.Class, &place, decision.Local, false) + t.added[decision.Local]
}

func (t *Turn) estimate(one *task.Task, s *host.State) score.Estimate {
	if one.Class.Model != "" {
		v := t.model.ForModels(s)
		s = &v
	}
	return t.model.Estimate(one, s)
}

// behind returns the time that a task waits for parked ones on a path, in s. Both paths work on those: if either did all of them in the time a or b,
// both do in ab/(a + b).
func (t *Turn) behind(class *task.Class, place *policy.Portion, target decision.Target, parked bool) float64 {
	s, before := &t.state, t.Line.Before(place, target, parked)
	rate := t.model.EdgeRate(s)
	if class.Model != "" {
		rate = t.model.EdgeRate(&host.State{}) // runs are measured under the actual load
	}
	a := before.Cycles / rate / t.local.of(class)
	b := math.Inf(1)
	if s.Link.Up {
		b = before.Bytes * cmp.Or(s.Link.Growth, 1) / s.Link.Goodput
	}
	if math.IsInf(b, 1) || a == 0 || b == 0 {
		return a
	}
	return a * b / (a + b)
}

// Judge returns the verdict on a task with a decision, which may be parked or not. reads reports whether local work on the task as one of a class
// loses no data; it is called only where that matters.
func (t *Turn) Judge(one *task.Task, d *decision.Decision, parked bool, reads func(*task.Class) bool) Verdict {
	class := one.Class
	if class == nil || class.Bound <= 0 {
		return Keep
	}
	f := t.forecast(one, d, parked)
	v, target := t.verdict(one, d, &f, reads), d.Target
	if v == Other {
		target = decision.Cloud - target
	}
	switch {
	case v == Reduce:
		as := reduced(one)
		t.added[decision.Local] += t.estimate(&as, &t.idle).LocalTime / t.local.of(as.Class)
	case v <= Other && parked && f.queued[target]:
		t.Line.Add(f.place)
	case v <= Other: // on a link that is down it changes nothing
		t.added[target] += f.occupies[target]
	}
	return v
}

func (t *Turn) verdict(one *task.Task, d *decision.Decision, f *forecast, reads func(*task.Class) bool) Verdict {
	class, waited := one.Class, waited(one, &t.state)
	bound := within(class, f)
	over := t.gate.note(one, f, waited, bound, d.Target, t.state.Time)
	switch {
	case d.Target == decision.Cloud && !t.state.Link.Up:
		return Keep // the spool is there for outages
	case !class.Sheds():
		return Keep
	case class.Overload == task.OverloadExpire && waited+f.soonest() > bound:
		return Late
	case class.Overload == task.OverloadExpire || !over:
		if f.lopsided(d.Target, bound-waited) && (d.Target == decision.Local || reads(class)) {
			return Other
		}
		return Keep
	case class.Overload == task.OverloadReduce:
		if !reads(class.Reduced) {
			return Keep
		}
		guarded := d.Target == decision.Cloud && d.Reason.IsOverPolicies() // a guard keeps work off the node
		if !guarded && t.waitHere(one) < patience*bound {
			return Reduce
		}
	}
	return Drop
}

// soonest returns the time of the sooner path.
func (f *forecast) soonest() float64 { return min(f.all[decision.Local], f.all[decision.Cloud]) }

// lopsided reports whether a path is far too slow for the time left, and the other one far quicker.
func (f *forecast) lopsided(target decision.Target, left float64) bool {
	chosen, other := f.all[target], f.all[decision.Cloud-target]
	return chosen > patience*max(left, 0) && other <= chosen/patience && !math.IsInf(other, 1)
}

// within returns the bound of a class in s, wider for a task that by itself takes longer.
func within(class *task.Class, f *forecast) float64 {
	least := min(f.own[decision.Local], f.own[decision.Cloud])
	if math.IsInf(least, 1) {
		least = 0
	}
	return max(class.Bound.Seconds(), ownBounds*least)
}

func waited(one *task.Task, s *host.State) float64 {
	if one.Received <= 0 {
		return 0
	}
	return max(float64(s.Time-one.Received)/1e9, 0)
}

// Hopeless reports whether a parked task should be dropped, since no path, if it were free now, can finish it within its bound. It applies to classes
// that expire, and while a path is overloaded to those that drop: they make room for tasks that are not late yet. A link that is down is assumed to
// be up, as it may return at any moment.
func (g *Gate) Hopeless(m *score.Model, one *task.Task, s *host.State) bool {
	if one.Class == nil || !g.givesUp(one, s) {
		return false
	}
	t := Turn{model: m, state: alone(s)}
	m.Assume(&t.state.Link)
	t.state.Link.Up = true
	t.idle = t.state
	f := t.forecast(one, &decision.Decision{}, false)
	return waited(one, s)+f.soonest() > within(one.Class, &f)
}

// Within returns the time after reception within which a result of a task is useful: the bound of its class, or longer if the task itself takes
// longer. It is 0 for classes that do not expire, and for a nil Turn.
func (t *Turn) Within(one *task.Task) time.Duration {
	if t == nil || one.Class.Overload != task.OverloadExpire {
		return 0
	}
	f := t.forecast(one, &decision.Decision{}, false)
	return time.Duration(min(within(one.Class, &f), maxWithin.Seconds()) * 1e9)
}

// givesUp reports whether a parked task is dropped once it is late.
func (g *Gate) givesUp(one *task.Task, s *host.State) bool {
	if one.Class.Overload != task.OverloadDrop || !s.Link.Up {
		return one.Class.Overload == task.OverloadExpire
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.plan == nil {
		return false
	}
	value := g.plan.value(one)
	return g.overloaded(int(decision.Local), value, s.Time) || g.overloaded(int(decision.Cloud), value, s.Time)
}

const maxWithin = 365 * 24 * time.Hour

// TTL returns the longest time that a task of a class may wait in the spool, 0 for no limit. If the class expires, it is at most within, the time
// that its result is useful (see Within).
func TTL(class *task.Class, within time.Duration) time.Duration {
	if class.Overload == task.OverloadExpire && within > 0 && (class.TTL == 0 || within < class.TTL) {
		return within
	}
	return class.TTL
}

// note adds one task to its flow, and reports whether tasks of its value give way on the target.
func (g *Gate) note(t *task.Task, f *forecast, waited, bound float64, target decision.Target, now int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	class := t.Class
	key := course{class: class.Name}
	for w := range key.uses {
		key.uses[w] = f.own[w] <= bound
	}
	one := g.flows[key]
	if one == nil {
		one = &flow{}
		g.flows[key] = one
	}
	pressure := min((waited+f.soonest())/bound, 1e9)
	if one.bound == 0 {
		one.pressure, one.bound, one.at = pressure, bound, now
	}
	one.pressure = one.now(now) + newest*(pressure-one.now(now))
	one.value, one.bound, one.at = class.Value, bound, now
	return g.overloaded(int(target), g.plan.value(t), now)
}

// overloaded reports whether a path is overloaded for tasks of a value. The lock is held.
func (g *Gate) overloaded(path, value int, now int64) bool {
	start := g.plan.starts[value]
	if start == 0 {
		return false
	}
	if g.over[path][value] {
		start *= relieve
	}
	g.over[path][value] = g.pressure(path, value, now) > start
	return g.over[path][value]
}

// pressure returns the highest pressure of the classes of that value or more that could use a path. The lock is held.
func (g *Gate) pressure(path, value int, now int64) (most float64) {
	for of, f := range g.flows {
		if f.value >= value && of.uses[path] {
			most = max(most, f.now(now))
		}
	}
	return most
}
