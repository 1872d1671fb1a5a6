// Package classic has two control problems for checking a learner, with the dynamics published by Gymnasium: CartPole-v1 and Acrobot-v1. Both are
// seeded and deterministic, and truncate an episode after 500 steps.
package classic

import "math/rand/v2"

// limit is the number of steps of an episode in version 1 of both problems.
const limit = 500

// drawn fills v uniformly from [-width, width].
func drawn(v []float64, width float64, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0x636c6173736963))
	for k := range v {
		v[k] = (2*rng.Float64() - 1) * width
	}
}
