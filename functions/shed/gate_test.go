package shed_test

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/shed"
	"app-offload/functions/task"
)

// node is two servers, each first in, first out, that process the tasks decided by a policy and passed by the gate.
type node struct {
	t       require.TestingT
	policy  policy.Policy
	model   *score.Model
	classes *task.Classes
	gate    shed.Gate
	waiting policy.Waiting
	line    policy.Line

	state   host.State
	scale   float64 // seconds are so much longer
	goodput float64
	done    map[string]int
	gone    map[string]int
	late    float64 // longest wait in a queue, s
}

const (
	edgeRate = 300. // Mcycle/s
	bytes    = 50_000
	cycles   = bytes / 1024. * 0.4 * 50 // of one task, Mcycles
)

func newNode(t require.TestingT, name string, scale float64, classes map[string]task.ClassConfig) *node {
	sc := score.DefaultConfig()
	sc.EdgeMcycles, sc.CloudMcycles, sc.McyclesPerKB, sc.MinEdgeShare, sc.RTT, sc.Overhead, sc.HeaderBytes = edgeRate/scale, 1e9, 0.4, 1, "0s", "0s", 0
	m, err := score.New(sc)
	require.NoError(t, err)
	c := policy.DefaultConfig()
	c.CostMoney, c.PPOWeights = 0, "../../res/policies/ppo.json"
	p, err := policy.New(name, c)
	require.NoError(t, err)
	set, err := task.NewClasses(classes)
	require.NoError(t, err)
	n := &node{t: t, policy: p, model: m, classes: set, scale: scale, done: map[string]int{}, gone: map[string]int{}, goodput: 20_000 / scale}
	n.state = host.State{Time: int64(time.Hour), Cores: 1, Link: host.Link{Up: true, Goodput: n.goodput, RTT: 1e-4 * scale}}
	return n
}

// capacity is the number of tasks that both servers process in a second.
func (n *node) capacity() float64 { return edgeRate/n.scale/cycles + n.goodput/bytes }

// pass lets time pass, in steps that are short beside the time of a task, as a free server that gets its next task only in the next step does less
// than it could.
func (n *node) pass(seconds float64) {
	if _, late := n.policy.(policy.Binder); !late {
		n.step(seconds)
		return
	}
	for range 8 {
		n.step(seconds / 8)
	}
}

func (n *node) step(seconds float64) {
	n.state.Time += int64(seconds * 1e9)
	n.state.QueueCycles = max(n.state.QueueCycles-seconds*edgeRate/n.scale, 0)
	n.state.Link.BacklogBytes = max(n.state.Link.BacklogBytes-int64(seconds*n.goodput), 0)
	b, ok := n.policy.(policy.Binder)
	for ok {
		n.waiting.Without(func(t *task.Task) bool {
			if n.gate.Hopeless(n.model, t, &n.state) {
				n.gone[t.Class.Name]++
				n.line.Remove(n.place(t))
				return true
			}
			return false
		})
		h, d, e, bound := n.waiting.Next(b, n.model, &n.state)
		if !bound {
			return
		}
		n.line.Remove(n.place(h.Task))
		n.serve(h.Task, d, &e)
	}
}

func (n *node) place(t *task.Task) policy.Portion {
	return n.line.Portion(t, n.model.Estimate(t, &n.state).Cycles)
}

func (n *node) serve(t *task.Task, d decision.Decision, e *score.Estimate) {
	n.done[t.Class.Name]++
	if d.Target == decision.Cloud {
		n.state.Link.BacklogBytes += int64(t.Size())
	} else {
		n.state.QueueCycles += e.Cycles
	}
	n.late = max(n.late, n.state.QueueCycles/(edgeRate/n.scale), float64(n.state.Link.BacklogBytes)/n.goodput)
}

// offer adds one task of a class.
func (n *node) offer(class string) {
	t := &task.Task{Of: 1, Device: "d", Data: make([]byte, bytes), Complexity: 50, Received: n.state.Time}
	for _, c := range n.classes.All() {
		if c.Name == class {
			t.Class, t.Deadline = c, c.Deadline
		}
	}
	e := n.model.Estimate(t, &n.state)
	d := n.policy.Decide(t, &e, &n.state)
	if turn := n.gate.Turn(n.classes, n.model, &n.state, shed.Servers{Operators: 1, Models: 1}); turn != nil {
		b, late := n.policy.(policy.Binder)
		if late && n.waiting.Len() == 0 {
			n.line = b.Room().Line()
		}
		turn.Line = n.line.Clone()
		switch turn.Judge(t, &d, late, func(*task.Class) bool { return true }) {
		case shed.Keep:
		case shed.Other:
			d.Target, d.Reason = decision.Cloud-d.Target, decision.Rerouted
		case shed.Reduce:
			n.gone[class+" reduced"]++
			e.Cycles /= 20
			n.serve(t, decision.Decision{}, &e)
			return
		default:
			n.gone[class]++
			return
		}
	}
	if b, ok := n.policy.(policy.Binder); ok && b.Waits(t, &e, &n.state, &d) && n.waiting.Add(policy.Held{Task: t}, b.Room()) {
		n.line.Add(n.place(t))
		return
	}
	n.serve(t, d, &e)
}

// run offers tasks of the classes in turn, at a multiple of the capacity.
func (n *node) run(load float64, tasks int, classes ...string) {
	for i := range tasks {
		n.offer(classes[i%len(classes)])
		n.pass(1 / (load * n.capacity()))
	}
}

func class(value int, overload string, more ...func(*task.ClassConfig)) task.ClassConfig {
	c := task.ClassConfig{MatchSource: fmt.Sprint("s", value), Value: value, Overload: overload, Deadline: "20s"}
	for _, f := range more {
		f(&c)
	}
	return c
}

func scaled(scale float64) func(*task.ClassConfig) {
	return func(c *task.ClassConfig) { c.Deadline = fmt.Sprint(20*scale, "s") }
}

// With shedding configured no queue grows without end if more is offered than both servers can process, under any policy and at any scale of time;
// nor is more shed than exceeds the capacity.
func TestNoQueueGrowsWithoutEnd(t *testing.T) {
	for _, info := range policy.List() {
		t.Run(info.Name, func(t *testing.T) {
			for _, load := range []float64{1.3, 2} {
				for _, scale := range []float64{0.1, 1, 10} {
					for _, how := range []string{task.OverloadDrop, task.OverloadExpire} {
						overload(t, info.Name, load, scale, how)
					}
				}
			}
		})
	}
}

func overload(t *testing.T, name string, load, scale float64, how string) {
	n := newNode(t, name, scale, map[string]task.ClassConfig{"low": class(2, how, scaled(scale)), "high": class(7, how, scaled(scale))})
	const tasks = 1500
	n.run(load, tasks, "low", "high")
	waits := max(n.late, float64(n.waiting.Len())/n.capacity())
	require.Less(t, waits, 3*20*scale, "bounds: load %v, scale %v, %s: done %v, gone %v, parked %d", load, scale, how, n.done, n.gone, n.waiting.Len())
	gone := n.gone["low"] + n.gone["high"]
	if byTime := map[string]bool{"cost": true, "bandit": true, "defer": true, "deadline": true, "ppo": true}; byTime[name] {
		require.Less(t, float64(gone)/tasks, 1-1/load+0.1, "load %v, scale %v, %s: done %v, gone %v", load, scale, how, n.done, n.gone)
	}
	require.Equal(t, tasks, n.done["low"]+n.done["high"]+gone+n.waiting.Len(), "each task is counted")
}

// The classes of low value give way, and only they as long as that is enough.
func TestLowValuesGiveWayFirst(t *testing.T) {
	for _, name := range []string{"cost", "bandit", "deadline", "defer"} {
		n := newNode(t, name, 1, map[string]task.ClassConfig{"low": class(2, task.OverloadDrop), "high": class(7, task.OverloadDrop), "kept": class(9, "")})
		n.run(1.4, 3000, "low", "high", "kept")
		require.Positive(t, n.gone["low"], "%s: %v", name, n.gone)
		require.Zero(t, n.gone["high"], "%s: %v", name, n.gone)
		require.Zero(t, n.gone["kept"], name)
		n.run(2.5, 3000, "low", "high")
		require.Positive(t, n.gone["high"], "%s: without the low ones it is too much still", name)
	}
}

// A class never gives way for one of lower value, however late that is.
func TestNoClassGivesWayForALowerOne(t *testing.T) {
	n := newNode(t, "cost", 1, map[string]task.ClassConfig{
		"low": class(1, task.OverloadDrop, func(c *task.ClassConfig) { c.Deadline = "1s" }), "high": class(9, task.OverloadDrop, func(c *task.ClassConfig) { c.Deadline = "10m" }),
	})
	n.run(2, 200, "high", "low")
	require.Positive(t, n.gone["low"])
	require.Zero(t, n.gone["high"])
}

// Below capacity nothing is shed, and by default nothing ever is.
func TestNothingIsShedWithoutNeed(t *testing.T) {
	for _, info := range policy.List() {
		n := newNode(t, info.Name, 1, map[string]task.ClassConfig{"a": class(1, ""), "b": class(2, task.OverloadKeep)})
		n.run(2, 500, "a", "b")
		require.Empty(t, n.gone, info.Name)
		require.Empty(t, n.gate.Status(n.state.Time).Flows)
	}
	for _, name := range []string{"cost", "bandit", "defer", "deadline"} {
		n := newNode(t, name, 1, map[string]task.ClassConfig{"a": class(1, task.OverloadDrop), "b": class(2, task.OverloadExpire)})
		n.run(0.8, 2000, "a", "b")
		require.Empty(t, n.gone, name)
	}
}

// Reduced forms replace tasks while they are useful, and relieve both paths.
func TestReducedFormsRelieveBothPaths(t *testing.T) {
	n := newNode(t, "cost", 1, map[string]task.ClassConfig{
		"a": class(3, task.OverloadReduce, func(c *task.ClassConfig) { c.ReducedClass = "a-summary" }), "a-summary": {Operators: "summary window=60s"},
	})
	n.run(1.5, 2000, "a")
	require.Positive(t, n.gone["a reduced"])
	require.Zero(t, n.gone["a"], "none is dropped while its reduced form is of use")
	require.Less(t, n.late, 50.)
}

// An outage is not an overload: tasks for the cloud wait in the spool, unless their class expires.
func TestAnOutageIsNoOverload(t *testing.T) {
	n := newNode(t, "cloud", 1, map[string]task.ClassConfig{"a": class(3, task.OverloadDrop)})
	n.state.Link.Up = false
	for range 500 {
		n.offer("a")
	}
	require.Empty(t, n.gone)
}

// A guard's decision stays on its path, however long that takes and however free the other one is.
func TestNoTaskIsReroutedPastAGuard(t *testing.T) {
	n := newNode(t, "cost", 1, map[string]task.ClassConfig{"a": class(3, task.OverloadDrop)})
	one := &task.Task{Of: 1, Data: make([]byte, bytes), Complexity: 50, Received: n.state.Time, Class: n.classes.All()[0]}
	require.Equal(t, "a", one.Class.Name)
	n.state.QueueCycles = 1e6
	judge := func(why decision.Reason) shed.Verdict {
		var gate shed.Gate
		d := decision.Decision{Reason: why}
		return gate.Turn(n.classes, n.model, &n.state, shed.Servers{Operators: 1, Models: 1}).Judge(one, &d, false, func(*task.Class) bool { return true })
	}
	require.Equal(t, shed.Other, judge(decision.CheaperLocal))
	for _, why := range []decision.Reason{decision.GuardBacklog, decision.GuardPrice, decision.GuardBattery, decision.Fixed} {
		require.Equal(t, shed.Drop, judge(why), why)
	}
}

// A link that is down may return at any moment: a parked task is hopeless only if the cloud could not finish it in time either.
func TestALinkThatIsDownIsHope(t *testing.T) {
	n := newNode(t, "cost", 1, map[string]task.ClassConfig{"a": class(3, task.OverloadExpire)})
	n.state.Link.Up, n.state.Link.Goodput = false, 1e6
	one := &task.Task{Of: 1, Data: make([]byte, 3*bytes), Complexity: 50, Class: n.classes.All()[0]}
	local := n.model.Estimate(one, &n.state).LocalTime
	require.InDelta(t, 9.8, local, 0.1)
	for waited, want := range map[float64]bool{1: false, 11: false, 19.7: false, 19.9: true, 30: true} {
		one.Received = n.state.Time - int64(waited*1e9)
		require.Equal(t, want, n.gate.Hopeless(n.model, one, &n.state), "after %v s", waited)
	}
	n.state.Link.Up, n.state.Link.Goodput = true, 1e9
	one.Received = n.state.Time - int64(one.Class.Bound)
	require.True(t, n.gate.Hopeless(n.model, one, &n.state), "the link is quick enough for the bound")
}

func TestTTL(t *testing.T) {
	for _, one := range []struct {
		c    task.Class
		want time.Duration
	}{
		{task.Class{TTL: time.Hour, Bound: time.Second}, time.Hour},
		{task.Class{TTL: time.Hour, Bound: time.Second, Overload: task.OverloadExpire}, time.Second},
		{task.Class{Bound: time.Second, Overload: task.OverloadExpire}, time.Second},
		{task.Class{TTL: time.Millisecond, Bound: time.Second, Overload: task.OverloadExpire}, time.Millisecond},
	} {
		require.Equal(t, one.want, shed.TTL(&one.c, one.c.Bound))
	}
	expires := task.Class{TTL: time.Hour, Overload: task.OverloadExpire}
	require.Equal(t, time.Hour, shed.TTL(&expires, 0), "0 is no bound")
	require.Equal(t, time.Hour, shed.TTL(&expires, 2*time.Hour))
	require.Equal(t, time.Minute, shed.TTL(&expires, time.Minute))
}

// A task that by itself takes longer than the bound counts as in time for twice its own time, in the spool as at the gate: otherwise tasks that the
// gate passes would expire in the spool.
func TestATaskThatTakesLongMayWaitInTheSpool(t *testing.T) {
	n := newNode(t, "cloud", 1, map[string]task.ClassConfig{"a": class(3, task.OverloadExpire, func(c *task.ClassConfig) { c.Deadline = "1s" })})
	n.state.Link.Goodput, n.state.Link.RTT = 1000, 0.1
	one := &task.Task{Of: 1, Data: make([]byte, 4000), Complexity: 100, Received: n.state.Time, Class: n.classes.All()[0]}
	var gate shed.Gate
	turn := gate.Turn(n.classes, n.model, &n.state, shed.Servers{Operators: 1, Models: 1})
	d := decision.Decision{Target: decision.Cloud, Reason: decision.Fixed}
	require.Equal(t, shed.Keep, turn.Judge(one, &d, false, func(*task.Class) bool { return true }))
	least := min(n.model.Estimate(one, &n.state).CloudTime, n.model.Estimate(one, &n.state).LocalTime)
	require.Greater(t, least, 0.5)
	require.InDelta(t, 2*least, turn.Within(one).Seconds(), 0.01)
	require.Zero(t, (*shed.Turn)(nil).Within(one))
}

// Once the load is gone, its pressure fades.
func TestPressureFades(t *testing.T) {
	n := newNode(t, "cost", 1, map[string]task.ClassConfig{"a": class(3, task.OverloadDrop)})
	n.run(3, 1000, "a")
	st := n.gate.Status(n.state.Time)
	require.Equal(t, 3, max(st.Local, st.Cloud), "%+v", st)
	st = n.gate.Status(n.state.Time + int64(time.Hour))
	require.Zero(t, st.Local+st.Cloud)
	require.Less(t, st.Flows[0].Pressure, 1e-9)
	require.False(t, math.IsNaN(st.Flows[0].Pressure))
}

// Tasks of a turn wait for the earlier ones as long as these occupy a path: not for the round trip of each, and no longer than all workers together
// take.
func TestATurnWaitsForWhatOccupiesAPath(t *testing.T) {
	n := newNode(t, "cost", 1, map[string]task.ClassConfig{"a": class(3, task.OverloadDrop, func(c *task.ClassConfig) { c.Deadline = "2s" })})
	n.state.Link.Goodput, n.state.Link.RTT = 1e6, 0.5
	judge := func(one task.Task, d decision.Decision, tasks, operators int) (gone int) {
		one.Of, one.Received, one.Class = 1, n.state.Time, n.classes.All()[0]
		var gate shed.Gate
		turn := gate.Turn(n.classes, n.model, &n.state, shed.Servers{Operators: operators})
		for range tasks {
			if turn.Judge(&one, &d, false, func(*task.Class) bool { return true }) != shed.Keep {
				gone++
			}
		}
		return gone
	}
	unread := decision.Decision{Target: decision.Cloud, Reason: decision.NoOperator}
	require.Zero(t, judge(task.Task{Data: make([]byte, 1000)}, unread, 200, 1), "0.2 s of the link, and one round trip")
	require.Positive(t, judge(task.Task{Data: make([]byte, 50_000)}, unread, 200, 1), "10 s of the link")
	stays := decision.Decision{Reason: decision.Fixed}
	work := task.Task{Data: make([]byte, 1024), Complexity: 30} // 40 ms
	require.Positive(t, judge(work, stays, 120, 1), "4.8 s of one worker")
	require.Zero(t, judge(work, stays, 120, 4))
}

// Parked tasks are the work of all operators.
func TestParkedTasksAreSharedAmongTheOperators(t *testing.T) {
	n := newNode(t, "cost", 1, map[string]task.ClassConfig{"a": class(3, task.OverloadDrop)})
	n.state.Link.Up = false
	for operators, want := range map[int]float64{1: 3, 4: 0.75} {
		one := &task.Task{Of: 1, Received: n.state.Time, Class: n.classes.All()[0]}
		var gate shed.Gate
		turn := gate.Turn(n.classes, n.model, &n.state, shed.Servers{Operators: operators})
		turn.Line.Add(turn.Line.Portion(one, 60*edgeRate))
		turn.Judge(one, &decision.Decision{}, true, nil)
		require.InDelta(t, want, gate.Status(n.state.Time).Flows[0].Pressure, 1e-9)
	}
}

// A task whose path to the cloud is overloaded is reduced, also if its full form had no other path, as long as the node has time for that.
func TestATaskForTheCloudAloneIsReduced(t *testing.T) {
	n := newNode(t, "cost", 1, map[string]task.ClassConfig{
		"a": class(3, task.OverloadReduce, func(c *task.ClassConfig) { c.ReducedClass = "small" }), "small": {Operators: "summary window=60s"},
	})
	one := &task.Task{Of: 1, Data: make([]byte, bytes), Complexity: 50, Received: n.state.Time, Class: n.classes.All()[0]}
	n.state.Link.BacklogBytes = 1 << 30
	judge := func(why decision.Reason) shed.Verdict {
		var gate shed.Gate
		turn := gate.Turn(n.classes, n.model, &n.state, shed.Servers{Operators: 1, Models: 1})
		return turn.Judge(one, &decision.Decision{Target: decision.Cloud, Reason: why}, false, func(*task.Class) bool { return true })
	}
	for _, why := range []decision.Reason{decision.NoOperator, decision.JudgedHard, decision.Fixed, decision.AboveThreshold} {
		require.Equal(t, shed.Reduce, judge(why), why)
	}
	require.Equal(t, shed.Drop, judge(decision.GuardMemory), "a guard wants no work here")
	var gate shed.Gate
	turn, verdicts := gate.Turn(n.classes, n.model, &n.state, shed.Servers{Operators: 1}), map[shed.Verdict]int{}
	for range 200 {
		verdicts[turn.Judge(one, &decision.Decision{Target: decision.Cloud, Reason: decision.NoOperator}, false, func(*task.Class) bool { return true })]++
	}
	require.Equal(t, map[shed.Verdict]int{shed.Reduce: 31, shed.Drop: 169}, verdicts, "each reduced one takes 1.3 s, and the last must not wait for twice the bound")
	n.state.QueueCycles = 41 * edgeRate // s, where the bound is 20
	require.Equal(t, shed.Drop, judge(decision.NoOperator))
}

// A task does not wait for parked tasks, or for tasks of its turn that will be parked, that a free server takes after it.
func TestATaskDoesNotWaitForParkedOnesThatItPasses(t *testing.T) {
	classes := map[string]task.ClassConfig{"short": class(7, task.OverloadDrop), "long": class(1, "")}
	for _, parked := range []bool{true, false} {
		n := newNode(t, "defer", 1, classes)
		one := func(class string, size int) *task.Task {
			for _, c := range n.classes.All() {
				if c.Name == class {
					return &task.Task{Of: 1, Received: n.state.Time, Class: c, Deadline: c.Deadline, Data: make([]byte, size), Complexity: 50}
				}
			}
			return nil
		}
		n.state.QueueCycles = 1 // the node is busy
		turn := n.gate.Turn(n.classes, n.model, &n.state, shed.Servers{Operators: 1})
		turn.Line = n.policy.(policy.Binder).Room().Line()
		judge := func(one *task.Task) shed.Verdict {
			return turn.Judge(one, &decision.Decision{Reason: decision.CheaperLocal}, parked, func(*task.Class) bool { return true })
		}
		turn.Line.Add(turn.Line.Portion(one("long", 10*bytes), 1e6))
		require.Equal(t, shed.Keep, judge(one("short", bytes/10)), "behind an hour of long ones that are parked")
		require.Less(t, n.gate.Status(n.state.Time).Flows[0].Pressure, 0.1)
		if !parked {
			continue // tasks of the turn are dispatched immediately, so they are ahead of it
		}
		for range 100 {
			require.Equal(t, shed.Keep, judge(one("long", 10*bytes)))
		}
		require.Equal(t, shed.Keep, judge(one("short", bytes/10)), "behind long ones of its turn")
	}
}

// Late tasks make room: parked tasks of a class that drops are dropped first, as long as a path is overloaded for their value and the link is up.
func TestLateParkedTasksAreGivenUpFirst(t *testing.T) {
	for _, one := range []struct {
		what     string
		load     float64
		late     bool
		critical bool
		down     bool
		want     bool
	}{
		{"overloaded, and it is late", 3, true, false, false, true},
		{"it is not late", 3, false, false, false, false},
		{"nothing is overloaded", 0.5, true, false, false, false},
		{"an outage is no overload", 3, true, false, true, false},
		{"a critical one goes with the highest value", 1.3, true, true, false, false},
	} {
		n := newNode(t, "cost", 1, map[string]task.ClassConfig{"a": class(3, task.OverloadDrop), "b": class(9, task.OverloadDrop, func(c *task.ClassConfig) { c.Deadline = "10h" })})
		n.run(one.load, 1000, "a")
		n.state.Link.Up = !one.down
		it := &task.Task{Of: 1, Received: n.state.Time, Critical: one.critical, Data: make([]byte, bytes), Complexity: 50, Class: n.classes.All()[0]}
		if one.late {
			it.Received -= int64(21 * time.Second)
		}
		require.Equal(t, one.want, n.gate.Hopeless(n.model, it, &n.state), one.what)
	}
	require.False(t, new(shed.Gate).Hopeless(nil, &task.Task{Class: &task.Class{Overload: task.OverloadDrop}}, &host.State{Link: host.Link{Up: true}}), "before the first turn")
}

// Effects of overload on tasks are counted by class, also by several goroutines.
func TestEffectsAreCounted(t *testing.T) {
	var g shed.Gate
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 250 {
				for i, why := range []decision.Reason{decision.Overload, decision.TooLate, decision.Rerouted, decision.Reduced} {
					for range i + 1 {
						g.Count("a", why)
					}
				}
				g.Count("b", decision.Reduced)
				_ = g.Status(0)
			}
		})
	}
	all.Wait()
	require.Equal(t, shed.Overload{Flows: []shed.Flow{
		{Class: "a", Effects: shed.Effects{Dropped: 1000, TooLate: 2000, Rerouted: 3000, Reduced: 4000}},
		{Class: "b", Effects: shed.Effects{Reduced: 1000}},
	}}, g.Status(0))
}

// A verdict sets the decision on the task, with propensity 1.
func TestVerdictsChangeDecisions(t *testing.T) {
	policys := decision.Decision{Target: decision.Local, Score: 0.3, Reason: decision.CheaperLocal, Propensity: 0.5, Arm: decision.Canary}
	kept := policys
	require.False(t, shed.Keep.Apply(&task.Task{}, &kept))
	require.Equal(t, policys, kept)
	for target, want := range map[decision.Target]decision.Decision{
		decision.Local: {Target: decision.Cloud, Score: 1, Reason: decision.Rerouted, Propensity: 1},
		decision.Cloud: {Target: decision.Local, Score: 0, Reason: decision.Rerouted, Propensity: 1},
	} {
		d := policys
		d.Target = target
		require.False(t, shed.Other.Apply(&task.Task{}, &d))
		want.Arm = decision.NoArm
		require.Equal(t, want, d)
	}
	for verdict, why := range map[shed.Verdict]decision.Reason{shed.Late: decision.TooLate, shed.Drop: decision.Overload} {
		d := policys
		require.True(t, verdict.Apply(&task.Task{}, &d))
		require.Equal(t, decision.Decision{Target: policys.Target, Score: policys.Score, Reason: why, Propensity: 1, Arm: decision.NoArm}, d)
	}
	d, one := policys, task.Task{Class: &task.Class{Reduced: &task.Class{Name: "small"}}}
	d.Target = decision.Cloud
	require.False(t, shed.Reduce.Apply(&one, &d))
	require.Equal(t, decision.Decision{Target: decision.Local, Reason: decision.Reduced, Propensity: 1, Arm: decision.NoArm}, d)
	require.Equal(t, "small", one.Class.Name)
}
