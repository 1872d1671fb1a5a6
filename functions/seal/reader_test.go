package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// python is Debian's own, which has the modules that the reader needs. Without them the test is skipped, except in CI.
func python(t *testing.T) string {
	t.Helper()
	check := exec.Command("/usr/bin/python3", "-c", "import paho.mqtt\ntry:\n import Cryptodome\nexcept ImportError:\n import Crypto")
	if out, err := check.CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("python3-paho-mqtt and python3-pycryptodome are missing: %v: %s", err, out)
		}
		t.Skip("python3-paho-mqtt or python3-pycryptodome is not installed")
	}
	return "/usr/bin/python3"
}

func readerArguments(more ...string) []string {
	args := append([]string{"reader.py"}, more...)
	for id, key := range testKeys.keys {
		args = append(args, "--key", id+"="+hex.EncodeToString(key))
	}
	return args
}

// line is the reader's output for a record.
type line struct {
	Node, Epoch, Batch, EventID, Encoding, Text string
	Sequence                                    uint64
	Event                                       json.RawMessage
	Base64                                      []byte
}

// requireRecords compares the lines of one batch with the golden batch.
func requireRecords(t *testing.T, out []byte) {
	t.Helper()
	b := goldenBatch()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, lines, len(b.Tasks))
	for i, text := range lines {
		var l line
		require.NoError(t, json.Unmarshal([]byte(text), &l))
		x, err := task.Decode(b.Tasks[i])
		require.NoError(t, err)
		require.Equal(t, []any{b.Node, b.Epoch, b.ID, b.Sequences[i], x.EventID}, []any{l.Node, l.Epoch, l.Batch, l.Sequence, l.EventID})
		switch x.Encoding {
		case task.JSON:
			require.JSONEq(t, string(x.Data), string(l.Event))
		case task.Text:
			require.Equal(t, string(x.Data), l.Text)
		default:
			require.Equal(t, x.Data, l.Base64)
		}
	}
}

func haveZstd() bool {
	_, err := exec.LookPath("zstd")
	return err == nil || exec.Command("/usr/bin/python3", "-c", "import zstandard").Run() == nil
}

// One run reads all golden batches, in the order of the variants: starting Python takes longer than reading.
func TestPythonReadsGoldenBatches(t *testing.T) {
	bin := python(t)
	zstd := haveZstd()
	if !zstd && os.Getenv("CI") != "" {
		t.Fatal("zstd is missing")
	}
	var some []variant
	args := []string{"--allow-plain", "--file"}
	for _, v := range variants() {
		if v.compression != CompressionZstd || zstd {
			some = append(some, v)
			args = append(args, filepath.Join("testdata", "golden", v.file()))
		}
	}
	out, err := exec.Command(bin, readerArguments(args...)...).Output()
	require.NoError(t, err)
	lines := slices.Collect(strings.Lines(string(out)))
	n := len(goldenBatch().Tasks)
	require.Len(t, lines, n*len(some))
	for i, v := range some {
		t.Run(v.String(), func(t *testing.T) { requireRecords(t, []byte(strings.Join(lines[i*n:(i+1)*n], ""))) })
	}
}

func TestPythonReadsSessionsAndStatements(t *testing.T) {
	bin := python(t)
	if !haveZstd() {
		t.Skip("zstd is not installed")
	}
	args := []string{"--allow-plain", "--file"}
	for _, v := range sessionVariants {
		args = append(args, filepath.Join("testdata", "golden", "session-"+v.file()))
	}
	args = append(args, filepath.Join("testdata", "golden", "receipt-full-aes-256-gcm.json"), filepath.Join("testdata", "golden", "announcement-aes-eax.json"))
	out, err := exec.Command(bin, readerArguments(args...)...).Output()
	require.NoError(t, err)
	lines := slices.Collect(strings.Lines(string(out)))
	n := len(goldenBatch().Tasks)
	require.Len(t, lines, n*len(sessionVariants)+2)
	for i := range sessionVariants {
		requireRecords(t, []byte(strings.Join(lines[i*n:(i+1)*n], "")))
		require.Contains(t, lines[i*n], `"session": "5d2f0c9e8b7a6153"`)
	}
	require.Contains(t, lines[len(lines)-2], `"conflicts": [[21, 21]]`)
	require.Contains(t, lines[len(lines)-1], `"consumer": "cloud 1/ä"`)
}

// The reader must reject: a changed attribute, a changed payload, an unknown key, and an unsealed message although it has keys.
func TestPythonRefusesForgedMessages(t *testing.T) {
	bin := python(t)
	msg, err := os.ReadFile(filepath.Join("testdata", "golden", "json-aes-256-gcm-gzip.json"))
	require.NoError(t, err)
	plain, err := os.ReadFile(filepath.Join("testdata", "golden", "json-none-none.json"))
	require.NoError(t, err)
	for name, changed := range map[string][]byte{
		"plain":   plain,
		"epoch":   bytes.Replace(msg, []byte("18c2b1f0a3d4e5f6"), []byte("18c2b1f0a3d4e5f7"), 1),
		"payload": bytes.Replace(msg, []byte(`"data_base64":"A`), []byte(`"data_base64":"B`), 1),
		"key":     bytes.Replace(msg, []byte(`"keyid":"k32"`), []byte(`"keyid":"k16"`), 1),
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEqual(t, string(msg), string(changed))
			path := filepath.Join(t.TempDir(), "message")
			require.NoError(t, os.WriteFile(path, changed, 0o600))
			out, err := exec.Command(bin, readerArguments("--file", path)...).CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), "refused")
			require.NotContains(t, string(out), "Traceback")
		})
	}
}

func TestPythonReadsFromABroker(t *testing.T) {
	bin := python(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	broker := mqtt.New(&mqtt.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, broker.AddHook(new(auth.AllowHook), nil))
	require.NoError(t, broker.AddListener(listeners.NewNet("test", l)))
	require.NoError(t, broker.Serve())
	t.Cleanup(func() { require.NoError(t, broker.Close()) })

	// Retained, so that the order does not matter.
	for _, name := range []string{"json-aes-eax-k16-gzip.json", "protobuf-aes-256-gcm-fold-gzip.pb"} {
		msg, err := os.ReadFile(filepath.Join("testdata", "golden", name))
		require.NoError(t, err)
		require.NoError(t, broker.Publish(BatchTopic("gateway 7", name), msg, true, 1))
	}
	reader := exec.Command(bin, readerArguments("--host", "127.0.0.1", "--port", port, "--count", "2")...)
	stop := time.AfterFunc(30*time.Second, func() { _ = reader.Process.Kill() })
	defer stop.Stop()
	out, err := reader.Output()
	require.NoError(t, err)
	lines := slices.Collect(strings.Lines(string(out)))
	require.Len(t, lines, 10)
	requireRecords(t, []byte(strings.Join(lines[:5], "")))
	requireRecords(t, []byte(strings.Join(lines[5:], "")))
}
