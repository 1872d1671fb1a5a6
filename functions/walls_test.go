package functions

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The allowed imports: downwards only.
var walls = map[string][]string{
	"check": {}, "check/bounds": {},
	"clock": {},
	"mqtt":  {}, "mqtt/mosquittotest": {"freeport"},
	"say":    {},
	"engine": {}, "engine/kernel": {}, "engine/tflite": {"engine", "engine/kernel"},
	"engine/onnx": {"engine", "engine/kernel"}, "engine/onnxruntime": {"check", "engine", "engine/onnx"},
	"models":      {"check", "clock", "task", "engine", "engine/tflite", "engine/onnx", "engine/onnxruntime"},
	"models/hard": {"check", "clock"}, "models/delivery": {"check", "clock", "models"},
	"answer": {"check", "models", "task"}, "answer/desk": {"answer", "atomicfile", "check", "say", "seal"}, "forward": {"local", "task"},
	"task":       {"check", "clock"},
	"host":       {"check", "clock"},
	"spool":      {"check", "clock"},
	"pool":       {},
	"fleet":      {"check", "pool", "say", "seal"},
	"score":      {"check", "clock", "pool", "task", "host"},
	"atomicfile": {}, "keys": {"seal"}, "ledger": {"atomicfile", "check", "spool", "status"},
	"decision":   {"task", "host", "score"},
	"policy":     {"check", "clock", "decision", "pool", "task", "host", "score"},
	"trial":      {"decision", "host", "policy", "score", "task"},
	"shed":       {"decision", "host", "policy", "score", "task"},
	"kin":        {"local", "say", "task"},
	"background": {}, "wait": {"decide", "decision", "host", "background", "local", "policy", "score", "spool", "status", "task"},
	"feedback": {"atomicfile", "check", "clock", "decide", "decision", "host", "policy", "say", "seal", "spool", "status", "task", "trial"},
	"decide":   {"check", "decision", "host", "policy", "score", "task", "trial"},
	"local":    {"answer", "check", "clock", "task", "local/novelty"}, "local/novelty": {},
	"intake": {"atomicfile", "check", "clock", "intake/parse", "mqtt", "quarantine", "say", "task"}, "intake/parse": {"check", "clock", "task"},
	"seal": {"check", "clock", "seal/fold", "task"}, "seal/fold": {},
	"batch":           {"check", "clock", "task", "spool"},
	"export":          {"check", "clock", "link", "mqtt", "say", "task", "host", "spool", "batch", "seal"},
	"infer/modeltest": {"engine", "engine/tflite", "models"},
	"infer":           {"answer", "check", "clock", "engine/onnxruntime", "local", "models", "models/delivery", "models/hard", "say", "task"},
	"config":          {"check", "fleet", "infer", "decide", "task", "host", "score", "policy", "local", "intake", "spool", "seal", "batch", "export"},

	"health":     {"clock", "export", "host", "infer", "say", "spool", "status"},
	"link":       {"host"},
	"quarantine": {"check", "intake/parse"}, "receive": {"check", "intake", "intake/parse", "quarantine", "say", "status", "task"},
	"status":  {"answer/desk", "fleet", "forward", "shed", "check", "host", "infer", "local", "export"},
	"track":   {},
	"version": {}, "halt": {},
	"edgex": {"", "intake", "keys", "local", "receive"}, // "" is the root

	"badlink": {}, "freeport": {}, // for tests; users keeps them out of the service
}

// The allowed users of libraries that shape their users. The lab drives brokers as their user would.
var users = map[string][]string{
	"github.com/edgexfoundry/app-functions-sdk-go/": {"functions/edgex", "cmd/app-offload"},
	"github.com/edgexfoundry/go-mod-bootstrap/":     {"functions/edgex", "cmd/app-offload"},
	"github.com/edgexfoundry/go-mod-messaging/":     {"functions/edgex", "cmd/app-offload"},
	"github.com/edgexfoundry/go-mod-core-contracts/": {
		"functions/edgex", "functions/intake", "functions/local", "cmd/app-offload",
	},
	"github.com/eclipse/paho.mqtt.golang":    {"functions/mqtt", "cmd/internal", "cmd/offload-cloud/internal/edgetest", "cmd/offload-lab"},
	"github.com/shirou/gopsutil/":            {"functions/host"},
	"github.com/edgexfoundry/device-sdk-go/": {"cmd/app-offload"},
	"app-offload/functions/badlink":          {"cmd/offload-lab"},
	"app-offload/functions/freeport":         {"cmd/offload-lab", "functions/mqtt/mosquittotest"},
}

// Packages and commands that must build without the SDK, including their imports: the whole pipeline runs without EdgeX.
var withoutSDK = []string{"functions", "cmd/offload-lab", "cmd/offload-cloud", "cmd/offloadctl"}

type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

func TestWalls(t *testing.T) {
	for _, p := range packages(t) {
		own := strings.TrimPrefix(p.ImportPath, "app-offload/")
		for _, imported := range p.Imports {
			checkRoom(t, own, imported)
			checkLibrary(t, own, imported)
		}
		if slices.Contains(withoutSDK, own) {
			for _, dep := range p.Deps {
				require.False(t, strings.HasPrefix(dep, "github.com/edgexfoundry/app-functions-sdk-go/"), "%s depends on %s", own, dep)
			}
		}
	}
}

func checkRoom(t *testing.T, own, imported string) {
	t.Helper()
	room, ok := strings.CutPrefix(own, "functions/")
	allowed, known := walls[room]
	target, ours := strings.CutPrefix(imported+"/", "app-offload/functions/")
	target = strings.TrimSuffix(target, "/")
	if ok && known && ours {
		require.Contains(t, allowed, target, "functions/%s imports %s, which is not below it", room, imported)
	}
	if ok && !known {
		require.Fail(t, "a room without walls", own)
	}
	if strings.HasPrefix(own, "functions") {
		require.False(t, strings.HasPrefix(imported, "app-offload/cmd"), "%s imports %s", own, imported)
	}
}

func checkLibrary(t *testing.T, own, imported string) {
	t.Helper()
	for library, allowed := range users {
		if !strings.HasPrefix(imported, library) {
			continue
		}
		require.True(t, slices.ContainsFunc(allowed, func(a string) bool {
			return own == a || strings.HasPrefix(a, "cmd/") && strings.HasPrefix(own, a+"/")
		}), "%s imports %s", own, imported)
	}
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "app-offload/...")
	out, err := cmd.Output()
	require.NoError(t, err)
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else {
			require.NoError(t, err)
		}
		all = append(all, p)
	}
}
