package ctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the start refuses or trips over, lint refuses, with the key, the value and what to do.
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
		})
	}
	code, out := lintText(t, "Offload: {Node: a}", nil)
	require.Zero(t, code, out)
}

// A variable or a section that has no effect is a note, and a mistake with -strict.
func TestLintStrict(t *testing.T) {
	for yaml, env := range map[string]string{"Offload: {Node: a}": "OFFLOAD_SPOL_QUOTAMIB=3", "Triger: {Type: http}": "X=1", "Trigger: {SubscribeTopics: 'edgex/events/#'}": "X=1"} {
		code, out := lintText(t, yaml, []string{env})
		require.Zero(t, code, out)
		require.Contains(t, out, "note: ")
		code, _ = lintText(t, yaml, []string{env}, "-strict")
		require.Equal(t, 1, code)
	}
}

// A configuration that cannot be read is no configuration without problems.
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
