package feedback

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/status"
)

// tally counts decisions, and compares predictions with outcomes. It is safe for concurrent use. The classes and policies seen bound its size, at
// most maxTally entries in each table.
type tally struct {
	mu         sync.Mutex
	counts     map[countKey]uint64
	prediction map[predicted]*prediction
	decisions  uint64
	regret     float64 // sum
	joules     float64
	forgotten  uint64 // outcomes of decisions that are no longer in the ring
	unlisted   uint64 // decisions and outcomes without an entry in a full table
}

type countKey struct {
	policy, class string
	target        decision.Target
}

type predicted struct {
	class  string
	target decision.Target
}

// prediction holds decaying means, which describe recent tasks rather than all.
type prediction struct {
	count                     uint64
	predicted, actual, errors float64 // s
}

const (
	maxTally         = 4096
	predictionMemory = 1000 // outcomes
)

func newTally() *tally {
	return &tally{counts: map[countKey]uint64{}, prediction: map[predicted]*prediction{}}
}

// decided counts decisions made in one state, under one lock.
func (t *tally) decided(judge *policy.Judge, cases []*decide.Case, s *host.State) {
	regret := 0.0
	for _, c := range cases {
		c.Counted = c.Decision.Target
		regret += regretOf(judge, c, s)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.decisions += uint64(len(cases))
	t.regret += regret
	var key countKey
	n := uint64(0)
	for _, c := range cases {
		next := keyOf(c)
		if n > 0 && next != key {
			t.count(key, n) // usually all cases have the same key
			n = 0
		}
		key = next
		n++
	}
	if n > 0 {
		t.count(key, n)
	}
}

// withdraw uncounts the decision of a refused task: it was never accepted, and its sender may send it again.
func (t *tally) withdraw(judge *policy.Judge, c *decide.Case, s *host.State) {
	regret := regretOf(judge, c, s)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.decisions--
	t.regret -= regret
	if key := keyOf(c); t.counts[key] > 0 {
		t.counts[key]--
	} else {
		t.unlisted--
	}
}

// regretOf returns the predicted cost of the counted target above that of the other target.
func regretOf(judge *policy.Judge, c *decide.Case, s *host.State) float64 {
	mine, other := judge.Predicted(c.Task, &c.Estimate, s)
	if c.Counted == decision.Cloud {
		mine, other = other, mine
	}
	return max(mine-other, 0)
}

func keyOf(c *decide.Case) countKey {
	return countKey{policy: c.Policy, class: c.Task.OwnClass().Name, target: c.Counted}
}

func (t *tally) count(key countKey, n uint64) {
	if _, known := t.counts[key]; known || len(t.counts) < maxTally {
		t.counts[key] += n
		return
	}
	t.unlisted += n
}

// settled adds an entry with its first outcome.
func (t *tally) settled(e *decision.Entry) {
	guess := e.Estimate.LocalTime
	if e.Decision.Target == decision.Cloud {
		guess = e.Estimate.CloudTime
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.joules += e.Outcome.Energy
	if e.Outcome.Failed || math.IsInf(guess, 0) || e.Decision.Reason.WasLocal() {
		return
	}
	key := predicted{e.Class, e.Decision.Target}
	p := t.prediction[key]
	if p == nil {
		if len(t.prediction) >= maxTally {
			t.unlisted++
			return
		}
		p = &prediction{}
		t.prediction[key] = p
	}
	p.take(guess, e.Outcome.Time)
}

func (p *prediction) take(guess, actual float64) {
	p.count++
	weight := 1 / float64(min(p.count, predictionMemory))
	p.predicted += weight * (guess - p.predicted)
	p.actual += weight * (actual - p.actual)
	p.errors += weight * (math.Abs(guess-actual) - p.errors)
}

func (t *tally) forgot() {
	t.mu.Lock()
	t.forgotten++
	t.mu.Unlock()
}

// report fills the counters of a status, in a stable order.
func (t *tally) report(s *status.PolicyStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Regret, s.Joules, s.Forgotten, s.Unlisted = t.regret/float64(max(t.decisions, 1)), t.joules, t.forgotten, t.unlisted
	s.Decided = make([]status.DecidedCount, 0, len(t.counts))
	for _, k := range slices.SortedFunc(maps.Keys(t.counts), func(a, b countKey) int {
		return cmp.Or(cmp.Compare(a.policy, b.policy), cmp.Compare(a.class, b.class), cmp.Compare(a.target, b.target))
	}) {
		s.Decided = append(s.Decided, status.DecidedCount{Policy: k.policy, Target: k.target.String(), Class: k.class, Count: t.counts[k]})
	}
	s.Prediction = make([]status.PredictionStatus, 0, len(t.prediction))
	for _, k := range slices.SortedFunc(maps.Keys(t.prediction), func(a, b predicted) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.target, b.target))
	}) {
		p := t.prediction[k]
		s.Prediction = append(s.Prediction, status.PredictionStatus{
			Class: k.class, Target: k.target.String(), Count: p.count, Predicted: p.predicted, Actual: p.actual,
			Error: p.errors / max(p.actual, 1e-9),
		})
	}
}
