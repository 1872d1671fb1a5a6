package feed

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

const (
	window = 512  // samples of an event
	faulty = 0.25 // minimum severity of a faulty bearing
)

// vibration is healthy for two minutes on average, then a fault of one of the three kinds grows, lasts twenty seconds, and disappears.
type vibration struct {
	device
	bearing  *Bearing
	state    string
	striking bool
	left     float64 // s of signal until the condition changes
	severity float64 // 0 healthy – 1 full, approached smoothly
}

func newVibration(rng *rand.Rand) *vibration {
	v := &vibration{device: device{"device-vibration", "Vibration-Sensor", "pump-1-bearing", "Acceleration", rng}, bearing: NewBearing(rng), state: Healthy}
	v.left = v.sojourn()
	return v
}

func (v *vibration) Interval() time.Duration { return 100 * time.Millisecond }

func (v *vibration) Next(at time.Time) Event {
	samples := make([]float32, window)
	for i := range samples {
		samples[i] = v.sample()
	}
	ev := v.event(at, float32s("Acceleration", "m/s2", samples), float("ShaftSpeed", "Hz", v.bearing.Speed()+0.1*v.rng.NormFloat64()))
	ev.Truth = &Truth{Event: ev.ID, Device: ev.Device, Label: v.label(), Severity: v.severity}
	return ev
}

func float32s(resource, units string, values []float32) Reading {
	var b strings.Builder
	b.Grow(len(values)*15 + 2)
	b.WriteByte('[')
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%e", v)
	}
	b.WriteByte(']')
	return Reading{Resource: resource, Type: "Float32Array", Units: units, Value: b.String()}
}

// label is the current state of the bearing.
func (v *vibration) label() string {
	if v.severity < faulty {
		return Healthy
	}
	return v.state
}

func (v *vibration) sample() float32 {
	if v.left -= 1 / sampleHz; v.left <= 0 {
		if v.striking = !v.striking; v.striking {
			v.state = BearingStates[1+v.rng.IntN(len(BearingStates)-1)]
		}
		v.left = v.sojourn()
	}
	goal := 0.0
	if v.striking {
		goal = 1
	}
	v.severity += (goal - v.severity) * 2e-4
	return v.bearing.Sample(v.state, v.severity)
}

// sojourn is the duration of the condition in seconds.
func (v *vibration) sojourn() float64 {
	mean := 120.0
	if v.striking {
		mean = 20
	}
	return mean * v.rng.ExpFloat64()
}
