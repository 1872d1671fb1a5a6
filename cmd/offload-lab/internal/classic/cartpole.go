package classic

import "math"

// CartPole is CartPole-v1: keep a pole upright by pushing its cart left (0) or right (1). Every step earns 1.
type CartPole struct {
	state [4]float64 // position, velocity, angle, angular velocity
	steps int
}

const (
	gravity    = 9.8
	poleMass   = 0.1
	totalMass  = 1 + poleMass
	halfLength = 0.5
	poleMoment = poleMass * halfLength
	force      = 10.0
	tick       = 0.02
	farthest   = 2.4
	steepest   = 12 * 2 * math.Pi / 360
)

// Spaces returns four observations and two actions.
func (*CartPole) Spaces() (observation, actions int) { return 4, 2 }

// Reset begins an episode close to upright at rest.
func (c *CartPole) Reset(seed uint64) []float64 {
	c.steps = 0
	drawn(c.state[:], 0.05, seed)
	return c.state[:]
}

// Step pushes for 20 ms, with Euler's method.
func (c *CartPole) Step(action int) (obs []float64, reward float64, terminated, truncated bool) {
	push := force
	if action == 0 {
		push = -force
	}
	x, v, angle, spin := c.state[0], c.state[1], c.state[2], c.state[3]
	sin, cos := math.Sincos(angle)
	common := (push + poleMoment*spin*spin*sin) / totalMass
	bend := (gravity*sin - cos*common) / (halfLength * (4.0/3.0 - poleMass*cos*cos/totalMass))
	c.state = [4]float64{x + tick*v, v + tick*(common-poleMoment*bend*cos/totalMass), angle + tick*spin, spin + tick*bend}
	c.steps++
	terminated = math.Abs(c.state[0]) > farthest || math.Abs(c.state[2]) > steepest
	return c.state[:], 1, terminated, c.steps >= limit
}
