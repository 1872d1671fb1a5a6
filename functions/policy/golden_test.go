package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var rewrite = flag.Bool("golden", false, "write testdata/decisions.golden anew")

// drawn draws a task, a node state and predictions from a seed; sometimes a target is unreachable, or nothing is known.
func drawn(r *rand.Rand) (*task.Task, *score.Estimate, *host.State) {
	t := &task.Task{Data: make([]byte, int(math.Exp(r.Float64()*13))), Complexity: r.Float64() * 100, Class: &task.Class{Name: "c"}}
	if r.IntN(3) > 0 {
		t.Deadline = time.Duration(r.Float64() * 5 * float64(time.Second))
	}
	e := &score.Estimate{
		LocalTime: math.Exp(r.Float64()*8 - 5), CloudTime: math.Exp(r.Float64()*8 - 5), LocalEnergy: r.Float64() * 10, CloudEnergy: r.Float64() * 10,
		Cycles: r.Float64() * 1000, Bytes: float64(len(t.Data)) * r.Float64(),
	}
	s := &host.State{
		Time: r.Int64N(1 << 40), CPU: r.Float64() * 100, Memory: r.Float64() * 100, Cores: 1 + r.IntN(8), MHz: 1000 + r.Float64()*2000, Watts: r.Float64() * 20,
		OnBattery: r.IntN(2) == 0, Battery: r.Float64() * 100, QueueTasks: r.IntN(20), QueueCycles: r.Float64() * 1000,
		Link: host.Link{
			Up: r.IntN(5) > 0, Goodput: math.Exp(r.Float64() * 15), Goodput10: math.Exp(r.Float64() * 14), Goodput50: math.Exp(r.Float64() * 15), RTT: r.Float64(),
			RTT95: r.Float64() * 2, BacklogTasks: int64(r.IntN(1000)), BacklogBytes: int64(r.IntN(1 << 20)), BacklogShare: r.Float64(), InflightBytes: int64(r.IntN(1 << 16)),
		},
	}
	if !s.Link.Up {
		e.CloudTime = math.Inf(1)
	}
	return t, e, s
}

// rounded shortens the numbers of a JSON text, so that the last bits of another machine's arithmetic do not matter.
func rounded(t *testing.T, raw []byte) string {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal(raw, &v))
	var short func(v any) any
	short = func(v any) any {
		switch v := v.(type) {
		case float64:
			return json.RawMessage(fmt.Sprintf("%.5g", v))
		case []any:
			for i := range v {
				v[i] = short(v[i])
			}
		case map[string]any:
			for k := range v {
				v[k] = short(v[k])
			}
		}
		return v
	}
	text, err := json.Marshal(short(v))
	require.NoError(t, err)
	return string(text)
}

// The decisions of each deterministic policy in a hundred situations, before and after it has learned from them, match the recording.
func TestDecisionsAreAsRecorded(t *testing.T) {
	var out bytes.Buffer
	for _, p := range All(DefaultConfig()) {
		if p.Name() == "random" {
			continue
		}
		r := rand.New(rand.NewPCG(7, 7))
		for round := range 2 {
			fmt.Fprintf(&out, "%s: %s\n", p.Name(), p)
			for range 100 {
				task, e, s := drawn(r)
				d := p.Decide(task, e, s)
				if p.Name() == "bandit" {
					d.Target, d.Reason, d.Propensity = 0, 0, 0 // drawn
				}
				fmt.Fprintf(&out, "%v %.5g %.5g %.5g %.5g %v\n", d.Target, d.Score, d.Threshold, d.Terms, d.Propensity, d.Reason)
				if b, ok := p.(Binder); ok {
					fmt.Fprintf(&out, "\twaits %v\n", b.Waits(task, e, s, &d))
				}
				if l, ok := p.(Learner); ok && round == 0 {
					entry := decision.NewEntry(task, e, s, decision.Decision{Target: decision.Target(r.IntN(2)), Propensity: 1}, p.Name(), "v")
					entry.Outcome = decision.Outcome{Known: true, Time: r.ExpFloat64(), Bytes: int64(len(task.Data)), Energy: r.Float64(), Met: r.IntN(2) == 0}
					l.Observe(&entry)
				}
			}
			if l, ok := p.(Learner); ok {
				saved, err := l.Save()
				require.NoError(t, err)
				fmt.Fprintln(&out, rounded(t, saved))
			}
		}
	}
	const path = "testdata/decisions.golden"
	if *rewrite {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	wanted, have := bytes.Split(want, []byte("\n")), bytes.Split(out.Bytes(), []byte("\n"))
	for i := range min(len(wanted), len(have)) {
		require.Equal(t, string(wanted[i]), string(have[i]), "line %d; if it is right: go test ./functions/policy -golden", i+1)
	}
	require.Len(t, have, len(wanted))
}
