package decide

import (
	"fmt"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Parts are what Rules are made of.
type Parts struct {
	Classes       map[string]task.ClassConfig
	Largest       int // bytes of a record; larger tasks are cut
	Policy        policy.Config
	Model         *score.Model
	Configuration string                // version of the configuration
	Reads         func(*task.Task) bool // reports whether the local operators read all of a task, so that local work loses none of it
}

// Rules are what a change of the configuration replaces as a whole: the classes, the predictions, and who decides. Everything that decides
// about a task does so by Decide, DecideBy or DecideAgain. Rules are immutable but for what is learned, and safe for concurrent use.
type Rules struct {
	*Decider
	Classes       *task.Classes
	Model         *score.Model
	Configuration string // version of the configuration

	reads    func(*task.Task) bool
	byName   map[string]*task.Class
	inCharge map[string]bool // policies that decide for any task
}

// Case is one task with what was found out about it.
type Case struct {
	Task     *task.Task
	Estimate score.Estimate
	Decision decision.Decision
	Policy   string // that is in charge, named also where a guard decided
}

// New makes the rules, which go on with what the ones before them have learned; before is nil at the start. The ones before are unchanged.
func New(p Parts, before *Rules) (*Rules, error) {
	classes, err := task.NewClasses(p.Classes)
	if err != nil {
		return nil, fmt.Errorf("building the classes: %w", err)
	}
	classes.Limit(p.Largest)
	decider, err := NewDecider(p.Policy)
	if err != nil {
		return nil, fmt.Errorf("building the policies: %w", err)
	}
	r := &Rules{
		Decider: decider, Classes: classes, Model: p.Model, Configuration: p.Configuration, reads: p.Reads, byName: map[string]*task.Class{},
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

// Class is the class of that name, nil if there is none.
func (r *Rules) Class(name string) *task.Class { return r.byName[name] }

// InCharge reports whether the policy of that name decides for any task.
func (r *Rules) InCharge(name string) bool { return r.inCharge[name] }

// Decide fills in the case of a task that has arrived: what either target would cost, where the task goes, and why. The shadows decide
// along.
func (r *Rules) Decide(c *Case, s *host.State) {
	c.Estimate = r.Model.Estimate(c.Task, s)
	c.Decision, c.Policy = r.Decider.Decide(c.Task, &c.Estimate, s)
	r.Look(c.Task, &c.Estimate, s, &c.Decision)
	r.overrule(c)
	c.Task.Score, c.Task.Policy = c.Decision.Score, c.Policy
}

// DecideBy is Decide by the policy of that name, "" for the default one. Neither shadows nor a canary take part.
func (r *Rules) DecideBy(name string, c *Case, s *host.State) {
	c.Estimate = r.Model.Estimate(c.Task, s)
	c.Decision, c.Policy = r.Decider.DecideBy(name, c.Task, &c.Estimate, s)
	r.overrule(c)
}

// DecideAgain is Decide for a task that was decided before: it counts as no arrival, and no shadow looks.
func (r *Rules) DecideAgain(c *Case, s *host.State) {
	c.Estimate = r.Model.Estimate(c.Task, s)
	c.Decision, c.Policy = r.Decider.DecideAgain(c.Task, &c.Estimate, s)
	r.overrule(c)
}

// Guard lets the guards decide about a case that has an estimate, and leaves its decision as it is where they leave it to others.
func (r *Rules) Guard(c *Case, s *host.State) {
	if d, held := r.Decider.Guard(c.Task, &c.Estimate, s); held {
		c.Decision = d
		r.overrule(c)
	}
}

// overrule sends a task away that holds something which no operator reads: local work would lose it. Such a task goes to the cloud
// whatever the policy says, so that is certain and no draw. A task without a class is another's, which asks where to process it: its
// data are not here, and local work loses none of them.
func (r *Rules) overrule(c *Case) {
	d, class := &c.Decision, c.Task.Class
	if class == nil || class.NeverLeave || d.Target == decision.Cloud && d.Propensity == 1 || r.reads(c.Task) {
		return
	}
	if d.Target == decision.Local {
		d.Target, d.Reason = decision.Cloud, decision.NoOperator
	}
	d.Propensity = 1
}

// Unsendable finds a task that is too large for a record and that the local operators do not read: its event can neither leave nor be
// processed here. It reports the task's size and the largest allowed, both in bytes, and false where there is none.
func (r *Rules) Unsendable(tasks []*task.Task) (size, largest int, found bool) {
	for _, t := range tasks {
		if largest := t.Class.Largest; largest > 0 && t.Size() > largest && !t.Class.NeverLeave && !r.reads(t) {
			return t.Size(), largest, true
		}
	}
	return 0, 0, false
}
