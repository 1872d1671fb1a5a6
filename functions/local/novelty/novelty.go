// Package novelty scores how far a value leaves the previous range of its stream. It needs no training, no period and no unit. A value costs 0.1 µs
// and no allocation, a stream about 500 bytes.
//
// A Detector follows seven features of the stream: the value, its mean over a short and a medium span, its mean distance from these two means, and
// the differences of the means. It keeps the highest and the lowest value of each feature, its marks. The novelty of a value is the distance of its
// features beyond their marks, relative to the distance of the marks. A feature beyond its marks moves them, so a lasting fault scores high at its
// beginning and not at each value.
package novelty

import "math"

// Options configure a detector. Spans are counted in values.
type Options struct {
	Short, Medium, Long float64 // spans of the three moving means, each at least 1
	Memory              float64 // values after which the distance of a mark from the mean has decayed to 1/e; +Inf keeps it
	Quiet               float64 // values after which the damping by a novelty has decayed to 1/e
}

// Defaults returns options for series of thousands of values; `offload-lab bench nab` measures them.
func Defaults() Options {
	return Options{Short: 5, Medium: 50, Long: 200, Memory: 30_000, Quiet: 20}
}

// Feature is a followed property of the stream.
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

// Novelty is the score of one value.
type Novelty struct {
	Score   float64 // from 0 (nothing new) to below 1
	Feature Feature // the feature with the largest novelty
	High    bool    // above the previous range, not below it
}

// Detector is the state of one stream. It is not safe for concurrent use.
type Detector struct {
	seen                int
	short, medium, long float64 // steps of the moving means
	memory, quiet       float64 // decay for each value
	means               [3]float64
	spreads             [2]float64
	marks               [features]mark
	damping             float64 // damping by previous novelties
}

// New returns a detector without history.
func New(o Options) *Detector {
	return &Detector{
		short: 1 / o.Short, medium: 1 / o.Medium, long: 1 / o.Long,
		memory: math.Exp(-1 / o.Memory), quiet: math.Exp(-1 / o.Quiet),
	}
}

// Seen returns the number of values so far.
func (d *Detector) Seen() int { return d.seen }

const (
	// largest is the magnitude to which values are clipped, so that no difference of two values overflows.
	largest = math.MaxFloat64 / 16
	// softness is the excess, in widths of the marks, at which a feature has half of its weight.
	softness = 0.05
	// slowest is the smallest step of a mark's own mean.
	slowest = 1.0 / 2000
)

// Feed adds the next value, which must not be NaN, and returns its novelty.
func (d *Detector) Feed(v float64) Novelty {
	v = min(max(v, -largest), largest)
	d.seen++
	first := 1 / float64(d.seen) // the first values have equal weights
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
	rest := max(0, sum-d.damping)
	answer.Score = rest / (1 + rest)
	d.damping = max(d.damping*d.quiet, sum)
	return answer
}

// mark is the previous range of a feature.
type mark struct {
	high, low    float64
	mean, spread float64
}

// feed returns the distance of f beyond the marks, in widths of the marks, and moves the marks.
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
