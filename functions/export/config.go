package export

import (
	"errors"
	"strings"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/mqtt"
)

// The values of Confirm and of Oversized. Those of AuthMode are in package mqtt.
const (
	ConfirmReceipt = "receipt"
	ConfirmPuback  = "puback"

	OversizedHold = "hold"
	OversizedDrop = "drop"
)

// Config configures how batches reach the broker.
type Config struct {
	// Broker is the URL of the MQTT broker: tcp://, ssl://, ws:// or wss://, or another scheme of mqtt.Schemes, with a host, and a port unless it is
	// 1883, 8883, 80 or 443 respectively. Several brokers of one cluster are separated by commas and tried in turn.
	Broker string
	// ClientID is the client id of this node at the broker. It must be unique there and the same after a restart. Empty means "app-offload-" and the
	// node's name, in which the characters . * and > are replaced, since NATS rejects them.
	ClientID string
	// AuthMode is how the node authenticates: none, usernamepassword, cacert or clientcert.
	AuthMode string
	// SecretName is the name of the secret with username, password, clientcert, clientkey and cacert. It is not used if AuthMode is "none".
	SecretName string
	// SkipCertVerify accepts any certificate of the broker. For tests only: it removes the protection of TLS.
	SkipCertVerify bool
	// Confirm is when a record leaves the spool: "receipt" when the consumer confirms that it has stored it, "puback" as soon as the broker
	// acknowledges it. A broker may lose messages it acknowledged; only "receipt" survives that.
	Confirm string
	// ReceiptTimeout is how long an acknowledged batch waits for its receipt before it is sent again, such as "30s". The wait doubles with every
	// repetition, up to twenty times this.
	ReceiptTimeout string
	// AckTimeout is how long the broker may acknowledge nothing while messages are in flight, before the connection counts as hung and is closed. It
	// doubles with each hang in a row, up to eight times this.
	AckTimeout string
	// ConnectTimeout is the time limit for connection and TLS handshake together, and for each subscription.
	ConnectTimeout string
	// KeepAlive is the time without traffic after which the connection is checked with a ping, in whole seconds.
	KeepAlive string
	// BackoffMin and BackoffMax limit the wait before the next connection attempt: a random part of a bound that starts at the first, doubles with
	// each failure and ends at the second.
	BackoffMin string
	// BackoffMax is the largest bound of that wait: how long the link may stay down after an outage.
	BackoffMax string
	// ReleaseAfter is how long the link may be down before the batches in flight are returned to the spool, which frees their memory. "0s" returns
	// them immediately.
	ReleaseAfter string
	// MaxInflight is the maximum number of batches in flight: sent or acknowledged, but not yet confirmed. Above 16 the exporter uses as many as the
	// measured rate and delay of confirmations need.
	MaxInflight int `within:"1 1024"`
	// MaxInflightKiB is the same limit in KiB of records; one batch always fits.
	MaxInflightKiB int `within:"1 1048576"`
	// LinkAhead is how much of the link's time, by the measured goodput, may be filled in advance: fresh data never queues behind more than this, and
	// a batch takes at most half of it. A link with a long round trip gets six round trips, up to two seconds, so that it is fully used. A longer
	// time makes batches larger, which compress better, and fresh data later.
	LinkAhead string
	// ProbeEvery is the interval at which an empty message on offload/v1/{node}/ping measures the round trip, unless a small batch has measured it.
	// "0s" disables the measurement. The same message checks a connection after the broker has closed others.
	ProbeEvery string
	// Oversized is what happens to a single record that exceeds Seal.MaxMessageKiB, Seal.MaxDataMiB or a limit announced by the consumer: "hold"
	// keeps it in the spool until a limit is raised or its TTL ends, "drop" drops it as "too_large". Other records pass in either case.
	Oversized string
	// RefusedTries is how often the broker may close the connection over one single record, while other records of its class pass in between, before
	// the record is dropped as "too_large". 0 never drops it.
	RefusedTries int `within:"0 1000"`
	// UnreceiptedTries is how often the broker may acknowledge one single record without a receipt, while other records of its class get theirs,
	// before the record is dropped as "unreceipted". 0 never drops it.
	UnreceiptedTries int `within:"0 1000000"`
}

// DefaultConfig returns a configuration for a broker on the same machine or behind an ordinary uplink.
func DefaultConfig() Config {
	// #nosec G101 -- the name of a secret, not a secret
	return Config{
		Broker: "tcp://localhost:1883", AuthMode: mqtt.AuthNone, SecretName: "mqtt-export", Confirm: ConfirmReceipt,
		ReceiptTimeout: "30s", AckTimeout: "30s", ConnectTimeout: "10s", KeepAlive: "30s",
		BackoffMin: "500ms", BackoffMax: "20s", ReleaseAfter: "10s",
		MaxInflight: 256, MaxInflightKiB: 8192, LinkAhead: "100ms", ProbeEvery: "15s",
		Oversized: OversizedHold, RefusedTries: 8, UnreceiptedTries: 10,
	}
}

// times are the parsed durations of a Config.
type times struct {
	receipt, ack, connect, keepAlive, backoffMin, backoffMax, release, probe time.Duration

	ahead Ahead
}

// Validate returns all problems together.
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
