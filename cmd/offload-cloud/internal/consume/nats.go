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

// What the server's MQTT listener calls the stream in which it keeps QoS 1 messages, and their subjects in it.
const (
	mqttStream = "$MQTT_msgs"
	mqttPrefix = "$MQTT.msgs."
)

// NATSConfig says how to reach a cluster whose servers have an MQTT listener.
type NATSConfig struct {
	URLs    string      // of one or more servers, separated by commas
	Durable string      // names the consumer; all who use one name share its messages
	Max     int64       // bytes of a message; what is larger is quarantined by name; 0 for no limit
	Confirm bool        // take confirmations of results as well
	Replay  int         // messages on their way to all who share; 0 is 1,000
	TLS     *tls.Config // nil for none
	Login   func() (user, password string)
	Log     *slog.Logger
}

// NATS is a Transport over JetStream: a durable pull consumer on the very stream in which the MQTT listener keeps what it has
// acknowledged. What is acknowledged to a node is therefore there for us, whichever server dies. A stream of one's own on the same
// subjects would be filled after the acknowledgement, and lose what a dying server had not yet copied.
//
// The stream keeps a message for as long as a consumer is interested in it, so the consumer must exist before the nodes
// publish; what they published before comes again, for want of a receipt.
type NATS struct {
	cfg     NATSConfig
	deliver func(*Message) bool
	conn    *nats.Conn
	up      atomic.Bool
	done    sync.WaitGroup
	cancel  context.CancelFunc
	said    say.Once

	standing func() // told each time the consumer stands
}

// NewNATS prepares a connection; Start makes it.
func NewNATS(cfg NATSConfig) *NATS {
	if cfg.Replay == 0 {
		cfg.Replay = 1000
	}
	return &NATS{cfg: cfg, cancel: func() {}, standing: func() {}}
}

// OnStanding has f called when there is a server and the consumer stands, at the start and after each loss.
func (n *NATS) OnStanding(f func()) { n.standing = f }

// Start connects and returns when the consumer stands, however long the cluster takes for that.
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
	n.standing()
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
				n.standing()
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

// await makes the consumer, or finds it. The stream appears with the first MQTT session, and a cluster that is electing
// its leaders answers nothing, so errors are waited out.
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

// pullBytes is what may be on its way to us: more than the largest message that a server can be made to take, 64 MiB.
const pullBytes = 65 << 20

// keep pulls until ctx ends, and restarts the pulling if it exits unexpectedly.
func (n *NATS) keep(ctx context.Context, js jetstream.JetStream, consumer jetstream.Consumer) {
	for ctx.Err() == nil {
		pulling, err := consumer.Consume(n.receive, jetstream.PullMaxMessagesWithBytesLimit(256, pullBytes), jetstream.PullExpiry(10*time.Second),
			jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
				n.cfg.Log.Debug("pulling", "error", err) // it goes on by itself, or ends, which is seen below
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
		n.cfg.Log.Warn("the consumer is gone, creating it again", "consumer", n.cfg.Durable, "error", err)
		if consumer, err = n.await(ctx, js); err != nil {
			return
		}
		n.up.Store(true)
		n.standing()
	}
}

// receive hands a message on; a refused message is redelivered after a while, to any consumer with room.
func (n *NATS) receive(msg jetstream.Msg) {
	payload, cut := msg.Data(), int64(0)
	if n.cfg.Max > 0 && int64(len(payload)) > n.cfg.Max {
		payload, cut = nil, int64(len(payload))
	}
	m := &Message{Topic: toTopic(strings.TrimPrefix(msg.Subject(), mqttPrefix)), Payload: payload, Cut: cut, Ack: func() {
		if err := msg.Ack(); err != nil {
			n.cfg.Log.Debug("acknowledging", "error", err) // it comes again and is then known
		}
	}}
	if !n.deliver(m) {
		if err := msg.NakWithDelay(5 * time.Second); err != nil {
			n.cfg.Log.Debug("refusing", "error", err)
		}
	}
}

// Publish sends to the subjects that the MQTT listener serves to its subscribers. The flush confirms that the server has it; a node
// that is not connected at the moment misses it, sends again and is told again.
func (n *NATS) Publish(ctx context.Context, out []Outgoing) error {
	out, unfit := sendable(out, "*> \t\r\n\x00")
	for _, o := range out {
		if err := n.conn.Publish(toSubject(o.Topic), o.Payload); err != nil {
			return fmt.Errorf("publishing to %s: %w", o.Topic, err)
		}
	}
	return cmp.Or(n.conn.FlushWithContext(ctx), unfit)
}

// Redeliver has nothing to do: what was refused comes again by itself.
func (n *NATS) Redeliver() {}

// Connected says whether there is a server and the consumer stands.
func (n *NATS) Connected() bool { return n.up.Load() && n.conn.IsConnected() }

// Close leaves the consumer with the cluster, which keeps collecting for it.
func (n *NATS) Close() {
	n.up.Store(false)
	n.cancel()
	n.done.Wait()
	if n.conn == nil {
		return
	}
	if err := n.conn.FlushTimeout(time.Second); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		n.cfg.Log.Debug("flushing", "error", err) // what was not acknowledged comes again
	}
	n.conn.Close()
}

// toSubject and toTopic write names as the MQTT listener does: a level ends with a dot, and a dot is two slashes.
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
