package decide

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/pool"
	"app-offload/functions/score"
	"app-offload/functions/task"
	"app-offload/functions/trial"
)

// Shadows change nothing: with all policies as shadows every decision is the same as without any.
func TestShadowsChangeNoDecision(t *testing.T) {
	all := "weighted, deadline, edge, cloud, random, cost, bandit"
	rapid.Check(t, func(t *rapid.T) {
		acting := rapid.SampledFrom([]string{"random", "bandit", "cost", "weighted"}).Draw(t, "acting")
		alone, _ := NewDecider(configured(func(c *policy.Config) { c.Default, c.BanditExplore = acting, 0.5 }))
		watched, err := NewDecider(configured(func(c *policy.Config) { c.Default, c.BanditExplore, c.Shadow, c.ShadowShare = acting, 0.5, all, 1 }))
		if err != nil {
			t.Fatal(err)
		}
		n := rapid.IntRange(1, 50).Draw(t, "n")
		for range n {
			tk := &task.Task{Deadline: time.Second, Complexity: 50, Nominal: 1000}
			e := score.Estimate{LocalTime: rapid.Float64Range(0, 2).Draw(t, "local"), CloudTime: rapid.Float64Range(0, 2).Draw(t, "cloud")}
			s := loaded(20)
			want, _ := alone.Decide(tk, &e, s)
			have, _ := watched.Decide(tk, &e, s)
			watched.Look(tk, &e, s, &have)
			if want != have {
				t.Fatalf("%+v became %+v", want, have)
			}
		}
		for _, c := range watched.Shadows() {
			if c.Decisions != uint64(n) || c.Agreed > c.Decisions {
				t.Fatalf("%+v of %d", c, n)
			}
		}
	})
}

func TestShadowsAreCounted(t *testing.T) {
	c := configured(func(c *policy.Config) { c.Default, c.Shadow, c.ShadowShare = "edge", "cloud,edge", 1 })
	d := decider(t, c)
	tk := &task.Task{Deadline: time.Second}
	e := &score.Estimate{LocalTime: 2, CloudTime: 0.5}
	look := func(up bool) {
		s := loaded(1)
		s.Link.Up = up
		got, _ := d.Decide(tk, e, s)
		d.Look(tk, e, s, &got)
	}
	for range 10 {
		look(true)
	}
	look(false) // the guard's decision, none of a policy's
	want := []trial.ShadowCount{
		{Policy: "edge", Decisions: 10, Agreed: 10, Cost: 30, ActingCost: 30}, // 2 deadlines and a miss
		{Policy: "cloud", Decisions: 10, Cost: 10 * 0.55, ActingCost: 30},
	}
	have := d.Shadows()
	for i := range want {
		require.InDelta(t, want[i].Cost, have[i].Cost, 1e-9)
		want[i].Cost = have[i].Cost
	}
	require.Equal(t, want, have)

	same := decider(t, configured(func(n *policy.Config) { *n = c; n.Decisions = 9 }))
	same.Follow(d)
	require.EqualValues(t, 10, same.Shadows()[0].Decisions)
	require.Empty(t, decider(t, policy.DefaultConfig()).Shadows())
}

func TestShadowsSeeTheirShare(t *testing.T) {
	d := decider(t, configured(func(c *policy.Config) { c.Default, c.Shadow, c.ShadowShare = "edge", "cloud", 0.25 }))
	tk, e, s := &task.Task{}, &score.Estimate{}, loaded(1)
	got, _ := d.Decide(tk, e, s)
	for range 10_000 {
		d.Look(tk, e, s, &got)
	}
	require.InDelta(t, 2500, d.Shadows()[0].Decisions, 200)
}

func TestCompanyIsValidated(t *testing.T) {
	for want, edit := range map[string]func(*policy.Config){
		`Policy.Shadow = "wisdom"`:   func(c *policy.Config) { c.Shadow = "cost, wisdom" },
		`Policy.Canary = "wisdom"`:   func(c *policy.Config) { c.Canary = "wisdom" },
		`Policy.Canary = "defer"`:    func(c *policy.Config) { c.Canary = "defer" }, // which is the default
		`Policy.CanaryShare`:         func(c *policy.Config) { c.CanaryShare = 0 },
		`Policy.PPOWeights = "none"`: func(c *policy.Config) { c.Canary, c.PPOWeights = "ppo", "none" },
		`Policy.PPOWeights = "nil"`:  func(c *policy.Config) { c.Shadow, c.PPOWeights = "ppo", "nil" },
	} {
		require.ErrorContains(t, configured(edit).Validate(), want)
	}
}

// Another configuration of the same policy continues with its learned state, and so does its shadow.
func TestWhatWasLearnedIsInherited(t *testing.T) {
	d := decider(t, configured(func(c *policy.Config) { c.Default = "bandit" }))
	for range 50 {
		d.Observe(&decision.Entry{Estimate: score.Estimate{LocalTime: 1, CloudTime: 1}, Outcome: decision.Outcome{Known: true, Time: 3}})
	}
	next := decider(t, configured(func(c *policy.Config) { c.BanditOptimism, c.Shadow = 0, "bandit" }))
	next.Follow(d)
	taught := func(p policy.Policy) int64 {
		local, _ := p.(policy.Learner).Outcomes()
		return local
	}
	require.EqualValues(t, 50, taught(next.For("bandit")))
	require.EqualValues(t, 50, taught(next.shadows.Named("bandit")))
	next.Observe(&decision.Entry{Estimate: score.Estimate{LocalTime: 1, CloudTime: 1}, Outcome: decision.Outcome{Known: true, Time: 3}})
	require.EqualValues(t, 51, taught(next.shadows.Named("bandit")), "one memory")
}

// A bandit that is switched on while the service runs uses earlier statistics of other nodes immediately.
func TestAPriorIsThereWhenItsPolicyIsSwitchedOn(t *testing.T) {
	target := func(prior pool.Parts) decision.Target {
		d := decider(t, configured(func(c *policy.Config) { c.Default = "cost" }))
		d.For("bandit").(policy.Pooled).Prior(prior)
		next := decider(t, configured(func(c *policy.Config) { c.Default, c.BanditExplore, c.BanditOptimism = "bandit", 0, 0 }))
		next.Follow(d)
		answer, _ := next.DecideBy("", &task.Task{Deadline: time.Second}, &score.Estimate{LocalTime: 0.5, CloudTime: 0.6}, loaded(1))
		return answer.Target
	}
	rows := make([][]float64, 4)
	for i := range rows {
		rows[i] = make([]float64, 4)
	}
	rows[1][1] = 20
	require.Equal(t, decision.Local, target(nil))
	require.Equal(t, decision.Cloud, target(pool.Parts{pool.Bandit + "local": pool.Make(rows, []float64{0, 60, 0, 0})}))
}

// A policy that decides by arrivals counts all arrivals of the node, whichever policy decides, and each of them once.
func TestArrivalsAreCountedWhoeverDecides(t *testing.T) {
	d := decider(t, configured(func(c *policy.Config) {
		c.Default, c.Shadow, c.ShadowShare, c.PPOWeights = "cost", "ppo", 0.2, "../../res/policies/ppo.json"
	}))
	var counted policy.Pace
	var want policy.Arrivals
	s, patience := loaded(1), policy.DefaultConfig().CostPatience
	alone, err := policy.New("ppo", policy.DefaultConfig())
	require.NoError(t, err)
	for i := range 1000 {
		at := int64(1e18) + int64(i)*int64(100*time.Millisecond)
		s.Time, s.Link.Up = at, i%10 != 0 // now and then a guard decides
		tk, e := &task.Task{Received: at, Deadline: time.Second}, &score.Estimate{LocalTime: 1, CloudTime: 1}
		name := ""
		if i%3 == 0 {
			name = "ppo"
		}
		got, _ := d.DecideBy(name, tk, e, s)
		d.Look(tk, e, s, &got)
		alone.Decide(tk, e, s)
		want = counted.Note(tk, s, patience)
	}
	for _, p := range []policy.Policy{d.For("ppo"), d.shadows.Named("ppo"), alone} {
		require.InEpsilon(t, want.Lately, arrivals(p).Lately, 0.01)
	}
	next := decider(t, configured(func(c *policy.Config) { c.Shadow, c.PPOWeights = "ppo", "../../res/policies/ppo.json" }))
	next.Follow(d)
	require.InEpsilon(t, want.Lately, arrivals(next.For("ppo")).Lately, 0.01)
	s.Time += int64(100 * time.Millisecond)
	late := &task.Task{Received: s.Time}
	got, _ := next.DecideBy("", late, &score.Estimate{LocalTime: 1, CloudTime: 1}, s)
	next.Look(late, &score.Estimate{LocalTime: 1, CloudTime: 1}, s, &got)
	want = counted.Note(late, s, patience)
	for _, p := range []policy.Policy{next.For("ppo"), next.shadows.Named("ppo")} {
		require.InEpsilon(t, want.Lately, arrivals(p).Lately, 0.01, "one memory would count twice")
	}
}

// Propensities are the actual probabilities of targets: weighted by their inverse, the decisions of each target add up to the whole.
func TestPropensitiesAreTheChances(t *testing.T) {
	const n = 40_000
	for _, name := range []string{"random", "bandit", "cost", "weighted", "edge"} {
		d := decider(t, configured(func(c *policy.Config) { c.Default, c.RandomShare, c.BanditExplore = name, 0.3, 0.2 }))
		tk, e, s := &task.Task{Deadline: time.Second, Nominal: 100}, &score.Estimate{LocalTime: 0.5}, loaded(10)
		for d.For("cost").Decide(tk, e, s).Score > 0.5 { // a close decision, which the bandit may force
			e.CloudTime += 0.01
		}
		var weight [2]float64
		for range n {
			got, _ := d.Decide(tk, e, s)
			weight[got.Target] += 1 / got.Propensity
		}
		for target, w := range weight {
			require.True(t, w > 0 || (name != "random" && name != "bandit"), "policy %s, %s: %v", name, decision.Target(target), w)
			require.True(t, w == 0 || math.Abs(w/n-1) < 0.05, "policy %s, %s: %v", name, decision.Target(target), w/n)
		}
	}
}

// Shares and margins are rejected outside of their range, and only there.
func TestTheNumbersOfACompanyHaveARange(t *testing.T) {
	for name, one := range map[string]struct {
		field     func(*policy.Config) *float64
		low, high float64
	}{
		"ShadowShare":      {func(c *policy.Config) *float64 { return &c.ShadowShare }, 0.001, 1},
		"CanaryShare":      {func(c *policy.Config) *float64 { return &c.CanaryShare }, 0.001, 0.9},
		"CanaryMarginMiss": {func(c *policy.Config) *float64 { return &c.CanaryMarginMiss }, 0, 1},
		"CanaryMarginCost": {func(c *policy.Config) *float64 { return &c.CanaryMarginCost }, 0, 1e6},
		"CanaryConfidence": {func(c *policy.Config) *float64 { return &c.CanaryConfidence }, 0.5, 0.9999},
	} {
		with := func(v float64) error { return configured(func(c *policy.Config) { *one.field(c) = v }).Validate() }
		require.NoError(t, with(one.low), name)
		require.NoError(t, with(one.high), name)
		for _, v := range []float64{math.Nextafter(one.low, -1), math.Nextafter(one.high, 2e6), math.NaN()} {
			require.ErrorContains(t, with(v), "Policy."+name+" = ", "%v", v)
		}
	}
}

func arrivals(p policy.Policy) policy.Arrivals {
	return p.(interface{ Arrivals() policy.Arrivals }).Arrivals()
}

// A task that is decided a second time does not count as a second arrival, whichever policy decides it.
func TestWhatIsDecidedAgainHasArrivedOnce(t *testing.T) {
	c := configured()
	d, err := NewDecider(c)
	require.NoError(t, err)
	tk, e, s := &task.Task{Complexity: 40, Deadline: time.Second, Nominal: 4096}, &score.Estimate{LocalTime: 0.3, CloudTime: 0.2, Cycles: 20, Bytes: 4096}, loaded(30)
	tk.Class = &task.Class{Name: "c", Policy: "ppo"}
	first, by := d.Decide(tk, e, s)
	require.Equal(t, "ppo", by)
	before := arrivals(d.For("ppo"))
	for _, name := range []string{"ppo", "cost"} {
		tk.Class.Policy = name
		again, by := d.DecideAgain(tk, e, s)
		require.Equal(t, name, by)
		require.Equal(t, first.Target, again.Target)
	}
	require.Equal(t, before, arrivals(d.For("ppo")))
	tk.Class.NeverLeave = true
	again, _ := d.DecideAgain(tk, e, s)
	require.Equal(t, decision.GuardNeverLeave, again.Reason)
}
