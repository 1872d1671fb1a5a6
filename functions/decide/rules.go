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

// Local is what the local operators and models know of a task. Both functions are called for each task, concurrently, and must not block.
type Local struct {
	Reads func(*task.Task) bool // reports whether operators and models read all of a task, so that local work loses nothing
	Hard  func(*task.Task) bool // reports whether a task for a model is judged hard before it is computed; nil judges no task hard
}

// Parts are the inputs of New.
type Parts struct {
	Classes       map[string]task.ClassConfig
	Largest       int // bytes of a record; larger tasks are split
	Policy        policy.Config
	Only          policy.Policy // decides instead of all policies of Policy; nil for those
	Model         *score.Model
	Configuration string // version of the configuration
	Local
}

// Rules are the part that a change of the configuration replaces as a whole: classes, predictions and policies. Decide, DecideBy and DecideAgain are
// the only functions that decide tasks. Rules are immutable except for learned state, and safe for concurrent use.
type Rules struct {
	*Decider
	Classes       *task.Classes
	Model         *score.Model
	Configuration string // version of the configuration

	local    Local
	byName   map[string]*task.Class
	inCharge map[string]bool // policies that decide for any task
}

// Case is a task with its decision.
type Case struct {
	Task *task.Task

	// Set by the decision.
	Estimate score.Estimate
	Decision decision.Decision
	Policy   string // in charge, also if a guard decided

	// Set by those that follow the task afterwards.
	ID      uint64          // of the entry in the ring
	Counted decision.Target // the target that was counted
	Took    time.Duration   // by the local operators and the model, once they are done
	Sure    float64         // confidence of the local model's answer, 0 without one
}

// New builds the rules. They continue with the learned state of the previous ones, which stay unchanged; before is nil at the start.
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

// Class returns the class of that name, or nil.
func (r *Rules) Class(name string) *task.Class { return r.byName[name] }

// InCharge reports whether the policy of that name decides for any task.
func (r *Rules) InCharge(name string) bool { return r.inCharge[name] }

// Pooled returns the policies that can learn together with other nodes, as the predictions can.
func (r *Rules) Pooled() (all []policy.Pooled) {
	for _, l := range r.learners {
		if p, ok := l.(policy.Pooled); ok {
			all = append(all, p)
		}
	}
	return all
}

// PoolLayout names the layout of the statistics. It changes with every setting that their meaning depends on.
func (r *Rules) PoolLayout() string { return policy.PoolLayout + ";" + r.Model.PoolLayout() }

// StatisticsAnew excludes what was learned so far, under another layout, from the statistics.
func (r *Rules) StatisticsAnew() {
	r.Model.StatisticsAnew()
	for _, p := range r.Pooled() {
		p.StatisticsAnew()
	}
}

// Decide fills in the case of a task that has arrived: the predicted cost of both targets, the decision and its reason. The shadows decide alongside.
func (r *Rules) Decide(c *Case, s *host.State) {
	s = r.predict(c, s)
	c.Decision, c.Policy = r.Decider.Decide(c.Task, &c.Estimate, s)
	r.Look(c.Task, &c.Estimate, s, &c.Decision)
	r.overrule(c)
	c.Task.Score, c.Task.Policy = c.Decision.Score, c.Policy
}

// DecideBy is Decide by the policy of that name, "" for the default one, without shadows and canary.
func (r *Rules) DecideBy(name string, c *Case, s *host.State) {
	s = r.predict(c, s)
	c.Decision, c.Policy = r.Decider.DecideBy(name, c.Task, &c.Estimate, s)
	r.overrule(c)
}

// DecideAgain is Decide for a task that was decided before: it counts no arrival, and no shadow decides.
func (r *Rules) DecideAgain(c *Case, s *host.State) {
	s = r.predict(c, s)
	c.Decision, c.Policy = r.Decider.DecideAgain(c.Task, &c.Estimate, s)
	r.overrule(c)
}

// Guard applies the guards to a case that has an estimate. It leaves the decision unchanged if no guard applies.
func (r *Rules) Guard(c *Case, s *host.State) {
	if d, held := r.Decider.Guard(c.Task, &c.Estimate, r.Seen(c.Task, s)); held {
		c.Decision = d
		r.overrule(c)
	}
}

// MayWait reports whether a decided case may be parked: its policy parks tasks, there is a choice of targets, and the decision leaves it open.
func (r *Rules) MayWait(c *Case) bool {
	return r.binder != nil && c.Policy == r.binder.Name() && r.LeavesOpen(c.Decision.Reason) && !c.Task.Class.NeverLeave && r.local.Reads(c.Task)
}

// Waits reports whether a decided case should be parked in this state. A task that a guard keeps because the link is down waits for the node, the
// only available server.
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

// predict fills in the estimate, and returns the state that applies to the task. The complexity of a task for a model follows from the time of the
// model.
func (r *Rules) predict(c *Case, s *host.State) *host.State {
	if cycles, ok := r.Model.RunCycles(c.Task.Class); ok {
		c.Task.Complexity = r.Model.ComplexityOf(c.Task.Size(), cycles)
	}
	s = r.Seen(c.Task, s)
	c.Estimate = r.Model.Estimate(c.Task, s)
	return s
}

// Seen returns the node state that applies to a task: tasks for a model wait in a queue of their own.
func (r *Rules) Seen(t *task.Task, s *host.State) *host.State {
	if t.Class == nil || t.Class.Model == "" {
		return s
	}
	v := r.Model.ForModels(s)
	return &v
}

// overrule sends a task to the cloud that contains data which neither operator nor model reads: local work would lose them. Such a task goes to the
// cloud under any policy, so its propensity is 1. A task judged hard before its model has computed it is sent too. A task without a class belongs to
// another program that asks where to process it: its data are not on this node, so local work cannot lose them.
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

// Unsendable returns the size of a task that is too large for a record and that the local operators do not read, and the largest allowed size, both
// in bytes: its event can neither leave nor be processed locally. It reports whether there is such a task.
func (r *Rules) Unsendable(tasks []*task.Task) (size, largest int, found bool) {
	for _, t := range tasks {
		if largest := t.Class.Largest; largest > 0 && t.Size() > largest && !t.Class.NeverLeave && !r.local.Reads(t) {
			return t.Size(), largest, true
		}
	}
	return 0, 0, false
}
