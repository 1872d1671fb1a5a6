package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// lived is an episode under a policy: the outcome of each task, in the order of binding.
func lived(t *testing.T, w *World, e *Episode, name string) (infos []Info, reasons map[decision.Reason]int, cost float64) {
	t.Helper()
	p, err := policy.New(name, policy.DefaultConfig())
	require.NoError(t, err)
	reasons = map[decision.Reason]int{}
	Play(env(t, w), e, p, func(s *Situation, d decision.Decision, info Info) {
		require.Equal(t, d.Target == decision.Cloud, info.Cloud)
		require.InDelta(t, e.Jobs[info.Job].Deadline, s.Task.Deadline.Seconds(), 1e-6, "it is shown the task that is bound")
		infos = append(infos, info)
		reasons[d.Reason]++
		cost += info.Cost
	})
	return infos, reasons, cost
}

// eachOnce checks that each task of an episode was done once, and not before it could be.
func eachOnce(t *testing.T, e *Episode, infos []Info) {
	t.Helper()
	seen := map[int]bool{}
	for _, info := range infos {
		require.False(t, seen[info.Job], "task %d came twice", info.Job)
		seen[info.Job] = true
		j := &e.Jobs[info.Job]
		least := j.Mcycles / e.Config.EdgeMcycles
		if info.Cloud {
			least = j.RTT + e.Config.Overhead
		}
		require.Greater(t, info.Took, least-1e-9, "no task is done faster than an idle server does it")
		require.InDelta(t, j.At+info.Took, info.Done, 1e-9)
	}
	require.Len(t, infos, len(e.Jobs))
}

func TestLateBindingPlaysEachTaskOnce(t *testing.T) {
	w, err := NewWorld(DefaultConfig(), trace.Synthetic(7, 12, 4, 4))
	require.NoError(t, err)
	for seed := range uint64(5) {
		e := w.Draw(seed)
		infos, reasons, _ := lived(t, w, e, "defer")
		eachOnce(t, e, infos)
		require.Positive(t, reasons[decision.BoundLocal])
		require.Positive(t, reasons[decision.BoundCloud])
		again, _, _ := lived(t, w, e, "defer")
		require.Equal(t, infos, again)
	}
}

// With a node and a link that are never busy no task is parked, and late binding equals immediate decisions.
func TestWithoutAQueueNobodyWaits(t *testing.T) {
	c := DefaultConfig()
	c.Rates, c.Tasks = [2]float64{0.01, 0.01}, 100
	w, err := NewWorld(c, steady(50, 0, 0.02))
	require.NoError(t, err)
	e := w.Draw(1)
	infos, reasons, _ := lived(t, w, e, "defer")
	require.Zero(t, reasons[decision.BoundLocal]+reasons[decision.BoundCloud]+reasons[decision.LongestWait])
	for i, info := range infos {
		idle := e.Idle()
		_, took := e.Local(i, idle.Edge)
		if info.Cloud {
			_, took = e.Cloud(i, idle.Link)
		}
		require.InDelta(t, took, info.Took, 1e-9)
	}
}

func TestLateBindingCostsLess(t *testing.T) {
	w, err := NewWorld(DefaultConfig(), trace.Synthetic(1, 40, 8, 12))
	require.NoError(t, err)
	late, now := 0.0, 0.0
	for seed := range uint64(40) {
		e := w.Draw(seed)
		_, _, cost := lived(t, w, e, "defer")
		late += cost
		_, _, cost = lived(t, w, e, "cost")
		now += cost
	}
	t.Logf("defer costs %.1f %% of cost", 100*late/now)
	require.Less(t, late, 0.97*now)
}
