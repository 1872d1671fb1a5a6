package ctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lint rejects everything that would fail the service's start, with the key, the value and the remedy.
func TestLintRefusesWhatTheStartTripsOver(t *testing.T) {
	for name, row := range map[string]struct {
		yaml string
		env  []string
		want []string // in the output, in this order of lines
	}{
		"weights of a policy in use":      {"Offload: {Writable: {Policy: {Default: ppo, PPOWeights: /nowhere.json}}}", nil, []string{"Policy.PPOWeights", "/nowhere.json"}},
		"weights of a class":              {"Offload: {Writable: {Policy: {PPOWeights: /nowhere.json}, Classes: {a: {MatchDevice: x, Policy: ppo}}}}", nil, []string{"Classes.a.Policy", "/nowhere.json"}},
		"weights that no policy uses yet": {"Offload: {Writable: {Policy: {PPOWeights: /nowhere.json}}}", nil, []string{"Policy.PPOWeights", "/nowhere.json"}},
		"a trigger misspelt":              {"Trigger: {Type: ofload}", nil, []string{`Trigger.Type = "ofload"`, "did you mean offload?"}},
		"a trigger by environment":        {"Trigger: {Type: offload}", []string{"TRIGGER_TYPE=edgex-mesagebus"}, []string{"TRIGGER_TYPE: Trigger.Type", "edgex-messagebus"}},
		"a topic":                         {"Trigger: {SubscribeTopics: 'events/#, events/#/device'}", nil, []string{`f.yaml:1: Trigger.SubscribeTopics = "events/#/device"`, "# must be"}},
		"no topic":                        {"Trigger: {SubscribeTopics: ''}", nil, []string{"Trigger.SubscribeTopics", "is empty"}},
		"a log level":                     {"Writable:\n  LogLevel: VERBOSE", nil, []string{`f.yaml:2: Writable.LogLevel = "VERBOSE"`, "TRACE, DEBUG"}},
		"batches above the message":       {"Offload: {Writable: {Batch: {MaxKiB: 2048}}}", nil, []string{"Offload.Writable.Batch.MaxKiB", "Seal.MaxMessageKiB"}},
		"a glob that matches nothing":     {"Offload: {Writable: {Classes: {a: {MatchProfile: '^Camera.*$'}}}}", nil, []string{"Classes.a.MatchProfile", "Camera*"}},
		"days":                            {"Offload: {Writable: {Classes: {a: {MatchDevice: x, TTL: 3d}}}}", nil, []string{`TTL = "3d"`, `"72h"`}},
		"two mistakes in one value": {"Offload: {Local: {Operators: 'sumary window=60s; rang high=3'}}", nil, []string{
			`Offload.Local.Operators = "sumary window=60s; rang high=3": operator "rang"`, "\n", `Offload.Local.Operators = "sumary window=60s; rang high=3": operator "sumary"`,
		}},
		"no log level":                   {"Writable: {LogLevel: }", nil, []string{`Writable.LogLevel = "": must be one of`}},
		"a section that is a text":       {"Trigger: x", nil, []string{`f.yaml:1: Trigger = "x": is a section`}},
		"a section that is empty":        {"Service:", nil, []string{"f.yaml:1: Service: is a section; indent its keys below it, or remove it"}},
		"a section of a map":             {"Clients: {core-metadata: }", nil, []string{"Clients.core-metadata: is a section"}},
		"a list of topics":               {"Trigger: {SubscribeTopics: [events/#]}", nil, []string{"Trigger.SubscribeTopics: must be a string in quotes"}},
		"a type that is a number":        {"Trigger: {Type: 5}", nil, []string{`Trigger.Type = "5": must be a string in quotes`}},
		"a port in words":                {"Service: {Port: '59740'}", nil, []string{`Service.Port = "59740": must be a whole number, without quotes`}},
		"a port too large":               {"Service: {Port: 65536}", nil, []string{`Service.Port = "65536": must be a whole number from 0 to 65535`}},
		"a port by environment":          {"Service: {Port: 65535}", []string{"SERVICE_PORT=x"}, []string{`SERVICE_PORT: Service.Port = "x": must be a whole number from 0 to 65535`}},
		"an interval below zero":         {"Writable: {Telemetry: {Interval: '-1s'}}", nil, []string{`Writable.Telemetry.Interval = "-1s": must be a duration`}},
		"an interval of no unit":         {"Writable: {Telemetry: {Interval: '5'}}", nil, []string{`Writable.Telemetry.Interval = "5": must be a duration`}},
		"a metric that may be":           {"Writable: {Telemetry: {Metrics: {OffloadReady: maybe}}}", nil, []string{"Writable.Telemetry.Metrics.OffloadReady", "must be true or false"}},
		"a secret that is a number":      {"Writable: {InsecureSecrets: {a: {SecretData: {password: 5}}}}", nil, []string{"Writable.InsecureSecrets.a.SecretData.password", "must be a string"}},
		"an option of the MessageBus":    {"MessageBus: {Optional: {Qos: 1}}", nil, []string{`MessageBus.Optional.Qos = "1": must be a string in quotes`}},
		"a folder without a name":        {"Offload: {Spool: {Directory: ''}}", nil, []string{`Offload.Spool.Directory = "": must name a folder`}},
		"a class of two levels":          {"Offload: {Writable: {Classes: {a/b: {MatchDevice: x}}}}", nil, []string{`= "a/b": is not a valid class name`}},
		"a node that no message carries": {"Offload: {Node: \"a\\r\"}", nil, []string{"Offload.Node"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := lintText(t, row.yaml, row.env)
			require.Equal(t, 1, code, out)
			rest := out
			for _, want := range row.want {
				require.Contains(t, rest, want, out)
				_, rest, _ = strings.Cut(rest, want)
			}
			if strings.HasPrefix(row.yaml, "Offload") {
				return
			}
			out = strings.TrimPrefix(out, strings.Split(out, "\n")[0]+"\n") // there is no section Offload
			require.Equal(t, 1, strings.Count(out, "\n"), "one mistake is one problem: %s", out)
		})
	}
	for _, good := range []string{"Offload: {Node: a}", "Service: {Port: 0}", "Service: {Port: 65535}", "Writable: {Telemetry: {Interval: 0s}}"} {
		code, out := lintText(t, good, nil)
		require.Zero(t, code, out)
	}
}

// A variable or a section without effect is a note, and a mistake with -strict.
func TestLintStrict(t *testing.T) {
	for yaml, env := range map[string]string{"Offload: {Node: a}": "OFFLOAD_SPOL_QUOTAMIB=3", "Triger: {Type: http}": "X=1", "Trigger: {SubscribeTopics: 'edgex/events/#'}": "X=1", "a: b\n---\nOffload: {Node: a}": "X=1"} {
		code, out := lintText(t, yaml, []string{env})
		require.Zero(t, code, out)
		require.Contains(t, out, "note: ")
		code, out = lintText(t, yaml, []string{env}, "-strict")
		require.Equal(t, 1, code)
		require.NotContains(t, out, "no mistakes")
	}
}

// An unreadable configuration is an error, not a configuration without problems.
func TestAConfigurationThatCannotBeReadIsAnError(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{dir: "reading the configuration " + dir, filepath.Join(dir, "none.yaml"): "opening the configuration"} {
		r := call{}.run("config", "lint", path)
		require.NotZero(t, r.code, path)
		require.Contains(t, r.out+r.err, want)
	}
}

func lintText(t *testing.T, yaml string, env []string, flags ...string) (code int, out string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "f.yaml"), []byte(yaml+"\n"), 0o600))
	r := call{environ: env}.run(append([]string{"config", "lint", filepath.Join(dir, "f.yaml")}, flags...)...)
	return r.code, r.out
}
