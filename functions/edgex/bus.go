package edgex

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/edgexfoundry/go-mod-messaging/v3/messaging"
	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"

	"app-offload/functions/keys"
	"app-offload/functions/local"
)

// retryBus is the pause before another attempt to reach the bus.
const retryBus = time.Second

// Bus is a MessageBus client of our own. It connects on first use and again after a failure, and stays until Close, which follows the
// last result. It is safe for concurrent use.
type Bus struct {
	cfg     BusConfig
	suffix  string
	secrets keys.Secrets

	dialing sync.Mutex // held while connecting, without mu
	mu      sync.Mutex
	client  messaging.MessageClient
	closed  bool
	calls   sync.WaitGroup // of clients, which may wait without a limit; Close waits for them for a moment
}

// NewBus prepares a client; role distinguishes its client id from others of this service on the same broker.
func NewBus(cfg BusConfig, role string, secrets keys.Secrets) *Bus {
	return &Bus{cfg: cfg, suffix: "-" + role, secrets: secrets}
}

// ErrNoBus means that there is no bus for results, by configuration or because the service stops.
var ErrNoBus = errors.New("no MessageBus: MessageBus.Disabled is set, or the service is stopping")

// Publish sends one payload to the topic below the base prefix. If the bus cannot be reached, the error wraps local.ErrAway. After a failure over an
// existing connection it connects again for a second attempt, which distinguishes a bus that is away from one that rejects the payload.
func (b *Bus) Publish(topic, contentType, correlationID string, payload []byte) error {
	var m types.MessageEnvelope
	m.ApiVersion = "v3"
	m.CorrelationID, m.ContentType, m.Payload = correlationID, contentType, payload
	topic = b.cfg.BaseTopicPrefix + "/" + topic
	again, err := b.attempt(m, topic)
	if again {
		_, err = b.attempt(m, topic)
	}
	return err
}

// attempt is one attempt to publish. again is set if it failed over a connection that it has dropped.
func (b *Bus) attempt(m types.MessageEnvelope, topic string) (again bool, err error) {
	client, err := b.connected()
	if err != nil {
		return false, err
	}
	if err = client.Publish(m, topic); err == nil {
		return false, nil
	}
	var reply interface {
		error
		RedisError()
	}
	switch {
	case errors.As(err, &reply): // Redis is there, and refuses, such as for lack of permission
	case strings.EqualFold(b.cfg.Type, "redis"): // its client connects with each message
		err = fmt.Errorf("%w: %w", local.ErrAway, err)
	default:
		b.replace(client)
		again = true
	}
	return again, fmt.Errorf("publishing %d bytes on %s: %w", len(m.Payload), topic, err)
}

// replace drops a failed client. A call that failed with an earlier client leaves the current one alone.
func (b *Bus) replace(failed messaging.MessageClient) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client == failed && !b.closed {
		b.client = nil
		b.calls.Go(func() { _ = failed.Disconnect() })
	}
}

// Close disconnects. Later calls of Publish return ErrNoBus. The client of go-mod-messaging may wait forever for a broker that is gone, so
// Close waits only for a moment, and leaves the rest to the end of the process.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	client := b.client
	b.mu.Unlock()
	gone := make(chan error, 1)
	go func() {
		var err error
		if client != nil {
			err = client.Disconnect()
		}
		b.calls.Wait()
		gone <- err
	}()
	select {
	case err := <-gone:
		return err
	case <-time.After(farewell):
		return nil
	}
}

// subscribe subscribes, and sends the result. The client of Redis waits without a limit for a server that hangs, and holds up its own disconnection
// meanwhile.
func (b *Bus) subscribe(client messaging.MessageClient, channels []types.TopicChannel, errs chan error) <-chan error {
	result := make(chan error, 1)
	b.calls.Go(func() { result <- client.Subscribe(channels, errs) })
	return result
}

// abandon drops the current client, whose subscription has failed: the next use makes a new one. It is disconnected before its readers are
// unsubscribed, so that nothing waits for an unreachable bus. As Close, abandon waits only for a moment.
func (b *Bus) abandon(topics []string) {
	b.mu.Lock()
	client := b.client
	b.client = nil
	b.mu.Unlock()
	if client == nil {
		return
	}
	gone := make(chan struct{})
	b.calls.Go(func() {
		defer close(gone)
		_ = client.Disconnect()
		_ = client.Unsubscribe(topics...) // fails, since it is closed, but has ended the readers by then
	})
	select {
	case <-gone:
	case <-time.After(farewell):
	}
}

// farewell is the time limit of a disconnection.
const farewell = 300 * time.Millisecond

// connected returns the client, and connects first without one. Close does not wait for it.
func (b *Bus) connected() (messaging.MessageClient, error) {
	if client, err := b.current(); client != nil || err != nil {
		return client, err
	}
	b.dialing.Lock()
	defer b.dialing.Unlock()
	if client, err := b.current(); client != nil || err != nil {
		return client, err
	}
	client, err := b.connect()
	if err != nil {
		return nil, fmt.Errorf("%w: connecting to the %s MessageBus at %s:%d: %w", local.ErrAway, b.cfg.Type, b.cfg.Host, b.cfg.Port, err)
	}
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.client = client
	}
	b.mu.Unlock()
	if closed {
		_ = client.Disconnect() // without mu, since it may take long
		return nil, ErrNoBus
	}
	return client, nil
}

// current returns the client, nil without one, or ErrNoBus if the bus is disabled or closed.
func (b *Bus) current() (messaging.MessageClient, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.cfg.Disabled {
		return nil, ErrNoBus
	}
	return b.client, nil
}

func (b *Bus) connect() (messaging.MessageClient, error) {
	optional, err := b.options()
	if err != nil {
		return nil, err
	}
	client, err := messaging.NewMessageClient(types.MessageBusConfig{
		Broker:   types.HostInfo{Host: b.cfg.Host, Port: b.cfg.Port, Protocol: b.cfg.Protocol},
		Type:     b.cfg.Type,
		Optional: optional,
	})
	if err != nil {
		return nil, err
	}
	return client, client.Connect()
}

// options adds the secrets that AuthMode needs, under the names that go-mod-messaging reads.
func (b *Bus) options() (map[string]string, error) {
	o := map[string]string{}
	for k, v := range b.cfg.Optional {
		o[k] = v
	}
	o["ClientId"] = b.cfg.ClientID() + b.suffix
	if strings.EqualFold(b.cfg.Type, "mqtt") {
		o["AutoReconnect"] = "false" // a client that reconnects by itself drops messages of QoS 0 meanwhile, and reports success
	}
	mode := strings.ToLower(b.cfg.AuthMode)
	if mode == "" || mode == "none" {
		return o, nil
	}
	s, err := b.secrets.GetSecret(b.cfg.SecretName)
	if err != nil {
		return nil, fmt.Errorf("reading secret %q for AuthMode %s: %w", b.cfg.SecretName, b.cfg.AuthMode, err)
	}
	names := map[string]string{
		"username": "Username", "password": "Password", "clientcert": "CertPEMBlock", "clientkey": "KeyPEMBlock", "cacert": "CaPEMBlock",
	}
	for key, option := range names {
		if v := s[key]; v != "" {
			o[option] = v
		}
	}
	return o, nil
}
