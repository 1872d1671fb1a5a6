package consume

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/mqtt"
	"app-offload/functions/say"
	"app-offload/functions/seal"
)

// MQTTConfig configures the connection to a broker.
type MQTTConfig struct {
	URL       string                         // see mqtt.ParseAddress
	ID        string                         // name of the session: must stay the same, and belong to one consumer
	Confirm   bool                           // also subscribe to confirmations of results
	Below     []string                       // topics to subscribe to instead of the consumer's, below the root; nil for the consumer's
	Temporary bool                           // the broker discards the session at the end of the connection
	Share     string                         // group of a shared subscription, "" for none
	TLS       *tls.Config                    // for addresses with TLS
	Max       int64                          // maximum bytes of a message; a larger one is not read; 0 for no limit
	Login     func() (user, password string) // called for each connection; nil without a login
	Log       *slog.Logger
}

// MQTT is a Transport over MQTT 3.1.1 with a persistent session, QoS 1 and manual acknowledgements.
type MQTT struct {
	cfg          MQTTConfig
	keeper       mqtt.Keeper
	ctx          context.Context // ends when Close begins
	cancel       context.CancelFunc
	done         sync.WaitGroup
	patience     time.Duration // timeout of a subscription
	onSubscribed func()        // called for each new subscription

	deliver func(*Message) bool
	fatal   chan error
	ready   chan struct{}
	once    sync.Once
	up      atomic.Bool
	asked   atomic.Bool // this connection was closed deliberately
	said    say.Once
	rival   mqtt.Rival // owned by the goroutine of keeper
	acks    acks
}

// NewMQTT returns a transport; Start connects it.
func NewMQTT(cfg MQTTConfig) *MQTT {
	m := &MQTT{
		cfg: cfg, fatal: make(chan error, 1), ready: make(chan struct{}), patience: connectTimeout, onSubscribed: func() {},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

const (
	connectTimeout = 10 * time.Second
	keepAlive      = 30 * time.Second
	writeTimeout   = 10 * time.Second
)

// OnSubscribed sets the function to call after each granted subscription.
func (m *MQTT) OnSubscribed(f func()) { m.onSubscribed = f }

// Start connects, retrying without limit, and returns when the subscription is established. A broker that refuses the subscription will refuse it
// again, so a refusal is an error.
func (m *MQTT) Start(ctx context.Context, deliver func(*Message) bool) error {
	at, err := mqtt.ParseAddress(m.cfg.URL)
	if err != nil {
		return fmt.Errorf("address of the broker: it %w", err)
	}
	m.deliver = deliver
	m.keeper.Options = mqtt.Options{
		Brokers: []mqtt.Address{at}, ClientID: m.cfg.ID, Clean: m.cfg.Temporary, Login: m.login, KeepAlive: keepAlive, PingTimeout: connectTimeout,
		ConnectTimeout: connectTimeout, Stall: writeTimeout, ManualAck: true, Receive: m.receive,
	}
	if m.cfg.Max > 0 {
		m.keeper.Options.MaxPacket = int(m.cfg.Max) + headMax
	}
	m.keeper.Backoff = mqtt.Backoff{Low: 500 * time.Millisecond, High: 10 * time.Second}
	m.keeper.Up, m.keeper.Down = m.subscribe, m.lost
	m.keeper.Failed = func(err error) {
		if m.said.New("connect", "failed") {
			m.cfg.Log.Error("cannot connect to the broker, still trying", "broker", m.cfg.URL, "error", err)
		}
	}
	m.done.Go(func() { m.keeper.Run(m.ctx) })
	select {
	case <-m.ready:
		return nil
	case err := <-m.fatal:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *MQTT) login() (l mqtt.Login, err error) {
	if m.cfg.Login != nil {
		l.Username, l.Password = m.cfg.Login()
	}
	l.TLS = m.cfg.TLS
	return l, nil
}

// headMax is the maximum size of a PUBLISH beside its payload: a topic and a packet id.
const headMax = 2 + 1<<16 + 2

// receive is called in order of arrival. Blocking it blocks the broker.
func (m *MQTT) receive(s *mqtt.Session, msg mqtt.Message) {
	place := m.acks.expect(s, msg)
	if !m.deliver(&Message{
		Topic: msg.Topic, Payload: msg.Payload, Cut: int64(msg.Oversized), Ack: func() { m.acks.done(place) }, Pass: func() { m.acks.pass(place) },
	}) {
		m.acks.pass(place) // the message stays with the broker
	}
}

// subscribe runs for every connection: the broker may have lost the session, and repeated subscriptions are harmless.
func (m *MQTT) subscribe(s *mqtt.Session) {
	m.said.New("connect", "")
	ctx, cancel := context.WithTimeout(m.ctx, m.patience)
	defer cancel()
	topics := map[string]byte{m.filter("+/batch/#"): 1, m.filter("+/gone"): 1}
	if m.cfg.Confirm {
		topics[m.filter("+/confirm")] = 1
	}
	if m.cfg.Below != nil {
		topics = map[string]byte{}
		for _, below := range m.cfg.Below {
			topics[m.filter(below)] = 1
		}
	}
	var refused []string
	var err error
	if len(topics) > 0 { // otherwise it only publishes
		refused, err = s.Subscribe(ctx, topics)
	}
	switch {
	case m.ctx.Err() != nil:
		return
	case err != nil:
		if errors.Is(err, context.DeadlineExceeded) {
			err = errNoAnswer
		}
		m.cfg.Log.Warn("subscribing failed, reconnecting", "error", err)
		s.Cut() // nothing else would end this connection
		return
	case len(refused) > 0:
		err := fmt.Errorf("the broker refuses a subscription to %sto client %q; allow it in the broker's access rules", seal.TopicRoot, m.cfg.ID)
		select {
		case <-m.ready: // it was granted before, and may be granted again
		default:
			select {
			case m.fatal <- err:
			default: // Start has returned
			}
			return
		}
		if m.said.New("refused", "refused") {
			m.cfg.Log.Error("receiving stopped, subscribing again until it is granted", "error", err)
		}
		m.asked.Store(true)
		s.Cut()
		return
	}
	m.said.New("refused", "")
	m.up.Store(true)
	m.onSubscribed()
	m.cfg.Log.Info("subscribed", "broker", m.cfg.URL, "session", m.cfg.ID)
	m.once.Do(func() { close(m.ready) })
}

var errNoAnswer = errors.New("the broker does not answer")

func (m *MQTT) filter(below string) string {
	if m.cfg.Share != "" {
		return "$share/" + m.cfg.Share + "/" + seal.TopicRoot + below
	}
	return seal.TopicRoot + below
}

func (m *MQTT) lost(s *mqtt.Session, lived time.Duration) {
	worked := m.up.Swap(false)
	if m.asked.Swap(false) {
		return
	}
	m.cfg.Log.Warn("lost the connection to the broker, reconnecting", "error", s.Cause())
	if !worked || s.Away() {
		return
	}
	if !m.rival.Lost(lived, s.Cause()) {
		m.said.New("rival", "")
	} else if m.said.New("rival", m.cfg.ID) {
		m.cfg.Log.Error("the broker keeps closing connections that worked: another client probably uses this id; give each consumer an -id of its own", "id", m.cfg.ID)
	}
}

// Publish sends all messages and then waits for their acknowledgements. Messages that were unacknowledged at the end of a connection are sent again
// on the next one. A topic with wildcards would make a broker close the connection, so such messages are left out.
func (m *MQTT) Publish(ctx context.Context, out []Outgoing) error {
	out, unfit := sendable(out, "+#\x00")
	for len(out) > 0 {
		s, err := m.keeper.Await(ctx)
		if err != nil {
			return fmt.Errorf("publishing to %s: no connection to the broker: %w", out[0].Topic, err)
		}
		acked, err := publish(ctx, s, out)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("publishing to %s: %w", out[acked].Topic, err)
		}
		if err != nil {
			s.FailSoon(err)
		}
		out = out[acked:]
	}
	return unfit
}

// publish returns the number of leading messages that the broker has acknowledged.
func publish(ctx context.Context, s *mqtt.Session, out []Outgoing) (acked int, err error) {
	tokens := make([]mqtt.Token, len(out))
	for i, o := range out {
		tokens[i] = s.Publish(o.Topic, o.Payload)
	}
	for i, token := range tokens {
		select {
		case <-token.Done():
			if err := token.Error(); err != nil {
				return i, err
			}
		case <-s.Lost():
			return i, s.Cause()
		case <-ctx.Done():
			return i, fmt.Errorf("the broker does not acknowledge: %w", ctx.Err())
		}
	}
	return len(out), nil
}

// sendable leaves out messages whose topic has characters that the transport cannot carry.
func sendable(out []Outgoing, forbidden string) (fit []Outgoing, err error) {
	bad := func(o Outgoing) bool { return strings.ContainsAny(o.Topic, forbidden) }
	i := slices.IndexFunc(out, bad)
	if i < 0 {
		return out, nil
	}
	err = fmt.Errorf("publishing to %q: the node's name has a character that is not allowed in topics", out[i].Topic)
	return slices.DeleteFunc(slices.Clone(out), bad), err
}

// Redeliver resumes the session: only then does a broker send unacknowledged messages again.
func (m *MQTT) Redeliver() {
	m.up.Store(false)
	m.asked.Store(true)
	m.keeper.Renew()
}

// Connected reports whether the subscription is established.
func (m *MQTT) Connected() bool { return m.up.Load() && m.keeper.Session() != nil }

// Close leaves the session with the broker, which continues to collect messages.
func (m *MQTT) Close() {
	m.up.Store(false)
	m.cancel()
	m.done.Wait()
	m.keeper.End()
}

var (
	_ Transport = (*MQTT)(nil)
	_ Announcer = (*MQTT)(nil)
)

// acks acknowledges messages in order of arrival, as MQTT requires ([MQTT-4.6.0-2]), although lanes finish them in another order: a broker such as
// mosquitto delivers out of order after acknowledgements out of order. A message blocked in the database is passed by later ones, so that it does not
// delay other nodes. An unfinished message that is not passed delays finished ones behind it for at most the patience, and is then passed. The zero
// value is ready. All methods are safe for concurrent use; done writes to the connection.
type acks struct {
	patience time.Duration // 0 means the default of Limits

	mu      sync.Mutex
	session *mqtt.Session
	queue   []*ack      // of the session, in order of arrival
	writing bool        // a goroutine writes the due acknowledgements
	again   *time.Timer // checks finished messages that are delayed
}

// ack is the place of one message.
type ack struct {
	message mqtt.Message
	state   ackState
	since   time.Time // when it was done
}

type ackState uint8

const (
	ackOpen ackState = iota
	ackDone
	ackPassed // to be acknowledged separately, if ever
)

// expect gives a message a place behind all earlier ones. Messages of an earlier session have no place: the broker delivers them again.
func (a *acks) expect(s *mqtt.Session, m mqtt.Message) *ack {
	m.Payload = nil
	one := &ack{message: m}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.session != s {
		a.session, a.queue = s, nil
	}
	a.queue = append(a.queue, one)
	return one
}

// pass allows later messages to be acknowledged before this one.
func (a *acks) pass(one *ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one.state == ackOpen {
		one.state = ackPassed
	}
	a.write()
}

// done acknowledges a message once all earlier ones are done or passed.
func (a *acks) done(one *ack) {
	a.mu.Lock()
	passed := one.state == ackPassed
	if !passed {
		one.state, one.since = ackDone, time.Now()
		a.write()
	}
	a.mu.Unlock()
	if passed {
		one.message.Ack()
	}
}

// write writes the due acknowledgements, in one goroutine at a time. The caller holds the lock, which write releases while it writes;
// acknowledgements that become due meanwhile are written next.
func (a *acks) write() {
	if a.writing {
		return
	}
	a.writing = true
	defer func() { a.writing = false }()
	for {
		var due []mqtt.Message
		a.passOverdue()
		for len(a.queue) > 0 && a.queue[0].state != ackOpen {
			if a.queue[0].state == ackDone {
				due = append(due, a.queue[0].message)
			}
			a.queue[0] = nil
			a.queue = a.queue[1:]
		}
		if len(due) == 0 {
			return
		}
		s := a.session
		a.mu.Unlock()
		s.Ack(due...)
		a.mu.Lock()
	}
}

// passOverdue passes the messages that delay one that was done longer ago than the patience. The caller holds the lock.
func (a *acks) passOverdue() {
	patience := cmp.Or(a.patience, Limits{}.withDefaults().Patience)
	first := slices.IndexFunc(a.queue, func(one *ack) bool { return one.state == ackDone })
	if first <= 0 {
		return
	}
	left := patience - time.Since(a.queue[first].since)
	if left <= 0 {
		for _, one := range a.queue[:first] {
			one.state = ackPassed
		}
		return
	}
	if a.again != nil {
		a.again.Stop()
	}
	a.again = time.AfterFunc(left, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.write()
	})
}
