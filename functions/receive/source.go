package receive

import (
	"context"

	"app-offload/functions/intake"
)

// Source is where events come from: the acknowledging subscriber on an MQTT bus, or a reader of any other bus. Start returns at once
// and is called once, Stop hands on what was received for as long as ctx allows, and Problem is why no events come in, "" while they do.
// Stop and Problem are safe for concurrent use.
type Source interface {
	Start(ctx context.Context)
	Stop(ctx context.Context) error
	Problem() string
}

// ExpectSource says that a source is going to be watched: until then there is a problem.
func (r *Receiver) ExpectSource() {
	waiting := func() string { return "the trigger has not started yet" }
	r.problem.Store(&waiting)
}

// WatchSource has Problem ask this source.
func (r *Receiver) WatchSource(src Source) {
	problem := src.Problem
	r.problem.Store(&problem)
}

// Problem is why no events come in, "" while they do.
func (r *Receiver) Problem() string {
	if f := r.problem.Load(); f != nil {
		return (*f)()
	}
	return ""
}

// Rival says that another client takes the connection to the MQTT bus over, "" while none does.
func (r *Receiver) Rival() string {
	if sub := r.subscriber.Load(); sub != nil {
		return sub.Rival()
	}
	return ""
}

// MQTTSource makes the source for an MQTT bus that can be acknowledged. What the Receiver knows better than its caller is filled in:
// which messages to skip, and where to remember the subscriptions.
func (r *Receiver) MQTTSource(bus intake.Bus) (Source, error) {
	bus.Skip, bus.Remember = r.deps.Skip, r.deps.Subscriptions
	sub, err := intake.NewSubscriber(r.cfg, bus, r.deps.Again, r.Quarantine, r.deps.Log)
	if err != nil {
		return nil, err
	}
	r.subscriber.Store(sub)
	return subscriberSource{sub}, nil
}

// subscriberSource says in words whether events come in.
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
