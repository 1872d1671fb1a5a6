package wait

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// runners is a room with a number of workers for models.
type runners struct {
	Local
	n int
}

func (r runners) Workers() int { return r.n }

// Dispatched runs of models wait for each other only as far as the workers do not share them.
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
		{0, 0, []float64{2, 4, 6}}, // models that are not served yet
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

// InOrder is false for all operators.
func (runners) InOrder(*task.Task) bool { return false }

// A verdict of overload on a task holds, also if it was parked only to keep the order.
func TestOverloadSettlesWhereATaskGoes(t *testing.T) {
	for _, why := range []decision.Reason{decision.Reduced, decision.Rerouted} {
		require.True(t, (&parked{Case: decide.Case{Decision: decision.Decision{Reason: why}}}).settled())
	}
	require.False(t, (&parked{Case: decide.Case{Decision: decision.Decision{Reason: decision.CheaperCloud}}}).settled())
}

// The target of a parked task that only waits for earlier ones is decided when it is taken out: it may be the cloud, so it must not be taken out of
// order.
func TestATaskThatOnlyWaitsForOthersIsTakenInOrder(t *testing.T) {
	pool := &Pool{Deps: Deps{Local: runners{}}}
	require.True(t, pool.asHeld(&parked{fixed: true}).InOrder)
	require.False(t, pool.asHeld(&parked{}).InOrder)
}

// Dispatched tasks count as load for the rest of their turn: their bytes for the link, their work for the operators that share it.
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

// A device has waiting tasks as long as one of them waits for room.
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

// A place can be taken up to the last task, the last byte, and the last byte of the spool.
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

// A record contains the task's data, its encoding, and the spool's overhead.
func TestTheRecordOfATask(t *testing.T) {
	require.EqualValues(t, 100+taskOverhead+recordHeader, recordSize(100))
}

// A task that only waits for earlier ones is decided when it is taken out, unless overload has decided its path.
func TestWhereATaskGoesThatOnlyWaited(t *testing.T) {
	for why, anew := range map[decision.Reason]bool{decision.Reduced: false, decision.Fixed: true} {
		w := newWorld(t, 1, true)
		w.Pool.rules = w.rules
		w.Look(&w.Pool.state)
		one := &one{Task: &task.Task{EventID: "e1", Device: "b", Of: 1, Class: w.rules.Class("default"), Complexity: 20, Received: w.Pool.state.Time, Data: make([]byte, 100)}, n: 1, seq: 1, place: true}
		w.at["e1"] = one
		j := &parked{Case: decide.Case{Task: one.Task, ID: 1, Decision: decision.Decision{Target: decision.Cloud, Reason: why, Propensity: 0.25}, Policy: "defer"}, seq: 1, fixed: true}
		require.True(t, w.waiting.Add(w.asHeld(j), w.rules.Binder().Room()))
		w.bindSome(t.Context())
		require.Equal(t, 1, one.bound)
		require.Equal(t, anew, j.Decision.Propensity != 0.25, "%v became %v", why, j.Decision)
	}
}

// A stop before any other event sends the arrivals, by the rules then in force. That is not a policy's choice.
func TestAStopBeforeTheFirstLook(t *testing.T) {
	w := newWorld(t, 1, false)
	one := &one{Task: &task.Task{EventID: "e1", Device: "b", Of: 1, Class: w.rules.Class("default"), Data: make([]byte, 100)}, n: 1, seq: 1, place: true}
	w.at["e1"] = one
	c := decide.Case{Task: one.Task, ID: 1}
	require.True(t, w.Pool.take(w.Rules().Binder().Room(), &c))
	w.Enter(w.Rules(), &c, &host.State{}, &spool.Record{Seq: 1, Payload: make([]byte, 400)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.sendAll(ctx)
	require.Equal(t, "released", one.ended)
	require.Equal(t, decision.Decision{Target: decision.Cloud, Score: 1, Propensity: 1, Reason: decision.LetGo}, atStop())
}

// before reports for every task what the order has before it.
type before struct{ parked, waits, here bool }

func (b before) Ahead(*task.Task) (parked, waits, here bool) { return b.parked, b.waits, b.here }
func (before) Unpark(*task.Task)                             {}

// If order is kept, a task is parked behind a parked one, unless it is processed locally in any order, or must not leave. It is never parked behind a
// task without a record, whether of this turn or of an earlier one.
func TestWhatIsParkedToKeepTheOrder(t *testing.T) {
	for name, c := range map[string]struct {
		order  before
		device string // a needs the order
		target decision.Target
		stays  bool
		turn   map[bool]bool // of its stream, in this turn: parked, or held in memory
		want   bool
	}{
		"none before":                        {before{}, "b", decision.Cloud, false, nil, false},
		"one is parked":                      {before{parked: true}, "b", decision.Cloud, false, nil, true},
		"one is parked, in any order here":   {before{parked: true}, "b", decision.Local, false, nil, false},
		"one is parked, in order here":       {before{parked: true}, "a", decision.Local, false, nil, true},
		"none before, in order here":         {before{}, "a", decision.Local, false, nil, false},
		"one waits in memory":                {before{waits: true}, "a", decision.Cloud, false, nil, false},
		"both":                               {before{parked: true, waits: true}, "a", decision.Cloud, false, nil, false},
		"it must not leave":                  {before{parked: true}, "a", decision.Local, true, nil, false},
		"parked in this turn":                {before{}, "b", decision.Cloud, false, map[bool]bool{true: true}, true},
		"in memory in this turn":             {before{parked: true}, "b", decision.Cloud, false, map[bool]bool{true: false}, false},
		"parked in this turn, behind memory": {before{waits: true}, "b", decision.Cloud, false, map[bool]bool{true: true}, false},
	} {
		w := newWorld(t, 1, true)
		w.Pool.Order = c.order
		turn := w.Turn(w.Rules(), &host.State{Link: host.Link{Up: true}})
		class := *w.Rules().Class("default")
		class.NeverLeave = c.stays
		one := &task.Task{EventID: "e", Device: c.device, Of: 1, Class: &class, Data: make([]byte, 100)}
		if parked, known := c.turn[true]; known {
			turn.ahead[streamOf(one)] = parked
		}
		require.Equal(t, c.want, turn.wants(&decide.Case{Task: one, Decision: decision.Decision{Target: c.target}, Estimate: score.Estimate{Cycles: 10}}), name)
	}
}

// A task that becomes durable after the pool was shut goes to the cloud: its record and its place are released, and the decision is recorded.
func TestWhatComesAfterTheShutIsSent(t *testing.T) {
	w := newWorld(t, 1, false)
	late := &task.Task{EventID: "e1", Device: "a", Of: 1, Class: w.Rules().Class("default"), Data: make([]byte, 100)}
	w.at["e1"] = &one{Task: late, n: 1, seq: 7, place: true}
	c := decide.Case{Task: late, ID: 1, Estimate: score.Estimate{Cycles: 10}}
	require.True(t, w.Pool.take(w.Rules().Binder().Room(), &c))
	w.arrivals(true)
	w.Enter(w.Rules(), &c, &host.State{}, &spool.Record{Seq: 7, Payload: make([]byte, 400)})
	require.Equal(t, [2]any{"released", 1}, [2]any{w.at["e1"].ended, w.at["e1"].bound})
	require.False(t, w.at["e1"].place)
	require.Zero(t, w.Status().Tasks)
	require.Zero(t, w.Reserved())
	records, bytes := w.Held()
	require.Zero(t, records+bytes)
}

// door is local workers that accept offers while they are open, and process the rest when told to.
type door struct {
	Local
	open     bool
	offered  []string
	released chan struct{}
	ran      chan string
}

func (d *door) Offer(item local.Item, _ func(int, error)) bool {
	if d.open {
		d.offered = append(d.offered, item.Task.EventID)
	}
	return d.open
}

func (d *door) Process(_ context.Context, items []local.Item, _ func(int, error)) {
	<-d.released
	d.ran <- items[0].Task.EventID
}

// A task does not overtake one of its device that waits for room at the local workers; those of other devices do, and so do later ones once it is
// processed.
func TestTasksForTheNodeKeepTheirOrder(t *testing.T) {
	d := &door{released: make(chan struct{}), ran: make(chan string)}
	pool := New(Deps{Local: d, Order: noOrder{}})
	move := func(id, device string) {
		pool.move(t.Context(), &parked{Case: decide.Case{Task: &task.Task{EventID: id, Device: device, Class: &task.Class{Name: "c"}}}})
	}
	move("a1", "a")
	d.open = true
	move("a2", "a")
	move("b1", "b")
	require.Equal(t, []string{"b1"}, d.offered)
	for _, want := range []string{"a1", "a2"} {
		d.released <- struct{}{}
		require.Equal(t, want, <-d.ran)
	}
	pool.moving.Wait()
	move("a3", "a")
	require.Equal(t, []string{"b1", "a3"}, d.offered)
}

// A task dispatched because it has waited longest goes where the guards say.
func TestTheLongestWaitEndsBelowTheGuards(t *testing.T) {
	for _, full := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, false)
			w.room = 100
			w.state.QueueCycles, w.state.Link.BacklogBytes = 1e6, 1e9 // nothing is free
			shut := w.Open()
			for range 8 {
				w.arrive(1, true)
			}
			if full {
				w.mu.Lock()
				w.state.Link.BacklogShare = 1
				w.mu.Unlock()
			}
			time.Sleep(11 * time.Second)
			synctest.Wait()
			seen := 0
			for _, o := range w.at {
				if o.seq != 0 && o.Class.Name != "expiring" {
					require.Equal(t, full, o.here, "a spool that is full keeps it local")
					require.Equal(t, !full, o.ended == "released")
					seen++
				}
			}
			require.Positive(t, seen)
			for w.finish(nil) {
				synctest.Wait()
			}
			require.NoError(t, shut(t.Context()))
		})
	}
}

// A review lets a task wait on if its target is busy, or if it must not overtake a parked one of its stream, and otherwise dispatches it.
func TestWhatAReviewLetsWait(t *testing.T) {
	released := 0
	for name, c := range map[string]struct {
		busy   bool
		before bool   // one of its stream waits
		device string // a needs the order at the node
		why    decision.Reason
		target decision.Target
		stays  bool
	}{
		"its target is busy":                        {true, false, "b", decision.CheaperCloud, decision.Cloud, true},
		"its target is free":                        {false, false, "b", decision.CheaperCloud, decision.Cloud, false},
		"for the cloud, behind none":                {false, false, "b", decision.Reduced, decision.Cloud, false},
		"for the cloud, behind another":             {false, true, "b", decision.Reduced, decision.Cloud, true},
		"for the node in order, behind another":     {false, true, "a", decision.Reduced, decision.Local, true},
		"for the node in any order, behind another": {false, true, "b", decision.Reduced, decision.Local, false},
		"for the node in order, behind none":        {false, false, "a", decision.Reduced, decision.Local, false},
	} {
		w := newWorld(t, 1, true)
		w.Pool.rules = w.rules
		w.mu.Lock()
		if w.state.Link.Goodput = 1e9; c.busy {
			w.state.QueueCycles, w.state.Link.BacklogBytes = 1e6, 1e15
		}
		w.mu.Unlock()
		w.Look(&w.Pool.state)
		of := func(n uint64) *parked {
			one := &one{Task: &task.Task{EventID: fmt.Sprint("e", n), Device: c.device, Of: 1, Class: w.rules.Class("default"), Complexity: 20, Received: w.Pool.state.Time, Data: make([]byte, 100)}, n: int(n), seq: n, place: true}
			w.at[one.EventID] = one
			d := decision.Decision{Target: c.target, Reason: c.why, Propensity: 1}
			return &parked{Case: decide.Case{Task: one.Task, ID: n, Decision: d, Estimate: score.Estimate{Cycles: 1}, Policy: "defer"}, seq: n}
		}
		want := 0
		if c.before {
			want = 1
			require.True(t, w.waiting.Add(w.asHeld(of(1)), w.rules.Binder().Room()))
		}
		if c.stays {
			want++
		}
		w.reconsider(t.Context(), of(2))
		require.Equal(t, want, w.waiting.Len(), name)
		require.Equal(t, c.stays, w.at["e2"].bound == 0, name)
		if w.at["e2"].ended == "released" {
			released++
			require.Equal(t, 1, w.at["e2"].counted, "%s: overload counts what leaves", name)
		}
	}
	require.Positive(t, released)
}

// An arrival of the class under which it was decided, while the link is up, waits as decided. All others are decided again.
func TestWhatIsDecidedAnewAsItComes(t *testing.T) {
	for name, c := range map[string]struct{ up, changed, anew bool }{
		"as before": {true, false, false}, "no link": {false, false, true}, "another class": {true, true, true}, "both": {false, true, true},
	} {
		w := newWorld(t, 1, true)
		w.Pool.rules = w.rules
		w.mu.Lock()
		w.state.QueueCycles, w.state.Link.Up, w.state.Link.BacklogBytes = 1e6, c.up, 1e15 // it waits in any case
		w.mu.Unlock()
		w.Look(&w.Pool.state)
		class := w.rules.Class("default")
		if c.changed {
			own := *class
			class = &own
		}
		one := &one{Task: &task.Task{EventID: "e1", Device: "b", Of: 1, Class: class, Complexity: 20, Received: w.Pool.state.Time, Data: make([]byte, 100)}, n: 1, seq: 1, place: true}
		w.at["e1"] = one
		j := &parked{Case: decide.Case{Task: one.Task, ID: 1, Estimate: score.Estimate{Cycles: 7}, Policy: "defer"}, seq: 1}
		w.arrived = []*parked{j}
		w.welcome(t.Context())
		require.Equal(t, c.anew, j.Estimate.Cycles != 7, name)
		require.Same(t, w.rules.Class("default"), j.Task.Class, name)
	}
}

// crowd is local workers that accept no tasks.
type crowd struct {
	Local
	operators, models bool
}

func (c crowd) Full() bool       { return c.operators }
func (c crowd) ModelsFull() bool { return c.models }

// Workers that accept no tasks count as busy, and as no less busy than they are.
func TestFullWorkersCountAsBusy(t *testing.T) {
	for name, c := range map[string]struct {
		full            crowd
		before          float64 // of the models, s
		operators, want float64 // the waits, s
	}{
		"neither":               {crowd{}, 0.5, 0, 0.5},
		"operators":             {crowd{operators: true}, 0.5, 2, 0.5},
		"models":                {crowd{models: true}, 0.5, 0, 2},
		"models with long runs": {crowd{models: true}, 9, 0, 9},
	} {
		m, err := score.New(score.DefaultConfig())
		require.NoError(t, err)
		pool := New(Deps{Local: c.full, Look: func(s *host.State) { *s = host.State{Cores: 1, ModelSeconds: c.before} }})
		pool.rules = &decide.Rules{Model: m}
		pool.look(1)
		require.InDelta(t, c.operators, m.EstimateWork(nil, 0, 0, &pool.state).LocalTime, 1e-9, name)
		require.InDelta(t, c.want, pool.state.ModelSeconds, 0, name)
	}
}

// A task for the cloud behind local work of its stream is held in memory, so later ones in the turn are not parked.
func TestWhatIsHeldBehindLocalWork(t *testing.T) {
	for name, c := range map[string]struct {
		targets []decision.Target
		here    bool // work of an earlier turn
		held    bool
	}{
		"local work of this turn":    {[]decision.Target{decision.Local, decision.Cloud}, false, true},
		"local work of an earlier":   {[]decision.Target{decision.Cloud}, true, true},
		"none":                       {[]decision.Target{decision.Cloud, decision.Cloud}, false, false},
		"local work, and no other":   {[]decision.Target{decision.Local}, false, false},
		"local work of another turn": {[]decision.Target{decision.Local}, true, false},
	} {
		w := newWorld(t, 1, true)
		w.Pool.Order = before{here: c.here}
		turn := w.Turn(w.Rules(), &host.State{Link: host.Link{Up: true}})
		one := &task.Task{EventID: "e", Device: "b", Of: 1, Class: w.Rules().Class("default"), Data: make([]byte, 100)}
		for _, target := range c.targets {
			turn.busy = host.State{Link: host.Link{Up: true}} // so that none waits
			require.False(t, turn.Waits(&decide.Case{Task: one, Decision: decision.Decision{Target: target}}), name)
		}
		parked, known := turn.ahead[streamOf(one)]
		require.Equal(t, c.held, known && !parked, name)
	}
}

// The outcomes of local work on a parked task: it is done, it is sent after all, or, if it must not leave, it is dropped or stays held.
func TestWhatComesOfLocalWork(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		err      error
		stays    bool
		ended    string
		outcomes int
		amended  int
	}{
		"done": {nil, false, spool.ReasonHere, 1, 0}, "failed": {broken, false, "released", 0, 1},
		"closed": {fmt.Errorf("x: %w", local.ErrClosed), false, "released", 0, 1}, "full": {fmt.Errorf("x: %w", local.ErrFull), false, "released", 0, 1},
		"done, must not leave": {nil, true, spool.ReasonHere, 1, 0}, "failed, must not leave": {broken, true, "failed", 1, 0},
		"closed, must not leave": {local.ErrClosed, true, "", 0, 0}, "full, must not leave": {local.ErrFull, true, "", 0, 0},
	} {
		w := newWorld(t, 1, false)
		w.rules = rulesFor(t, false, c.stays, nil)
		one := &one{Task: &task.Task{EventID: "e1", Device: "a", Of: 1, Class: w.rules.Class("stays"), Data: make([]byte, 100)}, n: 1, seq: 7, here: true}
		w.at["e1"] = one
		w.boundHere(&parked{Case: decide.Case{Task: one.Task, ID: 1}, seq: 7}, c.err)
		require.Equal(t, [3]any{c.ended, c.outcomes, c.amended}, [3]any{one.ended, one.outcomes, one.amended}, name)
		records, _ := w.Held()
		require.Equal(t, c.ended != "", records == -1, "%s: the spool's room is released with the record", name)
	}
}
