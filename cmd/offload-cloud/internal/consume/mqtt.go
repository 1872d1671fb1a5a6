package consume

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	limit "app-offload/functions/mqtt"
	"app-offload/functions/seal"
)

// MQTTConfig says how to reach a broker.
type MQTTConfig struct {
	URL   string                         // tcp://host:port or ssl://host:port
	ID    string                         // names the session, so it must stay the same and belong to one consumer only
	Share string                         // group of a shared subscription, "" for none
	TLS   *tls.Config                    // for ssl
	Max   int64                          // bytes of a message; what is larger is not read; 0 for no limit
	Login func() (user, password string) // asked at each connection; nil for none
	Log   *slog.Logger
}

// MQTT is a Transport over MQTT 3.1.1 with a persistent session: QoS 1, acknowledged by hand.
type MQTT struct {
	cfg  MQTTConfig
	stop chan struct{}
	kick chan struct{}
	done sync.WaitGroup

	patience time.Duration // for the answer to a subscription

	standing func() // told each time the subscription stands

	mu      sync.Mutex
	client  mqtt.Client
	deliver func(*Message) bool
	fatal   chan error
	ready   chan struct{}
	once    sync.Once
	up      atomic.Bool
}

// NewMQTT prepares a connection; Start makes it.
func NewMQTT(cfg MQTTConfig) *MQTT {
	return &MQTT{
		cfg: cfg, stop: make(chan struct{}), kick: make(chan struct{}, 1),
		fatal: make(chan error, 1), ready: make(chan struct{}), patience: 10 * time.Second, standing: func() {},
	}
}

// OnStanding has f called after each answer to a subscription.
func (m *MQTT) OnStanding(f func()) { m.standing = f }

// Start connects, trying for as long as it takes, and returns when the subscription stands. A broker that refuses the
// subscription will go on refusing it, so that is an error.
func (m *MQTT) Start(ctx context.Context, deliver func(*Message) bool) error {
	m.deliver = deliver
	m.done.Go(m.keep)
	select {
	case <-m.ready:
		return nil
	case err := <-m.fatal:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keep holds a client, and replaces it when unacknowledged messages are wanted again: a broker sends these only to a
// session that is resumed.
func (m *MQTT) keep() {
	for {
		client := mqtt.NewClient(m.options())
		m.mu.Lock()
		m.client = client
		m.mu.Unlock()
		if !m.connect(client) {
			return
		}
		select {
		case <-m.kick:
			m.up.Store(false)
			client.Disconnect(250)
		case <-m.stop:
			return // Close disconnects
		}
	}
}

// connect tries until it succeeds; paho looks after lost connections by itself from then on.
func (m *MQTT) connect(client mqtt.Client) bool {
	pause, logged := 250*time.Millisecond, false
	for {
		token := client.Connect()
		select {
		case <-token.Done():
		case <-m.stop:
			return false
		}
		if token.Error() == nil {
			return true
		}
		if !logged {
			m.cfg.Log.Error("cannot connect to the broker; trying on", "broker", m.cfg.URL, "error", token.Error())
			logged = true
		}
		select {
		case <-time.After(pause):
		case <-m.stop:
			return false
		}
		pause = min(2*pause, 10*time.Second)
	}
}

func (m *MQTT) options() *mqtt.ClientOptions {
	o := mqtt.NewClientOptions().AddBroker(m.cfg.URL).SetClientID(m.cfg.ID).SetProtocolVersion(4).
		SetCleanSession(false).SetOrderMatters(true).SetAutoAckDisabled(true).SetAutoReconnect(true).
		SetMaxReconnectInterval(10 * time.Second).SetKeepAlive(30 * time.Second).SetPingTimeout(10 * time.Second).
		SetConnectTimeout(10 * time.Second).SetWriteTimeout(10 * time.Second).SetTLSConfig(m.cfg.TLS).
		SetDefaultPublishHandler(m.receive).SetOnConnectHandler(m.subscribe).SetConnectionLostHandler(m.lost)
	o.SetCustomOpenConnectionFn(m.open)
	if m.cfg.Login != nil {
		o.SetCredentialsProvider(m.cfg.Login)
	}
	return o
}

// open makes a connection on which a message that is too large is skipped while it is read: paho would allocate all of it first.
func (m *MQTT) open(at *url.URL, options mqtt.ClientOptions) (net.Conn, error) {
	host, port := at.Hostname(), cmp.Or(at.Port(), "1883")
	if m.cfg.TLS != nil {
		port = cmp.Or(at.Port(), "8883")
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), options.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	if m.cfg.TLS != nil {
		cfg := m.cfg.TLS.Clone()
		cfg.ServerName = cmp.Or(cfg.ServerName, host)
		secured := tls.Client(conn, cfg)
		ctx, cancel := context.WithTimeout(context.Background(), options.ConnectTimeout)
		defer cancel()
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conn = secured
	}
	if m.cfg.Max == 0 {
		return conn, nil
	}
	return limit.Limit(conn, int(m.cfg.Max)+headMax, nil), nil
}

// headMax is what a PUBLISH may have beside its payload: a topic and a packet id.
const headMax = 2 + 1<<16 + 2

// receive runs in paho's reading goroutine, in the order of arrival. To hold it back is to hold the broker back.
func (m *MQTT) receive(_ mqtt.Client, msg mqtt.Message) {
	in := &Message{Topic: msg.Topic(), Payload: msg.Payload(), Ack: msg.Ack}
	if size, skipped := limit.Skipped(in.Payload); skipped {
		in.Payload, in.Cut = nil, int64(size)
	}
	m.deliver(in)
}

// subscribe is done at every connection: a broker may have lost the session, and to subscribe twice does no harm.
func (m *MQTT) subscribe(client mqtt.Client) {
	filters := map[string]byte{m.filter("+/batch/#"): 1, m.filter("+/gone"): 1}
	token := client.SubscribeMultiple(filters, nil).(*mqtt.SubscribeToken)
	if !token.WaitTimeout(m.patience) || token.Error() != nil && !refused(token) {
		m.cfg.Log.Warn("subscribing failed; it is tried again with a new connection", "error", cmp.Or(token.Error(), errNoAnswer))
		if client.IsConnectionOpen() {
			m.Redeliver() // or nothing would end this one
		}
		return
	}
	if refused(token) {
		err := fmt.Errorf("the broker refuses a subscription to %sto client %q; allow it there", seal.TopicRoot, m.cfg.ID)
		select {
		case m.fatal <- err:
		default:
			m.cfg.Log.Error("nothing will be received", "error", err)
		}
		return
	}
	was := m.up.Swap(true)
	m.standing()
	if was {
		return
	}
	m.cfg.Log.Info("subscribed", "broker", m.cfg.URL, "session", m.cfg.ID)
	m.once.Do(func() { close(m.ready) })
}

var errNoAnswer = errors.New("the broker does not answer")

// refused reads the broker's answer: 0x80 stands for no.
func refused(token *mqtt.SubscribeToken) bool {
	for _, code := range token.Result() {
		if code == 0x80 {
			return true
		}
	}
	return false
}

func (m *MQTT) filter(below string) string {
	if m.cfg.Share != "" {
		return "$share/" + m.cfg.Share + "/" + seal.TopicRoot + below
	}
	return seal.TopicRoot + below
}

func (m *MQTT) lost(_ mqtt.Client, err error) {
	m.up.Store(false)
	m.cfg.Log.Warn("the connection to the broker is lost; trying to get it back", "error", err)
}

// Publish sends all and then waits for the broker's word on each. A broker would end the connection at a topic that is a filter, so that is
// no topic of a node.
func (m *MQTT) Publish(ctx context.Context, out []Outgoing) error {
	client := m.current()
	out, unfit := sendable(out, "+#\x00")
	tokens := make([]mqtt.Token, len(out))
	for i, o := range out {
		tokens[i] = client.Publish(o.Topic, 1, false, o.Payload)
	}
	for i, token := range tokens {
		select {
		case <-token.Done():
			if err := token.Error(); err != nil {
				return fmt.Errorf("publishing to %s: %w", out[i].Topic, err)
			}
		case <-ctx.Done():
			return fmt.Errorf("publishing to %s: the broker does not acknowledge: %w", out[i].Topic, ctx.Err())
		}
	}
	return unfit
}

// sendable leaves out what is on a topic with characters that the transport cannot take.
func sendable(out []Outgoing, forbidden string) (fit []Outgoing, err error) {
	bad := func(o Outgoing) bool { return strings.ContainsAny(o.Topic, forbidden) }
	i := slices.IndexFunc(out, bad)
	if i < 0 {
		return out, nil
	}
	err = fmt.Errorf("publishing to %q: the node's name has a character that no topic may have", out[i].Topic)
	return slices.DeleteFunc(slices.Clone(out), bad), err
}

func (m *MQTT) current() mqtt.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

// Redeliver has the session resumed.
func (m *MQTT) Redeliver() {
	select {
	case m.kick <- struct{}{}:
	default: // one is on its way
	}
}

// Connected says whether the subscription stands.
func (m *MQTT) Connected() bool {
	client := m.current()
	return m.up.Load() && client != nil && client.IsConnectionOpen()
}

// Close leaves the session with the broker, which keeps collecting for it.
func (m *MQTT) Close() {
	m.up.Store(false)
	close(m.stop)
	m.done.Wait()
	if client := m.current(); client != nil {
		client.Disconnect(500)
	}
}

var (
	_ Transport = (*MQTT)(nil)
	_ Announcer = (*MQTT)(nil)
)
