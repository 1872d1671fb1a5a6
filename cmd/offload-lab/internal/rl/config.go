package rl

import "app-offload/functions/check"

// Config configures a training. With Anneal, Rate and Clip fall linearly to zero over Steps.
type Config struct {
	Seed  uint64
	Steps int `within:"1 1000000000"` // in all environments together

	Envs      int `within:"1 1000000000"` // number of parallel environments
	Horizon   int `within:"1 1000000000"` // steps per environment between two updates
	Epochs    int `within:"1 1000000000"` // passes over the collected steps per update
	Minibatch int `within:"1 1000000000"` // samples per gradient step

	Hidden      []int   // sizes of the hidden layers, for actor and critic each
	Rate        float64 `within:"1e-9 1"`  // of Adam
	Clip        float64 `within:"0.001 1"` // maximum deviation of the probability ratio from 1
	Anneal      bool
	Gamma       float64 `within:"0 1"`   // discount
	Lambda      float64 `within:"0 1"`   // of generalised advantage estimation
	Entropy     float64 `within:"0 1"`   // weight of the entropy bonus
	ValueWeight float64 `within:"0 10"`  // of the critic's loss
	MaxGradient float64 `within:"0 1e6"` // maximum norm of a gradient; 0 means none
	NormObs     bool    // scale observations by their running mean and variance
	NormReturn  bool    // scale rewards by the running deviation of the discounted return
	Select      int     `within:"0 1000000000"` // episodes for trying the policy after each update of the second half, to keep the best one; 0 keeps the last
}

// DefaultConfig is a compromise that learns most small problems.
func DefaultConfig() Config {
	return Config{
		Seed: 1, Steps: 1_000_000,
		Envs: 16, Horizon: 256, Epochs: 4, Minibatch: 256,
		Hidden: []int{64, 64}, Rate: 3e-4, Clip: 0.2, Anneal: true, Gamma: 0.99, Lambda: 0.95,
		ValueWeight: 0.5, MaxGradient: 0.5, NormObs: true, NormReturn: true,
	}
}

// Validate reports every problem.
func (c Config) Validate() error {
	p := check.Fields("", c)
	if p.Fine("Steps", "Envs", "Horizon") && c.Steps < c.Envs*c.Horizon {
		p.Addf("Steps", c.Steps, "must be at least Envs times Horizon, the %d steps of one update", c.Envs*c.Horizon)
	}
	checkLayers(p, c.Hidden)
	return p.Err()
}

func checkLayers(p *check.Problems, hidden []int) {
	for _, size := range hidden {
		check.Range(p, "Hidden", size, 1, 4096)
	}
}
