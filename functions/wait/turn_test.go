package wait

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/task"
)

// runners is a room with a number of workers for models.
type runners struct {
	Local
	n int
}

func (r runners) Workers() int { return r.n }

// Runs of models that a turn has dispatched wait for each other only as far as the workers do not share them.
func TestDispatchedRunsAreSharedAmongTheWorkers(t *testing.T) {
	for _, one := range []struct {
		workers int
		before  float64
		want    []float64 // s of wait after each dispatched run of 2 s
	}{
		{1, 0, []float64{2, 4, 6}},
		{2, 0, []float64{0, 2, 3, 4}}, // one worker is free after the first
		{4, 0, []float64{0, 0, 0, 2, 2.5}},
		{2, 3, []float64{4, 5, 6}}, // both were busy before
	} {
		turn := &Turn{pool: &Pool{Deps: Deps{Local: runners{n: one.workers}}}, busy: host.State{ModelSeconds: one.before}}
		if one.before > 0 {
			turn.busy.ModelTasks = one.workers
		}
		for i, want := range one.want {
			turn.run(2)
			require.InDelta(t, want, turn.busy.ModelSeconds, 1e-9, "%d workers, run %d", one.workers, i+1)
		}
	}
}

// InOrder is false of all operators.
func (runners) InOrder(*task.Task) bool { return false }

// What overload has said of a task holds, also when it was parked only to keep the order.
func TestOverloadSettlesWhereATaskGoes(t *testing.T) {
	for _, why := range []decision.Reason{decision.Reduced, decision.Rerouted} {
		require.True(t, (&parked{Case: decide.Case{Decision: decision.Decision{Reason: why}}}).settled())
	}
	require.False(t, (&parked{Case: decide.Case{Decision: decision.Decision{Reason: decision.CheaperCloud}}}).settled())
}

// Where a parked task goes that only waits for those before it is decided when it is taken out: it may be the cloud, so it must not be taken out of order.
func TestATaskThatOnlyWaitsForOthersIsTakenInOrder(t *testing.T) {
	pool := &Pool{Deps: Deps{Local: runners{}}}
	require.True(t, pool.asHeld(&parked{fixed: true}).InOrder)
	require.False(t, pool.asHeld(&parked{}).InOrder)
}
