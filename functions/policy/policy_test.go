package policy

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func build(t testing.TB, name string, edits ...func(*Config)) Policy {
	t.Helper()
	p, err := New(name, config(edits...))
	require.NoError(t, err)
	return p
}

func config(edits ...func(*Config)) Config {
	c := DefaultConfig()
	for _, edit := range edits {
		edit(&c)
	}
	return c
}

func preset(name string) func(*Config) { return func(c *Config) { c.WeightedPreset = name } }

func sized(kb int, complexity float64) *task.Task {
	return &task.Task{Data: make([]byte, kb*score.KB), Complexity: complexity}
}

func busy(cpu float64) *host.State { return &host.State{CPU: cpu, Link: host.Link{Up: true}} }

func TestArticleIsTheFormulaToTheLetter(t *testing.T) {
	p := build(t, "weighted", preset("article"))
	for _, c := range []struct {
		kb              int
		complexity, cpu float64
		want            float64
		target          decision.Target
	}{
		{512, 80, 30, 0.69, decision.Cloud}, // the published example, whose own comment says 0.71
		{0, 100, 0, 1, decision.Cloud},      // the largest score there is
		{1024, 0, 100, 0, decision.Local},
		{1024, 100, 100, 0.5, decision.Cloud},                 // at the threshold is enough
		{4096, 100, 0, 0.3*(1-4) + 0.5 + 0.2, decision.Local}, // over 1,024 KB the size term is negative and not clamped
	} {
		d := p.Decide(sized(c.kb, c.complexity), &score.Estimate{}, busy(c.cpu))
		require.InDelta(t, c.want, d.Score, 1e-9)
		require.Equal(t, c.target, d.Target)
		require.InDelta(t, d.Score, d.Terms.Size+d.Terms.Complexity+d.Terms.CPU, 1e-12)
	}
}

func TestDefaultPresetByHand(t *testing.T) {
	p := build(t, "weighted")
	d := p.Decide(sized(512, 80), &score.Estimate{}, busy(30))
	require.InDelta(t, 0.3*0.5+0.5*0.8+0.2*0.3, d.Score, 1e-9)
	d = p.Decide(sized(4096, 0), &score.Estimate{}, busy(0))
	require.InDelta(t, 0, d.Score, 0, "terms stop at their ends")
	high := p.Decide(sized(0, 300), &score.Estimate{}, busy(-50))
	require.Equal(t, decision.Terms{Size: 0.3, Complexity: 0.5}, high.Terms, "at both")
	require.Equal(t, decision.BelowThreshold, d.Reason)
	require.Equal(t, "weighted (default): 0.3·(1−KB/1024) + 0.5·complexity/100 + 0.2·cpu/100, within 0–1; cloud from 0.5; the faster target if the other takes more than 3 deadlines", p.String())
	require.Equal(t, "weighted (article): 0.3·(1−KB/1024) + 0.5·complexity/100 + 0.2·(1−cpu/100); cloud from 0.5; the faster target if the other takes more than 3 deadlines", build(t, "weighted", preset("article")).String())
}

func TestCustomTerms(t *testing.T) {
	p := build(t, "weighted", preset("custom"), func(c *Config) {
		c.SizeWeight, c.SizeDirection, c.SizeScaleKB = 0.6, rises, 100
		c.ComplexityWeight, c.ComplexityDirection, c.ComplexityScale = 0.2, falls, 50
		c.CPUWeight, c.WeightedThreshold = 0, 0.4
	})
	d := p.Decide(sized(50, 25), &score.Estimate{}, busy(90))
	require.InDelta(t, 0.6*0.5+0.2*0.5, d.Score, 1e-9)
	require.Equal(t, decision.Cloud, d.Target, "0.4 is the threshold")
}

func anyFloat() *rapid.Generator[float64] {
	odd := rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, math.MaxFloat64})
	return rapid.OneOf(rapid.Float64Range(0, 100), odd, rapid.Float64())
}

func TestWeightedRisesAndFallsAsConfigured(t *testing.T) {
	direction := rapid.SampledFrom([]string{rises, falls})
	weight, scale := rapid.Float64Range(0, 1), rapid.Float64Range(0.01, 100)
	rapid.Check(t, func(t *rapid.T) {
		c := config(preset("custom"))
		c.SizeDirection, c.ComplexityDirection, c.CPUDirection = direction.Draw(t, "size"), direction.Draw(t, "complexity"), direction.Draw(t, "cpu")
		c.SizeWeight, c.ComplexityWeight, c.CPUWeight = weight.Draw(t, "ws"), weight.Draw(t, "wc"), weight.Draw(t, "wu")
		c.SizeScaleKB, c.ComplexityScale, c.CPUScale = scale.Draw(t, "ss"), scale.Draw(t, "sc"), scale.Draw(t, "su")
		p, err := New("weighted", c)
		if err != nil {
			t.Fatal(err)
		}
		kb, complexity, cpu := rapid.IntRange(0, 64).Draw(t, "kb"), rapid.Float64Range(0, 100).Draw(t, "c"), rapid.Float64Range(0, 100).Draw(t, "u")
		base := p.Decide(sized(kb, complexity), &score.Estimate{}, busy(cpu)).Score
		for _, more := range []struct {
			direction string
			score     float64
		}{
			{c.SizeDirection, p.Decide(sized(kb+8, complexity), &score.Estimate{}, busy(cpu)).Score},
			{c.ComplexityDirection, p.Decide(sized(kb, complexity+8), &score.Estimate{}, busy(cpu)).Score},
			{c.CPUDirection, p.Decide(sized(kb, complexity), &score.Estimate{}, busy(cpu+8)).Score},
		} {
			const rounding = 1e-12
			if (more.direction == rises && more.score < base-rounding) || (more.direction == falls && more.score > base+rounding) {
				t.Fatalf("the score went from %v to %v, but it %s", base, more.score, more.direction)
			}
		}
	})
}

// With any input, a policy returns one of the two targets, its score agrees with its threshold, and nothing is NaN.
func TestEveryPolicyAnswersSensibly(t *testing.T) {
	var all []Policy
	for _, info := range List() {
		all = append(all, build(t, info.Name))
	}
	all = append(all, build(t, "weighted", preset("article")), build(t, "weighted", preset("custom")))
	rapid.Check(t, func(t *rapid.T) {
		tk := sized(rapid.IntRange(0, 64).Draw(t, "kb"), anyFloat().Draw(t, "complexity"))
		tk.Deadline = time.Duration(rapid.Int64().Draw(t, "deadline"))
		tk.Received = rapid.Int64().Draw(t, "received")
		e := score.Estimate{LocalTime: anyFloat().Draw(t, "local"), CloudTime: anyFloat().Draw(t, "cloud")}
		s := host.State{Time: rapid.Int64().Draw(t, "time"), CPU: anyFloat().Draw(t, "cpu")}
		for _, p := range all {
			d := p.Decide(tk, &e, &s)
			if (d.Target == decision.Cloud) != (d.Score >= d.Threshold) {
				t.Fatalf("%s: %+v contradicts its threshold", p, d)
			}
			if !(d.Propensity > 0 && d.Propensity <= 1) || d.Reason == decision.ReasonNone || math.IsInf(d.Score, 0) {
				t.Fatalf("%s: %+v", p, d)
			}
			if w, ok := p.(weighted); (!ok || w.clamp) && !(d.Score >= 0 && d.Score <= 1) {
				t.Fatalf("%s: score %v", p, d.Score)
			}
		}
	})
}

func TestDeadline(t *testing.T) {
	never := math.Inf(1)
	p := build(t, "deadline")
	for _, c := range []struct {
		name         string
		deadline     time.Duration
		waited       time.Duration
		local, cloud float64
		want         decision.Target
		why          decision.Reason
	}{
		{"in time here", time.Second, 0, 0.9, 0.1, decision.Local, decision.LocalMeets},
		{"exactly in time", time.Second, 0, 1, 0.1, decision.Local, decision.LocalMeets},
		{"late here, in time there", time.Second, 0, 1.1, 0.5, decision.Cloud, decision.LocalMisses},
		{"late here, later there", time.Second, 0, 1.1, 1.2, decision.Local, decision.BothMissLocal},
		{"both late by as much", time.Second, 0, 1.1, 1.1, decision.Cloud, decision.LocalMisses},
		{"late by having waited", time.Second, 500 * time.Millisecond, 0.9, 0.3, decision.Cloud, decision.LocalMisses},
		{"past its deadline: the sooner", time.Second, 2 * time.Second, 0.2, 0.1, decision.Cloud, decision.LocalMisses},
		{"past its deadline, sooner here", time.Second, 2 * time.Second, 0.1, 0.2, decision.Local, decision.BothMissLocal},
		{"no link to the cloud", time.Second, 0, 9, never, decision.Local, decision.BothMissLocal},
		{"no target at all", time.Second, 0, never, never, decision.Local, decision.BothMissLocal},
		{"no deadline", 0, 0, 9, 0.1, decision.Local, decision.LocalMeets},
		{"no deadline, patience used up", 0, 5 * time.Second, 5.1, 0.1, decision.Cloud, decision.LocalMisses},
		{"no deadline, patience not used up", 0, 5 * time.Second, 5, 0.1, decision.Local, decision.LocalMeets},
		{"no deadline, just received", 0, 0, 10, 0.1, decision.Local, decision.LocalMeets},
		{"no deadline, a stamp ahead", 0, -time.Hour, 10.1, 0.1, decision.Cloud, decision.LocalMisses},
		{"at the border there", time.Second, 0, 3, 3, decision.Cloud, decision.LocalMisses},
	} {
		tk := &task.Task{Deadline: c.deadline, Received: int64(time.Hour)}
		s := &host.State{Time: int64(time.Hour + c.waited)}
		d := p.Decide(tk, &score.Estimate{LocalTime: c.local, CloudTime: c.cloud}, s)
		require.Equal(t, c.want, d.Target, c.name)
		require.Equal(t, c.why, d.Reason, c.name)
		require.Equal(t, c.want == decision.Cloud, d.Score >= d.Threshold, c.name)
	}
}

func TestRandomDrawsItsShareAndTellsItsChance(t *testing.T) {
	edit := func(c *Config) { c.RandomShare, c.RandomSeed = 0.2, 7 }
	p, again := build(t, "random", edit), build(t, "random", edit)
	const n = 20_000
	sent := 0
	for range n {
		d := p.Decide(nil, nil, nil)
		require.Equal(t, d, again.Decide(nil, nil, nil), "equal seeds draw equally")
		if d.Target == decision.Cloud {
			sent++
			require.InDelta(t, 0.2, d.Propensity, 1e-12)
		} else {
			require.InDelta(t, 0.8, d.Propensity, 1e-12)
		}
	}
	require.InDelta(t, 0.2, float64(sent)/n, 5*math.Sqrt(0.2*0.8/n))
}

func TestListAndNew(t *testing.T) {
	seen := map[string]bool{}
	for _, info := range List() {
		require.False(t, seen[info.Name])
		seen[info.Name] = true
		require.NotEmpty(t, info.Summary)
		require.NotEmpty(t, info.WhenNot)
		p := build(t, info.Name)
		require.Equal(t, info.Name, p.Name())
		require.Contains(t, p.String(), info.Name)
	}
	_, err := New("oracle", DefaultConfig())
	require.ErrorContains(t, err, `"oracle" does not exist; use one of weighted, deadline, edge, cloud, random`)
	_, err = New("edge", Config{})
	require.Error(t, err)
}

func TestConfigReportsAllProblemsAtOnce(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{SizeWeight: math.NaN(), BacklogLimit: 2}.Validate()
	for _, key := range []string{"Default", "WeightedPreset", "SizeWeight", "SizeDirection", "SizeScaleKB", "ComplexityDirection", "CPUScale", "RandomShare", "LinkDown", "BacklogLimit", "Decisions"} {
		require.ErrorContains(t, err, "Policy."+key)
	}
}

// Shadows must exist, be ready, be few, and differ from the acting policy.
func TestTheCompanyOfAPolicy(t *testing.T) {
	most := strings.TrimSuffix(strings.Repeat("edge,", MaxShadows), ",")
	for name, c := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"shadows":               {func(c *Config) { c.Shadow = most }, ""},
		"shadows with blanks":   {func(c *Config) { c.Shadow = " edge , cloud ,, " }, ""},
		"too many":              {func(c *Config) { c.Shadow = most + ",cloud" }, "Policy.Shadow"},
		"an unknown shadow":     {func(c *Config) { c.Shadow = "edge,oracle" }, "Policy.Shadow"},
		"an unready shadow":     {func(c *Config) { c.Shadow, c.PPOWeights = "ppo", "" }, "Policy.PPOWeights"},
		"a canary":              {func(c *Config) { c.Default, c.Canary = "cost", "edge" }, ""},
		"the same":              {func(c *Config) { c.Default, c.Canary = "cost", "cost" }, "Policy.Canary"},
		"an unknown canary":     {func(c *Config) { c.Canary = "oracle" }, "Policy.Canary"},
		"an unready canary":     {func(c *Config) { c.Default, c.Canary, c.PPOWeights = "cost", "ppo", "" }, "Policy.PPOWeights"},
		"an unready policy":     {func(c *Config) { c.Default, c.PPOWeights = "ppo", "" }, "Policy.PPOWeights"},
		"weights of no use":     {func(c *Config) { c.Default, c.PPOWeights = "cost", "missing.json" }, ""},
		"a rule that is absent": {func(c *Config) { c.Default, c.DeferRule = "defer", "missing.json" }, "Policy.DeferRule"},
	} {
		if err := config(c.edit).Validate(); c.want == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, c.want, name)
		}
	}
}

// A policy continues with the learned state of another one of its kind, and of no other kind.
func TestOnlyItsKindInherits(t *testing.T) {
	for _, p := range All(DefaultConfig()) {
		before := p.String()
		Inherit(p, nil)
		for _, from := range All(DefaultConfig()) {
			Inherit(p, from)
		}
		require.Equal(t, before, p.String())
	}
}

func TestVersionTellsConfigurationsApart(t *testing.T) {
	base := DefaultConfig().Version()
	require.Len(t, base, 8)
	require.Equal(t, base, DefaultConfig().Version())
	require.Equal(t, base, config(func(c *Config) { c.Decisions = 7 }).Version(), "how many are kept decides nothing")
	require.NotEqual(t, base, config(func(c *Config) { c.BacklogLimit = 0.8 }).Version())
}

// The claim behind the default preset: of the four directions of size and CPU load, it takes the least predicted time on tasks as the configuration
// calibrates them, on slow and fast links, at equal thresholds as well as with the best threshold for each. (The article's directions are size
// falling, CPU falling.)
func TestDefaultPresetIsTheBestOfTheDirections(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	for _, mbit := range []float64{2, 8, 32} {
		way := func(size, cpu string) (atHalf, atBest float64) {
			atBest = math.Inf(1)
			for _, threshold := range []float64{0.2, 0.3, 0.4, 0.5, 0.6} {
				took := meanTime(m, build(t, "weighted", preset("custom"), func(c *Config) {
					c.SizeDirection, c.CPUDirection, c.WeightedThreshold = size, cpu, threshold
				}), mbit)
				atBest = min(atBest, took)
				if threshold == DefaultConfig().WeightedThreshold {
					atHalf = took
				}
			}
			return atHalf, atBest
		}
		atHalf, atBest := way(falls, rises)
		require.InDelta(t, atHalf, meanTime(m, build(t, "weighted"), mbit), 1e-12, "this is the default preset")
		t.Logf("%v Mbit/s: size falls, CPU rises (default): %.3f s, at its best threshold %.3f s", mbit, atHalf, atBest)
		for _, other := range [][2]string{{rises, rises}, {falls, falls}, {rises, falls}} {
			otherHalf, otherBest := way(other[0], other[1])
			t.Logf("%v Mbit/s: size %s, CPU %s: %.3f s, at its best threshold %.3f s", mbit, other[0], other[1], otherHalf, otherBest)
			require.Less(t, atHalf, otherHalf)
			require.Less(t, atBest, otherBest)
		}
	}
}

// meanTime is the predicted time in s of 3,000 tasks of 2–1,000 KB on a node in all states, decided by p.
func meanTime(m *score.Model, p Policy, mbit float64) float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 1000*score.KB)
	total := 0.0
	for range 3000 {
		size := 2 * score.KB * math.Exp(rng.Float64()*math.Log(500))
		tk := &task.Task{Data: data[:int(size)], Complexity: 100 * rng.Float64()}
		s := busy(100 * rng.Float64())
		s.QueueCycles, s.Link.Goodput = 300*rng.ExpFloat64(), mbit*1e6/8
		e := m.Estimate(tk, s)
		if p.Decide(tk, &e, s).Target == decision.Cloud {
			total += e.CloudTime
		} else {
			total += e.LocalTime
		}
	}
	return total / 3000
}
