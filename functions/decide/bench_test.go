package decide

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// bench holds the inputs of a decision of the service.
type bench struct {
	model   *score.Model
	decider *Decider
	ring    *decision.Ring
	task    *task.Task
	state   host.State

	// A worker keeps the outputs of its decisions: an estimate passes through an interface to the policy, so one on the stack would be allocated anew
	// for each task.
	estimate score.Estimate
	features score.Features
	entry    decision.Entry
}

func newBench(t testing.TB) *bench {
	t.Helper()
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	d, err := NewDecider(policy.DefaultConfig())
	require.NoError(t, err)
	b := &bench{model: m, decider: d, ring: decision.NewRing(policy.DefaultConfig().Decisions, time.Now())}
	b.task = &task.Task{
		EventID: "82eb2e26-0f24-48aa-ae4c-de9dac3fb9bc", Device: "vibration-sensor-01", Chunk: 1, Of: 3, Received: 1e18,
		Class: &task.Class{Name: "vibration"}, Data: make([]byte, 6*score.KB), Complexity: 60, Deadline: time.Second,
	}
	b.state = host.State{Time: 1e18, CPU: 35, QueueCycles: 40, Link: host.Link{Up: true, Goodput: 2e6, RTT: 0.03, BacklogBytes: 1e5}}
	m.ObserveLocal(b.task.Class, 1000, 50, 0.001)
	for range policy.DefaultConfig().Decisions {
		b.once() // once round, so that every slot has its memory
	}
	return b
}

// once is one whole decision: estimate, features, guards, policy, ring.
func (b *bench) once() decision.Decision {
	b.estimate = b.model.Estimate(b.task, &b.state)
	b.model.Features(b.task, &b.estimate, &b.state, &b.features)
	d, by := b.decider.Decide(b.task, &b.estimate, &b.state)
	b.decider.Look(b.task, &b.estimate, &b.state, &d)
	b.entry = decision.NewEntry(b.task, &b.estimate, &b.state, d, by, b.decider.Version())
	b.ring.Add(&b.entry)
	return d
}

// The bound is 1 µs and 0 allocations; a test checks the allocations, and the benchmark shows the time.
func BenchmarkDecide(b *testing.B) {
	bench := newBench(b)
	b.ReportAllocs()
	for b.Loop() {
		bench.once()
	}
}

func BenchmarkDecideParallel(b *testing.B) {
	shared := newBench(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		own := *shared
		for pb.Next() {
			own.once()
		}
	})
}

// shipped is the default configuration, with the shipped weights for policy ppo.
func shipped(edits ...func(*policy.Config)) policy.Config {
	return configured(append([]func(*policy.Config){func(c *policy.Config) { c.PPOWeights = "../../res/policies/ppo.json" }}, edits...)...)
}

func BenchmarkPolicy(b *testing.B) {
	bench := newBench(b)
	bench.once()
	for _, info := range policy.List() {
		p, err := policy.New(info.Name, shipped(func(c *policy.Config) { c.PPOMargin = 1 }))
		require.NoError(b, err)
		b.Run(info.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bench.task.Received += int64(time.Second / 2) // or ppo would find more arrivals than it has ever seen
				p.Decide(bench.task, &bench.estimate, &bench.state)
			}
			require.NotEqual(b, decision.GuardOutside, p.Decide(bench.task, &bench.estimate, &bench.state).Reason)
		})
	}
}

// A shadow and a canary cost as much as their decisions, and nothing if there are none.
func BenchmarkCompany(b *testing.B) {
	for name, edit := range map[string]func(*policy.Config){
		"alone": func(*policy.Config) {}, "shadow": func(c *policy.Config) { c.Shadow, c.ShadowShare = "bandit", 1 },
		"shadow of a tenth": func(c *policy.Config) { c.Shadow, c.ShadowShare = "bandit", 0.1 }, "canary": func(c *policy.Config) { c.Canary = "cost" },
	} {
		b.Run(name, func(b *testing.B) {
			bench := newBench(b)
			bench.company(b, edit)
			b.ReportAllocs()
			for b.Loop() {
				bench.once()
			}
		})
	}
}

// company changes the acting policy and the shadows.
func (b *bench) company(t testing.TB, edit func(*policy.Config)) {
	t.Helper()
	d, err := NewDecider(shipped(edit))
	require.NoError(t, err)
	b.decider = d
	b.task.Class = &task.Class{Name: "vibration"}
}

// BenchmarkObserve measures learning from one outcome.
func BenchmarkObserve(b *testing.B) {
	d := decider(b, policy.DefaultConfig())
	e := decision.Entry{ID: 1, Estimate: score.Estimate{CloudTime: 0.1}, Outcome: decision.Outcome{Known: true, Time: 0.4}, Policy: "bandit"}
	b.ReportAllocs()
	for b.Loop() {
		d.Observe(&e)
	}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	bench := newBench(t)
	require.Zero(t, testing.AllocsPerRun(1000, func() { bench.once() }))
	for _, info := range policy.List() {
		bench.company(t, func(c *policy.Config) {
			c.Default, c.Shadow, c.ShadowShare = info.Name, "bandit,cost,ppo", 0.5
			if info.Name != "edge" {
				c.Canary = "edge"
			}
		})
		require.Zero(t, testing.AllocsPerRun(1000, func() { bench.once() }), info.Name)
	}
}
