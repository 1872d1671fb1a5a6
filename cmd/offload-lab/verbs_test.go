package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/policy"
)

// The help of what judges and learns is complete: what for, what comes out, which files, which exit codes.
func TestHelpIsComplete(t *testing.T) {
	for name, text := range map[string]string{
		"simulate": simulateExamples, "train": trainExamples, "compare": compareExamples, "replay": replayExamples, "report": reportExamples,
		"against": againstExamples,
	} {
		for _, part := range []string{"offload-lab " + name, "Purpose:", "Files:", "Exit codes:"} {
			require.Contains(t, text, part, name)
		}
		require.True(t, strings.Contains(text, "Output") || strings.Contains(text, "Input"), name)
	}
}

// stdoutOf is what a verb prints.
func stdoutOf(t *testing.T, run func() error) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(file)
	require.NoError(t, err)
	before := os.Stdout
	os.Stdout = f
	err = run()
	os.Stdout = before
	require.NoError(t, err)
	require.NoError(t, f.Close())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// The verbs are joined by files: a simulated decision log is replayed, and the page shows all of it.
func TestVerbsAreJoinedByFiles(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	keep := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	simulate := func(args ...string) string {
		return stdoutOf(t, func() error { return simulateVerb(ctx, args) })
	}
	text := simulate("-policy", "cost", "-explore", "0.2", "-records")
	require.Equal(t, text, simulate("-policy", "cost", "-explore", "0.2", "-records"), "equal seeds, equal bytes")
	log := keep("decisions.jsonl", text)
	n := 0
	for r, err := range policy.ReadRecords(strings.NewReader(text)) {
		require.NoError(t, err)
		require.True(t, r.Outcome.Known)
		n++
	}
	require.Equal(t, 600, n)

	replayed := stdoutOf(t, func() error { return replayVerb(ctx, []string{"-policies", "cost,edge", "-json", log}) })
	require.Equal(t, 3, strings.Count(replayed, "\n"))
	require.Contains(t, stdoutOf(t, func() error { return replayVerb(ctx, []string{"-policies", "cost", "-measure", "miss", log}) }), "miss by DR")
	require.ErrorContains(t, replayVerb(ctx, []string{"-measure", "beauty", log}), "beauty")

	steps := simulate("-policy", "cost,greedy")
	require.Equal(t, 1200, strings.Count(steps, "\n"))
	board := stdoutOf(t, func() error { return compareVerb(ctx, []string{"-episodes", "2", "-policies", "cost,greedy", "-json"}) })
	out := filepath.Join(dir, "page.html")
	require.NoError(t, reportVerb(ctx, []string{"-out", out, keep("replay", replayed), keep("steps", steps), keep("board", board)}))
	page, err := os.ReadFile(out)
	require.NoError(t, err)
	for _, id := range []string{"regret", "board", "times", "price", "map", "replay"} {
		require.Contains(t, string(page), `<section id="`+id+`">`)
	}
	require.Error(t, reportVerb(ctx, []string{log}), "a decision log is no result")
}

// What went wrong is to be found in the logs, so a run that fails leaves its folder.
func TestAFailedRunLeavesItsLogs(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	err := runVerb(t.Context(), []string{"-bin", t.TempDir(), "-res", "../../res"}) // there are no programs
	require.Error(t, err)
	logs, globErr := filepath.Glob(filepath.Join(os.TempDir(), "offload-lab-*", "log"))
	require.NoError(t, globErr)
	require.Len(t, logs, 1)
	require.ErrorContains(t, err, "everything is left in "+filepath.Dir(logs[0]))
}
