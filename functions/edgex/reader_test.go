package edgex

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/receive"
)

// redis is a real Redis, at a port of its own while it is stopped, too.
type redis struct {
	t    *testing.T
	port int
	cmd  *exec.Cmd
}

func newRedis(t *testing.T) *redis {
	t.Helper()
	if _, err := os.Stat("/usr/bin/redis-server"); err != nil {
		require.Empty(t, os.Getenv("CI"), "CI has to install redis-server")
		t.Skip("redis-server is not installed")
	}
	_, text, err := net.SplitHostPort(mosquittotest.FreeAddress(t))
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	r := &redis{t: t, port: port}
	t.Cleanup(r.end)
	return r
}

func (r *redis) begin() {
	r.t.Helper()
	r.cmd = exec.Command("/usr/bin/redis-server", "--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--save", "", "--dir", r.t.TempDir())
	require.NoError(r.t, r.cmd.Start())
	eventually(r.t, 10*time.Second, "redis listens", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (r *redis) end() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *redis) config() BusConfig {
	return BusConfig{
		Type: "redis", Protocol: "redis", Host: "127.0.0.1", Port: r.port, AuthMode: "none", BaseTopicPrefix: "edgex",
		SubscribeTopics: "events/device/#", ServiceKey: "app-offload",
	}
}

// A gateway may start before its bus, and the bus may go away and return: the reader reports correctly whether it is subscribed, and events published
// while it is arrive.
func TestReaderOutlivesItsBus(t *testing.T) {
	r := newRedis(t)
	s := open(t, testConfig(t, "cloud"))
	reader := newReader(s, NewBus(r.config(), "intake", noSecrets{}), r.config().Topics(), testLog{t})
	reader.Start(t.Context())
	device := NewBus(r.config(), "device", noSecrets{})
	well := func() bool { return reader.Problem() == "" }
	for round := range int64(3) {
		eventually(t, time.Minute, "not ready without a bus", func() bool { return !well() })
		require.Never(t, well, 2*settled, settled/4, "and it stays so")
		r.begin()
		eventually(t, time.Minute, "ready with the bus", well)
		ev := event("d", int(round))
		eventually(t, time.Minute, "published", func() bool {
			payload := append(append([]byte(`{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":`), ev...), '}')
			return device.Publish("events/device/svc/P/d/S", "application/json", "c", payload) == nil
		})
		eventually(t, time.Minute, "the published event has arrived", func() bool { return s.Counts().Accepted == round+1 })
		r.end()
	}
	require.NoError(t, device.Close())
	require.NoError(t, reader.Stop(t.Context()))
}

// A Redis that hangs is a problem until it answers again. The subscription stays, and brings what Redis took meanwhile.
func TestReaderReportsAHangingBus(t *testing.T) {
	r := newRedis(t)
	r.begin()
	s := open(t, testConfig(t, "cloud"))
	reader := newReader(s, NewBus(r.config(), "intake", noSecrets{}), []string{"edgex/events/#"}, testLog{t})
	reader.pingEvery, reader.pingTime = 2*settled, settled
	s.StartSource(t.Context(), reader)
	eventually(t, 30*time.Second, "reading", func() bool { return reader.Problem() == "" })
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGSTOP))
	defer func() { _ = r.cmd.Process.Signal(syscall.SIGCONT) }()
	eventually(t, 30*time.Second, "the problem", func() bool { return strings.Contains(reader.Problem(), "Redis does not answer") })
	c, err := net.Dial("tcp", r.config().Host+":"+strconv.Itoa(r.port))
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("PUBLISH edgex.events.device.x rubbish\r\n"))
	require.NoError(t, err)
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGCONT))
	eventually(t, 30*time.Second, "well again", func() bool { return reader.Problem() == "" })
	eventually(t, 30*time.Second, "the message", func() bool { return s.Status().Events.Quarantined["malformed"] == 1 })
}

// A Redis that hangs before the subscription holds up no stop, and is subscribed to once it continues.
func TestReaderStartsWhileItsBusHangs(t *testing.T) {
	r := newRedis(t)
	r.begin()
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGSTOP))
	begin := func() *reader {
		reader := newReader(open(t, testConfig(t, "cloud")), NewBus(r.config(), "intake", noSecrets{}), []string{"edgex/events/#"}, testLog{t})
		reader.pingEvery, reader.pingTime = 2*settled, settled
		reader.Start(t.Context())
		eventually(t, 30*time.Second, "the problem", func() bool { return strings.Contains(reader.Problem(), "Redis does not answer") })
		return reader
	}
	require.NoError(t, begin().Stop(t.Context()))
	later := begin()
	require.NoError(t, r.cmd.Process.Signal(syscall.SIGCONT))
	eventually(t, 30*time.Second, "subscribed", func() bool { return later.Problem() == "" })
	require.NoError(t, later.Stop(t.Context()))
}

// A Redis that answers pings is not yet one that delivers events: the reader is ready once it is subscribed.
func TestAnsweredPingsAreNoSubscription(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var pings atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				request := make([]byte, 100)
				for n, err := c.Read(request); err == nil; n, err = c.Read(request) {
					if string(request[:n]) == "PING\r\n" {
						_, _ = c.Write([]byte("+PONG\r\n"))
						pings.Add(1)
					}
				}
			}()
		}
	}()
	cfg := BusConfig{Type: "redis", Protocol: "redis", Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, AuthMode: "none", BaseTopicPrefix: "edgex"}
	reader := newReader(open(t, testConfig(t, "cloud")), NewBus(cfg, "intake", noSecrets{}), []string{"edgex/events/#"}, testLog{t})
	reader.pingEvery, reader.pingTime = settled, time.Minute
	reader.Start(t.Context())
	eventually(t, time.Minute, "pings", func() bool { return pings.Load() > 3 })
	require.Equal(t, "not connected to the MessageBus yet", reader.Problem())
	require.NoError(t, reader.Stop(t.Context()))
}

// A message that is not an envelope affects no other message: it is counted, and the reader stays ready.
func TestReaderSetsRubbishAside(t *testing.T) {
	r := newRedis(t)
	r.begin()
	s := open(t, testConfig(t, "cloud"))
	bus := NewBus(r.config(), "intake", noSecrets{})
	reader := newReader(s, bus, r.config().Topics(), testLog{t})
	reader.Start(t.Context())
	eventually(t, time.Minute, "ready", func() bool { return reader.Problem() == "" })
	redisCLI := exec.CommandContext(context.Background(), "/usr/bin/redis-cli", "-p", strconv.Itoa(r.port), "publish", "edgex.events.device.x", "rubbish")
	require.NoError(t, redisCLI.Run())
	eventually(t, time.Minute, "counted", func() bool { return s.Status().Events.Quarantined["malformed"] == 1 })
	require.Empty(t, reader.Problem())
	require.NoError(t, reader.Stop(t.Context()))
}

// Overlapping filters deliver once, also those that Redis cannot distinguish, and "received" counts the same events as on MQTT.
func TestOverlappingFiltersDeliverOnce(t *testing.T) {
	r := newRedis(t)
	r.begin()
	n := 0
	for _, filters := range []string{
		"events/#", "events/#, events/device/#", "events/+/#", "events/device/+/P/#, events/device/svc/#, events/core/#", "events/device/+/P/cam.1/#,events/#",
	} {
		for kind, bus := range map[string]BusConfig{"redis": r.config(), "mqtt": mqttBus(t)} {
			n++
			bus.BaseTopicPrefix, bus.SubscribeTopics, bus.ServiceKey = "edgex"+strconv.Itoa(n), filters, "app-offload"
			s := startOnBus(t, bus, "app-offload", everyReading, nil)
			device := NewBus(bus, "device", noSecrets{})
			for i, name := range []string{"d", "cam.1", "d/1"} {
				payload := append(append([]byte(`{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":`), event(name, i)...), '}')
				require.NoError(t, device.Publish("events/device/svc/P/"+url.PathEscape(name)+"/S", "application/json", "c", payload))
				require.NoError(t, device.Publish("events/device/svc/P/d/S", "application/json", "c", []byte("no event")))
			}
			eventually(t, 10*time.Second, "received", func() bool { return s.Status().Events.Received >= 3 && s.Status().Counts.Local >= 3 })
			time.Sleep(50 * time.Millisecond) // for what would come twice
			st := s.Status()
			require.Equal(t, uint64(3), st.Events.Received, "%s %s", kind, filters)
			require.Equal(t, int64(3), st.Counts.Accepted, "%s %s", kind, filters)
			require.NoError(t, device.Close())
		}
	}
}

// A list of topics that selects no event is a mistake on every bus.
func TestTopicsThatBringNothingAreRefused(t *testing.T) {
	s := open(t, testConfig(t, "edge"))
	for _, kind := range []string{"redis", "mqtt", "nats-core"} {
		for _, list := range []string{"", " ,", "events/#/device", "events/device#"} {
			_, err := NewTrigger(s, BusConfig{Type: kind, Protocol: "tcp", Host: "127.0.0.1", Port: 1, BaseTopicPrefix: "edgex", SubscribeTopics: list, ServiceKey: "a"}, noSecrets{}, testLog{t})
			require.ErrorContains(t, err, "Trigger.SubscribeTopics", "%s %q", kind, list)
		}
	}
}

// A stop passes on all messages read from a bus that does not redeliver, although there is room for one event at a time.
func TestAStopHandsOnWhatWasRead(t *testing.T) {
	cfg := testConfig(t, "edge")
	cfg.Intake.MaxEvents = 1
	s := open(t, cfg)
	r := newReader(s, &Bus{}, []string{"edgex/events/#"}, testLog{t})
	patience, giveUp := context.WithCancel(context.Background())
	r.cancel, r.giveUp, r.in = func() {}, giveUp, make(chan receive.Message, 64)
	for n := range cap(r.in) {
		r.in <- receive.Message{ContentType: "application/json", Payload: event(fmt.Sprint("d", n), n)}
	}
	r.consuming.Go(func() { r.consume(patience) })
	require.NoError(t, r.Stop(context.Background()))
	require.Zero(t, s.Status().Events.Unheard)
	eventually(t, 10*time.Second, "all are done", func() bool { return s.Counts().Local == int64(cap(r.in)) })
}
