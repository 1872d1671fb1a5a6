package feed

import (
	"math"
	"math/rand/v2"
	"time"
)

// The vibration channel: a motor at 29.5 Hz on a rolling bearing, sampled at 5,120 Hz in windows of 512 samples.
const (
	shaftHz   = 29.5
	outerRace = 3.585 * shaftHz // ball pass frequency of the outer race, of a 6205 bearing
	resonance = 1600.0          // Hz, what the housing rings at when a ball strikes the fault
	sampleHz  = 5120.0
	window    = 512
)

// vibration is healthy for two minutes on average, then a fault grows in, strikes for twenty seconds, and is gone.
type vibration struct {
	device
	faulty   bool
	until    float64 // s of signal at which the condition changes
	seconds  float64 // s of signal so far
	severity float64 // 0 healthy – 1 full, approached smoothly
}

func newVibration(rng *rand.Rand) *vibration {
	v := &vibration{device: device{"device-vibration", "Vibration-Sensor", "pump-1-bearing", "Acceleration", rng}}
	v.until = v.sojourn()
	return v
}

func (v *vibration) Interval() time.Duration { return 100 * time.Millisecond }

func (v *vibration) Next(at time.Time) Event {
	samples := make([]float32, window)
	for i := range samples {
		samples[i] = v.sample()
	}
	return v.event(at, float32s("Acceleration", "m/s2", samples), float("ShaftSpeed", "Hz", shaftHz+0.1*v.rng.NormFloat64()))
}

// sample is shaft harmonics and noise; with a fault, each passing ball rings the housing, in rhythm with the load.
func (v *vibration) sample() float32 {
	v.seconds += 1 / sampleHz
	if v.seconds >= v.until {
		v.faulty = !v.faulty
		v.until = v.seconds + v.sojourn()
	}
	goal := 0.0
	if v.faulty {
		goal = 1
	}
	v.severity += (goal - v.severity) * 2e-4

	shaft := 2 * math.Pi * shaftHz * v.seconds
	x := 0.8*math.Sin(shaft) + 0.3*math.Sin(2*shaft+0.4) + 0.1*math.Sin(3*shaft+1.1) + 0.15*v.rng.NormFloat64()
	sinceStrike := math.Mod(v.seconds, 1/outerRace)
	strike := math.Exp(-sinceStrike*900) * math.Sin(2*math.Pi*resonance*sinceStrike)
	return float32(x + v.severity*6*(1+0.5*math.Sin(shaft))*strike)
}

func (v *vibration) sojourn() float64 {
	mean := 120.0
	if v.faulty {
		mean = 20
	}
	return mean * v.rng.ExpFloat64()
}
