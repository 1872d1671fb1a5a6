// Package novelty says how far a stream of values leaves what it has shown so far. It needs no training, no period and no unit, 0.1 µs and
// no allocation a value, and about 500 bytes a stream.
//
// A Detector follows seven features of the stream: the value, its mean over a short and a medium span, its mean distance from these
// two, and how the means differ. Of each it keeps the highest and the lowest so far. A value is new by how far its features lie beyond
// those marks, relative to the distance of the marks. What was seen once is not new a second time, so that a lasting
// fault alarms at its beginning and not at each value.
package novelty

import "math"

// Options set a detector. Spans are counted in values.
type Options struct {
	Short, Medium, Long float64 // spans of the three moving means; each at least 1
	Memory              float64 // after how many values a mark has fallen to 1/e of its distance from the mean; +Inf keeps it
	Quiet               float64 // after how many values 1/e is left of what a novelty takes from the scores after it
}

// Defaults suit series of thousands of values; they are what `offload-lab bench nab` measures.
func Defaults() Options {
	return Options{Short: 5, Medium: 50, Long: 200, Memory: 30_000, Quiet: 20}
}

// Feature is what of a value was new.
type Feature uint8

// The features, in the order of their marks.
const (
	Value Feature = iota
	ShortMean
	MediumMean
	ShortSpread
	MediumSpread
	ShortTrend
	MediumTrend
	features
)

var words = [features]string{"value", "short mean", "medium mean", "short spread", "medium spread", "short trend", "medium trend"}

func (f Feature) String() string { return words[f] }

// Novelty is the answer to one value.
type Novelty struct {
	Score   float64 // 0 (nothing new) to below 1
	Feature Feature // what was new most of all
	High    bool    // it lies above what was seen, not below
}

// Detector is the state of one stream. It is not safe for concurrent use.
type Detector struct {
	seen                int
	short, medium, long float64 // steps of the means
	memory, quiet       float64 // what is left after one value
	means               [3]float64
	spreads             [2]float64
	marks               [features]mark
	deaf                float64 // what the novelties before take from this one
}

// New makes a detector that has seen nothing.
func New(o Options) *Detector {
	return &Detector{
		short: 1 / o.Short, medium: 1 / o.Medium, long: 1 / o.Long,
		memory: math.Exp(-1 / o.Memory), quiet: math.Exp(-1 / o.Quiet),
	}
}

// Seen is the number of values fed so far.
func (d *Detector) Seen() int { return d.seen }

const (
	// largest is what values are cut to, so that no difference of two overflows.
	largest = math.MaxFloat64 / 16
	// softness is the excess, in widths of the marks, at which a feature reaches half of its weight.
	softness = 0.05
	// slowest is the least step of a mark's own mean.
	slowest = 1.0 / 2000
)

// Feed takes the next value, which must not be NaN, and says how new it is.
func (d *Detector) Feed(v float64) Novelty {
	v = min(max(v, -largest), largest)
	d.seen++
	first := 1 / float64(d.seen) // while there are few values each counts alike
	if d.seen == 1 {
		d.means = [3]float64{v, v, v}
	}
	short := v - d.means[0]
	medium := v - d.means[1]
	a, b, c := max(first, d.short), max(first, d.medium), max(first, d.long)
	d.means[0] += a * short
	d.means[1] += b * medium
	d.means[2] += c * (v - d.means[2])
	d.spreads[0] += a * (math.Abs(short) - d.spreads[0])
	d.spreads[1] += b * (math.Abs(medium) - d.spreads[1])

	of := [features]float64{v, d.means[0], d.means[1], d.spreads[0], d.spreads[1], d.means[0] - d.means[1], d.means[1] - d.means[2]}
	var answer Novelty
	sum, most := 0.0, 0.0
	step := max(first, slowest)
	for i := range of {
		excess, high := d.marks[i].feed(of[i], d.seen == 1, step, d.memory)
		weight := excess / (excess + softness)
		sum += weight
		if weight > most {
			most, answer.Feature, answer.High = weight, Feature(i), high
		}
	}
	heard := max(0, sum-d.deaf)
	answer.Score = heard / (1 + heard)
	d.deaf = max(d.deaf*d.quiet, sum)
	return answer
}

// mark is what a feature has shown so far.
type mark struct {
	high, low    float64
	mean, spread float64
}

// feed says how far f lies beyond the marks, in widths of them, and moves them.
func (m *mark) feed(f float64, first bool, step, memory float64) (excess float64, high bool) {
	if first {
		*m = mark{high: f, low: f, mean: f}
		return 0, false
	}
	width := m.high - m.low + 2*m.spread
	beyond := max(f-m.high, m.low-f, 0)
	switch {
	case beyond == 0:
	case width > 0:
		excess = min(beyond/width, math.MaxFloat32)
	default: // the stream was constant until now
		excess = 1
	}
	high = f > m.high
	off := f - m.mean
	m.mean += step * off
	m.spread += step * (math.Abs(off) - m.spread)
	m.high = max(f, m.mean+(m.high-m.mean)*memory)
	m.low = min(f, m.mean+(m.low-m.mean)*memory)
	return excess, high
}
