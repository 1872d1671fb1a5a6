package rl

//lint:file-ignore ST1005 these errors begin with the name of a setting

import (
	"errors"
	"fmt"
)

// Config is a training. Rate and Clip fall linearly to zero over Steps where Anneal is set.
type Config struct {
	Seed  uint64
	Steps int // of all environments together

	Envs      int // run beside each other
	Horizon   int // steps of each between two updates
	Epochs    int // over the collected steps, an update
	Minibatch int // samples a gradient step

	Hidden      []int   // sizes of the hidden layers, of actor and critic each
	Rate        float64 // of Adam
	Clip        float64 // by how much the probability ratio may leave 1
	Anneal      bool
	Gamma       float64 // discount
	Lambda      float64 // of generalised advantage estimation
	Entropy     float64 // weight of the entropy bonus
	ValueWeight float64 // of the critic's loss
	MaxGradient float64 // length to which a gradient is cut; 0 never
	NormObs     bool    // scale observations by their running mean and variance
	NormReturn  bool    // scale rewards by the running deviation of the discounted return
	Select      int     // episodes to try the policy on after each update of the second half, to keep the best; 0 keeps the last
}

// DefaultConfig is a middle road that learns most small problems.
func DefaultConfig() Config {
	return Config{
		Seed: 1, Steps: 1_000_000,
		Envs: 16, Horizon: 256, Epochs: 4, Minibatch: 256,
		Hidden: []int{64, 64}, Rate: 3e-4, Clip: 0.2, Anneal: true, Gamma: 0.99, Lambda: 0.95,
		ValueWeight: 0.5, MaxGradient: 0.5, NormObs: true, NormReturn: true,
	}
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var problems []error
	for _, n := range []struct {
		name  string
		value int
	}{{"Steps", c.Steps}, {"Envs", c.Envs}, {"Horizon", c.Horizon}, {"Epochs", c.Epochs}, {"Minibatch", c.Minibatch}} {
		if n.value < 1 {
			problems = append(problems, fmt.Errorf("%s is %d: must be at least 1", n.name, n.value))
		}
	}
	if c.Select < 0 {
		problems = append(problems, fmt.Errorf("Select is %d: must not be negative", c.Select))
	}
	for _, f := range []struct {
		name      string
		value     float64
		low, high float64
	}{
		{"Rate", c.Rate, 1e-9, 1},
		{"Clip", c.Clip, 1e-3, 1},
		{"Gamma", c.Gamma, 0, 1},
		{"Lambda", c.Lambda, 0, 1},
		{"Entropy", c.Entropy, 0, 1},
		{"ValueWeight", c.ValueWeight, 0, 10},
		{"MaxGradient", c.MaxGradient, 0, 1e6},
	} {
		if !(f.value >= f.low && f.value <= f.high) {
			problems = append(problems, fmt.Errorf("%s is %g: must be %g–%g", f.name, f.value, f.low, f.high))
		}
	}
	if c.Steps > 0 && c.Steps < c.Envs*c.Horizon {
		problems = append(problems, fmt.Errorf("Steps is %d: one update takes %d of them, Envs times Horizon", c.Steps, c.Envs*c.Horizon))
	}
	for _, h := range c.Hidden {
		if h < 1 || h > 4096 {
			problems = append(problems, fmt.Errorf("a hidden layer of %d: must be 1–4096", h))
		}
	}
	return errors.Join(problems...)
}
