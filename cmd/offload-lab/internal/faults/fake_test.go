package faults

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

// TestMain also acts as the programs that the tests start: links with their names point to the test's binary.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "app-offload":
		os.Exit(fakeEdge())
	case "offload-cloud":
		os.Exit(fakeCloud())
	}
	os.Exit(m.Run())
}

// fakeEdge writes events published on the MessageBus into the consumer's database itself, each event once, and keeps the account. Its log contains
// its arguments; its status includes the content of the file status.json in its folder.
func fakeEdge() int {
	settings := slices.DeleteFunc(os.Environ(), func(v string) bool { return !strings.HasPrefix(v, "OFFLOAD_") })
	fmt.Println("started", os.Args[1:], strings.Join(settings, " "))
	e := &edge{dir: filepath.Dir(os.Getenv("OFFLOAD_SPOOL_DIRECTORY"))}
	must(os.MkdirAll(filepath.Join(e.dir, "spool"), 0o700))
	if !slices.ContainsFunc(os.Args, func(arg string) bool { return strings.HasPrefix(arg, "-sk=") }) { // a second one has operators for all
		e.listen()
	}
	const api = "/api/v3/offload/"
	http.HandleFunc(api+"ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc(api+"status", func(w http.ResponseWriter, _ *http.Request) { must(json.NewEncoder(w).Encode(e.status())) })
	http.HandleFunc(api+"decisions", func(w http.ResponseWriter, _ *http.Request) {
		id := e.received.Load()
		_, err := fmt.Fprintf(w, `{"decisions":[{"id":%d,"time":%d,"outcome":{"known":true,"time":0.05}}]}`, id, time.Now().UnixNano())
		must(err)
	})
	serve(net.JoinHostPort(os.Getenv("SERVICE_HOST"), os.Getenv("SERVICE_PORT")))
	raw, err := json.Marshal(map[string]any{"counts": e.status()["counts"]})
	must(err)
	must(os.WriteFile(filepath.Join(e.dir, "spool", "ledger.json"), raw, 0o600))
	return 0
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type edge struct {
	dir      string
	db       *sql.DB
	bus      mqtt.Client
	received atomic.Int64
}

func (e *edge) listen() {
	e.db = tasks(filepath.Join(e.dir, "cloud.db"))
	raw, err := os.ReadFile(filepath.Join(e.dir, "common.yaml"))
	must(err)
	bus := regexp.MustCompile(`(?s)Type: "mqtt".*?Host: "(.*?)"\s+Port: (\d+)`).FindSubmatch(raw)
	o := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://%s:%s", bus[1], bus[2])).SetClientID("app-offload").SetCleanSession(false).
		SetResumeSubs(true).SetMaxReconnectInterval(10 * time.Millisecond).SetConnectRetry(true).SetConnectRetryInterval(10 * time.Millisecond)
	e.bus = mqtt.NewClient(o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		if m.Qos() != 1 {
			panic("the device services publish at QoS 1")
		}
		e.take(m.Payload())
	}))
	must(done(e.bus.Connect()))
	must(done(e.bus.Subscribe("edgex/events/device/faults/#", 1, nil)))
}

// tasks opens the consumer's database.
func tasks(path string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	must(err)
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS tasks (id INTEGER PRIMARY KEY, node TEXT DEFAULT 'lab', epoch TEXT DEFAULT 'e', sequence INTEGER,
		event_id TEXT, chunk INTEGER DEFAULT 0, parts INTEGER DEFAULT 1, data BLOB, UNIQUE (event_id, data))`)
	must(err)
	return db
}

// take stores and answers an event, unless the file lose contains the end of its id.
func (e *edge) take(envelope []byte) {
	var request struct {
		Event json.RawMessage `json:"event"`
	}
	var event struct {
		ID string `json:"id"`
	}
	var message struct {
		Payload []byte `json:"payload"`
	}
	if json.Unmarshal(envelope, &message) != nil || json.Unmarshal(message.Payload, &request) != nil || json.Unmarshal(request.Event, &event) != nil {
		return
	}
	defer e.received.Add(1)
	lose, _ := os.ReadFile(filepath.Join(e.dir, "lose"))
	if slices.ContainsFunc(strings.Fields(string(lose)), func(end string) bool { return strings.HasSuffix(event.ID, end) }) {
		return
	}
	_, err := e.db.Exec(`INSERT OR IGNORE INTO tasks (sequence, event_id, data) VALUES ((SELECT count(*) FROM tasks), ?, ?)`, event.ID, []byte(request.Event))
	must(err)
	e.bus.Publish("edgex/events/device/app-offload/answer", 1, false, answerTo(event.ID, "r"+event.ID, "cloud"))
}

// answerTo is an event of the MessageBus that answers another one.
func answerTo(about, id, by string) []byte {
	payload, err := json.Marshal(map[string]any{"event": map[string]any{"id": id, "tags": map[string]string{"originEventId": about, "computedBy": by}}})
	must(err)
	envelope, err := json.Marshal(map[string]any{"payload": payload})
	must(err)
	return envelope
}

func (e *edge) status() map[string]any {
	var rows int
	if e.db != nil {
		must(e.db.QueryRow(`SELECT count(*) FROM tasks`).Scan(&rows))
	}
	status := map[string]any{
		"process": map[string]int{"rss": 1 << 20, "goroutines": 7}, "events": map[string]any{"received": e.received.Load()}, "link": map[string]any{"up": true},
		"counts": map[string]any{"accepted": rows, "cloud": rows}, "export": map[string]any{"bytes": 100 * rows, "receipted": rows},
	}
	if raw, err := os.ReadFile(filepath.Join(e.dir, "status.json")); err == nil {
		must(json.Unmarshal(raw, &status))
	}
	return status
}

// fakeCloud is ready, and serves the figures of stats.json in its folder.
func fakeCloud() int {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	listen := fs.String("listen", "", "")
	args := os.Args[1:]
	if args[0] == "stats" {
		raw, _ := os.ReadFile(filepath.Join(filepath.Dir(strings.TrimPrefix(args[3], "sqlite:")), "stats.json"))
		os.Stdout.Write(raw)
		return 0
	}
	for _, ignored := range []string{"from", "store", "user", "id", "models", "lease", "tries", "share"} {
		fs.String(ignored, "", "")
	}
	fmt.Println("started", args)
	if args[0] == "work" {
		args = args[1:]
	}
	must(fs.Parse(args))
	http.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE go_goroutines gauge\ngo_goroutines 12\nprocess_resident_memory_bytes 2.097152e+06\n")
	})
	serve(*listen)
	return 0
}

func serve(addr string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if addr != "" {
		go func() { fmt.Println(http.ListenAndServe(addr, nil)) }() //nolint:gosec // on loopback, in a test
	}
	<-ctx.Done()
}

// fakes is a folder of programs that only answer requests.
func fakes(t *testing.T) string {
	t.Helper()
	if _, err := Mosquitto(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	bin := t.TempDir()
	for _, name := range []string{"app-offload", "offload-cloud"} {
		require.NoError(t, os.Symlink(self, filepath.Join(bin, name)))
	}
	return bin
}

// faked is the system with programs that only answer requests.
type faked struct{ *system }

// fake starts a fast-running system. One event is published, and the next one is due in many minutes.
func fake(t *testing.T, seed uint64) *faked {
	t.Helper()
	f := &faked{&system{
		cfg:    Config{Bin: fakes(t), Res: "../../../../res", Dir: t.TempDir(), Seed: seed, Rate: 1e-3, Out: io.Discard, CheckEvery: 1, pace: 1000},
		random: rand.New(rand.NewPCG(seed, 0)), began: time.Now(), report: &Report{Seed: seed, Faults: map[string]int{}},
	}}
	t.Cleanup(func() { require.NoError(t, f.close()) })
	require.NoError(t, f.start(t.Context()))
	first := func() (bool, error) { return f.publisher.accepted() == 1, nil }
	require.NoError(t, until(t.Context(), patience, "the first event is acknowledged", first))
	return f
}

// put writes a file of the run.
func (f *faked) put(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(f.cfg.Dir, name)
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// started counts the starts of a program in its log.
func (f *faked) started(t *testing.T, log string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.cfg.Dir, log+".log"))
	require.NoError(t, err)
	return strings.Count(string(raw), "started")
}

// reaches reports whether something listens at an address.
func reaches(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}
