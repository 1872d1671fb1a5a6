package ctl

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/config"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/status"
)

// service answers like app-offload, with one answer per path.
func service(t *testing.T, answers map[string]any) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.RequestURI()]
		if !ok {
			t.Errorf("unexpected request for %s", r.URL.RequestURI())
		}
		if raw, ok := answer.(string); ok {
			_, _ = io.WriteString(w, raw)
			return
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func statusJSON(t *testing.T, edit ...string) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/status.json")
	require.NoError(t, err)
	return strings.NewReplacer(edit...).Replace(string(raw))
}

func TestStatus(t *testing.T) {
	url := service(t, map[string]any{apiBase + "/status": statusJSON(t)})
	r := call{}.run("status", "-url", url)
	require.Equal(t, exitFine, r.code, r.err)
	golden.Require(t, "status.golden", r.out)

	r = call{}.run("status", "-json", "-url", url+apiBase+"/") // as the help of others writes the address
	require.Equal(t, exitFine, r.code, r.err)
	require.JSONEq(t, statusJSON(t), r.out)
}

// The service's reasons are shown unchanged, with its version, and drops can be acknowledged.
func TestStatusShowsTheHealth(t *testing.T) {
	raw := statusJSON(t, `"fill":0.1615`, `"fill":0.001`, `"health":{"state":"well"}`, `"health":{"state":"degraded","reasons":[`+
		`{"code":"dropped","text":"197 tasks dropped: class vibration 197 full","since":"2026-03-01T08:00:00Z","severity":"warning"},`+
		`{"code":"unsafe","text":"12 events received at QoS 0","since":"2026-03-01T08:00:00Z","severity":"note"}]}`)
	url := service(t, map[string]any{apiBase + "/status": raw, apiBase + "/drops/acknowledge": `{"apiVersion":"v3","acknowledged":197}`})
	r := call{}.run("status", "-acknowledge", "-url", url)
	require.Equal(t, exitFine, r.code, r.err)
	require.Contains(t, r.err, "197 dropped tasks acknowledged")
	for _, want := range []string{
		"ready, degraded", "spool under 1 % full, 124 of 768 MiB", "version  v1.2.0, commit 0123456789ab",
		"! 197 tasks dropped: class vibration 197 full; since 2026-", "· 12 events received at QoS 0; since 2026-",
	} {
		require.Contains(t, r.out, want)
	}
}

// A service that answers but is not ready has its own exit code, and the reason is shown.
func TestStatusNotReady(t *testing.T) {
	raw := statusJSON(t, `"ready":true`, `"ready":false,"notReady":["spool: disk full","intake: disconnected"]`, `"link":{"up":true`, `"link":{"up":false`,
		`"balance":0`, `"balance":-3`)
	r := call{}.run("status", "-url", service(t, map[string]any{apiBase + "/status": raw}))
	require.Equal(t, exitNotReady, r.code)
	golden.Require(t, "status_notready.golden", r.out)
}

// The tool reads the service's own types.
func TestStatusReadsWhatTheServiceWrites(t *testing.T) {
	var whole status.Status
	whole.NodeName, whole.Ready, whole.Policy, whole.NotReady = "n", true, "p", []string{"why"}
	whole.Counts = status.Counts{Accepted: 10, Local: 1, Receipted: 2, Spooled: 3, InFlight: 5, Dropped: map[string]int64{"full": 4}, Balance: 6}
	whole.Events = status.EventCounts{Received: 7, Refused: map[string]uint64{"bytes": 1}, Returned: 8, Quarantined: map[string]uint64{"x": 2}}
	whole.Spool = status.SpoolStatus{Tasks: 1, Bytes: 2, Quota: 3, OldestAge: 4, Damaged: 5, Problem: "p"}
	whole.Link = host.Link{Up: true, Goodput: 1, RTT: 2, RTT95: 3}
	whole.Node = host.State{CPU: 5, Battery: 1, Temperature: 2, Watts: 3}
	whole.Export.Inflight, whole.Export.ReceiptsSilent = 9, true
	whole.Process = status.Process{RSS: 1, Goroutines: 2, Uptime: 3}
	whole.Configuration = status.ConfigurationStatus{Version: "v", Problem: "q"}
	raw, err := json.Marshal(whole)
	require.NoError(t, err)
	var have view
	require.NoError(t, json.Unmarshal(raw, &have.Status))
	require.Equal(t, whole, have.Status)
}

// An answer that ends too early is an error, and not taken for a whole one.
func TestAnAnswerThatIsCutOff(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = io.WriteString(w, statusJSON(t))
	}))
	defer s.Close()
	r := call{}.run("status", "-url", s.URL)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "reading the answer: unexpected EOF")
}

// Watching continues while the service is unreachable, and ends without an error when interrupted.
func TestStatusWatch(t *testing.T) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 2 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if asked.Load() > 2 {
			stop()
		}
		_, _ = io.WriteString(w, statusJSON(t))
	}))
	defer s.Close()
	r := call{ctx: ctx}.run("status", "-watch", "-every", "100ms", "-url", s.URL)
	require.Equal(t, exitFine, r.code, r.err)
	require.Contains(t, r.out, "node plant-7  ready")
	require.Contains(t, r.out, "19:00:00  no answer: requesting "+s.URL)
	require.Equal(t, 1, strings.Count(r.out, "no answer"))
	require.GreaterOrEqual(t, asked.Load(), int32(3))
	require.NotContains(t, r.out, clearScreen, "it is no terminal")
}

// decided is a decision with all fields.
func decided(edit func(*decision.Entry)) shownDecision {
	e := decision.Entry{
		ID: 1795374992279610, Time: 1795375002058848344, EventID: "e4922912-6b99-419f-8529-e981ad604c35", Chunk: 1, Of: 3, Class: "vibration",
		Device: "pump-1-bearing", Size: 204800, Complexity: 80, Deadline: 2 * time.Second, Waited: 5 * time.Millisecond,
		Decision: decision.Decision{
			Target: decision.Cloud, Score: 0.69, Threshold: 0.5, Terms: decision.Terms{Size: 0.15, Complexity: 0.4, CPU: 0.14}, Propensity: 1,
			Reason: decision.AboveThreshold,
		},
		Policy: "weighted", Version: "38ae4046",
		Estimate: score.Estimate{LocalTime: 0.25, CloudTime: 0.09, LocalEnergy: 0.46, CloudEnergy: 1.6, Cycles: 384, Bytes: 205200},
		State:    host.State{CPU: 70, QueueTasks: 3, QueueCycles: 120, Link: host.Link{Up: true, Goodput: 1.25e6, RTT: 0.012, BacklogTasks: 20, BacklogShare: 0.02}},
		Outcome:  decision.Outcome{Known: true, Time: 0.103, Bytes: 205000, Met: true},
	}
	if edit != nil {
		edit(&e)
	}
	return shownDecision{e, decision.Explain(e)}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*decision.Entry)
	}{
		{"cloud", nil},
		{"guard", func(e *decision.Entry) { // no score, and no way to the cloud
			e.Decision = decision.Decision{Target: decision.Local, Propensity: 1, Reason: decision.GuardLinkDown}
			e.Estimate.CloudTime, e.State.Link, e.Outcome = math.Inf(1), host.Link{}, decision.Outcome{}
			e.State.QueueTasks = 1
		}},
		{"late", func(e *decision.Entry) { // a way chosen by chance that came too late
			e.Decision = decision.Decision{Target: decision.Cloud, Propensity: 0.3, Reason: decision.Drawn}
			e.Policy, e.Outcome.Met, e.Outcome.Time = "random", false, 4
		}},
		{"failed", func(e *decision.Entry) { // a task of another program, without class or device
			e.Class, e.Device, e.Deadline, e.Outcome = "", "", 0, decision.Outcome{Known: true, Failed: true}
			e.Decision.Target, e.Decision.Reason, e.Decision.Score = decision.Local, decision.BelowThreshold, 0.2
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := decided(c.edit)
			url := service(t, map[string]any{
				apiBase + "/decisions?limit=1":          map[string]any{"decisions": []shownDecision{d}},
				apiBase + "/decisions/1795374992279610": map[string]any{"apiVersion": "v3", "decision": d},
			})
			r := call{}.run("explain", "latest", "-url", url)
			require.Equal(t, exitFine, r.code, r.err)
			golden.Require(t, "explain_"+c.name+".golden", r.out)
			require.Equal(t, r.out, call{}.run("explain", "1795374992279610", "-url", url).out)
			require.Contains(t, call{}.run("explain", "-json", "1795374992279610", "-url", url).out, `"apiVersion": "v3"`)
		})
	}
	r := call{}.run("explain", "latest", "-url", service(t, map[string]any{apiBase + "/decisions?limit=1": `{"decisions":[]}`}))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "no decisions since the service started")
}

func TestDecisions(t *testing.T) {
	list := map[string]any{"decisions": []shownDecision{
		decided(nil),
		decided(func(e *decision.Entry) {
			e.ID--
			e.Decision.Target, e.Decision.Reason, e.Outcome = decision.Local, decision.GuardLinkDown, decision.Outcome{}
			e.Estimate.CloudTime = math.Inf(1)
		}),
		decided(func(e *decision.Entry) { e.ID -= 2; e.Outcome.Failed = true; e.Device = "evil\x1b[2J" }),
	}}
	url := service(t, map[string]any{
		apiBase + "/decisions?limit=20":                                              list,
		apiBase + "/decisions?class=a%26b&device=d&limit=7&policy=cost&target=local": `{"decisions":[]}`,
	})
	r := call{}.run("decisions", "-url", url)
	require.Equal(t, exitFine, r.code, r.err)
	golden.Require(t, "decisions.golden", r.out)
	require.Contains(t, call{}.run("decisions", "-json", "-url", url).out, `"target": "cloud"`)
	r = call{}.run("decisions", "-url", url, "-class", "a&b", "-device", "d", "-policy", "cost", "-target", "local", "-n", "7")
	require.Equal(t, exitFine, r.code, r.err)
	require.Contains(t, r.out, "no decisions match")
}

func TestTask(t *testing.T) {
	var body, kind string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		body, kind = string(raw), r.Header.Get("Content-Type")
		_, _ = io.WriteString(w, `{"apiVersion":"v3","taskId":1795374992279780,"action":"local","score":0.455,"policy":"weighted",
			"localTime":167.04,"cloudTime":null,"explanation":"Done here: 1000 KB."}`)
	}))
	defer s.Close()
	r := call{}.run("task", "-size", "1000", "-deadline", "150", "-url", s.URL)
	require.Equal(t, exitFine, r.code, r.err)
	golden.Require(t, "task.golden", r.out)
	require.Equal(t, "application/json", kind)
	require.JSONEq(t, `{"dataSize":1000,"deadline":150}`, body, "the service's own default complexity holds")
	r = call{}.run("task", "-size", "0", "-complexity", "0", "-policy", "deadline", "-json", "-url", s.URL)
	require.JSONEq(t, `{"dataSize":0,"complexity":0,"policy":"deadline"}`, body)
	require.Contains(t, r.out, `"action": "local"`)
}

// Each failure names the operation and the remedy.
func TestFailuresSayWhatToDo(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	unused := "http://" + free.Addr().String()
	require.NoError(t, free.Close())
	answer := func(code int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for _, c := range []struct{ url, says string }{
		{unused, "is the service running? Check with `docker ps"},
		{"http://no-such-host.invalid", "unknown host"},
		{answer(401, ""), "OFFLOAD_TOKEN"},
		{answer(403, `{"message":"Forbidden"}`), "OFFLOAD_TOKEN"},
		{answer(404, `{"message":"Not Found"}`), "another program than app-offload listens there"},
		{answer(404, `{"apiVersion":"v3","statusCode":404,"message":"decision 1 is not kept any more"}`), "decision 1 is not kept any more"},
		{answer(502, "<html>"), "502 Bad Gateway"},
		{answer(200, "<html>"), "is another program listening there?"},
	} {
		r := call{}.run("explain", "1", "-url", c.url)
		require.Equal(t, exitFailed, r.code)
		require.Empty(t, r.out)
		require.Contains(t, r.err, "offloadctl explain: requesting "+c.url+apiBase+"/decisions/1: ")
		require.Contains(t, r.err, c.says)
	}
}

// The live configuration prints like any other and can be read again; a rejected change is reported.
func TestConfigLive(t *testing.T) {
	c := config.Default()
	c.Node = "plant-7"
	answer := map[string]any{"apiVersion": "v3", "version": "38ae4046", "problem": "", "Offload": c}
	url := service(t, map[string]any{apiBase + "/config": answer})
	r := call{}.run("config", "live", "-url", url)
	require.Equal(t, exitFine, r.code, r.err)
	require.Contains(t, r.out, `  Node: "plant-7"`)
	require.Equal(t, r.out, call{stdin: r.out}.run("config", "echo", "-").out)

	answer["problem"] = "configuration rejected, keeping the previous one:\nOffload.Writable.Policy.Default = \"luck\"\nanother"
	r = call{}.run("config", "live", "-json", "-url", url)
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "the last change was rejected: configuration rejected, keeping the previous one: Offload.Writable.Policy.Default = \"luck\"; another\n", r.err)
	var parsed struct{ Offload config.Config }
	require.NoError(t, json.Unmarshal([]byte(r.out), &parsed))
	require.Equal(t, "plant-7", parsed.Offload.Node)
}

// The token goes only to the service.
func TestTokenIsSentAndNeverShown(t *testing.T) {
	const canary = "eyJhbGciOi.canary.token"
	var sent []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "jwt")
	require.NoError(t, os.WriteFile(file, []byte(canary+"\n"), 0o600))
	for _, r := range []result{
		call{environ: []string{"OFFLOAD_TOKEN=other"}}.run("status", "-url", s.URL, "-token-file", file),
		call{stdin: canary}.run("status", "-url", s.URL, "-token-file", "-"),
		call{environ: []string{"OFFLOAD_TOKEN=" + canary + "\n"}}.run("status", "-url", s.URL),
		call{environ: []string{"OFFLOAD_TOKEN=other"}}.run("status", "-url", s.URL, "-token", canary),
		call{}.run("status", "-url", s.URL),
	} {
		require.Equal(t, exitFailed, r.code)
		require.NotContains(t, r.out+r.err, canary)
	}
	require.Equal(t, []string{"Bearer " + canary, "Bearer " + canary, "Bearer " + canary, "Bearer " + canary, ""}, sent)
}

// Inside a container localhost has no listener: the tool reads the service's name from the same environment variable.
func TestTheServiceIsFoundByItsOwnEnvironment(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	host, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	r := call{environ: []string{"SERVICE_HOST=" + host, "SERVICE_PORT=" + port}}.run("status")
	require.Contains(t, r.err, "requesting "+s.URL+apiBase)
	r = call{environ: []string{"SERVICE_HOST=missing.invalid"}}.run("status", "-url", s.URL)
	require.Contains(t, r.err, "requesting "+s.URL+apiBase, "the flag stands above it")
}
