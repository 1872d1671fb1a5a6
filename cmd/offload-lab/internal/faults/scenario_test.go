package faults

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABoundIsKeptOrNamed(t *testing.T) {
	for _, c := range []struct {
		bound Bound
		want  string
	}{
		{atMost("a", 1.1, 1.1), ""},
		{atMost("a", 1.2, 1.1), "a is 1.2 and must be at most 1.1"},
		{atLeast("a", 0.3, 0.3), ""},
		{atLeast("a", 0.29996, 0.3), ""}, // as it is printed
		{atLeast("a", 0.2, 0.3), "a is 0.2 and must be at least 0.3"},
		{figure("a", 1e9), ""},
	} {
		require.Equal(t, c.want, c.bound.broken())
	}
}

func TestAScenarioIsKnownByItsName(t *testing.T) {
	_, err := RunScenario(t.Context(), ScenarioConfig{Name: "flood", Out: t.Output()})
	require.ErrorContains(t, err, `no scenario "flood"`)
	for _, sc := range scenarios() {
		require.Contains(t, ScenarioNames(), sc.name)
		require.Positive(t, sc.duration)
		require.Positive(t, sc.rate)
	}
}

// A violated bound fails the scenario.
func TestABrokenBoundFailsTheScenario(t *testing.T) {
	s := &stage{scenario: scenario{name: "x"}, result: &ScenarioReport{}, system: &system{report: &Report{}}}
	s.bounds(atMost("RSS", 2, 1.1), atLeast("rate", 1, 1))
	require.ErrorContains(t, s.judge(), "x: RSS is 2 and must be at most 1.1")
	require.Equal(t, []string{"RSS is 2 and must be at most 1.1"}, s.result.Broken)

	s = &stage{scenario: scenario{name: "x"}, result: &ScenarioReport{}, system: &system{report: &Report{Lost: 1}}}
	require.ErrorContains(t, s.judge(), "lost is 1")
}

func TestResidentMemoryIsRead(t *testing.T) {
	n, err := resident(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, n, int64(1<<20))
	_, err = resident(0)
	require.ErrorContains(t, err, "/proc/0/status")
}

// An event delayed by a late timer follows immediately; a long pause by a check is not made up for.
func TestThePublisherKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{every: 10}
		due := time.Now()
		require.Equal(t, due.Add(10), p.after(due))
		late := due.Add(-time.Second / 2)
		require.Equal(t, late.Add(10), p.after(late))
		require.Equal(t, time.Now(), p.after(due.Add(-2*time.Second)))
	})
}
