package decide

import (
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
	"app-offload/functions/trial"
)

// Decider is what the service asks: the guards, and below them the policy of the task's class. It is immutable but for
// what its policies learn; a change of the configuration makes a new one and swaps it in.
type Decider struct {
	guards   *policy.Guards
	byName   map[string]policy.Policy
	fallback policy.Policy
	learners []policy.Learner
	pacers   []policy.Pacer
	binder   policy.Binder // the one policy that binds late
	version  string
	judge    *policy.Judge
	shadows  *trial.Shadows // nil without any
	canary   *trial.Canary  // nil without one
}

// NewDecider makes every policy there is, so that classes can be moved to another one at any time.
func NewDecider(c policy.Config) (*Decider, error) {
	d, err := deciderOf(c, policy.All(c))
	if err != nil {
		return nil, err
	}
	d.fallback = d.byName[c.Default]
	d.shadows, d.canary = trial.NewShadows(c, d.judge, d.byName), trial.NewCanary(c, d.judge, d.byName)
	return d, nil
}

// Only makes a decider in which that policy decides for all tasks, without shadows and canary.
func Only(p policy.Policy, c policy.Config) (*Decider, error) {
	d, err := deciderOf(c, []policy.Policy{p})
	if err != nil {
		return nil, err
	}
	d.fallback = p
	return d, nil
}

func deciderOf(c policy.Config, policies []policy.Policy) (*Decider, error) {
	guards, err := policy.NewGuards(c)
	if err != nil {
		return nil, err
	}
	d := &Decider{guards: guards, byName: map[string]policy.Policy{}, version: c.Version(), judge: policy.NewJudge(c)}
	for _, p := range policies {
		d.byName[p.Name()] = p
		if l, ok := p.(policy.Learner); ok {
			d.learners = append(d.learners, l)
		}
		if l, ok := p.(policy.Pacer); ok {
			d.pacers = append(d.pacers, l)
		}
		if b, ok := p.(policy.Binder); ok {
			d.binder = b
		}
	}
	return d, nil
}

// Follow lets d go on where the decider before it is: with what its policies have learned, and with the counts of shadows
// and canary if decisions are still configured as they were. It is called before d decides.
func (d *Decider) Follow(old *Decider) {
	for name, p := range d.byName {
		policy.Inherit(p, old.byName[name])
	}
	d.shadows.Inherit(old.shadows, d.byName)
	if d.version == old.version {
		d.shadows.Follow(old.shadows)
		d.canary.Follow(old.canary)
	}
}

// Decide gives the decision and the name of the policy in charge of the task, which is named also where a guard decided.
func (d *Decider) Decide(t *task.Task, e *score.Estimate, s *host.State) (decision.Decision, string) {
	name, arm := d.inCharge(t)
	answer, by := d.DecideBy(name, t, e, s)
	answer.Arm = arm
	return answer, by
}

// DecideAgain is Decide for a task that was decided before: it counts as no arrival.
func (d *Decider) DecideAgain(t *task.Task, e *score.Estimate, s *host.State) (answer decision.Decision, by string) {
	name, arm := d.inCharge(t)
	p := d.For(name)
	answer, held := d.guards.Check(t, e, s)
	if one, ok := p.(policy.Pacer); !held && ok {
		answer = one.DecideAgain(t, e, s)
	} else if !held {
		answer = p.Decide(t, e, s)
	}
	answer.Arm = arm
	return answer, p.Name()
}

// Guard is the guards' decision alone, for a task that waits; false is that they leave it to others.
func (d *Decider) Guard(t *task.Task, e *score.Estimate, s *host.State) (decision.Decision, bool) {
	return d.guards.Check(t, e, s)
}

// LeavesOpen reports whether a task decided for this reason may be parked. One that is judged hard or not
// read here may not, since there is nothing but the cloud for it, nor one that is reduced, which is local.
func (d *Decider) LeavesOpen(why decision.Reason) bool {
	return why != decision.JudgedHard && why != decision.NoOperator && why != decision.Reduced && d.guards.LeavesOpen(why)
}

// inCharge is the name of the policy to ask, "" for the default one, and the side of the canary's comparison on which that is.
func (d *Decider) inCharge(t *task.Task) (name string, arm decision.Arm) {
	if t.Class != nil {
		name = t.Class.Policy
	}
	if name != "" || d.canary == nil {
		return name, decision.NoArm
	}
	if arm = d.canary.Arm(t.Device); arm == decision.Canary {
		name = d.canary.Name()
	}
	return name, arm
}

// Look lets the shadows decide along. acting is the policy's decision, before anything that the policy does not know of
// has changed it.
func (d *Decider) Look(t *task.Task, e *score.Estimate, s *host.State, acting *decision.Decision) {
	if d.shadows != nil {
		d.shadows.Look(t, e, s, acting)
	}
}

// Observe hands a decision with its outcome to every policy that learns, and to the trial of the canary. It reports why the
// canary is rolled back, in the one call in which that happens.
func (d *Decider) Observe(e *decision.Entry) (rolledBack string) {
	for _, l := range d.learners {
		l.Observe(e)
	}
	return d.OnTrial(e)
}

// OnTrial shows an outcome to the trial of the canary alone.
func (d *Decider) OnTrial(e *decision.Entry) (rolledBack string) {
	if d.canary == nil {
		return ""
	}
	return d.canary.Observe(e)
}

// Judge weighs outcomes and predictions under this configuration.
func (d *Decider) Judge() *policy.Judge { return d.judge }

// Shadows is how those who decide along fare.
func (d *Decider) Shadows() []trial.ShadowCount { return d.shadows.List() }

// Canary is how the comparison stands; false is that none is configured.
func (d *Decider) Canary() (trial.CanaryCount, bool) {
	if d.canary == nil {
		return trial.CanaryCount{}, false
	}
	return d.canary.Load(), true
}

// Learners are the policies that learn.
func (d *Decider) Learners() []policy.Learner { return d.learners }

// Restore takes over what was saved of the canary's trial.
func (d *Decider) Restore(saved trial.CanaryCount) { d.canary.Restore(saved) }

// DecideBy is Decide with the named policy instead of the class's one, below the same guards. An unknown name or "" is the
// default policy; check names that come from outside with Known.
func (d *Decider) DecideBy(name string, t *task.Task, e *score.Estimate, s *host.State) (decision.Decision, string) {
	p := d.For(name)
	answer, held := d.guards.Check(t, e, s)
	for _, one := range d.pacers {
		if held || p != one.(policy.Policy) {
			one.Arrived(t, s)
		}
	}
	if held {
		return answer, p.Name()
	}
	return p.Decide(t, e, s), p.Name()
}

// For is the policy of that name; an unknown name or "" gives the default policy.
func (d *Decider) For(name string) policy.Policy {
	if name != "" {
		if p, ok := d.byName[name]; ok {
			return p
		}
	}
	return d.fallback
}

// Binder is the policy that may leave a task undecided, of which there is one. It is in charge of a task where Decide names it.
func (d *Decider) Binder() policy.Binder { return d.binder }

// Version is the fingerprint of the configuration that decides.
func (d *Decider) Version() string { return d.version }
