package functions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/status"
)

// More than half of the messages is a warning, half of them a note; the text counts both.
func TestHalfOfTheMessagesQuarantinedIsANote(t *testing.T) {
	s, fake := well(t, nil)
	rubbish(s, 10)
	good(t, s, 0, 10)
	severity, text := quarantined(s, &s.health.memory)
	require.Equal(t, status.Note, severity)
	require.Contains(t, text, "10 of 20 messages within the last minute")
	require.Contains(t, text, "GET /api/v3/offload/quarantine")
	rubbish(s, 1)
	severity, text = quarantined(s, &s.health.memory)
	require.Equal(t, status.Warning, severity)
	require.Contains(t, text, "11 of 21 messages within the last minute")
	fake.Advance(lately)
	severity, text = quarantined(s, &s.health.memory)
	require.Equal(t, status.Fine, severity)
	require.Empty(t, text)
}

// A step of ten seconds and more, in either direction, is shown for ten minutes.
func TestStepsOfTheClockAreShownForAWhile(t *testing.T) {
	s, fake := well(t, nil)
	m := &s.health.memory
	m.steps = clockWatch{}
	look := func() string { _, text := clockStepped(s, m); return text }
	fake.Step(time.Hour)
	require.Empty(t, look(), "a step before the first look is unknown")
	fake.Step(stepped - time.Nanosecond)
	require.Empty(t, look())
	fake.Step(stepped)
	require.Contains(t, look(), "was set by 10s: ")
	fake.Advance(stepShown - time.Nanosecond)
	require.NotEmpty(t, look())
	fake.Advance(time.Nanosecond)
	require.Empty(t, look())
	fake.Step(-stepped)
	severity, text := clockStepped(s, m)
	require.Equal(t, status.Warning, severity)
	require.Contains(t, text, "was set by -10s: ")
}

// What failed last decides: storing fails from a commit that failed until one that did not.
func TestStoringFailsUntilItSucceeds(t *testing.T) {
	s, fake := well(t, nil)
	m := &s.health.memory
	for _, name := range []string{"spool failed", "spool disk full", "spool appended"} {
		delete(m.counters, name)
		m.grown(name, 0)
	}
	check := func(full, fails bool, what string) {
		t.Helper()
		f, any := storingFails(m)
		require.Equal(t, [2]bool{full, fails}, [2]bool{f, any}, what)
	}
	check(false, false, "nothing has happened")
	m.grown("spool appended", 1)
	check(false, false, "stored")
	fake.Advance(time.Second)
	m.grown("spool failed", 1)
	check(false, true, "failed")
	fake.Advance(time.Second)
	m.grown("spool appended", 2)
	check(false, false, "stored again")
	m.grown("spool failed", 2)
	check(false, false, "within the same look")
	m.grown("spool disk full", 1)
	check(true, true, "within the same look, for want of space")
	fake.Advance(time.Second)
	m.grown("spool appended", 3)
	check(false, false, "there is room again")
}

func TestCountsAreWrittenTheLargestFirst(t *testing.T) {
	require.Equal(t, "b 3, a 2, c 2", counted(map[string]uint64{"a": 2, "b": 3, "c": 2, "none": 0}))
	require.Empty(t, counted(map[string]int64{}))
	require.EqualValues(t, 7, summed(map[string]uint64{"a": 2, "b": 3, "c": 2}))
}
