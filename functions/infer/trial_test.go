package infer

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/models"
)

// A canary is rolled back for slow and failed runs; before the end of its trial, only if the result is certain.
func TestWhatEndsTheTrialOfACanary(t *testing.T) {
	const ms = time.Millisecond
	c := CanaryConfig{Tasks: 100, Disagreement: 0.2, Slower: 2}
	failure := errors.New("the shape is another one")
	for name, one := range map[string]struct {
		canary func(i int) (took time.Duration, err error) // of the i-th pair; the version in force takes 1 ms
		after  int                                         // pairs until the trial ends
		state  string
		reason string
	}{
		"as fast":                     {func(int) (time.Duration, error) { return ms, nil }, 100, TrialPromoted, ""},
		"slower than is allowed":      {func(int) (time.Duration, error) { return 5 * ms / 2, nil }, 100, TrialRolledBack, "a run takes 2.5ms, version 1 1ms"},
		"slower, and it is allowed":   {func(int) (time.Duration, error) { return 2 * ms, nil }, 100, TrialPromoted, ""},
		"slow at first":               {func(i int) (time.Duration, error) { return ms + max(0, time.Duration(2-i))*10*ms, nil }, 100, TrialPromoted, ""},
		"much slower, which is clear": {func(int) (time.Duration, error) { return 5 * ms, nil }, fewestPairs, TrialRolledBack, "a run takes 5ms"},
		"always failing":              {func(int) (time.Duration, error) { return 0, failure }, fewestPairs, TrialRolledBack, "20 of 20 runs failed, the latest: the shape is another one"},
		"failing now and then": {func(i int) (time.Duration, error) {
			if i%30 == 29 {
				return 0, failure
			}
			return ms, nil
		}, 100, TrialRolledBack, "3 of 100 runs failed"},
		"failing once": {func(i int) (time.Duration, error) {
			if i == 3 {
				return 0, failure
			}
			return ms, nil
		}, 100, TrialPromoted, ""},
	} {
		tr, state, n := &trial{}, TrialRuns, 0
		for ; state == TrialRuns && n < 1000; n++ {
			took, err := one.canary(n)
			state = tr.add("2", &models.Answer{Model: "m", Version: "1", Label: "ok", Took: ms}, &models.Answer{Version: "2", Label: "ok", Took: took}, err, c)
		}
		require.Equal(t, one.state, state, name)
		require.Equal(t, one.after, n, name)
		stats, _ := tr.load()
		if one.reason == "" {
			require.Empty(t, stats.Reason, name)
		}
		require.Contains(t, stats.Reason, one.reason, name)
		require.Equal(t, TrialRuns, tr.add("2", &models.Answer{Version: "1"}, &models.Answer{}, nil, c), "%s: it is settled once", name)
	}
}

// A canary that was evicted between its last run and the end of its trial gets a new trial when it returns.
func TestATrialThatCannotBeSettledBeginsAnew(t *testing.T) {
	cfg := models.DefaultConfig()
	cfg.Dir = t.TempDir()
	store, err := models.Open(t.Context(), cfg, nil)
	require.NoError(t, err)
	defer store.Close(t.Context())
	r := &Room{store: store}
	w := &work{known: &known{}, model: "m"}
	c := CanaryConfig{Tasks: fewestPairs, Disagreement: 0.2, Slower: 2}
	add := func() string {
		return w.trial.add("2", &models.Answer{Model: "m", Version: "1"}, &models.Answer{Version: "2"}, nil, c)
	}
	for range 2 {
		for range fewestPairs - 1 {
			require.Equal(t, TrialRuns, add())
		}
		require.Equal(t, TrialPromoted, add())
		r.settle(w, "2", true)
		_, shown := w.trial.load()
		require.False(t, shown, "it did not take over")
	}
}

// Differing answers end a trial: at its end if they exceed the limit, and before it if the result is certain.
func TestACanaryThatAnswersOtherwise(t *testing.T) {
	c := CanaryConfig{Tasks: 100, Disagreement: 0.2, Slower: 2}
	for name, one := range map[string]struct {
		every int // which pairs differ; 0 for none
		after int
		state string
	}{
		"never": {0, 100, TrialPromoted}, "every tenth": {10, 100, TrialPromoted}, "every fifth, which is the limit": {5, 100, TrialPromoted},
		"every fourth": {4, 100, TrialRolledBack}, "always": {1, fewestPairs, TrialRolledBack},
	} {
		tr, state, n := &trial{}, TrialRuns, 0
		for state == TrialRuns && n < 1000 {
			n++
			a := &models.Answer{Version: "2", Label: "ok"}
			if one.every > 0 && n%one.every == 0 {
				a.Label = "worn"
			}
			state = tr.add("2", &models.Answer{Model: "m", Version: "1", Label: "ok"}, a, nil, c)
		}
		require.Equal(t, []any{one.after, one.state}, []any{n, state}, name)
		stats, _ := tr.load()
		require.Equal(t, []any{"m", models.Version("2"), models.Version("1"), n, 100}, []any{stats.Model, stats.Version, stats.Against, stats.Tasks, stats.Of})
		require.Equal(t, one.state == TrialRolledBack, stats.Reason != "", name)
		if stats.Reason != "" {
			require.Contains(t, stats.Reason, "answers differ from those of version 1, more than 20 %")
		}
	}
	// Another version, on either side, begins anew.
	tr := &trial{}
	for i, v := range []models.Version{"2", "2", "3", "3"} {
		tr.add(v, &models.Answer{Version: []models.Version{"1", "1", "1", "2"}[i]}, &models.Answer{}, nil, c)
		stats, _ := tr.load()
		require.Equal(t, []int{1, 2, 1, 1}[i], stats.Tasks)
	}
}

func TestAnswersAgree(t *testing.T) {
	of := func(label string, values ...float64) *models.Answer {
		return &models.Answer{Label: label, Values: values}
	}
	for _, c := range []struct {
		a, b *models.Answer
		want bool
	}{
		{of("x"), of("x"), true},
		{of("x"), of("y"), false},
		{of("", 1), of("", 1, 2), false},
		{of("", 1, 2), of("", 1), false},
		{of("", 0), of("", 0), true},
		{of("", 100), of("", 90), true},
		{of("", 0), of("", 1), false},
		{of("", 1), of("", -1), false},
		{of("", 5, 100), of("", 5, 100*(1+numbersNear/2)), true},
		{of("", 5, 100), of("", 5, 100*(1+2*numbersNear)), false},
		{of("", 100*(1+numbersNear/2)), of("", 100), true},
		{of("", 100*(1+2*numbersNear)), of("", 100), false},
		{of("", -100), of("", -100*(1+numbersNear/2)), true},
		{of("", 1e-12), of("", -1e-12), true},
		{of("", 1e-6), of("", 2e-6), false},
	} {
		require.Equal(t, c.want, agree(c.a, c.b), "%v %v", c.a.Values, c.b.Values)
	}
}

// Twenty identical pairs leave a doubt of 15 %, a hundred none.
func TestTheDoubtOfATrial(t *testing.T) {
	for _, row := range []struct {
		tasks, different int
		limit            float64
		want             string
	}{
		{fewestPairs - 1, fewestPairs - 1, 0.2, TrialRuns},
		{fewestPairs, fewestPairs, 0.84, TrialRolledBack},
		{fewestPairs, fewestPairs, 0.86, TrialRuns},
		{100, 21, 0.2, TrialRolledBack},
		{100, 20, 0.2, TrialPromoted},
		{99, 21, 0.2, TrialRuns},
	} {
		s := CanaryStats{Tasks: row.tasks, Different: row.different}
		require.Equal(t, row.want, s.judge(CanaryConfig{Tasks: 100, Disagreement: row.limit, Slower: 2}), row)
	}
	const slow = 2 + noise
	for _, row := range []struct {
		tasks int
		run   float64
		want  string
	}{
		{100, slow, TrialPromoted},
		{100, math.Nextafter(slow, 3), TrialRolledBack},
		{99, 2 * slow, TrialRuns},
		{99, math.Nextafter(2*slow, 5), TrialRolledBack},
	} {
		s := CanaryStats{Tasks: row.tasks, Usual: 1, Run: row.run}
		require.Equal(t, row.want, s.judge(CanaryConfig{Tasks: 100, Disagreement: 0.2, Slower: 2}), row)
	}
}
