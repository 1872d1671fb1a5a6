package decide

import (
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
	"app-offload/functions/trial"
)

// Decider applies the guards, and below them the policy of the task's class. It is immutable except for the learned state of its policies; a change
// of the configuration builds a new one and swaps it in.
type Decider struct {
	guards   *policy.Guards
	byName   map[string]policy.Policy
	fallback policy.Policy
	learners []policy.Learner
	pacers   []policy.Pacer
	binder   policy.Binder // the only policy that parks tasks
	version  string
	judge    *policy.Judge
	shadows  *trial.Shadows // nil without shadows
	canary   *trial.Canary  // nil without a canary
}

// NewDecider builds every policy, so that a class can switch to another policy at any time.
func NewDecider(c policy.Config) (*Decider, error) {
	d, err := deciderOf(c, policy.All(c))
	if err != nil {
		return nil, err
	}
	d.fallback = d.byName[c.Default]
	d.shadows, d.canary = trial.NewShadows(c, d.judge, d.byName), trial.NewCanary(c, d.judge, d.byName)
	return d, nil
}

// Only returns a decider in which that policy decides for all tasks, without shadows and canary.
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

// Follow lets d continue from the previous decider: with the learned state of its policies, and with the counts of shadows and canary if the
// configuration of decisions is unchanged. It is called before d decides.
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

// Decide returns the decision and the name of the task's policy, also if a guard decided.
func (d *Decider) Decide(t *task.Task, e *score.Estimate, s *host.State) (decision.Decision, string) {
	name, arm := d.inCharge(t)
	answer, by := d.DecideBy(name, t, e, s)
	answer.Arm = arm
	return answer, by
}

// DecideAgain is Decide for a task that was decided before: it does not count an arrival.
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

// Guard returns the guards' decision for a parked task, and reports whether a guard applies.
func (d *Decider) Guard(t *task.Task, e *score.Estimate, s *host.State) (decision.Decision, bool) {
	return d.guards.Check(t, e, s)
}

// LeavesOpen reports whether a task decided for this reason may be parked. A task judged hard, or that no local operator reads, may not be, since
// only the cloud can process it. Nor may a reduced task, which is local.
func (d *Decider) LeavesOpen(why decision.Reason) bool {
	return why != decision.JudgedHard && why != decision.NoOperator && why != decision.Reduced && d.guards.LeavesOpen(why)
}

// inCharge returns the name of the task's policy, "" for the default, and its side of the canary's comparison.
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

// Look lets the shadows decide alongside. acting is the decision of the policy, before any rule outside of the policy changed it.
func (d *Decider) Look(t *task.Task, e *score.Estimate, s *host.State, acting *decision.Decision) {
	if d.shadows != nil {
		d.shadows.Look(t, e, s, acting)
	}
}

// Observe passes a decision with its outcome to every learning policy and to the canary's trial. If this outcome rolls the canary back, it returns
// the reason.
func (d *Decider) Observe(e *decision.Entry) (rolledBack string) {
	for _, l := range d.learners {
		l.Observe(e)
	}
	return d.OnTrial(e)
}

// OnTrial passes an outcome to the canary's trial only.
func (d *Decider) OnTrial(e *decision.Entry) (rolledBack string) {
	if d.canary == nil {
		return ""
	}
	return d.canary.Observe(e)
}

// Judge returns the judge of this configuration.
func (d *Decider) Judge() *policy.Judge { return d.judge }

// Shadows returns the counts of the shadows.
func (d *Decider) Shadows() []trial.ShadowCount { return d.shadows.List() }

// Canary returns the state of the comparison, and reports whether a canary is configured.
func (d *Decider) Canary() (trial.CanaryCount, bool) {
	if d.canary == nil {
		return trial.CanaryCount{}, false
	}
	return d.canary.Load(), true
}

// Learners returns the learning policies.
func (d *Decider) Learners() []policy.Learner { return d.learners }

// Restore restores the saved state of the canary's trial.
func (d *Decider) Restore(saved trial.CanaryCount) { d.canary.Restore(saved) }

// DecideBy is Decide with the named policy instead of that of the class, below the same guards. An unknown name or "" selects the default policy;
// check external names with Known.
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

// For returns the policy of that name, or the default policy for an unknown name or "".
func (d *Decider) For(name string) policy.Policy {
	if name != "" {
		if p, ok := d.byName[name]; ok {
			return p
		}
	}
	return d.fallback
}

// Binder returns the only policy that may park a task. It is in charge of a task if Decide returns its name.
func (d *Decider) Binder() policy.Binder { return d.binder }

// Version returns the fingerprint of the configuration.
func (d *Decider) Version() string { return d.version }
