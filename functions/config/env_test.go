package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check"
)

// A variable without effect is named, with what it may mean, or why it has none.
func TestVariablesWithoutEffectAreNamed(t *testing.T) {
	c := Default()
	lines := Strays(&c, []string{"OFFLOAD_SPOOL_QOTAMIB=3", "OFFLOAD_NODE=x", "offload_node=x", "OFFLOAD_TOKEN=t", "HOME=/"})
	require.Equal(t, []string{
		"the variable OFFLOAD_SPOOL_QOTAMIB names no key and has no effect; did you mean OFFLOAD_SPOOL_QUOTAMIB?",
		"the variable offload_node names no key and has no effect; did you mean OFFLOAD_NODE?",
	}, lines)
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"OFFLOAD_NODE": "edge", "OFFLOAD_SPOOL_QUOTAMIB": "77", "OFFLOAD_WRITABLE_SCORE_WIRESHARE": "1"}[name]
		return v, ok
	}
	lines = Overruled(c, lookup)
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "OFFLOAD_SPOOL_QUOTAMIB has no effect")
}

// The limits of rooms that follow each other are looked at together.
func TestRemarks(t *testing.T) {
	require.Empty(t, Default().Remarks())
	c := Default()
	c.Writable.Batch.MaxKiB = c.Seal.MaxMessageKiB
	require.Empty(t, c.Remarks())
	c.Writable.Batch.MaxKiB++
	require.Contains(t, c.Remarks()[0], "Offload.Writable.Batch.MaxKiB = \"1025\": is above Seal.MaxMessageKiB")
}

// A name that no message could carry is refused at the start.
func TestNodesAndClassesThatNoMessageCarries(t *testing.T) {
	for _, name := range []string{"", "a/b", "a b", "a\r", "a\uFFFD", "a\xff", "a\x7f", "a\u200b", "$a", "+", strings.Repeat("a", 256)} {
		c := Default()
		c.Node = name
		require.ErrorContains(t, c.Validate(), "Offload.Node", "%q", name)
	}
	for _, name := range []string{"plant-7", "Werk_Süd", "工場", "a.b:c", strings.Repeat("a", 255)} {
		c := Default()
		c.Node = name
		require.NoError(t, c.Validate(), name)
	}
}

// The stop's bound: 8 s, and no more.
func TestTheStopIsBounded(t *testing.T) {
	for text, good := range map[string]bool{"1s": true, "8s": true, "8001ms": false, "80s": false, "999ms": false, "3d": false} {
		c := Default()
		c.StopGrace = text
		require.Equal(t, good, c.Validate() == nil, text)
	}
}

func TestDurationsAreSuggested(t *testing.T) {
	for text, want := range map[string]string{"3d": `"72h"`, "2 weeks": `"336h"`, "1.5 h": `"1h30m"`, "5": `"5s"`, "10min": `"10m"`, "soon": `"1s"`, "5 S": `"5s"`} {
		p := check.In("")
		p.Duration("K", text, 1e9, 1e18)
		require.ErrorContains(t, p.Err(), want, text)
	}
}
