package receive

import (
	"context"

	"app-offload/functions/intake"
)

// Source is a source of events: the acknowledging subscriber of an MQTT bus, or a reader of any other bus. Start returns immediately and is called
// once. Stop delivers received events as long as ctx allows. Problem returns why no events arrive, "" while they do. Stop and Problem are safe for
// concurrent use.
type Source interface {
	Start(ctx context.Context)
	Stop(ctx context.Context) error
	Problem() string
}

// ExpectSource announces that a source will be watched: until then there is a problem.
func (r *Receiver) ExpectSource() {
	waiting := func() string { return "the trigger has not started yet" }
	r.problem.Store(&waiting)
}

// WatchSource makes Problem report this source's problem.
func (r *Receiver) WatchSource(src Source) {
	problem := src.Problem
	r.problem.Store(&problem)
}

// Problem returns why no events arrive, "" while they do.
func (r *Receiver) Problem() string {
	if f := r.problem.Load(); f != nil {
		return (*f)()
	}
	return ""
}

// Rival returns a description of another client that takes over the connection to the MQTT bus, "" if there is no such client.
func (r *Receiver) Rival() string {
	if sub := r.subscriber.Load(); sub != nil {
		return sub.Rival()
	}
	return ""
}

// MQTTSource returns the source for an MQTT bus with acknowledgements. It sets the fields of bus that the Receiver knows: which messages to skip, and
// where to store the subscriptions.
func (r *Receiver) MQTTSource(bus intake.Bus) (Source, error) {
	bus.Skip, bus.Remember = r.deps.Skip, r.deps.Subscriptions
	sub, err := intake.NewSubscriber(r.cfg, bus, r.deps.Again, r.Quarantine, r.deps.Log)
	if err != nil {
		return nil, err
	}
	r.subscriber.Store(sub)
	return subscriberSource{sub}, nil
}

// subscriberSource describes the subscriber's connection as a problem.
type subscriberSource struct{ *intake.Subscriber }

func (s subscriberSource) Problem() string { return problemOf(s.Counts()) }

func problemOf(c intake.SubscriberCounts) string {
	switch {
	case !c.Connected:
		return "not connected to the MQTT MessageBus"
	case !c.Subscribed:
		return "not subscribed at the MQTT MessageBus yet"
	}
	return ""
}
