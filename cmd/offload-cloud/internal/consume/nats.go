package consume

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"app-offload/functions/say"
	"app-offload/functions/seal"
)

// Names that the server's MQTT listener uses for its stream of QoS 1 messages and their subjects.
const (
	mqttStream = "$MQTT_msgs"
	mqttPrefix = "$MQTT.msgs."
)

// NATSConfig configures the connection to a cluster whose servers have an MQTT listener.
type NATSConfig struct {
	URLs    string      // of one or more servers, separated by commas
	Durable string      // name of the consumer; processes with the same name share its messages
	Max     int64       // maximum bytes of a message; a larger one is quarantined without its content; 0 for no limit
	Confirm bool        // also receive confirmations of results
	Replay  int         // maximum unacknowledged messages of all who share; 0 means 1,000
	TLS     *tls.Config // nil for none
	Login   func() (user, password string)
	Log     *slog.Logger
}

// NATS is a Transport over JetStream: a durable pull consumer on the stream in which the MQTT listener stores the messages that it acknowledges. A
// message acknowledged to a node is therefore available whichever server dies. A separate stream on the same subjects would be filled after the
// acknowledgement, and lose messages that a dying server had not yet replicated.
//
// The stream keeps a message as long as a consumer is interested in it, so the consumer must exist before the nodes publish. Nodes repeat earlier
// messages, since they got no receipt.
type NATS struct {
	cfg     NATSConfig
	deliver func(*Message) bool
	conn    *nats.Conn
	up      atomic.Bool
	done    sync.WaitGroup
	cancel  context.CancelFunc
	said    say.Once

	onSubscribed func() // called each time the consumer is available
}

// NewNATS returns a transport; Start connects it.
func NewNATS(cfg NATSConfig) *NATS {
	if cfg.Replay == 0 {
		cfg.Replay = 1000
	}
	return &NATS{cfg: cfg, cancel: func() {}, onSubscribed: func() {}}
}

// OnSubscribed sets the function to call when a server is connected and the consumer is available, at the start and after each loss.
func (n *NATS) OnSubscribed(f func()) { n.onSubscribed = f }

// Start connects and returns when the consumer is available, however long the cluster takes.
func (n *NATS) Start(ctx context.Context, deliver func(*Message) bool) error {
	n.deliver = deliver
	if err := n.connect(); err != nil {
		return err
	}
	js, err := jetstream.New(n.conn)
	if err != nil {
		return fmt.Errorf("using JetStream: %w", err)
	}
	consumer, err := n.await(ctx, js)
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.cancel = cancel
	n.up.Store(true)
	n.cfg.Log.Info("subscribed", "servers", n.cfg.URLs, "consumer", n.cfg.Durable)
	n.onSubscribed()
	n.done.Go(func() { n.keep(life, js, consumer) })
	return nil
}

func (n *NATS) connect() error {
	options := []nats.Option{
		nats.Name("offload-cloud " + n.cfg.Durable), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				n.cfg.Log.Warn("lost the connection to the cluster, reconnecting", "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			if n.said.New("connect", "failed") {
				n.cfg.Log.Warn("cannot connect to a server of the cluster, still trying", "servers", n.cfg.URLs, "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			if n.said.New("connect", ""); n.up.Load() {
				n.onSubscribed()
			}
		}),
	}
	if n.cfg.TLS != nil {
		options = append(options, nats.Secure(n.cfg.TLS))
	}
	if n.cfg.Login != nil {
		options = append(options, nats.UserInfoHandler(n.cfg.Login))
	}
	conn, err := nats.Connect(n.cfg.URLs, options...)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", n.cfg.URLs, err)
	}
	n.conn = conn
	return nil
}

// await creates or finds the consumer. The stream appears with the first MQTT session, and a cluster does not answer while it elects its leaders, so
// await retries after errors.
func (n *NATS) await(ctx context.Context, js jetstream.JetStream) (jetstream.Consumer, error) {
	subjects := mqttPrefix + strings.TrimSuffix(toSubject(seal.TopicRoot), ".")
	cfg := jetstream.ConsumerConfig{
		Durable: n.cfg.Durable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: n.cfg.Replay,
		FilterSubjects: []string{subjects + ".*.batch.>", subjects + ".*.gone"},
	}
	if n.cfg.Confirm {
		cfg.FilterSubjects = append(cfg.FilterSubjects, subjects+".*.confirm")
	}
	for last := ""; ; {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		consumer, err := js.CreateOrUpdateConsumer(attempt, mqttStream, cfg)
		cancel()
		if err == nil {
			return consumer, nil
		}
		if text := err.Error(); text != last && ctx.Err() == nil && n.conn.IsConnected() {
			last = text
			n.cfg.Log.Warn("the stream of the MQTT listener is not ready yet; the first MQTT session creates it", "stream", mqttStream, "error", err)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pullBytes is the maximum size of messages in transit, above a server's largest possible message of 64 MiB.
const pullBytes = 65 << 20

// keep pulls until ctx ends, and creates the consumer again if pulling stops unexpectedly.
func (n *NATS) keep(ctx context.Context, js jetstream.JetStream, consumer jetstream.Consumer) {
	for ctx.Err() == nil {
		pulling, err := consumer.Consume(n.receive, jetstream.PullMaxMessagesWithBytesLimit(256, pullBytes), jetstream.PullExpiry(10*time.Second),
			jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
				n.cfg.Log.Debug("pulling", "error", err) // it continues, or ends, which Closed reports
			}))
		if err == nil {
			select {
			case <-pulling.Closed():
			case <-ctx.Done():
				pulling.Stop()
				<-pulling.Closed()
				return
			}
		}
		n.up.Store(false)
		n.cfg.Log.Warn("the consumer disappeared, creating it again", "consumer", n.cfg.Durable, "error", err)
		if consumer, err = n.await(ctx, js); err != nil {
			return
		}
		n.up.Store(true)
		n.onSubscribed()
	}
}

// receive passes a message on. A refused message is redelivered after a while, to any consumer with room.
func (n *NATS) receive(msg jetstream.Msg) {
	payload, cut := msg.Data(), int64(0)
	if n.cfg.Max > 0 && int64(len(payload)) > n.cfg.Max {
		payload, cut = nil, int64(len(payload))
	}
	m := &Message{Topic: toTopic(strings.TrimPrefix(msg.Subject(), mqttPrefix)), Payload: payload, Cut: cut, Ack: func() {
		if err := msg.Ack(); err != nil {
			n.cfg.Log.Debug("acknowledging", "error", err) // it is redelivered and then known
		}
	}}
	if !n.deliver(m) {
		if err := msg.NakWithDelay(5 * time.Second); err != nil {
			n.cfg.Log.Debug("refusing", "error", err)
		}
	}
}

// Publish sends to the subjects that the MQTT listener serves to its subscribers. The flush confirms that the server has the messages. A node that is
// not connected misses its receipt, repeats the batch and gets another.
func (n *NATS) Publish(ctx context.Context, out []Outgoing) error {
	out, unfit := sendable(out, "*> \t\r\n\x00")
	for _, o := range out {
		if err := n.conn.Publish(toSubject(o.Topic), o.Payload); err != nil {
			return fmt.Errorf("publishing to %s: %w", o.Topic, err)
		}
	}
	return cmp.Or(n.conn.FlushWithContext(ctx), unfit)
}

// Redeliver does nothing: the server redelivers refused messages.
func (n *NATS) Redeliver() {}

// Connected reports whether a server is connected and the consumer is available.
func (n *NATS) Connected() bool { return n.up.Load() && n.conn.IsConnected() }

// Close leaves the consumer with the cluster, which continues to collect messages.
func (n *NATS) Close() {
	n.up.Store(false)
	n.cancel()
	n.done.Wait()
	if n.conn == nil {
		return
	}
	if err := n.conn.FlushTimeout(time.Second); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		n.cfg.Log.Debug("flushing", "error", err) // unacknowledged messages are redelivered
	}
	n.conn.Close()
}

// toSubject and toTopic convert names like the MQTT listener: a level ends with a dot, and a dot becomes two slashes.
func toSubject(topic string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(topic, ".", "\x00"), "/", "."), "\x00", "//")
}

func toTopic(subject string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(subject, "//", "\x00"), ".", "/"), "\x00", ".")
}

var (
	_ Transport = (*NATS)(nil)
	_ Announcer = (*NATS)(nil)
)
