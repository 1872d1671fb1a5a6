package policy

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// lesson is one decision for target whose real time is the predicted one with its own work and its wait multiplied by wrong.
func lesson(rng *rand.Rand, target decision.Target, wrong float64) *decision.Entry {
	e := &decision.Entry{Deadline: time.Second, Decision: decision.Decision{Target: target}, State: *busy(0)}
	e.State.QueueCycles, e.State.Link.Goodput = 1000*rng.ExpFloat64(), 1e5
	e.State.Link.BacklogBytes = int64(1e5 * rng.ExpFloat64())
	e.Estimate.Cycles, e.Estimate.Bytes = 300*rng.ExpFloat64(), 5e4*rng.ExpFloat64()
	e.Estimate.LocalTime = (e.State.QueueCycles + e.Estimate.Cycles) / 3000
	e.Estimate.CloudTime = (float64(e.State.Link.BacklogBytes)+e.Estimate.Bytes)/1e5 + 0.3
	local, cloud := timings(&e.Estimate, &e.State)
	took := local
	if target == decision.Cloud {
		took = cloud
	}
	e.Outcome = decision.Outcome{Known: true, Time: wrong*(took.wait+took.own) + took.after}
	return e
}

// The bandit detects a model that is wrong by a factor after a few outcomes, and follows a change of that factor.
func TestBanditCalibratesAWrongModel(t *testing.T) {
	for _, target := range []decision.Target{decision.Local, decision.Cloud} {
		b := build(t, "bandit", func(c *Config) { c.BanditForgetting = 0.98 }).(*bandit)
		rng := rand.New(rand.NewPCG(1, 2))
		for _, wrong := range []float64{2.5, 0.8} {
			for range 200 {
				b.Observe(lesson(rng, target, wrong))
			}
			want, got := 0.0, 0.0
			for range 100 {
				probe := lesson(rng, target, wrong)
				local, cloud := timings(&probe.Estimate, &probe.State)
				p := local
				if target == decision.Cloud {
					p = cloud
				}
				want += probe.Outcome.Time
				got += b.known.Load().Arms[target].correct(p, 0).time()
			}
			require.InEpsilon(t, want, got, 0.08, "%s times %v", target, wrong)
			require.Zero(t, b.known.Load().Arms[1-target].Count, "the other target has taught nothing")
		}
	}
}

// The arm equals the regression over its outcomes, for any number of them and however similar they are: an inverse updated from outcome to outcome
// would be useless after some thousand.
func TestAnArmStaysTheRegression(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ridge, seed := ridges[decision.Local], rapid.Uint64().Draw(t, "seed")
		forget := rapid.SampledFrom([]float64{1, 0.995, 0.9}).Draw(t, "forget")
		varied := rapid.SampledFrom([]float64{1, 0.01, 0}).Draw(t, "varied")
		rng := rand.New(rand.NewPCG(seed, 1))
		a, matrix, moments := newArm(ridge), [dims]vector{}, vector{}
		for i := range matrix {
			matrix[i][i] = ridge
		}
		base := vector{rng.Float64(), rng.Float64(), rng.Float64(), rng.Float64()}
		for range rapid.SampledFrom([]int{1, 60, 1_000}).Draw(t, "outcomes") {
			x, y := base, rng.NormFloat64()
			for i := range x {
				x[i] += varied * (rng.Float64() - base[i])
			}
			a.observe(&x, y, forget, ridge)
			for i := range x {
				for k := range x {
					matrix[i][k] = matrix[i][k]*forget + x[i]*x[k]
				}
				matrix[i][i] += (1 - forget) * ridge
				moments[i] = moments[i]*forget + x[i]*y
			}
		}
		for i := range matrix {
			if got := matrix[i].dot(&a.weights); math.Abs(got-moments[i]) > 1e-6 {
				t.Fatalf("equation %d gives %v rather than %v", i, got, moments[i])
			}
			for k := range matrix { // matrix · inverse = 1
				sum := 0.0
				for l := range matrix {
					sum += matrix[i][l] * a.inverse[l][k]
				}
				want := 0.0
				if i == k {
					want = 1
				}
				if math.Abs(sum-want) > 1e-8 {
					t.Fatalf("(%d,%d) is %v", i, k, sum)
				}
			}
		}
	})
}

func TestForgettingNeverGoesBeyondThePrior(t *testing.T) {
	ridge := ridges[decision.Local]
	a := newArm(ridge)
	x := vector{1, 0, 0, 0}
	for range 20_000 {
		a.observe(&x, 1, 0.9, ridge)
	}
	require.True(t, a.restored())
	for i := range a.inverse {
		require.LessOrEqual(t, a.inverse[i][i], 1.001/ridge)
	}
	require.InDelta(t, 1, a.weights[0], 0.1)
}

func TestForcedSamplingTellsItsChance(t *testing.T) {
	b := build(t, "bandit", greedy, func(c *Config) { c.BanditExplore = 0.2 })
	tk := &task.Task{Deadline: time.Second}
	e := &score.Estimate{LocalTime: 0.5, CloudTime: 0.45}
	want := build(t, "bandit", greedy, func(c *Config) { c.BanditExplore = 0 }).Decide(tk, e, busy(0))
	const n = 20_000
	forced := 0
	for range n {
		d := b.Decide(tk, e, busy(0))
		require.Equal(t, d.Target == decision.Cloud, d.Score >= d.Threshold)
		require.Equal(t, d.Target != want.Target, d.Reason == decision.Explored)
		if d.Reason == decision.Explored {
			forced++
			require.Less(t, 0.501, want.Score)
			require.InDelta(t, 1-want.Score, d.Score, 1e-12)
			require.InDelta(t, 0.2, d.Propensity, 1e-12)
		} else {
			require.InDelta(t, 0.8, d.Propensity, 1e-12)
		}
	}
	require.InDelta(t, 0.2, float64(forced)/n, 5*math.Sqrt(0.2*0.8/n))
	clear := b.Decide(tk, &score.Estimate{LocalTime: 30, CloudTime: 0.1}, busy(0))
	require.InDelta(t, 1, clear.Propensity, 0, "a ruinous target is not tried")
}

// Exploration is harmless: no critical task, two costs that are close, and no deadline that only the chosen target meets.
func TestWhatIsHarmless(t *testing.T) {
	const local, cloud = decision.Local, decision.Cloud
	for _, row := range []struct {
		critical    bool
		score       float64
		target      decision.Target
		local, near float64 // s, with a second left
		want        bool
	}{
		{false, 0.5, local, 0.5, 0.5, true},
		{true, 0.5, local, 0.5, 0.5, false},
		{false, 0.5 + closeBy/2 - 1e-9, cloud, 0.5, 0.5, true},
		{false, 0.5 + closeBy/2 + 1e-9, cloud, 0.5, 0.5, false},
		{false, 0.5 - closeBy/2 - 1e-9, local, 0.5, 0.5, false},
		{false, 0.5, local, 0.5, 1, true},
		{false, 0.5, local, 0.5, 1.01, false},
		{false, 0.5, local, 1, 1.01, false},
		{false, 0.5, local, 1.01, 1.02, true},
		{false, 0.5, cloud, 1.01, 0.5, false},
	} {
		d := decision.Decision{Target: row.target, Score: row.score}
		one := &task.Task{Critical: row.critical, Deadline: time.Second}
		require.Equal(t, row.want, harmless(one, &host.State{}, &d, [2]float64{local: row.local, cloud: row.near}), row)
	}
}

// Only a positive definite matrix has a root.
func TestRootsOfMatrices(t *testing.T) {
	for diagonal, want := range map[float64]bool{4: true, 1e-300: true, 0: false, -1: false, math.NaN(): false, math.Inf(1): false} {
		var m [dims]vector
		for i := range m {
			m[i][i] = 1
		}
		m[dims-1][dims-1] = diagonal
		root, ok := cholesky(&m)
		require.Equal(t, want, ok, diagonal)
		if ok {
			require.Equal(t, math.Sqrt(diagonal), root[dims-1][dims-1])
		}
	}
}

// Targets with recent outcomes are not explored; those whose outcomes are old are explored again.
func TestWhatIsKnownIsTriedLess(t *testing.T) {
	b := build(t, "bandit", greedy, func(c *Config) { c.BanditExplore = 0.2 }).(*bandit)
	e := &score.Estimate{LocalTime: 0.5, CloudTime: 0.45}
	tk := &task.Task{Deadline: time.Second}
	share := func() float64 {
		for {
			if d := b.Decide(tk, e, busy(0)); d.Reason != decision.Explored {
				require.Equal(t, decision.Cloud, d.Target, "or the other target is another one")
				return 1 - d.Propensity
			}
		}
	}
	require.InDelta(t, 0.2, share(), 1e-12, "nothing is known of this node")
	as := func(target decision.Target, times int) {
		for range times {
			b.Observe(&decision.Entry{Estimate: *e, Decision: decision.Decision{Target: target}, Outcome: decision.Outcome{Known: true, Time: 0.5 - 0.05*float64(target)}})
		}
	}
	as(decision.Local, 300)
	require.Less(t, share(), 0.2/5)
	as(decision.Cloud, 20_000)
	require.Greater(t, share(), 0.2/2)
}

// An hour of trouble makes a target look bad, and no later task is sent there that could show its end. The outcomes are forgotten.
func TestAWayThatLooksBadIsNotGivenUpForEver(t *testing.T) {
	for _, bad := range []decision.Target{decision.Local, decision.Cloud} {
		b := build(t, "bandit").(*bandit)
		rng := rand.New(rand.NewPCG(5, 6))
		for range 500 {
			b.Observe(lesson(rng, decision.Local, 1))
			b.Observe(lesson(rng, decision.Cloud, 1))
		}
		for range 50 {
			b.Observe(lesson(rng, bad, 1000))
		}
		looks := func() float64 {
			p := timing{wait: 0.1, own: 0.3, after: 0.1}
			return b.known.Load().Arms[bad].correct(p, 0).time() / p.time()
		}
		require.Greater(t, looks(), 2.0, bad)
		for range 20_000 {
			b.Observe(lesson(rng, 1-bad, 1))
		}
		require.Less(t, looks(), 1.1, bad)
	}
}

// Exploration must not harm tasks that cannot afford it.
func TestForcedSamplingHarmsNobody(t *testing.T) {
	b := build(t, "bandit", greedy, func(c *Config) { c.BanditExplore, c.BanditOptimism = 0.5, 0 })
	for name, c := range map[string]struct {
		task         task.Task
		local, cloud float64
		want         bool
	}{
		"close, in time both ways":        {task.Task{Deadline: time.Second}, 0.5, 0.45, true},
		"close, no deadline":              {task.Task{}, 5, 4.5, true},
		"critical":                        {task.Task{Deadline: time.Second, Critical: true}, 0.5, 0.45, false},
		"late on the other target":        {task.Task{Deadline: time.Second}, 1.02, 0.98, false},
		"late both ways":                  {task.Task{Deadline: time.Second}, 1.1, 1.1, true},
		"the other target is unreachable": {task.Task{}, 0.5, math.Inf(1), false},
		"one target is far better":        {task.Task{Deadline: time.Second}, 0.9, 0.1, false},
	} {
		tried := false
		for range 200 {
			tried = tried || b.Decide(&c.task, &score.Estimate{LocalTime: c.local, CloudTime: c.cloud}, busy(0)).Reason == decision.Explored
		}
		require.Equal(t, c.want, tried, name)
	}
}

// If no outcome ever arrives, as with a silent consumer, the bandit decides as cost does, except for rare draws.
func TestWithoutOutcomesTheBanditIsCost(t *testing.T) {
	b, k := build(t, "bandit"), build(t, "cost")
	rng := rand.New(rand.NewPCG(7, 8))
	const n = 20_000
	differ := 0
	for range n {
		l := lesson(rng, decision.Local, 1)
		tk := &task.Task{Deadline: time.Duration(rng.IntN(2)) * time.Second}
		if b.Decide(tk, &l.Estimate, &l.State).Target != k.Decide(tk, &l.Estimate, &l.State).Target {
			differ++
		}
	}
	require.Less(t, float64(differ)/n, 0.03)
}

func TestLearnedStateIsSavedAndRestored(t *testing.T) {
	b := build(t, "bandit").(Learner)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 50 {
		b.Observe(lesson(rng, decision.Target(i%2), 1.7))
	}
	data, err := b.Save()
	require.NoError(t, err)
	again := build(t, "bandit").(Learner)
	require.NoError(t, again.Restore(data))
	local, cloud := again.Outcomes()
	require.Equal(t, []int64{25, 25}, []int64{local, cloud})
	for range 20 {
		l := lesson(rng, decision.Local, 1)
		tk := &task.Task{Deadline: l.Deadline}
		require.InDelta(t, b.Decide(tk, &l.Estimate, &l.State).Score, again.Decide(tk, &l.Estimate, &l.State).Score, 0)
	}
	before, err := again.Save()
	require.NoError(t, err)
	var state map[string]any
	require.NoError(t, json.Unmarshal(data, &state))
	row := state["known"].(map[string]any)["Arms"].([]any)[0].(map[string]any)["Matrix"].([]any)[0].([]any)
	row[1] = row[1].(float64) + 1e-9
	skew, err := json.Marshal(state)
	require.NoError(t, err)
	for _, bad := range []string{
		string(skew), // no outcomes lead to a matrix that is not symmetric
		"", "{}", `{"policy":"ppo","version":1}`, `{"policy":"bandit","version":9}`, `{"policy":"bandit","version":2}`,
		`{"policy":"bandit","version":2,"known":{"Arms":[{"Count":-1}]}}`,
	} {
		require.ErrorContains(t, again.Restore([]byte(bad)), "restoring policy bandit")
		after, err := again.Save()
		require.NoError(t, err)
		require.Equal(t, string(before), string(after), "what cannot be restored changes nothing")
	}
}

// With any input, the learned state stays finite.
func TestNoOutcomeSpoilsTheBandit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := New("bandit", DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		b := p.(*bandit)
		for range rapid.IntRange(1, 30).Draw(t, "outcomes") {
			f := func(what string) float64 { return anyFloat().Draw(t, what) }
			e := &decision.Entry{Estimate: score.Estimate{LocalTime: f("local"), CloudTime: f("cloud"), Cycles: f("cycles"), Bytes: f("bytes")}}
			e.State.QueueCycles, e.State.Link.Goodput = f("queue"), f("goodput")
			e.State.Link.BacklogBytes = rapid.Int64().Draw(t, "backlog")
			e.Decision.Target = decision.Target(rapid.IntRange(0, 1).Draw(t, "target"))
			e.Outcome = decision.Outcome{Known: true, Time: f("took")}
			b.Observe(e)
			for i := range b.known.Load().Arms {
				if a := b.known.Load().Arms[i]; !a.restored() {
					t.Fatalf("after %+v: %+v", e, a)
				}
			}
		}
	})
}

func TestLearningWhileDeciding(t *testing.T) {
	b := build(t, "bandit").(Learner)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for range 300 {
				l := lesson(rng, decision.Target(i%2), 1.3)
				b.Decide(&task.Task{Deadline: l.Deadline}, &l.Estimate, &l.State)
				b.Observe(l)
			}
		})
	}
	wg.Wait()
	k := b.(*bandit).known.Load()
	require.EqualValues(t, 1200, k.Arms[decision.Local].Count+k.Arms[decision.Cloud].Count)
}

// After a reload the prices continue with the counted deadlines, as those of policy cost do.
func TestAReloadKeepsTheTempoOfTheBandit(t *testing.T) {
	for _, build := range []func(Config) Policy{newBandit, newCost} {
		old, next := build(DefaultConfig()), build(DefaultConfig())
		s := &host.State{Time: 1e18}
		for range fewTasks {
			s.Time += int64(time.Second)
			old.Decide(&task.Task{Deadline: 20 * time.Second}, &score.Estimate{LocalTime: 1, CloudTime: 1}, s)
		}
		Inherit(next, old)
		priced := func(p Policy) float64 {
			if b, ok := p.(*bandit); ok {
				return b.cost.tempo.usual(s.Time)
			}
			return p.(*cost).tempo.usual(s.Time)
		}
		require.InDelta(t, usualDeadline/20, priced(old), 1e-9, old.Name())
		require.InDelta(t, priced(old), priced(next), 1e-9, old.Name())
		if _, ok := old.(*bandit); ok { // a shadow inherits from the acting one, and both count every task
			next.Decide(&task.Task{Deadline: time.Second}, &score.Estimate{LocalTime: 1, CloudTime: 1}, s)
			require.InDelta(t, usualDeadline/20, priced(old), 1e-9)
		}
	}
}

// Outcomes correct the comparison of both targets as well; an unreachable cloud stays unreachable.
func TestTheComparisonIsCorrected(t *testing.T) {
	b := build(t, "bandit").(*bandit)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b.Observe(lesson(rng, decision.Cloud, 3))
	}
	probe := lesson(rng, decision.Cloud, 3)
	local, cloud := timings(&probe.Estimate, &probe.State)
	known, plain := b.known.Load(), [2]timing{local, cloud}
	got := known.terms(terms{local: local.time(), cloud: cloud.time()}, plain)
	require.InEpsilon(t, probe.Outcome.Time, got.cloud, 0.1)
	require.InDelta(t, local.time(), got.local, 1e-9, "of which nothing is known")
	require.True(t, math.IsInf(known.terms(terms{cloud: math.Inf(1)}, plain).cloud, 1))
}

// Outcomes that are unknown, failed, or have an invalid time teach nothing.
func TestWhatTeachesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(o *decision.Outcome)
		want   int64
	}{
		"a good one": {func(*decision.Outcome) {}, 1}, "at once": {func(o *decision.Outcome) { o.Time = 0 }, 1},
		"unknown": {func(o *decision.Outcome) { o.Known = false }, 0}, "failed": {func(o *decision.Outcome) { o.Failed = true }, 0},
		"below 0": {func(o *decision.Outcome) { o.Time = -1 }, 0}, "not a number": {func(o *decision.Outcome) { o.Time = math.NaN() }, 0},
		"endless": {func(o *decision.Outcome) { o.Time = math.Inf(1) }, 0},
	} {
		b := build(t, "bandit").(*bandit)
		one := lesson(rand.New(rand.NewPCG(1, 2)), decision.Cloud, 2)
		c.change(&one.Outcome)
		b.Observe(one)
		local, cloud := b.Outcomes()
		require.Equal(t, [2]int64{0, c.want}, [2]int64{local, cloud}, name)
	}
	require.False(t, isNumber(math.Inf(-1)) || isNumber(math.Inf(1)) || isNumber(math.NaN()))
}
