package feed

import (
	"math"
	"math/rand/v2"
)

// States of a bearing, in the order of the models' outputs.
const (
	Healthy = "healthy"
	Inner   = "inner" // a fault of the inner race
	Outer   = "outer" // a fault of the outer race
	Ball    = "ball"  // a fault of a rolling element
)

// BearingStates lists the states of a bearing.
var BearingStates = []string{Healthy, Inner, Outer, Ball}

// A motor at 29.5 Hz on a rolling bearing of type 6205, sampled at 5,120 Hz.
const (
	shaftHz   = 29.5
	sampleHz  = 5120.0
	resonance = 1600.0 // Hz, the housing's resonance after a strike
	damping   = 900.0  // 1/s, decay of the resonance
)

// fault describes the strikes of a fault: strikes and modulation per turn of the shaft. The numbers are the characteristic frequencies of a 6205.
type fault struct{ strikes, modulation, depth float64 }

var faults = map[string]fault{
	Inner: {5.415, 1, 0.9},         // each ball that passes; loud when the fault passes the load zone, once per turn
	Outer: {3.585, 1, 0.1},         // the fault stays in the load zone
	Ball:  {2 * 2.357, 0.398, 0.7}, // it strikes both races; loud as the cage carries it through the load zone
}

// Bearing generates the acceleration of one bearing: harmonics of the shaft, noise, and with a fault the resonance of the housing at the rate of its
// strikes.
type Bearing struct {
	rng       *rand.Rand
	shaft     float64 // turns so far
	speed     float64 // Hz, drifts slowly around shaftHz
	next      float64 // turns until the next strike
	ring, old float64 // the last two values of the housing's oscillation
	phases    [3]float64
	noise     float64
}

// Speed is the shaft's current speed in Hz.
func (b *Bearing) Speed() float64 { return b.speed }

// NewBearing starts a bearing at a random angle.
func NewBearing(rng *rand.Rand) *Bearing {
	b := &Bearing{rng: rng, shaft: 10 * rng.Float64(), speed: shaftHz * (1 + 0.01*rng.NormFloat64()), noise: 0.12 + 0.06*rng.Float64()}
	for i := range b.phases {
		b.phases[i] = 2 * math.Pi * rng.Float64()
	}
	return b
}

// Sample returns the next value in m/s², with a fault of that severity, 0 to 1.
func (b *Bearing) Sample(state string, severity float64) float32 {
	step := b.speed / sampleHz
	b.shaft += step
	b.speed += (shaftHz-b.speed)*1e-5 + 0.002*b.rng.NormFloat64()
	turn := 2 * math.Pi * b.shaft
	x := 0.8*math.Sin(turn+b.phases[0]) + 0.3*math.Sin(2*turn+b.phases[1]) + 0.1*math.Sin(3*turn+b.phases[2])
	return float32(x + b.housing(state, severity, step) + b.noise*b.rng.NormFloat64())
}

// housing is an oscillator excited by each strike.
func (b *Bearing) housing(state string, severity, step float64) float64 {
	hit := 0.0
	if f, ok := faults[state]; ok {
		if b.next -= step; b.next <= 0 {
			b.next = (1 + 0.015*b.rng.NormFloat64()) / f.strikes // the balls slip slightly
			loud := 1 + f.depth*math.Sin(2*math.Pi*f.modulation*b.shaft)
			hit = 0.95 * severity * loud * (1 + 0.15*b.rng.NormFloat64())
		}
	}
	const radius = 0.8388 // e^(−damping/sampleHz)
	now := 2*radius*math.Cos(2*math.Pi*resonance/sampleHz)*b.ring - radius*radius*b.old + hit
	b.old, b.ring = b.ring, now
	return now
}
