package functions

import (
	"math"
	"os"
	"runtime/debug"
)

// thrift collects garbage earlier while no batch leaves, or fewer than come in. The backlog takes additional memory then, and there is
// little sealing and sending for the collector to slow down; so an outage or a slow link needs hardly more memory than a good link. And it
// has the collector work as hard as it must where memory comes near to what is configured: a few messages of the largest size are held within that, while their garbage is
// not. It belongs to one goroutine. A GOGC or GOMEMLIMIT that is set takes precedence.
type thrift struct {
	percent, limit bool // may be set
	saving         bool
	most           int64
}

const (
	usualGC  = 100 // Go's default
	savingGC = 50
	ownBytes = 20 << 20 // of the process without what is configured; of the 80 MiB that users are to reckon with, the rest is outside of Go's memory
	leastNew = 1 << 20  // a change of the limit below that is not worth it
)

func newThrift() *thrift {
	return &thrift{percent: os.Getenv("GOGC") == "", limit: os.Getenv("GOMEMLIMIT") == ""}
}

// set begins or ends the saving.
func (t *thrift) set(saving bool) {
	if !t.percent || t.saving == saving {
		return
	}
	t.saving = saving
	if saving {
		debug.SetGCPercent(savingGC)
	} else {
		debug.SetGCPercent(usualGC)
	}
}

// hold says what may be held, in bytes.
func (t *thrift) hold(bytes int64) {
	if most := bytes + ownBytes; t.limit && max(most-t.most, t.most-most) >= leastNew {
		t.most = most
		debug.SetMemoryLimit(most)
	}
}

// end takes back what was set.
func (t *thrift) end() {
	t.set(false)
	if t.most > 0 {
		t.most = 0
		debug.SetMemoryLimit(math.MaxInt64)
	}
}

const (
	decisionBytes = 600
	resourceBytes = 2 << 10
)

// holds is what the service may hold in memory by its configuration, in bytes, with the parked tasks and the resources that there are: the sum that the
// documentation gives for a container's limit.
func (s *Service) holds() int64 {
	c := s.Config()
	mib := c.Spool.RingMiB + c.Spool.PendingMiB + c.Intake.MaxMiB + c.Local.SampleMiB
	bytes := int64(mib)<<20 + int64(c.Export.MaxInflightKiB)<<10 + int64(c.Writable.Policy.Decisions)*decisionBytes
	return bytes + s.parker.Status().Bytes + s.local.Counts().Keys*resourceBytes
}
