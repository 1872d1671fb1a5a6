package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// The lab decides as the service: in each situation of an episode with outages, the service's rules give the same decision, and guards decide some of
// them.
func TestTheLabDecidesAsTheService(t *testing.T) {
	c, err := ScenarioOf("outages")
	require.NoError(t, err)
	c.Tasks = 200
	w, err := NewWorld(c, trace.Synthetic(3, 4, 3, 2))
	require.NoError(t, err)
	env, err := NewEnv(w)
	require.NoError(t, err)
	for _, name := range []string{"weighted", "deadline", "cost", "ppo", "edge", "cloud"} {
		config := policy.DefaultConfig()
		config.Default, config.PPOWeights = name, "../../../../res/policies/ppo.json"
		service, err := decide.NewDecider(config)
		require.NoError(t, err)
		p, err := policy.New(name, config)
		require.NoError(t, err)
		guarded := 0
		Play(env, w.Draw(5), p, func(s *Situation, d decision.Decision, _ Info) {
			want, by := service.Decide(&s.Task, &s.Estimate, &s.State)
			require.Equal(t, name, by)
			require.Equal(t, want, d)
			if d.Reason == decision.GuardLinkDown {
				guarded++
			}
		})
		require.Positive(t, guarded, name)
	}
}

// While the link is down, tasks kept by a guard are parked for the node: they are not in its queue, and may be sent when the link returns.
func TestGuardedTasksAreParked(t *testing.T) {
	c, err := ScenarioOf("outages")
	require.NoError(t, err)
	w, err := NewWorld(c, trace.Synthetic(3, 4, 3, 2))
	require.NoError(t, err)
	env, err := NewEnv(w)
	require.NoError(t, err)
	p, err := policy.New("defer", policy.DefaultConfig())
	require.NoError(t, err)
	reasons, queued, jobs := map[decision.Reason]int{}, 0, map[int]bool{}
	Play(env, w.Draw(5), p, func(s *Situation, d decision.Decision, info Info) {
		require.False(t, jobs[info.Job], "job %d was done before", info.Job)
		jobs[info.Job] = true
		if reasons[d.Reason]++; !s.State.Link.Up {
			queued = max(queued, s.State.QueueTasks)
			require.True(t, d.Target == decision.Local || d.Reason == decision.LongestWait, "%v", d.Reason)
		}
	})
	require.Len(t, jobs, c.Tasks)
	require.Positive(t, reasons[decision.BoundLocal])
	require.Positive(t, reasons[decision.GuardLinkDown])
	require.LessOrEqual(t, queued, 2, "those that are bound, not those that wait")
}
