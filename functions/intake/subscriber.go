package intake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"app-offload/functions/mqtt"
	"app-offload/functions/task"
)

// Logger is where a Subscriber reports; EdgeX's LoggingClient is one.
type Logger interface {
	Debugf(msg string, args ...any)
	Infof(msg string, args ...any)
	Warnf(msg string, args ...any)
	Errorf(msg string, args ...any)
}

// Subscriber reads events from an MQTT MessageBus and acknowledges each only when it is done or durable.
//
// What it promises: the sink gets events in the order in which the broker delivers them; an event published at QoS 1 is
// acknowledged after the sink's done(nil) and not before, so one that is under way when this process dies is delivered
// again; an event delivered again while it is under way, or lately handled, is not handed on twice. Acknowledgements go
// out in the order in which events are done, not in that of their arrival: one slow event must not use up the broker's
// window for all others, and brokers take them so. A refused event is offered again after RetryAfter, and is then behind
// later ones of its device. Events published at QoS 0 cannot be acknowledged, and what of them is in memory dies with the process.
//
// What bounds it: at most MaxEvents messages or MaxMiB of memory are under way; beyond, it stops reading, and the broker
// keeps what it is configured to keep. If that lasts longer than the keep-alive allows, the connection is renewed.
type Subscriber struct {
	cfg        Config
	bus        Bus
	sink       Sink
	quarantine *Quarantine
	log        Logger
	limits     Limits
	retryAfter time.Duration

	client    paho.Client
	gate      *Gate
	arrived   chan arrival
	ctx       context.Context // ends at the stop: nothing more is read
	cancel    context.CancelFunc
	started   sync.Once
	stopped   sync.Once
	stopErr   error
	workers   sync.WaitGroup // reader and subscribing
	acks      *acker
	conn      connection
	receiving sync.Mutex // held while a message goes from the gate into arrived

	mu       sync.Mutex
	pending  map[eventID]*delivery // submitted, or waiting to be offered again
	recent   *recentIDs
	retries  []*delivery
	retry    chan struct{} // there is something to offer again
	stopping bool
	refusing int       // deliveries that were refused and not taken since
	said     bool      // in the log, that they are refused
	saidAt   time.Time // the last time
	counts   SubscriberCounts
	sequence uint64
	reported string // the last problem of the connection, which is logged once
}

// SubscriberCounts is what a subscriber has seen since its start.
type SubscriberCounts struct {
	Received    uint64 // messages
	Unsafe      uint64 // of these at QoS 0, which no acknowledgement protects
	Submitted   uint64 // events handed on, repeated offers not counted
	Done        uint64 // events the sink took
	Refused     uint64 // answers of the sink that were refusals
	Skipped     uint64 // messages on topics that are not for this service
	Rejected    uint64 // messages that are no event; the quarantine has them by reason
	Duplicates  uint64 // events that had been handed on before
	Acked       uint64 // messages acknowledged
	Abandoned   uint64 // messages left unacknowledged at the stop
	Connections uint64 // to the broker, ever
	Connected   bool
	Subscribed  bool // to all topics, on the present connection
	UnderWay    GateCounts
}

// arrival is one message with its room at the gate.
type arrival struct {
	msg  paho.Message
	pass Pass
}

// delivery is one event on its way through the sink, with each message that brought it.
type delivery struct {
	id       eventID
	event    *task.Event
	messages []arrival
	sequence uint64 // of its arrival
	out      bool   // with the sink
	refused  bool   // before
	due      time.Time
}

// messageCost is what a message of n bytes takes in memory while it is under way: paho keeps it until it is
// acknowledged, and the event is decoded out of it.
func messageCost(n int) int { return 2 * n }

// NewSubscriber checks the configuration; Start connects. The quarantine and the log must outlive the subscriber.
func NewSubscriber(cfg Config, bus Bus, sink Sink, quarantine *Quarantine, log Logger) (*Subscriber, error) {
	if cfg.ClientID != "" {
		bus.ClientID = cfg.ClientID
	}
	if err := errors.Join(cfg.Validate(), bus.validate(cfg)); err != nil {
		return nil, err
	}
	s := &Subscriber{
		cfg: cfg, bus: bus, sink: sink, quarantine: quarantine, log: log, limits: cfg.Limits(),
		retryAfter: duration(cfg.RetryAfter, time.Second), gate: NewGate(cfg), arrived: make(chan arrival, cfg.MaxEvents),
		pending: map[eventID]*delivery{}, recent: newRecentIDs(cfg.RememberIDs), retry: make(chan struct{}, 1),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.acks = newAcker(s.acknowledge)
	s.client = paho.NewClient(s.options())
	return s, nil
}

// Start connects and begins to read. It waits for the first connection as long as the context allows; without one it
// says so in the log and goes on trying, because a gateway may well be up before its broker.
func (s *Subscriber) Start(ctx context.Context) {
	s.started.Do(func() {
		s.workers.Add(1)
		go s.run()
		s.acks.start()
		token := s.client.Connect()
		select {
		case <-token.Done():
		case <-ctx.Done():
			s.log.Warnf("MQTT MessageBus %s does not answer yet; still trying", s.bus.URL)
		case <-s.ctx.Done():
		}
	})
}

// receive is called by paho for one message after the other. While the gate is full it blocks, and with it the reading
// from the connection.
func (s *Subscriber) receive(_ paho.Client, msg paho.Message) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	pass, err := s.gate.Wait(s.ctx, messageCost(len(msg.Payload())))
	if err != nil { // stopping: the broker keeps it
		s.count(func(c *SubscriberCounts) { c.Abandoned++ })
		return
	}
	s.arrived <- arrival{msg, pass} // has room for all that the gate lets in
}

// run is the reader: it hands on slices of what has arrived, and offers again what was refused.
func (s *Subscriber) run() {
	defer s.workers.Done()
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		timer.Reset(s.offerAgain())
		select {
		case a := <-s.arrived:
			s.submit(s.collect(a))
		case <-timer.C:
		case <-s.retry:
		case <-s.ctx.Done():
			s.finish()
			return
		}
	}
}

// collect makes deliveries of a message and of those that have arrived besides, up to MaxSlice.
func (s *Subscriber) collect(first arrival) []*delivery {
	slice := make([]*delivery, 0, min(s.cfg.MaxSlice, 1+len(s.arrived)))
	for a := first; ; {
		if d := s.accept(a); d != nil {
			slice = append(slice, d)
		}
		if len(slice) >= s.cfg.MaxSlice {
			return slice
		}
		select {
		case a = <-s.arrived:
		default:
			return slice
		}
	}
}

// accept turns a message into a delivery, or is nil where it is no event, or none that is new.
func (s *Subscriber) accept(a arrival) *delivery {
	s.count(func(c *SubscriberCounts) {
		c.Received++
		if a.msg.Qos() == 0 {
			c.Unsafe++
		}
	})
	if s.bus.Skip != nil && s.bus.Skip(a.msg.Topic()) {
		s.count(func(c *SubscriberCounts) { c.Skipped++ })
		s.acks.add(a)
		return nil
	}
	ev, contentType, payload, err := s.parse(a.msg.Payload())
	if err != nil {
		s.quarantine.Add(a.msg.Topic(), contentType, payload, err)
		s.count(func(c *SubscriberCounts) { c.Rejected++ })
		s.acks.add(a) // delivering it again would not make an event of it
		return nil
	}
	ev.Topic = a.msg.Topic()
	return s.admit(a, ev)
}

func (s *Subscriber) parse(msg []byte) (*task.Event, string, []byte, error) {
	if size, ok := mqtt.Skipped(msg); ok {
		err := reject(ReasonTooLarge, "message of %d bytes, the limit is %d (Intake.MaxPayloadKiB and its envelope)", size, s.cfg.maxPacket())
		err.size = size
		return nil, "", nil, err
	}
	env, err := ParseEnvelope(msg)
	if err != nil {
		return nil, "", msg, err
	}
	if env.ErrorCode != 0 {
		return nil, env.ContentType, env.Payload, reject(ReasonErrorEnvelope, "errorCode %d", env.ErrorCode)
	}
	ev, err := s.limits.Parse(env.Payload, env.ContentType)
	if err != nil {
		return nil, env.ContentType, env.Payload, err
	}
	ev.CorrelationID = env.CorrelationID
	return ev, "", nil, nil
}

func (s *Subscriber) admit(a arrival, ev *task.Event) *delivery {
	id := parseEventID(ev.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.pending[id]; d != nil { // acknowledged together with the first
		s.counts.Duplicates++
		d.messages = append(d.messages, a)
		return nil
	}
	if s.recent.has(id) {
		s.counts.Duplicates++
		s.acks.add(a)
		return nil
	}
	s.counts.Submitted++
	s.sequence++
	d := &delivery{id: id, event: ev, messages: []arrival{a}, sequence: s.sequence}
	s.pending[id] = d
	return d
}

// submit hands a slice to the sink, which may block.
func (s *Subscriber) submit(slice []*delivery) {
	if len(slice) == 0 {
		return
	}
	events := make([]*task.Event, len(slice))
	s.mu.Lock()
	for i, d := range slice {
		events[i], d.out = d.event, true
	}
	s.mu.Unlock()
	s.sink.Submit(events, func(i int, err error) { s.answer(slice[i], err) })
}

// answer is the sink's word on one delivery. It never blocks.
func (s *Subscriber) answer(d *delivery, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.out {
		return // a second word does not count
	}
	d.out = false
	if err == nil {
		s.counts.Done++
		s.taken(d)
		delete(s.pending, d.id)
		s.recent.add(d.id)
		s.acks.add(d.messages...)
		return
	}
	s.counts.Refused++
	s.refuse(d, err)
	if s.stopping {
		s.abandon(d)
		return
	}
	d.due = time.Now().Add(s.retryAfter)
	s.retries = append(s.retries, d)
	select {
	case s.retry <- struct{}{}:
	default:
	}
}

// abandon leaves a delivery unacknowledged. The lock is held.
func (s *Subscriber) abandon(d *delivery) {
	delete(s.pending, d.id)
	s.counts.Abandoned += uint64(len(d.messages))
	for _, a := range d.messages {
		a.pass.Leave()
	}
}

// acknowledge sends the acknowledgement of one message; it may block while the connection is slow.
func (s *Subscriber) acknowledge(a arrival) {
	a.msg.Ack()
	a.pass.Leave()
	s.count(func(c *SubscriberCounts) { c.Acked++ })
}

func (s *Subscriber) count(what func(*SubscriberCounts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what(&s.counts)
}

// Counts is the subscriber now.
func (s *Subscriber) Counts() SubscriberCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Connected, c.UnderWay = s.client.IsConnectionOpen(), s.gate.Counts()
	return c
}

// Stop ends the reading, waits for all that has arrived to be answered and acknowledged, and disconnects. The session
// stays at the broker, with everything unacknowledged. When the context ends first it disconnects at once and the error
// says how much was left. Stop may be called more than once, and from several goroutines.
func (s *Subscriber) Stop(ctx context.Context) error {
	s.stopped.Do(func() { s.stopErr = s.stop(ctx) })
	return s.stopErr
}

func (s *Subscriber) stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.cancel()
	s.started.Do(s.acks.start) // never started: there is nothing to wait for
	err := s.gate.Close(ctx)
	if err != nil {
		err = fmt.Errorf("stopping the MQTT subscriber, the broker will deliver again what was left: %w", err)
	}
	if !s.acks.stop(ctx) {
		s.conn.cut() // the broker does not take the acknowledgements
		<-s.acks.done
	}
	const quiesce = 250 // ms for the DISCONNECT to go out
	s.client.Disconnect(quiesce)
	if err == nil {
		s.workers.Wait()
	}
	return err
}
