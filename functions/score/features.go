package score

import (
	"math"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

// The features, in the order of Features. Appending one is fine; moving one invalidates all learned weights.
const (
	Size          = iota // of the data, half at 64 KB
	Complexity           // of 100
	Work                 // Mcycles, half at 300
	CPU                  // busy share
	Memory               // used share
	Queue                // time until a local worker is free, half at 1 s
	Backlog              // used share of the spool
	Ahead                // time until the link is free, half at 1 s
	RTT                  // half at 100 ms
	Goodput              // half at 1 MB/s
	DeadlineSlack        // time until the deadline, half at 1 s; 1 without one, 0 when it has passed
	LocalTime            // predicted, half at 1 s
	CloudTime            // predicted, half at 1 s; 1 when the link is down
	Sooner               // local time as a share of local plus cloud time: above a half the cloud is sooner
	LinkUp               // 1 when up
	OnBattery            // 1 when on battery
	Priority             // of 9
	NumFeatures
)

// Features are the inputs of policies, each within [0,1]. Unbounded quantities x become x/(x+half), which never saturates completely, keeps the order
// and needs no logarithm.
type Features [NumFeatures]float64

// FeatureNames are the names of the features, in their order.
var FeatureNames = [NumFeatures]string{
	"size", "complexity", "work", "cpu", "memory", "queue", "backlog", "ahead", "rtt", "goodput", "slack", "localTime",
	"cloudTime", "sooner", "linkUp", "onBattery", "priority",
}

// Features fills f for a task, its estimate and the node's state.
func (m *Model) Features(t *task.Task, e *Estimate, s *host.State, f *Features) {
	local, cloud := m.conditionsOf(s)
	*f = Features{
		Size:          squash(float64(t.Size()), 64*KB),
		Complexity:    between(t.Complexity/100, 0, 1),
		Work:          squash(e.Cycles, 300),
		CPU:           between(s.CPU/100, 0, 1),
		Memory:        between(s.Memory/100, 0, 1),
		Queue:         squash(s.QueueCycles/local.rate, 1),
		Backlog:       between(s.Link.BacklogShare, 0, 1),
		Ahead:         squash(m.bytesAhead(&s.Link)/cloud.goodput, 1),
		RTT:           squash(cloud.rtt, 0.1),
		Goodput:       squash(cloud.goodput, 1e6),
		DeadlineSlack: squash(Slack(t, s), 1),
		LocalTime:     squash(e.LocalTime, 1),
		CloudTime:     squash(e.CloudTime, 1),
		Sooner:        squash(e.LocalTime, e.CloudTime),
		LinkUp:        bit(s.Link.Up),
		OnBattery:     bit(s.OnBattery),
	}
	if t.Class != nil {
		f[Priority] = between(float64(t.Class.Priority)/9, 0, 1)
	}
}

// squash maps [0,∞] onto [0,1] with half onto a half. NaN and negative values become 0.
func squash(x, half float64) float64 {
	if !(x > 0) || math.IsInf(half, 1) {
		return 0
	}
	// In this form nothing overflows, and an infinite x gives exactly 1.
	return 1 / (1 + half/x)
}

func bit(set bool) float64 {
	if set {
		return 1
	}
	return 0
}
