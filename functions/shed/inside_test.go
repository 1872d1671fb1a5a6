package shed

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func classesOf(t *testing.T, overloads map[string]task.ClassConfig) *task.Classes {
	t.Helper()
	for name, c := range overloads {
		c.MatchDevice = name
		overloads[name] = c
	}
	classes, err := task.NewClasses(overloads)
	require.NoError(t, err)
	return classes
}

func bounded(value int, overload string) task.ClassConfig {
	return task.ClassConfig{Value: value, Overload: overload, OverloadAge: "4s"}
}

// The values in use give way one after the other, the lowest first; a critical task gives way with the highest of them.
func TestValuesGiveWayInSteps(t *testing.T) {
	none := planOf(classesOf(t, map[string]task.ClassConfig{"keeps": {Value: 4}}))
	require.False(t, none.sheds)
	require.Zero(t, none.starts)
	p := planOf(classesOf(t, map[string]task.ClassConfig{"a": bounded(2, task.OverloadDrop), "b": bounded(5, task.OverloadDrop), "keeps": {Value: 9}}))
	require.True(t, p.sheds)
	require.Equal(t, [maxValue + 1]float64{2: 1, 5: 1 + step}, p.starts)
	for _, c := range []struct{ own, critical int }{{2, 5}, {3, 5}, {5, 5}, {6, 6}, {9, 9}} {
		one := &task.Task{Class: &task.Class{Value: c.own}}
		require.Equal(t, c.own, p.value(one))
		one.Critical = true
		require.Equal(t, c.critical, p.value(one), "a critical task of value %d", c.own)
	}
}

// A flow keeps its pressure for one bound after its latest task, and half of it is left after each further one.
func TestPressureIsHalvedInEachBound(t *testing.T) {
	f := flow{pressure: 8, at: int64(time.Hour), bound: 4}
	for seconds, want := range map[int]float64{0: 8, 2: 8, 4: 8, 8: 4, 12: 2} {
		require.InDelta(t, want, f.now(int64(time.Hour)+int64(seconds)*1e9), 1e-9, "after %d s", seconds)
	}
}

// Models share the work of classes with a model, operators that of all others; there is at least one of each.
func TestServersShareTheWork(t *testing.T) {
	for _, c := range []struct {
		servers Servers
		model   string
		want    float64
	}{{Servers{4, 3}, "m", 3}, {Servers{4, 3}, "", 4}, {Servers{4, 0}, "m", 1}, {Servers{0, 3}, "", 1}} {
		require.InDelta(t, c.want, c.servers.of(&task.Class{Model: c.model}), 0, "%+v", c)
	}
}

// alone returns the node without any waiting work, and otherwise unchanged.
func TestNothingWaitsAlone(t *testing.T) {
	s := host.State{CPU: 0.5, QueueTasks: 2, QueueCycles: 3, ModelTasks: 4, ModelSeconds: 5, ParkedCycles: 6, ParkedBytes: 7}
	s.Link = host.Link{Up: true, Goodput: 9, BacklogTasks: 2, BacklogBytes: 3, InflightBytes: 4}
	require.Equal(t, host.State{CPU: 0.5, Link: host.Link{Up: true, Goodput: 9}}, alone(&s))
}

// Both paths process the parked work ahead of a task, or the only one that can.
func TestWhatIsParkedBeforeATask(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	class := &task.Class{Name: "a"}
	for _, c := range []struct {
		what   string
		link   host.Link
		s      float64 // that the node needs for what is parked
		parked int     // bytes of it
		want   float64
	}{
		{"both take 2 s", host.Link{Up: true, Goodput: 1000}, 2, 2000, 1},
		{"messages are half as large as records", host.Link{Up: true, Goodput: 1000, Growth: 0.5}, 2, 4000, 1},
		{"and twice as large", host.Link{Up: true, Goodput: 1000, Growth: 2}, 2, 1000, 1},
		{"the link is down", host.Link{Goodput: 1000}, 2, 2000, 2},
		{"the link takes 1 s, and the node 1 s", host.Link{Up: true, Goodput: 1000}, 1, 1000, 0.5},
		{"nothing for the node", host.Link{Up: true, Goodput: 1000}, 0, 2000, 0},
		{"nothing for the link", host.Link{Up: true, Goodput: 1000}, 2, 0, 2},
		{"nothing at all", host.Link{Up: true, Goodput: 1000}, 0, 0, 0},
	} {
		turn := Turn{model: m, state: host.State{Cores: 1, Link: c.link}, local: Servers{Operators: 1}}
		one := &task.Task{Class: class, Data: make([]byte, c.parked)}
		place := turn.Line.Portion(one, c.s*m.EdgeRate(&turn.state))
		turn.Line.Add(place)
		require.InDelta(t, c.want, turn.behind(class, &place, decision.Cloud, true), 1e-9, c.what)
	}
}

// What is parked before a task for a model takes as long as its runs did, whatever else the node does; for operators the others' share of it counts.
func TestParkedRunsOfAModelAreMeasuredUnderLoad(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	busy := &host.State{Cores: 1, CPU: 50}
	for _, c := range []struct {
		model string
		at    *host.State
	}{{"m", &host.State{}}, {"", busy}} {
		turn := Turn{model: m, state: *busy, local: Servers{Operators: 1, Models: 1}}
		class := &task.Class{Name: "a", Model: c.model}
		place := turn.Line.Portion(&task.Task{Class: class}, 2*m.EdgeRate(c.at))
		turn.Line.Add(place)
		require.InDelta(t, 2, turn.behind(class, &place, decision.Local, true), 1e-9, "model %q", c.model)
	}
	require.Less(t, m.EdgeRate(busy), m.EdgeRate(&host.State{}))
}

// A task has waited since its reception, if that is known and not ahead of the node's clock.
func TestHowLongATaskHasWaited(t *testing.T) {
	s := &host.State{Time: 10e9}
	for received, want := range map[int64]float64{0: 0, -1: 0, 1: 10 - 1e-9, 4e9: 6, 10e9: 0, 11e9: 0} {
		require.InDelta(t, want, waited(&task.Task{Received: received}, s), 1e-12, "received at %d", received)
	}
}

// The bound is the class's, or twice the own time of the sooner path; a task that no path can process has the class's.
func TestTheBoundOfATask(t *testing.T) {
	class, forever := &task.Class{Bound: 4 * time.Second}, math.Inf(1)
	for own, want := range map[[targets]float64]float64{{1, 1}: 4, {2, 9}: 4, {3, 9}: 6, {9, 3}: 6, {forever, 3}: 6, {forever, forever}: 4} {
		require.InDelta(t, want, within(class, &forecast{own: own}), 0, "%v", own)
	}
}

// A path gives way above its start, until its pressure is at three quarters of that. Overload of either path is enough to drop a parked task, and a
// gate without tasks drops none.
func TestWhenAPathGivesWay(t *testing.T) {
	classes := classesOf(t, map[string]task.ClassConfig{"a": bounded(3, task.OverloadDrop)})
	one := &task.Task{Class: classes.All()[0]}
	require.Equal(t, "a", one.Class.Name)
	s := &host.State{Time: 1e9, Link: host.Link{Up: true}}
	for target := range targets {
		g := Gate{}
		require.False(t, g.givesUp(one, s))
		g.plan, g.flows = planOf(classes), map[course]*flow{}
		f := &flow{value: 3, at: s.Time, bound: 4}
		var uses [targets]bool
		uses[target] = true
		g.flows[course{"a", uses}] = f
		for _, c := range []struct {
			pressure float64
			over     bool
		}{{1, false}, {1.01, true}, {0.76, true}, {0.75, false}, {0.76, false}, {1, false}, {1.01, true}, {0, false}} {
			f.pressure = c.pressure
			require.Equal(t, c.over, g.givesUp(one, s), "target %d, %+v", target, c)
			st := g.Status(s.Time)
			want := [targets]int{}
			if c.over {
				want[target] = 3
			}
			require.Equal(t, want, [targets]int{st.Local, st.Cloud}, "target %d, %+v", target, c)
		}
		f.pressure = 9
		require.False(t, g.givesUp(one, &host.State{Time: 1e9}), "the link is down")
		require.False(t, g.overloaded(target, 4, s.Time), "no class has that value")
	}
}

// A turn adds passed tasks to the path that they occupy, and to no other.
func TestATurnAddsToItsPath(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	state := host.State{Cores: 1, Link: host.Link{Up: true, Goodput: 1000}}
	turn := Turn{model: m, state: state, idle: state, local: Servers{Operators: 1}, added: [targets]float64{10, 20}}
	f := turn.forecast(&task.Task{Class: &task.Class{}, Data: make([]byte, 100)}, &decision.Decision{}, false)
	require.InDelta(t, 10, f.all[decision.Local]-f.own[decision.Local], 1e-9)
	require.InDelta(t, 20, f.all[decision.Cloud]-f.own[decision.Cloud], 1e-9)
	parked := &task.Task{Class: &task.Class{}}
	turn.Line.Add(turn.Line.Portion(parked, 3*m.EdgeRate(&state)))
	after := turn.forecast(&task.Task{Class: &task.Class{}, Data: make([]byte, 100)}, &decision.Decision{}, true)
	require.InDelta(t, 3, after.all[decision.Local]-f.all[decision.Local], 1e-9, "behind a parked task that the link does not spare")
	require.Zero(t, (*Turn)(nil).Within(nil))
	require.Zero(t, turn.Within(&task.Task{Class: &task.Class{Overload: task.OverloadDrop, Bound: time.Second}}))
	require.Equal(t, maxWithin, turn.Within(&task.Task{Class: &task.Class{Overload: task.OverloadExpire, Bound: 2 * maxWithin}}))
}

// A judged task joins the parked ones where it waits for others, and otherwise occupies its path. One that is dropped does neither, and one of a class
// without a bound does not count for overload at all.
func TestWhatATurnKeepsOfATask(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	long := bounded(3, task.OverloadExpire)
	long.OverloadAge = "100h"
	classes := classesOf(t, map[string]task.ClassConfig{"a": long, "late": bounded(3, task.OverloadExpire), "free": {}})
	for _, c := range []struct {
		what, class string
		queued      float64 // Mcycles
		parked      bool
		want        Verdict
		line, added bool
		flows       int
	}{
		{"it may be parked, and others are before it", "a", 1e6, true, Keep, true, false, 1},
		{"it may be parked, and its path is free", "a", 0, true, Keep, false, true, 1},
		{"it is dispatched immediately", "a", 1e6, false, Keep, false, true, 1},
		{"it is dropped", "late", 1e6, true, Late, false, false, 1},
		{"its class has no bound", "free", 1e6, true, Keep, false, false, 0},
	} {
		state := host.State{Time: 100e9, Cores: 1, QueueCycles: c.queued}
		turn := (&Gate{}).Turn(classes, m, &state, Servers{Operators: 1})
		one := &task.Task{Data: make([]byte, 1000), Complexity: 50}
		for _, class := range classes.All() {
			if class.Name == c.class {
				one.Class = class
			}
		}
		require.Equal(t, c.want, turn.Judge(one, &decision.Decision{}, c.parked, nil), c.what)
		require.Equal(t, c.line, turn.Line.Total().Bytes > 0, c.what)
		require.Equal(t, c.added, turn.added[decision.Local] > 0, c.what)
		require.Len(t, turn.gate.flows, c.flows, c.what)
		require.Equal(t, Keep, turn.Judge(&task.Task{}, &decision.Decision{}, true, nil), "it has no class")
	}
}

// While both paths are overloaded, the fate of a task depends on its class, its path, its decision, and the node.
func TestWhatOverloadMakesOfATask(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	reduces := bounded(3, task.OverloadReduce)
	reduces.ReducedClass = "small"
	small := task.ClassConfig{}
	configs := map[string]task.ClassConfig{"drop": bounded(3, task.OverloadDrop), "expire": bounded(3, task.OverloadExpire), "keep": bounded(3, ""), "reduce": reduces}
	for name, c := range configs {
		c.MatchDevice = name
		configs[name] = c
	}
	configs["small"] = small
	classes, err := task.NewClasses(configs)
	require.NoError(t, err)
	of := map[string]*task.Class{}
	for _, class := range classes.All() {
		of[class.Name] = class
	}
	const local, cloud = decision.Local, decision.Cloud
	for _, c := range []struct {
		what, class string
		target      decision.Target
		reason      decision.Reason
		down, lost  bool
		queued      float64 // Mcycles
		takes       float64 // s, either path
		want        Verdict
	}{
		{what: "it keeps everything", class: "keep", target: local, want: Keep},
		{what: "it gives way", class: "drop", target: local, want: Drop},
		{what: "it gives way on the other path", class: "drop", target: cloud, want: Drop},
		{what: "it waits for the link", class: "drop", target: cloud, down: true, want: Keep},
		{what: "the link is not its path", class: "drop", target: local, down: true, want: Drop},
		{what: "it is reduced", class: "reduce", target: local, want: Reduce},
		{what: "it was for the cloud", class: "reduce", target: cloud, want: Reduce},
		{what: "a guard kept it local", class: "reduce", target: local, reason: decision.GuardNeverLeave, want: Reduce},
		{what: "a guard sent it to the cloud", class: "reduce", target: cloud, reason: decision.GuardMemory, want: Drop},
		{what: "reduced, some of it would be lost", class: "reduce", target: local, lost: true, want: Keep},
		{what: "the node is too busy even for that", class: "reduce", target: local, queued: 1e9, want: Drop},
		{what: "it is just in time", class: "expire", target: local, takes: 4, want: Keep},
		{what: "it is just too late", class: "expire", target: local, takes: math.Nextafter(4, 5), want: Late},
	} {
		state := host.State{Time: 100e9, Cores: 1, QueueCycles: c.queued, Link: host.Link{Up: !c.down}}
		g := &Gate{}
		turn := g.Turn(classes, m, &state, Servers{})
		both := [targets]bool{true, true}
		g.flows[course{c.class, both}] = &flow{value: 3, pressure: 9, bound: 4, at: 100e9}
		g.flows[course{"", both}] = &flow{value: 9, pressure: 9, bound: 4, at: 100e9}
		f := forecast{own: [targets]float64{1, 1}, all: [targets]float64{c.takes, c.takes}}
		one := &task.Task{Class: of[c.class], Data: make([]byte, 1000), Complexity: 50, Received: 100e9}
		d := decision.Decision{Target: c.target, Reason: c.reason}
		require.Equal(t, c.want, turn.verdict(one, &d, &f, func(*task.Class) bool { return !c.lost }), c.what)
	}
}

// A parked task is hopeless from the moment on at which it would be done after its bound; one without a class never is.
func TestFromWhenOnATaskIsHopeless(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	expires := &task.Class{Overload: task.OverloadExpire, Bound: 4 * time.Second}
	s := &host.State{Time: 100e9, Cores: 1}
	g := &Gate{}
	require.False(t, g.Hopeless(m, &task.Task{Received: 1}, s))
	one := &task.Task{Class: expires} // nothing to do
	require.Zero(t, m.Estimate(one, s).LocalTime)
	one.Received = 96e9
	require.False(t, g.Hopeless(m, one, s))
	one.Received--
	require.True(t, g.Hopeless(m, one, s))
}

// A task that takes the other path occupies that one.
func TestARerouteOccupiesTheOtherPath(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	classes := classesOf(t, map[string]task.ClassConfig{"a": bounded(3, task.OverloadDrop)})
	state := host.State{Time: 100e9, Cores: 1, QueueCycles: 1e9, Link: host.Link{Up: true, Goodput: 1e6, RTT: 0.01}}
	turn := (&Gate{}).Turn(classes, m, &state, Servers{})
	turn.gate.flows[course{"a", [targets]bool{true, true}}] = &flow{value: 3, bound: 4, at: 100e9} // no pressure
	one := &task.Task{Class: classes.All()[0], Data: make([]byte, 1000), Complexity: 50}
	require.Equal(t, Other, turn.Judge(one, &decision.Decision{Target: decision.Local}, false, nil))
	require.Zero(t, turn.added[decision.Local])
	require.Positive(t, turn.added[decision.Cloud])
}

// The state of a gate is of one configuration: a new one begins anew, and the same one continues.
func TestAGateBeginsAnewWithItsClasses(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	before := classesOf(t, map[string]task.ClassConfig{"a": bounded(3, task.OverloadDrop)})
	after := classesOf(t, map[string]task.ClassConfig{"a": bounded(7, task.OverloadDrop)})
	g, s := &Gate{}, &host.State{Time: 1e9, Link: host.Link{Up: true}}
	require.Nil(t, g.Turn(classesOf(t, map[string]task.ClassConfig{"keeps": {}}), m, s, Servers{}))
	require.NotNil(t, g.Turn(before, m, s, Servers{}))
	g.flows[course{"a", [targets]bool{true, true}}] = &flow{value: 3, pressure: 9, at: s.Time, bound: 4}
	require.NotNil(t, g.Turn(before, m, s, Servers{}))
	require.Equal(t, 3, g.Status(s.Time).Local)
	require.NotNil(t, g.Turn(after, m, s, Servers{}))
	require.Equal(t, Overload{Flows: []Flow{}}, g.Status(s.Time))
	require.Equal(t, 1.0, g.plan.starts[7])
	require.Equal(t, [targets][maxValue + 1]bool{}, g.over)
}

// A task that no path can do counts for what it is worth and no more: the pressure of those after it is a number again.
func TestATaskThatNoPathCanDoLeavesANumber(t *testing.T) {
	classes := classesOf(t, map[string]task.ClassConfig{"a": bounded(3, task.OverloadDrop)})
	one := &task.Task{Class: classes.All()[0]}
	g := &Gate{plan: planOf(classes), flows: map[course]*flow{}}
	never, soon := forecast{all: [targets]float64{math.Inf(1), math.Inf(1)}}, forecast{all: [targets]float64{1, 1}}
	require.True(t, g.note(one, &never, 0, 4, decision.Local, 1e9))
	for range 200 {
		g.note(one, &soon, 0, 4, decision.Local, 1e9)
	}
	require.InDelta(t, 0.25, g.Status(1e9).Flows[0].Pressure, 1e-6)
}

// A task takes the other path if its own takes more than twice the time left of its bound, and the other one at most half as long.
func TestATaskThatHasWaitedLeavesASlowPath(t *testing.T) {
	classes := classesOf(t, map[string]task.ClassConfig{"a": bounded(3, task.OverloadDrop)}) // 4 s
	for _, c := range []struct {
		waited, local, cloud float64
		want                 Verdict
	}{
		{0, 5, 1, Keep},
		{1.5, 5, 1, Keep}, // 2.5 s are left
		{1.6, 5, 1, Other},
		{2, 5, 2.5, Other},
		{2, 5, 2.6, Keep},
		{2, 5, math.Inf(1), Keep},
	} {
		g := &Gate{plan: planOf(classes), flows: map[course]*flow{}}
		turn := Turn{gate: g, state: host.State{Time: 100e9, Link: host.Link{Up: true}}}
		one := &task.Task{Class: classes.All()[0], Received: 100e9 - int64(c.waited*1e9)}
		f := forecast{own: [targets]float64{1, 1}, all: [targets]float64{c.local, c.cloud}}
		if math.IsInf(c.cloud, 1) {
			f.own[decision.Cloud] = c.cloud
		}
		g.flows[course{"a", [targets]bool{f.own[0] <= 4, f.own[1] <= 4}}] = &flow{value: 3, bound: 4, at: 100e9} // no pressure
		require.Equal(t, c.want, turn.verdict(one, &decision.Decision{}, &f, nil), "%+v", c)
	}
}

// Of two infinitely slow paths neither is the better one.
func TestPathsThatTakeForEverAreAlike(t *testing.T) {
	f := forecast{all: [targets]float64{math.Inf(1), math.Inf(1)}}
	require.False(t, f.lopsided(decision.Local, 1))
	f.all[decision.Cloud] = 1
	require.True(t, f.lopsided(decision.Local, 1))
	require.False(t, f.lopsided(decision.Cloud, 1))
}

// A reduced task is processed immediately, overtaking the parked tasks of other classes, but not those of its own.
func TestAReducedTaskPassesOtherClasses(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	state := host.State{Cores: 1}
	turn := Turn{model: m, state: state, idle: state, local: Servers{Operators: 1}}
	one := &task.Task{Class: &task.Class{Name: "a", Reduced: &task.Class{Name: "small"}}, Data: make([]byte, 1000), Complexity: 50}
	park := func(class string) {
		turn.Line.Add(turn.Line.Portion(&task.Task{Class: &task.Class{Name: class}}, 1e-3*m.EdgeRate(&state)))
	}
	park("b")
	require.InDelta(t, 0, turn.waitHere(one), 1e-9)
	park("a")
	require.InDelta(t, 1e-3, turn.waitHere(one), 1e-9)
}
