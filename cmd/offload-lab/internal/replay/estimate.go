package replay

import (
	"fmt"
	"math"
)

// Interval is an estimate with its 95 % interval.
type Interval struct {
	Mean float64    `json:"mean"`
	CI95 [2]float64 `json:"ci95"`
}

// Result is what one policy would have cost. Its numbers are means a record.
type Result struct {
	Policy  string `json:"policy"`
	Records int    `json:"records"`

	IPS   Interval `json:"ips"`   // inverse propensity scoring
	SNIPS float64  `json:"snips"` // the same, by the sum of the weights instead of the number of records
	DR    Interval `json:"dr"`    // doubly robust

	EffectiveSamples float64  `json:"effectiveSamples"` // of how many equally weighted records the estimate is worth
	MaxWeight        float64  `json:"maxWeight"`
	Agreement        float64  `json:"agreement"`   // mean probability of doing what was done
	CloudShare       float64  `json:"cloudShare"`  // mean probability of the cloud
	Unsupported      float64  `json:"unsupported"` // share of records where the policy might do what the log can never show
	Warnings         []string `json:"warnings,omitempty"`
}

// blocks is into how many stretches a log is cut for its intervals. Neighbouring records share queues and weather, so that
// single ones would make an interval look narrower than it is; the means of long stretches are nearly independent.
const blocks = 40

// logged is the log's own mean, which needs no weights.
func (l *Log) logged() Result {
	terms := make([]float64, len(l.samples))
	r := Result{Policy: "logged", Records: len(terms), EffectiveSamples: float64(len(terms)), MaxWeight: 1, Agreement: 1}
	for i := range l.samples {
		terms[i] = l.samples[i].value
		if l.samples[i].cloud {
			r.CloudShare += 1 / float64(len(terms))
		}
	}
	r.IPS = interval(terms)
	r.DR, r.SNIPS = r.IPS, r.IPS.Mean
	return r
}

// evaluate is the k-th policy.
func (l *Log) evaluate(name string, k int, models []pair) Result {
	n := len(l.samples)
	r := Result{Policy: name, Records: n}
	ips, dr := make([]float64, n), make([]float64, n)
	var weights, squares, weighted float64
	for i := range l.samples {
		s := &l.samples[i]
		chance := s.chance(k)
		w := chance / s.propensity
		ips[i] = w * s.value
		dr[i] = models[i%folds].doublyRobust(s, k, w)
		weights, squares, weighted = weights+w, squares+w*w, weighted+w*s.value
		r.MaxWeight = max(r.MaxWeight, w)
		r.Agreement += chance / float64(n)
		r.CloudShare += s.cloudShare(k) / float64(n)
		if s.unsupported(k) {
			r.Unsupported += 1 / float64(n)
		}
	}
	r.IPS, r.DR = interval(ips), interval(dr)
	if weights > 0 {
		r.SNIPS, r.EffectiveSamples = weighted/weights, weights*weights/squares
	}
	r.Warnings = r.warnings()
	return r
}

func (s *sample) cloudShare(k int) float64 {
	if !s.forced {
		return s.would[k]
	}
	if s.cloud {
		return 1
	}
	return 0
}

// Below these an estimate rests on too little.
const (
	fewSamples  = 100
	smallShare  = 0.05
	largeWeight = 50
)

// warnings says what a reader must know before he believes the numbers.
func (r *Result) warnings() []string {
	var all []string
	if r.Unsupported > 0 {
		all = append(all, fmt.Sprintf("%.1f %% of the decisions were certain (propensity 1) and this policy would or might decide otherwise: nothing "+
			"was ever recorded of that, so IPS is too low and DR rests on its model there; let the service explore", 100*r.Unsupported))
	}
	if r.EffectiveSamples < fewSamples || r.EffectiveSamples < smallShare*float64(r.Records) {
		all = append(all, fmt.Sprintf("only %.0f of %d records carry the estimate: the policy differs too much from what was done", r.EffectiveSamples, r.Records))
	}
	if r.MaxWeight > largeWeight {
		all = append(all, fmt.Sprintf("one record weighs as much as %.0f: intervals may be too narrow", r.MaxWeight))
	}
	if r.Records < 2*blocks {
		all = append(all, fmt.Sprintf("%d records are too few for intervals that allow for neighbours being alike", r.Records))
	}
	return all
}

// interval is mean and 95 % interval of terms that follow each other in time.
func interval(terms []float64) Interval {
	n := min(blocks, len(terms))
	means := make([]float64, n)
	total := 0.0
	for b := range n {
		from, to := b*len(terms)/n, (b+1)*len(terms)/n
		for _, v := range terms[from:to] {
			means[b] += v / float64(to-from)
			total += v
		}
	}
	mean := total / float64(len(terms))
	if n < 2 {
		return Interval{mean, [2]float64{math.Inf(-1), math.Inf(1)}}
	}
	sum := 0.0
	for _, m := range means {
		sum += (m - mean) * (m - mean)
	}
	half := student(n-1) * math.Sqrt(sum/float64(n-1)/float64(n))
	return Interval{mean, [2]float64{mean - half, mean + half}}
}

// student is the 97.5 % quantile of Student's t, by the expansion of Cornish and Fisher; within a percent from 6 degrees of freedom.
func student(freedom int) float64 {
	const z = 1.959963984540054
	z3, z5, v := z*z*z, z*z*z*z*z, float64(freedom)
	return z + (z3+z)/(4*v) + (5*z5+16*z3+3*z)/(96*v*v)
}
