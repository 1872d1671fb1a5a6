package local

import "math"

// moments sums up any number of values in constant memory. It follows Welford, and Chan for whole slices, so that
// values with a large mean and a small spread keep their standard deviation.
type moments struct {
	n        int64
	mean, m2 float64 // m2 is the sum of the squared distances to the mean
	min, max float64
}

// add takes a slice: its own moments in two passes, which is exact and fast, then one merge.
func (m *moments) add(values []float64) {
	if len(values) == 0 {
		return
	}
	part := moments{n: int64(len(values)), min: values[0], max: values[0]}
	sum := 0.0
	for _, v := range values {
		sum += v
		part.min, part.max = min(part.min, v), max(part.max, v)
	}
	part.mean = sum / float64(part.n)
	for _, v := range values {
		d := v - part.mean
		part.m2 += d * d
	}
	m.merge(&part)
}

// merge takes what another has seen.
func (m *moments) merge(o *moments) {
	if o.n == 0 {
		return
	}
	if m.n == 0 {
		*m = *o
		return
	}
	d, n := o.mean-m.mean, float64(m.n+o.n)
	m.mean += d * float64(o.n) / n
	m.m2 += o.m2 + d*d*float64(m.n)*float64(o.n)/n
	m.min, m.max, m.n = min(m.min, o.min), max(m.max, o.max), m.n+o.n
}

// stddev is that of the values themselves (divided by n), so one value has 0.
func (m *moments) stddev() float64 { return math.Sqrt(m.m2 / float64(m.n)) }

func (m *moments) rms() float64 { return math.Sqrt(m.mean*m.mean + m.m2/float64(m.n)) }

// crest is the peak over the RMS; NaN where all values are 0.
func (m *moments) crest() float64 { return max(math.Abs(m.min), math.Abs(m.max)) / m.rms() }
