package wait

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
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

// Tasks that are dispatched count as load for the rest of their turn: their bytes for the link, their work for the operators that share it.
func TestDispatchedTasksAreLoad(t *testing.T) {
	w := newWorld(t, 1, false)
	turn := w.Turn(w.Rules(), &host.State{Link: host.Link{Up: true}})
	for n, target := range []decision.Target{decision.Cloud, decision.Local, decision.Cloud, decision.Local} {
		one := &task.Task{EventID: fmt.Sprint(n), Of: 1, Class: w.Rules().Class("default"), Data: make([]byte, 100)}
		turn.busy.Link.BacklogBytes, turn.busy.QueueCycles = 0, 0 // so that none waits
		require.False(t, turn.Waits(&decide.Case{Task: one, Decision: decision.Decision{Target: target}, Estimate: score.Estimate{Cycles: 10}}))
		if target == decision.Cloud {
			require.EqualValues(t, 100, turn.busy.Link.BacklogBytes)
			require.EqualValues(t, n/2+1, turn.busy.Link.BacklogTasks)
		} else {
			require.InDelta(t, 5, turn.busy.QueueCycles, 0, "two operators share it")
			require.Equal(t, n/2+1, turn.busy.QueueTasks)
		}
	}
}

// A device has tasks that wait for room as long as one of them does.
func TestQueuesCountByDevice(t *testing.T) {
	var q queues
	require.False(t, q.any("a"))
	q.add("a", 1)
	q.add("a", 1)
	q.add("b", 1)
	q.add("a", -1)
	require.True(t, q.any("a"))
	q.add("a", -1)
	require.False(t, q.any("a"))
	require.True(t, q.any("b"))
	require.Len(t, q.of, 1, "nothing is kept of a device without any")
}

// A place is taken up to the last task, the last byte, and the last byte of the spool.
func TestPlacesAreTakenToTheLast(t *testing.T) {
	one := func(size int) *decide.Case {
		return &decide.Case{Task: &task.Task{EventID: "e", Of: 1, Class: &task.Class{Name: "c"}, Data: make([]byte, size)}}
	}
	for name, c := range map[string]struct {
		room policy.Room
		most int64
		want int
	}{
		"tasks": {policy.Room{Tasks: 3, Bytes: 1 << 20}, 1 << 20, 3}, "bytes": {policy.Room{Tasks: 99, Bytes: 300}, 1 << 20, 3},
		"a byte less": {policy.Room{Tasks: 99, Bytes: 299}, 1 << 20, 2}, "the spool": {policy.Room{Tasks: 99, Bytes: 1 << 20}, 3 * recordSize(100), 3},
		"a byte less of it": {policy.Room{Tasks: 99, Bytes: 1 << 20}, 3*recordSize(100) - 1, 2},
	} {
		m, n := New(Deps{Most: c.most, Order: noOrder{}}), 0
		for m.take(c.room, one(100)) {
			n++
		}
		require.Equal(t, c.want, n, name)
		m.Leave(one(100))
		require.True(t, m.take(c.room, one(100)), name)
		require.False(t, m.take(c.room, one(100)), name)
	}
}
