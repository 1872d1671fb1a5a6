package classic

import "math"

// Acrobot is Acrobot-v1: two hanging links, a torque of −1, 0 or 1 on the joint between them, and a target height for the free end. Every step before
// that costs 1.
type Acrobot struct {
	state acrobat
	obs   [6]float64
	steps int
}

// acrobat is both angles and both angular velocities.
type acrobat [4]float64

// Both links have length 1, mass 1, the centre of mass in the middle and a moment of inertia of 1.
const (
	centre      = 0.5
	fastestUp   = 4 * math.Pi
	fastestDown = 9 * math.Pi
	span        = 0.2
)

// Spaces returns six observations and three actions.
func (*Acrobot) Spaces() (observation, actions int) { return 6, 3 }

// Reset begins an episode close to hanging at rest.
func (a *Acrobot) Reset(seed uint64) []float64 {
	a.steps = 0
	drawn(a.state[:], 0.1, seed)
	return a.look()
}

// Step applies the torque for 0.2 s, with one step of the fourth-order Runge–Kutta method.
func (a *Acrobot) Step(action int) (obs []float64, reward float64, terminated, truncated bool) {
	s := a.state.after(float64(action - 1))
	a.state = acrobat{wrap(s[0]), wrap(s[1]), between(s[2], fastestUp), between(s[3], fastestDown)}
	a.steps++
	terminated = -math.Cos(a.state[0])-math.Cos(a.state[0]+a.state[1]) > 1
	if !terminated {
		reward = -1
	}
	return a.look(), reward, terminated, a.steps >= limit
}

func (a *Acrobot) look() []float64 {
	a.obs[1], a.obs[0] = math.Sincos(a.state[0])
	a.obs[3], a.obs[2] = math.Sincos(a.state[1])
	a.obs[4], a.obs[5] = a.state[2], a.state[3]
	return a.obs[:]
}

func (s acrobat) after(torque float64) acrobat {
	k1 := s.slope(torque)
	k2 := s.plus(span/2, k1).slope(torque)
	k3 := s.plus(span/2, k2).slope(torque)
	k4 := s.plus(span, k3).slope(torque)
	for i := range s {
		s[i] += span / 6 * (k1[i] + 2*k2[i] + 2*k3[i] + k4[i])
	}
	return s
}

func (s acrobat) plus(h float64, d acrobat) acrobat {
	for i := range s {
		s[i] += h * d[i]
	}
	return s
}

// slope is the equations of motion of Sutton and Barto's book, the variant that Gymnasium uses.
func (s acrobat) slope(torque float64) acrobat {
	sin1 := math.Sin(s[0])
	sin2, cos2 := math.Sincos(s[1])
	d1 := centre*centre + 1 + centre*centre + 2*centre*cos2 + 2
	d2 := centre*centre + centre*cos2 + 1
	phi2 := centre * gravity * math.Sin(s[0]+s[1])
	phi1 := -centre*s[3]*s[3]*sin2 - 2*centre*s[3]*s[2]*sin2 + (centre+1)*gravity*sin1 + phi2
	lower := (torque + d2/d1*phi1 - centre*s[2]*s[2]*sin2 - phi2) / (centre*centre + 1 - d2*d2/d1)
	return acrobat{s[2], s[3], -(d2*lower + phi1) / d1, lower}
}

// wrap maps an angle to [−π, π].
func wrap(x float64) float64 {
	for x > math.Pi {
		x -= 2 * math.Pi
	}
	for x < -math.Pi {
		x += 2 * math.Pi
	}
	return x
}

func between(x, bound float64) float64 { return min(max(x, -bound), bound) }
