package sim

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
)

func world(t testing.TB, edits ...func(*Config)) *World {
	t.Helper()
	c := DefaultConfig()
	for _, edit := range edits {
		edit(&c)
	}
	w, err := NewWorld(c, trace.Synthetic(1, 8, 3, 3))
	require.NoError(t, err)
	return w
}

func env(t testing.TB, w *World) *Env {
	t.Helper()
	e, err := NewEnv(w)
	require.NoError(t, err)
	return e
}

// steady is a set of recordings at one level each.
func steady(mbit, cpu, rtt float64) *trace.Set {
	series := func(v float64) []trace.Series {
		return []trace.Series{{Name: "steady", Times: []float64{0, 1e6}, Values: []float64{v, v}}}
	}
	return &trace.Set{Links: series(mbit), CPUs: series(cpu), RTTs: series(rtt)}
}

// A node that keeps everything is an M/G/1 queue with the mean wait of the Pollaczek–Khinchine formula: λ·E[S²] / 2(1 − ρ).
func TestEdgeIsTheQueueOfPollaczekAndKhinchine(t *testing.T) {
	c := DefaultConfig()
	c.Rates, c.Tasks = [2]float64{1.2, 1.2}, 400_000
	w, err := NewWorld(c, steady(1, 0, 0.1))
	require.NoError(t, err)
	first, second := c.moments()
	rate := c.Rates[0]
	want := rate * second / (2 * (1 - rate*first))

	waits, n := 0.0, 0
	for seed := range uint64(4) {
		e := w.Draw(seed)
		edge := e.Idle().Edge
		for i := range e.Jobs {
			waits += max(edge-e.Edge.Done(e.Jobs[i].At), 0) / c.EdgeMcycles
			edge, _ = e.Local(i, edge)
			n++
		}
	}
	have := waits / float64(n)
	t.Logf("mean wait %.4f s, by the formula %.4f s: %+.2f %%, load %.2f", have, want, 100*(have/want-1), rate*first)
	require.InEpsilon(t, want, have, 0.01)
}

// moments of the time in seconds of the mix's tasks on an idle node.
func (c *Config) moments() (first, second float64) {
	for _, k := range c.Mix {
		low, high := k.Mcycles[0]/c.EdgeMcycles, k.Mcycles[1]/c.EdgeMcycles
		span := math.Log(high / low)
		first += k.Share * (high - low) / span
		second += k.Share * (high*high - low*low) / (2 * span)
	}
	return first, second
}

func TestTheFormulasByHand(t *testing.T) {
	w, err := NewWorld(DefaultConfig(), steady(0.8, 50, 0.2)) // 100,000 bytes/s, 1,500 Mcycle/s
	require.NoError(t, err)
	e := w.Draw(1)
	e.Jobs = []Job{
		{At: 1, Bytes: 99_600, Mcycles: 3000, Deadline: 1, RTT: 0.2, Slowness: 1.2},
		{At: 2, Bytes: 49_600, Mcycles: 1500, Deadline: 4, RTT: 0.2, Slowness: 1},
	}
	servers := e.Idle()
	edge, took := e.Local(0, servers.Edge)
	require.InDelta(t, 2, took, 1e-9)
	require.InDelta(t, 1*2+1+0.1*3.6/2, e.Cost(0, false, took), 1e-9, "two deadlines late, a miss, 3.6 J")
	_, took = e.Local(1, edge)
	require.InDelta(t, 1+1, took, 1e-9, "waits for a second")

	link, took := e.Cloud(0, servers.Link)
	require.InDelta(t, 1+0.2+0.02+1.2*3000/24000, took, 1e-9)
	_, took = e.Cloud(1, link)
	require.InDelta(t, 0.5+0.2+0.02+1500.0/24000, took, 1e-9, "the link was free again at 2")
	require.InDelta(t, took/4+0.1*50_000*8e-6/2+0.05, e.Cost(1, true, took), 1e-9)
	require.InDelta(t, 3+1+0.1*1.8/2, e.Cost(1, false, 100), 1e-9, "late is late")
}

// Equal seeds give equal bits, and a policy's decisions do not change later arrivals.
func TestEqualSeedsGiveEqualBits(t *testing.T) {
	w := world(t)
	one, other := env(t, w), env(t, w)
	for seed := range uint64(3) {
		a, b := one.Reset(seed), other.Reset(seed)
		for step := 0; ; step++ {
			require.Equal(t, a, b)
			a1, r1, _, over1, i1 := one.Step(step % 2)
			a2, r2, _, over2, i2 := other.Step(step % 2)
			require.Equal(t, i1, i2)
			require.Equal(t, math.Float64bits(r1), math.Float64bits(r2))
			require.Equal(t, over1, over2)
			if a, b = a1, a2; over1 {
				break
			}
		}
	}
	one.Reset(5)
	require.NotEqual(t, one.episode.Jobs, w.Draw(6).Jobs)
	one.Step(Cloud)
	require.Equal(t, w.Draw(5).Jobs, one.episode.Jobs)
}

// The contract: an observation of the promised size within [0,1], a reward of −J, and an end by truncation after the last
// task.
func TestEnvKeepsItsContract(t *testing.T) {
	w := world(t)
	e := env(t, w)
	obs := e.Reset(9)
	for i := range w.Config.Tasks {
		require.Len(t, obs, score.NumFeatures)
		for _, v := range obs {
			require.True(t, v >= 0 && v <= 1)
		}
		s := e.Situation()
		require.InEpsilon(t, e.episode.Jobs[i].Mcycles, s.Estimate.Cycles, 1e-9, "the service's own model knows the work")
		require.LessOrEqual(t, s.Task.Complexity, 100.0)
		var reward float64
		var terminated, truncated bool
		var info Info
		obs, reward, terminated, truncated, info = e.Step(i % NumActions)
		require.InDelta(t, -info.Cost, reward, 0)
		require.False(t, terminated)
		require.Equal(t, i == w.Config.Tasks-1, truncated)
	}
}

// The future is invisible: two episodes that differ only in the future look alike until then.
func TestNothingOfTheFutureIsSeen(t *testing.T) {
	w := world(t)
	one, other := env(t, w), env(t, w)
	const turn = 300
	changed := w.Draw(2)
	for i := turn; i < len(changed.Jobs); i++ {
		changed.Jobs[i].Bytes, changed.Jobs[i].Mcycles = 2000, 20
	}
	for i := turn - 1; i < len(changed.Jobs); i++ {
		changed.Jobs[i].Slowness *= 3 // not known before the result is there
	}
	one.Reset(2)
	other.Begin(changed)
	for i := range turn {
		require.Equal(t, one.Situation().State, other.Situation().State)
		require.Equal(t, one.Situation().Estimate, other.Situation().Estimate)
		one.Step(i % 2)
		other.Step(i % 2)
	}
}

// learner counts the outcomes it gets.
type learner struct {
	policy.Learner
	t     *testing.T
	env   *Env
	heard int
}

func (l *learner) Observe(e *decision.Entry) {
	require.True(l.t, e.Outcome.Known)
	require.LessOrEqual(l.t, float64(e.State.Time-epoch)/1e9+e.Outcome.Time, l.env.episode.Jobs[l.env.at].At+1e-6, "no outcome before it is there")
	l.heard++
	l.Learner.Observe(e)
}

func TestOutcomesComeWhenTheyAreThere(t *testing.T) {
	w := world(t)
	p, err := policy.New("bandit", policy.DefaultConfig())
	require.NoError(t, err)
	v := env(t, w)
	l := &learner{Learner: p.(policy.Learner), t: t, env: v}
	Play(v, w.Draw(4), l, nil)
	require.Greater(t, l.heard, w.Config.Tasks/2)
}

// A world at another time scale is equivalent: equal decisions have equal costs.
func TestTheWorldIsTheSameAtEveryScale(t *testing.T) {
	one := env(t, world(t))
	for _, scale := range []float64{0.1, 5} {
		other := env(t, world(t, func(c *Config) { c.Scale = scale }))
		one.Reset(3)
		other.Reset(3)
		for i := range one.episode.Jobs {
			_, _, _, _, want := one.Step(i % NumActions)
			_, _, _, _, have := other.Step(i % NumActions)
			require.InEpsilon(t, want.Cost, have.Cost, 1e-6)
			require.InEpsilon(t, want.Took*scale, have.Took, 1e-6)
		}
	}
}

// Outcomes correct the gateway's wrong beliefs, unless the view disables that.
func TestOutcomesCorrectPredictions(t *testing.T) {
	off := func(view View) float64 {
		w := world(t, func(c *Config) { c.Beliefs.Edge, c.View = 4, view })
		p, err := policy.New("cost", policy.DefaultConfig())
		require.NoError(t, err)
		sum, n := 0.0, 0
		Play(env(t, w), w.Draw(4), p, func(s *Situation, d decision.Decision, i Info) {
			if i.Job > 200 && !i.Cloud {
				sum += math.Abs(math.Log(s.Estimate.LocalTime / i.Took))
				n++
			}
		})
		return sum / float64(n)
	}
	require.Greater(t, off(View{Uncorrected: true}), 1.0)
	require.Less(t, off(View{}), 0.5)
}

// Outages stop the link, and are noticed after they begin; then the guard keeps tasks with a deadline local.
func TestOutages(t *testing.T) {
	w := world(t, func(c *Config) { c.Trouble = Trouble{Outages: 3, Outage: [2]float64{20, 60}} })
	e := w.Draw(5)
	require.Len(t, e.outages, 3)
	for _, o := range e.outages {
		require.InDelta(t, e.Link.Done(o.from), e.Link.Done(o.to), 1)
	}
	for _, name := range []string{"cloud", "defer"} {
		p, err := policy.New(name, policy.DefaultConfig())
		require.NoError(t, err)
		n := 0
		Play(env(t, w), e, p, func(s *Situation, d decision.Decision, i Info) {
			at := float64(s.State.Time-epoch) / 1e9
			require.Equal(t, !within(e.noticed(), at), s.State.Link.Up)
			if !s.State.Link.Up {
				n++
			}
		})
		require.Positive(t, n, name)
	}
}

func BenchmarkStep(b *testing.B) {
	w := world(b)
	e := env(b, w)
	episode := w.Draw(1)
	e.Begin(episode)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, over, _ := e.Step(Cloud); over {
			e.Begin(episode)
		}
	}
}

// The end of each step is later than all previous ones, however its sum with the episode's offset is rounded.
func TestTheNextChangeOfARateIsLater(t *testing.T) {
	curve, err := trace.NewCurve([]float64{0, 0.1, 0.3, 0.7}, []float64{1, 0, 2, 3}, 1.1)
	require.NoError(t, err)
	for from := 0.0; from < 3000; from += 7.7777 {
		r, now := Rate{curve, from}, 0.0
		for range 40 {
			next := r.Next(now)
			require.Greater(t, next, now, "from %v", from)
			require.InDelta(t, (next-now)*r.At((now+next)/2), r.Done(next)-r.Done(now), 1e-9, "one rate until then, from %v", from)
			now = next
		}
		require.Greater(t, now, 10.0)
	}
}
