package health

import (
	"app-offload/functions/export"
	"app-offload/functions/host"
	"app-offload/functions/infer"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// Facts is what is known of the service at one moment. Counters are since the start; a problem is "" while all is well.
type Facts struct {
	Node     string
	Stopping bool

	Intake   string // problem of the source of events
	Rival    string // problem with another client that takes the connection to the bus over
	Messages uint64 // that came in, with those that were quarantined
	Events   status.EventCounts
	Counts   status.Counts
	Drops    status.DropStatus

	Looped      uint64 // events that were results of this service, fed back to it
	LoopDevices string // the devices that feed them back

	Directory    string // of the spool
	Spool        spool.Stats
	BacklogLimit float64 // the share of the spool above which work is kept local

	Link   host.Link
	Export export.Stats
	Models *infer.Stats // nil without models

	Keys       string // problem
	KeysBroken bool   // no key can be used

	Configuration string // problem of the last change
	Learned       string // problem of keeping what was learned
	Canary        *status.CanaryStatus
}
