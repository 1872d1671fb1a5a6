package twin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func TestTheEpisodeOfARunByHand(t *testing.T) {
	g := gateway{here: Line{0.1, 2e-4}, first: Line{0.02, 1e-5}, after: Line{0.05, 3e-5}, wire: Line{100, 0.3}}
	s := Settings()[0]
	e, w, err := g.episode(&s, []lived{{at: 1, bytes: 10_000}, {at: 2, bytes: 20_000}}, [2]float64{})
	require.NoError(t, err)
	require.Len(t, e.Jobs, 2)
	for i, want := range []struct{ at, bytes, mcycles, away float64 }{
		{1, 3000, 2100, 0.04 + 0.03 + 0.4}, // round trip, what single tasks take beyond it, and 40 µs a byte
		{2, 6000, 4100, 0.04 + 0.03 + 0.8},
	} {
		j := &e.Jobs[i]
		require.InDelta(t, want.at, j.At, 0)
		require.InDelta(t, want.bytes, j.Bytes, 1e-9)
		require.InDelta(t, want.mcycles, j.Mcycles, 1e-9)
		require.InDelta(t, want.away, e.Away(i), 1e-9)
		require.InDelta(t, s.Deadline.Seconds(), j.Deadline, 0)
	}
	require.InDeltaSlice(t, []float64{10_165, 20_165}, w.Config.Mix[0].Bytes[:], 1e-9)
	require.InDelta(t, 100, w.Config.HeaderBytes, 0)
	require.InDeltaSlice(t, []float64{2100, 4100}, w.Config.Mix[0].Mcycles[:], 1e-9)

	g.here, g.after.Fixed = Line{}, 0 // no work at all would divide by nothing, and single tasks that were sooner than a round trip add nothing
	e, w, err = g.episode(&s, []lived{{at: 1, bytes: 10_000}}, [2]float64{})
	require.NoError(t, err)
	require.InDelta(t, 1e-3, e.Jobs[0].Mcycles, 0)
	require.Zero(t, w.Config.Overhead)
	require.InDelta(t, 0.04+0.4, e.Away(0), 1e-9)
}

func TestWhatTasksTakeBeyondTheirBytes(t *testing.T) {
	tasks := []lived{{bytes: 10, took: 3}, {bytes: 20, took: 6}}
	require.InDelta(t, 1.5, beyond(tasks, 0.2, took), 1e-12)
	require.Zero(t, beyond(tasks, 1, took), "never less than nothing")
}

func TestTheTasksOfAWayByHand(t *testing.T) {
	one := func(cloud bool, took, simulated float64) pair {
		return pair{lived{cloud: cloud, took: took}, simulated}
	}
	rounds := [][]pair{{one(true, 2, 3), one(false, 1, 9), one(true, 4, 6)}, {one(false, 1, 9)}, {one(true, 2, 1)}}
	w := way("cloud", rounds, func(t *lived) bool { return t.cloud })
	require.Equal(t, 3, w.Tasks)
	require.InDelta(t, 8.0/3, w.Measured, 1e-12)
	require.InDelta(t, 10.0/3, w.Simulated, 1e-12)
	require.InDelta(t, 0.25, w.Off, 1e-12)
	require.InDeltaSlice(t, []float64{0.5, -0.5}, w.Rounds, 1e-12, "a round without such tasks says nothing")
	require.InDelta(t, 0, (w.OffCI95[0]+w.OffCI95[1])/2, 1e-12)
	require.Equal(t, Way{Way: "none"}, way("none", rounds, func(*lived) bool { return false }))
}

func TestTheStandingOfAPolicyByHand(t *testing.T) {
	out := func(took float64, cloud, late bool, joules float64) outcome {
		return outcome{took: took, cloud: cloud, late: late, joules: joules}
	}
	st := standing(&Setting{Name: "s", About: "a"}, "p", []run{
		{measured: []outcome{out(3, true, true, 2), out(1, false, false, 4)}, simulated: []outcome{out(5, true, true, 0), out(1, false, true, 0)}, parts: [2]part{{1, 1, 2}, {1, 3, 6}}},
		{measured: []outcome{out(2, false, false, 0)}, simulated: []outcome{out(3, false, false, 0)}, parts: [2]part{{1, 2, 4}, {}}},
	})
	require.Equal(t, []any{"s", "a", "p", 3, []float64{2, 2}}, []any{st.Setting, st.About, st.Policy, st.Tasks, st.Rounds})
	require.InDeltaSlice(t, []float64{2, 3, 1.0 / 3, 2.0 / 3, 2, 0.5}, []float64{st.Mean, st.P99, st.Late, st.Local, st.Joules, st.Off}, 1e-12)
	require.InDeltaSlice(t, []float64{3, 5, 2.0 / 3, 2.0 / 3}, []float64{st.Simulated.Mean, st.Simulated.P99, st.Simulated.Late, st.Simulated.Local}, 1e-12)
	require.Equal(t, []Part{{Path: "local", Share: 2.0 / 3, Measured: 1.5, Simulated: 3, Off: 1}, {Path: "cloud", Share: 1.0 / 3, Measured: 3, Simulated: 6, Off: 1}}, st.Parts)
	all := []outcome{{took: 4}, {took: 1}, {took: 3}, {took: 2}}
	for q, want := range map[float64]float64{0.01: 1, 0.25: 1, 0.26: 2, 0.5: 2, 0.75: 3, 0.99: 4, 1: 4} {
		require.InDelta(t, want, quantile(all, q), 0, q)
	}
	require.Zero(t, mean(nil))
	require.Zero(t, share(nil, func(*outcome) bool { return true }))
	require.Equal(t, [2]float64{3, 3}, widen([2]float64{}, 3))
	require.Equal(t, [2]float64{2, 3}, widen([2]float64{3, 3}, 2))
	require.Equal(t, [2]float64{3, 4}, widen([2]float64{3, 3}, 4))
}

// The tasks of a round are single ones in turn and then the dense series, the same for every policy; the link is cut and restored before two of them.
func TestTheTasksOfALiveRound(t *testing.T) {
	c := LiveConfig{Tasks: 2000, Probes: 4, Devices: 3, Seed: 7}
	s := &Setting{Gap: 100 * time.Millisecond, Outage: [2]float64{0.25, 0.5}}
	all := c.draw(s, &link{}, 1)
	require.Len(t, all, 2008)
	ids, sum := map[string]bool{}, time.Duration(0)
	for i, one := range all {
		kb := float64(one.values) * valueBytes / 1e3
		require.True(t, kb >= liveLeastKB-0.004 && kb <= liveMostKB, kb)
		ids[one.id], sum = true, sum+one.after
		if i < 8 {
			require.Equal(t, []any{[]string{hereProfile, cloudProfile}[i%2], "single", time.Duration(0)}, []any{one.profile, one.device, one.after})
		} else {
			require.Equal(t, []string{bothProfile, fmt.Sprintf("device-%d", (i-8)%3)}, []string{one.profile, one.device})
		}
		require.Equal(t, i == 8+500 || i == 8+1000, one.link != nil, i)
	}
	require.Len(t, ids, len(all))
	require.InEpsilon(t, 2000*s.Gap.Seconds(), sum.Seconds(), 0.1)
	s.Outage = [2]float64{}
	again := c.draw(s, nil, 1)
	require.Equal(t, all[2007].id, again[2007].id)
	require.NotEqual(t, all[2007].id, c.draw(s, nil, 2)[2007].id)
	require.False(t, slices.ContainsFunc(again, func(t sent) bool { return t.link != nil }))
}

// A contestant decides alike in the service, which is configured by the environment, and in the simulator.
func TestContestantsAreTheSameInBoth(t *testing.T) {
	for _, name := range []string{"greedy", "article", "random", "cost", "defer"} {
		env, err := configured(name)
		require.NoError(t, err)
		c := config.Default()
		_, err = config.ApplyEnv(&c, func(key string) (string, bool) {
			for _, one := range env {
				if value, ok := strings.CutPrefix(one, key+"="); ok {
					return value, true
				}
			}
			return "", false
		})
		require.NoError(t, err)
		c.Writable.Policy.RandomSeed = 7
		want, err := policy.New(c.Writable.Policy.Default, c.Writable.Policy)
		require.NoError(t, err)
		got, err := simulated(name, 7_000_000_007)
		require.NoError(t, err)
		require.Equal(t, want.String(), got.String(), name)
		if name == "random" {
			for range 100 {
				require.Equal(t, want.Decide(&task.Task{}, &score.Estimate{}, &host.State{}), got.Decide(&task.Task{}, &score.Estimate{}, &host.State{}))
			}
		}
	}
	_, err := configured("luck")
	require.Error(t, err)
	_, err = simulated("luck", 1)
	require.Error(t, err)
}
