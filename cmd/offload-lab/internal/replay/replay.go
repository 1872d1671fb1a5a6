// Package replay estimates the cost of other policies on recorded decisions, without letting them act.
//
// A record holds the inputs of a decision, the decision, its probability and its outcome. Weighting each outcome by the ratio of the probabilities of
// that decision gives an unbiased estimate of the other policy's cost, without assumptions about the world (inverse propensity scoring). Correcting a
// model of the cost by the weighted errors of the model is also unbiased, with less variance (doubly robust).
//
// Both evaluate one decision at a time: the queues stay as recorded, so the effect of a policy on later tasks does not count. And both depend on
// variation in the log: if a decision was certain, nothing is known about the other target, and the result counts these cases.
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

// Measure is the measure of an outcome; less is better.
type Measure func(r *decision.Record) float64

// sample is the part of a record that an evaluation needs.
type sample struct {
	cloud      bool
	forced     bool    // by a guard or another rule above the policies
	propensity float64 // of the actual decision
	value      float64
	x          [inputs]float64
	would      []float64 // for each policy, the probability of the cloud
}

// Log collects records, each with the hypothetical decisions of the policies.
type Log struct {
	measure  Measure
	deciders []*decide.Decider // one for each policy
	guards   *policy.Guards
	samples  []sample
	skipped  Skipped
}

// Skipped counts the records without a usable outcome.
type Skipped struct {
	Unknown int `json:"unknown"` // no outcome had arrived yet
	Failed  int `json:"failed"`  // no result will arrive
}

// NewLog prepares an evaluation of the policies, with the guards of that configuration.
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

// Add adds a record. Records must be in the order of their decisions, as some policies learn.
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

// forced reports whether the decision did not depend on the policy.
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

// chance is the probability of the actual decision under the k-th policy.
func (s *sample) chance(k int) float64 {
	if s.forced {
		return s.propensity
	}
	if s.cloud {
		return s.would[k]
	}
	return 1 - s.would[k]
}

// unsupported reports whether the k-th policy might choose a target that the log can never show.
func (s *sample) unsupported(k int) bool {
	return !s.forced && s.propensity >= 1 && s.chance(k) < 1
}

// errEmpty means that the log has nothing to evaluate: an interval needs two records.
var errEmpty = errors.New("fewer than two decisions have an outcome: let the service run until results and receipts have come back")

// Evaluate estimates the mean of the measure under each policy. The first result is that of the log itself.
func (l *Log) Evaluate() ([]Result, error) {
	if len(l.samples) < 2 {
		return nil, fmt.Errorf("%w (%d unknown, %d failed)", errEmpty, l.skipped.Unknown, l.skipped.Failed)
	}
	models := crossFit(l.samples)
	results := []Result{l.logged()}
	for k, d := range l.deciders {
		results = append(results, l.evaluate(d.For("").Name(), k, models))
	}
	return results, nil
}

// Skipped returns the number of unusable records.
func (l *Log) Skipped() Skipped { return l.skipped }

// inputs is the number of inputs of the model: a constant, and the service's own predictions.
const inputs = 8

// inputsOf returns the model's inputs of a record. Predictions are bounded, since that of an unreachable target is infinite.
func inputsOf(r *decision.Record) [inputs]float64 {
	deadline := score.Slack(r.Task(), &r.State)
	here, there := lateness(r.Estimate.LocalTime, deadline), lateness(r.Estimate.CloudTime, deadline)
	return [inputs]float64{
		1, here, there, step(here), step(there), math.Log1p(r.Estimate.LocalEnergy), math.Log1p(r.Estimate.CloudEnergy),
		math.Log1p(min(r.Estimate.LocalTime, longest)) - math.Log1p(min(r.Estimate.CloudTime, longest)),
	}
}

const (
	latest  = 3.0  // maximum lateness in deadlines
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

// Result is the estimate for one policy. Its numbers are means per record.
type Result struct {
	Policy  string `json:"policy"`
	Records int    `json:"records"`

	IPS   Interval `json:"ips"`   // inverse propensity scoring
	SNIPS float64  `json:"snips"` // the same, normalised by the sum of the weights instead of the number of records
	DR    Interval `json:"dr"`    // doubly robust

	EffectiveSamples float64  `json:"effectiveSamples"` // equivalent number of equally weighted records
	MaxWeight        float64  `json:"maxWeight"`
	Agreement        float64  `json:"agreement"`   // mean probability of the actual decision
	CloudShare       float64  `json:"cloudShare"`  // mean probability of the cloud
	Unsupported      float64  `json:"unsupported"` // share of records where the policy might choose a target that the log can never show
	Warnings         []string `json:"warnings,omitempty"`
}

// blocks is the number of blocks of a log for its intervals. Neighbouring records share queues and conditions, so single records would make an
// interval too narrow; the means of long blocks are nearly independent.
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

// evaluate evaluates the k-th policy.
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

// Minimum evidence of an estimate without a warning.
const (
	fewSamples  = 100
	smallShare  = 0.05
	largeWeight = 50
)

// warnings lists the limits of the estimate for its reader.
func (r *Result) warnings() []string {
	var all []string
	if r.Unsupported > 0 {
		all = append(all, fmt.Sprintf("%.1f %% of the decisions were certain (propensity 1) and this policy might decide otherwise: the log has "+
			"no evidence for that, so IPS is too low and DR relies on its model; let the service explore", 100*r.Unsupported))
	}
	if r.EffectiveSamples < fewSamples || r.EffectiveSamples < smallShare*float64(r.Records) {
		all = append(all, fmt.Sprintf("the estimate rests on only %.0f of %d records: the policy differs too much from the actual decisions", r.EffectiveSamples, r.Records))
	}
	if r.MaxWeight > largeWeight {
		all = append(all, fmt.Sprintf("one record has the weight of %.0f: intervals may be too narrow", r.MaxWeight))
	}
	if r.Records < 2*blocks {
		all = append(all, fmt.Sprintf("%d records are too few for intervals of correlated neighbours", r.Records))
	}
	return all
}

// interval is mean and 95 % interval of at least two terms in order of time.
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
	sum := 0.0
	for _, m := range means {
		sum += (m - mean) * (m - mean)
	}
	half := student(n-1) * math.Sqrt(sum/float64(n-1)/float64(n))
	return Interval{mean, [2]float64{mean - half, mean + half}}
}

// student is the 97.5 % quantile of Student's t by the Cornish–Fisher expansion; within a percent from 6 degrees of freedom.
func student(freedom int) float64 {
	const z = 1.959963984540054
	z3, z5, v := z*z*z, z*z*z*z*z, float64(freedom)
	return z + (z3+z)/(4*v) + (5*z5+16*z3+3*z)/(96*v*v)
}

// folds is the number of parts of the records. The model for each part is trained without it: otherwise the model would fit its own errors, and the
// correction by them would correct nothing.
const folds = 5

// ridge keeps the weights of a model with few records near zero.
const ridge = 1.0

// linear is a model of the measure for one target.
type linear [inputs]float64

// pair is the models of both targets.
type pair struct{ local, cloud linear }

// crossFit returns for each part of the records the models trained on all other parts.
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

// doublyRobust is the model's estimate for the decision of the k-th policy, corrected by the weighted error for the actual decision. If a guard
// decided, the outcome counts unchanged.
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

// regression collects the normal equations.
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

// solve computes the weights by Cholesky decomposition, which overwrites the sums; the ridge keeps it from failing.
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

// dot is the sum of the products of a with the leading elements of b.
func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}
