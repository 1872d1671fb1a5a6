package config

import (
	"app-offload/functions/decide"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Rules makes the rules of w under the rest of c; before is nil at the start. reads reports whether the local operators read all of a task.
func (c Config) Rules(w Writable, model *score.Model, reads func(*task.Task) bool, before *decide.Rules) (*decide.Rules, error) {
	return decide.New(decide.Parts{
		Classes: w.Classes, Largest: c.LargestRecord(), Policy: w.Policy, Model: model, Configuration: w.Version(), Reads: reads,
	}, before)
}
