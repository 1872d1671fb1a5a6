package feedback

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// State that one policy rejects does not affect the others.
func TestForeignPolicyStateHarmsOnlyItself(t *testing.T) {
	f := open(t)
	for _, class := range []*task.Class{nil, f.rules().Class("default")} {
		f.Observe(&task.Task{Class: class, Of: 1, Nominal: 100, Complexity: 20}, 2)
	}
	raw, err := f.learned.encode()
	require.NoError(t, err)
	var state learnedState
	require.NoError(t, unseal(raw, &state))
	state.Policies["bandit"] = []byte(`{"policy":"bandit","version":99}`)
	other := open(t)
	require.ErrorContains(t, other.learned.restore(&state), "version 99")
	want, _ := f.rules().Model.Correction(f.rules().Class("default"))
	have, _ := other.rules().Model.Correction(other.rules().Class("default"))
	require.Greater(t, want, 1.1)
	require.InEpsilon(t, want, have, 1e-9)
}

// The learned state of a service restores another policy of the same kind, and no other.
func TestTeachTakesTheServicesFile(t *testing.T) {
	made := func(name string) policy.Policy {
		p, err := policy.New(name, policy.DefaultConfig())
		require.NoError(t, err)
		return p
	}
	f, fresh := open(t), made("bandit").(policy.Learner)
	f.Observe(&task.Task{Class: f.rules().Class("default"), Of: 1, Nominal: 100, Complexity: 20}, 2)
	for _, l := range f.rules().Learners() {
		l.Observe(&decision.Entry{Estimate: score.Estimate{LocalTime: 1, CloudTime: 2}, Outcome: decision.Outcome{Known: true, Time: 3}})
	}
	file, err := f.learned.encode()
	require.NoError(t, err)
	require.NoError(t, Teach(fresh, file))
	local, _ := fresh.Outcomes()
	require.EqualValues(t, 1, local)
	require.ErrorContains(t, Teach(made("cost"), file), "does not learn")
	require.ErrorContains(t, Teach(fresh, []byte("{}")), "format")
	require.ErrorContains(t, Teach(fresh, bytes.Replace(file, []byte(`"Count":1`), []byte(`"Count":2`), 1)), "checksum")
}

// Learned state is not combined with that of other nodes if a restart has changed the predictions.
func TestStatisticsBeginAnewUnderAnotherLayout(t *testing.T) {
	f := open(t)
	for range 30 {
		f.Observe(&task.Task{Class: f.rules().Class("default"), Of: 1, Nominal: 100, Complexity: 20}, 2)
	}
	raw, err := f.learned.encode()
	require.NoError(t, err)
	for _, layout := range []string{"", f.rules().PoolLayout()} {
		var state learnedState
		require.NoError(t, unseal(raw, &state))
		if layout == "" {
			state.Layout = ""
		}
		again := open(t)
		require.NoError(t, again.learned.restore(&state))
		require.Equal(t, layout == "", len(again.rules().Model.Statistics(1)) == 0)
	}
}
