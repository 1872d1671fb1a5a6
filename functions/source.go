package functions

import (
	"context"
	"path/filepath"

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

// ExpectSource says that StartSource is going to be called: until then the service is not ready.
func (s *Service) ExpectSource() {
	waiting := func() string { return "the trigger has not started yet" }
	s.intakeProblem.Store(&waiting)
}

// StartSource starts a source, which the service stops with itself, before anything that takes events. The health includes its Problem.
func (s *Service) StartSource(ctx context.Context, src Source) {
	problem := src.Problem
	s.intakeProblem.Store(&problem)
	s.life.onStop("intake", src.Stop)
	src.Start(ctx)
}

// MQTTSource makes the source for an MQTT bus that can be acknowledged. What the service knows better than its caller is filled in:
// which messages to skip, and where to remember the subscriptions.
func (s *Service) MQTTSource(bus intake.Bus) (Source, error) {
	bus.Skip, bus.Remember = s.isOwn, filepath.Join(s.cfg.Spool.Directory, "subscriptions.json")
	sub, err := intake.NewSubscriber(s.cfg.Intake, bus, Again{s.Pipeline}, s.quarantine, s.log)
	if err != nil {
		return nil, err
	}
	s.subscriber.Store(sub)
	return subscriberSource{sub}, nil
}

// subscriberSource says in words whether events come in.
type subscriberSource struct{ *intake.Subscriber }

func (s subscriberSource) Problem() string {
	switch c := s.Counts(); {
	case !c.Connected:
		return "not connected to the MQTT MessageBus"
	case !c.Subscribed:
		return "not subscribed at the MQTT MessageBus yet"
	}
	return ""
}

// Reject quarantines a message that a source could not even read as one.
func (s *Service) Reject(m Message, why error) {
	s.quarantine.Add(m.Topic, m.ContentType, m.Payload, why)
}
