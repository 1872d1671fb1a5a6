package rl

import "math"

// Adam is the optimiser of Kingma and Ba. Its fields are exported for the checkpoint alone.
type Adam struct {
	M, V  []float64 // running means of the gradient and of its square
	Steps int
}

// The usual constants; Epsilon is the larger one that PPO is customarily run with.
const (
	beta1, beta2 = 0.9, 0.999
	epsilon      = 1e-5
)

// NewAdam starts from rest.
func NewAdam(params int) *Adam {
	return &Adam{M: make([]float64, params), V: make([]float64, params)}
}

// Step moves the parameters against the gradient.
func (a *Adam) Step(params, grad []float64, rate float64) {
	a.Steps++
	t := float64(a.Steps)
	rate *= math.Sqrt(1-math.Pow(beta2, t)) / (1 - math.Pow(beta1, t))
	m, v, grad := a.M[:len(params)], a.V[:len(params)], grad[:len(params)]
	for k, g := range grad {
		m[k] = beta1*m[k] + (1-beta1)*g
		v[k] = beta2*v[k] + (1-beta2)*g*g
		params[k] -= rate * m[k] / (math.Sqrt(v[k]) + epsilon)
	}
}

// clipNorm shortens the gradients, taken together as one vector, to at most the given length; 0 leaves them alone.
func clipNorm(longest float64, grads ...[]float64) {
	if longest <= 0 {
		return
	}
	var sum float64
	for _, g := range grads {
		sum += dot(g, g)
	}
	if length := math.Sqrt(sum); length > longest {
		for _, g := range grads {
			scale(g, longest/length)
		}
	}
}
