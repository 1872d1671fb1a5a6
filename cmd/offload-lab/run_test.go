package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/answers"
	"app-offload/cmd/offload-lab/internal/faults"
	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/cmd/offload-lab/internal/stack"
)

// The answers of a run are printed with their place, and an event with two final answers is counted.
func TestTheAnswersOfARunArePrinted(t *testing.T) {
	o := &runOptions{}
	require.Empty(t, stdoutOf(t, func() error { o.printAnswers(); return nil }))
	require.Empty(t, o.answersLine())
	o.expect(feed.Message{Event: feed.Event{Truth: &feed.Truth{Event: "a", Label: "ok"}}}) // nothing is expected without models
	o.sheet = answers.New(map[string]time.Duration{"camera": time.Second})
	o.expect(feed.Message{})
	o.expect(feed.Message{Event: feed.Event{Truth: &feed.Truth{Event: "a", Label: "ok"}}})
	for i := range 2 {
		event := `{"event":{"sourceName":"F","tags":{"originEventId":"a","computedBy":"cloud","provisional":"false","model":"parts","class":"camera"},` +
			`"readings":[{"resourceName":"F","value":"ok"},{"resourceName":"F_confidence","value":"0.9"}]}}`
		raw, err := json.Marshal(map[string]any{"payload": []byte(event)})
		require.NoError(t, err)
		require.NoError(t, o.sheet.Seen(raw, time.Now()))
		text := stdoutOf(t, func() error { o.printAnswers(); return nil })
		require.Contains(t, text, "parts")
		require.Equal(t, i > 0, strings.Contains(text, "1 events had more than one final answer"), text)
	}
	require.Contains(t, o.answersLine(), "cloud 1")
}

// A run of faults prints its report as the last line; after a failure it keeps its folder and prints its seed.
func TestARunOfFaultsNamesSeedAndFolder(t *testing.T) {
	if _, err := faults.Mosquitto(); err != nil {
		t.Skip(err)
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for _, sc := range []string{"", "dead"} {
		var err error
		text := stdoutOf(t, func() error {
			err = faultsVerb(t.Context(), []string{"-seed", "7", "-bin", "/nonexistent", "-rounds", "1", "-kind", "cut", "-json", "-scenario", sc})
			return nil
		})
		require.ErrorContains(t, err, "seed 7, all files kept in "+temp)
		var report struct {
			Seed   uint64
			Rounds int
			Rate   float64
		}
		require.NoError(t, json.Unmarshal([]byte(text), &report), text)
		require.Equal(t, uint64(7), report.Seed)
		require.Zero(t, report.Rounds)
	}
	left, err := filepath.Glob(filepath.Join(temp, "*", "edge.log"))
	require.NoError(t, err)
	require.Len(t, left, 2)
}

// fakeEdge answers requests, takes no events and leaves an account. Its log contains its settings.
func fakeEdge() {
	dir := filepath.Dir(os.Getenv("OFFLOAD_SPOOL_DIRECTORY"))
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "OFFLOAD_") {
			fmt.Println(v)
		}
	}
	http.HandleFunc("/api/v3/offload/ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/api/v3/offload/status", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"events":{"received":3},"counts":{"accepted":7,"local":4,"receipted":3,"dropped":{"expired":2}},"link":{"up":true,"goodput":2e6,"rtt":0.05},`+
			`"spool":{"bytes":1500000},"node":{"cpu":12},"process":{"rss":34000000,"goroutines":56}}`)
	})
	fakeService(net.JoinHostPort(os.Getenv("SERVICE_HOST"), os.Getenv("SERVICE_PORT")))
	_ = os.Mkdir(filepath.Join(dir, "spool"), 0o700)
	_ = os.WriteFile(filepath.Join(dir, "spool", "ledger.json"), []byte(`{"counts":{"accepted":7,"local":4,"receipted":3}}`), 0o600)
}

// fakeCloud has stored three records of two nodes.
func fakeCloud() {
	if os.Args[1] == "stats" {
		fmt.Println(`{"records":2}`, `{"records":1}`)
		return
	}
	fmt.Println(os.Args)
	fakeService("")
}

func fakeService(addr string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if addr != "" {
		go func() { fmt.Println(http.ListenAndServe(addr, nil)) }() //nolint:gosec // on loopback, in a test
	}
	<-ctx.Done()
}

// fakes is a folder with both programs.
func fakes(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	bin := t.TempDir()
	for _, name := range []string{"app-offload", "offload-cloud"} {
		require.NoError(t, os.Symlink(self, filepath.Join(bin, name)))
	}
	return bin
}

// A run plays its feed, shows figures and answers, stops the parts and prints the account as the last line.
func TestARunEndsWithItsAccount(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	feed := filepath.Join(t.TempDir(), "feed")
	lines := ""
	for _, after := range []string{"0", "10", "1200"} {
		lines += `{"topic":"events/device/a/b/c/d","afterMs":` + after + `,"payload":{}}` + "\n"
	}
	require.NoError(t, os.WriteFile(feed, []byte(lines), 0o600))
	text := stdoutOf(t, func() error {
		return runVerb(t.Context(), []string{"-bin", fakes(t), "-res", "../../res", "-dir", dir, "-feed", feed})
	})
	require.Regexp(t, `(?m)^    1s  events [23]  accepted 7  local 4  receipted 3  spooled 0 \(1.5 MB\)  inFlight 0  dropped 2  link up 2.0 MB/s 50.0 ms  cpu 12%  rss 34 MB  goroutines 56$`, text)
	require.Contains(t, text, "the feed has ended")
	shown := strings.Split(strings.TrimSpace(text), "\n")
	var counts stack.Counts
	require.NoError(t, json.Unmarshal([]byte(shown[len(shown)-1]), &counts))
	require.Equal(t, stack.Counts{Accepted: 7, Local: 4, Receipted: 3}, counts)
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	require.NoError(t, err)
	for _, part := range []string{"OFFLOAD_WRITABLE_CLASSES_CAMERA_MODEL=parts", "OFFLOAD_MODELS_DIRECTORY=" + dir + "/models-edge", "-models=" + dir + "/models-cloud"} {
		require.Contains(t, string(log), part)
	}
	require.DirExists(t, filepath.Join(dir, "models-cloud", "parts.cloud.1.0.0"))
}

// The verdict fails unless the account balances and nothing is missing, and prints the account in any case.
func TestTheVerdictOfARun(t *testing.T) {
	broker, err := stack.StartBroker()
	require.NoError(t, err)
	defer broker.Stop()
	dir := t.TempDir()
	s, err := stack.Start(t.Context(), stack.Config{Bin: fakes(t), Res: "../../res", Dir: dir, Log: io.Discard, Bus: stack.Bus{Type: "mqtt", Addr: broker.Addr}, Cloud: broker.Addr})
	require.NoError(t, err)
	require.NoError(t, s.Stop())
	o := &runOptions{}
	require.Contains(t, stdoutOf(t, func() error { o.printFigures(t.Context(), s, 0, 0); return nil }), "0s  no answer: ")
	for _, c := range []struct {
		ledger         string
		sent, received int64
		want           string
	}{
		{`{"counts":{"receipted":3}}`, 5, 5, ""},
		{`{"counts":{"receipted":2}}`, 4, 5, ""}, // a repeat
		{`{"counts":{"receipted":4}}`, 5, 5, "4 tasks count as receipted, but the consumer's database has 3"},
		{`{"counts":{"balance":1}}`, 5, 5, "does not balance: balance 1, in flight 0"},
		{`{"counts":{"inFlight":2}}`, 5, 5, "does not balance: balance 0, in flight 2"},
		{`{"counts":{}}`, 6, 5, "the feed sent 6 events, but only 5 were received"},
		{`{`, 0, 0, "ledger.json: unexpected end"},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "spool", "ledger.json"), []byte(c.ledger), 0o600))
		var got error
		text := stdoutOf(t, func() error { got = verdict(s, broker, c.sent, c.received); return nil })
		require.Equal(t, c.ledger != "{", strings.HasPrefix(text, `{"`), text)
		if c.want == "" {
			require.NoError(t, got)
		} else {
			require.ErrorContains(t, got, c.want)
		}
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "spool", "ledger.json")))
	require.ErrorContains(t, verdict(s, broker, 0, 0), "reading the account")
}
