package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// common is EdgeX's common configuration, as its bootstrapper would write it to Consul: that of no-secty, with the addresses of this stack.
const common = `
all-services:
  Writable:
    InsecureSecrets: {DB: {SecretName: redisdb, SecretData: {username: "", password: ""}}}
    Telemetry: {Interval: "1s", PublishTopicPrefix: telemetry, Metrics: {SecuritySecretsRequested: false}}
  Service: {HealthCheckInterval: "1s", RequestTimeout: "5s", Host: 127.0.0.1, MaxResultCount: 1024, MaxRequestSize: 0, CORSConfiguration: {EnableCORS: false}}
  Registry: {Host: 127.0.0.1, Port: %[1]s, Type: consul}
  MessageBus: %[2]s
  Clients: {core-metadata: {Protocol: http, Host: 127.0.0.1, Port: %[3]s}}
app-services:
  Writable: {StoreAndForward: {Enabled: false}, Telemetry: {Metrics: {MessagesReceived: false}}}
  Trigger: {Type: edgex-messagebus, SubscribeTopics: "events/#"}
device-services:
  MaxEventSize: 0
  Writable: {Reading: {ReadingUnits: true}, Telemetry: {Metrics: {EventsSent: false, ReadingsSent: false}}}
  Device: {DataTransform: true, MaxCmdOps: 128, MaxCmdValueLen: 256, AsyncBufferSize: 1, EnableAsyncReadings: true, Discovery: {Enabled: false, Interval: "30s"}}
`

// device is the private configuration of a device service. At level DEBUG the SDK logs each published event.
const device = `
Writable: {LogLevel: DEBUG}
Service: {Host: 127.0.0.1, Port: %s, StartupMsg: "the device is there"}
MessageBus: {Optional: {ClientId: %s}}
Device: {ProfilesDir: "", DevicesDir: "", ProvisionWatchersDir: ""}
`

// keys is the path of EdgeX 3's configuration in Consul.
const keys = "edgex/v3/"

// writable is the path of the settings that may change while app-offload runs.
const writable = keys + "app-offload/Offload/Writable/"

// deviceServices are two instances that differ in their encoding: one as EdgeX does by default, JSON except for binary readings, the other always
// CBOR.
var deviceServices = map[string]string{"device-json": "false", "device-cbor": "true"}

// stack is everything that runs.
type stack struct {
	t        *testing.T
	dir      string
	consul   *consul
	bus      *bus
	cloud    *process // the broker in the cloud
	offload  *process
	store    *process
	devices  []*process
	api      string
	dsn      string
	cloudURL string
	metadata string // the port of core-metadata
	pause    string // the file that silences the devices while it exists
}

// newStack starts all of it, in the order of compose.
func newStack(t *testing.T, startBus func(*testing.T) *bus) *stack {
	t.Helper()
	s := &stack{t: t, dir: t.TempDir(), consul: startConsul(t), bus: startBus(t)}
	s.dsn, s.pause = "sqlite:"+filepath.Join(s.dir, "cloud.db"), filepath.Join(s.dir, "pause")
	s.configure()
	port := freePort(t)
	s.cloudURL = "tcp://127.0.0.1:" + port
	s.cloud = newMosquitto(t, "cloud-broker", port)
	s.cloud.start()
	await(t, "the cloud's broker answers", func() bool { return answers(port) }, s.cloud.log.tail)
	s.store = newProcess(t, "offload-cloud", binary("offload-cloud"), "-from", "mqtt://127.0.0.1:"+port, "-store", s.dsn)
	s.store.start()
	s.prepareOffload(port)
	for name, cbor := range deviceServices {
		s.addDevice(name, cbor)
	}
	return s
}

func binary(name string) string { return filepath.Join(os.Getenv("E2E_BIN"), name) }

// configure writes the common configuration to Consul, as core-common-config-bootstrapper does.
func (s *stack) configure() {
	s.t.Helper()
	s.metadata = freePort(s.t)
	const bootstrapper = keys + "core-common-config-bootstrapper/"
	s.consul.putTree(bootstrapper, fmt.Sprintf(common, s.consul.port, s.bus.config, s.metadata))
	require.NoError(s.t, s.consul.put(bootstrapper+"IsCommonConfigReady", "true"))
}

// startMetadata starts the fake, and registers it.
func (s *stack) startMetadata() {
	s.t.Helper()
	m := newMetadata(s.t, s.metadata)
	_, err := s.consul.call(http.MethodPut, "agent/service/register", fmt.Sprintf(
		`{"ID":"core-metadata","Name":"core-metadata","Address":"127.0.0.1","Port":%s,"Check":{"HTTP":"%s/api/v3/ping","Interval":"1s","Status":"passing"}}`, s.metadata, m.URL))
	require.NoError(s.t, err)
}

func (s *stack) prepareOffload(cloudPort string) {
	s.t.Helper()
	res, err := filepath.Abs("../../../res")
	require.NoError(s.t, err)
	port := freePort(s.t)
	s.api = "http://127.0.0.1:" + port + "/api/v3/"
	p := newProcess(s.t, "app-offload", binary("app-offload"), "-cp=consul.http://127.0.0.1:"+s.consul.port, "-r", "-cd", res)
	p.env = []string{
		"EDGEX_SECURITY_SECRET_STORE=false", "SERVICE_HOST=127.0.0.1", "SERVICE_PORT=" + port, "OFFLOAD_NODE=e2e",
		"OFFLOAD_SPOOL_DIRECTORY=" + filepath.Join(s.dir, "spool"), "OFFLOAD_EXPORT_BROKER=tcp://127.0.0.1:" + cloudPort,
		"OFFLOAD_WRITABLE_BATCH_MAXAGE=20ms", "OFFLOAD_EXPORT_BACKOFFMAX=1s", "OFFLOAD_EXPORT_RECEIPTTIMEOUT=2s",
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", "OFFLOAD_WRITABLE_POLICY_DECISIONS=100000",
		"WRITABLE_TELEMETRY_INTERVAL=1s",
	}
	s.offload = p
}

func (s *stack) addDevice(name, cbor string) {
	s.t.Helper()
	dir := filepath.Join(s.dir, name)
	require.NoError(s.t, os.Mkdir(dir, 0o700))
	text := fmt.Sprintf(device, freePort(s.t), name)
	require.NoError(s.t, os.WriteFile(filepath.Join(dir, "configuration.yaml"), []byte(text), 0o600))
	p := newProcess(s.t, name, binary("e2e-device"), "-cp=consul.http://127.0.0.1:"+s.consul.port, "-r", "-cd", dir)
	p.env = []string{
		"EDGEX_SECURITY_SECRET_STORE=false", "DEVICE_KEY=" + name, "DEVICE_PAUSE=" + s.pause, "EDGEX_ENCODE_ALL_EVENTS_CBOR=" + cbor,
	}
	s.devices = append(s.devices, p)
}

// startDevices starts the devices' events.
func (s *stack) startDevices() {
	for _, d := range s.devices {
		d.start()
	}
}

// setPaused silences the devices, or lets them send again.
func (s *stack) setPaused(paused bool) {
	s.t.Helper()
	if paused {
		require.NoError(s.t, os.WriteFile(s.pause, nil, 0o600))
	} else {
		require.NoError(s.t, os.Remove(s.pause))
	}
}

var publishedLine = regexp.MustCompile(`id: ([0-9a-f-]{36})\) published to MessageBus`)

// published returns the ids of all events that the device services published.
func (s *stack) published() map[string]bool {
	ids := map[string]bool{}
	for _, d := range s.devices {
		for _, m := range publishedLine.FindAllStringSubmatch(d.log.String(), -1) {
			ids[m[1]] = true
		}
	}
	return ids
}

// stored returns the ids of all events in the consumer's database, and how many of them are incomplete.
func (s *stack) stored() (ids map[string]bool, incomplete int) {
	s.t.Helper()
	out, err := exec.Command(binary("offload-cloud"), "events", "-store", s.dsn).Output() // #nosec G204 -- the test's own program
	require.NoError(s.t, err)
	ids = map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var line struct {
			Event   string
			Missing []int
			Problem string
		}
		require.NoError(s.t, json.Unmarshal(lines.Bytes(), &line))
		require.False(s.t, ids[line.Event], "event %s is stored twice", line.Event)
		ids[line.Event] = true
		if len(line.Missing) > 0 || line.Problem != "" {
			incomplete++
		}
	}
	require.NoError(s.t, lines.Err())
	return ids, incomplete
}

// status is the part of app-offload's status that the test uses.
type status struct {
	Ready  bool
	Counts struct {
		Accepted, Local, Receipted, Spooled, InFlight, Balance int64
		Dropped                                                map[string]int64
	}
	Policy        string
	Events        struct{ Quarantined map[string]int64 }
	Configuration struct{ Version, Problem string }
	Policies      struct{ Shadows []struct{ Policy string } }
}

func (s *stack) status() status {
	var st status
	s.get("offload/status", &st)
	return st
}

// get requests a path of app-offload, and returns 0 if it does not respond.
func (s *stack) get(path string, into any) int {
	resp, err := http.Get(s.api + path) // #nosec G107 -- the test's own address
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if into != nil && json.NewDecoder(resp.Body).Decode(into) != nil {
		return 0
	}
	return resp.StatusCode
}

// text returns app-offload's response as text.
func (s *stack) text(path string) string {
	resp, err := http.Get(s.api + path) // #nosec G107 -- the test's own address
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	return string(body)
}

// ready returns the response of the probe, with its reasons.
func (s *stack) ready() (code int, reasons string) {
	var body struct{ Reasons []string }
	code = s.get("offload/ready", &body)
	return code, strings.Join(body.Reasons, "; ")
}

// decision is one of the latest decisions.
type decision struct {
	ID                            uint64
	Device, Source, Class, Policy string
	Version                       string
	Decision                      struct{ Target string }
}

// latest returns the newest decisions, newest first.
func (s *stack) latest(filter string) []decision {
	var body struct{ Decisions []decision }
	s.get("offload/decisions?limit=20"+filter, &body)
	return body.Decisions
}

// say describes the whole stack, for a failed test.
func (s *stack) say() string {
	raw, _ := json.MarshalIndent(s.status(), "", " ")
	code, reasons := s.ready()
	text := fmt.Sprintf("%d events are published\nready %d %s\nstatus %s\napp-offload says\n%s\noffload-cloud says\n%s",
		len(s.published()), code, reasons, raw, s.offload.log.tail(), s.store.log.tail())
	if s.bus != nil {
		text += "\nthe bus says\n" + s.bus.log.tail() + "\nConsul says\n" + s.consul.log.tail()
	}
	return text
}

// await waits for a condition, and fails with the state of the whole stack if it does not become true.
func (s *stack) await(what string, ok func() bool) {
	s.t.Helper()
	await(s.t, what, ok, s.say)
}

// flows waits until more events have been published and stored than before.
func (s *stack) flows() {
	s.t.Helper()
	accepted := s.status().Counts.Accepted
	s.await("events flow", func() bool { return s.status().Counts.Accepted > accepted+20 })
}

// timed returns how long it took until ok.
func (s *stack) timed(what string, ok func() bool) time.Duration {
	s.t.Helper()
	begin := time.Now()
	s.await(what, ok)
	return time.Since(begin)
}
