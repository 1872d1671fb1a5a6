package policy

import (
	"fmt"
	"sync/atomic"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var (
	edgeInfo = Info{
		Name:    "edge",
		Summary: "Keeps every task local.",
		WhenNot: "The cloud has a use for the data. Use it as a bound for comparison, or for a class that the cloud does not need.",
	}
	cloudInfo = Info{
		Name:    "cloud",
		Summary: "Sends every task to the cloud; the spool holds what the link cannot carry yet.",
		WhenNot: "The uplink carries less than the sensors produce, or results are needed locally in time.",
	}
	randomInfo = Info{
		Name:    "random",
		Summary: "Draws for each task, with a configured share for the cloud. Its decisions let other policies be evaluated offline.",
		WhenNot: "The target of a task matters.",
	}
)

// fixed always returns the same decision. It implements the policies edge and cloud.
type fixed struct {
	info   *Info
	answer decision.Decision
}

func newEdge(Config) Policy {
	return fixed{&edgeInfo, decision.Decision{Target: decision.Local, Threshold: half, Propensity: 1, Reason: decision.Fixed}}
}

func newCloud(Config) Policy {
	return fixed{&cloudInfo, decision.Decision{Target: decision.Cloud, Score: 1, Threshold: half, Propensity: 1, Reason: decision.Fixed}}
}

func (f fixed) Name() string { return f.info.Name }

func (f fixed) Decide(*task.Task, *score.Estimate, *host.State) decision.Decision { return f.answer }

func (f fixed) String() string { return fmt.Sprintf("%s: always %s", f.info.Name, f.answer.Target) }

// random draws. The draws of one seed are always the same sequence; their distribution over concurrent callers is not defined.
type random struct {
	share float64
	seed  uint64
	draws atomic.Uint64
}

func newRandom(c Config) Policy { return &random{share: c.RandomShare, seed: uint64(c.RandomSeed)} }

func (r *random) Name() string { return randomInfo.Name }

// Decide uses the draw itself as the score, so that score and threshold read as with any other policy.
func (r *random) Decide(*task.Task, *score.Estimate, *host.State) decision.Decision {
	drawn := decision.Uniform(r.seed, r.draws.Add(1))
	d := decision.Decision{Target: decision.Local, Score: drawn, Threshold: 1 - r.share, Propensity: 1 - r.share, Reason: decision.Drawn}
	if d.Score >= d.Threshold {
		d.Target, d.Propensity = decision.Cloud, r.share
	}
	return d
}

func (r *random) String() string {
	return fmt.Sprintf("random: cloud for %.4g of the tasks, seed %d", r.share, r.seed)
}
