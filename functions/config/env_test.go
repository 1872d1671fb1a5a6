package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check"
	"app-offload/functions/task"
)

// A variable without effect is named, with a suggestion or the reason.
func TestVariablesWithoutEffectAreNamed(t *testing.T) {
	c := Default()
	lines := Strays(&c, []string{"OFFLOAD_SPOOL_QOTAMIB=3", "OFFLOAD_NODE=x", "offload_node=x", "OFFLOAD_TOKEN=t", "OFFLOAD_CLOUD_VERSION=1", "HOME=/"})
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

// The limits of successive packages are compared together.
func TestRemarks(t *testing.T) {
	require.Empty(t, Default().Remarks())
	c := Default()
	c.Writable.Batch.MaxKiB = c.Seal.MaxMessageKiB
	require.Empty(t, c.Remarks())
	c.Writable.Batch.MaxKiB++
	require.Contains(t, c.Remarks()[0], "Offload.Writable.Batch.MaxKiB = \"1025\": is above Seal.MaxMessageKiB")
}

// A name that no message can contain is rejected at the start.
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

// The bound of a stop: 8 s, and no more.
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

// A text is converted to the type of its key, or gives an error with the expected type.
func TestTextsOfEachKind(t *testing.T) {
	var (
		text string
		yes  bool
		part float64
		n    int
		few  int8
		none uint
	)
	for _, c := range []struct {
		to         any
		text, want string // "" is no error
	}{
		{&text, "", ""},
		{&text, " x ", ""},
		{&yes, "true", ""},
		{&yes, "F", ""},
		{&yes, "yes", "is neither true nor false"},
		{&part, "1e3", ""},
		{&part, "1,5", "is not a number"},
		{&n, "-7", ""},
		{&n, "7.0", "is not a whole number"},
		{&n, "9223372036854775808", "is not a whole number"},
		{&few, "127", ""},
		{&few, "128", "is not a whole number"},
		{&none, "1", "is not a whole number"},
	} {
		v := reflect.ValueOf(c.to).Elem()
		err := set(v, c.text, 10)
		if c.want != "" {
			require.EqualError(t, err, c.want, c.text)
			continue
		}
		require.NoError(t, err, c.text)
	}
	require.Equal(t, []any{" x ", false, 1000., -7, int8(127)}, []any{text, yes, part, n, few})
}

// Each problem has the name of its section, and they are in order.
func TestProblemsAreInOrder(t *testing.T) {
	require.Equal(t, []error{errors.New("S.a"), errors.New("S.b"), errors.New("S.c")}, unwrapped(under("S", errors.New("c"), nil, errors.New("b\na"))))
	require.Empty(t, under("S", nil))
}

func unwrapped(errs []error) (list []error) {
	for _, err := range errs {
		list = append(list, errors.New(err.Error()))
	}
	return list
}

// The limits in a remark are those that the values are compared with.
func TestRemarksNameTheLimits(t *testing.T) {
	c := Default()
	largest := c.LargestRecord() >> 10
	class := task.DefaultClassConfig()
	class.ChunkSize = largest + 1
	c.Writable.Classes = map[string]task.ClassConfig{"default": class}
	require.Len(t, c.Remarks(), 1)
	require.Contains(t, c.Remarks()[0], fmt.Sprintf("above %d KiB they fit no message of Seal.MaxMessageKiB, %d,", largest, c.Seal.MaxMessageKiB))
	class.ChunkSize = -1
	c.Writable.Classes["default"], c.Intake.MaxPayloadKiB = class, largest+1
	require.Len(t, c.Remarks(), 1)
	require.Contains(t, c.Remarks()[0], fmt.Sprintf("up to Intake.MaxPayloadKiB, %d KiB, are accepted: above %d KiB they fit", largest+1, largest))
}
