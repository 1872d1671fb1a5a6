package policy

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// anyCase draws a task with an estimate by the service's own model, in a state as odd as a node can have.
func anyCase(r *rapid.T, m *score.Model) (*task.Task, *score.Estimate, *host.State) {
	among := func(low, high float64, name string) float64 {
		return math.Exp(rapid.Float64Range(math.Log(low), math.Log(high)).Draw(r, name))
	}
	t := &task.Task{
		Data: make([]byte, int(among(1, 1e6, "bytes"))), Complexity: rapid.Float64Range(0, 100).Draw(r, "complexity"),
		Received: int64(time.Hour), Critical: rapid.Bool().Draw(r, "critical"),
	}
	if rapid.Bool().Draw(r, "has a deadline") {
		t.Deadline = time.Duration(among(0.01, 100, "deadline") * 1e9)
	}
	s := &host.State{
		Time: t.Received + int64(rapid.Float64Range(0, 30).Draw(r, "waited")*1e9), Cores: 1,
		CPU: rapid.Float64Range(0, 100).Draw(r, "cpu"), QueueCycles: among(1, 1e6, "queue") - 1,
		Link: host.Link{
			Up: rapid.IntRange(0, 9).Draw(r, "up") > 0, Goodput: among(100, 1e7, "goodput"), RTT: among(0.001, 10, "rtt"),
			BacklogBytes: int64(among(1, 1e8, "backlog")) - 1, Price: rapid.SampledFrom([]float64{0, 0, 0.1}).Draw(r, "price"),
		},
		MemoryStall: rapid.SampledFrom([]float64{0, 0, 20, 100}).Draw(r, "stall"), OnBattery: rapid.Bool().Draw(r, "on battery"),
		Battery: rapid.SampledFrom([]float64{math.NaN(), 0, 50}).Draw(r, "charge"),
	}
	if t.Complexity > 0 && rapid.Bool().Draw(r, "work") {
		e := m.EstimateWork(nil, t.Size(), among(0.1, 1e5, "cycles"), s)
		return t, &e, s
	}
	e := m.Estimate(t, s)
	if rapid.Bool().Draw(r, "the same energy") {
		e.CloudEnergy = e.LocalEnergy
	}
	return t, &e, s
}

// worse reports whether a target is worse in every term of the cost: time, energy, money and memory.
func worse(target decision.Target, e *score.Estimate, s *host.State, money float64) bool {
	if target == decision.Cloud {
		return e.CloudTime > e.LocalTime && e.CloudEnergy >= e.LocalEnergy && s.MemoryStall == 0
	}
	return e.LocalTime > e.CloudTime && e.LocalEnergy >= e.CloudEnergy && money == 0 && e.Money == 0
}

// No policy but the bounds chooses a target that takes longer than the other and costs no less of anything, for any prices, thresholds or networks.
// Only exploration tries it. Policy weighted considers neither times nor costs: it is exactly its formula.
func TestNoPolicyChoosesWhatIsWorseInEverything(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	free := func(c *Config) { c.CostMoney = 0 }
	sure := func(c *Config) { c.BanditExplore = 0.5 }
	shipped := func(c *Config) { c.PPOWeights = "../../res/policies/ppo.json" }
	for _, info := range List() {
		if bound := map[string]bool{"edge": true, "cloud": true, "random": true, "weighted": true}; bound[info.Name] {
			continue
		}
		for name, p := range map[string]Policy{
			"": build(t, info.Name, shipped, sure), " with a free cloud": build(t, info.Name, free, sure),
		} {
			t.Run(info.Name+name, func(t *testing.T) {
				money := DefaultConfig().CostMoney
				if name == " with a free cloud" {
					money = 0
				}
				rapid.Check(t, func(r *rapid.T) {
					tk, e, s := anyCase(r, m)
					d := p.Decide(tk, e, s)
					if d.Reason == decision.Explored {
						return // a draw, of a small share of the close decisions, by which a policy finds out whether the prediction is true
					}
					require.False(t, worse(d.Target, e, s, money), "%s for %s; local %v s %v J, cloud %v s %v J", d.Target, d.Reason, e.LocalTime, e.LocalEnergy, e.CloudTime, e.CloudEnergy)
					if b, ok := p.(Binder); ok {
						var w Waiting
						require.True(t, w.Add(Held{Task: tk}, b.Room()))
						if _, d, e, bound := w.Next(b, m, s); bound && d.Reason != decision.LongestWait {
							require.False(t, worse(d.Target, &e, s, money), "parked: %s for %s; local %v s %v J, cloud %v s %v J", d.Target, d.Reason, e.LocalTime, e.LocalEnergy, e.CloudTime, e.CloudEnergy)
						}
					}
				})
			})
		}
	}
}

// The case from the field: other processes take all of the CPU, and the link is slow. The price on the node's time sent the task away.
func TestAPriceDoesNotBuyWhatIsWorseInEverything(t *testing.T) {
	e := score.Estimate{LocalTime: 4.8, CloudTime: 300, LocalEnergy: 0.9, CloudEnergy: 50, Cycles: 720, Bytes: 6.6e6}
	s := &host.State{CPU: 100, Link: host.Link{Up: true, Goodput: 22e3, RTT: 0.05}}
	for _, name := range []string{"cost", "bandit", "deadline", "defer"} {
		tk := &task.Task{Deadline: time.Second}
		d := build(t, name).Decide(tk, &e, s)
		require.Equal(t, decision.Local, d.Target, name)
	}
	entry := decision.NewEntry(&task.Task{}, &e, s, decision.Decision{Reason: decision.Dominated}, "cost", "")
	require.Equal(t, "Local: policy cost prefers the other target, which is slower and saves neither energy nor money; predicted local 4.8 s, cloud 5 min.", decision.Explain(entry))
}

// Without a deadline there is patience, not a queue without an end.
func TestDeadlineSendsWhatHasNoDeadlineInTheEnd(t *testing.T) {
	p := build(t, "deadline")
	patience := DefaultConfig().CostPatience
	e := score.Estimate{LocalTime: patience - 1, CloudTime: 1}
	require.Equal(t, decision.Local, p.Decide(&task.Task{}, &e, &host.State{}).Target)
	e.LocalTime = patience + 1
	require.Equal(t, decision.Cloud, p.Decide(&task.Task{}, &e, &host.State{}).Target)
	e.LocalTime = patience - 1
	require.Equal(t, decision.Cloud, p.Decide(&task.Task{Received: 1}, &e, &host.State{Time: int64(3e9)}).Target, "it has waited 3 s")
}

// A formula ignores queues, so a task whose target is far too late goes to the other one, if that is sooner.
func TestWeightedLeavesATargetThatIsSooner(t *testing.T) {
	latest, patience := DefaultConfig().CostKappa, DefaultConfig().CostPatience
	for _, name := range []string{"default", "article"} {
		p := build(t, "weighted", preset(name))
		heavy, light := sized(1, 100), sized(1000, 1)
		for _, c := range []struct {
			name     string
			task     *task.Task
			e        score.Estimate
			deadline float64 // s
			want     decision.Target
			reason   decision.Reason
		}{
			{"as late as may be", heavy, score.Estimate{LocalTime: 1, CloudTime: 2 * latest}, 2, decision.Cloud, decision.AboveThreshold},
			{"far too late", heavy, score.Estimate{LocalTime: 1, CloudTime: 2*latest + 0.1}, 2, decision.Local, decision.Sooner},
			{"no later than local", heavy, score.Estimate{LocalTime: 90, CloudTime: 90}, 2, decision.Cloud, decision.AboveThreshold},
			{"sooner than local", heavy, score.Estimate{LocalTime: 91, CloudTime: 90}, 2, decision.Cloud, decision.AboveThreshold},
			{"patience", heavy, score.Estimate{LocalTime: 1, CloudTime: patience * latest}, 0, decision.Cloud, decision.AboveThreshold},
			{"no patience left", heavy, score.Estimate{LocalTime: 1, CloudTime: patience*latest + 1}, 0, decision.Local, decision.Sooner},
			{"local far too late", light, score.Estimate{LocalTime: 7, CloudTime: 6.9}, 2, decision.Cloud, decision.Sooner},
			{"an outage is no lateness", heavy, score.Estimate{LocalTime: 1, CloudTime: math.Inf(1)}, 0, decision.Cloud, decision.AboveThreshold},
			{"no link", light, score.Estimate{LocalTime: 7, CloudTime: math.Inf(1)}, 2, decision.Local, decision.BelowThreshold},
		} {
			tk := *c.task
			tk.Deadline = time.Duration(c.deadline * 1e9)
			d := p.Decide(&tk, &c.e, busy(50))
			require.Equal(t, c.want, d.Target, "%s: %s", name, c.name)
			require.Equal(t, c.reason, d.Reason, "%s: %s", name, c.name)
			require.Equal(t, c.want == decision.Cloud, d.Score >= d.Threshold, "%s: %s", name, c.name)
		}
	}
	e := decision.NewEntry(&task.Task{}, &score.Estimate{LocalTime: 1, CloudTime: 300}, busy(5), decision.Decision{Reason: decision.Sooner}, "weighted", "")
	require.Equal(t, "Local: policy weighted prefers the other target, where the result would be far too late; predicted local 1 s, cloud 5 min.", decision.Explain(e))
}

// A target that only takes longer is dominated, also if both take the same energy; a target of equal time is not.
func TestEqualTermsDominateByTimeAlone(t *testing.T) {
	e := &score.Estimate{LocalEnergy: 1, CloudEnergy: 1}
	for times, want := range map[[2]float64][2]bool{{1, 2}: {false, true}, {2, 1}: {true, false}, {1, 1}: {}} {
		m := terms{local: times[0], cloud: times[1], e: e}
		require.Equal(t, want, [2]bool{m.dominated(decision.Local), m.dominated(decision.Cloud)}, "%v", times)
	}
}
