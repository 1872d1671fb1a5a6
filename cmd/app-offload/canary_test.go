package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	planted "app-offload/cmd/internal/canary"
	"app-offload/functions/seal"
)

// logins admits clients that know their password; the test itself connects without one.
type logins struct {
	mqtt.HookBase
	passwords map[string]string
}

func (l *logins) ID() string { return "logins" }

func (l *logins) Provides(b byte) bool {
	return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck
}

func (l *logins) OnConnectAuthenticate(c *mqtt.Client, pk packets.Packet) bool {
	want, known := l.passwords[string(pk.Connect.Username)]
	return c.ID == "test" || (known && string(pk.Connect.Password) == want)
}

func (l *logins) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

// secrets is a secret store's content by secret name.
type secrets map[string]map[string]string

// aviary is the service under test with every secret planted, and all its output.
type aviary struct {
	*edge
	birds planted.Flock
	said  map[string]string // logs and answers, by what they are
}

// ring opens and seals for the test's cloud.
type ring map[string][]byte

func (r ring) Current() (string, []byte, error)    { return "k1", r["k1"], nil }
func (r ring) Key(id string) ([]byte, error)       { return r[id], nil }
func (a *aviary) note(what, text string)           { a.said[what] = text }
func (a *aviary) plant(name, secret string) string { return a.birds.Plant(name, secret) }

func newAviary(t *testing.T) *aviary {
	t.Helper()
	a := &aviary{birds: planted.Flock{}, said: map[string]string{}}
	a.edge = &edge{t: t, dir: t.TempDir(), port: freePort(t), records: map[uint64]bool{}, tasks: map[string]bool{}}
	broker := mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, broker.AddHook(&logins{passwords: map[string]string{
		"bus": a.plant("bus password", "canary-Bus-3141592653"), "export": a.plant("broker password", "canary-Export-2718281828"),
	}}, nil))
	require.NoError(t, broker.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:" + a.port})))
	require.NoError(t, broker.Serve())
	t.Cleanup(func() { _ = broker.Close() })
	return a
}

// cloud receipts messages that the keys open.
func (a *aviary) cloud(keys ring) {
	sealer, err := seal.NewSealer(seal.DefaultConfig(), keys)
	require.NoError(a.t, err)
	opener := seal.NewOpener(keys, seal.Limits{})
	a.client = paho.NewClient(paho.NewClientOptions().AddBroker("tcp://127.0.0.1:" + a.port).SetClientID("test").SetOrderMatters(false))
	wait := func(token paho.Token) {
		require.True(a.t, token.WaitTimeout(patience))
		require.NoError(a.t, token.Error())
	}
	wait(a.client.Connect())
	wait(a.client.Subscribe("offload/v1/+/batch/+", 1, func(_ paho.Client, m paho.Message) {
		b, err := opener.Open(m.Payload())
		if err != nil {
			a.t.Errorf("opening a batch: %v", err)
			return
		}
		r := &seal.Receipt{ID: b.ID, Node: b.Node, Epoch: b.Epoch, Created: time.Now()}
		for _, seq := range b.Sequences {
			r.Safe = append(r.Safe, seal.Range{First: seq, Last: seq})
		}
		raw, err := sealer.SealReceipt(nil, r)
		if err != nil {
			a.t.Errorf("sealing a receipt: %v", err)
			return
		}
		a.client.Publish(seal.ReceiptTopic(b.Node), 1, false, raw)
	}))
	a.t.Cleanup(func() { a.client.Disconnect(100) })
}

// with runs the program with the secrets until then returns, and keeps all its output. then gets false if the program ended before it was alive.
func (a *aviary) with(what string, kept secrets, then func(alive bool), env ...string) {
	a.t.Helper()
	text := strings.Replace(fmt.Sprintf(common, false, "mqtt", "tcp", a.port), `AuthMode: "none"`, "AuthMode: \"usernamepassword\"\n    SecretName: \"message-bus\"", 1)
	raw, err := json.Marshal(insecure(kept)) // which is YAML too
	require.NoError(a.t, err)
	text = regexp.MustCompile(`(?m)InsecureSecrets: .*$`).ReplaceAllLiteralString(text, "InsecureSecrets: "+string(raw))
	path := filepath.Join(a.dir, "common.yaml")
	require.NoError(a.t, os.WriteFile(path, []byte(text), 0o600))
	a.own = freePort(a.t)
	a.api, a.log = "http://127.0.0.1:"+a.own+base, &lockedBuffer{}
	cmd := exec.Command(os.Args[0], "-cc", path, "-cd", "../../res")
	cmd.Env = append(os.Environ(), beService+"=1", "EDGEX_SECURITY_SECRET_STORE=false", "EDGEX_STARTUP_DURATION=3", "EDGEX_STARTUP_INTERVAL=1",
		"SERVICE_HOST=127.0.0.1", "SERVICE_PORT="+a.own, "WRITABLE_LOGLEVEL=TRACE", "OFFLOAD_NODE=n1",
		"OFFLOAD_SPOOL_DIRECTORY="+filepath.Join(a.dir, "spool"), "OFFLOAD_SPOOL_ENCRYPT=true", "OFFLOAD_KEYSECRET=offload-keys",
		"OFFLOAD_EXPORT_BROKER=tcp://127.0.0.1:"+a.port, "OFFLOAD_EXPORT_AUTHMODE=usernamepassword", "OFFLOAD_SEAL_FORM=protobuf",
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", "OFFLOAD_WRITABLE_BATCH_MAXAGE=20ms", "OFFLOAD_EXPORT_BACKOFFMAX=1s", "OFFLOAD_EXPORT_RECEIPTTIMEOUT=2s")
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = a.log, a.log
	require.NoError(a.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	alive, gone := false, false
	for deadline := time.Now().Add(patience); !alive && !gone && time.Now().Before(deadline); {
		select {
		case <-ended:
			gone = true
		case <-time.After(20 * time.Millisecond):
			alive = a.get("/live", nil) == http.StatusOK
		}
	}
	then(alive)
	if alive {
		a.ask(what)
		require.NoError(a.t, cmd.Process.Signal(os.Interrupt))
	} else if !gone {
		require.NoError(a.t, cmd.Process.Kill())
	}
	if !gone {
		<-ended
	}
	a.note(what+": log", a.log.String())
}

// insecure is the form in which EdgeX keeps secrets in its configuration, for tests.
func insecure(kept secrets) map[string]any {
	all := map[string]any{}
	for name, data := range kept {
		all[strings.ReplaceAll(name, "-", "")] = map[string]any{"SecretName": name, "SecretData": data}
	}
	return all
}

// ask sends every possible request, those of the SDK included.
func (a *aviary) ask(what string) {
	root := strings.TrimSuffix(a.api, base)
	for _, r := range routes() {
		a.request(what, r.method, a.api+strings.ReplaceAll(r.path, ":id", "1"), `{"dataSize":1}`)
	}
	stored := fmt.Sprintf(`{"apiVersion":"v3","secretName":"late","secretData":[{"key":"password","value":%q}]}`, a.plant("secret stored late", "canary-Late-5772156649"))
	a.request(what, http.MethodPost, root+"/api/v3/secret", stored)
	for _, path := range []string{"/api/v3/ping", "/api/v3/version", "/api/v3/config", "/"} {
		a.request(what, http.MethodGet, root+path, "")
	}
}

func (a *aviary) request(what, method, url, body string) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(a.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(a.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	if strings.HasSuffix(url, "/api/v3/config") { // our own, below /offload, has no such excuse
		answer = withoutInsecureSecrets(a.t, answer)
	}
	a.note(what+": "+method+" "+url, fmt.Sprint(resp.Header)+string(answer))
}

// withoutInsecureSecrets removes from the SDK's own /api/v3/config the one place where EdgeX shows secrets: those written in clear into the
// configuration, under Writable.InsecureSecrets. With a secret store there are none.
func withoutInsecureSecrets(t testing.TB, answer []byte) []byte {
	var doc map[string]any
	require.NoError(t, json.Unmarshal(answer, &doc))
	cut := 0
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, there := v["InsecureSecrets"]; there {
				delete(v, "InsecureSecrets")
				cut++
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(doc)
	require.Equal(t, 1, cut, "one place, and no other")
	rest, err := json.Marshal(doc)
	require.NoError(t, err)
	return rest
}

// No secret appears in the log at the most verbose level, nor in a response of any route: in normal operation, during a rotation, and while
// passwords, keys and the configuration are wrong.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	a := newAviary(t)
	k1, k2 := bytes.Repeat([]byte("canaryK1"), 4), bytes.Repeat([]byte("canaryK2"), 4)
	bus := map[string]string{"username": "bus", "password": "canary-Bus-3141592653"}
	export := map[string]string{"username": "export", "password": "canary-Export-2718281828"}
	one := map[string]string{"current": "k1", "k1": a.birds.PlantKey("AES key 1", k1)}
	both := map[string]string{"current": "k2", "k1": one["k1"], "k2": a.birds.PlantKey("AES key 2", k2)}
	pem := a.plant("client key", "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5LWNsaWVudC1rZXktbGluZS1vbmU\nY2FuYXJ5LWNsaWVudC1rZXktbGluZS10d28\n-----END PRIVATE KEY-----\n")
	authority := a.plant("key of the authority", "-----BEGIN EC PRIVATE KEY-----\nY2FuYXJ5LWF1dGhvcml0eS1saW5lLW9uZS4\nY2FuYXJ5LWF1dGhvcml0eS1saW5lLXR3by4\n-----END EC PRIVATE KEY-----\n")
	a.cloud(ring{"k1": k1, "k2": k2})

	sent := 0
	delivers := func(alive bool) {
		require.True(t, alive, a.log)
		a.await("ready", func() bool { return a.get("/ready", nil) == http.StatusOK }) // before, the bus may not know it yet
		for range 20 {
			a.publish(sent)
			sent++
		}
		a.send([]byte("rubbish"))
		// An event whose acknowledgement the last stop cut off is redelivered, so there may be more than were sent.
		a.await("all is receipted", func() bool { c := a.counts(); return c.Receipted >= int64(sent) && c.Spooled == 0 })
	}
	a.with("all is well", secrets{"message-bus": bus, "mqtt-export": export, "offload-keys": one}, delivers)
	a.with("rotated", secrets{"message-bus": bus, "mqtt-export": export, "offload-keys": both}, delivers)

	waits := func(alive bool) {
		require.True(t, alive, a.log)
		a.publish(sent)
		a.await("the failure is logged", func() bool {
			var status struct{ Link struct{ Up bool } }
			a.get("/status", &status)
			return !status.Link.Up && regexp.MustCompile(`level=(WARN|ERROR)`).MatchString(a.log.String())
		})
	}
	bad := func(data map[string]string) secrets {
		return secrets{"message-bus": bus, "mqtt-export": data, "offload-keys": both}
	}
	a.with("wrong password", bad(map[string]string{"username": "export", "password": a.plant("wrong password", "canary-Wrong-1618033988")}), waits)
	a.with("malformed client key", bad(map[string]string{"clientcert": pem, "clientkey": pem, "cacert": authority}), waits,
		"OFFLOAD_EXPORT_AUTHMODE=clientcert", "OFFLOAD_EXPORT_BROKER=ssl://127.0.0.1:"+a.port)
	a.with("malformed authority", bad(map[string]string{"cacert": authority}), waits,
		"OFFLOAD_EXPORT_AUTHMODE=cacert", "OFFLOAD_EXPORT_BROKER=ssl://127.0.0.1:"+a.port)

	whatever := func(bool) {}
	malformed := map[string]string{"current": "k1", "k1": a.plant("malformed AES key", "canary-no-key-4669201609")}
	a.with("malformed AES key", secrets{"message-bus": bus, "mqtt-export": export, "offload-keys": malformed}, whatever)
	wrong := map[string]string{"current": "k1", "k1": a.birds.PlantKey("wrong AES key", bytes.Repeat([]byte("canaryK3"), 4))}
	a.with("wrong AES key", secrets{"message-bus": bus, "mqtt-export": bad(nil)["message-bus"], "offload-keys": wrong}, whatever)
	a.with("refused configuration", bad(export), func(alive bool) { require.False(t, alive, a.log) },
		"OFFLOAD_SPOOL_QUOTAMIB=1", "OFFLOAD_EXPORT_CONFIRM=perhaps")
	a.with("wrong bus password", secrets{"message-bus": {"username": "bus", "password": a.plant("wrong bus password", "canary-NoBus-1414213562")}}, whatever)

	require.Greater(t, len(a.said), 60)
	for what, text := range a.said {
		require.Empty(t, a.birds.Find(text), what)
		require.NotEmpty(t, text, what)
	}
}
