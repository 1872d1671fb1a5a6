package policy

import (
	"fmt"
	"math"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

const (
	weightedName = "weighted"
	rises        = "rises"
	falls        = "falls"
)

var weightedInfo = Info{
	Name:    weightedName,
	Summary: "Adds three weighted terms: size, complexity and CPU load. A score at or above the threshold means cloud.",
	WhenNot: "Tasks have deadlines, or the uplink is slow or unreliable: it considers neither, except for a target that would be far too late. Use cost.",
}

// weighted is score = w·size + w·complexity + w·cpu.
//
// The default preset sends tasks that are heavy to compute and small to send, and all the more when the CPU is busy:
//
//   - complexity rises, as the cloud computes faster than the node;
//   - CPU load rises, as a busy node has less to give; the published formula does the opposite;
//   - size falls, as in the published formula: the work and the bytes of a task both grow with its size, so what favours the
//     cloud is work per byte, which is the complexity. At equal complexity, sending a KB costs 1 ms at 8 Mbit/s, and computing
//     on it costs an idle node 0.4 ms at complexity 50; and bytes that stay local keep the link free for others.
//
// A formula of this kind ignores queues: it fills the queue of one target without end while the other is idle. So a task whose result would take more
// than latest deadlines goes to the other target if that is sooner.
//
// There are arguments for a rising size too (a large task outweighs the fixed cost of a round trip, and blocks the local queue for longer), so it was
// measured: see TestDefaultPresetIsTheBestOfTheDirections.
type weighted struct {
	preset                string
	size, complexity, cpu term
	threshold             float64
	clamp                 bool
	latest, patience      float64 // deadlines beyond which a result is far too late; deadline assumed for a task without one, s
}

// term is weight·x/scale, or weight·(1 − x/scale) where the score falls with x.
type term struct {
	weight, scale float64
	falls         bool
}

func newWeighted(c Config) Policy {
	w := weighted{preset: c.WeightedPreset, threshold: c.WeightedThreshold, clamp: true, latest: c.CostKappa, patience: c.CostPatience}
	switch c.WeightedPreset {
	case "article":
		w.clamp = false
		w.size, w.complexity, w.cpu = term{0.3, 1024, true}, term{0.5, 100, false}, term{0.2, 100, true}
	case "custom":
		w.size = term{c.SizeWeight, c.SizeScaleKB, c.SizeDirection == falls}
		w.complexity = term{c.ComplexityWeight, c.ComplexityScale, c.ComplexityDirection == falls}
		w.cpu = term{c.CPUWeight, c.CPUScale, c.CPUDirection == falls}
	default:
		w.size, w.complexity, w.cpu = term{0.3, 1024, true}, term{0.5, 100, false}, term{0.2, 100, false}
	}
	return w
}

func (w weighted) Name() string { return weightedName }

// Decide keeps the score within [0,1], except for the preset "article", which is exact: data over 1,024 KB makes its size term negative without a
// bound, and such tasks practically always stay local.
func (w weighted) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	d := decision.Decision{Threshold: w.threshold, Propensity: 1, Target: decision.Local, Reason: decision.BelowThreshold}
	d.Terms = decision.Terms{
		Size:       w.size.of(float64(t.Size())/score.KB, w.clamp),
		Complexity: w.complexity.of(t.Complexity, w.clamp),
		CPU:        w.cpu.of(s.CPU, w.clamp),
	}
	d.Score = d.Terms.Size + d.Terms.Complexity + d.Terms.CPU
	if w.clamp {
		d.Score = min(max(d.Score, 0), 1)
	}
	if d.Score >= w.threshold {
		d.Target, d.Reason = decision.Cloud, decision.AboveThreshold
	}
	chosen, other := e.LocalTime, e.CloudTime
	if d.Target == decision.Cloud {
		chosen, other = other, chosen
	}
	if other < chosen && chosen > w.latest*w.deadline(t) && !math.IsInf(chosen, 1) { // without a link the spool is there for outages
		return turned(d, decision.Sooner)
	}
	return d
}

// deadline returns the deadline of a task, s.
func (w weighted) deadline(t *task.Task) float64 {
	if t.Deadline > 0 {
		return t.Deadline.Seconds()
	}
	return w.patience
}

// of returns the term's share of the score. NaN and infinite values count as 0.
func (t term) of(x float64, clamp bool) float64 {
	x /= t.scale
	if math.IsNaN(x) || math.IsInf(x, 0) {
		x = 0
	}
	if clamp {
		x = min(max(x, 0), 1)
	}
	if t.falls {
		x = 1 - x
	}
	return t.weight * x
}

func (w weighted) String() string {
	within := ", within 0–1"
	if !w.clamp {
		within = ""
	}
	return fmt.Sprintf("%s (%s): %s + %s + %s%s; cloud from %.4g; the faster target if the other takes more than %.4g deadlines", weightedName, w.preset,
		w.size.show("KB"), w.complexity.show("complexity"), w.cpu.show("cpu"), within, w.threshold, w.latest)
}

func (t term) show(x string) string {
	if t.falls {
		return fmt.Sprintf("%.4g·(1−%s/%.4g)", t.weight, x, t.scale)
	}
	return fmt.Sprintf("%.4g·%s/%.4g", t.weight, x, t.scale)
}
