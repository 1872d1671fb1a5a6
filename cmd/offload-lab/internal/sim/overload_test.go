package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/task"
)

// If more work arrives than node and link can do, queues grow without bound under every policy, unless classes are shed: then tasks of low value are
// dropped first, and most of the others are in time. A policy that reorders parked tasks loses no more.
func TestClassesThatGiveWayKeepTheQueuesShort(t *testing.T) {
	lost := map[string]float64{} // value
	for _, name := range []string{"defer", "cost"} {
		kept := giveWay(t, name, "")
		require.Zero(t, kept.gone[2]+kept.gone[8]+float64(kept.reduced))
		require.Greater(t, kept.last, 20.0, "%s: the world is overloaded", name)
		for _, how := range []string{task.OverloadDrop, task.OverloadExpire, task.OverloadReduce} {
			o := giveWay(t, name, how)
			require.Less(t, o.last, 12.0, "%s %s", name, how)
			require.Equal(t, how == task.OverloadReduce, o.reduced > 0)
			if how == task.OverloadDrop {
				require.Greater(t, o.gone[2], o.gone[5], "%s: images go first", name)
				require.Greater(t, o.gone[5], o.gone[8], "%s: telemetry goes last", name)
			}
			lost[name+" "+how] = 2*0.25*o.gone[2] + 5*0.3*o.gone[5] + 8*0.45*o.gone[8]
		}
	}
	for _, how := range []string{task.OverloadDrop, task.OverloadExpire, task.OverloadReduce} {
		require.Less(t, lost["defer "+how], lost["cost "+how], how)
	}
}

// shedding is the result of an overloaded episode.
type shedding struct {
	gone    map[int]float64 // share of the tasks of a value
	reduced int
	last    float64 // mean time of the last quarter of the tasks, s, without those that are gone
}

func giveWay(t *testing.T, name, how string) shedding {
	c, err := ScenarioOf("shed")
	require.NoError(t, err)
	c.Tasks, c.Overload = 1500, how
	w, err := NewWorld(c, steady(0.5, 80, 0.02))
	require.NoError(t, err)
	p, err := policy.New(name, policy.DefaultConfig())
	require.NoError(t, err)
	e, seen, all, o, done := w.Draw(1), map[int]bool{}, map[int]float64{}, shedding{gone: map[int]float64{}}, 0.0
	Play(env(t, w), e, p, func(_ *Situation, d decision.Decision, info Info) {
		require.False(t, seen[info.Job], "task %d came twice", info.Job)
		seen[info.Job] = true
		value := c.Mix[e.Jobs[info.Job].Kind].Value
		all[value]++
		if info.Gone {
			o.gone[value]++
			require.Contains(t, []decision.Reason{decision.TooLate, decision.Overload}, d.Reason)
			require.InDelta(t, 4, info.Cost, 1e-9)
		} else if info.Job >= c.Tasks*3/4 {
			o.last, done = o.last+info.Took, done+1
		}
		if info.Reduced {
			o.reduced++
			require.Equal(t, decision.Reduced, d.Reason)
			require.False(t, info.Cloud)
		}
	})
	require.Len(t, seen, c.Tasks)
	for value := range all {
		o.gone[value] /= all[value]
	}
	o.last /= done
	t.Logf("%s %q: gone %v, %d reduced, the last take %.1f s", name, how, o.gone, o.reduced, o.last)
	return o
}
