package intake

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"

	"app-offload/functions/intake/parse"
	"app-offload/functions/quarantine"
	"app-offload/functions/task"
)

const testTopic = "edgex/events/device/svc/profile/device/source"

// startBroker runs an MQTT broker in this process.
func startBroker(t testing.TB, hook broker.Hook, hookConfig any, tlsConfig *tls.Config) (*broker.Server, string) {
	server := broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, server.AddHook(hook, hookConfig))
	listener := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0", TLSConfig: tlsConfig})
	require.NoError(t, server.AddListener(listener))
	require.NoError(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })
	return server, listener.Address()
}

func openBroker(t testing.TB) (*broker.Server, string) {
	server, at := startBroker(t, new(auth.AllowHook), nil, nil)
	return server, "tcp://" + at
}

// message is the n-th event of a device as published on the bus.
func message(t testing.TB, device string, n int) []byte {
	ev := dtos.NewEvent("profile", device, "source")
	ev.Id = fmt.Sprintf("00000000-0000-0000-0000-%012x", n)
	ev.Origin = int64(n)
	require.NoError(t, ev.AddSimpleReading("n", "Int64", int64(n)))
	ev.Readings[0].Id, ev.Readings[0].Origin = ev.Id, ev.Origin // the same content each time
	payload, err := json.Marshal(requests.NewAddEventRequest(ev))
	require.NoError(t, err)
	return sealed(t, payload, parse.ContentTypeJSON)
}

func publish(t testing.TB, server *broker.Server, from, to int) {
	for n := from; n < to; n++ {
		require.NoError(t, server.Publish(testTopic, message(t, "device", n), false, 1))
	}
}

// unacknowledged returns the messages that the broker still has for the client.
func unacknowledged(server *broker.Server, client string) int {
	if cl, ok := server.Clients.Get(client); ok {
		return cl.State.Inflight.Len()
	}
	return -1
}

// testSink records its events, and answers immediately unless it holds.
type testSink struct {
	mu      sync.Mutex
	holding bool
	block   chan struct{} // Submit waits for it where it is not nil
	refuse  func(ev *task.Event) error
	origins []int64
	slices  []int
	held    []func()
}

func (s *testSink) Submit(events []*task.Event, done func(i int, err error)) {
	s.mu.Lock()
	block := s.block
	s.slices = append(s.slices, len(events))
	for i, ev := range events {
		s.origins = append(s.origins, ev.Origin)
		var err error
		if s.refuse != nil {
			err = s.refuse(ev)
		}
		s.held = append(s.held, func() { done(i, err) })
	}
	holding := s.holding
	s.mu.Unlock()
	if block != nil {
		<-block
	}
	if !holding {
		s.answer()
	}
}

// answer answers all held events, and from then on immediately.
func (s *testSink) answer() {
	s.mu.Lock()
	held := s.held
	s.held, s.holding = nil, false
	s.mu.Unlock()
	for _, done := range held {
		done()
	}
}

func (s *testSink) got() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.origins...)
}

// logLines is a Logger that keeps its lines.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) add(msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(msg, args...))
}

func (l *logLines) Debugf(msg string, args ...any) { l.add(msg, args...) }
func (l *logLines) Infof(msg string, args ...any)  { l.add(msg, args...) }
func (l *logLines) Warnf(msg string, args ...any)  { l.add(msg, args...) }
func (l *logLines) Errorf(msg string, args ...any) { l.add(msg, args...) }

func (l *logLines) count(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.RetryAfter = "20ms"
	return cfg
}

func newSubscriber(t testing.TB, cfg Config, bus Bus, sink Sink) *Subscriber {
	aside, err := quarantine.New(cfg.Quarantine())
	require.NoError(t, err)
	if bus.ClientID == "" {
		bus.ClientID = "app-offload"
	}
	if bus.Topics == nil {
		bus.Topics = []string{"edgex/events/#"}
	}
	s, err := NewSubscriber(cfg, bus, sink, aside, &logLines{})
	require.NoError(t, err)
	return s
}

// startSubscriber connects, waits for the subscription, and stops at the end of the test.
func startSubscriber(t testing.TB, cfg Config, bus Bus, sink Sink) *Subscriber {
	s := newSubscriber(t, cfg, bus, sink)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.Start(ctx)
	eventually(t, func() bool { return s.log.(*logLines).count("subscribed to the MQTT MessageBus") > 0 }, "subscribed")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Stop(ctx)
	})
	return s
}

// kill ends a subscriber like a crash: no acknowledgement, no DISCONNECT, no connection.
func kill(s *Subscriber) {
	s.cancel() // or it would connect again
	s.connection.Renew()
}

func eventually(t testing.TB, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, time.Minute, 5*time.Millisecond, what)
}

func sequence(from, to int) []int64 {
	var out []int64
	for n := from; n < to; n++ {
		out = append(out, int64(n))
	}
	return out
}
