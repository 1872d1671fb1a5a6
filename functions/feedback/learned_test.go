package feedback

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// A state that one policy refuses does not keep the others from theirs.
func TestForeignPolicyStateHarmsOnlyItself(t *testing.T) {
	f := open(t)
	f.Observe(&task.Task{Class: f.rules().Class("default"), Of: 1, Nominal: 100, Complexity: 20}, 2)
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
