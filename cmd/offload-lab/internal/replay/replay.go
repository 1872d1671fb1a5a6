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
