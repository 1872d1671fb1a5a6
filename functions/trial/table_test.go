package trial

import (
	"fmt"
	"hash/fnv"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// A wager is the test of its comment: stakes of (mean − margin) / (variance + (mean − margin)²), between 0 and a stake that leaves a quarter of the
// capital at the worst, on observations in [−1, 1], from a mean of 0 and a variance of 1/4 that count as one of them.
func TestAWagerIsTheOneThatIsPublished(t *testing.T) {
	for _, margin := range []float64{0, 0.02, 0.3} {
		w := newWager(margin, 0.01)
		capital, mean, variance, n := 1.0, 0.0, 0.25, 1.0
		lost := false
		for i, x := range []float64{1, 0.5, -0.2, 3, 0.9, -7, 1, 1, 0.1, 1, 1, 1, 1, -1, -1, -1, -1, 0.3, 1, 1} {
			one := math.Max(-1, math.Min(1, x))
			over := mean - margin
			stake := math.Max(0, math.Min(over/(variance+over*over), 0.75/(1+margin)))
			capital *= 1 + stake*(one-margin)
			off := one - mean
			n++
			mean += off / n
			variance += (off*(one-mean) - variance) / n
			lost = lost || capital >= 100
			require.Equal(t, lost, w.bet(x), "margin %v, observation %d", margin, i)
			require.InDelta(t, math.Log(capital), w.capital, 1e-9)
			require.InDelta(t, mean, w.mean, 1e-9)
			require.InDelta(t, variance, w.variance, 1e-9)
		}
	}
	w := newWager(0, 0.5)
	for range 10_000 {
		w.bet(0.25)
	}
	require.InDelta(t, wagerMemory, w.n, 0)
	require.InDelta(t, 1e-6, w.variance, 1e-12, "no stake is endless")
	require.True(t, w.bet(-1), "a rejection is final")
}

func canary(t *testing.T, edit func(*policy.Config)) (*Canary, policy.Config) {
	t.Helper()
	c := policy.DefaultConfig()
	c.Canary, c.CanaryShare, c.CanaryMarginMiss, c.CanaryMarginCost, c.CanaryConfidence = "cost", 0.25, 0.05, 0.1, 0.9
	if edit != nil {
		edit(&c)
	}
	made := map[string]policy.Policy{}
	for _, p := range policy.All(c) {
		made[p.Name()] = p
	}
	return NewCanary(c, policy.NewJudge(c), made), c
}

// came is a decision of one side with its outcome, in time or late.
func came(c *Canary, arm decision.Arm, late bool, edit func(*decision.Entry)) *decision.Entry {
	e := &decision.Entry{Arm: arm, Version: c.Load().Version, Class: "a", Deadline: time.Second, Outcome: decision.Outcome{Known: true, Time: 0.5}}
	e.Decision.Target, e.Decision.Reason = decision.Local, decision.CheaperLocal
	if late {
		e.Outcome.Time = 2
	}
	if edit != nil {
		edit(e)
	}
	return e
}

// The names of devices select the sides of a canary; those of a smaller share are among those of a larger one.
func TestTheSidesOfACanary(t *testing.T) {
	var none *Canary
	require.Equal(t, decision.NoArm, none.Arm("d"))
	h := fnv.New64a()
	_, _ = h.Write([]byte("pump-1"))
	require.InDelta(t, decision.Uniform(h.Sum64(), 1), place("pump-1"), 0)
	require.InDelta(t, 0.6299438727804630, place("pump-1"), 1e-15, "after a restart, and in another version, the same devices")
	small, _ := canary(t, nil)
	large, _ := canary(t, func(c *policy.Config) { c.CanaryShare = 0.5 })
	require.Equal(t, "cost", small.Name())
	acts := 0
	for i := range 4000 {
		device := fmt.Sprint("device-", i)
		require.Equal(t, small.Arm(device), small.Arm(device))
		if small.Arm(device) == decision.Canary {
			acts++
			require.Equal(t, decision.Canary, large.Arm(device))
		} else {
			require.Equal(t, decision.Incumbent, small.Arm(device))
		}
	}
	require.InDelta(t, 1000, acts, 100)
	exact, _ := canary(t, func(c *policy.Config) { c.CanaryShare = place("pump-1") })
	require.Equal(t, decision.Incumbent, exact.Arm("pump-1"), "the share ends before its end")
}

// Each outcome of either side counts once, unless no policy decided, or it is of another configuration.
func TestWhatCountsForACanary(t *testing.T) {
	c, conf := canary(t, nil)
	judge := policy.NewJudge(conf)
	var want [2]ArmCount
	for range 3 {
		for side, arm := range []decision.Arm{decision.Canary, decision.Incumbent} {
			for _, late := range []bool{false, true} {
				e := came(c, arm, late, nil)
				require.Empty(t, c.Observe(e))
				cost, missed := judge.Actual(e)
				require.Equal(t, late, missed)
				want[side].Outcomes++
				want[side].Cost += cost
				if late {
					want[side].Misses++
				}
			}
		}
	}
	have := c.Load()
	for side, arm := range []ArmCount{have.Canary, have.Incumbent} {
		require.Equal(t, [2]uint64{want[side].Outcomes, want[side].Misses}, [2]uint64{arm.Outcomes, arm.Misses})
		require.InDelta(t, want[side].Cost, arm.Cost, 1e-9)
		require.InDelta(t, want[side].Cost/6, arm.MeanCost(), 1e-9)
		require.InDelta(t, 0.5, arm.MissShare(), 1e-9)
	}
	require.Zero(t, ArmCount{}.MeanCost())
	require.Zero(t, ArmCount{}.MissShare())
	for name, edit := range map[string]func(*decision.Entry){
		"no side":            func(e *decision.Entry) { e.Arm = decision.NoArm },
		"counted as overdue": func(e *decision.Entry) { e.Overdue = true },
		"a guard's":          func(e *decision.Entry) { e.Decision.Reason = decision.GuardLinkDown },
		"not read here":      func(e *decision.Entry) { e.Decision.Reason = decision.NoOperator },
		"judged hard":        func(e *decision.Entry) { e.Decision.Reason = decision.JudgedHard },
		"another version":    func(e *decision.Entry) { e.Version = "other" },
	} {
		require.Empty(t, c.Observe(came(c, decision.Canary, true, edit)))
		require.Equal(t, have, c.Load(), name)
	}
	require.Equal(t, CanaryCount{Policy: "cost", Share: 0.25, Version: conf.Version(), Canary: have.Canary, Incumbent: have.Incumbent}, have)
	off, _ := canary(t, func(c *policy.Config) { c.Canary = "" })
	require.Nil(t, off)
}

// goOn shows a canary pairs until it is rolled back, and returns their number and the reason.
func goOn(c *Canary, class string, canary, incumbent func(*decision.Entry)) (pairs int, why string) {
	for pairs = 1; pairs < 10_000; pairs++ {
		c.Observe(came(c, decision.Incumbent, false, func(e *decision.Entry) { e.Class = class; incumbent(e) }))
		if why = c.Observe(came(c, decision.Canary, false, func(e *decision.Entry) { e.Class = class; canary(e) })); why != "" {
			return pairs, why
		}
	}
	return pairs, ""
}

// A canary that is late, or expensive, is rolled back with the reason, once; after that it has no sides, and nothing is counted. One that is as good,
// or worse within the margins, stays.
func TestWhatRollsACanaryBack(t *testing.T) {
	good := func(*decision.Entry) {}
	late := func(e *decision.Entry) { e.Outcome.Time = 2 }
	dear := func(e *decision.Entry) { e.Outcome.Energy = 1e9 } // bounded by the worst that counts
	failed := func(e *decision.Entry) { e.Outcome.Failed = true }
	for name, row := range map[string]struct {
		canary, incumbent func(*decision.Entry)
		margins           [2]float64
		pairs             int
		why               string
	}{
		"late":                    {late, good, [2]float64{0.05, 1e6}, 7, "it misses 100.0 % of its deadlines after 7 outcomes, the incumbent 0.0 % after 7"},
		"dear":                    {dear, good, [2]float64{1, 0.1}, 0, "its mean cost is"},
		"failed":                  {failed, good, [2]float64{0.05, 1e6}, 7, "it misses 100.0 % of its deadlines after 7 outcomes, the incumbent 0.0 % after 7"},
		"as late":                 {late, late, [2]float64{0.05, 0.1}, 10_000, ""},
		"better":                  {good, late, [2]float64{0.05, 0.1}, 10_000, ""},
		"late within the margin":  {late, good, [2]float64{1, 1e6}, 10_000, ""},
		"dear within the margins": {dear, good, [2]float64{1, 1e6}, 10_000, ""},
	} {
		c, _ := canary(t, func(c *policy.Config) { c.CanaryMarginMiss, c.CanaryMarginCost = row.margins[0], row.margins[1] })
		pairs, why := goOn(c, "a", row.canary, row.incumbent)
		t.Log(name, pairs, why)
		if row.pairs != 0 {
			require.Equal(t, row.pairs, pairs, name)
		}
		require.Contains(t, why, row.why, name)
		count := c.Load()
		require.Equal(t, row.why != "", count.RolledBack, name)
		require.Equal(t, why, count.Reason)
		if why == "" {
			continue
		}
		require.Equal(t, decision.NoArm, c.Arm("d"))
		require.Empty(t, c.Observe(came(c, decision.Canary, true, nil)))
		require.Equal(t, count, c.Load())
	}
}

// Outcomes are compared within their class: a class with outcomes of one side only is ignored, and several of one side count as their mean.
func TestOutcomesAreComparedInPairsOfAClass(t *testing.T) {
	c, _ := canary(t, nil)
	for i := range 1000 {
		require.Empty(t, c.Observe(came(c, decision.Canary, true, func(e *decision.Entry) { e.Class = "a" })))
		require.Empty(t, c.Observe(came(c, decision.Incumbent, false, func(e *decision.Entry) { e.Class = "b" })), i)
	}
	require.Zero(t, c.miss.n, "no pair is complete")
	require.Empty(t, c.Observe(came(c, decision.Incumbent, false, nil)))
	require.InDelta(t, 1, c.miss.n, 0)
	require.InDelta(t, 0.5, c.miss.mean, 1e-9, "a thousand late ones are one observation of 1")
	for range 3 {
		c.Observe(came(c, decision.Canary, false, nil))
	}
	c.Observe(came(c, decision.Canary, true, nil))
	c.Observe(came(c, decision.Incumbent, false, nil))
	require.InDelta(t, (0+1+0.25)/3, c.miss.mean, 1e-9)
	require.Less(t, c.cost.mean, c.miss.mean, "the cost is another observation")
	require.Positive(t, c.cost.mean)

	full, _ := canary(t, nil)
	for i := range maxPairs + 10 {
		full.Observe(came(full, decision.Canary, true, func(e *decision.Entry) { e.Class = fmt.Sprint(i) }))
	}
	require.Len(t, full.waiting, maxPairs)
	require.EqualValues(t, maxPairs+10, full.Load().Canary.Outcomes, "outcomes that are not compared are counted")
}

// A roll-back outlasts a reload and a restart, until something under Policy changes; a comparison outlasts a reload.
func TestARollBackStays(t *testing.T) {
	old, _ := canary(t, nil)
	_, why := goOn(old, "a", func(e *decision.Entry) { e.Outcome.Failed = true }, func(*decision.Entry) {})
	require.NotEmpty(t, why)
	for name, row := range map[string]struct {
		edit  func(*policy.Config)
		stays bool
	}{
		"the same":        {nil, true},
		"other shadows":   {func(c *policy.Config) { c.Shadow = "edge" }, true},
		"another margin":  {func(c *policy.Config) { c.CanaryMarginMiss = 0.06 }, false},
		"another default": {func(c *policy.Config) { c.Default = "edge" }, false},
	} {
		next, _ := canary(t, row.edit)
		next.Follow(old)
		require.Equal(t, row.stays, next.Load().RolledBack, name)
		require.Equal(t, row.stays, next.Arm("d") == decision.NoArm, name)
		again, _ := canary(t, row.edit)
		again.Restore(old.Load())
		require.Equal(t, row.stays, again.Load().RolledBack, name)
		require.Equal(t, row.stays, again.Arm("d") == decision.NoArm, name)
		if row.stays {
			require.Equal(t, old.Load(), again.Load())
			again.Restore(old.Load()) // the lock is free
		}
	}
	var none *Canary
	none.Follow(old)
	none.Restore(old.Load())
	fresh, _ := canary(t, nil)
	fresh.Follow(nil)
	fresh.Restore(CanaryCount{Version: fresh.Load().Version, Canary: ArmCount{Outcomes: 7}})
	require.Zero(t, fresh.Load().Canary.Outcomes, "a comparison in progress begins anew")
}

func shadows(t *testing.T, names string, share float64) (*Shadows, map[string]policy.Policy, policy.Config) {
	t.Helper()
	c := policy.DefaultConfig()
	c.Shadow, c.ShadowShare = names, share
	made := map[string]policy.Policy{}
	for _, p := range policy.All(c) {
		made[p.Name()] = p
	}
	return NewShadows(c, policy.NewJudge(c), made), made, c
}

// Each shadow is counted with its decisions and their cost, beside the acting ones. Guards' decisions are skipped.
func TestShadowsAreCounted(t *testing.T) {
	none, _, _ := shadows(t, "", 1)
	require.Nil(t, none)
	require.Nil(t, none.List())
	s, _, c := shadows(t, "edge, cloud", 1)
	one := &task.Task{EventID: "e", Of: 1, Class: &task.Class{Name: "a", Deadline: time.Second}, Deadline: time.Second}
	e := &score.Estimate{LocalTime: 0.5, CloudTime: 0.25}
	st := &host.State{Cores: 1, Link: host.Link{Up: true}}
	local, cloud := policy.NewJudge(c).Predicted(one, e, st)
	require.NotEqual(t, local, cloud)
	look := func(target decision.Target, why decision.Reason) {
		s.Look(one, e, st, &decision.Decision{Target: target, Reason: why})
	}
	for range 3 {
		look(decision.Local, decision.CheaperLocal)
	}
	look(decision.Cloud, decision.CheaperCloud)
	look(decision.Local, decision.GuardLinkDown)
	want := map[string]ShadowCount{
		"edge":  {Policy: "edge", Decisions: 4, Agreed: 3, Cost: 4 * local, ActingCost: 3*local + cloud},
		"cloud": {Policy: "cloud", Decisions: 4, Agreed: 1, Cost: 4 * cloud, ActingCost: 3*local + cloud},
	}
	all := s.List()
	require.Len(t, all, 2)
	for _, have := range all {
		w := want[have.Policy]
		require.InDelta(t, w.Cost, have.Cost, 1e-9)
		require.InDelta(t, w.ActingCost, have.ActingCost, 1e-9)
		have.Cost, have.ActingCost = w.Cost, w.ActingCost
		require.Equal(t, w, have)
	}
	require.Equal(t, "edge", s.Named("edge").Name())
	require.Nil(t, s.Named("cost"))

	same, _, _ := shadows(t, "edge,cloud", 1)
	same.Follow(s)
	require.Equal(t, s.List(), same.List())
	for _, names := range []string{"edge", "edge,cost", "edge,cloud,cost"} {
		other, _, _ := shadows(t, names, 1)
		other.Follow(s)
		require.Zero(t, other.List()[0].Decisions, names)
	}
	none.Follow(s)
	same.Follow(nil)
	require.EqualValues(t, 4, same.List()[0].Decisions)
}

// A share of the decisions is shown to the shadows, drawn evenly. Shadows that count arrivals count all of them.
func TestShadowsSeeAShare(t *testing.T) {
	s, made, _ := shadows(t, "edge,defer,bandit", 0.25)
	one := &task.Task{EventID: "e", Of: 1, Class: &task.Class{Name: "a"}}
	for range 4000 {
		s.Look(one, &score.Estimate{LocalTime: 1, CloudTime: 1}, &host.State{Cores: 1}, &decision.Decision{Reason: decision.CheaperLocal})
	}
	require.InDelta(t, 1000, s.List()[0].Decisions, 100)

	// A shadow shares the learned state of the acting bandit, and the next shadow continues with its count of arrivals.
	late := &decision.Entry{Deadline: time.Second, Size: 1000, Estimate: score.Estimate{LocalTime: 0.1, CloudTime: 0.1}, Outcome: decision.Outcome{Known: true, Time: 5}}
	made["bandit"].(policy.Learner).Observe(late)
	for _, shadow := range []*Shadows{s, func() *Shadows { n, _, _ := shadows(t, "bandit", 1); n.Inherit(s, made); return n }()} {
		local, _ := shadow.Named("bandit").(policy.Learner).Outcomes()
		require.EqualValues(t, 1, local)
	}
	next, fresh, _ := shadows(t, "edge,defer", 1)
	other, _, _ := shadows(t, "edge,defer", 1)
	next.Inherit(s, fresh)
	var none *Shadows
	none.Inherit(s, fresh)
	busy := func(s *Shadows) host.State {
		st := host.State{Cores: 1, Link: host.Link{Up: true, Goodput: 1e6, RTT: 0.1}}
		for range 50 {
			s.Look(&task.Task{Of: 1, Class: &task.Class{Name: "a"}, Deadline: 10 * time.Second}, &score.Estimate{LocalTime: 1, CloudTime: 1}, &st, &decision.Decision{Reason: decision.GuardLinkDown})
		}
		return st
	}
	busy(s)
	require.Equal(t, s.Named("defer").(policy.Binder).Room(), next.Named("defer").(policy.Binder).Room(), "guarded tasks arrive as well")
	require.NotEqual(t, s.Named("defer").(policy.Binder).Room(), other.Named("defer").(policy.Binder).Room())
}
