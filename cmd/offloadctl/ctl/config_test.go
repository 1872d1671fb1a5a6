package ctl

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/config"
	"app-offload/functions/decision"
)

const shipped = "../../../res/configuration.yaml"

// edgex reads a configuration as the SDK does without Consul: YAML to a map, the map to JSON, JSON over the defaults.
func edgex(raw []byte) (config.Config, error) {
	var whole map[string]any
	custom := struct{ Offload config.Config }{config.Default()}
	if err := yaml.Unmarshal(raw, &whole); err != nil {
		return custom.Offload, err
	}
	text, err := json.Marshal(whole)
	if err != nil {
		return custom.Offload, err
	}
	return custom.Offload, json.Unmarshal(text, &custom)
}

// The tool's configuration equals that of the service.
func TestReadsAsEdgeXDoes(t *testing.T) {
	ship, err := os.ReadFile(shipped)
	require.NoError(t, err)
	for _, text := range []string{
		string(ship),
		"",
		"Offload:",
		"Offload: {Spool: }",
		"OffloAd: {Node: plant-7}", // nor does the case of the section matter
		"OFFLOAD: {Node: a, KeySecret: k}\nOffload: {Node: b}",                                 // and each of two fills in what it has
		"Offload: {node: n, SPOOL: {quotamib: 64.0}}",                                          // case does not matter, 64.0 is whole
		"Offload: {Writable: {Classes: {camera: {Priority: 2}, pump: {MatchDevice: p*}}}}",     // an entry replaces the whole default one
		"Offload: {Writable: {Classes: {camera: }}}",                                           // which an empty one does too
		"Offload: {Writable: {Classes: }}",                                                     // and an empty map takes all away
		"x: &s {QuotaMiB: 99}\nOffload: {Spool: *s, Host: {<<: {Interval: 2s}, SysfsRoot: /}}", // aliases and merges
	} {
		want, err := edgex([]byte(text))
		require.NoError(t, err, text)
		have, err := readConfig("f", []byte(text))
		require.NoError(t, err, text)
		require.Empty(t, have.problems, text)
		require.Equal(t, want, have.cfg, text)
	}
}

func FuzzReadsAsEdgeXDoes(f *testing.F) {
	for _, name := range []string{"testdata/good.yaml", "testdata/bad.yaml"} {
		raw, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Add([]byte("Offload: {Writable: {Classes: {1: {}, a: [], b: ~}}, Spool: {QuotaMiB: 1e3, Encrypt: yes}}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		have, err := readConfig("f", raw)
		if err != nil || len(have.problems) > 0 || strings.Contains(string(raw), "!!") {
			return
		}
		if want, err := edgex(raw); err == nil {
			require.Equal(t, want, have.cfg)
		}
		have.override([]string{"OFFLOAD_NODE=" + string(raw)})
		have.validate()
	})
}

func TestLint(t *testing.T) {
	r := call{}.run("config", "lint", shipped)
	require.Equal(t, exitFine, r.code, r.out)
	require.Equal(t, shipped+": no mistakes\n", r.out)

	bad := call{environ: []string{
		"OFFLOAD_SPOOL_RINGMIB=-1", "OFFLOAD_EXPORT_MAXINFLIGHT=many", "OFFLOAD_SPOOL_QUOTA=9", "OFFLOAD_TOKEN=hunter2", "PATH=/bin",
	}}
	r = bad.run("config", "lint", "testdata/bad.yaml")
	require.Equal(t, exitFailed, r.code)
	golden.Require(t, "lint.golden", r.out)
	require.NotContains(t, r.out, "hunter2", "no secret is shown, wherever it was written by mistake")

	r = bad.run("config", "lint", "-json", "testdata/bad.yaml")
	require.Equal(t, exitFailed, r.code)
	var report struct{ Problems []problem }
	require.NoError(t, json.Unmarshal([]byte(r.out), &report))
	require.Contains(t, report.Problems, problem{
		Source: "OFFLOAD_SPOOL_RINGMIB", Key: "Offload.Spool.RingMiB", Value: `"-1"`, Problem: "must be between 0 and 65536", Example: "RingMiB: 16",
	})
	require.NotContains(t, bad.run("config", "lint", "-no-env", "testdata/bad.yaml").out, "OFFLOAD_")

	r = call{stdin: "a: [1\n"}.run("config", "lint", "-")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "stdin is not YAML that EdgeX can read")
	r = call{stdin: `Offload: {Spool: {RingMiB: -1}}`}.run("config", "lint", "-")
	require.Contains(t, r.out, "stdin:1: Offload.Spool.RingMiB")
	r = call{stdin: `Offload: {Writable: {Classes: {7: {}, pump: {MatchDevice: "p"}}}}`}.run("config", "lint", "-")
	require.Contains(t, r.out, "Offload.Writable.Classes: has a name that is not a string")
	r = call{stdin: `Offload: {Writable: {Classes: {pump: {MatchDevice: 7, Priority: 12}}}}`}.run("config", "lint", "-")
	require.Equal(t, 2, strings.Count(r.out, "\n"), "without its device the class would match everything, which is no third mistake: %s", r.out)
	r = call{stdin: "Service: {}\n"}.run("config", "lint", "-")
	require.Equal(t, exitFine, r.code)
	require.Contains(t, r.out, "has no section Offload")
}

// The output of echo is a configuration that reads back unchanged.
func TestEcho(t *testing.T) {
	env := call{environ: []string{"OFFLOAD_SPOOL_RINGMIB=32", "OFFLOAD_WRITABLE_CLASSES_PUMP_PRIORITY=8"}}
	r := env.run("config", "echo", "testdata/good.yaml")
	require.Equal(t, exitFine, r.code, r.err)
	for _, line := range []string{
		"  Node: \"plant-7\"\n", "    QuotaMiB: 4096\n", "    RingMiB: 32 # from OFFLOAD_SPOOL_RINGMIB\n", "        MatchDevice: \"pump-*\"\n",
		"        Priority: 8 # from OFFLOAD_WRITABLE_CLASSES_PUMP_PRIORITY\n", "        OnFull: \"local\"\n",
	} {
		require.Contains(t, r.out, line)
	}
	again, err := edgex([]byte(r.out))
	require.NoError(t, err)
	require.Equal(t, 8, again.Writable.Classes["pump"].Priority)
	second := call{stdin: r.out}.run("config", "echo", "-")
	require.Equal(t, strings.NewReplacer(" # from OFFLOAD_SPOOL_RINGMIB", "", " # from OFFLOAD_WRITABLE_CLASSES_PUMP_PRIORITY", "").Replace(r.out), second.out)

	r = env.run("config", "echo", "-json", "testdata/good.yaml")
	var parsed struct{ Offload config.Config }
	require.NoError(t, json.Unmarshal([]byte(r.out), &parsed))
	require.Equal(t, again, parsed.Offload)

	r = call{}.run("config", "echo", "testdata/bad.yaml")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, `Broker: "tcp://edge:…@cloud:1883"`)
	require.Contains(t, r.err, "Offload.StopGrace")
	require.NotContains(t, r.out+r.err, "hunter2")
}

// Only the wrong addresses of a list are reported.
func TestLintNamesTheWrongBroker(t *testing.T) {
	r := call{environ: []string{"OFFLOAD_EXPORT_BROKER=tcp://a:1883, quic://b, tcp://c:0"}}.run("config", "lint", "testdata/good.yaml")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.out, `OFFLOAD_EXPORT_BROKER: Offload.Export.Broker = "quic://b": has an unknown scheme`)
	require.Contains(t, r.out, `OFFLOAD_EXPORT_BROKER: Offload.Export.Broker = "tcp://c:0": must be URLs like`)
	require.Equal(t, 2, strings.Count(r.out, "\n"))
}

func TestDiff(t *testing.T) {
	env := call{environ: []string{"OFFLOAD_SPOOL_RINGMIB=32"}}
	r := env.run("config", "diff", "testdata/good.yaml")
	require.Equal(t, exitFine, r.code, r.err)
	golden.Require(t, "diff.golden", r.out)
	r = env.run("config", "diff", "-json", "testdata/good.yaml")
	require.Contains(t, r.out, `"source": "OFFLOAD_SPOOL_RINGMIB"`)
	require.Equal(t, "all values are defaults\n", call{}.run("config", "diff", shipped).out)
}

func TestDryRun(t *testing.T) {
	feed, err := os.ReadFile("testdata/feed.jsonl")
	require.NoError(t, err)
	weighted := call{stdin: string(feed), environ: []string{"OFFLOAD_WRITABLE_POLICY_DEFAULT=weighted"}} // its scores are easily checked
	r := weighted.run("config", "dry-run", "testdata/good.yaml", "-feed", "testdata/feed.jsonl")
	require.Equal(t, exitFine, r.code, r.err)
	golden.Require(t, "dryrun.golden", r.out)
	require.Equal(t, r.out, weighted.run("config", "dry-run", "testdata/good.yaml", "-feed", "-").out)

	good, err := os.ReadFile("testdata/good.yaml")
	require.NoError(t, err)
	weighted.stdin = string(good)
	require.Equal(t, r.out, weighted.run("config", "dry-run", "-", "-feed", "testdata/feed.jsonl").out, "either may come from the standard input")

	r = weighted.run("config", "dry-run", "testdata/good.yaml", "-feed", "testdata/feed.jsonl", "-each", "-link", "down")
	require.Equal(t, exitFine, r.code, r.err)
	golden.Require(t, "dryrun_each.golden", r.out)

	// Another policy by the environment, as in the service.
	cloud := call{environ: []string{"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud"}}
	r = cloud.run("config", "dry-run", "testdata/good.yaml", "-feed", "testdata/feed.jsonl", "-json")
	var s summary
	require.NoError(t, json.Unmarshal([]byte(r.out), &s))
	require.Equal(t, 3, s.Events)
	require.Equal(t, 2, s.Cloud, "all but what must never leave")
	r = cloud.run("config", "dry-run", "testdata/good.yaml", "-feed", "testdata/feed.jsonl", "-each", "-json")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	require.Len(t, lines, 4)
	require.Equal(t, `{"line":4,"rejected":"missing_field: byte 27: event.apiVersion is required"}`, lines[3])
	var first one
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &first))
	require.Equal(t, "neverLeave", first.Reason)

	for _, c := range []struct{ feed, says string }{
		{string(feed) + "no json\n", "line 5 of the feed is not {topic, afterMs, payload}"},
		{`{"apiVersion":"v3","id":"x","deviceName":"d","readings":[]}`, "line 1 of the feed is not {topic, afterMs, payload}, as `offload-lab generate` writes: the payload must be an event"},
		{`{"apiVersion":"v3","correlationID":"x","payload":"eyJhcGlWZXJzaW9uIjoidjMifQ=="}`, "the payload must be an event"},
		{`{"topic":"t","payload":null}`, "the payload must be an event"},
		{"", ""},
	} {
		path := filepath.Join(t.TempDir(), "feed.jsonl")
		require.NoError(t, os.WriteFile(path, []byte(c.feed), 0o600))
		r := call{}.run("config", "dry-run", shipped, "-feed", path)
		require.Equal(t, c.says == "", r.code == exitFine, r.err)
		require.Contains(t, r.err, c.says)
	}
	begin, end, _ := strings.Cut(string(feed), "\n")
	spaced := call{stdin: begin + "\n\n" + end + " \n"}.run("config", "dry-run", shipped, "-feed", "-")
	require.Equal(t, call{stdin: string(feed)}.run("config", "dry-run", shipped, "-feed", "-"), spaced, "blank lines are no events")
	r = call{stdin: begin + "\nno json\n"}.run("config", "dry-run", shipped, "-feed", "-", "-each")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, 1, strings.Count(r.out, "\n"), "what was decided before is shown")
	r = call{}.run("config", "dry-run", "testdata/bad.yaml", "-feed", "testdata/feed.jsonl")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.err, "Offload.Node")
	require.Empty(t, r.out, "a configuration with mistakes decides nothing")
}

// The flags set the state of the node.
func TestADryRunOnANodeInAnotherState(t *testing.T) {
	plain := []string{"config", "dry-run", shipped, "-feed", "testdata/feed.jsonl"}
	usual := call{}.run(plain...).out
	require.Equal(t, usual, call{}.run(append(plain, "-mbit", "8", "-rtt", "50ms", "-full", "90", "-cpu", "20")...).out, "at the limit, and as is assumed")
	require.NotContains(t, usual, "backlog")
	require.Contains(t, call{}.run(append(plain, "-full", "90.1")...).out, "backlog")
	require.NotContains(t, call{stdin: "\n"}.run("config", "dry-run", shipped, "-feed", "-").out, "CLASS", "without events")
}

// As in the service, results are skipped unless a class matches them.
func TestADryRunSkipsResults(t *testing.T) {
	feed, err := os.ReadFile("testdata/feed.jsonl")
	require.NoError(t, err)
	measured, _, _ := strings.Cut(string(feed), "\n")
	tagged := strings.Replace(measured, `"event":{`, `"event":{"tags":{"offloadNode":"n","offloadService":"other","offloadHop":"1"},`, 1)
	own := strings.Replace(measured, "events/device/d/", "events/device/app-offload/", 1)
	all := call{stdin: measured + "\n" + tagged + "\n" + own + "\n"}
	r := all.run("config", "dry-run", shipped, "-feed", "-")
	require.Contains(t, r.out, "1 event, ")
	require.Contains(t, r.out, "\nCLASS", "also of one line")
	require.Contains(t, r.out, "\nskipped as results: 2 (own 1, result 1)\n")
	r = all.run("config", "dry-run", shipped, "-feed", "-", "-each")
	require.Contains(t, r.out, "\nskipped  line 2  a result of another app-offload, matched by no class\nskipped  line 3  a result of this service\n")
	r = all.run("config", "dry-run", shipped, "-feed", "-", "-each", "-json")
	require.Contains(t, r.out, `{"line":3,"skipped":"a result of this service"}`)

	config := filepath.Join(t.TempDir(), "configuration.yaml")
	require.NoError(t, os.WriteFile(config, []byte(`Offload: {Writable: {Classes: {others: {MatchResultsOf: other}}}}`), 0o600))
	r = all.run("config", "dry-run", config, "-feed", "-")
	require.Contains(t, r.out, "2 events, ")
	require.Regexp(t, `(?m)^others .* 1 `, r.out)
}

// A key's line is its own, even if an earlier value equals its name; a key behind an alias counts as set in the file, not as a default.
func TestWhereKeysStand(t *testing.T) {
	e, err := readConfig("f", []byte("x: &s {QuotaMiB: 99}\nOffload:\n  Node: Host\n  Spool: *s\n  Host:\n    Interval: 3\n"))
	require.NoError(t, err)
	require.Len(t, e.problems, 1)
	require.Equal(t, "f:6", e.problems[0].Source)
	from := map[string]string{}
	for _, d := range e.diff() {
		from[d.Key] = d.Source
	}
	require.Equal(t, map[string]string{"Offload.Node": "f:3", "Offload.Spool.QuotaMiB": "f"}, from)
}

// For tasks with the same decision a dry run shows their number, their bytes and means.
func TestTheSummaryOfADryRun(t *testing.T) {
	s := newSummary("p")
	for i, cloud := range []float64{2, 4, math.Inf(1)} {
		var e decision.Entry
		e.Class, e.Policy, e.Size = "c", "p", 100
		e.Decision.Score, e.Estimate.LocalTime, e.Estimate.CloudTime = float64(i), float64(2*i), cloud
		if i == 2 {
			e.Class = "other"
		}
		s.add(e)
	}
	require.Equal(t, 3, s.Tasks)
	g := s.byKey[groupKey{"c", "p", decision.Local.String(), decision.Reason(0).String()}]
	require.Equal(t, []any{2, int64(200), 0.5, 1.0, 3.0}, []any{g.Tasks, g.Bytes, g.Score, g.LocalTime, *g.CloudTime})
	for key, g := range s.byKey {
		require.Equal(t, key.class == "other", g.CloudTime == nil, "there is no mean of what never ends")
	}
}
