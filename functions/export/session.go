package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"

	"app-offload/functions/mqtt"
)

// dialer holds the parameters of a connection.
type dialer struct {
	broker  string // as configured, for log messages
	options mqtt.Options
	topics  func() map[string]byte
	needed  string             // the topic that a connection must subscribe to; "" for none
	denied  func(topic string) // called for each other topic that the broker refuses
}

func newDialer(x *Exporter, needed string) dialer {
	brokers, _ := mqtt.ParseAddresses(x.cfg.Broker) // New has parsed it
	auth := mqtt.Auth{Mode: x.cfg.AuthMode, Secret: x.cfg.SecretName, SkipCertVerify: x.cfg.SkipCertVerify, Credentials: x.deps.Credentials}
	return dialer{broker: x.cfg.Broker, topics: x.topics, needed: needed, denied: x.denied, options: mqtt.Options{
		Brokers: brokers, ClientID: x.clientID(), Login: auth.Login,
		KeepAlive: x.times.keepAlive, PingTimeout: x.times.ack, ConnectTimeout: x.times.connect, Stall: x.times.ack,
		MaxPacket: x.maxPacket(), Skipped: x.oversized, Receive: x.receive,
	}}
}

// denied records a refused subscription that the node does not need. It is called during a connection attempt.
func (x *Exporter) denied(topic string) {
	x.wrongReceipt("subscription_denied", fmt.Sprintf("the broker refuses the subscription to %s: allow the node to read it", topic))
}

func (x *Exporter) maxPacket() int { return cmp.Or(x.deps.MaxPacket, maxPacket) }

// oversized is called while a message is skipped, on the reading goroutine.
func (x *Exporter) oversized(o mqtt.Oversized) {
	x.wrongReceipt("oversized", fmt.Sprintf("skipped a message of %d bytes on %s, above the limit of %d: check which client publishes there", o.Size, quote(o.Topic), x.maxPacket()))
}

// errHung is the cause of a session that the exporter closed for lack of acknowledgements.
var errHung = errors.New("the broker acknowledges nothing")

// dial connects, subscribes, and returns a session with the round trip of the subscription. On an error nothing stays open.
func (d *dialer) dial(ctx context.Context) (*mqtt.Session, time.Duration, error) {
	s, err := mqtt.Dial(ctx, d.options)
	if login, ok := errors.AsType[*mqtt.LoginError](err); ok {
		return nil, 0, &kindError{"credentials", login}
	}
	if err != nil {
		return nil, 0, &kindError{"connect", fmt.Errorf("connecting to %s: %w", d.broker, err)}
	}
	began := time.Now()
	refused, err := s.Subscribe(ctx, d.topics())
	if slices.Contains(refused, d.needed) {
		err = fmt.Errorf("the broker refuses the subscription to %s, without which no receipt arrives: allow the node to read it (its access rules decide)", d.needed)
	}
	if err != nil {
		s.End(err, 0)
		return nil, 0, &kindError{"subscribe", fmt.Errorf("subscribing at %s: %w", d.broker, err)}
	}
	for _, topic := range refused {
		d.denied(topic)
	}
	return s, time.Since(began), nil
}

// kindError adds the kind under which an error is counted.
type kindError struct {
	kind string
	err  error
}

func (e *kindError) Error() string { return e.err.Error() }
func (e *kindError) Unwrap() error { return e.err }

// clientID returns a node's client id at the broker. NATS rejects characters that are special in its subjects, so they are replaced; a checksum of
// the name distinguishes "a.b" from "a-b".
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
