package policy

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// A scarce resource changes a decision that is open by time alone, under every policy that weighs costs.
func TestScarceThingsCount(t *testing.T) {
	one := &task.Task{Deadline: time.Second, Data: make([]byte, 1000)}
	even := score.Estimate{LocalTime: 0.2, CloudTime: 0.2, LocalEnergy: 1, CloudEnergy: 1, Cycles: 100, Bytes: 1e5}
	up := host.State{Link: host.Link{Up: true, Goodput: 1e6, RTT: 0.01}, Battery: 100}
	plain := func(c *Config) { c.CostShadow, c.CostMoney, c.BanditExplore, c.CostEnergy = false, 0, 0, 1 }
	for _, name := range []string{"cost", "bandit", "defer"} {
		for what, c := range map[string]struct {
			edit func(*score.Estimate, *host.State)
			want decision.Target
		}{
			"bytes that cost much":    {func(e *score.Estimate, s *host.State) { e.Money, e.LocalTime = 1, 0.25 }, decision.Local},
			"bytes that cost nothing": {func(e *score.Estimate, _ *host.State) { e.Money, e.LocalTime = 0, 0.25 }, decision.Cloud},
			"memory is short":         {func(e *score.Estimate, s *host.State) { e.CloudTime, s.MemoryStall = 0.25, 50 }, decision.Cloud},
			"memory is there":         {func(e *score.Estimate, s *host.State) { e.CloudTime = 0.25 }, decision.Local},
			"an empty battery": {func(e *score.Estimate, s *host.State) {
				e.LocalTime, e.LocalEnergy, s.OnBattery, s.Battery = 0.5, 0.7, true, 0
			}, decision.Local},
			"a full battery": {func(e *score.Estimate, s *host.State) { e.LocalTime, e.LocalEnergy, s.OnBattery = 0.5, 0.7, true }, decision.Cloud},
			"a battery without charge": {func(e *score.Estimate, s *host.State) {
				e.LocalTime, e.LocalEnergy, s.OnBattery, s.Battery = 0.5, 0.7, true, math.NaN()
			}, decision.Local},
		} {
			e, s := even, up
			c.edit(&e, &s)
			require.Equal(t, c.want, build(t, name, plain).Decide(one, &e, &s).Target, "%s: %s", name, what)
		}
	}
}

func TestGuardsOfScarceThings(t *testing.T) {
	g, err := NewGuards(config(func(c *Config) { c.MemoryLimit, c.BatteryLimit, c.PriceLimit = 30, 20, 0.05 }))
	require.NoError(t, err)
	off, err := NewGuards(config())
	require.NoError(t, err)
	one := &task.Task{Deadline: time.Second}
	e := score.Estimate{LocalTime: 0.5, CloudTime: 0.5, LocalEnergy: 1, CloudEnergy: 2}
	for what, c := range map[string]struct {
		edit   func(*score.Estimate, *host.State)
		reason decision.Reason
		want   decision.Target
	}{
		"memory":                         {func(_ *score.Estimate, s *host.State) { s.MemoryStall = 31 }, decision.GuardMemory, decision.Cloud},
		"memory, and no link":            {func(_ *score.Estimate, s *host.State) { s.MemoryStall, s.Link.Up = 31, false }, decision.GuardLinkDown, decision.Local},
		"memory at its limit":            {func(_ *score.Estimate, s *host.State) { s.MemoryStall = 30 }, decision.ReasonNone, decision.Local},
		"battery, cheaper here":          {func(_ *score.Estimate, s *host.State) { s.OnBattery, s.Battery = true, 19 }, decision.GuardBattery, decision.Local},
		"battery, cheaper there":         {func(e *score.Estimate, s *host.State) { s.OnBattery, s.Battery, e.LocalEnergy = true, 19, 3 }, decision.GuardBattery, decision.Cloud},
		"charging":                       {func(_ *score.Estimate, s *host.State) { s.Battery = 19 }, decision.ReasonNone, decision.Local},
		"price":                          {func(_ *score.Estimate, s *host.State) { s.Link.Price = 0.06 }, decision.GuardPrice, decision.Local},
		"price, but here it is too late": {func(e *score.Estimate, s *host.State) { s.Link.Price, e.LocalTime = 0.06, 4 }, decision.ReasonNone, decision.Local},
	} {
		e, s := e, host.State{Link: host.Link{Up: true}, Battery: 100}
		c.edit(&e, &s)
		d, held := g.Check(one, &e, &s)
		require.Equal(t, c.reason != decision.ReasonNone, held, what)
		require.Equal(t, c.reason, d.Reason, what)
		require.Equal(t, c.want, d.Target, what)
		if c.reason != decision.GuardLinkDown {
			_, held = off.Check(one, &e, &s)
			require.False(t, held, "by default no guard holds: %s", what)
		}
	}
}
