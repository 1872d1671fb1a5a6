package intake

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"app-offload/functions/mqtt"
)

const (
	connectTimeout = 10 * time.Second
	writeTimeout   = 30 * time.Second // for an acknowledgement; a broker that takes none for so long is hung
	maxBackOff     = 10 * time.Second
)

func (s *Subscriber) options() *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.AddBroker(s.bus.URL)
	o.SetClientID(s.bus.ClientID)
	o.SetCleanSession(!s.cfg.PersistentSession)
	o.SetProtocolVersion(4)
	o.SetOrderMatters(true)
	o.SetAutoAckDisabled(true)
	o.SetStore(noStore{})
	o.SetKeepAlive(duration(s.cfg.KeepAlive, 30*time.Second))
	o.SetPingTimeout(duration(s.cfg.KeepAlive, 30*time.Second))
	o.SetConnectTimeout(connectTimeout)
	o.SetAutoReconnect(true)
	o.SetMaxReconnectInterval(maxBackOff)
	o.SetConnectRetry(true)
	o.SetConnectRetryInterval(time.Second)
	o.SetDefaultPublishHandler(s.receive)
	o.SetOnConnectHandler(s.connected)
	o.SetConnectionLostHandler(s.lost)
	o.SetConnectionNotificationHandler(s.notified)
	o.SetCustomOpenConnectionFn(s.open)
	if s.bus.mode() == AuthUsernamePassword {
		o.SetCredentialsProvider(s.login)
	}
	return o
}

func (s *Subscriber) login() (username, password string) {
	c, err := s.bus.credentials()
	if err != nil {
		s.report(fmt.Errorf("logging in: %w", err))
	}
	return c.Username, c.Password
}

// open makes the connection. Reading through a buffer saves most system calls, since paho reads a packet in three parts.
func (s *Subscriber) open(at *url.URL, _ paho.ClientOptions) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, connectTimeout)
	defer cancel()
	var dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = &net.Dialer{}
	port := "1883"
	if slices.Contains(tlsSchemes, strings.ToLower(at.Scheme)) {
		cfg, err := s.bus.tlsConfig(at.Hostname())
		if err != nil {
			return nil, fmt.Errorf("preparing TLS: %w", err)
		}
		dialer, port = &tls.Dialer{Config: cfg}, "8883"
	}
	if at.Port() != "" {
		port = at.Port()
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(at.Hostname(), port))
	if err != nil {
		return nil, err
	}
	buffered := &bufferedConn{Conn: conn, r: bufio.NewReaderSize(conn, s.cfg.ReadBufferKiB<<10)}
	s.conn.set(buffered)
	s.life.Store(s.acks.renew())
	return mqtt.Limit(buffered, s.cfg.maxPacket(), nil), nil
}

// connection is the current one, to be cut for a new login.
type connection struct {
	mu   sync.Mutex
	conn net.Conn
}

func (c *connection) set(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn = conn
}

func (c *connection) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		// Closing it would look to paho as if it had done so itself, and it would not connect again.
		_ = c.conn.SetDeadline(time.Unix(1, 0))
	}
}

// Rotate renews the connection, which reads the credentials anew. Events under way are delivered again and recognised.
func (s *Subscriber) Rotate() { s.conn.cut() }

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Write is bounded in time, because paho bounds only its publishes.
func (c *bufferedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// noStore keeps nothing: the broker has what is not acknowledged, and paho would deliver its own copies besides.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}

// notified hears of attempts that failed, of which paho says nothing otherwise.
func (s *Subscriber) notified(_ paho.Client, n paho.ConnectionNotification) {
	if failed, ok := n.(paho.ConnectionNotificationFailed); ok {
		s.report(fmt.Errorf("connecting: %w", failed.Reason))
	}
}

// report logs a problem of the connection, but not the same one again until there was none.
func (s *Subscriber) report(problem error) {
	text := ""
	if problem != nil {
		text = problem.Error()
	}
	s.mu.Lock()
	known := s.reported == text || s.stopping
	s.reported = text
	s.mu.Unlock()
	if !known && text != "" {
		s.log.Errorf("MQTT MessageBus %s, still trying: %s", s.bus.URL, text)
	}
}

func (s *Subscriber) lost(_ paho.Client, err error) {
	s.mu.Lock()
	rival := s.counts.Subscribed && s.rival.Lost(time.Since(s.since), err)
	s.counts.Subscribed, s.since = false, time.Time{}
	say := rival && (s.rivalAt.IsZero() || time.Since(s.rivalAt) >= passOverEvery)
	if say {
		s.rivalAt = time.Now()
	}
	s.mu.Unlock()
	s.log.Warnf("connection to the MQTT MessageBus %s is lost, connecting again: %v", s.bus.URL, err)
	if say {
		s.log.Errorf("%s", s.rivalText())
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
func (s *Subscriber) connected(client paho.Client) {
	s.mu.Lock()
	s.counts.Connections++
	s.since = time.Now()
	if s.stopping {
		s.mu.Unlock()
		return
	}
	s.workers.Add(1)
	s.mu.Unlock()
	defer s.workers.Done()
	for wait := time.Second; client.IsConnectionOpen(); wait = min(2*wait, maxBackOff) {
		err := s.subscribe(client)
		if err == nil {
			s.report(nil)
			s.count(func(c *SubscriberCounts) { c.Subscribed = true })
			s.log.Infof("reading from the MQTT MessageBus %s as %q: %s", s.bus.URL, s.bus.ClientID, strings.Join(s.bus.Topics, ", "))
			return
		}
		s.report(fmt.Errorf("subscribing: %w", err))
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
	}
}
