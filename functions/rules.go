package functions

import (
	"fmt"

	"app-offload/functions/config"
	"app-offload/functions/decide"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// rules is what a change of the configuration replaces as a whole: the classes, and who decides for them. A run keeps
// the rules it began with.
type rules struct {
	classes *task.Classes
	byName  map[string]*task.Class
	decider *decide.Decider
	model   *score.Model
	late    bool   // some tasks may wait undecided
	version string // of the configuration that they were made of
}

// newRules go on with what those before them have learned; before is nil at the start.
func newRules(w config.Writable, model *score.Model, largest int, before *rules) (*rules, error) {
	classes, err := task.NewClasses(w.Classes)
	if err != nil {
		return nil, fmt.Errorf("building the classes: %w", err)
	}
	classes.Limit(largest)
	decider, err := decide.NewDecider(w.Policy)
	if err != nil {
		return nil, fmt.Errorf("building the policies: %w", err)
	}
	if before != nil {
		decider.Follow(before.decider)
	}
	r := &rules{classes: classes, byName: named(classes), decider: decider, model: model, version: w.Version()}
	r.late = r.mayBindLate(w.Policy)
	return r, nil
}

// mayBindLate reports whether the policy that binds late is in charge of any task.
func (r *rules) mayBindLate(c policy.Config) bool {
	name := r.decider.Binder().Name()
	if c.Default == name || c.Canary == name {
		return true
	}
	for _, class := range r.byName {
		if class.Policy == name {
			return true
		}
	}
	return false
}

func named(classes *task.Classes) map[string]*task.Class {
	byName := map[string]*task.Class{}
	for _, c := range classes.All() {
		byName[c.Name] = c
	}
	return byName
}
