package export

import (
	"errors"
	"strings"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/mqtt"
)

// The words of Confirm and of Oversized. Those of AuthMode are mqtt's.
const (
	ConfirmReceipt = "receipt"
	ConfirmPuback  = "puback"

	OversizedHold = "hold"
	OversizedDrop = "drop"
)

// Config says how batches reach the broker. The words are those of the configuration file.
type Config struct {
	// Broker is the URL of the MQTT broker: tcp://, ssl://, ws:// or wss://, or another scheme of mqtt.Schemes, with a host, and a port where it is not 1883, 8883, 80 or
	// 443 respectively; several of one cluster are separated by commas and tried in turn.
	Broker string
	// ClientID is the name this node has at the broker; it must be the same after a restart and unique there. Empty is
	// "app-offload-" and the node's name, in which the characters . * and > are replaced, as NATS refuses them.
	ClientID string
	// AuthMode is how the node proves who it is: none, usernamepassword, cacert or clientcert.
	AuthMode string
	// SecretName is the name under which the secret store keeps username, password, clientcert, clientkey and cacert. Not
	// used when AuthMode is "none".
	SecretName string
	// SkipCertVerify accepts any certificate of the broker. For trials only: it gives up what TLS protects.
	SkipCertVerify bool
	// Confirm is when a record leaves the spool: "receipt" on the consumer's word that it has stored it, "puback" as soon
	// as the broker has it. A broker may lose what it acknowledged; only "receipt" survives that.
	Confirm string
	// ReceiptTimeout is how long an acknowledged batch waits for its receipt before it is sent again, e.g. "30s". The wait
	// doubles with every repetition, up to twenty times this.
	ReceiptTimeout string
	// AckTimeout is how long the broker may acknowledge nothing while something is on its way, before the connection is
	// given up as hung. It doubles with each time in a row, up to eight times this.
	AckTimeout string
	// ConnectTimeout bounds connection, TLS handshake and subscription, together each.
	ConnectTimeout string
	// KeepAlive is the time without traffic after which the connection is tried, in whole seconds.
	KeepAlive string
	// BackoffMin and BackoffMax bound the wait before the next connection attempt: a random part of a bound that starts at
	// the first, doubles with each failure and ends at the second.
	BackoffMin string
	// BackoffMax is the largest bound of that wait.
	BackoffMax string
	// ReleaseAfter is how long the link may be gone before the batches under way are given back to the spool, which frees
	// their memory. "0s" is at once.
	ReleaseAfter string
	// MaxInflight is the most batches that may be under way: sent or acknowledged, but not yet confirmed. From 16 on the exporter uses as many
	// as the measured rate and delay of confirmations need.
	MaxInflight int `within:"1 1024"`
	// MaxInflightKiB bounds the same in KiB of records; one batch always fits.
	MaxInflightKiB int `within:"1 1048576"`
	// LinkAhead is how much of the link's time, by the measured goodput, may be filled in advance, so that fresh data never
	// queues behind more than this; batches are kept to half of it. A link with a long round trip gets six of them, up to
	// two seconds, to be used fully. Longer makes larger batches, which compress better, and fresh data later.
	LinkAhead string
	// ProbeEvery is how often the round trip is measured with an empty message on offload/v1/{node}/ping when no small
	// batch has measured it. "0s" never measures so. The same message tries a connection after the broker has closed others.
	ProbeEvery string
	// Oversized is what becomes of a single record that exceeds Seal.MaxMessageKiB, Seal.MaxDataMiB or what the consumer announces:
	// "hold" keeps it in the spool until a limit is raised or its TTL ends, "drop" gives it up as "too_large". Others pass either way.
	Oversized string
	// RefusedTries is how often the broker may close the connection over one single record, with others of its class passing
	// between, before the record is dropped as "too_large". 0 never drops.
	RefusedTries int `within:"0 1000"`
	// UnreceiptedTries is how often one single record may be acknowledged by the broker, yet be without a receipt while
	// others of its class get theirs, before it is dropped as "unreceipted". 0 never drops.
	UnreceiptedTries int `within:"0 1000000"`
}

// DefaultConfig suits a broker on the same machine or behind an ordinary uplink.
func DefaultConfig() Config {
	// #nosec G101 -- the name of a secret, not a secret
	return Config{
		Broker: "tcp://localhost:1883", AuthMode: mqtt.AuthNone, SecretName: "mqtt-export", Confirm: ConfirmReceipt,
		ReceiptTimeout: "30s", AckTimeout: "30s", ConnectTimeout: "10s", KeepAlive: "30s",
		BackoffMin: "500ms", BackoffMax: "1m", ReleaseAfter: "10s",
		MaxInflight: 256, MaxInflightKiB: 8192, LinkAhead: "100ms", ProbeEvery: "15s",
		Oversized: OversizedHold, RefusedTries: 8, UnreceiptedTries: 10,
	}
}

// times are the durations of a Config, parsed.
type times struct {
	receipt, ack, connect, keepAlive, backoffMin, backoffMax, release, probe time.Duration

	ahead Ahead
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	_, err := c.parse()
	return err
}

func (c Config) parse() (times, error) {
	p := check.Fields("Export", c)
	c.checkBrokers(p)
	p.OneOf("AuthMode", c.AuthMode, mqtt.AuthModes()...)
	p.OneOf("Confirm", c.Confirm, ConfirmReceipt, ConfirmPuback)
	if c.AuthMode != mqtt.AuthNone && c.SecretName == "" {
		p.Addf("SecretName", c.SecretName, "must name the secret that AuthMode %s needs", c.AuthMode)
	}
	if c.ClientID != "" && !check.Printable(c.ClientID) {
		p.Addf("ClientID", c.ClientID, "must be printable UTF-8, or brokers refuse the connection")
	}
	t := times{
		receipt:    p.Duration("ReceiptTimeout", c.ReceiptTimeout, 10*time.Millisecond, 24*time.Hour),
		ack:        p.Duration("AckTimeout", c.AckTimeout, 10*time.Millisecond, time.Hour),
		connect:    p.Duration("ConnectTimeout", c.ConnectTimeout, 10*time.Millisecond, 10*time.Minute),
		keepAlive:  p.Duration("KeepAlive", c.KeepAlive, time.Second, 18*time.Hour),
		backoffMin: p.Duration("BackoffMin", c.BackoffMin, time.Millisecond, time.Hour),
		backoffMax: p.Duration("BackoffMax", c.BackoffMax, time.Millisecond, 24*time.Hour),
		release:    p.Duration("ReleaseAfter", c.ReleaseAfter, 0, 24*time.Hour),
		ahead:      Ahead(p.Duration("LinkAhead", c.LinkAhead, 10*time.Millisecond, time.Hour)),
		probe:      p.Duration("ProbeEvery", c.ProbeEvery, 0, 24*time.Hour),
	}
	if p.Fine("BackoffMin", "BackoffMax") && t.backoffMax < t.backoffMin {
		p.Addf("BackoffMax", c.BackoffMax, "must not be below BackoffMin, which is %s", c.BackoffMin)
	}
	p.OneOf("Oversized", c.Oversized, OversizedHold, OversizedDrop)
	return t, p.Err()
}

func (c Config) checkBrokers(p *check.Problems) {
	needsTLS := c.AuthMode == mqtt.AuthCACert || c.AuthMode == mqtt.AuthClientCert
	for b := range strings.SplitSeq(c.Broker, ",") {
		at, err := mqtt.ParseAddress(b)
		switch {
		case errors.Is(err, mqtt.ErrPassword):
			p.Addf("Broker", mqtt.Redacted(b), "%v", err)
		case err != nil:
			p.Addf("Broker", strings.TrimSpace(b), "%v", err)
		case needsTLS && !at.TLS:
			p.Addf("Broker", strings.TrimSpace(b), "must use ssl:// or wss:// because AuthMode is %s", c.AuthMode)
		}
	}
}
