package policy

import (
	"fmt"
	"math"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var deadlineInfo = Info{
	Name:    "deadline",
	Summary: "Keeps a task local while local is predicted to meet its deadline; sends it if local is late and the cloud is not later.",
	WhenNot: "The node's time or energy is scarce: it uses all of both before it sends anything. Tasks without a deadline count as having one of CostPatience.",
}

// deadline chooses the cloud if the predicted local completion misses the deadline and the cloud's does not miss it by more. A task without a
// deadline has one of patience seconds: otherwise no such task would ever leave, and their local queue would grow without end.
type deadline struct {
	patience float64
	scarce   *scarce
}

func newDeadline(c Config) Policy { return deadline{c.CostPatience, &costOf(c).scarce} }

func (deadline) Name() string { return deadlineInfo.Name }

// half is the score on the border: the local time equals the time left, or the time of the cloud.
const half = 0.5

// Decide scores local/(local + max(slack, cloud)): above a half the task is late locally, and the cloud is sooner.
func (p deadline) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	slack := max(p.left(t, s), 0)
	d := decision.Decision{Threshold: half, Propensity: 1, Score: share(e.LocalTime, max(slack, e.CloudTime))}
	switch {
	case !(e.LocalTime > slack):
		d.Target, d.Reason = decision.Local, decision.LocalMeets
	case e.CloudTime <= e.LocalTime && !math.IsInf(e.CloudTime, 1):
		d.Target, d.Reason = decision.Cloud, decision.LocalMisses
	default:
		d.Target, d.Reason = decision.Local, decision.BothMissLocal
	}
	if d.Target == decision.Local {
		// Rounding on the border must not contradict the decision.
		d.Score = min(d.Score, math.Nextafter(half, 0))
	} else {
		d.Score = max(d.Score, half)
	}
	return p.scarce.predicted(e, s).settle(d)
}

// left returns the time until the deadline, s.
func (p deadline) left(t *task.Task, s *host.State) float64 {
	if t.Deadline > 0 {
		return score.Slack(t, s)
	}
	if t.Received > 0 {
		return p.patience - max(float64(s.Time-t.Received)/1e9, 0)
	}
	return p.patience
}

// share returns a/(a+b) in [0,1], for times that may be zero or infinite.
func share(a, b float64) float64 {
	if !(a > 0) || math.IsInf(b, 1) || math.IsNaN(b) {
		return 0
	}
	return 1 / (1 + b/a)
}

func (p deadline) String() string {
	return fmt.Sprintf("deadline: cloud if local time > time left and cloud time ≤ local time; %.4g s where there is no deadline", p.patience)
}
