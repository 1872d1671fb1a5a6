package sim

import (
	"fmt"

	"app-offload/functions/decide"
	"app-offload/functions/shed"
	"app-offload/functions/task"
)

// reducedComplexity is the complexity of every class's reduced form: a summary, far less work than an image.
const reducedComplexity = 1

// overloaded configures the overload action of the classes, by the service's own classes.
func (e *Env) overloaded(c *Config) error {
	if !(&task.Class{Overload: c.Overload}).Sheds() {
		return nil
	}
	configs := map[string]task.ClassConfig{}
	for _, k := range c.Mix {
		one := task.ClassConfig{MatchSource: k.Name, Value: k.Value, Overload: c.Overload, OverloadAge: fmt.Sprintf("%gs", k.Deadline[1])}
		if c.Overload == task.OverloadReduce {
			one.ReducedClass = k.Name + "-reduced"
			configs[one.ReducedClass] = task.ClassConfig{Complexity: reducedComplexity}
		}
		configs[k.Name] = one
	}
	classes, err := task.NewClasses(configs)
	if err != nil {
		return fmt.Errorf("building the classes of the world: %w", err)
	}
	e.sheds = classes
	for _, class := range classes.All() {
		for i := range e.classes {
			if e.classes[i].Name == class.Name {
				e.classes[i] = class
			}
		}
	}
	return nil
}

// giveUp lets overload change a decision, as the service does between deciding and parking, and reports whether the task is dropped.
func (e *Env) giveUp(r *decide.Rules, c *decide.Case) bool {
	if e.sheds == nil {
		return false
	}
	s := &e.seen
	turn := e.gate.Turn(e.sheds, e.model, &s.State, shed.Servers{})
	turn.Line = e.line.Clone()
	v := turn.Judge(c.Task, &c.Decision, r.MayWait(c), func(*task.Class) bool { return true })
	gone := v.Apply(c.Task, &c.Decision)
	if v == shed.Reduce {
		c.Estimate = e.model.Estimate(c.Task, &s.State)
		s.Estimate = c.Estimate
	}
	return gone
}

// gone is the outcome of job i dropped at time now: it costs the maximum for lateness.
func (e *Episode) gone(i int, now float64) Info {
	c, j := &e.Config.Cost, &e.Jobs[i]
	return Info{Job: i, Took: now - j.At, Done: now, Missed: true, Gone: true, Cost: c.Time*c.Kappa + c.Miss}
}
