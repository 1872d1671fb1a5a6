package export

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	wire "app-offload/functions/mqtt"
)

// session is one connection to the broker and a client of its own for it.
//
// A new client for each connection, instead of one that reconnects by itself, is what keeps the order: a client that
// resumes publishes what it still holds in an order of its own, beside what the window publishes. The broker knows both
// clients by the same name and keeps what the node is to hear.
type session struct {
	client     mqtt.Client
	remembered bool // the broker still knew the node's session

	once  sync.Once
	lost  chan struct{} // closed at the end of the connection
	cause error         // why, valid once lost is closed

	mu    sync.Mutex
	pipes []*pipe // all that were opened for this client, to be closed at the end; the last is in use
}

// dialer holds what a session is made of.
type dialer struct {
	cfg         Config
	times       times
	node        string
	topics      map[string]byte
	needed      string             // the topic without which a connection is of no use, "" is none
	denied      func(topic string) // is called for each of the others that the broker refuses
	maxPacket   int
	oversized   func(o wire.Oversized) // is called for each message above it, which is skipped while it is read
	credentials func() (Credentials, error)
	heard       func(s *session, m mqtt.Message)
}

// errHung and errStopped are causes that are the node's own doing.
var (
	errHung    = errors.New("the broker acknowledges nothing")
	errStopped = errors.New("stopped")
)

// dial connects, subscribes, and returns a session with the round trip of the subscription. Nothing is left behind on
// an error.
func (d *dialer) dial(ctx context.Context) (*session, time.Duration, error) {
	s := &session{lost: make(chan struct{})}
	options, err := d.options(ctx, s)
	if err != nil {
		return nil, 0, &kindError{"credentials", err}
	}
	s.client = mqtt.NewClient(options)
	connect := s.client.Connect()
	if err := wait(ctx, connect, s.lost, d.times.connect*time.Duration(len(d.cfg.brokers())+1)); err != nil {
		s.end(err, 0)
		return nil, 0, &kindError{"connect", fmt.Errorf("connecting to %s: %w", d.cfg.Broker, err)}
	}
	s.remembered = connect.(*mqtt.ConnectToken).SessionPresent()
	began := time.Now()
	subscribe := s.client.SubscribeMultiple(d.topics, nil)
	err = wait(ctx, subscribe, s.lost, d.times.connect)
	if err == nil {
		err = d.granted(subscribe)
	}
	if err != nil {
		s.end(err, 0)
		return nil, 0, &kindError{"subscribe", fmt.Errorf("subscribing at %s: %w", d.cfg.Broker, err)}
	}
	return s, time.Since(began), nil
}

func (d *dialer) options(ctx context.Context, s *session) (*mqtt.ClientOptions, error) {
	o := mqtt.NewClientOptions()
	for _, b := range d.cfg.brokers() {
		o.AddBroker(b)
	}
	o.SetClientID(d.cfg.ClientID)
	if d.cfg.ClientID == "" {
		o.SetClientID(clientID(d.node))
	}
	var c Credentials
	if d.cfg.AuthMode != AuthNone {
		var err error
		if c, err = d.credentials(); err != nil {
			return nil, fmt.Errorf("reading secret %q: %w", d.cfg.SecretName, err)
		}
		if err := c.require(d.cfg.AuthMode); err != nil {
			return nil, fmt.Errorf("secret %q: %w", d.cfg.SecretName, err)
		}
	}
	t, err := c.tlsConfig(d.cfg.SkipCertVerify)
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", d.cfg.SecretName, err)
	}
	o.SetUsername(c.Username).SetPassword(c.Password).SetTLSConfig(t)
	o.SetProtocolVersion(4).SetCleanSession(false).SetOrderMatters(true).SetStore(mqtt.NewMemoryStore())
	o.SetAutoReconnect(false).SetConnectRetry(false)
	o.SetConnectTimeout(d.times.connect).SetKeepAlive(d.times.keepAlive).SetPingTimeout(d.times.ack)
	// The pipe watches the progress of writing, and publish waits for it. What this bounds is how long the client may
	// keep publish when the connection ends just then.
	o.SetWriteTimeout(handOver)
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { d.heard(s, m) })
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { s.fail(err) })
	o.SetCustomOpenConnectionFn(func(u *url.URL, o mqtt.ClientOptions) (net.Conn, error) {
		c, err := open(ctx, u, t, d.times.connect, &o)
		if err != nil {
			return nil, err
		}
		p := newPipe(c, d.times.ack)
		s.keep(p)
		return wire.Limit(p, d.maxPacket, d.oversized), nil
	})
	return o, nil
}

// keep remembers a connection so that the end of the session closes it, whatever the client is doing.
func (s *session) keep(c *pipe) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.lost:
		_ = c.Close()
	default:
		s.pipes = append(s.pipes, c)
	}
}

// handOver is ample time for the client's goroutines to take a packet while nothing else is being written.
const handOver = 2 * time.Second

// publish hands a message to the client and returns when it is written out or the session has ended. So the client
// never holds more than one message that is still to be written, and never blocks on a second one.
func (s *session) publish(topic string, message []byte) mqtt.Token {
	t := s.client.Publish(topic, 1, false, message)
	s.mu.Lock()
	var written <-chan struct{}
	if n := len(s.pipes); n > 0 {
		written = s.pipes[n-1].sent
	}
	s.mu.Unlock()
	select {
	case <-written:
	case <-s.lost:
	case <-failed(t):
	}
	return t
}

// failed is closed when the token failed at once; one that succeeds has been written out before.
func failed(t mqtt.Token) <-chan struct{} {
	select {
	case <-t.Done():
		return t.Done()
	default:
		return nil
	}
}

// fail ends the session; the first cause counts.
func (s *session) fail(cause error) {
	s.once.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cause = cause
		close(s.lost)
	})
}

// failSoon ends the session because a publish failed: nobody can say whether it arrived, so all of it starts over, in
// order. The client usually knows a more telling cause, which is given a moment to come first.
func (s *session) failSoon(cause error) {
	t := time.NewTimer(tellTime)
	defer t.Stop()
	select {
	case <-s.lost:
	case <-t.C:
		s.fail(fmt.Errorf("publishing: %w", cause))
	}
}

// tellTime is how long the client may take to report why a connection was lost.
const tellTime = time.Second

// end fails the session, disconnects within the grace and closes what is open.
func (s *session) end(cause error, grace time.Duration) {
	s.fail(cause)
	if grace > 0 {
		s.client.Disconnect(uint(grace.Milliseconds()))
	}
	s.mu.Lock()
	pipes := s.pipes
	s.pipes = nil
	s.mu.Unlock()
	for _, c := range pipes {
		_ = c.Close()
	}
	s.client.Disconnect(0)
}

// refused tells whether the other side closed the connection, which a message that it does not take may be the cause of.
func (s *session) refused() bool {
	return errors.Is(s.cause, io.EOF) || errors.Is(s.cause, io.ErrUnexpectedEOF) ||
		errors.Is(s.cause, syscall.ECONNRESET) || errors.Is(s.cause, syscall.EPIPE)
}

// wait waits for a token, but not longer than anyone is interested.
func wait(ctx context.Context, t mqtt.Token, lost <-chan struct{}, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-lost:
		return errors.New("the connection was lost")
	case <-timer.C:
		return fmt.Errorf("no answer within %s", timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// granted tells which subscription the broker refused.
func (d *dialer) granted(t mqtt.Token) error {
	for topic, code := range t.(*mqtt.SubscribeToken).Result() {
		switch {
		case code != 0x80:
		case topic == d.needed:
			return fmt.Errorf("the broker refuses the subscription to %s, without which no receipt arrives: allow the node to read it (its access rules decide)", topic)
		case d.denied != nil:
			d.denied(topic)
		}
	}
	return nil
}

// kindError gives an error the kind under which it is counted.
type kindError struct {
	kind string
	err  error
}

func (e *kindError) Error() string { return e.err.Error() }
func (e *kindError) Unwrap() error { return e.err }

// clientID is the name of a node at the broker. NATS refuses the characters that mean something in its subjects, so they are
// replaced, and a sum of the name keeps "a.b" apart from "a-b".
func clientID(node string) string {
	const prefix, meaningful = "app-offload-", ".*>"
	if !strings.ContainsAny(node, meaningful) {
		return prefix + node
	}
	plain := strings.Map(func(r rune) rune {
		if strings.ContainsRune(meaningful, r) {
			return '-'
		}
		return r
	}, node)
	return fmt.Sprintf("%s%s-%08x", prefix, plain, crc32.ChecksumIEEE([]byte(node)))
}
