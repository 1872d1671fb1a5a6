package consume

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	wire "app-offload/functions/mqtt"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/seal"
)

// inbox refuses selected messages and acknowledges the others.
type inbox struct {
	mu     sync.Mutex
	refuse bool
	got    []string
}

func (b *inbox) deliver(m *Message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse {
		return false
	}
	b.got = append(b.got, string(m.Payload))
	go m.Ack() // from another goroutine, like the consumer
	return true
}

func (b *inbox) set(refuse bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = refuse
}

// count returns the number of different messages: a message with a pending acknowledgement may arrive twice.
func (b *inbox) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := map[string]bool{}
	for _, text := range b.got {
		seen[text] = true
	}
	return len(seen)
}

func subscriber(t *testing.T, address string, b *inbox) *MQTT {
	t.Helper()
	m := NewMQTT(MQTTConfig{URL: "tcp://" + address, ID: "consumer", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, m.Start(t.Context(), b.deliver))
	return m
}

// Refused messages stay with the broker and arrive again on request, also for the next process with that name. Acknowledged messages do not.
func TestMQTTKeepsWhatIsNotAcknowledged(t *testing.T) {
	address, b := mosquittotest.Start(t, ""), &inbox{}
	m := subscriber(t, address, b)
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("sender"))
	require.NoError(t, wait(client.Connect()))
	defer client.Disconnect(10)
	send := func(from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, wait(client.Publish("offload/v1/n1/batch/default", 1, false, fmt.Sprint(i))))
		}
	}
	send(0, 5)
	require.Eventually(t, func() bool { return b.count() == 5 }, time.Minute, time.Millisecond)
	b.set(true)
	send(5, 10)
	b.set(false)
	m.Redeliver()
	require.Eventually(t, func() bool { return b.count() == 10 }, time.Minute, time.Millisecond)
	require.Eventually(t, m.Connected, time.Minute, time.Millisecond)
	require.NoError(t, m.Publish(t.Context(), []Outgoing{{seal.ReceiptTopic("n1"), []byte("x")}}))

	b.set(true)
	send(10, 15)
	m.Close()
	b.set(false)
	m = subscriber(t, address, b)
	require.Eventually(t, func() bool { return b.count() == 15 }, time.Minute, time.Millisecond)
	m.Close()
}

// deaf is a broker that answers all subscriptions except the first ones, and reports the topics of the answered ones.
func deaf(t *testing.T, first int64, topics chan<- []string) (address string) {
	return strange(t, func(asked int64) int { return min(int(asked-first)-1, 0) }, topics)
}

// strange is a broker that answers a subscription with a code, or not at all if the code is below 0, and closes the connection after 1.
func strange(t *testing.T, code func(asked int64) int, topics chan<- []string) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	strangeAt(l, code, topics)
	return l.Addr().String()
}

// strangeAt is strange at a listener.
func strangeAt(l net.Listener, code func(asked int64) int, topics chan<- []string) {
	var asked atomic.Int64
	serve := func(c net.Conn) {
		defer c.Close() //nolint:errcheck // a test's own
		for {
			p, err := packets.ReadPacket(c)
			if err != nil {
				return
			}
			switch p := p.(type) {
			case *packets.ConnectPacket:
				err = packets.NewControlPacket(packets.Connack).Write(c)
			case *packets.SubscribePacket:
				if code := code(asked.Add(1)); code >= 0 {
					ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
					ack.MessageID, ack.ReturnCodes = p.MessageID, bytes.Repeat([]byte{byte(code)}, len(p.Topics))
					err = ack.Write(c)
					if topics <- p.Topics; code == 1 {
						return
					}
				}
			}
			if err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
}

// A broker that keeps closing connections that worked is logged as a sign of another client, once each time that it begins.
func TestMQTTSuspectsAnotherClient(t *testing.T) {
	log, closed := &bytes.Buffer{}, make(chan *wire.Session, 1)
	k := &wire.Keeper{Backoff: wire.Backoff{Low: time.Hour, High: time.Hour}}
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer broker.Close()
	strangeAt(broker, func(int64) int { return 1 }, make(chan []string, 1))
	at, err := wire.ParseAddress("tcp://" + broker.Addr().String())
	require.NoError(t, err)
	k.Options = wire.Options{Brokers: []wire.Address{at}, ClientID: "consumer", ConnectTimeout: time.Minute, Stall: time.Minute, Receive: func(*wire.Session, wire.Message) {}}
	k.Up = func(s *wire.Session) { _, _ = s.Subscribe(t.Context(), map[string]byte{"a": 1}) }
	k.Down = func(s *wire.Session, _ time.Duration) { closed <- s }
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	s := <-closed
	cancel()
	running.Wait()

	m := NewMQTT(MQTTConfig{ID: "consumer", Log: slog.New(slog.NewTextHandler(log, nil))})
	for i, lived := range []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Hour, time.Second, time.Second, time.Second} {
		m.up.Store(true)
		m.lost(s, lived)
		require.Equal(t, []int{0, 0, 1, 1, 1, 1, 1, 2}[i], strings.Count(log.String(), "another client"), "connection %d", i)
	}
	m.lost(s, time.Second)
	require.Equal(t, 9, strings.Count(log.String(), "lost the connection"))

	log.Reset()
	require.NoError(t, broker.Close())
	m = NewMQTT(MQTTConfig{ID: "consumer", Log: slog.New(slog.NewTextHandler(log, nil))})
	for range 10 { // the broker is away
		m.up.Store(true)
		m.lost(s, time.Second)
	}
	require.NotContains(t, log.String(), "another client")
}

// An unanswered subscription is repeated: the connection is up, so nothing else would end the wait.
func TestMQTTSubscribesUntilItIsAnswered(t *testing.T) {
	m := NewMQTT(MQTTConfig{URL: "tcp://" + deaf(t, 2, make(chan []string, 10)), ID: "consumer", Log: slog.New(slog.DiscardHandler)})
	m.patience = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, m.Start(ctx, (&inbox{}).deliver))
	require.True(t, m.Connected())
	m.Close()
}

// A broker whose rules change while the consumer runs is asked again until it grants the subscription, and this is logged once.
func TestMQTTOutlivesARefusal(t *testing.T) {
	var log bytes.Buffer // read after Close
	address := strange(t, func(asked int64) int { return []int{1, 0x80, 0x80, 0x80, 0}[min(asked, 5)-1] }, make(chan []string, 10))
	m := NewMQTT(MQTTConfig{URL: "tcp://" + address, ID: "consumer", Log: slog.New(slog.NewTextHandler(&log, nil))})
	granted := make(chan struct{}, 10)
	m.OnSubscribed(func() { granted <- struct{}{} })
	require.NoError(t, m.Start(t.Context(), (&inbox{}).deliver))
	<-granted
	<-granted
	m.Close()
	require.Equal(t, 1, strings.Count(log.String(), "refuses a subscription"), log.String())
	require.Equal(t, 1, strings.Count(log.String(), "lost the connection"), log.String())
}

// The consumer waits for a broker that is not there yet, which is logged once, and the wait can be ended.
func TestMQTTWaitsForTheBroker(t *testing.T) {
	var log bytes.Buffer                                                  // read after Close
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond) // of at least two attempts
	defer cancel()
	m := NewMQTT(MQTTConfig{URL: "tcp://127.0.0.1:1", ID: "consumer", Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.ErrorIs(t, m.Start(ctx, (&inbox{}).deliver), context.DeadlineExceeded)
	require.False(t, m.Connected())
	m.Close()
	require.Equal(t, 1, strings.Count(log.String(), "cannot connect to the broker"), log.String())
}

func wait(token mqtt.Token) error {
	if !token.WaitTimeout(time.Minute) {
		return context.DeadlineExceeded
	}
	return token.Error()
}

func TestSubjectsAndTopicsAreTheSameNames(t *testing.T) {
	for topic, subject := range map[string]string{
		"offload/v1/n1/batch/default": "offload.v1.n1.batch.default",
		"offload/v1/plant.7/gone":     "offload.v1.plant//7.gone",
		"offload/v1/a./batch/b.c":     "offload.v1.a//.batch.b//c",
	} {
		require.Equal(t, subject, toSubject(topic))
		require.Equal(t, topic, toTopic(subject))
	}
}
