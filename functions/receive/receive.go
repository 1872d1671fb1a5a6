// Package receive is the way in: a message becomes an indexed event, the gate bounds what is in flight, and the events go to a sink in the
// order of each device. Whatever cannot be read as an event is quarantined.
//
//	receive.go   Receiver, for callers that have messages: one in a goroutine of its own, or many in order
//	source.go    Source, the seam for where messages come from; the acknowledging subscriber of an MQTT bus is one
//
// Every message is counted, and by what became of it.
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

// Deps are what a Receiver needs of its surroundings. The functions are safe for concurrent use.
type Deps struct {
	Sink          intake.Sink             // takes the events
	Again         intake.Sink             // takes those of a source that offers again what was refused, in order and before anything new
	Skip          func(topic string) bool // reports whether what comes on a topic is not for the sink, and counts it
	Subscriptions string                  // file that remembers the subscriptions at an MQTT bus
	Log           say.Logger
}

// Receiver takes messages in. It is safe for concurrent use. Its parts are set by Open; they are shut in the order Gate, Orderer,
// Quarantine, the last once the sink is done.
type Receiver struct {
	Gate       *intake.Gate
	Orderer    *intake.Orderer
	Quarantine *quarantine.Quarantine

	cfg        intake.Config
	deps       Deps
	limits     parse.Limits
	parsed     atomic.Uint64                     // messages that were events, on any path but the acknowledging one
	unheard    atomic.Int64                      // messages that the stop left no time for, on a bus that does not bring them again
	subscriber atomic.Pointer[intake.Subscriber] // of the acknowledging intake, nil with any other
	problem    atomic.Pointer[func() string]     // asks the source whether it is connected
}

// Open opens the quarantine, and is ready for messages.
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

// Message is one message off a bus, its envelope already opened.
type Message struct {
	Topic, ContentType, CorrelationID string
	Payload                           []byte
}

// Receive takes one message in and returns when its event is done here or durable, or says why it was not taken. It is
// for callers that have a goroutine a message, such as the SDK's own triggers: without room it refuses at once, and what
// those goroutines mixed up is put in order again.
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

// ReceiveInOrder takes messages from one reader that has them in order already. It waits for room, and returns when they
// are on their way; what is refused later is counted, and so is what finds no room before ctx ends.
func (r *Receiver) ReceiveInOrder(ctx context.Context, messages []Message) {
	var slice admitted
	for _, m := range messages {
		pass, ok := r.Gate.Try(len(m.Payload))
		if !ok { // the room may be taken by this very slice: what is admitted goes on before anyone waits
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

// admitted are events with their passes through the gate.
type admitted struct {
	events []*task.Event
	passes []intake.Pass
}

func (a admitted) submit(to intake.Sink) {
	if len(a.events) > 0 {
		to.Submit(a.events, func(i int, _ error) { a.passes[i].Leave() })
	}
}

// parse makes an event of a message. A message that cannot be read as one is quarantined with its reason, and one that is not for the sink
// is skipped: neither gives an event.
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

// SetAside quarantines an event that the sink cannot work on.
func (r *Receiver) SetAside(ev *task.Event, cause error) {
	r.Quarantine.Add(ev.Topic, parse.ContentType(ev.Encoding), ev.Raw, cause)
}

// Reject quarantines a message that a source could not even read as one.
func (r *Receiver) Reject(m Message, why error) {
	r.Quarantine.Add(m.Topic, m.ContentType, m.Payload, why)
}

// Quarantined is what was quarantined lately.
func (r *Receiver) Quarantined() []quarantine.Rejected { return r.Quarantine.List() }

// Counts are the events by what became of them, as far as it is known here, and how many messages there were, with those that were
// quarantined.
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
	m := sub.Counts() // these do not pass the gate
	c.Received += m.Submitted
	c.Unsafe, c.Repeated, c.SameID = m.Unsafe, m.Duplicates, m.SameID
	c.Skipped["retained"], c.Skipped["unmatched"] = m.Retained, m.Unmatched
	return c, m.Submitted + m.Duplicates + status.Sum(c.Quarantined)
}
