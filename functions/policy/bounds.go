package policy

import (
	"fmt"
	"sync/atomic"

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

// fixed always answers the same. It is the policies edge and cloud.
type fixed struct {
	info   *Info
	answer Decision
}

func newEdge(Config) Policy {
	return fixed{&edgeInfo, Decision{Target: Local, Threshold: half, Propensity: 1, Reason: Fixed}}
}

func newCloud(Config) Policy {
	return fixed{&cloudInfo, Decision{Target: Cloud, Score: 1, Threshold: half, Propensity: 1, Reason: Fixed}}
}

func (f fixed) Name() string { return f.info.Name }

func (f fixed) Decide(*task.Task, *score.Estimate, *host.State) Decision { return f.answer }

func (f fixed) String() string { return fmt.Sprintf("%s: always %s", f.info.Name, f.answer.Target) }

// random draws. The draws of one seed are always the same sequence; which of several concurrent callers gets which of
// them is open.
type random struct {
	share float64
	seed  uint64
	draws atomic.Uint64
}

func newRandom(c Config) Policy { return &random{share: c.RandomShare, seed: uint64(c.RandomSeed)} }

func (r *random) Name() string { return randomInfo.Name }

// Decide scores with the draw itself, so that score and threshold read as with any other policy.
func (r *random) Decide(*task.Task, *score.Estimate, *host.State) Decision {
	drawn := uniform(r.seed, r.draws.Add(1))
	d := Decision{Target: Local, Score: drawn, Threshold: 1 - r.share, Propensity: 1 - r.share, Reason: Drawn}
	if d.Score >= d.Threshold {
		d.Target, d.Propensity = Cloud, r.share
	}
	return d
}

func (r *random) String() string {
	return fmt.Sprintf("random: cloud for %.4g of the tasks, seed %d", r.share, r.seed)
}

// uniform is the n-th draw of a seed in [0,1): the finalizer of SplitMix64 over a counter, which needs neither a lock nor
// a state that goroutines would have to share beyond the counter.
func uniform(seed, n uint64) float64 {
	z := seed + n*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}
