package decide

import (
	"fmt"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Local is what those who work here know of a task. Both are called for each task, concurrently, and must not block.
type Local struct {
	Reads func(*task.Task) bool // reports whether operators and models read all of a task, so that local work loses none of it
	Hard  func(*task.Task) bool // reports whether a task for a model is judged hard before it is computed; nil judges none so
}

// Parts are what Rules are made of.
type Parts struct {
	Classes       map[string]task.ClassConfig
	Largest       int // bytes of a record; larger tasks are cut
	Policy        policy.Config
	Only          policy.Policy // decides in the place of all that Policy configures; nil for those
	Model         *score.Model
	Configuration string // version of the configuration
	Local
}

// Rules are what a change of the configuration replaces as a whole: the classes, the predictions, and who decides. Everything that decides
// about a task does so by Decide, DecideBy or DecideAgain. Rules are immutable but for what is learned, and safe for concurrent use.
type Rules struct {
	*Decider
	Classes       *task.Classes
	Model         *score.Model
	Configuration string // version of the configuration

	local    Local
	byName   map[string]*task.Class
	inCharge map[string]bool // policies that decide for any task
}

// Case is one task with what was found out about it.
type Case struct {
	Task *task.Task

	// Of the deciding.
	Estimate score.Estimate
	Decision decision.Decision
	Policy   string // that is in charge, named also where a guard decided

	// Of those who follow what becomes of it.
	ID      uint64          // of the entry in the ring
	Counted decision.Target // the target that the counts have
	Took    time.Duration   // of the local operators and the model, once they are done
	Sure    float64         // confidence of the local model's answer, 0 without one
}

// New makes the rules, which go on with what the ones before them have learned; before is nil at the start. The ones before are unchanged.
func New(p Parts, before *Rules) (*Rules, error) {
	classes, err := task.NewClasses(p.Classes)
	if err != nil {
		return nil, fmt.Errorf("building the classes: %w", err)
	}
	classes.Limit(p.Largest)
	decider, err := p.decider()
	if err != nil {
		return nil, fmt.Errorf("building the policies: %w", err)
	}
	r := &Rules{
		Decider: decider, Classes: classes, Model: p.Model, Configuration: p.Configuration, local: p.Local, byName: map[string]*task.Class{},
		inCharge: map[string]bool{p.Policy.Default: true, p.Policy.Canary: true},
	}
	for _, c := range classes.All() {
		r.byName[c.Name], r.inCharge[c.Policy] = c, true
	}
	if before != nil {
		decider.Follow(before.Decider)
	}
	return r, nil
}

func (p *Parts) decider() (*Decider, error) {
	if p.Only != nil {
		return Only(p.Only, p.Policy)
	}
	return NewDecider(p.Policy)
}

// Class is the class of that name, nil for an unknown name.
func (r *Rules) Class(name string) *task.Class { return r.byName[name] }

// InCharge reports whether the policy of that name decides for any task.
func (r *Rules) InCharge(name string) bool { return r.inCharge[name] }

// Pooled are the policies that can learn together with other nodes, as the predictions can.
func (r *Rules) Pooled() (all []policy.Pooled) {
	for _, l := range r.learners {
		if p, ok := l.(policy.Pooled); ok {
			all = append(all, p)
		}
	}
	return all
}

// PoolLayout changes with all on which the meaning of statistics depends.
func (r *Rules) PoolLayout() string { return policy.PoolLayout + ";" + r.Model.PoolLayout() }

// StatisticsAnew keeps what was learned under another layout out of the statistics.
func (r *Rules) StatisticsAnew() {
	r.Model.StatisticsAnew()
	for _, p := range r.Pooled() {
		p.StatisticsAnew()
	}
}

// Decide fills in the case of a task that has arrived: what either target would cost, where the task goes, and why. The shadows decide
// along.
func (r *Rules) Decide(c *Case, s *host.State) {
	s = r.predict(c, s)
	c.Decision, c.Policy = r.Decider.Decide(c.Task, &c.Estimate, s)
	r.Look(c.Task, &c.Estimate, s, &c.Decision)
	r.overrule(c)
	c.Task.Score, c.Task.Policy = c.Decision.Score, c.Policy
}

// DecideBy is Decide by the policy of that name, "" for the default one. Neither shadows nor a canary take part.
func (r *Rules) DecideBy(name string, c *Case, s *host.State) {
	s = r.predict(c, s)
	c.Decision, c.Policy = r.Decider.DecideBy(name, c.Task, &c.Estimate, s)
	r.overrule(c)
}

// DecideAgain is Decide for a task that was decided before: it counts as no arrival, and no shadow looks.
func (r *Rules) DecideAgain(c *Case, s *host.State) {
	s = r.predict(c, s)
	c.Decision, c.Policy = r.Decider.DecideAgain(c.Task, &c.Estimate, s)
	r.overrule(c)
}

// Guard lets the guards decide about a case that has an estimate, and leaves its decision as it is where they leave it to others.
func (r *Rules) Guard(c *Case, s *host.State) {
	if d, held := r.Decider.Guard(c.Task, &c.Estimate, r.Seen(c.Task, s)); held {
		c.Decision = d
		r.overrule(c)
	}
}

// MayWait reports whether a decided case may be parked: its policy binds late, there is a choice of targets, and the decision leaves it open.
func (r *Rules) MayWait(c *Case) bool {
	return r.binder != nil && c.Policy == r.binder.Name() && r.LeavesOpen(c.Decision.Reason) && !c.Task.Class.NeverLeave && r.local.Reads(c.Task)
}

// Waits reports whether a decided case had better be parked in this state. A task that a guard keeps since the link is down waits for the node,
// the only server there is.
func (r *Rules) Waits(c *Case, s *host.State) bool {
	if !r.MayWait(c) {
		return false
	}
	s = r.Seen(c.Task, s)
	e, d := r.Model.Estimate(c.Task, s), c.Decision
	if d.Reason == decision.GuardLinkDown {
		d.Target = decision.Local
	}
	return r.binder.Waits(c.Task, &e, s, &d)
}

// predict fills in the estimate, and returns the state as the task finds it. The complexity of a task for a model is what its run comes to.
func (r *Rules) predict(c *Case, s *host.State) *host.State {
	if cycles, ok := r.Model.RunCycles(c.Task.Class); ok {
		c.Task.Complexity = r.Model.ComplexityOf(c.Task.Size(), cycles)
	}
	s = r.Seen(c.Task, s)
	c.Estimate = r.Model.Estimate(c.Task, s)
	return s
}

// Seen is a node's state as a task finds it: those for a model stand in another queue than others.
func (r *Rules) Seen(t *task.Task, s *host.State) *host.State {
	if t.Class == nil || t.Class.Model == "" {
		return s
	}
	v := r.Model.ForModels(s)
	return &v
}

// overrule sends a task away that holds something which neither operator nor model reads: local work would lose it. Such a task goes to the cloud
// whatever the policy says, so that is certain and no draw. A task without a class is another's, which asks where to process it: its
// data are not here, and local work loses none of them. So does a task that is judged hard before its model has seen it.
func (r *Rules) overrule(c *Case) {
	d, class := &c.Decision, c.Task.Class
	if class == nil || class.NeverLeave || d.Target == decision.Cloud && d.Propensity == 1 {
		return
	}
	if r.local.Reads(c.Task) {
		if d.Target == decision.Local && class.Model != "" && r.local.Hard != nil && r.local.Hard(c.Task) {
			d.Target, d.Reason, d.Propensity = decision.Cloud, decision.JudgedHard, 1
		}
		return
	}
	if d.Target == decision.Local {
		d.Target, d.Reason = decision.Cloud, decision.NoOperator
	}
	d.Propensity = 1
}

// Unsendable finds a task that is too large for a record and that the local operators do not read: its event can neither leave nor be
// processed here. It reports the task's size and the largest allowed, both in bytes, and false where all fit.
func (r *Rules) Unsendable(tasks []*task.Task) (size, largest int, found bool) {
	for _, t := range tasks {
		if largest := t.Class.Largest; largest > 0 && t.Size() > largest && !t.Class.NeverLeave && !r.local.Reads(t) {
			return t.Size(), largest, true
		}
	}
	return 0, 0, false
}
