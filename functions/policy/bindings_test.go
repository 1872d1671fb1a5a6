package policy

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// bindings simulates tasks that arrive, are parked and bound on a node with these settings; it returns one line per step.
func bindings(t *testing.T, edit func(*Config, *score.Config), steps, flood int) string {
	c, sc := DefaultConfig(), score.DefaultConfig()
	c.DeferLongest = "20s"
	edit(&c, &sc)
	m, err := score.New(sc)
	require.NoError(t, err)
	b, err := DeferBy(DefaultRule(), c)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(11, 13))
	classes := []*task.Class{{Name: "a"}, {Name: "b", Model: "fault"}, {Name: "c"}}
	s, w := host.State{Time: 1e18, Battery: 50, Link: host.Link{Up: true, Goodput: 2e5, RTT: 0.05}}, Waiting{}
	var out strings.Builder
	for i := range steps {
		s.Time += int64(1e9 * r.ExpFloat64() / 8)
		burst := r.IntN(3)
		if i%40 == 39 {
			burst = flood
		}
		if i%40 == 38 {
			s.Time += int64(11 * time.Second) // silence
			burst = 0
		}
		s.Link.Up = i%29 != 0 && i%60 < 50
		s.OnBattery = i%50 > 40
		s.MemoryStall = float64(i % 60)
		s.Link.Price = float64(i % 3)
		for range burst {
			one := &task.Task{
				Of: 1, Received: s.Time, Data: make([]byte, int(math.Exp(r.Float64()*12))), Complexity: 100 * float64(r.IntN(3)) * r.Float64(), Class: classes[r.IntN(3)],
				Device: fmt.Sprint("device ", r.IntN(3)), Deadline: time.Duration((0.1 + 4*r.Float64()*r.Float64()) * 1e9 * float64(r.IntN(4))),
			}
			e := m.Estimate(one, &s)
			d := b.Decide(one, &e, &s)
			require.True(t, w.Add(Held{Task: one, Tag: i, InOrder: r.IntN(2) == 0}, b.Room()))
			fmt.Fprintf(&out, "%v ", d.Target)
		}
		s.QueueCycles, s.ModelSeconds, s.Link.InflightBytes = float64(r.IntN(3)*r.IntN(2000)), float64(r.IntN(3))*r.Float64(), int64(r.IntN(2)*r.IntN(100_000))
		for range 3 {
			h, d, e, ok := w.Next(b, m, &s)
			if !ok {
				fmt.Fprintf(&out, "| none of %d", w.Len())
				break
			}
			fmt.Fprintf(&out, "| %v %d B %v of %d: %v ", h.Task.Class.Name, len(h.Task.Data), d.Target, h.Tag, d.Reason)
			if d.Target == decision.Cloud {
				s.Link.InflightBytes += int64(len(h.Task.Data))
			} else if s.QueueCycles += e.Cycles; h.Task.Class.Model != "" {
				s.QueueCycles, s.ModelSeconds = s.QueueCycles-e.Cycles, s.ModelSeconds+e.LocalTime
			}
		}
		out.WriteByte('\n')
	}
	return out.String()
}

// timeAlone makes both servers equal in all terms but time.
func timeAlone(c *Config) {
	c.CostEnergy, c.CostMoney, c.CostPrice, c.CostMemory = 0, 0, 0, 0
}

// The parked task and the server chosen for it match the recording: rules were learned with this behaviour.
func TestBindingsAreAsRecorded(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("fused multiplications may reverse near ties")
	}
	var out bytes.Buffer
	for _, node := range []struct {
		name  string
		edit  func(*Config, *score.Config)
		flood int // tasks at once; an outlook holds 14
	}{
		{"usual", func(*Config, *score.Config) {}, 40},
		{"ordered", func(c *Config, _ *score.Config) { c.DeferOrder = true }, 40},
		{"money", func(c *Config, s *score.Config) { c.CostMoney, c.CostPrice, c.CostMemory, c.CostBattery = 0.3, 1, 1, 3 }, 40},
		{"dear", func(c *Config, _ *score.Config) { c.CostMoney, c.CostTime, c.CostKappa = 100, 2, 1.5 }, 40},
		{"patient", func(c *Config, _ *score.Config) { c.CostMiss, c.CostKappa = 0.1, 20 }, 40},
		{"slow node", func(_ *Config, s *score.Config) { s.EdgeMcycles /= 10 }, 40},
		{"a flood", func(*Config, *score.Config) {}, 200},
		{"a flood on a fast node", func(_ *Config, s *score.Config) { s.EdgeMcycles *= 10 }, 200},
		{"a flood on a slow one", func(_ *Config, s *score.Config) { s.EdgeMcycles /= 10 }, 200},
		{"time alone", func(c *Config, _ *score.Config) { timeAlone(c) }, 40},
		{"time alone on a slow node", func(c *Config, s *score.Config) { timeAlone(c); s.EdgeMcycles /= 10 }, 40},
		{"time alone, a flood on a fast node", func(c *Config, s *score.Config) { timeAlone(c); s.EdgeMcycles *= 10 }, 200},
		{"free work", func(_ *Config, s *score.Config) { s.McyclesPerKB, s.EdgeJoules, s.Overhead = 1e-9, 1e-6, "0s" }, 40},
	} {
		fmt.Fprintf(&out, "%s\n%s", node.name, bindings(t, node.edit, 120, node.flood))
	}
	const path = "testdata/bindings.golden"
	if *rewrite {
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	wanted, have := strings.Split(string(want), "\n"), strings.Split(out.String(), "\n")
	require.Len(t, have, len(wanted))
	for i := range wanted {
		require.Equal(t, wanted[i], have[i], "line %d; if it is right: go test ./functions/policy -golden", i+1)
	}
}
