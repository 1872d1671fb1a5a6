package functions

import (
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// parker is late binding as the rest of the pipeline sees it.
type parker interface {
	park(r *run)                  // takes those tasks out of the run that are to wait undecided
	keep(r *run)                  // makes them durable, after all others of the run are on their ways, and gives the run back what is not
	Nudge()                       // node or link may be free
	Held() (records, bytes int64) // that the spool holds for parked tasks
	Load(s *host.State)           // adds them to a state
	Line(policy.Room) policy.Line // what is parked, in that room
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

// backlogView is the spool as the next task finds it: without the parked tasks, which are not ahead of it on the link.
type backlogView struct {
	*spool.Spool
	held func() (records, bytes int64)
}

// Fill is that of the spool without the records held for parked tasks. They fill their share of it all the same.
func (v backlogView) Fill() (records, bytes int64, share float64) {
	records, bytes, share = v.Spool.Fill()
	heldRecords, heldBytes := v.held()
	return max(records-heldRecords, 0), max(bytes-heldBytes, 0), share
}

// look reads the node's state as it is now: the one view of it for every policy, and for tasks that an API asks about. Of the link only
// what it has still to carry counts: neither what lacks nothing but its receipt, nor what has left, of which the acknowledgement is
// on its way.
func (p *Pipeline) look(s *host.State) {
	p.host.Read(s)
	s.ModelTasks, s.ModelSeconds = p.local.Models()
	s.Time = p.clock.Now() // of the decision: the sample may be a second old, and tasks are measured from now
	s.Link = p.link()
	s.Link.BacklogTasks, s.Link.BacklogBytes = p.spool.Ready()
	s.Link.Price = p.rules.Load().Model.Price(p.clock, s.Time)
	p.parker.Load(s)
}

const (
	decisionBytes = 600
	resourceBytes = 2 << 10
)

// Holds is what the service may hold in memory by its configuration, in bytes, with the parked tasks and the resources that there are: the
// sum that the documentation gives for a container's limit.
func (s *Service) Holds() int64 {
	c := s.Config()
	mib := c.Spool.RingMiB + c.Spool.PendingMiB + c.Intake.MaxMiB + c.Local.SampleMiB
	bytes := int64(mib)<<20 + int64(c.Export.MaxInflightKiB)<<10 + int64(c.Writable.Policy.Decisions)*decisionBytes
	return bytes + s.parker.Status().Bytes + s.local.Counts().Keys*resourceBytes
}
