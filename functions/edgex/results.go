package edgex

import (
	"cmp"

	"app-offload/functions/local"
)

// results publishes what local work found out on the MessageBus.
type results struct {
	bus  *Bus
	name string
}

// NewResults makes the Publisher that puts results on the bus, as events of the devices they are about.
func NewResults(bus *Bus, service string) local.Publisher { return &results{bus, service} }

func (r *results) Publish(result local.Result) error {
	payload, contentType, err := result.Encode()
	if err != nil {
		return err
	}
	return r.bus.Publish(result.Topic(r.name), contentType, cmp.Or(result.CorrelationID, result.Event.Id), payload)
}
