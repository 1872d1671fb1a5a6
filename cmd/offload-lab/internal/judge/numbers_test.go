package judge

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/clairvoyant"
	"app-offload/cmd/offload-lab/internal/oracle"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Three episodes of one contestant, every figure computed by hand. Times of the last one are to be judged by twice the limit.
func TestEveryFigureOfAScoreByHand(t *testing.T) {
	shed := func(value int, s Shed) (all [10]Shed) { all[value] = s; return all }
	rounds := []round{
		{scale: 1, best: 2, plan: 1, bound: 0.5, load: 0.2, exact: true, tallies: []tally{{}, {cost: 3, joules: 8, bytes: 100, missed: 1, cloud: 2, took: []float64{4, 1}, shed: shed(2, Shed{tasks: 2})}}},
		{scale: 1, best: 4, plan: 2, bound: 1.5, load: 0.9, exact: false, tallies: []tally{{}, {cost: 10, joules: 4, bytes: 500, missed: 2, cloud: 1, took: []float64{2, 13}, shed: shed(5, Shed{tasks: 1, Reduced: 1})}}},
		{scale: 2, best: 1, plan: 1, bound: 0.5, load: 1. / 3, exact: true, tallies: []tally{{}, {cost: 2, gone: 1, took: []float64{23}, shed: shed(2, Shed{tasks: 2, Gone: 1})}}},
		{scale: 1, best: 2, plan: 2, bound: 1, load: 0.4, exact: true, tallies: []tally{{}, {cost: 2, took: []float64{13, 1}, shed: shed(2, Shed{tasks: 2})}}},
	}
	s := sum("me", 1, rounds)
	// Regrets (3−2)/2 = 0.5, (10−4)/2 = 3, (2−1)/2 = 0.5 and 0, whose mean is 1 and whose standard error is √(5.5/3/4).
	half := student95(3) * math.Sqrt(5.5/12)
	require.InDelta(t, 1-half, s.RegretCI95[0], 1e-12)
	require.InDelta(t, 1+half, s.RegretCI95[1], 1e-12)
	s.RegretCI95 = [2]float64{}
	require.Equal(t, Score{
		Policy: "me", Episodes: 4, ExactEpisodes: 3, Regret: 1,
		MeanCost: 17.0 / 8, JoulesPerTask: 1.5, BytesPerTask: 75, MissShare: 3.0 / 8, CloudShare: 3.0 / 8,
		RelativeRegret: (0.5 + 1.5 + 1 + 0) / 4, MeanT: 57.0 / 7, P95T: 23, P99T: 23,
		RegretToPlan: (1 + 4 + 0.5 + 0) / 4, RegretToBound: (1.25 + 4.25 + 0.75 + 0.5) / 4, InTime: 0.5,
		Loads: []Load{
			{Load: "light", Episodes: 1, Cost: 1.5, Plan: 0.5, Bound: 0.25, InTime: 1},
			{Load: "mid", Episodes: 2, Cost: 1, Plan: 0.75, Bound: 0.375, InTime: 0.5},
			{Load: "heavy", Episodes: 1, Cost: 5, Plan: 1, Bound: 0.75},
		},
		Shed: []Shed{{Value: 2, Gone: 1.0 / 6, tasks: 6}, {Value: 5, Reduced: 1, tasks: 1}},
	}, s)
	for i := range rounds { // without plans and an optimum
		rounds[i].plan, rounds[i].bound, rounds[i].best, rounds[i].tallies[1].shed = 0, 0, 0, [10]Shed{}
	}
	s = sum("me", 1, rounds)
	require.Equal(t, [6]float64{}, [6]float64{s.Regret, s.RegretCI95[0], s.RegretCI95[1], s.RelativeRegret, s.RegretToPlan, s.RegretToBound})
	require.Nil(t, s.Shed)
}

func TestAQuantileIsTheSmallestValueThatTheShareIsNotAbove(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for q, want := range map[float64]float64{0: 1, 0.001: 1, 0.5: 50, 0.501: 51, 0.95: 95, 0.99: 99, 0.991: 100, 1: 100} {
		require.Equal(t, want, quantile(hundred, q), "share %v", q)
	}
	require.Equal(t, 7.0, quantile([]float64{7}, 0.95))
	require.Equal(t, 2.0, quantile([]float64{1, 2}, 0.95))
}

func TestTheIntervalByHand(t *testing.T) {
	require.Equal(t, 2.5, mean([]float64{1, 4, 2, 3}))
	require.Zero(t, mean(nil))
	require.Zero(t, quantile(nil, 0.5))
	require.Zero(t, halfWidth([]float64{3}), "one episode has no width")
	// Two values: the standard error is half their distance.
	require.InDelta(t, student95(1)*1.5, halfWidth([]float64{1, 4}), 1e-12)
	// 1…5: variance 2.5, standard error √0.5, 4 degrees of freedom.
	require.InDelta(t, student95(4)*math.Sqrt(0.5), halfWidth([]float64{1, 2, 3, 4, 5}), 1e-12)
	for freedom, want := range map[float64]float64{10: 2.228139, 20: 2.085963, 30: 2.042272, 1000: 1.962339} {
		require.InDelta(t, want, student95(freedom), 3e-3, "%v degrees of freedom", freedom)
	}
}

func TestATallyAddsUpWhatCameOfEachTask(t *testing.T) {
	var got tally
	got.add(sim.Info{Took: 2, Cost: 3, Joules: 4, Bytes: 5, Missed: true})
	got.add(sim.Info{Took: 1, Cost: 10, Joules: 20, Bytes: 30, Cloud: true})
	got.add(sim.Info{Took: 5, Cloud: true})
	got.add(sim.Info{Took: 5, Gone: true, Missed: true})
	want := tally{cost: 13, joules: 24, bytes: 35, missed: 2, cloud: 2, gone: 1, took: []float64{2, 1, 5}}
	for _, info := range []sim.Info{{}, {Gone: true}, {Reduced: true}} {
		got.give(3, info)
	}
	want.shed[3] = Shed{tasks: 3, Gone: 1, Reduced: 1}
	require.Equal(t, want, got)
}

func small(t *testing.T, tasks int) *sim.World {
	t.Helper()
	c := sim.DefaultConfig()
	c.Tasks, c.Rates = tasks, [2]float64{4, 4}
	w, err := sim.NewWorld(c, trace.Synthetic(7, 12, 4, 4))
	require.NoError(t, err)
	return w
}

// If the search gives up, the lower bound replaces the optimum: no regret is underestimated.
func TestRegretIsHeldAgainstTheBound(t *testing.T) {
	o := Options{Episodes: 1, Seed: 3, Search: oracle.Search{Limit: 40, Beam: 4}}
	w := small(t, 300)
	plan := o.Search.Solve(w.Draw(EpisodeSeed(o.Seed, 0)))
	require.False(t, plan.Exact(), "this episode is to be too much for the search")
	r := play(w, nil, o, 0)
	require.NoError(t, r.err)
	require.Equal(t, plan.Bound, r.best)
	require.Less(t, r.best, plan.Cost)
	require.False(t, r.exact)
	require.Len(t, r.tallies, 1)
	require.InDelta(t, plan.Cost, r.tallies[0].cost, 1e-6, "the oracle follows its plan")

	scores, err := Compare(t.Context(), w, nil, o)
	require.NoError(t, err)
	require.InDelta(t, (plan.Cost-plan.Bound)/300, scores[0].Regret, 1e-9)
	require.Positive(t, scores[0].Regret)
	require.Zero(t, scores[0].ExactEpisodes)
}

// fixed always chooses one target, and counts its calls.
type fixed struct {
	target decision.Target
	asked  *int
	times  *[]int64
}

func (f fixed) Name() string   { return "fixed" }
func (f fixed) String() string { return "fixed" }

func (f fixed) Decide(tk *task.Task, _ *score.Estimate, s *host.State) decision.Decision {
	*f.asked++
	if f.times != nil {
		*f.times = append(*f.times, s.Time, tk.Received)
	}
	return decision.Decision{Target: f.target, Propensity: 1}
}

func TestEachEpisodeIsPlayedOnceByEachContestant(t *testing.T) {
	w := small(t, 60)
	var episodes []int
	asked, done := 0, []int{}
	make := func(episode int) (policy.Policy, error) {
		episodes = append(episodes, episode)
		return fixed{decision.Cloud, &asked, nil}, nil
	}
	o := Options{Episodes: 1, Seed: 5, Search: oracle.DefaultSearch(), Done: func(n int) { done = append(done, n) }}
	scores, err := Compare(t.Context(), w, []Contestant{{"fixed", make}}, o)
	require.NoError(t, err)
	require.Equal(t, []int{1}, done)
	require.Equal(t, []int{0, 0}, episodes, "one to play, one to time")
	require.Equal(t, 60+60+50*60, asked)
	require.Len(t, scores, 2)
	alone, err := Compare(t.Context(), w, []Contestant{{"fixed", make}}, Options{Episodes: 1, Seed: 5})
	require.NoError(t, err)
	require.Len(t, alone, 1, "without a search there is no optimum")
	require.Equal(t, scores[1].MeanCost, alone[0].MeanCost)
	require.Equal(t, "oracle", scores[0].Policy, "the least regret first")
	require.Equal(t, 1, scores[0].ExactEpisodes)
	require.InDelta(t, 0, scores[0].Regret, 1e-9)
	require.Equal(t, 1.0, scores[1].CloudShare)
	require.Positive(t, scores[1].DecisionMicros)
	require.Less(t, scores[1].DecisionMicros, 1000.0)
	require.Equal(t, uint64(5*1_000_003+2), EpisodeSeed(5, 2))

	info := 0.0
	env, err := sim.NewEnv(w)
	require.NoError(t, err)
	sim.Play(env, w.Draw(EpisodeSeed(5, 0)), fixed{decision.Cloud, &asked, nil}, func(_ *sim.Situation, _ decision.Decision, i sim.Info) { info += i.Cost })
	require.InDelta(t, info/60, scores[1].MeanCost, 1e-9)
}

// All episodes are played, each with its own number, for any number of cores.
func TestNoEpisodeIsLeftOut(t *testing.T) {
	most := 0
	o := Options{Episodes: 7, Seed: 1, Search: oracle.Search{Limit: 500, Beam: 50}, Done: func(n int) { most = max(most, n) }}
	scores, err := Compare(t.Context(), small(t, 20), nil, o)
	require.NoError(t, err)
	require.Equal(t, 7, most)
	require.Equal(t, 7, scores[0].Episodes)
	require.Positive(t, scores[0].MeanT)
}

func TestAContestantThatCannotBeMadeIsNamed(t *testing.T) {
	broken := Contestant{"broken", func(int) (policy.Policy, error) { return nil, errors.New("no weights") }}
	o := Options{Episodes: 2, Seed: 9, Search: oracle.DefaultSearch()}
	_, err := Compare(t.Context(), small(t, 5), []Contestant{broken}, o)
	require.ErrorContains(t, err, "playing episode 0 of seed 9: creating policy broken: no weights")
	unsound := small(t, 5)
	unsound.Config.RadioJoules = -1
	_, err = Compare(t.Context(), unsound, nil, o)
	require.Error(t, err)
	_, err = clock(unsound, Contestant{"fixed", func(int) (policy.Policy, error) { return fixed{decision.Local, new(int), nil}, nil }}, 1)
	require.Error(t, err)
	_, err = clock(small(t, 5), broken, 1)
	require.ErrorContains(t, err, "no weights")
	calls := 0
	late := Contestant{"late", func(int) (policy.Policy, error) {
		if calls++; calls > 1 {
			return nil, errors.New("no weights")
		}
		return fixed{decision.Local, new(int), nil}, nil
	}}
	o.Episodes = 1
	_, err = Compare(t.Context(), small(t, 5), []Contestant{late}, o)
	require.ErrorContains(t, err, "no weights", "also when it is timed")
}

// In each round the situations are shifted in time, task and state alike, by more than their duration.
func TestTheClockNeverGoesBackForAPolicy(t *testing.T) {
	asked, times := 0, []int64(nil)
	took, err := clock(small(t, 30), Contestant{"fixed", func(int) (policy.Policy, error) { return fixed{decision.Local, &asked, &times}, nil }}, 4)
	require.NoError(t, err)
	require.Greater(t, took, 1e-5, "microseconds")
	require.Less(t, took, 1000.0, "microseconds")
	require.Equal(t, 51*30, asked)
	for i := 2; i < len(times); i += 2 {
		require.Greater(t, times[i], times[i-2], "decision %d", i/2)
		require.Equal(t, times[i], times[i+1], "a task is decided when it arrives")
	}
	round := times[2*30] - times[0]
	require.Equal(t, times[2*29]-times[0]+1e9, round, "a round begins a second after the one before")
	require.Equal(t, round, times[4*30]-times[2*30])
}

func TestVariantsAreThePolicyWithOneSetting(t *testing.T) {
	c := policy.DefaultConfig()
	made := func(name string, episode int) string {
		field, err := Field(name, c)
		require.NoError(t, err)
		require.Equal(t, name, field[0].Name)
		p, err := field[0].Make(episode)
		require.NoError(t, err)
		return p.String()
	}
	of := func(name string, set func(*policy.Config)) string {
		own := c
		set(&own)
		p, err := policy.New(name, own)
		require.NoError(t, err)
		return p.String()
	}
	require.Equal(t, of("weighted", func(c *policy.Config) { c.WeightedPreset = "article" }), made("article", 0))
	require.NotEqual(t, made("weighted", 0), made("article", 0))
	require.Equal(t, of("cost", func(c *policy.Config) { c.CostShadow = false }), made("greedy", 0))
	require.NotEqual(t, made("cost", 0), made("greedy", 0))
	require.Equal(t, "article,greedy", Default()[:len("article,greedy")])

	field, err := Field(" cost , edge", c)
	require.NoError(t, err)
	require.Equal(t, []string{"cost", "edge"}, []string{field[0].Name, field[1].Name})
	for _, missing := range []string{"ppo=nothing.json", "defer=nothing.json"} {
		field, err := Field(missing, c)
		require.NoError(t, err)
		_, err = field[0].Make(0)
		require.ErrorContains(t, err, "nothing.json")
	}
}

// Each episode has its own draws, equal in each comparison.
func TestARandomPolicyDrawsAnewInEachEpisode(t *testing.T) {
	field, err := Field("random", policy.DefaultConfig())
	require.NoError(t, err)
	draws := func(episode int) (all []decision.Target) {
		p, err := field[0].Make(episode)
		require.NoError(t, err)
		for range 64 {
			all = append(all, p.Decide(&task.Task{}, &score.Estimate{}, &host.State{}).Target)
		}
		return all
	}
	require.Equal(t, draws(1), draws(1))
	require.NotEqual(t, draws(1), draws(2))
	other := policy.DefaultConfig()
	other.RandomSeed += 2
	p, err := policy.New("random", other)
	require.NoError(t, err)
	var want []decision.Target
	for range 64 {
		want = append(want, p.Decide(&task.Task{}, &score.Estimate{}, &host.State{}).Target)
	}
	require.Equal(t, want, draws(2))
}

// The plan with waiting has its own line, better than the oracle's, and no policy is better than the bound.
func TestThePlanThatWaitsStandsInTheTable(t *testing.T) {
	field, err := Field("defer,cost", policy.DefaultConfig())
	require.NoError(t, err)
	o := Options{
		Episodes: 3, Seed: 2, Search: oracle.DefaultSearch(), Tail: sim.Tail{PerSecond: 1, From: 10, To: 12},
		Plan: clairvoyant.Search{Slot: 0.05, Steps: 200, Moves: 20_000, Seed: 1},
	}
	scores, err := Compare(t.Context(), small(t, 80), field, o)
	require.NoError(t, err)
	by := map[string]Score{}
	for _, s := range scores {
		by[s.Policy] = s
		require.GreaterOrEqual(t, s.RegretToBound, s.RegretToPlan, s.Policy)
		require.Positive(t, s.RegretToBound, s.Policy)
	}
	require.Len(t, by, 5)
	require.InDelta(t, 0, by["plan"].RegretToPlan, 1e-9)
	require.Negative(t, by["plan"].Regret, "the oracle may not wait")
	require.Positive(t, by["oracle"].RegretToPlan)
	require.Greater(t, by["oracle+tail"].MeanCost, by["oracle"].MeanCost-1e-12)
}
