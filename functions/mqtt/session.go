package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Options are the options of a connection. Brokers, ClientID, the durations and Receive must be set.
type Options struct {
	Brokers        []Address // tried in turn
	ClientID       string
	Clean          bool                  // the broker discards the session at the end of the connection
	Login          func() (Login, error) // called for each connection; nil for none
	KeepAlive      time.Duration         // time without traffic after which the connection is tested
	PingTimeout    time.Duration         // time for the answer to the test
	ConnectTimeout time.Duration         // for connection, TLS handshake and CONNACK together; for each subscription
	Stall          time.Duration         // longest time without progress of a write
	ReadBuffer     int                   // bytes; 0 for 16 KiB
	MaxPacket      int                   // maximum bytes of a PUBLISH that is read; larger ones are skipped, see inbound. 0 is no limit
	Skipped        func(Oversized)       // called for each skipped PUBLISH on the reading goroutine; may be nil
	Frees          bool                  // the user of Receive frees most messages; otherwise each payload is allocated in its exact size
	ManualAck      bool                  // only Session.Ack acknowledges messages, not the return of Receive
	Opened         func(*Session)        // called before the CONNECT to each address; may be nil
	// Receive is called with one message after the other, in the order of arrival. While it blocks, reading stops as described at inbound. The session
	// ends only after it has returned, unless Fail or End ends it.
	Receive func(*Session, Message)
}

// Message is one PUBLISH from the broker.
type Message struct {
	Topic     string
	Payload   []byte // nil for a skipped message
	Oversized int    // bytes of the skipped packet, else 0
	QoS       byte
	Retained  bool

	id      uint16
	session *Session
	buffer  *[]byte // of the payload, nil if it is not reused
}

// Token is the result of a publish. It is not done when the session ends first.
type Token interface {
	Done() <-chan struct{}
	Error() error
}

// Session is one connection to the broker, with its own paho client. All methods are safe for concurrent use.
type Session struct {
	Remembered bool // the broker still had the session of the ClientID

	client  paho.Client
	timeout time.Duration // for answers

	once  sync.Once
	lost  chan struct{} // closed at the end of the connection
	cause error         // valid once lost is closed

	filters    atomic.Int64 // of the latest SUBSCRIBE
	publishing sync.Mutex   // one publisher at a time, so that a signal of the pipe belongs to its message

	mu     sync.Mutex
	pipes  []*pipe // all connections opened for this client, to be closed at the end; the last one is in use
	remote string  // address of the last one
}

// ErrStopped is the cause of a session ended by its user.
var ErrStopped = errors.New("stopped")

// Dial connects. The error is a *LoginError if the secret is the cause, and names user and client id if the broker refuses them. On an error nothing
// remains open.
func Dial(ctx context.Context, o Options) (*Session, error) {
	s := &Session{lost: make(chan struct{}), timeout: o.ConnectTimeout}
	options, err := s.options(ctx, o)
	if err != nil {
		return nil, err
	}
	s.client = paho.NewClient(options)
	token := s.client.Connect()
	if err := s.wait(ctx, token, o.ConnectTimeout*time.Duration(len(o.Brokers)+1)); err != nil {
		s.End(err, 0)
		return nil, refusal(err, options)
	}
	s.Remembered = token.(*paho.ConnectToken).SessionPresent()
	return s, nil
}

// refusal adds to the broker's return code, a mere number, what the broker may have refused.
func refusal(err error, o *paho.ClientOptions) error {
	switch {
	case errors.Is(err, packets.ErrorRefusedIDRejected):
		return fmt.Errorf("the broker rejects ClientID %q: %w", o.ClientID, err)
	case errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword), errors.Is(err, packets.ErrorRefusedNotAuthorised):
		return fmt.Errorf("the broker refuses user %q with ClientID %q: check its access rules, and the secret: %w", o.Username, o.ClientID, err)
	}
	return err
}

// handOver is ample time for paho's goroutines to accept a packet while nothing else is being written.
const handOver = 2 * time.Second

func (s *Session) options(ctx context.Context, o Options) (*paho.ClientOptions, error) {
	p := paho.NewClientOptions().SetClientID(o.ClientID).SetProtocolVersion(4).SetCleanSession(o.Clean).
		SetStore(noStore{}).SetAutoReconnect(false).SetConnectRetry(false).
		SetConnectTimeout(o.ConnectTimeout).SetKeepAlive(o.KeepAlive).SetPingTimeout(o.PingTimeout).
		SetWriteTimeout(handOver) // the pipe bounds writing; this bounds how long paho blocks Publish when the connection ends
	for _, a := range o.Brokers {
		p.AddBroker(a.String())
	}
	var login Login
	if o.Login != nil {
		var err error
		if login, err = o.Login(); err != nil {
			return nil, &LoginError{err}
		}
	}
	p.SetUsername(login.Username).SetPassword(login.Password)
	p.SetConnectionLostHandler(func(_ paho.Client, err error) { s.Fail(err) }) // after Receive has returned for all that was read
	p.SetCustomOpenConnectionFn(func(u *url.URL, p paho.ClientOptions) (net.Conn, error) {
		at, err := ParseAddress(u.String())
		if err != nil {
			return nil, err
		}
		c, err := connect(ctx, at, login.TLS, o.ConnectTimeout, &p)
		if err != nil {
			return nil, err
		}
		return s.opened(c, o), nil
	})
	return p, nil
}

// opened wraps a connection, and records it so that the end of the session closes it in any state of paho.
func (s *Session) opened(c net.Conn, o Options) net.Conn {
	buffer := o.ReadBuffer
	if buffer == 0 {
		buffer = 16 << 10
	}
	p := newPipe(c, o.Stall)
	s.mu.Lock()
	s.remote = c.RemoteAddr().String()
	if s.Alive() {
		s.pipes = append(s.pipes, p)
	} else {
		_ = p.Close()
	}
	s.mu.Unlock()
	if o.Opened != nil {
		o.Opened(s)
	}
	in := newInbound(p, buffer, o.MaxPacket, o.Skipped, func(batch []Message) { s.receive(&o, batch) })
	in.freed, in.filters = o.Frees, &s.filters
	return in
}

// receive passes messages to the user, and acknowledges them unless the user does.
func (s *Session) receive(o *Options, batch []Message) {
	for i := range batch {
		batch[i].session = s
		o.Receive(s, batch[i])
	}
	if !o.ManualAck {
		s.Ack(batch...)
	}
}

// noStore stores nothing: the broker has the unacknowledged messages, and paho would deliver its own copies as well.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}

// Subscribe subscribes to topics, each with its QoS, and returns those that the broker refuses, sorted.
func (s *Session) Subscribe(ctx context.Context, topics map[string]byte) (refused []string, err error) {
	s.filters.Store(int64(len(topics)))
	token := s.client.SubscribeMultiple(topics, nil) // nil: to the default handler
	if err := s.wait(ctx, token, s.timeout); err != nil {
		return nil, err
	}
	codes := token.(*paho.SubscribeToken).Result()
	if len(codes) < len(topics) {
		return nil, fmt.Errorf("the broker has answered only %d of %d filters", len(codes), len(topics))
	}
	for topic, code := range codes {
		if code == refusedByBroker {
			refused = append(refused, topic)
		}
	}
	slices.Sort(refused)
	return refused, nil
}

const refusedByBroker = 0x80 // the return code of a SUBACK

// Unsubscribe ends subscriptions.
func (s *Session) Unsubscribe(ctx context.Context, topics ...string) error {
	return s.wait(ctx, s.client.Unsubscribe(topics...), s.timeout)
}

// Settle waits until the broker has read everything written before, such as acknowledgements, by a request behind it. A broker discards unread bytes
// of a connection when the client reconnects.
func (s *Session) Settle(ctx context.Context) error {
	return s.Unsubscribe(ctx, "offload/none") // a topic without subscription
}

// wait waits for a token until ctx, the connection or the time ends.
func (s *Session) wait(ctx context.Context, t Token, timeout time.Duration) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-s.lost:
		return errors.New("the connection was lost")
	case <-time.After(timeout):
		return fmt.Errorf("no answer within %s", timeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Publish passes a message to paho at QoS 1, and returns when it is written or the session has ended. So paho never holds more than one unwritten
// message, and never blocks on a second one.
func (s *Session) Publish(topic string, message []byte) Token {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	t := s.client.Publish(topic, 1, false, message)
	var written <-chan struct{}
	if p := s.pipe(); p != nil {
		written = p.sent
	}
	select {
	case <-written:
	case <-s.lost:
	case <-Finished(t):
	}
	return t
}

// Finished returns a closed channel if the token is done, and nil if it is not: after Publish, a finished token with an error failed before its
// message was written.
func Finished(t Token) <-chan struct{} {
	select {
	case <-t.Done():
		return t.Done()
	default:
		return nil
	}
}

func (s *Session) pipe() *pipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pipes) == 0 {
		return nil
	}
	return s.pipes[len(s.pipes)-1]
}

// Ack acknowledges messages of this session, in the given order and with a single write. It is for sessions with Options.ManualAck, and does nothing
// for messages at QoS 0. After the end of the session it does nothing: the broker redelivers such messages.
func (s *Session) Ack(messages ...Message) {
	packet := make([]byte, 0, ackSize*len(messages))
	for _, m := range messages {
		if m.QoS > 0 && m.session == s {
			packet = append(packet, answerTo[m.QoS]<<4, 2, byte(m.id>>8), byte(m.id))
		}
	}
	p := s.pipe()
	if p == nil || len(packet) == 0 {
		return
	}
	if _, err := p.Write(packet); err != nil {
		s.Cut() // a broker that reads no acknowledgements is hung
	}
}

const ackSize = 4 // bytes of a PUBACK

// answerTo is the packet that acknowledges a message at a QoS. Paho completes QoS 2, which a session has if another program subscribed it.
var answerTo = [...]byte{1: packets.Puback, 2: packets.Pubrec}

// Ack acknowledges the message; see Session.Ack.
func (m Message) Ack() { m.session.Ack(m) }

// Cut breaks the connection as a fault would: messages already read are passed to Receive before the session ends.
func (s *Session) Cut() {
	if p := s.pipe(); p != nil {
		_ = p.Conn.SetDeadline(time.Unix(1, 0)) // to paho, closing it would look like its own doing
	}
}

// Fail ends the session immediately; the first cause counts. End must follow.
func (s *Session) Fail(cause error) {
	s.once.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cause = cause
		close(s.lost)
	})
}

// FailSoon ends the session because a publish failed: whether the message arrived is unknown, so everything in flight starts over, in order. Paho
// usually reports a more precise cause shortly after, so FailSoon waits for it.
func (s *Session) FailSoon(cause error) {
	select {
	case <-s.lost:
	case <-time.After(causeTime):
		s.Fail(fmt.Errorf("publishing: %w", cause))
	}
}

// causeTime is the time that paho has to report why a connection was lost.
const causeTime = time.Second

// End fails the session, disconnects within the grace, and closes all connections.
func (s *Session) End(cause error, grace time.Duration) {
	s.Fail(cause)
	if grace > 0 {
		s.client.Disconnect(uint(grace.Milliseconds()))
	}
	s.mu.Lock()
	pipes := s.pipes
	s.pipes = nil
	s.mu.Unlock()
	for _, p := range pipes {
		_ = p.Close()
	}
	s.client.Disconnect(0)
}

// Lost is closed when the session has ended.
func (s *Session) Lost() <-chan struct{} { return s.lost }

// Cause returns why the session has ended, nil before.
func (s *Session) Cause() error {
	if s.Alive() {
		return nil
	}
	return s.cause
}

// The time limits of Away: for a connection, and for a broker to close it.
const (
	awayDial = 300 * time.Millisecond
	awayRead = 100 * time.Millisecond
)

// Away reports whether the peer closed the connection because the broker ends: another connection is refused, or closed before the first packet. It
// blocks for up to awayDial + awayRead. It is false if the session lives, or ended in another way.
func (s *Session) Away() bool {
	if !ClosedByPeer(s.Cause()) {
		return false
	}
	s.mu.Lock()
	remote := s.remote
	s.mu.Unlock()
	c, err := net.DialTimeout("tcp", remote, awayDial)
	if err != nil {
		return true
	}
	defer func() { _ = c.Close() }()
	_ = c.SetReadDeadline(time.Now().Add(awayRead))
	_, err = c.Read(make([]byte, 1))
	return ClosedByPeer(err)
}

// Alive reports whether the session has not ended.
func (s *Session) Alive() bool {
	select {
	case <-s.lost:
		return false
	default:
		return true
	}
}

// pipe is a connection on which a write may take any time while it makes progress: each piece of a packet has its own deadline, so that a large batch
// on a narrow link is not mistaken for a hung broker, and a hung broker is still detected.
type pipe struct {
	net.Conn
	write sync.Mutex    // packets of several goroutines must not interleave
	stall time.Duration // for each piece
	sent  chan struct{} // a signal for each written PUBLISH, while Publish waits for it
}

const pipePiece = 16 << 10

func newPipe(c net.Conn, stall time.Duration) *pipe {
	return &pipe{Conn: c, stall: stall, sent: make(chan struct{}, 1)}
}

func (p *pipe) Write(b []byte) (int, error) {
	p.write.Lock()
	defer p.write.Unlock()
	n := 0
	for piece := range slices.Chunk(b, pipePiece) {
		if err := p.Conn.SetWriteDeadline(time.Now().Add(p.stall)); err != nil {
			return n, err
		}
		k, err := p.Conn.Write(piece)
		n += k
		if err != nil {
			return n, err
		}
	}
	if len(b) > 0 && b[0]>>4 == packets.Publish { // the client writes a packet with one call
		select {
		case p.sent <- struct{}{}:
		default:
		}
	}
	return n, nil
}

// SetWriteDeadline does nothing: each piece has its own deadline.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets the read deadline only, for the same reason.
func (p *pipe) SetDeadline(t time.Time) error { return p.SetReadDeadline(t) }

// connect connects to one address, through TLS or a web socket according to its scheme.
func connect(ctx context.Context, a Address, t *tls.Config, timeout time.Duration, o *paho.ClientOptions) (net.Conn, error) {
	if a.WebSocket {
		return paho.NewWebsocket(a.String(), t, timeout, o.HTTPHeaders, o.WebsocketOptions)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d := &net.Dialer{}
	if a.TLS {
		return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, "tcp", a.Host)
	}
	return d.DialContext(ctx, "tcp", a.Host)
}
