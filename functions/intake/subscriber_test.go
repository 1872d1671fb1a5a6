package intake

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"app-offload/functions/intake/parse"
	"app-offload/functions/task"
)

func TestEventsComeInOrderAndAreAcknowledged(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publish(t, server, 1, 1001)
	eventually(t, func() bool { return s.Counts().Acked == 1000 }, "all acknowledged")
	require.Equal(t, sequence(1, 1001), sink.got())
	eventually(t, func() bool { return unacknowledged(server, "app-offload") == 0 }, "the broker is done with all")
	require.LessOrEqual(t, slices.Max(sink.slices), testConfig().MaxSlice)
	require.Zero(t, s.Counts().UnderWay.Events+s.Counts().UnderWay.Bytes)
}

func TestNothingIsAcknowledgedBeforeItIsDone(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{holding: true}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publish(t, server, 1, 51)
	eventually(t, func() bool { return len(sink.got()) == 50 }, "all submitted")
	require.Zero(t, s.Counts().Acked)
	require.Equal(t, 50, unacknowledged(server, "app-offload"))
	sink.answer()
	eventually(t, func() bool { return unacknowledged(server, "app-offload") == 0 }, "acknowledged now")
}

func TestAfterAKillEverythingUnacknowledgedComesAgain(t *testing.T) {
	server, url := openBroker(t)
	first := &testSink{holding: true}
	killed := startSubscriber(t, testConfig(), Bus{URL: url}, first)
	publish(t, server, 1, 51)
	eventually(t, func() bool { return len(first.got()) == 50 }, "all submitted")
	kill(killed)
	publish(t, server, 51, 61) // while no subscriber is connected

	second := &testSink{}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, second)
	eventually(t, func() bool { return s.Counts().Acked == 60 }, "all redelivered")
	require.ElementsMatch(t, sequence(1, 61), second.got(), "in any order, as this broker delivers again in none")
	require.Zero(t, s.Counts().Duplicates, "a new process has seen none of them")
	first.answer()
}

func TestRedeliveryWhileUnderWayIsRecognised(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{holding: true}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publish(t, server, 1, 51)
	eventually(t, func() bool { return len(sink.got()) == 50 }, "all submitted")
	s.Rotate()
	eventually(t, func() bool { return s.Counts().Connections == 2 && s.Counts().Duplicates >= 50 }, "delivered again")
	sink.answer()
	eventually(t, func() bool { return unacknowledged(server, "app-offload") == 0 }, "acknowledged on the new connection")
	require.Equal(t, sequence(1, 51), sink.got(), "submitted once")
	require.Zero(t, s.Counts().UnderWay.Events)
}

func TestRedeliveryOfWhatIsDoneIsRecognised(t *testing.T) {
	server, url := openBroker(t)
	cfg := testConfig()
	cfg.RememberIDs = 5
	sink := &testSink{}
	s := startSubscriber(t, cfg, Bus{URL: url}, sink)
	publish(t, server, 1, 16)
	eventually(t, func() bool { return s.Counts().Acked == 15 }, "all done")
	publish(t, server, 11, 16)
	eventually(t, func() bool { return s.Counts().Acked == 20 }, "acknowledged without being submitted")
	require.Equal(t, uint64(5), s.Counts().Duplicates)
	publish(t, server, 1, 2) // forgotten by now
	eventually(t, func() bool { return s.Counts().Acked == 21 }, "submitted again")
	require.Len(t, sink.got(), 16)
}

func TestARefusedEventIsOfferedAgain(t *testing.T) {
	server, url := openBroker(t)
	refusals := map[int64]int{}
	sink := &testSink{refuse: func(ev *task.Event) error {
		if refusals[ev.Origin]++; ev.Origin%2 == 0 && refusals[ev.Origin] < 4 {
			return errors.New("spool full")
		}
		return nil
	}}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publish(t, server, 1, 11)
	eventually(t, func() bool { return s.Counts().Acked == 10 }, "all taken at last")
	require.Equal(t, uint64(15), s.Counts().Refused)
	require.Equal(t, uint64(10), s.Counts().Submitted)
	require.Equal(t, 1, s.log.(*logLines).count("spool full"), "not each time, nor each time that another one was taken between")
	require.Equal(t, 1, s.log.(*logLines).count("all refused events were accepted"))
}

func TestABlockedSinkHoldsBackTheBroker(t *testing.T) {
	server, url := openBroker(t)
	cfg := testConfig()
	cfg.MaxEvents, cfg.MaxSlice = 100, 10
	sink := &testSink{block: make(chan struct{})}
	s := startSubscriber(t, cfg, Bus{URL: url}, sink)
	goroutines := runtime.NumGoroutine()
	publish(t, server, 1, 3001)
	eventually(t, func() bool { return s.Counts().UnderWay.Events == 100 }, "as many as may be")
	time.Sleep(50 * time.Millisecond)
	require.Equal(t, 100, s.Counts().UnderWay.Events)
	require.Less(t, runtime.NumGoroutine(), goroutines+10, "no goroutine a message")
	close(sink.block)
	eventually(t, func() bool { return s.Counts().Acked == 3000 }, "all come in the end")
	require.Equal(t, sequence(1, 3001), sink.got())
}

func TestStopWaitsAndLosesNothing(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{holding: true, refuse: func(ev *task.Event) error {
		if ev.Origin > 40 {
			return errors.New("stopping")
		}
		return nil
	}}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publish(t, server, 1, 51)
	eventually(t, func() bool { return len(sink.got()) == 50 }, "all submitted")

	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	eventually(t, func() bool { return s.ctx.Err() != nil }, "stopping")
	select {
	case <-stopped:
		t.Fatal("did not wait for the event in progress")
	case <-time.After(50 * time.Millisecond):
	}
	sink.answer()
	require.NoError(t, <-stopped)
	require.NoError(t, s.Stop(context.Background()), "twice is fine")
	eventually(t, func() bool { return unacknowledged(server, "app-offload") == 10 }, "refused events stay with the broker")
	require.Equal(t, uint64(10), s.Counts().Abandoned)

	again := &testSink{}
	next := startSubscriber(t, testConfig(), Bus{URL: url}, again)
	eventually(t, func() bool { return next.Counts().Acked == 10 }, "delivered to the next process")
	require.ElementsMatch(t, sequence(41, 51), again.got(), "in any order, as this broker delivers again in none")
}

func TestStopDoesNotWaitForEver(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{holding: true}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publish(t, server, 1, 6)
	eventually(t, func() bool { return len(sink.got()) == 5 }, "all submitted")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, s.Stop(ctx), "5 events")
	require.Equal(t, 5, unacknowledged(server, "app-offload"))
	sink.answer() // too late, and harmless
}

func TestWhatIsNoEventIsSetAsideAndAcknowledged(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	for _, msg := range [][]byte{
		[]byte(`no envelope`),
		[]byte(`{"errorCode":1,"payload":"YQ==","contentType":"text/plain"}`),
		sealed(t, []byte(small), "text/plain"),
		sealed(t, []byte(small[:50]), parse.ContentTypeJSON),
		sealed(t, []byte(small), parse.ContentTypeJSON),
	} {
		require.NoError(t, server.Publish(testTopic, msg, false, 1))
	}
	eventually(t, func() bool { return s.Counts().Acked == 5 }, "none of them stays at the broker")
	require.Len(t, sink.got(), 1)
	require.Equal(t, map[string]uint64{parse.ReasonMalformed: 2, parse.ReasonErrorEnvelope: 1, parse.ReasonContentType: 1}, s.quarantine.Counts())
	require.Equal(t, testTopic, s.quarantine.List()[0].Topic)
	require.Equal(t, small[:50], string(s.quarantine.List()[0].Payload))
}

func TestAnAbsentBrokerIsWaitedFor(t *testing.T) {
	s := newSubscriber(t, testConfig(), Bus{URL: "tcp://127.0.0.1:1"}, &testSink{})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	s.Start(ctx)
	require.Equal(t, 1, s.log.(*logLines).count("no answer from the MQTT MessageBus, still trying"))
	require.False(t, s.Counts().Connected)
	require.NoError(t, s.Stop(context.Background()))
}

// TestStopWaitsUntilTheBrokerHasTheAcknowledgements: a broker discards those it has not read when the service reconnects, and would redeliver the
// events.
func TestStopWaitsUntilTheBrokerHasTheAcknowledgements(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{holding: true}
	s := startSubscriber(t, testConfig(), Bus{URL: "tcp://" + slowTo(t, strings.TrimPrefix(url, "tcp://"))}, sink)
	publish(t, server, 1, 11)
	eventually(t, func() bool { return len(sink.got()) == 10 }, "all submitted")
	sink.answer()
	stopSubscriber(t, s)
	require.Zero(t, unacknowledged(server, "app-offload"))
	require.Equal(t, uint64(10), s.Counts().Acked)
}

// slowTo returns the address of a proxy that delays the direction to the broker.
func slowTo(t *testing.T, broker string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	pass := func(to, from net.Conn, late time.Duration) {
		defer to.Close()
		buffer := make([]byte, 4096)
		for {
			n, err := from.Read(buffer)
			time.Sleep(late)
			if _, bad := to.Write(buffer[:n]); bad != nil || err != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", broker)
			if err != nil {
				return
			}
			go pass(server, client, 50*time.Millisecond)
			go pass(client, server, 0)
		}
	}()
	return l.Addr().String()
}

// fakeBroker accepts connections and subscriptions, and passes all other packets to handle, until that returns false.
func fakeBroker(t *testing.T, handle func(packets.ControlPacket) bool) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	serve := func(c net.Conn) {
		defer c.Close()
		for {
			p, err := packets.ReadPacket(c)
			if err != nil {
				return
			}
			switch p := p.(type) {
			case *packets.ConnectPacket:
				_ = packets.NewControlPacket(packets.Connack).Write(c)
			case *packets.SubscribePacket:
				answer := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
				answer.MessageID, answer.ReturnCodes = p.MessageID, make([]byte, len(p.Topics))
				_ = answer.Write(c)
			default:
				if !handle(p) {
					return
				}
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
	return "tcp://" + l.Addr().String()
}

// A subscription is complete only after the earlier ones have ended.
func TestAnUnsubscriptionThatFailsIsReported(t *testing.T) {
	url := fakeBroker(t, func(p packets.ControlPacket) bool { _, is := p.(*packets.UnsubscribePacket); return !is })
	bus := Bus{URL: url, Remember: filepath.Join(t.TempDir(), "subscriptions.json"), Topics: []string{"edgex/old"}}
	s := newSubscriber(t, testConfig(), bus, &testSink{})
	s.remember(bus.Topics)
	bus.Topics = nil
	s = newSubscriber(t, testConfig(), Bus{URL: url, Remember: bus.Remember}, &testSink{})
	s.Start(t.Context())
	defer stopSubscriber(t, s)
	eventually(t, func() bool { return s.log.(*logLines).count("unsubscribing from") > 0 }, "reported")
	require.False(t, s.Counts().Subscribed)
}

func TestNewSubscriberNamesEveryProblem(t *testing.T) {
	cfg := testConfig()
	cfg.MaxSlice = 0
	_, err := NewSubscriber(cfg, Bus{URL: "quic://x:1", AuthMode: "clientcert"}, &testSink{}, nil, &logLines{})
	for _, part := range []string{"Intake.MaxSlice", "MessageBus.Protocol", "SubscribeTopics", "ClientID", "AuthMode"} {
		require.ErrorContains(t, err, part)
	}
}

// BenchmarkSubscriber measures the path from an embedded broker to a sink that answers immediately.
func BenchmarkSubscriber(b *testing.B) {
	server, url := openBroker(b)
	s := startSubscriber(b, testConfig(), Bus{URL: url}, &countingSink{})
	messages := make([][]byte, b.N)
	for i := range messages {
		messages[i] = message(b, "device", i+1)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i, msg := range messages {
		if i%1000 == 0 { // the broker drops what a slow reader leaves in its queue
			for uint64(i) > s.Counts().Received+2000 {
				runtime.Gosched()
			}
		}
		if err := server.Publish(testTopic, msg, false, 1); err != nil {
			b.Fatal(err)
		}
	}
	for s.Counts().Acked < uint64(b.N) {
		time.Sleep(time.Millisecond)
	}
}

type countingSink struct{}

func (countingSink) Submit(events []*task.Event, done func(i int, err error)) {
	for i := range events {
		done(i, nil)
	}
}

// TestAMessageOverTheLimitIsSkippedAndAcknowledged: it is counted by size and never redelivered, and its neighbours are not affected.
func TestAMessageOverTheLimitIsSkippedAndAcknowledged(t *testing.T) {
	server, url := openBroker(t)
	cfg := testConfig()
	cfg.MaxPayloadKiB = 1024
	sink := &testSink{}
	s := startSubscriber(t, cfg, Bus{URL: url}, sink)
	publish(t, server, 1, 11)
	require.NoError(t, server.Publish(testTopic, make([]byte, 70<<20), false, 1))
	publish(t, server, 11, 21)
	eventually(t, func() bool { return s.Counts().Acked == 21 }, "all acknowledged")
	require.Equal(t, sequence(1, 21), sink.got())
	require.Equal(t, map[string]uint64{parse.ReasonTooLarge: 1}, s.quarantine.Counts())
	aside := s.quarantine.List()[0]
	require.Greater(t, aside.Size, 70<<20)
	require.Equal(t, testTopic, aside.Topic)
	require.Equal(t, uint64(1), s.Counts().Connections)
	eventually(t, func() bool { return unacknowledged(server, "app-offload") == 0 }, "the broker is done with all")
}

func TestTheLargestEventWithinTheLimitIsTaken(t *testing.T) {
	server, url := openBroker(t)
	cfg := testConfig()
	cfg.MaxPayloadKiB = 1024
	sink := &testSink{}
	s := startSubscriber(t, cfg, Bus{URL: url}, sink)
	ev := message(t, "device", 1)
	payload := append(decodePayload(t, ev), bytes.Repeat([]byte{' '}, 1<<20)...)[:1<<20]
	require.NoError(t, server.Publish(testTopic, sealed(t, payload, parse.ContentTypeJSON), false, 1))
	eventually(t, func() bool { return s.Counts().Acked == 1 }, "acknowledged")
	require.Equal(t, sequence(1, 2), sink.got())
}

func decodePayload(t *testing.T, msg []byte) []byte {
	env, err := parse.ParseEnvelope(msg)
	require.NoError(t, err)
	return env.Payload
}
