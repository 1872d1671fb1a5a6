package score

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

func model(t testing.TB, edit ...func(*Config)) *Model {
	t.Helper()
	c := DefaultConfig()
	c.McyclesPerKB, c.MinEdgeShare = 0.024, 0.05 // by which the figures below were computed
	for _, e := range edit {
		e(&c)
	}
	m, err := New(c)
	require.NoError(t, err)
	return m
}

func work(size int, complexity float64) *task.Task {
	return &task.Task{Data: make([]byte, size), Complexity: complexity, Class: &task.Class{Name: "a", Priority: 5}}
}

func up() *host.State { return &host.State{Link: host.Link{Up: true}} }

func TestEstimateByHand(t *testing.T) {
	m := model(t)
	for _, c := range []struct {
		name         string
		size         int
		complexity   float64
		state        host.State
		local, cloud float64
	}{
		// 200 KB · 0.024 · 50 = 240 Mcycle; / 3,000 = 80 ms. Cloud: 205,200 B / 1 MB/s + 50 ms + 20 ms + 240/24,000.
		{"idle node, nothing measured", 200 * KB, 50, host.State{Link: host.Link{Up: true}}, 0.080, 0.2052 + 0.07 + 0.01},
		{"1,000 KB", 1000 * KB, 50, host.State{Link: host.Link{Up: true}}, 0.400, 1.0244 + 0.07 + 0.05},
		{"half of the CPU is taken by others", 200 * KB, 50, host.State{CPU: 80, OwnCPU: 30}, 0.160, math.Inf(1)},
		{"the node itself makes the load", 200 * KB, 50, host.State{CPU: 80, OwnCPU: 80}, 0.080, math.Inf(1)},
		{"no CPU left: the floor", 200 * KB, 50, host.State{CPU: 100}, 0.080 / 0.05, math.Inf(1)},
		{"work waiting", 200 * KB, 50, host.State{QueueCycles: 3000}, 1.080, math.Inf(1)},
		{
			"a measured link with bytes ahead", 100 * KB, 0,
			host.State{Link: host.Link{Up: true, Goodput: 1e5, RTT: 0.2, BacklogBytes: 300_000, InflightBytes: 100_000}},
			0, 4 + 1.028 + 0.2 + 0.02,
		},
		{"no data at all", 0, 100, host.State{Link: host.Link{Up: true}}, 0, 0.0004 + 0.07},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := m.Estimate(work(c.size, c.complexity), &c.state)
			require.InDelta(t, c.local, e.LocalTime, 1e-9)
			if math.IsInf(c.cloud, 1) {
				require.True(t, math.IsInf(e.CloudTime, 1), "a link that is down never gets there")
			} else {
				require.InDelta(t, c.cloud, e.CloudTime, 1e-9)
			}
			require.InDelta(t, e.Cycles*1.2e-3, e.LocalEnergy, 1e-12)
			require.InDelta(t, float64(c.size+400)*8e-6, e.CloudEnergy, 1e-12)
		})
	}
}

func TestWireShareAndBacklogAhead(t *testing.T) {
	m := model(t, func(c *Config) { c.WireShare, c.BacklogAhead, c.HeaderBytes = 0.5, 0.2, 0 })
	s := up()
	s.Link.Goodput, s.Link.RTT, s.Link.BacklogBytes = 1000, 0.1, 10_000
	require.InDelta(t, 10_000*0.5*0.2/1000+2000*0.5/1000+0.1+0.02, m.Estimate(work(2000, 0), s).CloudTime, 1e-9)
}

// anyFloat includes values that no sensor should ever return.
func anyFloat() *rapid.Generator[float64] {
	odd := rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 0, math.MaxFloat64, math.SmallestNonzeroFloat64})
	return rapid.OneOf(rapid.Float64(), odd, rapid.Float64Range(0, 100))
}

func anyState() *rapid.Generator[*host.State] {
	return rapid.Custom(func(t *rapid.T) *host.State {
		f := func(name string) float64 { return anyFloat().Draw(t, name) }
		i := func(name string) int64 { return rapid.Int64().Draw(t, name) }
		return &host.State{
			Time: i("time"), CPU: f("cpu"), OwnCPU: f("own"), Memory: f("memory"), QueueCycles: f("queue"),
			Link: host.Link{
				Up: rapid.Bool().Draw(t, "up"), Goodput: f("goodput"), RTT: f("rtt"), BacklogShare: f("share"),
				BacklogBytes: i("backlog"), InflightBytes: i("inflight"),
			},
		}
	})
}

func TestNothingGivesNaNOrANegativeNumber(t *testing.T) {
	m := model(t)
	rapid.Check(t, func(t *rapid.T) {
		s := anyState().Draw(t, "state")
		tk := work(rapid.IntRange(0, 4096).Draw(t, "size"), anyFloat().Draw(t, "complexity"))
		tk.Deadline = time.Duration(rapid.Int64().Draw(t, "deadline"))
		tk.Received = rapid.Int64().Draw(t, "received")
		m.ObserveLocal(tk.Class, tk.Size(), tk.Complexity, anyFloat().Draw(t, "took"))
		m.ObserveCloud(tk.Class, tk.Size(), tk.Complexity, anyFloat().Draw(t, "took there"))
		e := m.EstimateWork(tk.Class, tk.Size(), anyFloat().Draw(t, "cycles"), s)
		for _, v := range []float64{e.LocalTime, e.CloudTime, e.LocalEnergy, e.CloudEnergy, e.Cycles, e.Bytes} {
			if !(v >= 0) {
				t.Fatalf("negative or NaN in %+v", e)
			}
		}
		var f Features
		m.Features(tk, &e, s, &f)
		for i, v := range f {
			if !(v >= 0 && v <= 1) {
				t.Fatalf("feature %s = %v", FeatureNames[i], v)
			}
		}
	})
}

func TestMoreOfItTakesLonger(t *testing.T) {
	m := model(t)
	rapid.Check(t, func(t *rapid.T) {
		size, complexity := rapid.IntRange(0, 1<<20).Draw(t, "size"), rapid.Float64Range(0, 100).Draw(t, "complexity")
		s := up()
		s.CPU, s.QueueCycles = rapid.Float64Range(0, 100).Draw(t, "cpu"), rapid.Float64Range(0, 1e6).Draw(t, "queue")
		s.Link.BacklogBytes = rapid.Int64Range(0, 1e9).Draw(t, "backlog")
		base := m.EstimateWork(nil, size, m.Cycles(size, complexity), s)
		at := func(size int, complexity float64, change func(*host.State)) Estimate {
			changed := *s
			change(&changed)
			return m.EstimateWork(nil, size, m.Cycles(size, complexity), &changed)
		}
		same := func(*host.State) {}
		worse := []struct {
			what string
			e    Estimate
		}{
			{"more complex", at(size, complexity+5, same)},
			{"larger", at(size+1000, complexity, same)},
			{"busier", at(size, complexity, func(s *host.State) { s.CPU += 5 })},
			{"longer queue", at(size, complexity, func(s *host.State) { s.QueueCycles += 9 })},
			{"more backlog", at(size, complexity, func(s *host.State) { s.Link.BacklogBytes += 9 })},
			{"slower link", at(size, complexity, func(s *host.State) { s.Link.Goodput = 1e4 })},
		}
		for _, w := range worse {
			if w.e.LocalTime < base.LocalTime || w.e.CloudTime < base.CloudTime {
				t.Fatalf("%s: %+v is quicker than %+v", w.what, w.e, base)
			}
		}
	})
}

func TestSlack(t *testing.T) {
	received := int64(1_000_000_000)
	for _, c := range []struct {
		name     string
		deadline time.Duration
		received int64
		now      int64
		want     float64
	}{
		{"none", 0, received, received, math.Inf(1)},
		{"fresh", time.Second, received, received, 1},
		{"waited", time.Second, received, received + 4e8, 0.6},
		{"too late", time.Second, received, received + 3e9, -2},
		{"the state is older than the task", time.Second, received, received - 5e8, 1},
		{"never received", time.Second, 0, received, 1},
	} {
		got := Slack(&task.Task{Deadline: c.deadline, Received: c.received}, &host.State{Time: c.now})
		if got != c.want && math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: have %v, want %v", c.name, got, c.want)
		}
	}
}

func TestConfigReportsAllProblemsAtOnce(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{LinkMbit: math.NaN(), RTT: "fast"}.Validate()
	for _, key := range []string{"EdgeMcycles", "CloudMcycles", "MinEdgeShare", "McyclesPerKB", "LinkMbit", "RTT", "Overhead", "WireShare", "CorrectionLimit"} {
		require.ErrorContains(t, err, "Score."+key)
	}
	_, err = New(Config{})
	require.Error(t, err)
}

func TestEstimateGoesThroughJSON(t *testing.T) {
	e := Estimate{LocalTime: 1.5, CloudTime: math.Inf(1), Bytes: 10}
	b, err := json.Marshal(&e)
	require.NoError(t, err)
	require.Contains(t, string(b), `"cloudTime":null`)
	var back Estimate
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, e, back)
}

func TestFeatureNames(t *testing.T) {
	seen := map[string]bool{}
	for i, name := range FeatureNames {
		require.NotEmpty(t, name, fmt.Sprint(i))
		require.False(t, seen[name], name)
		seen[name] = true
	}
}

func TestFeaturesByHand(t *testing.T) {
	m := model(t)
	s := up()
	s.CPU, s.Memory, s.QueueCycles = 50, 25, 1500
	s.Link.Goodput, s.Link.RTT, s.Link.BacklogShare, s.Link.BacklogBytes = 1e6, 0.1, 0.75, 1_000_000
	tk := work(64*KB, 80)
	tk.Deadline = time.Second
	e := m.Estimate(tk, s)
	var f Features
	m.Features(tk, &e, s, &f)
	for i, want := range map[int]float64{
		Size: 0.5, Complexity: 0.8, CPU: 0.5, Memory: 0.25, Queue: 0.5, Backlog: 0.75, Ahead: 0.5, RTT: 0.5, Goodput: 0.5,
		DeadlineSlack: 0.5, LinkUp: 1, OnBattery: 0, Priority: 5.0 / 9, LocalTime: e.LocalTime / (e.LocalTime + 1),
		Sooner: e.LocalTime / (e.LocalTime + e.CloudTime),
	} {
		require.InDelta(t, want, f[i], 1e-9, FeatureNames[i])
	}
}

func BenchmarkEstimate(b *testing.B) {
	m, tk, s := model(b), work(200*KB, 50), up()
	m.ObserveLocal(tk.Class, 1000, 50, 0.1)
	b.ReportAllocs()
	for b.Loop() {
		m.Estimate(tk, s)
	}
}

func BenchmarkFeatures(b *testing.B) {
	m, tk, s := model(b), work(200*KB, 50), up()
	e := m.Estimate(tk, s)
	var f Features
	b.ReportAllocs()
	for b.Loop() {
		m.Features(tk, &e, s, &f)
	}
}

// Once the exporter has measured the growth of records on the wire, it replaces the configured one for the task and the backlog. Messages too small
// to fill the link give a lower bound.
func TestMeasuredGrowthCounts(t *testing.T) {
	c := DefaultConfig()
	c.RTT, c.Overhead, c.HeaderBytes, c.LinkMbit = "0s", "0s", 0, 0.8 // 100 kB/s
	m, err := New(c)
	require.NoError(t, err)
	link := host.Link{Up: true, Goodput: 10_000, BacklogBytes: 100_000, InflightBytes: 1000}
	require.InDelta(t, 11.1, m.EstimateWork(nil, 10_000, 0, &host.State{Link: link}).CloudTime, 1e-9)
	link.Growth = 0.28
	e := m.EstimateWork(nil, 10_000, 0, &host.State{Link: link})
	require.InDelta(t, 3.18, e.CloudTime, 1e-9)
	require.InDelta(t, 2800, e.Bytes, 1e-9)
	link.AtLeast = true
	require.InDelta(t, 0.318, m.EstimateWork(nil, 10_000, 0, &host.State{Link: link}).CloudTime, 1e-9)
	link.Goodput = 1e6
	require.InDelta(t, 0.0318, m.EstimateWork(nil, 10_000, 0, &host.State{Link: link}).CloudTime, 1e-9)
}

// With the shipped configuration, a node that other processes keep fully busy counts as half as fast, not as twenty times slower, and as fast again
// once they stop: a fair scheduler shares the processor.
func TestABusyNodeStillGetsItsFairShare(t *testing.T) {
	m, err := New(DefaultConfig())
	require.NoError(t, err)
	for busy, share := range map[float64]float64{0: 1, 30: 0.7, 60: 0.5, 100: 0.5} {
		require.InDelta(t, share*DefaultConfig().EdgeMcycles, m.EdgeRate(&host.State{CPU: busy}), 1e-9, "CPU %v", busy)
	}
}
