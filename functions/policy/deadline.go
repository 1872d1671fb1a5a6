package policy

import (
	"math"

	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var deadlineInfo = Info{
	Name:    "deadline",
	Summary: "Keeps a task local while local is predicted to meet its deadline; sends it if local is late and the cloud is not later.",
	WhenNot: "Tasks have no deadline: they never leave. It also uses all of the node's time and energy before it sends anything.",
}

// deadline is cloud if the predicted local completion misses the deadline and the cloud's does not miss it by more.
type deadline struct{}

func newDeadline(Config) Policy { return deadline{} }

func (deadline) Name() string { return deadlineInfo.Name }

// half is the score on the border: the local way takes exactly as long as there is time, or exactly as long as the cloud.
const half = 0.5

// Decide scores local/(local + later of slack and cloud): above a half the task is late here, and the cloud is sooner.
func (deadline) Decide(t *task.Task, e *score.Estimate, s *host.State) Decision {
	slack := max(score.Slack(t, s), 0)
	d := Decision{Threshold: half, Propensity: 1, Score: share(e.LocalTime, max(slack, e.CloudTime))}
	switch {
	case !(e.LocalTime > slack):
		d.Target, d.Reason = Local, LocalMeets
	case e.CloudTime <= e.LocalTime && !math.IsInf(e.CloudTime, 1):
		d.Target, d.Reason = Cloud, LocalMisses
	default:
		d.Target, d.Reason = Local, BothMissLocal
	}
	if d.Target == Local {
		// On the border itself rounding must not contradict the decision.
		d.Score = min(d.Score, math.Nextafter(half, 0))
	} else {
		d.Score = max(d.Score, half)
	}
	return d
}

// share is a/(a+b) in [0,1], for times that may be zero or infinite.
func share(a, b float64) float64 {
	if !(a > 0) || math.IsInf(b, 1) || math.IsNaN(b) {
		return 0
	}
	return 1 / (1 + b/a)
}

func (deadline) String() string {
	return "deadline: cloud if local time > time left and cloud time ≤ local time"
}
