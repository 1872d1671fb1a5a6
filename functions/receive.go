package functions

import (
	"cmp"
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

// slicer gathers messages that have already arrived, so that one run of the pipeline serves them all.
type slicer struct {
	in  <-chan Message
	max int
	buf []Message
}

// next blocks for one message, then takes what else is there, up to max. It is false when the channel is closed and empty.
func (s *slicer) next() ([]Message, bool) {
	m, ok := <-s.in
	if !ok {
		return nil, false
	}
	s.buf = append(s.buf[:0], m)
	for len(s.buf) < s.max {
		select {
		case m, ok := <-s.in:
			if !ok {
				return s.buf, true
			}
			s.buf = append(s.buf, m)
		default:
			return s.buf, true
		}
	}
	return s.buf, true
}

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
