package policy

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// The guards, each at its limit and beyond it, in their order.
func TestGuardsHoldAtTheirLimits(t *testing.T) {
	const (
		local, cloud = decision.Local, decision.Cloud
		none         = decision.ReasonNone
	)
	nothing := func(*task.Task, *score.Estimate, *host.State) {}
	type change = func(*task.Task, *score.Estimate, *host.State)
	for name, row := range map[string]struct {
		down   string // LinkDown, deadline by default
		change change
		want   decision.Reason
		target decision.Target
		limit  float64
	}{
		"nothing":         {"", nothing, none, local, 0},
		"stays":           {"", func(k *task.Task, _ *score.Estimate, s *host.State) { k.Class.NeverLeave, s.Link.Up = true, false }, decision.GuardNeverLeave, local, 0},
		"without a class": {"", func(k *task.Task, _ *score.Estimate, _ *host.State) { k.Class = nil }, none, local, 0},
		"down, all":       {"all", func(k *task.Task, _ *score.Estimate, s *host.State) { k.Deadline, s.Link.Up = 0, false }, decision.GuardLinkDown, local, 0},
		"down, all, late": {"all", func(_ *task.Task, e *score.Estimate, s *host.State) { e.LocalTime, s.Link.Up = 1e6, false }, decision.GuardLinkDown, local, 0},
		"down, deadline":  {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.Link.Up = false }, decision.GuardLinkDown, local, 0},
		"down, none":      {"", func(k *task.Task, _ *score.Estimate, s *host.State) { k.Deadline, s.Link.Up = 0, false }, none, local, 0},
		"down, so late":   {"", func(_ *task.Task, e *score.Estimate, s *host.State) { e.LocalTime, s.Link.Up = 6, false }, decision.GuardLinkDown, local, 0},
		"down, later":     {"", func(_ *task.Task, e *score.Estimate, s *host.State) { e.LocalTime, s.Link.Up = 6.001, false }, decision.GuardLinkDown, cloud, 0},
		"down, later, full": {"", func(_ *task.Task, e *score.Estimate, s *host.State) {
			e.LocalTime, s.Link.Up, s.Link.BacklogShare = 6.001, false, 0.8001
		}, decision.GuardLinkDown, local, 0},
		"down, later, at the limit": {"", func(_ *task.Task, e *score.Estimate, s *host.State) {
			e.LocalTime, s.Link.Up, s.Link.BacklogShare = 6.001, false, 0.8
		}, decision.GuardLinkDown, cloud, 0},
		"backlog, at":     {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.Link.BacklogShare = 0.8 }, none, local, 0},
		"backlog, beyond": {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.Link.BacklogShare = 0.8001 }, decision.GuardBacklog, local, 0.8},
		"memory, at":      {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.MemoryStall = 10 }, none, local, 0},
		"memory, beyond":  {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.MemoryStall = 10.1 }, decision.GuardMemory, cloud, 10},
		"memory, down": {"", func(k *task.Task, _ *score.Estimate, s *host.State) {
			k.Deadline, s.MemoryStall, s.Link.Up = 0, 10.1, false
		}, none, local, 0},
		"battery, at":    {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.OnBattery, s.Battery = true, 20 }, none, local, 0},
		"battery, below": {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.OnBattery, s.Battery = true, 19.9 }, decision.GuardBattery, cloud, 20},
		"battery, dear": {"", func(_ *task.Task, e *score.Estimate, s *host.State) {
			s.OnBattery, s.Battery, e.CloudEnergy = true, 19.9, 1
		}, decision.GuardBattery, local, 20},
		"battery, on mains": {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.Battery = 19.9 }, none, local, 0},
		"battery, down": {"", func(k *task.Task, _ *score.Estimate, s *host.State) {
			k.Deadline, s.OnBattery, s.Battery, s.Link.Up = 0, true, 19.9, false
		}, none, local, 0},
		"price, at":      {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.Link.Price = 5 }, none, local, 0},
		"price, beyond":  {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.Link.Price = 5.1 }, decision.GuardPrice, local, 5},
		"price, so late": {"", func(_ *task.Task, e *score.Estimate, s *host.State) { s.Link.Price, e.LocalTime = 5.1, 6 }, decision.GuardPrice, local, 5},
		"price, later":   {"", func(_ *task.Task, e *score.Estimate, s *host.State) { s.Link.Price, e.LocalTime = 5.1, 6.001 }, none, local, 0},
		"price, patient": {"", func(k *task.Task, e *score.Estimate, s *host.State) {
			k.Deadline, s.Link.Price, e.LocalTime = 0, 5.1, 30
		}, decision.GuardPrice, local, 5},
		"price, too long": {"", func(k *task.Task, e *score.Estimate, s *host.State) {
			k.Deadline, s.Link.Price, e.LocalTime = 0, 5.1, 30.001
		}, none, local, 0},
		"memory before battery": {"", func(_ *task.Task, e *score.Estimate, s *host.State) {
			s.MemoryStall, s.OnBattery, s.Battery, e.CloudEnergy = 10.1, true, 19.9, 1
		}, decision.GuardMemory, cloud, 10},
		"battery before price": {"", func(_ *task.Task, _ *score.Estimate, s *host.State) {
			s.OnBattery, s.Battery, s.Link.Price = true, 19.9, 5.1
		}, decision.GuardBattery, cloud, 20},
		"backlog before memory": {"", func(_ *task.Task, _ *score.Estimate, s *host.State) { s.Link.BacklogShare, s.MemoryStall = 0.9, 10.1 }, decision.GuardBacklog, local, 0.8},
	} {
		c := config(func(c *Config) {
			c.BacklogLimit, c.MemoryLimit, c.BatteryLimit, c.PriceLimit, c.CostKappa, c.CostPatience, c.LinkDown = 0.8, 10, 20, 5, 3, 10, "deadline"
			if row.down != "" {
				c.LinkDown = row.down
			}
		})
		g, err := NewGuards(c)
		require.NoError(t, err)
		k := &task.Task{Class: &task.Class{}, Deadline: 2 * time.Second}
		e := &score.Estimate{LocalTime: 1, CloudTime: 1, LocalEnergy: 1, CloudEnergy: 0.5}
		s := &host.State{Battery: math.NaN(), Link: host.Link{Up: true}}
		row.change(k, e, s)
		d, held := g.Check(k, e, s)
		require.Equal(t, row.want != none, held, name)
		if held {
			want := decision.Decision{Target: row.target, Threshold: row.limit, Propensity: 1, Reason: row.want}
			if row.target == cloud {
				want.Score = 1
			}
			require.Equal(t, want, d, name)
		}
		off, err := NewGuards(config(func(c *Config) {
			c.BacklogLimit, c.MemoryLimit, c.BatteryLimit, c.PriceLimit, c.LinkDown = 1, 0, 0, 0, "deadline"
		}))
		require.NoError(t, err)
		if _, still := off.Check(k, e, s); row.want != decision.GuardNeverLeave && row.want != decision.GuardLinkDown {
			require.False(t, still, "%s: a limit of 0 never holds", name)
		}
	}
	least, err := NewGuards(config(func(c *Config) { c.MemoryLimit, c.BatteryLimit, c.PriceLimit = 0.5, 0.5, 0.5 }))
	require.NoError(t, err)
	for want, s := range map[decision.Reason]host.State{
		decision.GuardMemory: {MemoryStall: 0.6}, decision.GuardBattery: {OnBattery: true, Battery: 0.4}, decision.GuardPrice: {Link: host.Link{Price: 0.6}},
	} {
		s.Link.Up = true
		d, held := least.Check(&task.Task{}, &score.Estimate{LocalTime: 1}, &s)
		require.Equal(t, [2]any{want, true}, [2]any{d.Reason, held}, "a limit below 1 holds as well")
	}
	for down, open := range map[string]bool{"deadline": true, "all": false} {
		g, err := NewGuards(config(func(c *Config) { c.LinkDown = down }))
		require.NoError(t, err)
		require.Equal(t, open, g.LeavesOpen(decision.GuardLinkDown))
		require.False(t, g.LeavesOpen(decision.GuardBacklog))
		require.True(t, g.LeavesOpen(decision.CheaperCloud))
	}
	_, err = NewGuards(config(func(c *Config) { c.LinkDown = "never" }))
	require.Error(t, err)
}

// The cost of a decision equals the published formula, with the money of the bytes for the cloud only and the memory for local work only.
func TestWhatADecisionHasCost(t *testing.T) {
	c := config(func(c *Config) {
		c.CostTime, c.CostKappa, c.CostMiss, c.CostEnergy, c.CostJoules, c.CostMoney, c.CostMemory, c.CostBattery, c.CostPatience = 1, 3, 2, 0.5, 4, 0, 0, 0, 10
	})
	j := NewJudge(c)
	for name, row := range map[string]struct {
		e      decision.Entry
		cost   float64
		missed bool
	}{
		"in time":            {decision.Entry{Deadline: 2 * time.Second, Outcome: decision.Outcome{Time: 1}}, 0.5, false},
		"at the deadline":    {decision.Entry{Deadline: 2 * time.Second, Outcome: decision.Outcome{Time: 2}}, 1, false},
		"late":               {decision.Entry{Deadline: 2 * time.Second, Outcome: decision.Outcome{Time: 4}}, 2 + 2, true},
		"late after waiting": {decision.Entry{Deadline: 2 * time.Second, Waited: time.Second, Outcome: decision.Outcome{Time: 3}}, 2 + 2, true},
		"later than counts":  {decision.Entry{Deadline: 2 * time.Second, Outcome: decision.Outcome{Time: 100}}, 3 + 2, true},
		"failed":             {decision.Entry{Deadline: 2 * time.Second, Outcome: decision.Outcome{Failed: true}}, 3 + 2, true},
		"without deadline":   {decision.Entry{Waited: 50 * time.Second, Outcome: decision.Outcome{Time: 5}}, 0.5, false},
		"failed without one": {decision.Entry{Outcome: decision.Outcome{Failed: true}}, 3, false},
		"energy":             {decision.Entry{Deadline: 2 * time.Second, Outcome: decision.Outcome{Time: 1, Energy: 8}}, 0.5 + 0.5*2, false},
	} {
		for _, target := range []decision.Target{decision.Local, decision.Cloud} {
			row.e.Decision.Target = target
			cost, missed := j.Actual(&row.e)
			require.InDelta(t, row.cost, cost, 1e-6, "%s, %v", name, target)
			require.Equal(t, row.missed, missed, name)
		}
	}
	costs := func(after float64) float64 {
		cost, _ := j.Actual(&decision.Entry{Outcome: decision.Outcome{Time: after}})
		return cost
	}
	require.Less(t, costs(0.99*j.Horizon()), costs(j.Horizon()))
	require.InDelta(t, costs(j.Horizon()), costs(2*j.Horizon()), 0, "without a deadline it costs no more from the horizon on")
	paying := NewJudge(config(func(c *Config) { c.CostMoney, c.CostMemory = 1, 1 }))
	plain := NewJudge(config(func(c *Config) { c.CostMoney, c.CostMemory = 0, 0 }))
	for _, target := range []decision.Target{decision.Local, decision.Cloud} {
		e := decision.Entry{Decision: decision.Decision{Target: target}, Estimate: score.Estimate{Money: 0.5}, State: host.State{MemoryStall: 50}, Outcome: decision.Outcome{Time: 1}}
		more, _ := paying.Actual(&e)
		less, _ := plain.Actual(&e)
		extra := paying.k.stall(&e.State) - plain.k.stall(&e.State)
		if target == decision.Cloud {
			extra = paying.k.paid(&e.Estimate) - plain.k.paid(&e.Estimate)
		}
		require.Positive(t, extra)
		require.InDelta(t, extra, more-less, 1e-6, target.String())
	}
}

// If the outcome equals the prediction, a decision costs what was predicted for its target.
func TestWhatComesAsPredictedCostsAsPredicted(t *testing.T) {
	j := NewJudge(config(func(c *Config) { c.CostMoney, c.CostPrice, c.CostMemory, c.CostBattery = 0.3, 1, 2, 3 }))
	r := rand.New(rand.NewPCG(5, 5))
	for range 500 {
		k, e, s := drawn(r)
		e.Money, s.MemoryStall = r.Float64(), 100*r.Float64()
		k.Received = s.Time - int64(r.Float64()*1e9)
		local, cloud := j.Predicted(k, e, s)
		for target, predicted := range map[decision.Target]float64{decision.Local: local, decision.Cloud: cloud} {
			took := [2]float64{e.LocalTime, e.CloudTime}[target]
			entry := decision.NewEntry(k, e, s, decision.Decision{Target: target}, "cost", "v")
			entry.Waited = time.Duration(s.Time - k.Received)
			entry.Outcome = decision.Outcome{Known: true, Time: took, Failed: math.IsInf(took, 1), Energy: [2]float64{e.LocalEnergy, e.CloudEnergy}[target]}
			actual, _ := j.Actual(&entry)
			require.InDelta(t, predicted, actual, 1e-6, "%v", target)
		}
	}
}

// A share is that of the first of two times, either of which may be zero or infinite.
func TestShares(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, row := range [][3]float64{{1, 1, 0.5}, {3, 1, 0.75}, {0, 1, 0}, {-1, 1, 0}, {nan, 1, 0}, {1, inf, 0}, {1, nan, 0}, {inf, 1, 1}, {inf, inf, 0}, {1, 0, 1}} {
		require.InDelta(t, row[2], share(row[0], row[1]), 1e-12, "%v", row)
	}
}

// A network knows the range of its training, and the margin beyond both ends.
func TestWhatANetworkKnows(t *testing.T) {
	n := &Network{Inputs: []Input{{Low: 2, High: 4}, {Low: -1, High: 0}}}
	for _, row := range []struct {
		x      [2]float64
		margin float64
		known  bool
	}{
		{[2]float64{2, -1}, 0, true},
		{[2]float64{4, 0}, 0, true},
		{[2]float64{1.999, 0}, 0, false},
		{[2]float64{4.001, 0}, 0, false},
		{[2]float64{3, 0.001}, 0, false},
		{[2]float64{1.8, -1.1}, 0.1, true},
		{[2]float64{4.2, 0.1}, 0.1, true},
		{[2]float64{1.79, 0}, 0.1, false},
		{[2]float64{4.21, 0}, 0.1, false},
		{[2]float64{3, -1.11}, 0.1, false},
		{[2]float64{math.NaN(), 0}, 1, false},
	} {
		require.Equal(t, row.known, n.Known(row.x[:], row.margin), "%+v", row)
	}
}

// ppo computes the score from the network's two outputs, with the reasons of a cost.
func TestPPODecidesByItsNetwork(t *testing.T) {
	k, e, s := situation()
	seen := map[decision.Target]bool{}
	for seed := range uint64(20) {
		n := drawnNetwork(seed, 100, 8, 2)
		p := build(t, "ppo", weights(writtenTo(t, n))).(*ppo)
		d := p.Decide(k, e, s)
		var x [NumInputs]float64
		var out [2]float64
		Inputs(k, e, s, p.Arrivals(), &x)
		n.Forward(x[:], out[:])
		cloud := 1 / (1 + math.Exp(out[decision.Local]-out[decision.Cloud]))
		if d.Reason != decision.Dominated && d.Reason != decision.Sooner {
			require.InDelta(t, cloud, d.Score, 1e-9)
			require.Equal(t, map[bool]decision.Target{true: decision.Cloud, false: decision.Local}[cloud >= half], d.Target)
			require.Equal(t, map[bool]decision.Reason{true: decision.CheaperCloud, false: decision.CheaperLocal}[cloud >= half], d.Reason)
			seen[d.Target] = true
		}
		require.InDelta(t, half, d.Threshold, 0)
		require.InDelta(t, 1, d.Propensity, 0)
		again := p.Arrivals()
		require.Equal(t, d, p.DecideAgain(k, e, s))
		require.Equal(t, again, p.Arrivals(), "it has arrived already")
	}
	require.NotEmpty(t, seen)
	indifferent := drawnNetwork(1, 100, 2)
	clear(indifferent.Layers[0].Weights)
	clear(indifferent.Layers[0].Bias)
	d := build(t, "ppo", weights(writtenTo(t, indifferent))).Decide(k, e, s)
	require.Equal(t, [2]any{half, decision.Cloud}, [2]any{d.Score, d.Target}, "at the threshold is enough")
}

// Removing tasks from any position keeps the order of the others, and the counts follow.
func TestTasksAreTakenOutFromAnywhere(t *testing.T) {
	for mask := range 1 << 5 {
		r := newRoom(t)
		r.busyNode()
		r.busyLink()
		for i := range 5 {
			require.True(t, r.add(1+i, 10, time.Duration(i+1)*time.Second, 0))
		}
		all := r.waiting.All()
		require.Len(t, all, 5)
		require.Equal(t, [2]int64{0, 0}, [2]int64{int64(r.waiting.Len()), r.waiting.Bytes()})
		for _, h := range all {
			require.True(t, r.waiting.Add(h, Room{Tasks: 100, Bytes: 1 << 30, Ordered: true}))
		}
		at := 0
		goes := func(*task.Task) bool { at++; return mask>>(at-1)&1 == 1 }
		gone := r.waiting.Without(goes)
		require.Equal(t, 5, at, "each task is visited once")
		var left []any
		size := int64(0)
		for i, h := range all {
			if mask>>i&1 == 0 {
				left, size = append(left, h.Tag), size+int64(h.Task.Size())
			} else {
				require.Equal(t, h.Tag, gone[0].Tag)
				gone = gone[1:]
			}
		}
		require.Empty(t, gone)
		require.Equal(t, [2]int64{int64(len(left)), size}, [2]int64{int64(r.waiting.Len()), r.waiting.Bytes()})
		total := 0
		for _, n := range r.waiting.waiting {
			total += n
		}
		require.Equal(t, len(left), total)
		var order []any
		for _, h := range r.waiting.All() {
			order = append(order, h.Tag)
		}
		require.Equal(t, left, order)
		require.Empty(t, r.waiting.streams)
	}
}

// With order, the earliest parked task of a device and class comes before others of it.
func TestTheEarliestGoesBefore(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		var w Waiting
		class := &task.Class{Name: "a"}
		one := func(device string) *task.Task {
			return &task.Task{Device: device, Class: class, Of: 1, Data: []byte("x")}
		}
		for n, device := range []string{"d", "e", "d"} {
			require.True(t, w.Add(Held{Task: one(device), Tag: n}, Room{Tasks: 9, Bytes: 9, Ordered: ordered}))
		}
		_, some := w.Before(one("f"))
		require.False(t, some)
		for _, want := range []int{0, 2} {
			require.Equal(t, ordered, w.Follows(one("d")))
			h, some := w.Before(one("d"))
			require.Equal(t, ordered, some)
			if ordered {
				require.Equal(t, want, h.Tag)
			}
		}
		_, some = w.Before(one("d"))
		require.False(t, some)
		require.Equal(t, map[bool]int{true: 1, false: 3}[ordered], w.Len())
	}
}
