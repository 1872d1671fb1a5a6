package health

import (
	"app-offload/functions/export"
	"app-offload/functions/host"
	"app-offload/functions/infer"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// Facts is a snapshot of the service. Counters are since the start; "" means no problem.
type Facts struct {
	Node     string
	Stopping bool

	Intake   string // problem of the source of events
	Rival    string // problem with another client that takes over the connection to the bus
	Messages uint64 // received, including quarantined ones
	Events   status.EventCounts
	Counts   status.Counts
	Drops    status.DropStatus

	Looped      uint64 // events that were results of this service, fed back to it
	LoopDevices string // devices that feed them back

	Directory    string // of the spool
	Spool        spool.Stats
	BacklogLimit float64 // share of the spool above which work is kept local

	Link   host.Link
	Export export.Stats
	Models *infer.Stats // nil without models

	Keys       string // problem
	KeysBroken bool   // no key can be used

	Configuration string // problem of the last change
	Learned       string // problem of saving the learned state
	Canary        *status.CanaryStatus
}
