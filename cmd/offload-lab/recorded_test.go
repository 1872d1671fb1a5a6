package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
)

// rounded shortens the numbers in lines of JSON, so that the last bits of another machine's arithmetic do not matter, and removes durations.
func rounded(t *testing.T, lines string) string {
	t.Helper()
	var short func(v any) any
	short = func(v any) any {
		switch v := v.(type) {
		case float64:
			return json.RawMessage(fmt.Sprintf("%.5g", v))
		case []any:
			for i := range v {
				v[i] = short(v[i])
			}
		case map[string]any:
			delete(v, "decisionMicros")
			for k := range v {
				v[k] = short(v[k])
			}
		}
		return v
	}
	var out bytes.Buffer
	for line := range strings.Lines(lines) {
		var v any
		require.NoError(t, json.Unmarshal([]byte(line), &v))
		text, err := json.Marshal(short(v))
		require.NoError(t, err)
		out.Write(append(text, '\n'))
	}
	return out.String()
}

// Simulated episodes, their judging and their replay give the recorded numbers: equal seeds mean equal worlds. After an intended change of the
// simulator, a policy or a prediction, record them again with -update.
func TestEqualSeedsGiveTheRecordedNumbers(t *testing.T) {
	ctx := context.Background()
	var all strings.Builder
	for _, args := range []string{"-policy cost,greedy,weighted,deadline,defer", "-policy cost -records -explore 0.3 -seed 9"} {
		text := stdoutOf(t, func() error { return simulateVerb(ctx, strings.Fields(args)) })
		all.WriteString("simulate " + args + "\n")
		for i, line := range strings.SplitAfter(rounded(t, text), "\n") {
			if i%20 == 0 {
				all.WriteString(line)
			}
		}
	}
	args := "-episodes 2 -policies cost,greedy,article,edge,cloud,defer -json -seed 3"
	all.WriteString("compare " + args + "\n")
	all.WriteString(rounded(t, stdoutOf(t, func() error { return compareVerb(ctx, strings.Fields(args)) })))
	golden.Require(t, "numbers.golden", all.String())
}
