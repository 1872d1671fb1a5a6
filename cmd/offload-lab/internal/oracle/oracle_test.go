package oracle

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/trace"
)

func world(t testing.TB, tasks int, rates [2]float64) *sim.World {
	t.Helper()
	return worldOf(t, sim.DefaultConfig(), tasks, rates)
}

func worldOf(t testing.TB, c sim.Config, tasks int, rates [2]float64) *sim.World {
	t.Helper()
	c.Tasks, c.Rates = tasks, rates
	w, err := sim.NewWorld(c, trace.Synthetic(3, 8, 4, 3))
	require.NoError(t, err)
	return w
}

// brute searches all decisions exhaustively.
func brute(e *sim.Episode, i int, s sim.Servers) float64 {
	if i == len(e.Jobs) {
		return 0
	}
	here, there := s, s
	var took float64
	here.Edge, took = e.Local(i, s.Edge)
	local := e.Cost(i, false, took) + brute(e, i+1, here)
	there.Link, took = e.Cloud(i, s.Link)
	return min(local, e.Cost(i, true, took)+brute(e, i+1, there))
}

// cost runs a plan.
func cost(e *sim.Episode, cloud []bool) (sum float64) {
	s := e.Idle()
	for i, away := range cloud {
		var took float64
		if away {
			s.Link, took = e.Cloud(i, s.Link)
		} else {
			s.Edge, took = e.Local(i, s.Edge)
		}
		sum += e.Cost(i, away, took)
	}
	return sum
}

func TestSolveFindsWhatBruteForceFinds(t *testing.T) {
	for _, rates := range [][2]float64{{1, 3.2}, {4, 12}, {40, 40}} { // easy, busy, hopeless
		w := world(t, 12, rates)
		for seed := range uint64(12) {
			e := w.Draw(seed)
			want := brute(e, 0, e.Idle())
			for _, s := range []Search{DefaultSearch(), {Limit: 1 << 20, Beam: 4}} {
				p := s.Solve(e)
				require.InDelta(t, want, p.Cost, 1e-9, "seed %d", seed)
				require.True(t, p.Exact())
				require.InDelta(t, p.Cost, cost(e, p.Cloud), 1e-9, "the plan costs what it says")
			}
		}
	}
}

func TestSolveCountsTheTail(t *testing.T) {
	c := sim.DefaultConfig()
	c.Cost.Tail = sim.Tail{PerSecond: 2, From: 4, To: 7}
	with, without := worldOf(t, c, 12, [2]float64{40, 40}), world(t, 12, [2]float64{40, 40})
	dearer := 0
	for seed := range uint64(12) {
		e := with.Draw(seed)
		p := DefaultSearch().Solve(e)
		require.InDelta(t, brute(e, 0, e.Idle()), p.Cost, 1e-9, "seed %d", seed)
		plain := without.Draw(seed)
		if cost(plain, p.Cloud) > DefaultSearch().Solve(plain).Cost+1e-9 {
			dearer++
		}
	}
	require.Positive(t, dearer, "a tail was meant to change some plan")
}

// With too many labels, the optimum is between the bound and the plan.
func TestTooManyLabelsGiveBounds(t *testing.T) {
	w := world(t, 14, [2]float64{6, 6})
	loose := 0
	for seed := range uint64(12) {
		e := w.Draw(seed)
		want := brute(e, 0, e.Idle())
		p := Search{Limit: 8, Beam: 4}.Solve(e)
		require.LessOrEqual(t, p.Bound, want+1e-9, "seed %d", seed)
		require.GreaterOrEqual(t, p.Cost, want-1e-9, "seed %d", seed)
		require.InDelta(t, p.Cost, cost(e, p.Cloud), 1e-9)
		if !p.Exact() {
			loose++
		}
	}
	require.Positive(t, loose, "the limit was meant to be too low")
}

func TestWholeEpisodesAreSolved(t *testing.T) {
	w := world(t, 600, [2]float64{1, 3.2})
	for seed := range uint64(3) {
		e := w.Draw(seed)
		p := DefaultSearch().Solve(e)
		t.Logf("seed %d: J %.4f a task, bound %.4f, up to %d labels", seed, p.Cost/600, p.Bound/600, p.Most)
		require.InDelta(t, p.Cost, cost(e, p.Cloud), 1e-6)
		require.InDelta(t, p.Bound, p.Cost, 0.01*p.Cost)
	}
}

func TestFenwick(t *testing.T) {
	var f fenwick
	f.reset(5)
	require.True(t, math.IsInf(f.upTo(4), 1))
	f.lower(3, 7)
	f.lower(1, 9)
	for i, want := range []float64{math.Inf(1), 9, 9, 7, 7} {
		require.Equal(t, want, f.upTo(i))
	}
}
