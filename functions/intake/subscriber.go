package intake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/intake/parse"
	"app-offload/functions/mqtt"
	"app-offload/functions/quarantine"
	"app-offload/functions/say"
)

// Logger is the logger of a Subscriber; EdgeX's LoggingClient is one.
type Logger = say.Logger

// Subscriber reads events from an MQTT MessageBus and acknowledges each only when it is done or durable.
//
// Guarantees: the sink receives events in the order in which the broker delivers them. An event published at QoS 1 is acknowledged after the sink's
// done(nil) and not before, so the broker redelivers an event in progress when this process dies. An event redelivered with the same id and content,
// while the first is in progress or shortly after it was handled, is not submitted twice.
//
// Acknowledgements leave in the order in which the messages arrived, as MQTT requires and brokers need to keep the order themselves: a finished
// message waits for all earlier ones, also if it is quarantined, skipped, or a repeat. So one slow event delays the acknowledgements behind it, and
// the broker stops at its window. A refused event is submitted again after RetryAfter, followed by all later refused ones in order; until it is
// accepted no new event is submitted. At a stop it is left to the broker, and so are all that arrived behind it. Events published at QoS 0 cannot be
// acknowledged, and are lost with the process while they are in memory.
//
// Some messages are acknowledged and counted without being read: one on a topic that is no longer configured, which the session may still deliver,
// and a retained one, which the broker sends again at each subscription.
//
// Bounds: at most MaxEvents messages or MaxMiB of memory are in progress; beyond, it stops reading, and the broker queues as configured. If that
// lasts longer than the keep-alive allows, the connection is renewed.
type Subscriber struct {
	cfg        Config
	bus        Bus
	sink       Sink
	quarantine *quarantine.Quarantine
	log        Logger
	limits     parse.Limits
	retryAfter time.Duration

	connection *mqtt.Keeper
	acks       *mqtt.Acks[Pass]
	gate       *Gate
	arrived    chan arrival
	ctx        context.Context // ends at the stop: nothing more is read
	cancel     context.CancelFunc
	started    sync.Once
	stopped    sync.Once
	stopErr    error
	workers    sync.WaitGroup // the reader
	connecting sync.WaitGroup // the keeper of the connection
	first      chan struct{}  // closed by the first connection
	receiving  sync.Mutex     // held while a message moves from the gate into arrived

	once   say.Once   // problems of the connection, and refusals
	often  *say.Every // events with the id of another event, and refusals
	seldom *say.Every // messages that are not read, by reason, and a rival

	mu       sync.Mutex
	pending  map[identity]*delivery // submitted, or refused and to be submitted again
	recent   *recentEvents
	out      int           // number of deliveries in the sink
	retries  []*delivery   // refused
	due      time.Time     // next time to submit them
	retry    chan struct{} // wakes the reader while there are any
	stopping bool
	refusing int // deliveries that were refused and not yet accepted
	counts   SubscriberCounts
	sequence uint64
	since    time.Time  // of the current connection; zero without one
	rival    mqtt.Rival // for the client id
}

// SubscriberCounts are the counts of a subscriber since its start.
type SubscriberCounts struct {
	Received    uint64 // messages
	Unsafe      uint64 // of these at QoS 0, which no acknowledgement protects
	Submitted   uint64 // events submitted, without repeated submissions
	Done        uint64 // events that the sink accepted
	Refused     uint64 // refusals by the sink
	Skipped     uint64 // messages on topics that are not for this service
	Unmatched   uint64 // messages on no configured topic, from an older subscription of the session
	Retained    uint64 // messages retained by the broker before the subscription
	Rejected    uint64 // messages that are not valid events; the quarantine has them by reason
	Duplicates  uint64 // events submitted before with the same content
	SameID      uint64 // events with the id of another event and different content; submitted like any other
	Acked       uint64 // messages acknowledged
	Abandoned   uint64 // messages left unacknowledged, at the stop or after their connection ended: the broker redelivers them
	Connections uint64 // to the broker, in total
	Connected   bool
	Subscribed  bool // to all topics, on the current connection
	UnderWay    GateCounts
}

// messageCost returns the memory that a message of n bytes takes while it is in progress: paho keeps it until it is acknowledged, and the event is
// decoded from it.
func messageCost(n int) int { return 2 * n }

// NewSubscriber checks the configuration; Start connects. The quarantine and the log must outlive the subscriber.
func NewSubscriber(cfg Config, bus Bus, sink Sink, q *quarantine.Quarantine, log Logger) (*Subscriber, error) {
	if cfg.ClientID != "" {
		bus.ClientID = cfg.ClientID
	}
	if err := errors.Join(cfg.Validate(), bus.validate(cfg)); err != nil {
		return nil, err
	}
	s := &Subscriber{
		cfg: cfg, bus: bus, sink: sink, quarantine: q, log: log, limits: cfg.Limits(),
		retryAfter: duration(cfg.RetryAfter), gate: NewGate(cfg), arrived: make(chan arrival, cfg.MaxEvents),
		pending: map[identity]*delivery{}, recent: newRecentEvents(cfg.RememberIDs), retry: make(chan struct{}, 1),
		first: make(chan struct{}),
		often: say.NewEvery(time.Minute), seldom: say.NewEvery(10 * time.Minute),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.acks = mqtt.NewAcks(s.concluded)
	var err error
	s.connection, err = s.keeper()
	return s, err
}

// concluded counts an acknowledged or abandoned message, and releases its room.
func (s *Subscriber) concluded(pass Pass, acked bool) {
	s.count(func(c *SubscriberCounts) {
		if acked {
			c.Acked++
		} else {
			c.Abandoned++
		}
	})
	pass.Leave()
}

// Start connects and begins to read. It waits for the first connection until the context ends; without one it logs that and keeps trying, because a
// gateway may start before its broker.
func (s *Subscriber) Start(ctx context.Context) {
	s.started.Do(func() {
		s.workers.Go(s.run)
		s.acks.Start()
		s.connecting.Go(func() { s.connection.Run(s.ctx) })
		select {
		case <-s.first:
		case <-ctx.Done():
			s.log.Warnf("no answer from the MQTT MessageBus, still trying: url=%s", s.bus.URL)
		case <-s.ctx.Done():
		}
	})
}

// receive accepts one message after the other. While the gate is full it blocks, and so does the reading from the connection.
func (s *Subscriber) receive(_ *mqtt.Session, m mqtt.Message) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	pass, err := s.gate.Wait(s.ctx, messageCost(len(m.Payload)))
	if err != nil { // stopping: the broker keeps it
		s.count(func(c *SubscriberCounts) { c.Abandoned++ })
		return
	}
	s.arrived <- arrival{m, pass} // never blocks: it has the capacity of the gate
}

// run is the reader: it submits slices of arrived messages, and submits refused events again.
func (s *Subscriber) run() {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		holding, wait := s.offerAgain()
		in := s.arrived
		if holding {
			in = nil
		}
		timer.Reset(wait)
		select {
		case a := <-in:
			s.submit(s.collect(a))
		case <-timer.C:
		case <-s.retry:
		case <-s.ctx.Done():
			s.finish()
			return
		}
	}
}

func (s *Subscriber) count(what func(*SubscriberCounts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what(&s.counts)
}

// Counts returns the current counts.
func (s *Subscriber) Counts() SubscriberCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Connected, c.UnderWay = s.connection.Session() != nil, s.gate.Counts()
	return c
}

// Stop stops reading, waits until all arrived events are answered and acknowledged, and disconnects. The session stays at the broker, with everything
// unacknowledged. If the context ends first it disconnects immediately and the error has the number of remaining events. Stop may be called more than
// once, and from several goroutines.
func (s *Subscriber) Stop(ctx context.Context) error {
	s.stopped.Do(func() { s.stopErr = s.stop(ctx) })
	return s.stopErr
}

func (s *Subscriber) stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.cancel()
	s.started.Do(s.acks.Start) // never started: nothing to wait for
	err := s.gate.Close(ctx)
	if err != nil {
		err = fmt.Errorf("stopping the MQTT subscriber, the broker redelivers the remaining events: %w", err)
	}
	s.connecting.Wait() // its context has ended
	if session := s.connection.Session(); s.acks.Stop(ctx) && session != nil {
		settling, cancel := context.WithTimeout(ctx, settleTimeout)
		_ = session.Settle(settling) // if the broker does not answer, it redelivers the events whose acknowledgement it has not read
		cancel()
	}
	s.connection.End()
	if err == nil {
		s.workers.Wait()
	}
	return err
}

const (
	connectTimeout = 10 * time.Second
	writeTimeout   = 30 * time.Second // for an acknowledgement; a broker that reads none for so long is hung
	maxBackOff     = 10 * time.Second
	settleTimeout  = 500 * time.Millisecond // for the broker to read the last acknowledgements
)

// keeper returns the keeper of the connection.
func (s *Subscriber) keeper() (*mqtt.Keeper, error) {
	at, err := mqtt.ParseAddress(s.bus.URL)
	if err != nil {
		return nil, err
	}
	keepAlive := duration(s.cfg.KeepAlive)
	return &mqtt.Keeper{
		Options: mqtt.Options{
			Brokers: []mqtt.Address{at}, ClientID: s.bus.ClientID, Clean: !s.cfg.PersistentSession, Login: s.bus.auth().Login,
			KeepAlive: keepAlive, PingTimeout: keepAlive, ConnectTimeout: connectTimeout, Stall: writeTimeout,
			ReadBuffer: s.cfg.ReadBufferKiB << 10, MaxPacket: s.cfg.maxPacket(), ManualAck: true, Frees: true,
			Opened: s.acks.Renew, Receive: s.receive,
		},
		Backoff: mqtt.Backoff{Low: time.Second, High: maxBackOff},
		Up:      s.connected, Down: s.lost,
		Failed: func(err error) { s.report(fmt.Errorf("connecting: %w", err)) },
	}, nil
}

// Rotate renews the connection, which reads the credentials anew. Events in progress are redelivered and recognised.
func (s *Subscriber) Rotate() { s.connection.Renew() }

// report logs a problem of the connection, but not the same one twice in a row.
func (s *Subscriber) report(problem error) {
	if s.ctx.Err() == nil && s.once.Changed("connection", problem) {
		s.log.Errorf("cannot connect to the MQTT MessageBus, still trying: url=%s error=%q", s.bus.URL, problem)
	}
}

func (s *Subscriber) lost(session *mqtt.Session, lived time.Duration) {
	err, away := session.Cause(), session.Away()
	s.mu.Lock()
	rival := s.counts.Subscribed && !away && s.rival.Lost(lived, err)
	s.counts.Subscribed, s.since = false, time.Time{}
	s.mu.Unlock()
	s.log.Warnf("lost the connection to the MQTT MessageBus, reconnecting: url=%s error=%q", s.bus.URL, err)
	if rival {
		if _, due := s.seldom.Due("rival"); due {
			s.log.Errorf("%s", s.rivalText())
		}
	}
}

func (s *Subscriber) rivalText() string {
	return fmt.Sprintf("the MessageBus keeps closing connections that worked: another client uses ClientID %q, such as a second service with the same service key; "+
		"give this one its own key (-sk) or Intake.ClientID", s.bus.ClientID)
}

// Rival returns a sentence if another client of the broker uses the same client id, and "" while there is no sign of one.
func (s *Subscriber) Rival() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lived := time.Duration(0)
	if !s.since.IsZero() {
		lived = time.Since(s.since)
	}
	if !s.rival.Suspected(lived) {
		return ""
	}
	return s.rivalText()
}

// connected subscribes, also if the broker has the session, because the topics may have changed since.
func (s *Subscriber) connected(session *mqtt.Session) {
	s.mu.Lock()
	if s.counts.Connections++; s.counts.Connections == 1 {
		close(s.first)
	}
	s.since = time.Now()
	s.mu.Unlock()
	for wait := time.Second; session.Alive(); wait = min(2*wait, maxBackOff) {
		err := s.subscribe(session)
		if s.ctx.Err() != nil {
			return
		}
		if err == nil {
			s.report(nil)
			s.count(func(c *SubscriberCounts) { c.Subscribed = true })
			s.log.Infof("subscribed to the MQTT MessageBus: url=%s clientID=%q topics=%q", s.bus.URL, s.bus.ClientID, strings.Join(s.bus.Topics, ", "))
			return
		}
		s.report(fmt.Errorf("subscribing: %w", err))
		select {
		case <-time.After(wait):
		case <-session.Lost():
		case <-s.ctx.Done():
			return
		}
	}
}

// Credentials are the contents of the MessageBus secret; the AuthMode decides which parts are required.
type Credentials = mqtt.Credentials

// Bus is the address and the login of the MQTT MessageBus. The wiring fills it from the SDK's MessageBus and Trigger configuration.
type Bus struct {
	URL      string   // see mqtt.ParseAddress
	Topics   []string // filters with their base prefix, e.g. edgex/events/#
	ClientID string   // used if Config.ClientID is empty

	// Remember is a file for the topics of the session, so that topics no longer configured are unsubscribed; "" disables it.
	Remember string

	AuthMode       string // one of mqtt's Auth words; "" means "none"
	SkipCertVerify bool   // trust any certificate of the broker
	// Credentials is called for each connection, so that a rotated secret applies from the next one on. nil if AuthMode is "none".
	Credentials func() (Credentials, error)
	// Skip selects topics whose messages are acknowledged unread, such as the service's own results; nil skips none.
	Skip func(topic string) bool
}

func (b Bus) validate(cfg Config) error {
	p := check.In("MessageBus")
	if _, err := mqtt.ParseAddress(b.URL); errors.Is(err, mqtt.ErrScheme) {
		p.Addf("Protocol", b.URL, "%v", err)
	} else if err != nil {
		p.Addf("URL", mqtt.Redacted(b.URL), "%v", err)
	}
	if len(b.Topics) == 0 {
		p.Addf("SubscribeTopics", "", "at least one topic is needed")
	}
	if b.ClientID == "" && cfg.PersistentSession {
		p.Addf("ClientID", "", "a persistent session needs a fixed client id; set Intake.ClientID")
	}
	mode := b.auth().Mode
	p.OneOf("AuthMode", mode, mqtt.AuthModes()...)
	if mode != mqtt.AuthNone && b.Credentials == nil {
		p.Addf("AuthMode", b.AuthMode, "needs a secret")
	}
	return p.Err()
}

func (b Bus) auth() mqtt.Auth {
	mode := b.AuthMode
	if mode == "" {
		mode = mqtt.AuthNone
	}
	return mqtt.Auth{Mode: mode, Secret: "of the MessageBus", SkipCertVerify: b.SkipCertVerify, Credentials: b.Credentials}
}
