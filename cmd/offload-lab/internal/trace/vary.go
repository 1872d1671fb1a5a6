package trace

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Add adds another set to this one.
func (set *Set) Add(other *Set) {
	set.Links = append(set.Links, other.Links...)
	set.CPUs = append(set.CPUs, other.CPUs...)
	set.RTTs = append(set.RTTs, other.RTTs...)
	set.Skipped = append(set.Skipped, other.Skipped...)
}

// Vary extends a set for training: each recording, and copies−1 variants at other levels, speeds and noises, some reversed, so that training depends
// neither on the few recorded levels nor on the places of recording. The variants are drawn from the seed.
func Vary(set *Set, seed uint64, copies int) *Set {
	rng := rand.New(rand.NewPCG(seed, 0x766172))
	wide := &Set{}
	for n := range copies {
		for _, s := range set.Links {
			wide.Links = append(wide.Links, variant(s, n, variedLink(rng, &s, n)))
		}
		for _, s := range set.RTTs {
			factor := math.Exp(1.2 * (rng.Float64() - 0.5))
			wide.RTTs = append(wide.RTTs, variant(s, n, func(rtt float64) float64 { return rtt * factor }))
		}
		for k, s := range set.CPUs {
			wide.CPUs = append(wide.CPUs, variant(s, n, variedLoad(rng, (k+n)%4 == 3)))
		}
	}
	return wide
}

// variedLink changes the times of a recording, except for the first copy, and returns the change of its values.
func variedLink(rng *rand.Rand, s *Series, copied int) func(float64) float64 {
	factor, speed := math.Exp(1.4*(rng.Float64()-0.55)), math.Exp(rng.Float64()-0.5)
	noise, back := 0.3*rng.Float64(), rng.IntN(2) == 1
	if copied > 0 {
		*s = s.at(speed, back)
	}
	return func(mbit float64) float64 { return mbit * factor * math.Exp(noise*rng.NormFloat64()) }
}

// variedLoad changes the share of a CPU left by other processes, and on a hot node takes most of it.
func variedLoad(rng *rand.Rand, hot bool) func(float64) float64 {
	power, leave := math.Exp(2.4*(rng.Float64()-0.4)), 1.0
	if hot {
		leave = math.Exp(-4.6 * rng.Float64())
	}
	return func(percent float64) float64 {
		return 100 * (1 - leave*math.Pow(1-min(percent, 99)/100, power))
	}
}

// at returns the recording at another speed, forwards or backwards.
func (s *Series) at(speed float64, back bool) Series {
	r := Series{s.Name, slices.Clone(s.Times), slices.Clone(s.Values)}
	for i := range r.Times {
		r.Times[i] *= speed
	}
	if back {
		slices.Reverse(r.Values)
	}
	return r
}

// variant returns a numbered copy; the first is the recording itself.
func variant(s Series, number int, by func(float64) float64) Series {
	if number == 0 {
		return s
	}
	values := make([]float64, len(s.Values))
	for i, v := range s.Values {
		values[i] = by(v)
	}
	return Series{Name: fmt.Sprintf("%s #%d", s.Name, number), Times: s.Times, Values: values}
}
