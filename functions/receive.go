package functions

import (
	"context"
	"fmt"

	"app-offload/functions/check"
	"app-offload/functions/intake"
	"app-offload/functions/local"
	"app-offload/functions/task"
)

// Message is one message off a bus, its envelope already opened.
type Message struct {
	Topic, ContentType, CorrelationID string
	Payload                           []byte
}

// Receive takes one message in and returns when its event is done here or durable, or says why it was not taken. It is
// for callers that have a goroutine a message, such as the SDK's own triggers: without room it refuses at once, and what
// those goroutines mixed up is put in order again.
func (s *Service) Receive(m Message) error {
	pass, err := s.gate.Enter(len(m.Payload))
	if err != nil {
		return fmt.Errorf("refusing an event of %d bytes from %s: %w; see Offload.Intake.MaxEvents and MaxMiB", len(m.Payload), m.Topic, err)
	}
	defer pass.Leave()
	ev, err := s.parse(m)
	if ev == nil {
		return err
	}
	concluded := make(chan error, 1)
	s.orderer.Submit([]*task.Event{ev}, func(_ int, err error) { concluded <- err })
	return <-concluded
}

// ReceiveInOrder takes messages from one reader that has them in order already. It waits for room, and returns when they
// are on their way; what is refused later is counted, and so is what finds no room before ctx ends.
func (s *Service) ReceiveInOrder(ctx context.Context, messages []Message) {
	var slice admitted
	for _, m := range messages {
		pass, err := s.gate.Wait(noTime, len(m.Payload))
		if err != nil { // the room may be taken by this very slice: what is admitted goes on before anyone waits
			slice.submit(s)
			slice = admitted{}
			pass, err = s.gate.Wait(ctx, len(m.Payload))
		}
		if err != nil {
			s.unheard.Add(1)
			continue
		}
		ev, err := s.parse(m)
		if ev == nil || err != nil {
			pass.Leave()
			continue
		}
		slice.events, slice.passes = append(slice.events, ev), append(slice.passes, pass)
	}
	slice.submit(s)
}

// noTime is a context that has ended: waiting under it is asking.
var noTime = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// admitted are events with their passes through the gate.
type admitted struct {
	events []*task.Event
	passes []intake.Pass
}

func (a admitted) submit(s *Service) {
	if len(a.events) > 0 {
		s.Submit(a.events, func(i int, _ error) { a.passes[i].Leave() })
	}
}

// parse makes an event of a message. What is none is set aside with its reason; a result of our own, which core-data's
// topic brings back to us, is nothing to work on: both give no event.
func (s *Service) parse(m Message) (*task.Event, error) {
	if s.isOwn(m.Topic) {
		return nil, nil
	}
	ev, err := s.limits.Parse(m.Payload, m.ContentType)
	if err != nil {
		s.quarantine.Add(m.Topic, m.ContentType, m.Payload, err)
		return nil, err
	}
	s.parsed.Add(1)
	ev.CorrelationID, ev.Topic = check.Cut(m.CorrelationID, maxCorrelation), m.Topic
	return ev, nil
}

// maxCorrelation is how many bytes of a correlation id travel on; EdgeX's are UUIDs.
const maxCorrelation = 512

// isOwn reports whether a message on the topic is a result of this service that is of no use to it, and counts it.
func (s *Service) isOwn(topic string) bool {
	if !local.OwnTopic(topic, s.deps.Name) || s.rules.Load().Classes.Takes(s.cfg.Node, s.deps.Name) {
		return false
	}
	s.kinship.Own()
	return true
}
