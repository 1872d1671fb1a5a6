// Package receive is the entrance of the pipeline: a message becomes an indexed event, the gate limits what is in flight, and the events go to a sink
// in the order of each device. A message that cannot be read as an event is quarantined.
//
//	receive.go   Receiver, for callers that have messages: each in a goroutine of its own, or many in order
//	source.go    Source, the interface of message sources; the acknowledging subscriber of an MQTT bus is one
//
// Every message is counted by its fate.
package receive

import (
	"context"
	"fmt"
	"sync/atomic"

	"app-offload/functions/check"
	"app-offload/functions/intake"
	"app-offload/functions/intake/parse"
	"app-offload/functions/quarantine"
	"app-offload/functions/say"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// Deps are the dependencies of a Receiver. The functions are safe for concurrent use.
type Deps struct {
	Sink          intake.Sink             // takes the events
	Again         intake.Sink             // takes the events of a source that retries refused events, in order and before any new event
	Skip          func(topic string) bool // reports whether messages on a topic are not for the sink, and counts them
	Subscriptions string                  // file that stores the subscriptions at an MQTT bus
	Log           say.Logger
}

// Receiver receives messages. It is safe for concurrent use. Open sets its parts; they must be shut in the order Gate, Orderer, Quarantine, the last
// after the sink is done.
type Receiver struct {
	Gate       *intake.Gate
	Orderer    *intake.Orderer
	Quarantine *quarantine.Quarantine

	cfg        intake.Config
	deps       Deps
	limits     parse.Limits
	parsed     atomic.Uint64                     // messages parsed as events, except by the acknowledging subscriber
	unheard    atomic.Int64                      // messages lost at a stop for lack of time, on a bus that does not redeliver them
	subscriber atomic.Pointer[intake.Subscriber] // the acknowledging subscriber, nil for other sources
	problem    atomic.Pointer[func() string]     // returns why the source receives nothing
}

// Open opens the quarantine and returns a Receiver.
func Open(cfg intake.Config, deps Deps) (*Receiver, error) {
	aside, err := quarantine.New(cfg.Quarantine())
	if err != nil {
		return nil, err
	}
	aside.OnNotice(func(r quarantine.Rejected) {
		what := "is not an event"
		if r.Reason == parse.ReasonUnsendable {
			what = "holds an event that fits no message"
		}
		deps.Log.Warnf("message quarantined: it %s: topic=%q reason=%s detail=%q (similar messages suppressed; /quarantine lists the latest)", what, r.Topic, r.Reason, r.Detail)
	})
	return &Receiver{
		Gate: intake.NewGate(cfg), Orderer: intake.NewOrderer(cfg, deps.Sink), Quarantine: aside, cfg: cfg, deps: deps, limits: cfg.Limits(),
	}, nil
}

// Message is one message from a bus, without its envelope.
type Message struct {
	Topic, ContentType, CorrelationID string
	Payload                           []byte
}

// Receive takes one message and returns when its event is done locally or durable, or with the reason for its refusal. It is for callers with a
// goroutine a message, such as the SDK's own triggers: without room it refuses immediately, and it restores the order that those goroutines lost.
func (r *Receiver) Receive(m Message) error {
	pass, err := r.Gate.Enter(len(m.Payload))
	if err != nil {
		return fmt.Errorf("refusing an event of %d bytes from %s: %w; see Offload.Intake.MaxEvents and MaxMiB", len(m.Payload), m.Topic, err)
	}
	defer pass.Leave()
	ev, err := r.parse(m)
	if ev == nil {
		return err
	}
	concluded := make(chan error, 1)
	r.Orderer.Submit([]*task.Event{ev}, func(_ int, err error) { concluded <- err })
	return <-concluded
}

// ReceiveInOrder takes messages from one reader, in order. It waits for room, and returns when their events are submitted. Events refused later are
// counted, and so are messages without room before ctx ends.
func (r *Receiver) ReceiveInOrder(ctx context.Context, messages []Message) {
	var slice admitted
	for _, m := range messages {
		pass, ok := r.Gate.Try(len(m.Payload))
		if !ok { // this very slice may hold the room: submit the admitted events before waiting
			slice.submit(r.deps.Sink)
			slice = admitted{}
			var err error
			if pass, err = r.Gate.Wait(ctx, len(m.Payload)); err != nil {
				r.unheard.Add(1)
				continue
			}
		}
		ev, err := r.parse(m)
		if ev == nil || err != nil {
			pass.Leave()
			continue
		}
		slice.events, slice.passes = append(slice.events, ev), append(slice.passes, pass)
	}
	slice.submit(r.deps.Sink)
}

// admitted holds events with their passes through the gate.
type admitted struct {
	events []*task.Event
	passes []intake.Pass
}

func (a admitted) submit(to intake.Sink) {
	if len(a.events) > 0 {
		to.Submit(a.events, func(i int, _ error) { a.passes[i].Leave() })
	}
}

// parse returns the event in a message, or nil: a message that cannot be read as an event is quarantined with the reason, and one that is not for the
// sink is skipped.
func (r *Receiver) parse(m Message) (*task.Event, error) {
	if r.deps.Skip(m.Topic) {
		return nil, nil
	}
	ev, err := r.limits.Parse(m.Payload, m.ContentType)
	if err != nil {
		r.Quarantine.Add(m.Topic, m.ContentType, m.Payload, err)
		return nil, err
	}
	r.parsed.Add(1)
	ev.CorrelationID, ev.Topic = check.Cut(m.CorrelationID, parse.MaxCorrelation), m.Topic
	return ev, nil
}

// SetAside quarantines an event that the sink cannot process.
func (r *Receiver) SetAside(ev *task.Event, cause error) {
	r.Quarantine.Add(ev.Topic, parse.ContentType(ev.Encoding), ev.Raw, cause)
}

// Reject quarantines a message that a source could not read.
func (r *Receiver) Reject(m Message, why error) {
	r.Quarantine.Add(m.Topic, m.ContentType, m.Payload, why)
}

// Quarantined returns the latest quarantined messages.
func (r *Receiver) Quarantined() []quarantine.Rejected { return r.Quarantine.List() }

// Counts returns the events by fate, as far as it is known here, and the number of messages, including quarantined ones.
func (r *Receiver) Counts() (c status.EventCounts, messages uint64) {
	g := r.Gate.Counts()
	c = status.EventCounts{
		Received: r.parsed.Load(), Unheard: r.unheard.Load(), Quarantined: r.Quarantine.Counts(), Skipped: map[string]uint64{},
		Refused: map[string]uint64{"events": g.RefusedEvents, "bytes": g.RefusedBytes, "stopping": g.RefusedClosed},
	}
	sub := r.subscriber.Load()
	if sub == nil {
		return c, g.Entered
	}
	m := sub.Counts() // messages of the subscriber do not pass the gate
	c.Received += m.Submitted
	c.Unsafe, c.Repeated, c.SameID = m.Unsafe, m.Duplicates, m.SameID
	c.Skipped["retained"], c.Skipped["unmatched"] = m.Retained, m.Unmatched
	return c, m.Submitted + m.Duplicates + status.Sum(c.Quarantined)
}
