package policy

import (
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func greedy(c *Config) { c.CostShadow = false }

func TestCostByHand(t *testing.T) {
	k := costOf(config(greedy))
	for _, c := range []struct {
		name           string
		took, deadline float64
		joules         float64
		want           float64
	}{
		{"half of the time used", 1, 2, 0, 0.5},
		{"exactly in time", 2, 2, 0, 1},
		{"late: the miss comes on top", 3, 2, 0, 1.5 + 1},
		{"late is late", 100, 2, 0, 3 + 1},
		{"never", math.Inf(1), 2, 0, 3 + 1},
		{"energy", 1, 2, 4, 0.5 + 0.1*4/2},
		{"without a deadline, the patience counts and nothing is missed", 20, math.Inf(1), 0, 2},
	} {
		require.InDelta(t, c.want, k.of(c.took, c.deadline, c.joules), 1e-9, c.name)
	}
}

func TestDoubtMakesTheStepARamp(t *testing.T) {
	k := &cost{doubt: 0.5}
	for late, want := range map[float64]float64{0.4: 0, 0.5: 0, 0.75: 0.25, 1: 0.5, 1.5: 1, 9: 1} {
		require.InDelta(t, want, k.ramp(late), 1e-12)
	}
}

func TestShadowPriceRisesAndEases(t *testing.T) {
	p := shadow{base: 1, wait: 2, ease: 4}
	require.InDelta(t, 0.5, p.of(0.5, 0), 0.01)
	require.Greater(t, p.of(0.5, 2), p.of(0.5, 0))
	require.Less(t, p.of(0.5, 400), p.of(0.5, 4), "those in so long a queue are late anyway")
	require.Zero(t, shadow{}.of(5, 5))
}

// A prediction is split into its parts, which add up to it.
func TestWaysOf(t *testing.T) {
	c := score.DefaultConfig()
	c.McyclesPerKB = 0.024
	m, err := score.New(c)
	require.NoError(t, err)
	s := busy(0)
	s.QueueCycles, s.Link.Goodput, s.Link.BacklogBytes, s.Link.RTT = 900, 1e5, 50_000, 0.1
	tk := sized(100, 50) // 120 Mcycles at 3,000 a second
	e := m.Estimate(tk, s)
	local, cloud := timings(&e, s)
	require.InDelta(t, 0.3, local.wait, 1e-9)
	require.InDelta(t, 0.04, local.own, 1e-9)
	require.InDelta(t, 0.5, cloud.wait, 1e-9)
	require.InDelta(t, (100*1024+400)/1e5, cloud.own, 1e-9)
	require.InDelta(t, 0.1+0.02+120.0/24000, cloud.after, 1e-9)
	require.InDelta(t, e.LocalTime, local.time(), 1e-9)
	require.InDelta(t, e.CloudTime, cloud.time(), 1e-9)
}

func TestCostDecides(t *testing.T) {
	cheap := score.Estimate{LocalTime: 0.9, CloudTime: 0.4, Cycles: 100, Bytes: 1000}
	never := cheap
	never.CloudTime = math.Inf(1)
	for _, c := range []struct {
		name string
		e    score.Estimate
		edit func(*Config)
		want decision.Target
	}{
		{"the sooner target", cheap, greedy, decision.Cloud},
		{"no link to the cloud", never, greedy, decision.Local},
		{"the cloud's price outweighs the time", cheap, func(c *Config) { c.CostShadow, c.CostMoney = false, 5 }, decision.Local},
		{"energy of the radio", score.Estimate{LocalTime: 0.9, CloudTime: 0.4, CloudEnergy: 100}, greedy, decision.Local},
		{"a second here is dear to others", score.Estimate{LocalTime: 0.3, CloudTime: 0.4, LocalEnergy: 0.1, Cycles: 100}, func(c *Config) { c.CostEdgePrice = 50 }, decision.Cloud},
		{"and buys nothing that is worse in everything", score.Estimate{LocalTime: 0.3, CloudTime: 0.4, Cycles: 100}, func(c *Config) { c.CostEdgePrice = 50 }, decision.Local},
	} {
		d := build(t, "cost", c.edit).Decide(&task.Task{Deadline: time.Second}, &c.e, busy(0))
		require.Equal(t, c.want, d.Target, c.name)
		require.Equal(t, d.Target == decision.Cloud, d.Reason == decision.CheaperCloud, c.name)
	}
	// The time already waited counts: the cloud is expensive, but locally the task would be late.
	p := build(t, "cost", func(c *Config) { c.CostShadow, c.CostMoney = false, 0.5 })
	for waited, want := range map[time.Duration]decision.Target{0: decision.Local, 600 * time.Millisecond: decision.Local, 700 * time.Millisecond: decision.Cloud} {
		one := &task.Task{Deadline: time.Second, Received: int64(time.Hour)}
		s := &host.State{Time: int64(time.Hour + waited), Link: host.Link{Up: true}}
		d := p.Decide(one, &score.Estimate{LocalTime: 0.35, CloudTime: 0.25}, s)
		require.Equal(t, want, d.Target, "after %v", waited)
	}
}

// The price of a second equals the published formula, own·(base + wait·w) / ((1 + (w/ease)²)·(1 + (own/(2·ease))²)), computed by hand.
func TestThePriceOfASecondByHand(t *testing.T) {
	for _, c := range []struct{ base, wait, ease, own, queue, want float64 }{
		{2, 3, 1, 2, 1, 2.5},  // 2·5 / (2·2)
		{1, 0, 2, 2, 0, 1.6},  // 2 / (1·1.25)
		{0, 1, 1, 1, 2, 0.32}, // 2 / (5·1.25)
		{4, 1, 3, 6, 3, 10.5}, // 6·7 / (2·2)
		{0, 0, 1, 5, 5, 0},    // no price
		{1, 1, 1, -1, -1, 0},  // nothing takes less than no time
		{1, 0, 1e9, 3, 9, 3},  // no ease
	} {
		require.InDelta(t, c.want, shadow{c.base, c.wait, c.ease}.of(c.own, c.queue), 1e-9, "%+v", c)
	}
}

// The formula shows the prices of a second if there is one on either side.
func TestTheFormulaNamesItsPrices(t *testing.T) {
	for _, c := range []struct {
		edge, link float64
		want       bool
	}{{0, 0, false}, {1, 0, true}, {0, 1, true}, {1, 1, true}} {
		k := costOf(config(func(cfg *Config) { cfg.CostShadow = false }))
		k.edge.base, k.link.base = c.edge, c.link
		require.Equal(t, c.want, strings.Contains(k.String(), "a second costs others"), "%+v", c)
	}
}

// A formula for other programs has every number that the policy decides by, and a policy without a formula returns an error.
func TestAFormulaHasEveryConstant(t *testing.T) {
	c := DefaultConfig()
	costs := map[string]*float64{
		"time": &c.CostTime, "miss": &c.CostMiss, "energy": &c.CostEnergy, "unit": &c.CostJoules, "kappa": &c.CostKappa, "doubt": &c.CostDoubt, "tail": &c.CostTail,
		"caution": &c.CostCaution, "edgePrice": &c.CostEdgePrice, "edgeWait": &c.CostEdgeWait, "edgeEase": &c.CostEdgeEase,
		"linkPrice": &c.CostLinkPrice, "linkWait": &c.CostLinkWait, "linkEase": &c.CostLinkEase,
	}
	all := map[string]*float64{"patience": &c.CostPatience, "money": &c.CostMoney, "price": &c.CostPrice, "memory": &c.CostMemory, "battery": &c.CostBattery}
	maps.Copy(all, costs)
	n := 1.0
	for _, value := range all {
		n += 0.01
		*value = n
	}
	for name, p := range map[string]Policy{"cost": newCost(c), "bandit": newBandit(c), "deadline": newDeadline(c)} {
		f, err := FormulaOf(p)
		require.NoError(t, err)
		require.Equal(t, name, f.Policy)
		for constant, value := range all {
			if _, only := costs[constant]; name == "deadline" && only {
				continue
			}
			require.InDelta(t, *value, f.Constants[constant], 0, "%s of %s", constant, name)
		}
		require.Less(t, f.Constants["below"], f.Constants["threshold"])
	}
	f, err := FormulaOf(build(t, "weighted", preset("custom"), func(c *Config) {
		c.SizeWeight, c.SizeDirection, c.SizeScaleKB, c.ComplexityWeight, c.ComplexityDirection, c.ComplexityScale = 0.6, rises, 100, 0.2, falls, 50
		c.CPUWeight, c.CPUDirection, c.CPUScale, c.WeightedThreshold, c.CostKappa, c.CostPatience = 0.1, falls, 80, 0.4, 3, 10
	}))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{
		"sizeWeight": 0.6, "sizeScale": 100, "sizeFalls": 0, "complexityWeight": 0.2, "complexityScale": 50, "complexityFalls": 1,
		"cpuWeight": 0.1, "cpuScale": 80, "cpuFalls": 1, "clamp": 1, "threshold": 0.4, "below": math.Nextafter(0.4, 0), "latest": 3, "patience": 10,
	}, f.Constants)
	taught := build(t, "bandit").(*bandit)
	for range 50 {
		taught.Observe(lesson(rand.New(rand.NewPCG(1, 2)), decision.Cloud, 2))
	}
	f, err = FormulaOf(taught)
	require.NoError(t, err)
	require.Len(t, f.Learned, 2)
	for i, k := range f.Learned {
		a := &taught.newest.Arms[i]
		require.Equal(t, [2]any{a.Moments, a.Count}, [2]any{vector(k.Moments), k.Outcomes})
		for row := range dims {
			for column := range dims {
				require.InDelta(t, a.Matrix[row][column], k.Matrix[row*dims+column], 0, "row after row")
			}
		}
	}
	for _, name := range []string{"ppo", "defer", "random"} {
		f, err := FormulaOf(build(t, name))
		require.ErrorContains(t, err, name)
		require.Nil(t, f)
	}
}

// Arrivals that other policies decide count once a policy decides by them, and not before.
func TestArrivalsCountForAPolicyInUse(t *testing.T) {
	for _, name := range []string{"cost", "bandit", "defer", "ppo"} {
		p := build(t, name).(Pacer)
		counted := func() float64 {
			switch p := p.(type) {
			case *cost:
				return p.tempo.n
			case *bandit:
				return p.cost.tempo.n
			case *deferring:
				return p.tempo.n
			case *ppo:
				return p.pace.tempo.n
			}
			return math.NaN()
		}
		k, e, s := situation()
		p.Arrived(k, s)
		require.Zero(t, counted(), name)
		p.(Policy).Decide(k, e, s)
		require.InDelta(t, 1, counted(), 0, name)
		p.Arrived(k, s)
		require.InDelta(t, 2, counted(), 0, name)
		p.DecideAgain(k, e, s)
		require.InDelta(t, 2, counted(), 0, name)
	}
}

// The tempo is quiet after ten gaps if it is known, and after ten seconds otherwise.
func TestWhenItIsQuiet(t *testing.T) {
	for _, row := range []struct {
		tasks   float64
		silence time.Duration
		want    bool
	}{
		{fewTasks, time.Second, true},
		{fewTasks, time.Second - 1, false},
		{fewTasks - 1, time.Second, false},
		{fewTasks - 1, quietMost, true},
		{fewTasks - 1, quietMost - 1, false},
		{0, quietMost, true},
	} {
		p := &tempo{n: row.tasks, last: 1e18, gap: 0.1}
		require.Equal(t, row.want, p.quiet(p.last+int64(row.silence)), row)
	}
}

// An unreachable or unknown target has a finite price.
func TestAPriceIsANumber(t *testing.T) {
	p := shadow{1, 2, 3}
	for _, odd := range []float64{math.Inf(1), math.Inf(-1), math.NaN(), -1} {
		require.False(t, math.IsNaN(p.of(odd, 1)) || math.IsNaN(p.of(1, odd)) || math.IsNaN(p.of(odd, odd)), odd)
		require.GreaterOrEqual(t, p.of(odd, 1), 0.0)
		require.GreaterOrEqual(t, p.of(1, odd), 0.0)
	}
}

// A second is a usual one until the tempo of a node is known.
func TestTheBeatOfAnUnknownNode(t *testing.T) {
	p := &tempo{}
	for n := range fewTasks {
		require.Equal(t, beat{1, 1}, p.beat(0))
		p.note(&task.Task{Received: int64(n+1) * 1e9, Deadline: time.Second}, &host.State{}, 10)
	}
	at := p.beat(fewTasks * 1e9)
	require.InDelta(t, usualDeadline, at.usual, 1e-9)
	require.InDelta(t, math.Sqrt(1/usualPerDeadline), at.rush, 1e-9)
}

// A deadline of a nanosecond does not make the unit of time almost zero.
func TestTheUnitOfTimeIsBounded(t *testing.T) {
	p := &tempo{}
	for n := range 2 * fewTasks {
		p.note(&task.Task{Received: int64(n+1) * 1e9, Deadline: 1}, &host.State{}, 10)
	}
	at := p.now(2 * fewTasks * 1e9)
	require.InDelta(t, leastUnit, at.unit, 1e-12)
	require.LessOrEqual(t, at.arrivals, mostPulse)
}

// A stamp ahead of the node's clock does not make a task wait for a negative time.
func TestAStampAheadIsNoWait(t *testing.T) {
	p := newDefer(DefaultConfig()).(*deferring)
	k, e, s := situation()
	now := p.weigh(k, e, s)
	k.Received += int64(time.Hour)
	require.InDelta(t, now.waited, p.weigh(k, e, s).waited, 0)
}

// The files that a policy reads are closed again.
func TestPoliciesLeaveNoFileOpen(t *testing.T) {
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(list)
	}
	before := open()
	for range 20 {
		_, err := loadRule("../../res/policies/defer.json")
		require.NoError(t, err)
		_, err = loadNetwork("../../res/policies/defer.json")
		require.Error(t, err)
	}
	require.Less(t, open(), before+10)
}
