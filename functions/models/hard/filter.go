// Package hard decides which answers of a small model need a second answer by a large model.
//
// A Filter judges one answer. A Budget bounds the number of examples sent, by the hour and by the day. A Watch signals that the data have drifted
// from the data first seen. Confidence does not show drift: softmax stays confident on unfamiliar data.
//
// threshold, cross-entropy, ibt, random, edge and cloud are the filters of KubeEdge Sedna (lib/sedna/algorithms/hard_example_mining) with its
// definitions and defaults. margin, band and energy are additions. With a share, a filter selects the hardest examples instead of those beyond a
// threshold. Filters are safe for concurrent use and do not allocate.
package hard

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"app-offload/functions/check"
)

// Example is the output of a model for one input. Missing outputs are empty, and a filter that needs them judges nothing hard.
type Example struct {
	Boxes     []float64 // scores of the objects found; a classifier has one, its confidence
	Scores    []float64 // probability of each class
	Logits    []float64 // values before softmax
	Error     float64   // reconstruction error
	Threshold float64   // Error from which on the input is an anomaly; 0 without a threshold
}

// Filter judges examples.
type Filter interface {
	// Hard reports whether an example is hard.
	Hard(e *Example) bool
	// Hardness returns a number that grows with the hardness of an example, and false if the filter cannot judge it. The numbers of different filters
	// are not comparable.
	Hardness(e *Example) (float64, bool)
	// String returns the formula.
	String() string
}

// Names of filters.
const (
	Threshold    = "threshold"
	CrossEntropy = "cross-entropy"
	IBT          = "ibt"
	Random       = "random"
	EdgeOnly     = "edge"
	CloudOnly    = "cloud"
	Margin       = "margin"
	Band         = "band"
	Energy       = "energy"
)

// Config selects a filter.
type Config struct {
	Filter      string  // edge, cloud, random, threshold, cross-entropy, ibt, margin, band or energy
	Threshold   float64 // see each filter; Default sets a suitable value
	Box         float64 `within:"0 1"`  // ibt: boxes with at most this score are hard
	Width       float64 `within:"0 10"` // band: largest distance from the threshold, relative to it
	Temperature float64 // energy
	Seed        uint64  // random
	Share       float64 `within:"0 1"` // if above 0, the hardest share of the recent examples is hard, and Threshold has no effect
}

// Default returns the default configuration of a filter. Sedna's filters have Sedna's defaults.
func Default(filter string) Config {
	c := Config{Filter: filter, Threshold: 0.5, Box: 0.5, Width: 0.2, Temperature: 1}
	switch filter {
	case Random:
		c.Threshold = 0.3
	case Margin:
		c.Threshold = 0.2
	case Energy:
		c.Threshold = -5
	}
	return c
}

// Validate reports all problems together.
func (c Config) Validate() error {
	p := check.Fields("Hard", c)
	p.OneOf("Filter", c.Filter, EdgeOnly, CloudOnly, Random, Threshold, CrossEntropy, IBT, Margin, Band, Energy)
	if c.Filter == Energy {
		check.Range(p, "Threshold", c.Threshold, -1e6, 1e6)
		check.Range(p, "Temperature", c.Temperature, 0.001, 1000)
	} else {
		check.Range(p, "Threshold", c.Threshold, 0, 1)
	}
	if c.Share > 0 && (c.Filter == EdgeOnly || c.Filter == CloudOnly) {
		p.Addf("Share", c.Share, "must be 0 for the filter %s, to which all examples are equal", c.Filter)
	}
	return p.Err()
}

// New returns the configured filter.
func New(c Config) (Filter, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Share > 0 {
		return newHardest(c.fixed(), c.Share), nil
	}
	return c.fixed(), nil
}

// fixed returns the filter with a fixed threshold.
func (c Config) fixed() Filter {
	switch c.Filter {
	case Threshold:
		return threshold{c.Threshold}
	case CrossEntropy:
		return crossEntropy{c.Threshold}
	case IBT:
		return ibt{c.Threshold, c.Box}
	case Random:
		return newDraw(c.Threshold, c.Seed)
	case Margin:
		return margin{c.Threshold}
	case Band:
		return band{c.Width}
	case Energy:
		return energy{c.Threshold, c.Temperature}
	}
	return always(c.Filter == CloudOnly)
}

// always is cloud-only if true, and edge-only if false.
type always bool

func (a always) Hard(*Example) bool { return bool(a) }

// Hardness returns false: all examples are equal.
func (a always) Hardness(*Example) (float64, bool) { return 0, false }

func (a always) String() string {
	if a {
		return "every example is hard"
	}
	return "no example is hard"
}

// threshold selects examples whose mean box score is below a limit.
type threshold struct{ limit float64 }

func (f threshold) Hard(e *Example) bool {
	mean, ok := mean(e.Boxes)
	return ok && mean < f.limit
}

// Hardness is the negative mean score.
func (f threshold) Hardness(e *Example) (float64, bool) {
	mean, ok := mean(e.Boxes)
	return -mean, ok
}

func mean(list []float64) (float64, bool) {
	sum := 0.
	for _, v := range list {
		sum += v
	}
	return sum / float64(max(len(list), 1)), len(list) > 0
}

func (f threshold) String() string { return fmt.Sprintf("mean(boxes) < %g", f.limit) }

// crossEntropy selects examples whose confidence 1 + Σ p·ln p / ln n is below a limit. The confidence is 1 for a certain answer and 0 for equal
// probabilities. Sedna fails on a probability of 0 and on a single class; this filter uses 0·ln 0 = 0, and a single class has confidence 1.
type crossEntropy struct{ limit float64 }

func (f crossEntropy) Hard(e *Example) bool {
	confidence, ok := certainty(e)
	return ok && confidence < f.limit
}

// Hardness is 1 minus the confidence.
func (f crossEntropy) Hardness(e *Example) (float64, bool) {
	confidence, ok := certainty(e)
	return 1 - confidence, ok
}

func certainty(e *Example) (float64, bool) {
	if len(e.Scores) == 0 || !shares(e.Scores) {
		return 0, false
	}
	sum := 0.
	for _, p := range e.Scores {
		if p > 0 {
			sum += p * math.Log(p)
		}
	}
	confidence := 1.
	if len(e.Scores) > 1 {
		confidence += sum / math.Log(float64(len(e.Scores)))
	}
	return confidence, true
}

func (f crossEntropy) String() string { return fmt.Sprintf("1 + Σ p·ln p / ln n < %g", f.limit) }

// shares reports whether all values are within 0 and 1.
func shares(list []float64) bool {
	for _, v := range list {
		if !(v >= 0 && v <= 1) {
			return false
		}
	}
	return true
}

// ibt (image, box threshold) selects examples in which the share of boxes with a score of at most box is at least 1 − limit.
type ibt struct{ limit, box float64 }

func (f ibt) Hard(e *Example) bool {
	share, ok := f.Hardness(e)
	return ok && share >= 1-f.limit
}

// Hardness is the share of hard boxes.
func (f ibt) Hardness(e *Example) (float64, bool) {
	if len(e.Boxes) == 0 || !shares(e.Boxes) {
		return 0, false
	}
	hard := 0
	for _, s := range e.Boxes {
		if s <= f.box {
			hard++
		}
	}
	return float64(hard) / float64(len(e.Boxes)), true
}

func (f ibt) String() string { return fmt.Sprintf("share(boxes ≤ %g) ≥ %g", f.box, 1-f.limit) }

// margin selects examples whose two largest probabilities differ by less than a limit.
type margin struct{ limit float64 }

func (f margin) Hard(e *Example) bool {
	h, ok := f.Hardness(e)
	return ok && -h < f.limit
}

// Hardness is the negative margin.
func (f margin) Hardness(e *Example) (float64, bool) {
	if len(e.Scores) < 2 {
		return 0, false
	}
	first, second := math.Inf(-1), math.Inf(-1)
	for _, p := range e.Scores {
		switch {
		case p > first:
			first, second = p, first
		case p > second:
			second = p
		}
	}
	return second - first, true
}

func (f margin) String() string { return fmt.Sprintf("first − second < %g", f.limit) }

// band selects reconstructions whose error is near the threshold between normal and anomaly, on either side.
type band struct{ width float64 }

func (f band) Hard(e *Example) bool {
	return e.Threshold > 0 && math.Abs(e.Error-e.Threshold) <= f.width*e.Threshold
}

// Hardness is the negative distance from the threshold, relative to it.
func (f band) Hardness(e *Example) (float64, bool) {
	if !(e.Threshold > 0) {
		return 0, false
	}
	return -math.Abs(e.Error-e.Threshold) / e.Threshold, true
}

func (f band) String() string { return fmt.Sprintf("|error − threshold| ≤ %g·threshold", f.width) }

// energy selects examples whose free energy −T·ln Σ exp(logit/T) is above a limit (Liu et al., Energy-based Out-of-distribution Detection, 2020). It
// is low for data like the training data.
type energy struct{ limit, temperature float64 }

func (f energy) Hard(e *Example) bool {
	return len(e.Logits) > 0 && Free(e.Logits, f.temperature) > f.limit
}

// Hardness is the energy.
func (f energy) Hardness(e *Example) (float64, bool) {
	if len(e.Logits) == 0 {
		return 0, false
	}
	return Free(e.Logits, f.temperature), true
}

func (f energy) String() string {
	return fmt.Sprintf("−T·ln Σ exp(logit/T) > %g, T = %g", f.limit, f.temperature)
}

// Free returns the free energy of logits at a temperature.
func Free(logits []float64, temperature float64) float64 {
	most, sum := math.Inf(-1), 0.
	for _, v := range logits {
		most = max(most, v)
	}
	for _, v := range logits {
		sum += math.Exp((v - most) / temperature)
	}
	return -most - temperature*math.Log(sum)
}

// draw selects a random share of all examples.
type draw struct {
	share float64
	next  func() float64
}

func newDraw(share float64, seed uint64) *draw {
	if seed == 0 {
		return &draw{share, rand.Float64}
	}
	return &draw{share, locked(rand.New(rand.NewPCG(seed, 1)))} //nolint:gosec // not a secret
}

// locked makes a generator safe for concurrent use.
func locked(r *rand.Rand) func() float64 {
	var mu sync.Mutex
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}

func (f *draw) Hard(*Example) bool { return f.next() < f.share }

// Hardness is a random number.
func (f *draw) Hardness(*Example) (float64, bool) { return f.next(), true }

func (f *draw) String() string { return fmt.Sprintf("random < %g", f.share) }
