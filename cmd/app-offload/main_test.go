package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgexfoundry/go-mod-messaging/v3/messaging"
	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"

	paho "github.com/eclipse/paho.mqtt.golang"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/seal"
)

// The tests run the real program: this test binary, which the environment turns into app-offload.
const beService = "TEST_BE_APP_OFFLOAD"

func TestMain(m *testing.M) {
	if os.Getenv(beService) != "" {
		main()
	}
	// A signal caught here has its default in the programs that the tests start, also if nohup runs the tests.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	os.Exit(m.Run())
}

const common = `
all-services:
  Writable:
    InsecureSecrets: {DB: {SecretName: "redisdb", SecretData: {username: "", password: ""}}}
    Telemetry: {Interval: "30s", Metrics: {SecuritySecretsRequested: false}}
  Service: {HealthCheckInterval: "10s", RequestTimeout: "5s", CORSConfiguration: {EnableCORS: false}}
  Registry: {Host: "localhost", Port: 8500, Type: "consul"}
  MessageBus:
    Disabled: %t
    Type: "%s"
    Protocol: "%s"
    Host: "127.0.0.1"
    Port: %s
    AuthMode: "none"
    BaseTopicPrefix: "edgex"
    Optional: {Qos: "1", KeepAlive: "10", AutoReconnect: "true", ConnectTimeout: "5"}
app-services:
  Writable: {StoreAndForward: {Enabled: false}, Telemetry: {Metrics: {MessagesReceived: false}}}
  Trigger: {Type: "edgex-messagebus", SubscribeTopics: "events/#"}
`

// edge is a running app-offload with a broker that is both MessageBus and cloud.
type edge struct {
	t      testing.TB
	client paho.Client // of the test: device service and cloud in one
	dir    string
	port   string // of the broker
	own    string // port of the program
	noBus  bool
	redis  string // port of the Redis MessageBus, if that is the bus
	env    []string

	endBroker func() // nil at a broker of its own process

	cmd *exec.Cmd
	log *lockedBuffer
	api string

	mu      sync.Mutex
	records map[uint64]bool
	tasks   map[string]bool
	results []string
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newEdge prepares an edge at a broker inside the test.
func newEdge(t testing.TB, env ...string) *edge {
	t.Helper()
	broker := mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, broker.AddHook(new(auth.AllowHook), nil))
	listener := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	require.NoError(t, broker.AddListener(listener))
	_, port, err := net.SplitHostPort(listener.Address())
	require.NoError(t, err)
	require.NoError(t, broker.Serve())
	end := sync.OnceFunc(func() { _ = broker.Close() })
	t.Cleanup(end)
	e := edgeAt(t, port, env)
	e.endBroker = end
	return e
}

// newEdgeAtMosquitto prepares an edge at a real broker, whose sessions persist, unlike those of the embedded one, which sometimes loses messages for
// a killed client.
func newEdgeAtMosquitto(t *testing.T, env ...string) *edge {
	t.Helper()
	const program = "/usr/sbin/mosquitto"
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") != "" {
			require.NoError(t, err, "CI has to install mosquitto")
		}
		t.Skip("mosquitto is not installed")
	}
	port := freePort(t)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", port), 0o600))
	cmd := exec.Command(program, "-c", conf)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return edgeAt(t, port, env)
}

func edgeAt(t testing.TB, port string, env []string) *edge {
	t.Helper()
	e := &edge{t: t, dir: t.TempDir(), port: port, env: env, records: map[uint64]bool{}, tasks: map[string]bool{}, log: &lockedBuffer{}}
	o := paho.NewClientOptions().AddBroker("tcp://127.0.0.1:" + port).SetClientID("test").SetOrderMatters(false).
		SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond)
	e.client = paho.NewClient(o)
	wait := func(token paho.Token) {
		t.Helper()
		require.True(t, token.WaitTimeout(patience))
		require.NoError(t, token.Error())
	}
	wait(e.client.Connect())
	wait(e.client.Subscribe("offload/v1/+/batch/+", 1, e.batch))
	wait(e.client.Subscribe("edgex/events/device/app-offload/#", 1, e.result))
	t.Cleanup(func() { e.client.Disconnect(100) })
	return e
}

func freePort(t testing.TB) string {
	t.Helper()
	_, port, err := net.SplitHostPort(mosquittotest.FreeAddress(t))
	require.NoError(t, err)
	return port
}

// batch is the cloud: it records every record and receipts it.
func (e *edge) batch(_ paho.Client, m paho.Message) {
	b, err := seal.NewOpener(nil, seal.Limits{}).Open(m.Payload())
	if err != nil {
		e.t.Errorf("opening a batch: %v", err)
		return
	}
	r := &seal.Receipt{ID: b.ID, Node: b.Node, Epoch: b.Epoch, Created: time.Now()}
	e.mu.Lock()
	for i, seq := range b.Sequences {
		r.Safe = append(r.Safe, seal.Range{First: seq, Last: seq})
		e.records[seq] = true
		e.tasks[string(b.Tasks[i][2:38])] = true // the event's id is the first field
	}
	e.mu.Unlock()
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	if err != nil {
		e.t.Errorf("making a sealer: %v", err)
		return
	}
	raw, err := sealer.SealReceipt(nil, r)
	if err != nil {
		e.t.Errorf("sealing a receipt: %v", err)
		return
	}
	e.client.Publish(seal.ReceiptTopic(b.Node), 1, false, raw) // should it be lost, the batch comes again
}

func (e *edge) result(_ paho.Client, m paho.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.results = append(e.results, m.Topic())
}

func (e *edge) arrived() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.tasks)
}

// start runs the program and waits until it is ready.
func (e *edge) start() {
	e.t.Helper()
	e.spawn()
	e.await("ready", func() bool { return e.get("/ready", nil) == http.StatusOK })
}

// spawn runs the program, the second time on the port of the first.
func (e *edge) spawn() {
	e.t.Helper()
	path := e.writeCommon()
	if e.own == "" {
		e.own = freePort(e.t)
	}
	e.api = "http://127.0.0.1:" + e.own + base
	e.log = &lockedBuffer{}
	e.cmd = exec.Command(os.Args[0], "-cc", path, "-cd", "../../res")
	e.cmd.Env = append(os.Environ(), beService+"=1", "EDGEX_SECURITY_SECRET_STORE=false", "SERVICE_HOST=127.0.0.1", "SERVICE_PORT="+e.own,
		"OFFLOAD_NODE=n1", "OFFLOAD_SPOOL_DIRECTORY="+filepath.Join(e.dir, "spool"), "OFFLOAD_EXPORT_BROKER=tcp://127.0.0.1:"+e.port,
		"OFFLOAD_WRITABLE_BATCH_MAXAGE=20ms", "OFFLOAD_EXPORT_BACKOFFMAX=1s", "OFFLOAD_EXPORT_RECEIPTTIMEOUT=2s")
	e.cmd.Env = append(e.cmd.Env, e.env...)
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	require.NoError(e.t, e.cmd.Start())
	cmd := e.cmd
	e.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// writeCommon writes the common configuration.
func (e *edge) writeCommon() string {
	e.t.Helper()
	path := filepath.Join(e.dir, "common.yaml")
	kind, protocol, busPort := "mqtt", "tcp", e.port
	if e.redis != "" {
		kind, protocol, busPort = "redis", "redis", e.redis
	}
	require.NoError(e.t, os.WriteFile(path, fmt.Appendf(nil, common, e.noBus, kind, protocol, busPort), 0o600))
	return path
}

// stop sends SIGTERM and returns how long the program took.
func (e *edge) stop() time.Duration {
	e.t.Helper()
	begin := time.Now()
	require.NoError(e.t, e.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(e.t, e.cmd.Wait(), e.log.String())
	return time.Since(begin)
}

func (e *edge) kill() {
	e.t.Helper()
	require.NoError(e.t, e.cmd.Process.Kill())
	_ = e.cmd.Wait()
}

func (e *edge) get(path string, into any) int {
	resp, err := http.Get(e.api + path)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if into != nil {
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			e.t.Errorf("GET %s: %v", path, err)
		}
	}
	return resp.StatusCode
}

type counts struct {
	Accepted, Local, Receipted, Spooled, InFlight, Balance int64
}

func (e *edge) counts() counts {
	var status struct{ Counts counts }
	e.get("/status", &status)
	return status.Counts
}

// patience is the time limit for expected events: a machine may be slow.
const patience = time.Minute

func (e *edge) await(what string, ok func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			var status json.RawMessage
			e.get("/status", &status)
			require.Fail(e.t, "did not happen within "+patience.String(), "%s\n%d tasks have arrived\n%s\n%s", what, e.arrived(), status, e.log)
		}
	}
}

// payload returns an AddEventRequest with one float.
func payload(n int) []byte { return of(n, "d", "1.5") }

// of returns one of that device with that value.
func of(n int, device, value string) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v3","requestId":"%[1]s","event":{"apiVersion":"v3","id":"%[1]s","deviceName":"%[3]s","profileName":"P",`+
		`"sourceName":"S","origin":%[2]d,"readings":[{"id":"%[1]s","origin":%[2]d,"deviceName":"%[3]s","resourceName":"R","profileName":"P",`+
		`"valueType":"Float64","value":"%[4]s"}]}}`, id(n), n+1, device, value)
}

// enveloped returns a payload in the envelope of go-mod-messaging.
func enveloped(payload []byte) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v3","correlationID":"c","contentType":"application/json","payload":"%s"}`, base64.StdEncoding.EncodeToString(payload))
}

func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// publish puts an event on the MessageBus as a device service does.
func (e *edge) publish(n int) { e.send(enveloped(payload(n))) }

func (e *edge) send(message []byte) {
	if token := e.client.Publish("edgex/events/device/svc/P/d/S", 1, false, message); !token.WaitTimeout(patience) || token.Error() != nil {
		e.t.Errorf("publishing: %v", token.Error())
	}
}

// With every trigger and policy each event arrives where it should, and the account shows it.
func TestTriggersGiveTheSameResult(t *testing.T) {
	for _, trigger := range []string{"offload", "edgex-messagebus"} {
		t.Run(trigger, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, "TRIGGER_TYPE="+trigger, "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud")
			e.start()
			for n := range 200 {
				e.publish(n)
			}
			e.send([]byte("rubbish"))
			e.await("200 tasks arrive", func() bool { return e.arrived() == 200 })
			e.await("all is receipted", func() bool { return e.counts().Receipted == 200 })
			c := e.counts()
			require.Equal(t, counts{Accepted: 200, Receipted: 200}, c)
			require.Less(t, e.stop(), 8*time.Second)
		})
	}
}

// On a Redis MessageBus, EdgeX's default: events published while the service subscribes arrive, with our own trigger and with the SDK's, and results
// are published there.
func TestRedisBus(t *testing.T) {
	const server = "/usr/bin/redis-server"
	if _, err := os.Stat(server); err != nil {
		if os.Getenv("CI") != "" {
			require.NoError(t, err, "CI has to install redis-server")
		}
		t.Skip("redis-server is not installed")
	}
	for _, trigger := range []string{"offload", "edgex-messagebus"} {
		t.Run(trigger, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, "TRIGGER_TYPE="+trigger, "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud")
			e.redis = freePort(t)
			cmd := exec.Command(server, "--port", e.redis, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			e.await("Redis listens", func() bool {
				c, err := net.Dial("tcp", "127.0.0.1:"+e.redis)
				if err == nil {
					_ = c.Close()
				}
				return err == nil
			})
			e.start()
			bus := redisClient(t, e.redis)
			e.await("the first event arrives", func() bool { // Redis Pub/Sub discards messages published before the subscription
				publishRedis(t, bus, 0)
				return e.arrived() == 1
			})
			for n := 1; n < 200; n++ {
				publishRedis(t, bus, n)
			}
			e.await("200 tasks arrive", func() bool { return e.arrived() == 200 })
			require.Zero(t, e.counts().Balance)
			require.Less(t, e.stop(), 8*time.Second)
		})
	}
}

func redisClient(t *testing.T, port string) messaging.MessageClient {
	t.Helper()
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	client, err := messaging.NewMessageClient(types.MessageBusConfig{
		Broker: types.HostInfo{Host: "127.0.0.1", Port: n, Protocol: "redis"}, Type: "redis",
	})
	require.NoError(t, err)
	require.NoError(t, client.Connect())
	return client
}

func publishRedis(t *testing.T, bus messaging.MessageClient, n int) {
	t.Helper()
	var m types.MessageEnvelope
	m.ApiVersion, m.CorrelationID, m.ContentType, m.Payload = "v3", "c", "application/json", payload(n)
	require.NoError(t, bus.Publish(m, "edgex/events/device/svc/P/d/S"))
}

// Without any bus: an event posted to the HTTP trigger is done or durable when the response arrives.
func TestHTTPTrigger(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "TRIGGER_TYPE=http", "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud")
	e.noBus = true
	e.start()
	resp, err := http.Post(strings.TrimSuffix(e.api, "/offload")+"/trigger", "application/json", bytes.NewReader(payload(1)))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	e.await("the task arrives", func() bool { return e.arrived() == 1 })
	require.Less(t, e.stop(), 8*time.Second)
}

// Results of local work are published on the bus for core-data, and do not return to this service; a stop publishes open windows.
func TestResultsGoToTheBus(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=edge")
	e.start()
	for n := range 10 {
		e.publish(n)
	}
	e.await("all is done here", func() bool { return e.counts().Local == 10 })
	require.Less(t, e.stop(), 8*time.Second)
	results := func() []string {
		e.mu.Lock()
		defer e.mu.Unlock()
		return slices.Clone(e.results)
	}
	e.await("the result has come from the broker", func() bool { return len(results()) > 0 })
	require.Equal(t, []string{"edgex/events/device/app-offload/P/d/R_summary"}, results())
}

// kill -9 under load: with the acknowledging trigger on a broker with persistent sessions, no event is lost.
func TestKilledWhileEventsPourIn(t *testing.T) {
	t.Parallel()
	e := newEdgeAtMosquitto(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud")
	e.start()
	const events = 1500
	published := make(chan struct{})
	go func() {
		defer close(published)
		for n := range events {
			e.publish(n)
			time.Sleep(time.Millisecond) // so that the kills fall among them
		}
	}()
	for range 3 {
		at := e.arrived()
		e.await("some more arrive", func() bool { return e.arrived() > at+50 || e.arrived() == events })
		e.kill()
		e.start()
	}
	<-published
	e.await("every event arrives", func() bool { return e.arrived() == events })
	e.await("nothing is left", func() bool { return e.counts().Spooled == 0 })
	require.Zero(t, e.counts().Balance)
	require.Less(t, e.stop(), 8*time.Second)
}

// kill -9 while tasks are parked: each event is stored in the cloud, or its result is on the MessageBus, or both.
func TestKilledWhileTasksWait(t *testing.T) {
	t.Parallel()
	e := newEdgeAtMosquitto(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=defer", "OFFLOAD_WRITABLE_POLICY_DEFERAHEAD=0s", "OFFLOAD_LOCAL_WORKERS=1",
		"OFFLOAD_LOCAL_OPERATORS=deadband band=0.1", "OFFLOAD_WRITABLE_POLICY_COSTMONEY=0", "OFFLOAD_WRITABLE_SCORE_EDGEMCYCLES=10")
	e.start()
	const events = 3000
	published := make(chan struct{})
	go func() {
		defer close(published)
		for n := range events {
			e.send(enveloped(of(n, fmt.Sprint("d", n), "1.5"))) // a result for each device
		}
	}()
	undecided := func() int64 {
		var status struct{ Undecided struct{ Tasks int64 } }
		e.get("/status", &status)
		return status.Undecided.Tasks
	}
	for range 3 {
		e.await("some wait, or all is over", func() bool { return undecided() > 5 || e.done() == events })
		t.Logf("killed with %d undecided, %d of %d done", undecided(), e.done(), events)
		e.kill()
		e.start()
		require.Zero(t, e.counts().Balance)
	}
	<-published
	e.await("every event is done", func() bool { return e.done() == events })
	e.await("nothing is left", func() bool { c := e.counts(); return c.Spooled+c.InFlight == 0 && undecided() == 0 })
	require.Zero(t, e.counts().Balance)
	require.Less(t, e.stop(), 8*time.Second)
}

// done returns the number of events that arrived, or whose device has a result.
func (e *edge) done() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	done := len(e.tasks)
	for i, topic := range e.results {
		var n int
		if _, err := fmt.Sscanf(topic, "edgex/events/device/app-offload/P/d%d/", &n); err == nil && !e.tasks[id(n)] && !slices.Contains(e.results[:i], topic) {
			done++
		}
	}
	return done
}

// SIGTERM under load: the program ends in time, and accepted data that has not left is there at the next start.
func TestTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	e := newEdgeAtMosquitto(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud")
	e.start()
	const events = 1500
	published := make(chan struct{})
	go func() {
		defer close(published)
		for n := range events {
			e.publish(n)
			time.Sleep(500 * time.Microsecond)
		}
	}()
	e.await("the first arrive", func() bool { return e.arrived() > 50 })
	require.Less(t, e.stop(), 8*time.Second)
	e.start()
	<-published
	e.await("every event arrives", func() bool { return e.arrived() == events })
	require.Zero(t, e.counts().Balance)
}

// A stop does not wait for an absent MessageBus, as go-mod-messaging's client would forever; nor does the client that has published results.
func TestStopsWithoutTheMessageBus(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=edge", "OFFLOAD_LOCAL_OPERATORS=summary window=100ms")
	e.start()
	e.publish(1)
	e.publish(2)
	e.await("a result is published", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.results) > 0
	})
	e.endBroker()
	e.await("the loss is noticed", func() bool { return e.get("/ready", nil) == http.StatusServiceUnavailable })
	ended := time.AfterFunc(20*time.Second, func() { _ = e.cmd.Process.Signal(syscall.SIGQUIT) })
	defer ended.Stop()
	require.Less(t, e.stop(), 8*time.Second)
}

// An invalid configuration ends the start, and the log names all mistakes.
func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "OFFLOAD_NODE=a/b", "OFFLOAD_SPOOL_QUOTAMIB=1", "OFFLOAD_WRITABLE_POLICY_DEFAULT=luck")
	e.dir = t.TempDir()
	path := filepath.Join(e.dir, "common.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, common, false, "mqtt", "tcp", e.port), 0o600))
	cmd := exec.Command(os.Args[0], "-cc", path, "-cd", "../../res")
	cmd.Env = append(append(os.Environ(), beService+"=1", "EDGEX_SECURITY_SECRET_STORE=false", "SERVICE_PORT="+freePort(t)), e.env...)
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	for _, key := range []string{"Offload.Node", "Offload.Spool.QuotaMiB", "Offload.Writable.Policy.Default"} {
		require.Contains(t, string(out), key)
	}
}
