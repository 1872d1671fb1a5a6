package trace

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Synthetic draws a set from a seed, for tests and for users without recordings: links that fade and drop like those of a moving modem, loads with
// levels and bursts, and round trips with a daily wave and spikes.
func Synthetic(seed uint64, links, cpus, rtts int) *Set {
	set := &Set{}
	for i := range links {
		set.Links = append(set.Links, synthesize(seed, 1, i, "link", 600, 1, fading))
	}
	for i := range cpus {
		set.CPUs = append(set.CPUs, synthesize(seed, 2, i, "cpu", 500, 300, loaded))
	}
	for i := range rtts {
		set.RTTs = append(set.RTTs, synthesize(seed, 3, i, "rtt", 400, rttSlice, distant))
	}
	return set
}

// synthesize draws the i-th series of a kind; each has its own generator, so that more series of one kind change no other.
func synthesize(seed, kind uint64, i int, name string, samples int, step float64, next func(*rand.Rand) func() float64) Series {
	rng := rand.New(rand.NewPCG(seed, kind<<32|uint64(i))) // a simulation must be reproducible
	s := Series{Name: fmt.Sprintf("synthetic-%s-%d-%02d", name, seed, i)}
	draw := next(rng)
	for n := range samples {
		s.Times = append(s.Times, float64(n)*step)
		s.Values = append(s.Values, draw())
	}
	return s
}

// fading is a goodput in Mbit/s: a random mean, slow log-normal fading, and outages of some seconds.
func fading(rng *rand.Rand) func() float64 {
	mean, depth, level, out := 0.5+1.8*rng.Float64(), 0.25+0.4*rng.Float64(), 0.0, 0
	return func() float64 {
		level = 0.93*level + depth*math.Sqrt(1-0.93*0.93)*rng.NormFloat64()
		if out > 0 {
			out--
			return 0.05
		}
		if rng.Float64() < 0.004 {
			out = 2 + rng.IntN(6)
		}
		return mean * math.Exp(level-depth*depth/2)
	}
}

// loaded is the CPU load of other processes in percent: levels that hold for a while, noise, and rare full loads.
func loaded(rng *rand.Rand) func() float64 {
	level := 40 * rng.Float64()
	return func() float64 {
		switch u := rng.Float64(); {
		case u < 0.02:
			level = 60 * rng.Float64()
		case u < 0.03:
			return 90 + 9*rng.Float64()
		}
		return min(max(level+3*rng.NormFloat64(), 0), 100)
	}
}

// distant is a round trip in seconds: that of the distance, plus queueing.
func distant(rng *rand.Rand) func() float64 {
	base := 0.03 + 0.35*rng.Float64()
	return func() float64 {
		rtt := base * (1 + 0.1*math.Abs(rng.NormFloat64()))
		if rng.Float64() < 0.02 {
			rtt += 0.5 * rng.ExpFloat64()
		}
		return math.Round(rtt*1000) / 1000
	}
}
