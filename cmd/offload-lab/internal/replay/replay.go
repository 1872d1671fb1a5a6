// Package replay asks of recorded decisions what other policies would have cost, without letting them act.
//
// A record holds what was known when a decision fell, what was done, with which probability, and what came of it. Weighing
// each outcome by how much likelier the other policy is to do the same gives an estimate of that policy's cost which is
// right on average whatever the world is like (inverse propensity scoring). Correcting a model of the cost by the weighted
// errors of the model is right as well, and varies less (doubly robust).
//
// Both judge one decision at a time: the queues stay as they were recorded, so what a policy would have spared later tasks
// does not count. And both can only speak of what was tried at times: where a decision was certain, nothing is known of the
// other way, and the result says how often that was so.
package replay

import (
	"errors"
	"fmt"
	"math"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
)

// Measure is a number that an outcome is judged by; less is better.
type Measure func(r *decision.Record) float64

// sample is a record as far as an evaluation needs it.
type sample struct {
	cloud      bool
	forced     bool    // by a guard, or by what no policy decides
	propensity float64 // of what was done
	value      float64
	x          [inputs]float64
	would      []float64 // for each policy, the probability of the cloud
}

// Log collects records, each with what the policies in question would have done.
type Log struct {
	measure  Measure
	deciders []*decide.Decider // one for each policy
	guards   *policy.Guards
	samples  []sample
	skipped  Skipped
}

// Skipped counts the records without a usable outcome.
type Skipped struct {
	Unknown int `json:"unknown"` // nothing had come back yet
	Failed  int `json:"failed"`  // no result will ever come
}

// NewLog prepares to evaluate the policies, under the guards of that configuration.
func NewLog(measure Measure, policies []policy.Policy, c policy.Config) (*Log, error) {
	guards, err := policy.NewGuards(c)
	if err != nil {
		return nil, err
	}
	l := &Log{measure: measure, guards: guards}
	for _, p := range policies {
		d, err := decide.Only(p, c)
		if err != nil {
			return nil, err
		}
		l.deciders = append(l.deciders, d)
	}
	return l, nil
}

// Add takes in a record. Records must come in the order in which they were decided, as some policies learn.
func (l *Log) Add(r *decision.Record) {
	switch {
	case r.Outcome.Failed:
		l.skipped.Failed++
		return
	case !r.Outcome.Known:
		l.skipped.Unknown++
		return
	}
	s := sample{
		cloud: r.Decision.Target == decision.Cloud, propensity: r.Decision.Propensity, value: l.measure(r), x: inputsOf(r),
		would: make([]float64, len(l.deciders)),
	}
	t := r.Task()
	_, held := l.guards.Check(t, &r.Estimate, &r.State)
	s.forced = held || forced(r.Decision.Reason)
	for k, d := range l.deciders {
		would, _ := d.Decide(t, &r.Estimate, &r.State)
		s.would[k] = cloudChance(would)
		d.Observe(&r.Entry)
	}
	l.samples = append(l.samples, s)
}

// forced reports whether no policy had a say: any of them would have ended up with the same.
func forced(why decision.Reason) bool {
	switch why {
	case decision.GuardLinkDown, decision.GuardBacklog, decision.GuardNeverLeave, decision.SpoolFull, decision.NoOperator, decision.LocalFailed:
		return true
	}
	return false
}

func cloudChance(d decision.Decision) float64 {
	if d.Target == decision.Cloud {
		return d.Propensity
	}
	return 1 - d.Propensity
}

// Chance is the probability with which the k-th policy does what was done, and whether the other way could have been seen.
func (s *sample) chance(k int) float64 {
	if s.forced {
		return s.propensity
	}
	if s.cloud {
		return s.would[k]
	}
	return 1 - s.would[k]
}

// unsupported reports whether the k-th policy might do what the log can never show.
func (s *sample) unsupported(k int) bool {
	return !s.forced && s.propensity >= 1 && s.chance(k) < 1
}

// errEmpty says that there is nothing to evaluate.
var errEmpty = errors.New("no record has an outcome: let the service run until results and receipts have come back")

// Evaluate estimates the mean of the measure under each policy. The first result is that of the log itself.
func (l *Log) Evaluate() ([]Result, error) {
	if len(l.samples) == 0 {
		return nil, fmt.Errorf("%w (%d unknown, %d failed)", errEmpty, l.skipped.Unknown, l.skipped.Failed)
	}
	models := crossFit(l.samples)
	results := []Result{l.logged()}
	for k, d := range l.deciders {
		results = append(results, l.evaluate(d.For("").Name(), k, models))
	}
	return results, nil
}

// Skipped returns how many records could not be used.
func (l *Log) Skipped() Skipped { return l.skipped }

// inputs is the number of inputs of the model: a constant, and what the service itself predicted.
const inputs = 8

// inputsOf describes a record to the model. Predictions are bounded, as an unusable way has an infinite one.
func inputsOf(r *decision.Record) [inputs]float64 {
	deadline := score.Slack(r.Task(), &r.State)
	here, there := lateness(r.Estimate.LocalTime, deadline), lateness(r.Estimate.CloudTime, deadline)
	return [inputs]float64{
		1, here, there, step(here), step(there), math.Log1p(r.Estimate.LocalEnergy), math.Log1p(r.Estimate.CloudEnergy),
		math.Log1p(min(r.Estimate.LocalTime, longest)) - math.Log1p(min(r.Estimate.CloudTime, longest)),
	}
}

const (
	latest  = 3.0  // deadlines beyond which late is late
	longest = 3600 // s
)

func lateness(took, deadline float64) float64 {
	switch {
	case math.IsInf(deadline, 1):
		return min(took/longest, latest)
	case deadline <= 0:
		return latest
	}
	return min(took/deadline, latest)
}

func step(late float64) float64 {
	if late > 1 {
		return 1
	}
	return 0
}

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

// folds is into how many parts the records are dealt. Each part is predicted by a model that has not seen it: a model that
// had would agree with its own errors, and the correction by them would correct nothing.
const folds = 5

// ridge holds a model of few records near zero.
const ridge = 1.0

// linear is a model of the measure for one way.
type linear [inputs]float64

// pair is the models of both ways.
type pair struct{ local, cloud linear }

// crossFit gives for each part of the records the models that all other parts teach.
func crossFit(samples []sample) []pair {
	models := make([]pair, folds)
	for f := range models {
		var local, cloud regression
		for i := range samples {
			if i%folds == f {
				continue
			}
			if s := &samples[i]; s.cloud {
				cloud.add(&s.x, s.value)
			} else {
				local.add(&s.x, s.value)
			}
		}
		models[f] = pair{local.solve(), cloud.solve()}
	}
	return models
}

// doublyRobust is the model's word on what the k-th policy would do, corrected by the weighted error on what was done. Where a
// guard decided, the outcome is everybody's.
func (m *pair) doublyRobust(s *sample, k int, weight float64) float64 {
	if s.forced {
		return s.value
	}
	here, there := m.local.at(&s.x), m.cloud.at(&s.x)
	predicted := here
	if s.cloud {
		predicted = there
	}
	would := s.would[k]
	return (1-would)*here + would*there + weight*(s.value-predicted)
}

func (l *linear) at(x *[inputs]float64) (sum float64) {
	for i, v := range x {
		sum += l[i] * v
	}
	return sum
}

// regression gathers the normal equations.
type regression struct {
	a [inputs][inputs]float64
	b [inputs]float64
}

func (r *regression) add(x *[inputs]float64, y float64) {
	for i := range x {
		for k := range i + 1 {
			r.a[i][k] += x[i] * x[k]
		}
		r.b[i] += x[i] * y
	}
}

// solve finds the weights by Cholesky's decomposition, which takes the place of the sums; the ridge keeps it from failing.
func (r *regression) solve() linear {
	var l [inputs][]float64
	for i := range l {
		l[i] = r.a[i][:i+1]
		l[i][i] += ridge
		for k := range l[i] {
			sum := l[i][k] - dot(l[i][:k], l[k])
			if i == k {
				l[i][k] = math.Sqrt(sum)
			} else {
				l[i][k] = sum / l[k][k]
			}
		}
	}
	w := linear(r.b)
	for i := range w {
		w[i] = (w[i] - dot(l[i][:i], w[:])) / l[i][i]
	}
	for i := inputs - 1; i >= 0; i-- {
		w[i] /= l[i][i]
		for k := range i {
			w[k] -= l[i][k] * w[i]
		}
	}
	return w
}

// dot is the sum of the products of a with the first of b.
func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}
