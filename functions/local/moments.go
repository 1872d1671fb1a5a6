package local

import "math"

// moments computes statistics of any number of values in constant memory. It uses Chan's method with two passes over each slice, so that values with
// a large mean and a small spread keep their standard deviation. Sums are pairs of float64, which are exact for integers of 64 bits and round the
// mean once. Values whose squares overflow a float64 are scaled by a power of two.
type moments struct {
	n        int64
	mean, m2 float64 // m2 is the sum of the squared distances to the mean
	min, max float64

	sum pair
	exp int // mean, m2 and sum are of the values times 2^-exp
}

// pair is a number of double precision: high + low.
type pair struct{ high, low float64 }

// plus adds two pairs, with the rounding error of the high parts in the low part.
func (p pair) plus(q pair) pair {
	high := p.high + q.high
	part := high - p.high
	low := (p.high - (high - part)) + (q.high - part) + p.low + q.low
	return pair{high, low}.normal()
}

// normal moves as much as possible into the high part.
func (p pair) normal() pair {
	high := p.high + p.low
	return pair{high, p.low - (high - p.high)}
}

// over returns the quotient as a pair.
func (p pair) over(n float64) pair {
	high := p.high / n
	rest := math.FMA(-high, n, p.high) + p.low
	return pair{high, rest / n}.normal()
}

func (p pair) times2(exp int) pair { return pair{math.Ldexp(p.high, exp), math.Ldexp(p.low, exp)} }

// minus returns the difference of two pairs, rounded once.
func (p pair) minus(q pair) float64 { return (p.high - q.high) + (p.low - q.low) }

// add adds a slice of floats, or of integers of at most 53 bits.
func (m *moments) add(values []float64) { m.addWith(values, nil) }

// addWith adds a slice. lows are the differences of the exact values from values, nil if there are none.
func (m *moments) addWith(values, lows []float64) {
	if len(values) == 0 {
		return
	}
	part := moments{n: int64(len(values)), min: values[0], max: values[0]}
	for _, v := range values {
		part.min, part.max = min(part.min, v), max(part.max, v)
	}
	if part.exp = scale(part.peak()); part.exp == 0 && lows == nil {
		part.sumUp(values)
	} else {
		part.sumUpExactly(values, lows)
	}
	m.merge(&part)
}

// sumUp computes sum, mean and m2 without scaling.
func (m *moments) sumUp(values []float64) {
	high, low := 0.0, 0.0
	for _, v := range values {
		sum := high + v
		part := sum - high
		low += (high - (sum - part)) + (v - part)
		high = sum
	}
	m.sum = pair{high, low}.normal()
	mean := m.sum.over(float64(m.n))
	m.mean = mean.high
	for _, v := range values {
		d := (v - mean.high) - mean.low
		m.m2 += d * d
	}
}

// sumUpExactly computes the same for values that need scaling, or more digits than a float64 has.
func (m *moments) sumUpExactly(values, lows []float64) {
	at := func(i int) pair {
		p := pair{high: values[i]}
		if lows != nil {
			p.low = lows[i]
		}
		return p.times2(-m.exp)
	}
	for i := range values {
		m.sum = m.sum.plus(at(i))
	}
	mean := m.sum.over(float64(m.n))
	m.mean = mean.high
	for i := range values {
		d := at(i).minus(mean)
		m.m2 += d * d
	}
}

// peak returns the greatest magnitude.
func (m *moments) peak() float64 { return max(math.Abs(m.min), math.Abs(m.max)) }

// scale returns the exponent to divide values by: 0 if their squares neither overflow nor vanish.
func scale(peak float64) int {
	if peak > 1e-120 && peak < 1e120 {
		return 0
	}
	_, exp := math.Frexp(peak)
	return exp
}

// rescale converts the sums to another exponent.
func (m *moments) rescale(exp int) {
	by := m.exp - exp
	m.sum, m.mean, m.m2, m.exp = m.sum.times2(by), math.Ldexp(m.mean, by), math.Ldexp(m.m2, 2*by), exp
}

// merge adds the values of another moments.
func (m *moments) merge(o *moments) {
	if o.n == 0 {
		return
	}
	if m.n == 0 {
		*m = *o
		return
	}
	other := *o
	switch {
	case m.exp == other.exp:
	case m.peak() < other.peak():
		m.rescale(other.exp)
	default:
		other.rescale(m.exp)
	}
	n := float64(m.n + other.n)
	d := other.sum.over(float64(other.n)).minus(m.sum.over(float64(m.n)))
	m.m2 += other.m2 + d*d*(float64(m.n)/n)*float64(other.n)
	m.sum = m.sum.plus(other.sum)
	m.mean = m.sum.over(n).high
	m.min, m.max, m.n = min(m.min, other.min), max(m.max, other.max), m.n+other.n
}

// average returns the mean of the unscaled values.
func (m *moments) average() float64 {
	return min(max(math.Ldexp(m.mean, m.exp), m.min), m.max)
}

// stddev returns the population standard deviation (divided by n) of the unscaled values, so one value has 0.
func (m *moments) stddev() float64 { return math.Ldexp(math.Sqrt(m.m2/float64(m.n)), m.exp) }

func (m *moments) rms() float64 { return min(math.Ldexp(m.scaledRMS(), m.exp), m.peak()) }

func (m *moments) scaledRMS() float64 { return math.Sqrt(m.mean*m.mean + m.m2/float64(m.n)) }

// crest returns the peak over the RMS, NaN if all values are 0.
func (m *moments) crest() float64 { return math.Ldexp(m.peak(), -m.exp) / m.scaledRMS() }
