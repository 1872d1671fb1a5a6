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

// Logger is where a Subscriber reports; EdgeX's LoggingClient is one.
type Logger = say.Logger

// Subscriber reads events from an MQTT MessageBus and acknowledges each only when it is done or durable.
//
// What it promises: the sink gets events in the order in which the broker delivers them; an event published at QoS 1 is
// acknowledged after the sink's done(nil) and not before, so one that is under way when this process dies is delivered
// again; an event delivered again, with the same id and content, while it is under way or lately handled is not handed on twice.
//
// Acknowledgements leave in the order in which the messages arrived, as MQTT requires and brokers need to keep the order themselves: one
// that is done waits for all before it, also where it is quarantined, skipped, or a repeat. So one slow event delays the
// acknowledgements behind it, and the broker stops at its window. A refused event is offered again after RetryAfter, with all that
// were refused behind it, in order; until it is taken nothing new is handed on. At a stop it is left to the broker, and all that
// arrived behind it too. Events published at QoS 0 cannot be acknowledged, and what of them is in memory dies with the process.
//
// Not every message is an event for this service: one on a topic that is no longer configured, which the session may still bring, and
// one that the broker has retained, which it sends at each subscription anew, are acknowledged and counted, and not read.
//
// What bounds it: at most MaxEvents messages or MaxMiB of memory are under way; beyond, it stops reading, and the broker
// keeps what it is configured to keep. If that lasts longer than the keep-alive allows, the connection is renewed.
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
	receiving  sync.Mutex     // held while a message goes from the gate into arrived

	once   say.Once   // problems of the connection, and refusals
	often  *say.Every // refusals, and events with the id of another one
	seldom *say.Every // messages that are not read, by reason, and a rival

	mu       sync.Mutex
	pending  map[identity]*delivery // submitted, or refused and to be offered again
	recent   *recentEvents
	out      int           // deliveries with the sink
	retries  []*delivery   // refused
	due      time.Time     // when they are offered again
	retry    chan struct{} // wakes the reader while there are any
	stopping bool
	refusing int // deliveries that were refused and not taken since
	counts   SubscriberCounts
	sequence uint64
	since    time.Time  // of the present connection; zero without one
	rival    mqtt.Rival // for the client id
}

// SubscriberCounts is what a subscriber has seen since its start.
type SubscriberCounts struct {
	Received    uint64 // messages
	Unsafe      uint64 // of these at QoS 0, which no acknowledgement protects
	Submitted   uint64 // events handed on, repeated offers not counted
	Done        uint64 // events the sink took
	Refused     uint64 // answers of the sink that were refusals
	Skipped     uint64 // messages on topics that are not for this service
	Unmatched   uint64 // messages that no configured topic selects, from an older subscription of the session
	Retained    uint64 // messages that the broker had kept from before the subscription
	Rejected    uint64 // messages that are no event; the quarantine has them by reason
	Duplicates  uint64 // events that had been handed on before, with the same content
	SameID      uint64 // events that had the id of another one and a different content; handed on like any other
	Acked       uint64 // messages acknowledged
	Abandoned   uint64 // messages left unacknowledged, at the stop or since their connection ended: the broker delivers them again
	Connections uint64 // to the broker, ever
	Connected   bool
	Subscribed  bool // to all topics, on the present connection
	UnderWay    GateCounts
}

// messageCost is what a message of n bytes takes in memory while it is under way: paho keeps it until it is
// acknowledged, and the event is decoded out of it.
func messageCost(n int) int { return 2 * n }

// NewSubscriber checks the configuration; Start connects. The quarantine and the log must outlive the subscriber.
func NewSubscriber(cfg Config, bus Bus, sink Sink, aside *quarantine.Quarantine, log Logger) (*Subscriber, error) {
	if cfg.ClientID != "" {
		bus.ClientID = cfg.ClientID
	}
	if err := errors.Join(cfg.Validate(), bus.validate(cfg)); err != nil {
		return nil, err
	}
	s := &Subscriber{
		cfg: cfg, bus: bus, sink: sink, quarantine: aside, log: log, limits: cfg.Limits(),
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

// concluded counts a message that has left, and gives its room back.
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

// Start connects and begins to read. It waits for the first connection as long as the context allows; without one it
// says so in the log and goes on trying, because a gateway may well be up before its broker.
func (s *Subscriber) Start(ctx context.Context) {
	s.started.Do(func() {
		s.workers.Go(s.run)
		s.acks.Start()
		s.connecting.Go(func() { s.connection.Run(s.ctx) })
		select {
		case <-s.first:
		case <-ctx.Done():
			s.log.Warnf("the MQTT MessageBus does not answer, still trying: url=%s", s.bus.URL)
		case <-s.ctx.Done():
		}
	})
}

// receive gets one message after the other. While the gate is full it blocks, and with it the reading from the connection.
func (s *Subscriber) receive(_ *mqtt.Session, m mqtt.Message) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	pass, err := s.gate.Wait(s.ctx, messageCost(len(m.Payload)))
	if err != nil { // stopping: the broker keeps it
		s.count(func(c *SubscriberCounts) { c.Abandoned++ })
		return
	}
	s.arrived <- arrival{m, pass} // has room for all that the gate lets in
}

// run is the reader: it hands on slices of what has arrived, and offers again what was refused.
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

// Counts is the subscriber now.
func (s *Subscriber) Counts() SubscriberCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Connected, c.UnderWay = s.connection.Session() != nil, s.gate.Counts()
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
	s.started.Do(s.acks.Start) // never started: there is nothing to wait for
	err := s.gate.Close(ctx)
	if err != nil {
		err = fmt.Errorf("stopping the MQTT subscriber, the broker will deliver again what was left: %w", err)
	}
	s.connecting.Wait() // its context has ended
	if !s.acks.Stop(ctx) {
		s.connection.Renew() // the broker does not take the acknowledgements
		s.acks.Wait()
	} else if session := s.connection.Session(); session != nil {
		settling, cancel := context.WithTimeout(ctx, settleTimeout)
		_ = session.Settle(settling) // a broker that does not answer delivers again what it has not read
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
	writeTimeout   = 30 * time.Second // for an acknowledgement; a broker that takes none for so long is hung
	maxBackOff     = 10 * time.Second
	settleTimeout  = 500 * time.Millisecond // for the broker to read the last acknowledgements
)

// keeper holds the connection.
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

// Rotate renews the connection, which reads the credentials anew. Events under way are delivered again and recognised.
func (s *Subscriber) Rotate() { s.connection.Renew() }

// report logs a problem of the connection, but not the same one again until there was none.
func (s *Subscriber) report(problem error) {
	if s.ctx.Err() == nil && s.once.Changed("connection", problem) {
		s.log.Errorf("cannot connect to the MQTT MessageBus, still trying: url=%s error=%q", s.bus.URL, problem)
	}
}

func (s *Subscriber) lost(session *mqtt.Session, lived time.Duration) {
	err := session.Cause()
	s.mu.Lock()
	rival := s.counts.Subscribed && s.rival.Lost(lived, err)
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

// Rival says, as a sentence, that another client of the broker uses the same client id; "" while there is no sign of one.
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

// connected subscribes, also where the session is known to the broker, because the topics may have changed since.
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

// Credentials is what the secret of the MessageBus holds; which parts there must be depends on the AuthMode.
type Credentials = mqtt.Credentials

// Bus says where the MQTT MessageBus is and how to log in. The wiring fills it from what the SDK's own MessageBus and
// Trigger configuration says.
type Bus struct {
	URL      string   // see mqtt.ParseAddress
	Topics   []string // filters with their base prefix, e.g. edgex/events/#
	ClientID string   // used where Config.ClientID is empty

	// Remember is a file in which the topics of the session are kept, so that those no longer configured are unsubscribed from; "" keeps none.
	Remember string

	AuthMode       string // one of mqtt's Auth words; "" means "none"
	SkipCertVerify bool   // trust any certificate of the broker
	// Credentials is asked at each connection, so that a rotated secret applies from the next one on. nil where AuthMode is "none".
	Credentials func() (Credentials, error)
	// Skip names topics whose messages are acknowledged unread, such as the service's own results; nil skips none.
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
