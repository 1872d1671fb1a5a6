package policy

import (
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Guards stand above every policy: what they decide, no policy can weaken. They are immutable.
type Guards struct {
	backlogLimit float64
	deadlineOnly bool // while the link is down, keep only tasks with a deadline here
}

// NewGuards takes the guards' part of the configuration.
func NewGuards(c Config) (*Guards, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Guards{backlogLimit: c.BacklogLimit, deadlineOnly: c.LinkDown == "deadline"}, nil
}

// Check decides the task if a guard applies, and reports whether one did. What must never leave comes first, as it holds
// whatever the link does.
func (g *Guards) Check(t *task.Task, _ *score.Estimate, s *host.State) (decision.Decision, bool) {
	switch {
	case t.Class != nil && t.Class.NeverLeave:
		return kept(decision.GuardNeverLeave, 0), true
	case !s.Link.Up && (!g.deadlineOnly || t.Deadline > 0):
		return kept(decision.GuardLinkDown, 0), true
	case s.Link.BacklogShare > g.backlogLimit:
		return kept(decision.GuardBacklog, g.backlogLimit), true
	}
	return decision.Decision{}, false
}

func kept(why decision.Reason, limit float64) decision.Decision {
	return decision.Decision{Target: decision.Local, Threshold: limit, Propensity: 1, Reason: why}
}

// Decider is what the service asks: the guards, and below them the policy of the task's class. It is immutable but for
// what its policies learn; a change of the configuration makes a new one and swaps it in.
type Decider struct {
	guards   *Guards
	byName   map[string]Policy
	fallback Policy
	learners []Learner
	pacers   []pacer
	binder   Binder // the one policy that binds late
	version  string
	judge    *Judge
	shadows  *shadows // nil without any
	canary   *canary  // nil without one
}

// NewDecider makes every policy there is, so that classes can be moved to another one at any time.
func NewDecider(c Config) (*Decider, error) {
	guards, err := NewGuards(c)
	if err != nil {
		return nil, err
	}
	d := &Decider{guards: guards, byName: map[string]Policy{}, version: c.Version()}
	for _, one := range list() {
		p := one.build(c)
		d.byName[one.Name] = p
		if l, ok := p.(Learner); ok {
			d.learners = append(d.learners, l)
		}
		if l, ok := p.(pacer); ok {
			d.pacers = append(d.pacers, l)
		}
		if b, ok := p.(Binder); ok {
			d.binder = b
		}
	}
	d.fallback, d.judge = d.byName[c.Default], NewJudge(c)
	d.shadows, d.canary = newShadows(c, d.judge, d.byName), newCanary(c, d.judge, d.byName)
	return d, nil
}

// Follow lets d go on where the decider before it is: with what its policies have learned, and with the counts of shadows
// and canary if decisions are still configured as they were. It is called before d decides.
func (d *Decider) Follow(old *Decider) {
	for name, p := range d.byName {
		inherit(p, old.byName[name])
	}
	d.shadows.inherit(old.shadows, d.byName)
	if d.version == old.version {
		d.shadows.follow(old.shadows)
		d.canary.follow(old.canary)
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
	if one, ok := p.(pacer); !held && ok {
		answer = one.decideAgain(t, e, s)
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

// inCharge is the name of the policy to ask, "" for the default one, and the side of the canary's comparison on which that is.
func (d *Decider) inCharge(t *task.Task) (name string, arm decision.Arm) {
	if t.Class != nil {
		name = t.Class.Policy
	}
	if name != "" || d.canary == nil {
		return name, decision.NoArm
	}
	if arm = d.canary.arm(t.Device); arm == decision.Canary {
		name = d.canary.policy.Name()
	}
	return name, arm
}

// Look lets the shadows decide along. acting is the policy's decision, before anything that the policy does not know of
// has changed it.
func (d *Decider) Look(t *task.Task, e *score.Estimate, s *host.State, acting *decision.Decision) {
	if d.shadows != nil {
		d.shadows.look(t, e, s, acting)
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
	return d.canary.observe(e)
}

// Judge weighs outcomes and predictions under this configuration.
func (d *Decider) Judge() *Judge { return d.judge }

// Shadows is how those who decide along fare.
func (d *Decider) Shadows() []ShadowCount { return d.shadows.list() }

// Canary is how the comparison stands; false is that none is configured.
func (d *Decider) Canary() (CanaryCount, bool) {
	if d.canary == nil {
		return CanaryCount{}, false
	}
	return d.canary.load(), true
}

// Learners are the policies that learn.
func (d *Decider) Learners() []Learner { return d.learners }

// Restore takes over what was saved of the canary's trial.
func (d *Decider) Restore(saved CanaryCount) { d.canary.restore(saved) }

// DecideBy is Decide with the named policy instead of the class's one, below the same guards. An unknown name or "" is the
// default policy; check names that come from outside with Known.
func (d *Decider) DecideBy(name string, t *task.Task, e *score.Estimate, s *host.State) (decision.Decision, string) {
	p := d.For(name)
	answer, held := d.guards.Check(t, e, s)
	for _, one := range d.pacers {
		if held || p != one.(Policy) {
			one.arrived(t, s)
		}
	}
	if held {
		return answer, p.Name()
	}
	return p.Decide(t, e, s), p.Name()
}

// For is the policy of that name; an unknown name or "" gives the default policy.
func (d *Decider) For(name string) Policy {
	if name != "" {
		if p, ok := d.byName[name]; ok {
			return p
		}
	}
	return d.fallback
}

// Binder is the policy that may leave a task undecided, of which there is one. It is in charge of a task where Decide names it.
func (d *Decider) Binder() Binder { return d.binder }

// Version is the fingerprint of the configuration that decides.
func (d *Decider) Version() string { return d.version }
