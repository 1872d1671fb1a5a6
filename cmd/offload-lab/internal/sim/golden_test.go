package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/batch"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/task"
)

// An episode never changes, task for task: published figures of a seed stay comparable.
func TestAnEpisodeGoesAsItAlwaysWent(t *testing.T) {
	var b strings.Builder
	for _, belief := range []float64{1, 2.5} {
		w := world(t, func(c *Config) { c.Tasks, c.Rates, c.Beliefs.Edge = 60, [2]float64{2, 6}, belief })
		for _, name := range []string{"cost", "bandit", "random", "defer"} {
			p, err := policy.New(name, policy.DefaultConfig())
			require.NoError(t, err)
			fmt.Fprintf(&b, "%s, belief %g\n", name, belief)
			Play(env(t, w), w.Draw(3), p, func(s *Situation, d decision.Decision, i Info) {
				l := &s.State.Link
				fmt.Fprintf(&b, "%d %v took %.9g done %.9g missed %v J %.9g bytes %.9g cost %.9g | cpu %.9g own %.9g queue %d %.9g link %.9g %.9g %.9g %d %d %.9g | here %.9g there %.9g p %.9g\n",
					i.Job, i.Cloud, i.Took, i.Done, i.Missed, i.Joules, i.Bytes, i.Cost, s.State.CPU, s.State.OwnCPU, s.State.QueueTasks, s.State.QueueCycles,
					l.Goodput, l.RTT, l.RTT95, l.BacklogTasks, l.BacklogBytes, l.BacklogShare, s.Estimate.LocalTime, s.Estimate.CloudTime, d.Propensity)
			})
		}
	}
	golden.Require(t, "episode.golden", b.String())
}

// No world changes, seen or done: each scenario and each setting that the lab uses, under a policy of each kind. A line holds sums over all tasks.
func TestEveryWorldGoesAsItAlwaysWent(t *testing.T) {
	var b strings.Builder
	sums := func(name string, w *World, e *Episode, p policy.Policy) (all []Given) {
		var took, done, cost, joules, bytes, seen, link float64
		counts := map[string]int{}
		Play(env(t, w), e, p, func(s *Situation, d decision.Decision, i Info) {
			took, done, cost, joules, bytes = took+i.Took, done+i.Done, cost+i.Cost, joules+i.Joules, bytes+i.Bytes
			for _, f := range s.Features {
				seen += f
			}
			seen += s.State.QueueCycles + s.State.ParkedCycles + s.State.CPU + s.Estimate.LocalTime + float64(s.State.QueueTasks)
			link += float64(s.State.Link.BacklogBytes + s.State.Link.InflightBytes + s.State.Link.BacklogTasks)
			for what, is := range map[string]bool{"cloud": i.Cloud, "missed": i.Missed, "gone": i.Gone, "reduced": i.Reduced} {
				if is {
					counts[what]++
				}
			}
			all = append(all, Given{Job: i.Job, At: float64(s.State.Time-epoch) / 1e9, Cloud: i.Cloud, Waits: i.Job%2 == 0})
		})
		fmt.Fprintf(&b, "%s, %s: took %.8g done %.8g J %.8g joules %.8g bytes %.8g state %.8g link %.8g %v\n", name, p.Name(), took, done, cost, joules, bytes, seen, link, counts)
		return all
	}
	busy, crowded := [2]float64{4, 6}, [2]float64{20, 30}
	worlds := append(Scenarios(), []Scenario{
		{"batched", "", func(c *Config) { c.Batch, c.TrailBytes, c.Rates = &batched, 300, busy }},
		{"batched-devices", "", func(c *Config) { c.Batch, c.Devices, c.Rates = &batched, 2, busy }},
		{"batched-outages", "", func(c *Config) { c.Batch, c.Trouble = &batched, Trouble{Outages: 6, Outage: [2]float64{6, 20}} }},
		{"batched-learning", "", func(c *Config) { c.Batch, c.Beliefs.Cloud, c.Rates = &batched, 30, busy }},
		{"reduced", "", func(c *Config) { c.Rates, c.Overload = crowded, task.OverloadReduce }},
		{"dropped", "", func(c *Config) { c.Rates, c.Overload = crowded, task.OverloadDrop }},
		{"still", "", func(c *Config) { c.View.Still = true }},
		{"exact", "", func(c *Config) { c.View.Exact = true }},
		{"unguarded", "", func(c *Config) { c.View.Unguarded = true; c.Trouble = Trouble{Outages: 6, Outage: [2]float64{6, 20}} }},
		{"uncorrected", "", func(c *Config) { c.View.Uncorrected, c.Beliefs.Edge = true, 2 }},
		{"tail", "", func(c *Config) { c.Cost.Tail = Tail{1, 1, 3} }},
		{"fleet", "", func(c *Config) { c.Unknown = Unknown{0.5, 0.5, 7} }},
		{"fleet-1", "", func(c *Config) { c.Unknown = Unknown{0.5, 0.5, 1} }},
	}...)
	for i, s := range worlds {
		w := world(t, s.change, func(c *Config) { c.Tasks = 120 })
		for _, name := range []string{"cost", "bandit", "defer"} {
			p, err := policy.New(name, policy.DefaultConfig())
			require.NoError(t, err)
			e := w.Draw(uint64(i))
			sums(s.Name+", "+e.Name, w, e, p)
		}
	}

	// A bench as in the running system: a steady node and link, an outage, earlier messages, and the same decisions again.
	c := DefaultConfig()
	c.Tasks, c.Batch, c.TrailBytes, c.Devices = 60, &batched, 300, 3
	w := world(t, func(of *Config) { *of = c })
	for _, cut := range [][2]float64{{}, {6, 5}, {5, 20}} {
		e, err := Bench(&w.Config, w.Draw(4).Jobs, 3000, 2e5, 0.05, cut)
		require.NoError(t, err)
		e.Before = []Message{{30_000, 29_000}, {20_000, 19_000}}
		p, err := policy.New("defer", policy.DefaultConfig())
		require.NoError(t, err)
		given := sums(fmt.Sprintf("bench %v", cut), w, e, p)
		slices.SortStableFunc(given, func(a, b Given) int { return cmp.Compare(a.At, b.At) })
		took, tasks := 0.0, 0
		Replay(env(t, w), e, given, func(i Info) { took, tasks = took+i.Took, tasks+1 })
		fmt.Fprintf(&b, "  bound again: %d tasks took %.8g\n", tasks, took)
	}
	golden.Require(t, "worlds.golden", b.String())
}

// batched is the service's batching.
var batched = batch.DefaultConfig()

// The mix is drawn by its shares; the last kind gets the remainder of rounding.
func TestKindsAreDrawnByTheirShares(t *testing.T) {
	c := DefaultConfig()
	for u, want := range map[float64]int{0: 0, 0.44999: 0, 0.45: 1, 0.74: 1, 0.7501: 2, 0.99: 2, 1: 2} {
		require.Equal(t, want, c.pickKind(u), "draw %v", u)
	}
}

// A mark restores everything: later actions leave no trace.
func TestAMarkBringsEverythingBack(t *testing.T) {
	w := world(t, func(c *Config) { c.Tasks = 40 })
	play := func(e *Env, n int, action func(int) int) (all []Info) {
		for i := range n {
			_, _, _, _, info := e.Step(action(i))
			all = append(all, info)
		}
		return all
	}
	mixed := func(i int) int { return i % NumActions }
	e := env(t, w)
	e.Reset(5)
	play(e, 10, mixed)
	back := e.Mark()
	before := *e.Situation()
	want := play(e, 20, mixed)
	back()
	require.Equal(t, before, *e.Situation())
	play(e, 7, func(int) int { return Cloud })
	back()
	require.Equal(t, before, *e.Situation())
	require.Equal(t, want, play(e, 20, mixed))
}
