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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

// TestMain is also the programs that the tests start: links of their names lead to the test's binary.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "app-offload":
		os.Exit(fakeEdge())
	case "offload-cloud":
		os.Exit(fakeCloud())
	}
	os.Exit(m.Run())
}

// fakeEdge answers as app-offload does that has nothing to do. What it was started with stands in its log, and what status.json in its folder
// holds is in its status. When it is asked to end it leaves an account.
func fakeEdge() int {
	fmt.Println("started", os.Args[1:], strings.Join(os.Environ(), " "))
	spool := os.Getenv("OFFLOAD_SPOOL_DIRECTORY")
	_ = os.MkdirAll(spool, 0o700)
	status := func() []byte {
		raw, err := os.ReadFile(filepath.Join(spool, "..", "status.json"))
		if err != nil {
			return []byte(`{"process":{"rss":1048576,"goroutines":7}}`)
		}
		return raw
	}
	http.HandleFunc("/api/v3/offload/ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/api/v3/offload/status", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(status()) })
	serve(net.JoinHostPort(os.Getenv("SERVICE_HOST"), os.Getenv("SERVICE_PORT")))
	var left struct {
		Counts json.RawMessage `json:"counts"`
	}
	left.Counts = json.RawMessage("{}")
	_ = json.Unmarshal(status(), &left)
	raw, _ := json.Marshal(left)
	_ = os.WriteFile(filepath.Join(spool, "ledger.json"), raw, 0o600)
	return 0
}

// fakeCloud is ready, and has the figures of stats.json in its folder.
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
	if fs.Parse(args) != nil {
		return 2
	}
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

// faked is the system with programs that only answer. A storer in their place brings what is published on the MessageBus into the database,
// each event once.
type faked struct {
	*system
	storer mqtt.Client
	mu     sync.Mutex
	seen   map[string]bool
	lose   func(id string) bool // events that never arrive
	db     *sql.DB
}

// fake starts a system that plays fast.
func fake(t *testing.T, seed uint64) *faked {
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
	f := &faked{seen: map[string]bool{}, system: &system{
		cfg:    Config{Bin: bin, Res: "../../../../res", Dir: t.TempDir(), Seed: seed, Rate: 1e-3, Out: io.Discard, CheckEvery: 1, pace: 1000},
		random: rand.New(rand.NewPCG(seed, 0)), began: time.Now(), report: &Report{Seed: seed, Faults: map[string]int{}},
	}}
	t.Cleanup(func() {
		if f.storer != nil {
			f.storer.Disconnect(0)
			f.db.Close()
		}
		require.NoError(t, f.close())
	})
	require.NoError(t, f.start(t.Context()))
	f.storing(t)
	first := func() (bool, error) { return f.publisher.accepted() == 1, nil } // before the storer listened; the next one is due in many minutes
	require.NoError(t, until(t.Context(), patience, "the first event is acknowledged", first))
	f.insert(f.publisher.id(0), f.publisher.raw(0))
	return f
}

// storing makes the consumer's database and fills it from the MessageBus.
func (f *faked) storing(t *testing.T) {
	t.Helper()
	var err error
	f.db, err = sql.Open("sqlite", "file:"+strings.TrimPrefix(f.store, "sqlite:")+"?_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	require.NoError(t, err)
	_, err = f.db.Exec(`CREATE TABLE tasks (id INTEGER PRIMARY KEY, node TEXT, epoch TEXT, sequence INTEGER, event_id TEXT, chunk INTEGER, parts INTEGER, data BLOB)`)
	require.NoError(t, err)
	o := mqtt.NewClientOptions().AddBroker("tcp://" + f.bus.addr).SetClientID("storer").SetCleanSession(false).SetResumeSubs(true).
		SetMaxReconnectInterval(10 * time.Millisecond).SetConnectRetryInterval(10 * time.Millisecond)
	f.storer = mqtt.NewClient(o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { f.take(m.Payload()) }))
	require.NoError(t, done(f.storer.Connect()))
	require.NoError(t, done(f.storer.Subscribe("edgex/events/device/faults/#", 1, nil)))
}

func (f *faked) take(envelope []byte) {
	var e struct {
		Payload []byte `json:"payload"`
	}
	var request struct {
		Event json.RawMessage `json:"event"`
	}
	var event struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(envelope, &e) != nil || json.Unmarshal(e.Payload, &request) != nil || json.Unmarshal(request.Event, &event) != nil {
		return
	}
	f.insert(event.ID, request.Event)
}

func (f *faked) insert(id string, event []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[string(event)] || f.lose != nil && f.lose(id) {
		return
	}
	f.seen[string(event)] = true
	const row = `INSERT INTO tasks (node, epoch, sequence, event_id, chunk, parts, data) VALUES ('lab', 'e', ?, ?, 0, 1, ?)`
	if _, err := f.db.Exec(row, len(f.seen), id, event); err != nil {
		panic(err)
	}
}

// says sets what the fake app-offload answers.
func (f *faked) says(t *testing.T, status any) {
	t.Helper()
	raw, err := json.Marshal(status)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(f.cfg.Dir, "status.tmp"), raw, 0o600))
	require.NoError(t, os.Rename(filepath.Join(f.cfg.Dir, "status.tmp"), filepath.Join(f.cfg.Dir, "status.json")))
}

// started counts the starts of a program by its log.
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
