package sim

// Servers is the state of node and link: the work that each will have done when it becomes free, on the scale of Rate.Done. On this scale a task only
// adds its work, so a state is two numbers and needs no time.
type Servers struct {
	Edge float64 // Mcycles
	Link float64 // bytes
}

// Idle is the state before the first task.
func (e *Episode) Idle() Servers { return Servers{e.Edge.Done(0), e.Link.Done(0)} }

// Local computes job i on the node: E′ = M⁻¹(M(max(t,E)) + c), T = E′ − t + a. It returns the node's new state and T.
func (e *Episode) Local(i int, edge float64) (next, took float64) {
	return e.LocalFrom(i, edge, e.Jobs[i].At)
}

// LocalFrom is Local for a job bound to the node at time from. T still counts from its arrival.
func (e *Episode) LocalFrom(i int, edge, from float64) (next, took float64) {
	j := &e.Jobs[i]
	next = max(edge, e.Edge.Done(from)) + j.Mcycles
	return next, e.Edge.When(next) - j.At + j.Answer
}

// Sent returns the time at which the link has sent job i: A′ = N⁻¹(N(max(t,A)) + s + h), with the link's new state.
func (e *Episode) Sent(i int, link float64) (next, at float64) {
	return e.SentFrom(i, link, e.Jobs[i].At)
}

// SentFrom is Sent for a job bound to the link at time from.
func (e *Episode) SentFrom(i int, link, from float64) (next, at float64) {
	next = max(link, e.Link.Done(from)) + e.Jobs[i].Bytes + e.Config.HeaderBytes
	return next, e.Link.When(next)
}

// Cloud sends job i: T = A′ − t + RTT + o + z·c/F_c. It returns the link's new state and T.
func (e *Episode) Cloud(i int, link float64) (next, took float64) {
	j := &e.Jobs[i]
	next, at := e.Sent(i, link)
	return next, at - j.At + e.Away(i)
}

// Away is the part of T that job i spends beyond the link.
func (e *Episode) Away(i int) float64 {
	j := &e.Jobs[i]
	return j.RTT + e.Config.Overhead + j.Slowness*j.Mcycles/e.Config.CloudMcycles
}

// Joules is the energy of job i from the node's battery.
func (e *Episode) Joules(i int, cloud bool) float64 {
	if cloud {
		return (e.Jobs[i].Bytes + e.Config.HeaderBytes) * e.Config.RadioJoules
	}
	return e.Jobs[i].Mcycles * e.Config.EdgeJoules
}

// Cost is J of job i.
func (e *Episode) Cost(i int, cloud bool, took float64) float64 {
	return e.Config.Cost.Of(took, e.Jobs[i].Deadline, e.Joules(i, cloud), cloud)
}
