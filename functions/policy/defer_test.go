package policy

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARuleIsReadAsItWasWritten(t *testing.T) {
	var file bytes.Buffer
	require.NoError(t, WriteRule(&file, DefaultRule(), "by hand"))
	r, err := ReadRule(&file)
	require.NoError(t, err)
	require.Equal(t, DefaultRule(), r)
}

func TestAWrongRuleSaysWhatIsWrong(t *testing.T) {
	for want, text := range map[string]string{
		"reading a rule":                         `{`,
		"unknown field":                          `{"format":"app-offload rule 1","edgeprice2":1}`,
		`"app-offload rule 2"`:                   `{"format":"app-offload rule 2"}`,
		"exponent = -1 is not within 0.05 and 8": `{"format":"app-offload rule 1","exponent":-1}`,
		"doubt = 0 is not within":                `{"format":"app-offload rule 1"}`,
	} {
		_, err := ReadRule(bytes.NewBufferString(text))
		require.ErrorContains(t, err, want)
		file := filepath.Join(t.TempDir(), "rule.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		err = config(func(c *Config) { c.DeferRule = file }).Validate()
		require.ErrorContains(t, err, "DeferRule")
		require.ErrorContains(t, err, want)
	}
}

// What this program brings along is what was learned, to the digits that matter.
func TestTheDefaultRuleIsTheShippedOne(t *testing.T) {
	f, err := os.Open("../../res/policies/defer.json")
	require.NoError(t, err)
	defer f.Close()
	shipped, err := ReadRule(f)
	require.NoError(t, err)
	built := DefaultRule()
	for i, field := range shipped.Fields() {
		require.InEpsilon(t, *field.At, *built.Fields()[i].At, 0.01, field.Name)
	}
}
