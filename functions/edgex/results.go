package edgex

import (
	"cmp"

	"app-offload/functions/local"
)

// results publishes the results of local work on the MessageBus.
type results struct {
	bus  *Bus
	name string
}

// NewResults returns a Publisher that publishes results on the bus, as events of their devices.
func NewResults(bus *Bus, service string) local.Publisher { return &results{bus, service} }

func (r *results) Publish(result local.Result) error {
	payload, contentType, err := result.Encode()
	if err != nil {
		return err
	}
	return r.bus.Publish(result.Topic(r.name), contentType, cmp.Or(result.CorrelationID, result.Event.Id), payload)
}
