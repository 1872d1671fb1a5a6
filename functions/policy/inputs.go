package policy

import (
	"math"

	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// The inputs of a learned network, in the order of Inputs. Weights are bound to this list by name.
const (
	inDeadline   = iota // ln of usual s
	inLocalTime         // ln of usual s, predicted
	inCloudTime         // ln of usual s, predicted
	inLocalWait         // ln of the usual s of it that earlier tasks take
	inCloudWait         // ln of the usual s of it that earlier tasks take
	inLocalWork         // ln of the usual s of it that are the task's own
	inCloudWork         // ln of the usual s of it that are the task's own
	inLocalLate         // local time over deadline, cut off at lateAt
	inCloudLate         // cloud time over deadline, likewise
	inLocalJoule        // ln J
	inCloudJoule        // ln J
	inOthers            // share of the CPU that others take
	inGoodput           // ln of MB in a usual second
	inRTT               // ln of usual s
	inQueue             // ln of 1 + tasks waiting here
	inBacklog           // ln of 1 + tasks waiting for the link
	inSaving            // predicted cost here less predicted cost there, as policy greedy would weigh it
	inAdvice            // ln of the cost here over the cost there, as policy cost weighs them by default
	inLately            // ln of tasks in a usual second that arrived lately
	inLong              // ln of tasks in a usual second that arrived over a longer while
	NumInputs
)

// SavingInput is the input that alone decides greedily, above 0 for the cloud.
const SavingInput = inSaving

// InputNames are the names of the inputs, in their order. Times are in usual seconds (see Arrivals), so that no input depends on the scale of
// time. The advice has its formula in its name. Weights that were trained with other inputs or another advice are refused.
var InputNames = [NumInputs]string{
	"deadline in usual s", "localTime in usual s", "cloudTime in usual s", "localWait in usual s", "cloudWait in usual s",
	"localWork in usual s", "cloudWork in usual s", "localLate", "cloudLate",
	"localJoule", "cloudJoule", "others", "goodput in a usual s", "rtt in usual s", "queue", "backlog", "saving",
	"advice of " + adviser.formula(), "lately in a usual s", "long in a usual s",
}

const (
	lateAt  = 3.0  // beyond three deadlines late is late
	instant = 1e-2 // usual s, J and MB in a usual second that are taken for next to nothing
	fewest  = 0.1  // tasks in a usual second that are taken for next to none
	certain = 1e-4 // share of the cost beyond which an advice is not taken for clearer
)

// adviser is policy cost as it is by default, without the tail and with prices that follow deadlines alone. A network is trained with its
// advice, so it is no user's to tune.
var adviser = func() *cost {
	c := DefaultConfig()
	c.CostPrice, c.CostMemory, c.CostBattery = 0, 0, 0 // it was trained on nodes that have enough
	c.CostTail = 0
	return costOf(c)
}()

// advice is the adviser's score as log-odds, above 0 for the cloud.
func advice(t *task.Task, e *score.Estimate, s *host.State, usual float64) float64 {
	local, cloud := waysOf(e, s)
	share := min(max(adviser.choose(t, e, s, local, cloud, beat{usual, 1}).Score, certain), 1-certain)
	return math.Log(share / (1 - share))
}

// Inputs fills x for one decision, given the arrivals up to it. An unbounded deadline or an unusable way gives an infinite input, which is outside of
// everything that was trained.
func Inputs(t *task.Task, e *score.Estimate, s *host.State, a Arrivals, x *[NumInputs]float64) {
	u, deadline := a.Usual, score.Slack(t, s)
	localWait := e.LocalTime * s.QueueCycles / max(s.QueueCycles+e.Cycles, 1e-9)
	ahead := s.Link.BytesAhead(1, 1)
	cloudWait := min(ahead/max(s.Link.Goodput, 1), e.CloudTime)
	localLate, cloudLate := late(e.LocalTime, deadline), late(e.CloudTime, deadline)
	*x = [NumInputs]float64{
		inDeadline:   ln(deadline * u),
		inLocalTime:  ln(e.LocalTime * u),
		inCloudTime:  ln(e.CloudTime * u),
		inLocalWait:  ln(localWait * u),
		inCloudWait:  ln(cloudWait * u),
		inLocalWork:  ln((e.LocalTime - localWait) * u),
		inCloudWork:  ln((e.CloudTime - cloudWait) * u),
		inLocalLate:  localLate,
		inCloudLate:  cloudLate,
		inLocalJoule: ln(e.LocalEnergy),
		inCloudJoule: ln(e.CloudEnergy),
		inOthers:     min(max(s.CPU-s.OwnCPU, 0), 100) / 100,
		inGoodput:    ln(s.Link.Goodput / 1e6 / u),
		inRTT:        ln(s.Link.RTT * u),
		inQueue:      math.Log(1 + float64(max(s.QueueTasks, 0))),
		inBacklog:    math.Log(1 + float64(max(s.Link.BacklogTasks, 0))),
		inSaving:     weighed(localLate, e.LocalEnergy) - weighed(cloudLate, e.CloudEnergy) - 0.05,
		inAdvice:     advice(t, e, s, u),
		inLately:     math.Log(a.Lately + fewest),
		inLong:       math.Log(a.Long + fewest),
	}
}

// ln is the logarithm of what is next to nothing and more.
func ln(x float64) float64 { return math.Log(max(x, 0) + instant) }

func late(time, deadline float64) float64 {
	if deadline <= 0 {
		return lateAt
	}
	return min(time/deadline, lateAt)
}

// weighed is the cost of one way with the weights that training judges by; only their proportion matters to a network.
func weighed(late, joules float64) float64 {
	j := late + 0.05*joules
	if late > 1 {
		j++
	}
	return j
}
