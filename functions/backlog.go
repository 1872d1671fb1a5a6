package functions

import (
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// parker is the interface of late binding to the rest of the pipeline.
type parker interface {
	park(r *run)                  // takes the tasks to be parked out of the run
	keep(r *run)                  // makes them durable after all other tasks of the run are handed over; tasks that cannot be parked continue as decided
	Nudge()                       // node or link may be free
	Held() (records, bytes int64) // of parked tasks in the spool
	Load(s *host.State)           // adds the parked tasks to a node state
	Line(policy.Room) policy.Line // the parked tasks in that room
	Status() status.UndecidedStatus
}

// noParker parks no task.
type noParker struct{}

func (noParker) park(*run)                      {}
func (noParker) keep(*run)                      {}
func (noParker) Nudge()                         {}
func (noParker) Load(*host.State)               {}
func (noParker) Line(policy.Room) policy.Line   { return policy.Line{} }
func (noParker) Held() (records, bytes int64)   { return 0, 0 }
func (noParker) Status() status.UndecidedStatus { return status.UndecidedStatus{} }

// backlogView is the spool as a new task finds it: without the parked tasks, which are not ahead of it on the link.
type backlogView struct {
	*spool.Spool
	held func() (records, bytes int64)
}

// Fill is Spool.Fill without the records and bytes of parked tasks. share includes them.
func (v backlogView) Fill() (records, bytes int64, share float64) {
	records, bytes, share = v.Spool.Fill()
	heldRecords, heldBytes := v.held()
	return max(records-heldRecords, 0), max(bytes-heldBytes, 0), share
}

// look reads the current node state: the one view of it for every policy, and for tasks in the API. The link's backlog counts only bytes still to be
// sent: it excludes records that await only a receipt, and bytes that have left but are not acknowledged yet.
func (p *Pipeline) look(s *host.State) {
	p.host.Read(s)
	s.ModelTasks, s.ModelSeconds = p.local.Models()
	s.Time = p.clock.Now() // time of the decision: the sample may be a second old, and tasks are measured from now
	s.Link = p.link()
	s.Link.BacklogTasks, s.Link.BacklogBytes = p.spool.Ready()
	s.Link.Price = p.rules.Load().Model.Price(p.clock, s.Time)
	p.parker.Load(s)
}

const (
	decisionBytes = 600
	resourceBytes = 2 << 10
)

// Holds returns the most memory, in bytes, that the service may hold by its configuration, the parked tasks and the resources seen. The documentation
// gives the same sum for a container's limit.
func (s *Service) Holds() int64 {
	c := s.Config()
	mib := c.Spool.RingMiB + c.Spool.PendingMiB + c.Intake.MaxMiB + c.Local.SampleMiB
	bytes := int64(mib)<<20 + int64(c.Export.MaxInflightKiB)<<10 + int64(c.Writable.Policy.Decisions)*decisionBytes
	return bytes + s.parker.Status().Bytes + s.local.Counts().Keys*resourceBytes
}
