package functions

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
	"app-offload/functions/local"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// broker is an MQTT broker in the test's process, and cloud is a consumer at it.
type broker struct {
	*mqtt.Server
	addr string
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	addr := mosquittotest.FreeAddress(t)
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClientWritesPending = 1 << 14
	s := mqtt.New(&mqtt.Options{InlineClient: true, Capabilities: caps, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, s.AddHook(new(auth.AllowHook), nil))
	require.NoError(t, s.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: addr})))
	require.NoError(t, s.Serve())
	t.Cleanup(func() { _ = s.Close() })
	return &broker{s, addr}
}

// cloud opens batches, remembers every record and, unless it is silent, receipts them.
type cloud struct {
	t      *testing.T
	broker *broker
	opener *seal.Opener
	sealer *seal.Sealer
	silent bool
	delay  time.Duration // of each receipt

	mu      sync.Mutex
	seen    map[uint64]*task.Task // by sequence
	order   []*task.Task          // first sight only
	doubled int
}

func startCloud(t *testing.T, b *broker, node string, keys seal.Keys) *cloud {
	t.Helper()
	sealer, err := seal.NewSealer(seal.DefaultConfig(), keys)
	require.NoError(t, err)
	c := &cloud{t: t, broker: b, opener: seal.NewOpener(keys, seal.Limits{}), sealer: sealer, seen: map[uint64]*task.Task{}}
	require.NoError(t, b.Subscribe(seal.BatchTopic(node, "+"), 1, func(_ *mqtt.Client, _ packets.Subscription, p packets.Packet) {
		c.take(p.Payload)
	}))
	return c
}

func (c *cloud) take(message []byte) {
	b, err := c.opener.Open(message)
	if err != nil {
		c.t.Errorf("opening a batch: %v", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	receipt := &seal.Receipt{ID: b.ID, Node: b.Node, Epoch: b.Epoch, Created: time.Now()}
	for i, seq := range b.Sequences {
		receipt.Safe = append(receipt.Safe, seal.Range{First: seq, Last: seq})
		if c.seen[seq] != nil {
			c.doubled++
			continue
		}
		one, err := task.Decode(b.Tasks[i])
		if err != nil {
			c.t.Errorf("decoding record %d: %v", seq, err)
			continue
		}
		c.seen[seq] = one
		c.order = append(c.order, one)
	}
	if c.silent {
		return
	}
	raw, err := c.sealer.SealReceipt(nil, receipt)
	if err != nil {
		c.t.Errorf("sealing a receipt: %v", err)
		return
	}
	time.AfterFunc(c.delay, func() {
		if err := c.broker.Publish(seal.ReceiptTopic(b.Node), raw, false, 1); err != nil && c.delay == 0 {
			c.t.Errorf("publishing a receipt: %v", err)
		}
	})
}

func (c *cloud) tasks() []*task.Task {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*task.Task(nil), c.order...)
}

// bin accepts results and counts them.
type bin struct {
	mu      sync.Mutex
	results []local.Result
	err     error
}

func (b *bin) Publish(r local.Result) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.results = append(b.results, r)
	return b.err
}

type noSecrets struct{}

func (noSecrets) GetSecret(name string, _ ...string) (map[string]string, error) {
	return nil, fmt.Errorf("no secret %q", name)
}

// testLog passes warnings and errors to the test.
type testLog struct{ t *testing.T }

func (testLog) Debugf(string, ...any)            {}
func (testLog) Infof(string, ...any)             {}
func (l testLog) Warnf(format string, a ...any)  { l.t.Logf("WARN "+format, a...) }
func (l testLog) Errorf(format string, a ...any) { l.t.Logf("ERROR "+format, a...) }

// testConfig is the default configuration with all files in the test's folder, and a policy.
func testConfig(t *testing.T, b *broker, policy string) config.Config {
	c := config.Default()
	c.Node = "n1"
	c.Spool.Directory = t.TempDir()
	c.Spool.QuotaMiB = 64
	c.Writable.Policy.Default = policy
	c.Writable.Batch.MaxAge = "5ms"
	c.Export.Broker = "tcp://127.0.0.1:1" // no broker listens there
	if b != nil {
		c.Export.Broker = "tcp://" + b.addr
	}
	return c
}

func open(t *testing.T, c config.Config, pub local.Publisher) *Service {
	t.Helper()
	s, err := New(c, Deps{Name: "app-offload", Log: testLog{t}, Secrets: noSecrets{}, Publisher: pub})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

// event returns a small event of a device: one float.
func event(device string, n int) *task.Event {
	raw := fmt.Appendf(nil, `{"apiVersion":"v3","id":"%08d-0000-4000-8000-%012d","deviceName":%q,"profileName":"P","sourceName":"S",`+
		`"origin":%d,"readings":[{"id":"x","origin":%d,"deviceName":%q,"resourceName":"R","profileName":"P","valueType":"Float64","value":"1.5"}]}`,
		n, n, device, n+1, n+1, device)
	i := len(raw) - len(`1.5"}]}`)
	return &task.Event{
		ID: string(raw[24:60]), Device: device, Profile: "P", Source: "S", Origin: int64(n + 1),
		Received: time.Now().UnixNano(), Encoding: task.JSON, Raw: raw,
		Readings: []task.Reading{{Resource: "R", Type: task.Float64, Origin: int64(n + 1), Value: raw[i : i+3], Start: i, End: i + 3}},
	}
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(t, "did not happen within "+within.String(), what)
		}
	}
}

// taskOf returns the only task of an event.
func taskOf(t *testing.T, s *Service, ev *task.Event) *task.Task {
	t.Helper()
	tasks := task.Split(ev, func(string) *task.Class { return s.rules.Load().Class("default") }, nil)
	require.Len(t, tasks, 1)
	return tasks[0]
}
