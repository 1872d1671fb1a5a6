// Package stack runs the parts of the system as a user would: a broker in this process, the service and the consumer
// as processes of their own.
package stack

import (
	"fmt"
	"io"
	"log/slog"
	"net"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Broker is an MQTT broker inside of this process. It keeps nothing on disk: fine for a lab, wrong for a plant.
type Broker struct {
	server *mqtt.Server
	Addr   string // host:port on loopback
}

// StartBroker listens on a free port of the loopback interface.
func StartBroker() (*Broker, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClientWritesPending = 1 << 14 // a slow subscriber must not lose what the feed sent in one burst
	caps.ReceiveMaximum = 1 << 12
	caps.MaximumInflight = 1 << 14
	s := mqtt.New(&mqtt.Options{InlineClient: true, Capabilities: caps, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, fmt.Errorf("opening the broker to everybody on loopback: %w", err)
	}
	if err := s.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: addr})); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	if err := s.Serve(); err != nil {
		return nil, fmt.Errorf("serving MQTT on %s: %w", addr, err)
	}
	return &Broker{server: s, Addr: addr}, nil
}

// Publish sends a message at QoS 1 to the subscribers.
func (b *Broker) Publish(topic string, payload []byte) error {
	return b.server.Publish(topic, payload, false, 1)
}

// Subscribe calls f for each message on the topics of a filter, in order. f must not block.
func (b *Broker) Subscribe(filter string, f func(topic string, payload []byte)) error {
	return b.server.Subscribe(filter, 1, func(_ *mqtt.Client, _ packets.Subscription, p packets.Packet) { f(p.TopicName, p.Payload) })
}

// Dropped is the number of messages that the broker itself threw away because a subscriber was too slow.
func (b *Broker) Dropped() int64 { return b.server.Info.Clone().MessagesDropped }

// Stop disconnects everybody.
func (b *Broker) Stop() error { return b.server.Close() }

// FreeAddr finds a loopback address without a listener.
func FreeAddr() (string, error) { return freeOr("") }

// freeOr is the wanted address if nothing listens there, else a free one.
func freeOr(wanted string) (string, error) {
	if wanted != "" {
		if l, err := net.Listen("tcp", wanted); err == nil {
			return wanted, l.Close()
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
