package config

import (
	"app-offload/functions/decide"
	"app-offload/functions/score"
)

// Rules builds the rules of w with the other settings of c; before is nil at the start.
func (c Config) Rules(w Writable, model *score.Model, local decide.Local, before *decide.Rules) (*decide.Rules, error) {
	return decide.New(decide.Parts{
		Classes: w.Classes, Largest: c.LargestRecord(), Policy: w.Policy, Model: model, Configuration: w.Version(), Local: local,
	}, before)
}
