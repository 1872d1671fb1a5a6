package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/functions/keys"
	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// program runs the consumer inside the test until stop is called, which returns its exit code.
func program(t *testing.T, args ...string) (out, log *buffer, stop func() int) {
	t.Helper()
	out, log = &buffer{}, &buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, streams{out, log}) }()
	eventually(t, func() bool { return strings.Contains(log.String(), "msg=ready") }, "ready: %v", log)
	return out, log, func() int { cancel(); return <-ended }
}

// verb runs a verb and returns its output.
func verb(t *testing.T, args ...string) string {
	t.Helper()
	out, log := &buffer{}, &buffer{}
	require.Zero(t, run(t.Context(), args, streams{out, log}), log.String())
	return out.String()
}

func eventually(t *testing.T, done func() bool, what string, args ...any) {
	t.Helper()
	for began := time.Now(); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf(what, args...)
		}
	}
}

// radio is a client that publishes the test's messages and receives the receipts.
type radio struct {
	mqtt.Client
	receipts chan *seal.Receipt
}

func newRadio(t *testing.T, address string, opener *seal.Opener) *radio {
	t.Helper()
	r := &radio{receipts: make(chan *seal.Receipt, 100)}
	r.Client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("radio"))
	wait(t, r.Connect())
	wait(t, r.Subscribe("offload/v1/+/receipt", 1, func(_ mqtt.Client, m mqtt.Message) {
		receipt, err := opener.OpenReceipt(m.Payload())
		if err != nil {
			t.Errorf("a receipt that cannot be opened: %v", err)
			return
		}
		r.receipts <- receipt
	}))
	t.Cleanup(func() { r.Disconnect(50) })
	return r
}

func wait(t *testing.T, token mqtt.Token) {
	t.Helper()
	require.True(t, token.WaitTimeout(time.Minute), "the broker does not answer")
	require.NoError(t, token.Error())
}

func (r *radio) send(t *testing.T, topic string, payload []byte) {
	t.Helper()
	wait(t, r.Publish(topic, 1, false, payload))
}

func (r *radio) receipt(t *testing.T) *seal.Receipt {
	t.Helper()
	select {
	case receipt := <-r.receipts:
		return receipt
	case <-time.After(time.Minute):
		t.Fatal("there is no receipt")
		return nil
	}
}

func writeKey(t *testing.T, dir, id string, fill byte) {
	t.Helper()
	text := hex.EncodeToString(bytes.Repeat([]byte{fill}, 32))
	require.NoError(t, os.WriteFile(filepath.Join(dir, id+".key"), []byte(text), 0o600))
}

func loadKeys(t *testing.T, dir string) *keys.Files {
	t.Helper()
	files, err := keys.LoadFiles(dir, func(string) {})
	require.NoError(t, err)
	return files
}

func newEdge(t *testing.T, ring seal.Keys) *edgetest.Edge {
	t.Helper()
	return (&edgetest.Edge{Node: "n1", Epoch: "e1", Records: 100, Keys: ring, Rand: rand.New(rand.NewPCG(1, 1))}).Prepare(t)
}

const batchTopic = "offload/v1/n1/batch/default"

// A day of an operator: sealed batches, a gap and its explanation, a key that came too late, and the verbs.
func TestSealedBatchesGapsAndDeadLetters(t *testing.T) {
	address, ours, theirs := edgetest.Broker(t), t.TempDir(), t.TempDir()
	writeKey(t, ours, "a", 1)
	writeKey(t, theirs, "b", 2)
	require.NoError(t, os.WriteFile(filepath.Join(ours, "half"), []byte("0101"), 0o600))
	db := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
	out, log, stop := program(t, "-from", "mqtt://"+address, "-store", db, "-keys", ours, "-jsonl", "-listen", "127.0.0.1:0")
	edge := newEdge(t, loadKeys(t, ours))
	r := newRadio(t, address, seal.NewOpener(loadKeys(t, ours), seal.Limits{}))

	r.send(t, batchTopic, edge.Batch(t, 1, 1, 2, 3))
	require.Equal(t, []seal.Range{{First: 1, Last: 3}}, r.receipt(t).Safe)
	r.send(t, batchTopic, edge.Batch(t, 9, 9))
	require.Equal(t, []seal.Range{{First: 4, Last: 8}}, r.receipt(t).Gaps)
	sealer, err := seal.NewSealer(seal.DefaultConfig(), loadKeys(t, ours))
	require.NoError(t, err)
	gone, err := sealer.SealGone(nil, &seal.Gone{
		ID: "1", Node: "n1", Epoch: "e1", Created: time.Now(), Ranges: []seal.GoneRange{{Range: seal.Range{First: 4, Last: 7}, Reason: "expired"}},
	})
	require.NoError(t, err)
	r.send(t, "offload/v1/n1/gone", gone)
	require.Equal(t, []seal.Range{{First: 8, Last: 8}}, r.receipt(t).Gaps)

	plain := newEdge(t, nil)
	r.send(t, batchTopic, plain.Batch(t, 1, 50))
	late := newEdge(t, loadKeys(t, theirs))
	r.send(t, batchTopic, late.Batch(t, 9, 8))
	r.send(t, batchTopic, late.Batch(t, 9, 8)[:200])
	metrics := "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(log.String())[1]
	eventually(t, func() bool {
		return strings.Contains(get(t, metrics+"/metrics"), "offload_cloud_dead_letters_total 3\n")
	}, "3 dead letters")
	require.Contains(t, get(t, metrics+"/metrics"), "offload_cloud_gaps 1\n")
	require.Regexp(t, "^ready\nreading the keys: .*half: is not 16, 24 or 32 bytes", get(t, metrics+"/ready"))
	require.Contains(t, log.String(), "half: is not 16")
	require.Equal(t, "live\n", get(t, metrics+"/live"))

	list := verb(t, "dead", "list", "-store", db)
	for _, reason := range []string{"forged", "unknown key", "malformed"} {
		require.Contains(t, list, reason)
	}
	writeKey(t, ours, "b", 2)
	require.Contains(t, verb(t, "dead", "retry", "-store", db, "-keys", ours), "stored 1 new of 1 records")
	require.Equal(t, "dropped 2\n", verb(t, "dead", "drop", "all", "-store", db))

	require.Zero(t, stop(), log.String())
	require.Equal(t, 4, strings.Count(out.String(), `"node":"n1"`), "what a retry stored is not printed here")
	var stats map[string]any
	require.NoError(t, json.Unmarshal([]byte(verb(t, "stats", "-json", "-store", db)), &stats))
	require.Equal(t, 5.0, stats["records"])
	require.Equal(t, 0.0, stats["gaps"])
	require.Equal(t, map[string]any{"expired": 4.0}, stats["gone"])
	require.Contains(t, verb(t, "stats", "-store", db), "expired 4")
	for _, secret := range []string{strings.Repeat("01", 32), strings.Repeat("02", 32)} {
		require.NotContains(t, log.String()+list, secret)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	require.NoError(t, err)
	defer answer.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(body)
}

func TestEventsAreJoinedFromTheirChunks(t *testing.T) {
	address, db := edgetest.Broker(t), "sqlite:"+filepath.Join(t.TempDir(), "cloud.db")
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", db)
	r := newRadio(t, address, seal.NewOpener(nil, seal.Limits{}))
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	for i, chunks := range [][]int{{0, 1, 2}, {0, 2}, {2, 1, 0}} {
		b := &seal.Batch{ID: fmt.Sprint(i), Node: "n1", Epoch: "e1", Class: "default", Created: time.Now(), Floor: 1}
		for _, chunk := range chunks {
			b.Sequences = append(b.Sequences, uint64(10*i+chunk+1))
			b.Tasks = append(b.Tasks, cutEvent(fmt.Sprintf("event-%d", i))[chunk].Append(nil))
		}
		msg, err := sealer.Seal(nil, b)
		require.NoError(t, err)
		r.send(t, batchTopic, msg)
		r.receipt(t)
	}
	require.Zero(t, stop(), log.String())

	var lines []eventLine
	for _, text := range strings.Split(strings.TrimSpace(verb(t, "events", "-store", db)), "\n") {
		var line eventLine
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		lines = append(lines, line)
	}
	require.Len(t, lines, 3)
	require.JSONEq(t, `{"id":"event-0","value":"[1, 2, 3, 4]"}`, string(lines[0].Data))
	require.Equal(t, []int{1}, lines[1].Missing)
	require.Nil(t, lines[1].Data)
	require.JSONEq(t, `{"id":"event-2","value":"[1, 2, 3, 4]"}`, string(lines[2].Data))
	require.Equal(t, 1, strings.Count(verb(t, "events", "-store", db, "-limit", "1", "-after", fmt.Sprint(lines[0].ID)), "\n"))
	require.Empty(t, verb(t, "events", "-store", db, "-device", "other"))
	refused := &buffer{}
	require.Equal(t, 2, run(t.Context(), []string{"events", "-store", db, "-after", "-1"}, streams{&buffer{}, refused}))
	require.Contains(t, refused.String(), "-after -1")
}

// cutEvent returns an event whose array was cut into two chunks.
func cutEvent(id string) []*task.Task {
	raw := []byte(`{"id":"` + id + `","value":"[1, 2, 3, 4]"}`)
	at := bytes.IndexByte(raw, '[')
	ev := &task.Event{
		ID: id, Device: "press-1", Profile: "press", Source: "wave", Origin: 1, Encoding: task.JSON, Raw: raw,
		Readings: []task.Reading{{Resource: "wave", Type: task.Int32Array, Value: raw[at : at+12], Start: at, End: at + 12}},
	}
	class := &task.Class{Name: "default", ChunkSize: 2}
	return task.Split(ev, func(string) *task.Class { return class }, nil)
}

// readNothing is a broker that grants no subscription.
type readNothing struct{ auth.AllowHook }

func (*readNothing) OnACLCheck(_ *broker.Client, _ string, write bool) bool { return write }

// Such a broker must not leave the consumer waiting without a message.
func TestForbiddenSubscriptionEndsTheProgram(t *testing.T) {
	address := edgetest.Broker(t, &readNothing{})
	out, log := &buffer{}, &buffer{}
	code := run(t.Context(), []string{"-from", "mqtt://" + address, "-store", "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")}, streams{out, log})
	require.Equal(t, 1, code)
	require.Contains(t, log.String(), "refuses a subscription")
}

func TestWrongUsageIsExplained(t *testing.T) {
	tests := []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-h"}, 0, "Examples:"},
		{[]string{"events", "-h"}, 0, "joined"},
		{[]string{"frobnicate"}, 2, "unknown verb"},
		{[]string{"version", "x"}, 1, "unexpected argument"},
		{[]string{"-from", "http://localhost", "-replies", "http://x/?to={node}"}, 1, "neither ? nor #"},
		{[]string{"-from", "mqtt://localhost", "-max-message-mib", "0"}, 1, "-max-message-mib"},
		{[]string{"-from", "mqtt://localhost", "-max-data-mib", "-1"}, 1, "-max-data-mib"},
		{[]string{"-no-such-flag"}, 2, "not defined"},
		{nil, 1, "-from is missing"},
		{[]string{"-from", "localhost"}, 1, "mqtt://host:1883"},
		{[]string{"-from", "ftp://localhost"}, 1, "scheme"},
		{[]string{"-from", "http://localhost"}, 1, "-replies"},
		{[]string{"-from", "mqtt://localhost", "-share", "a/b"}, 1, "-share"},
		{[]string{"-from", "mqtt://localhost", "-store", "mysql:x"}, 1, "sqlite:PATH"},
		{[]string{"-from", "mqtt://u:p@localhost"}, 1, "-password-file"},
		{[]string{"-from", "mqtt://localhost", "-store", "sqlite:"}, 1, "path is missing"},
		{[]string{"-from", "mqtt://localhost", "-keys", "/nowhere"}, 1, "/nowhere"},
		{[]string{"-from", "mqtt://localhost", "-user", "u", "-password-file", "/nowhere"}, 1, "-password-file"},
		{[]string{"-from", "mqtts://localhost", "-tls-cert", "x"}, 1, "-tls-key"},
		{[]string{"-from", "mqtts://localhost", "-tls-ca", "/nowhere"}, 1, "-tls-ca"},
		{[]string{"-from", "mqtt://localhost", "-id", ""}, 1, "-id"},
		{[]string{"-from", "mqtt://localhost", "-id", "a\nb"}, 1, "-id"},
		{[]string{"-from", "mqtt://localhost", "-id", strings.Repeat("x", 257)}, 1, "-id"},
		{[]string{"-from", "mqtt://localhost", "-password-file", "program_test.go"}, 1, "-user is missing"},
		{[]string{"-from", "mqtt://localhost", "-tls-ca", "program_test.go"}, 1, "mqtt:// is not encrypted"},
		{[]string{"-from", "ws://localhost", "-tls-server-name", "x"}, 1, "ws:// is not encrypted"},
		{[]string{"-from", "nats://localhost", "-tls-key", "x"}, 1, "need each other"},
		{[]string{"-from", "mqtt://localhost", "-replies", "http://h"}, 1, "-replies"},
		{[]string{"-from", "http://localhost", "-replies", "http://h", "-share", "g", "-store", "postgres://h/d"}, 1, "-share, -user and -tls"},
		{[]string{"-from", "http://localhost", "-replies", "http://h", "-user", "u"}, 1, "-share, -user and -tls"},
		{[]string{"-from", "http://localhost", "-replies", "http://h", "-tls-ca", "x"}, 1, "-share, -user and -tls"},
		{[]string{"-from", "mqtt://localhost", "-share", "g"}, 1, "-share needs a PostgreSQL"},
		{[]string{"-from", "mqtt://localhost", "-queue-mib", "0"}, 1, "-queue-mib 0: it must be from 1 to 65536"},
		{[]string{"-from", "mqtt://localhost", "-queue-mib", "65537"}, 1, "-queue-mib"},
		{[]string{"-from", "mqtt://localhost", "-group-records", "-1"}, 1, "-group-records"},
		{[]string{"-from", "mqtt://localhost", "-dead-count", "0"}, 1, "-dead-count"},
		{[]string{"-from", "mqtt://localhost", "-dead-mib", "-1"}, 1, "-dead-mib"},
		{[]string{"-from", "mqtt://localhost", "-cipher", "aes-eax"}, 1, "-cipher aes-eax needs -keys"},
		{[]string{"-from", "mqtt://localhost,other:1883"}, 1, "takes one broker"},
		{[]string{"-from", "http://localhost,other:1883"}, 1, "takes one broker"},
		{[]string{"work", "-models", ".", "-threads", "0"}, 1, "-threads 0"},
		{[]string{"stats", "n1"}, 1, `unexpected argument "n1"`},
		{[]string{"events", "pump-1"}, 1, `unexpected argument "pump-1"`},
		{[]string{"dead", "list", "5"}, 1, `unexpected argument "5"`},
		{[]string{"jobs", "list", "5"}, 1, `unexpected argument "5"`},
		{[]string{"deliver", "-from", "mqtt://localhost", "-to", "n1", "-within", "0", "x"}, 1, "-within 0s"},
		{[]string{"credits", "-settle", "-every", "-1s"}, 1, "-every -1s"},
		{[]string{"credits", "-settle", "-lag", "-1s"}, 1, "-lag -1s"},
		{[]string{"stats", "-store", "sqlite:/nowhere/x.db"}, 1, "/nowhere/x.db"},
		{[]string{"dead", "-store", "sqlite:x"}, 2, "dead retry"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			out, log := &buffer{}, &buffer{}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // if it is not refused, it consumes without end
			defer cancel()
			require.Equal(t, tt.code, run(ctx, tt.args, streams{out, log}), log.String())
			require.Contains(t, log.String(), tt.want)
		})
	}
}

func TestVersionIsTold(t *testing.T) {
	for _, word := range []string{"version", "-version", "--version"} {
		require.Regexp(t, `^offload-cloud \S+, commit \S+, go`, verb(t, word))
	}
	require.Contains(t, verb(t, "version", "-json"), `"commit":`)
}
