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
	inLocalWork         // ln of the usual s of it that the task itself takes
	inCloudWork         // ln of the usual s of it that the task itself takes
	inLocalLate         // local time over deadline, cut off at lateAt
	inCloudLate         // cloud time over deadline, likewise
	inLocalJoule        // ln J
	inCloudJoule        // ln J
	inOthers            // share of the CPU that other processes take
	inGoodput           // ln of MB in a usual second
	inRTT               // ln of usual s
	inQueue             // ln of 1 + tasks in the local queue
	inBacklog           // ln of 1 + tasks in the link's backlog
	inSaving            // predicted local cost less predicted cloud cost, as policy greedy would weigh them
	inAdvice            // ln of local cost over cloud cost, as policy cost weighs them by default
	inLately            // ln of recent arrivals in a usual second
	inLong              // ln of arrivals in a usual second over a longer time
	NumInputs
)

// SavingInput is the input that alone decides greedily, above 0 for the cloud.
const SavingInput = inSaving

// InputNames are the names of the inputs, in their order. Times are in usual seconds (see Arrivals), so that no input depends on the scale of time.
// The name of the advice contains its formula. Weights trained with other inputs or another advice are rejected.
var InputNames = [NumInputs]string{
	"deadline in usual s", "localTime in usual s", "cloudTime in usual s", "localWait in usual s", "cloudWait in usual s",
	"localWork in usual s", "cloudWork in usual s", "localLate", "cloudLate",
	"localJoule", "cloudJoule", "others", "goodput in a usual s", "rtt in usual s", "queue", "backlog", "saving",
	"advice of " + adviser.formula(), "lately in a usual s", "long in a usual s",
}

const (
	lateAt  = 3.0  // no lateness counts as more than this many deadlines
	instant = 1e-2 // least usual s, J, and MB in a usual second
	fewest  = 0.1  // least tasks in a usual second
	certain = 1e-4 // least share of the cost, which bounds the log-odds of the advice
)

// adviser is policy cost with default settings, without the tail and with prices that follow deadlines alone. A network is trained with its advice,
// so the user cannot configure it.
var adviser = func() *cost {
	c := DefaultConfig()
	c.CostPrice, c.CostMemory, c.CostBattery = 0, 0, 0 // the training nodes were short of none of these
	c.CostTail = 0
	return costOf(c)
}()

// advice returns the adviser's score as log-odds, above 0 for the cloud.
func advice(t *task.Task, e *score.Estimate, s *host.State, usual float64) float64 {
	local, cloud := timings(e, s)
	share := min(max(adviser.choose(t, e, s, local, cloud, beat{usual, 1}).Score, certain), 1-certain)
	return math.Log(share / (1 - share))
}

// Inputs fills x for one decision, given the arrivals up to it. A missing deadline or an unusable target gives an infinite input, which is outside of
// any training.
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

// ln returns the logarithm of x + instant, and of instant for a negative x.
func ln(x float64) float64 { return math.Log(max(x, 0) + instant) }

func late(time, deadline float64) float64 {
	if deadline <= 0 {
		return lateAt
	}
	return min(time/deadline, lateAt)
}

// weighed returns the cost of one target with the weights that training uses; only their proportion matters to a network.
func weighed(late, joules float64) float64 {
	j := late + 0.05*joules
	if late > 1 {
		j++
	}
	return j
}
