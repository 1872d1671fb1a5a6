package policy

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/pool"
)

// never forgets, so that sums are those of all outcomes.
func never(c *Config) { c.BanditForgetting = 1 }

// A bandit with the statistics of two others as its prior predicts as a bandit with all of their outcomes.
func TestAPriorOfOthersIsAsGoodAsTheirOutcomes(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	all := build(t, "bandit", never).(*bandit)
	parts := pool.Parts{}
	for range 2 {
		one := build(t, "bandit", never).(*bandit)
		for range 80 {
			e := lesson(rng, decision.Target(rng.IntN(2)), 2)
			one.Observe(e)
			all.Observe(e)
		}
		parts.Add(one.Statistics(1))
	}
	require.NoError(t, parts.Check())
	fresh := build(t, "bandit", never).(*bandit)
	fresh.Prior(parts)
	require.Empty(t, fresh.Statistics(1), "statistics of other nodes are not passed on")
	e := lesson(rng, decision.Local, 2)
	all.Observe(e)
	fresh.Observe(e)
	for i := range all.newest.Arms {
		want, got := all.known.Load().Arms[i], fresh.known.Load().Arms[i]
		for k := range want.weights {
			require.InDelta(t, want.weights[k], got.weights[k], 1e-9)
			require.InDelta(t, want.inverse[k][k], got.inverse[k][k], 1e-9)
		}
	}
	saved, err := fresh.Save()
	require.NoError(t, err)
	require.NoError(t, fresh.Restore(saved))
	require.InDelta(t, all.known.Load().Arms[0].weights[1], fresh.known.Load().Arms[0].weights[1], 1e-9, "a restored state keeps the prior")
	fresh.Prior(nil)
	alone := build(t, "bandit", never).(*bandit)
	alone.Observe(e)
	require.Equal(t, alone.known.Load().Arms[0].weights, fresh.known.Load().Arms[0].weights, "the prior is gone without a trace")
}

// After StatisticsAnew the statistics are those of a bandit with only the outcomes since, also after a restart.
func TestStatisticsOfABanditBeginAnew(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	b, alone := build(t, "bandit").(*bandit), build(t, "bandit").(*bandit)
	for range 100 {
		b.Observe(lesson(rng, decision.Target(rng.IntN(2)), 4))
	}
	b.StatisticsAnew()
	require.Empty(t, b.Statistics(1))
	for i := range 100 {
		if i == 50 {
			saved, err := b.Save()
			require.NoError(t, err)
			b = build(t, "bandit").(*bandit)
			require.NoError(t, b.Restore(saved))
		}
		e := lesson(rng, decision.Target(rng.IntN(2)), 2)
		b.Observe(e)
		alone.Observe(e)
	}
	own, want := b.Statistics(20), alone.Statistics(20)
	require.Len(t, own, 2)
	require.NoError(t, own.Check())
	for name, p := range want {
		require.InDeltaSlice(t, p.Matrix, own[name].Matrix, 1e-9, name)
		require.InDeltaSlice(t, p.Moments, own[name].Moments, 1e-9, name)
	}
}

func TestStatisticsOfFewOutcomesStayAtTheNode(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	b := build(t, "bandit").(*bandit)
	require.Empty(t, b.Statistics(0))
	for range 49 {
		b.Observe(lesson(rng, decision.Cloud, 2))
	}
	require.Empty(t, b.Statistics(50))
	b.Observe(lesson(rng, decision.Cloud, 2))
	got := b.Statistics(50)
	require.Len(t, got, 1)
	require.Contains(t, got, pool.Bandit+"cloud")
	require.NoError(t, got.Check())
}

// Own outcomes outweigh a wrong prior.
func TestOwnOutcomesOutweighAPrior(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	liar := build(t, "bandit").(*bandit)
	for range 500 {
		liar.Observe(lesson(rng, decision.Local, 4))
	}
	b := build(t, "bandit").(*bandit)
	b.Prior(liar.Statistics(1).Weigh(10))
	off := func() float64 {
		want, got := 0.0, 0.0
		for range 200 {
			probe := lesson(rng, decision.Local, 1)
			local, _ := timings(&probe.Estimate, &probe.State)
			want += probe.Outcome.Time
			got += b.known.Load().Arms[decision.Local].correct(local, 0).time()
		}
		return got / want
	}
	require.Greater(t, off(), 2.0, "it is believed at first")
	for range 400 {
		b.Observe(lesson(rng, decision.Local, 1))
	}
	require.InDelta(t, 1, off(), 0.2)
}
