package rl

import "app-offload/functions/check"

// Config is a training. Rate and Clip fall linearly to zero over Steps where Anneal is set.
type Config struct {
	Seed  uint64
	Steps int `within:"1 1000000000"` // of all environments together

	Envs      int `within:"1 1000000000"` // run beside each other
	Horizon   int `within:"1 1000000000"` // steps of each between two updates
	Epochs    int `within:"1 1000000000"` // over the collected steps, an update
	Minibatch int `within:"1 1000000000"` // samples a gradient step

	Hidden      []int   // sizes of the hidden layers, of actor and critic each
	Rate        float64 `within:"1e-9 1"`  // of Adam
	Clip        float64 `within:"0.001 1"` // by how much the probability ratio may leave 1
	Anneal      bool
	Gamma       float64 `within:"0 1"`   // discount
	Lambda      float64 `within:"0 1"`   // of generalised advantage estimation
	Entropy     float64 `within:"0 1"`   // weight of the entropy bonus
	ValueWeight float64 `within:"0 10"`  // of the critic's loss
	MaxGradient float64 `within:"0 1e6"` // length to which a gradient is cut; 0 never
	NormObs     bool    // scale observations by their running mean and variance
	NormReturn  bool    // scale rewards by the running deviation of the discounted return
	Select      int     `within:"0 1000000000"` // episodes to try the policy on after each update of the second half, to keep the best; 0 keeps the last
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
