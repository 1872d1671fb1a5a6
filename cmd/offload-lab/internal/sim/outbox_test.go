package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/batch"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// posting is a gateway with batching, with tasks for the cloud on a link of 100 kB/s and 40 ms.
func posting(t *testing.T) (*Env, *Episode) {
	t.Helper()
	c, shipped := DefaultConfig(), batch.DefaultConfig()
	c.Batch, c.HeaderBytes, c.Overhead, c.CloudMcycles = &shipped, 100, 0, 1e9
	c.Mix = []Kind{{Name: "all", Share: 1, Bytes: [2]float64{3000, 60_000}, Mcycles: [2]float64{1, 1}}}
	small := func(at float64) Job {
		return Job{At: at, Bytes: 1000, Record: 3000, Mcycles: 1, Deadline: 1, RTT: 0.04}
	}
	large := func(at float64) Job {
		return Job{At: at, Bytes: 20_000, Record: 60_000, Mcycles: 1, Deadline: 1, RTT: 0.04}
	}
	e, err := Bench(&c, []Job{small(1), small(5), small(5.1), large(10), small(15), large(20), large(20.01), small(20.02), large(20.03)}, 1000, 1e5, 0.04, [2]float64{})
	require.NoError(t, err)
	e.Before = []Message{{20_100, 60_000}, {20_100, 60_000}}
	env, err := NewEnv(&World{Config: c})
	require.NoError(t, err)
	return env, e
}

// Small records wait for a larger batch and arrive together; large ones, and parked ones, are sent immediately if the link has room.
func TestMessagesByHand(t *testing.T) {
	env, e := posting(t)
	given := make([]Given, len(e.Jobs))
	for i := range given {
		given[i] = Given{Job: i, At: e.Jobs[i].At, Cloud: true, Waits: i == 4}
	}
	done := map[int]float64{}
	Replay(env, e, given, func(i Info) {
		require.InDelta(t, e.Jobs[i.Job].At+i.Took, i.Done, 1e-9)
		done[i.Job] = i.Done
	})
	for i, want := range []float64{
		1.2 + 0.011 + 0.04, // alone, after 200 ms
		5.2 + 0.021 + 0.04, // two of one message, by the age of the first
		5.2 + 0.021 + 0.04,
		10 + 0.201 + 0.04,
		15 + 0.011 + 0.04,
		20 + 0.201 + 0.04,
		20 + 0.402 + 0.04, // as soon as the one before has left
		20 + 0.413 + 0.04, // with the last one it is large on average, and does not fit a batch with it
		20 + 0.614 + 0.04,
	} {
		require.InDelta(t, want, done[i], 2e-3, "task %d", i)
	}

	env.episode.Config.TrailBytes = 1000 // 10 ms on the link, once a record is received
	Replay(env, e, given, func(i Info) {
		late := map[int]float64{7: 0.01, 8: 0.01}[i.Job] // behind that of task 5
		require.InDelta(t, done[i.Job]+late, i.Done, 2e-3, "task %d", i.Job)
	})
	env.episode.Config.TrailBytes = 0

	cloud, err := policy.New("cloud", policy.DefaultConfig())
	require.NoError(t, err)
	Play(env, e, cloud, func(_ *Situation, _ decision.Decision, i Info) {
		if i.Job != 4 {
			require.InDelta(t, done[i.Job], i.Done, 1e-9, "task %d", i.Job)
		}
	})
}

// Each task is done once under every policy, and not before it can be, also with an interrupted link.
func TestMessagesCarryEachTaskOnce(t *testing.T) {
	for _, name := range []string{"defer", "cost", "bandit"} {
		c, shipped := DefaultConfig(), batch.DefaultConfig()
		c.Batch, c.Trouble = &shipped, Trouble{Outages: 2, Outage: [2]float64{20, 40}}
		w, err := NewWorld(c, trace.Synthetic(7, 12, 4, 4))
		require.NoError(t, err)
		e := w.Draw(3)
		infos, _, _ := lived(t, w, e, name)
		eachOnce(t, e, infos)
		again, _, _ := lived(t, w, e, name)
		require.Equal(t, infos, again, name)
	}
}
