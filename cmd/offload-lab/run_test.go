package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/answers"
	"app-offload/cmd/offload-lab/internal/faults"
	"app-offload/cmd/offload-lab/internal/feed"
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
