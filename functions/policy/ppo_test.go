package policy

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// drawnNetwork has random weights, inputs that are known from −wide to wide, and the given layers.
func drawnNetwork(seed uint64, wide float64, layers ...int) *Network {
	rng := rand.New(rand.NewPCG(seed, 1))
	n := &Network{Made: "a test"}
	for _, name := range InputNames {
		n.Inputs = append(n.Inputs, Input{Name: name, Mean: rng.NormFloat64(), Deviation: 0.5 + rng.Float64(), Low: -wide, High: wide})
	}
	in := len(n.Inputs)
	for _, out := range layers {
		l := Layer{Weights: make([]float64, in*out), Bias: make([]float64, out)}
		for i := range l.Weights {
			l.Weights[i] = rng.NormFloat64() / math.Sqrt(float64(in))
		}
		for i := range l.Bias {
			l.Bias[i] = rng.NormFloat64()
		}
		n.Layers, in = append(n.Layers, l), out
	}
	return n
}

func writtenTo(t testing.TB, n *Network) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, n.Write(&b))
	file := filepath.Join(t.TempDir(), "ppo.json")
	require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o600))
	return file
}

func weights(file string) func(*Config) { return func(c *Config) { c.PPOWeights = file } }

// The network agrees with a plain implementation of its definition, and survives its file without losing a bit.
func TestNetworkComputesItsDefinition(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := drawnNetwork(rapid.Uint64().Draw(r, "seed"), 100, rapid.IntRange(1, 9).Draw(r, "first"), rapid.IntRange(1, 9).Draw(r, "second"), 2)
		var b strings.Builder
		require.NoError(r, n.Write(&b))
		read, err := ReadNetwork(strings.NewReader(b.String()))
		require.NoError(r, err)
		x := rapid.SliceOfN(rapid.Float64Range(-20, 20), NumInputs, NumInputs).Draw(r, "x")
		var had, got [2]float64
		n.Forward(x, had[:])
		read.Forward(x, got[:])
		require.Equal(r, had, got)

		h := make([]float64, len(x))
		for i, in := range n.Inputs {
			h[i] = min(max((x[i]-in.Mean)/in.Deviation, -10), 10)
		}
		for k, l := range n.Layers {
			next := make([]float64, len(l.Bias))
			for o := range next {
				next[o] = l.Bias[o]
				for i, v := range h {
					next[o] += l.Weights[o*len(h)+i] * v
				}
				if k+1 < len(n.Layers) {
					next[o] = math.Tanh(next[o])
				}
			}
			h = next
		}
		require.InDeltaSlice(r, h, got[:], 1e-9)
	})
}

func TestNetworkFilesThatCannotBe(t *testing.T) {
	for name, spoil := range map[string]func(*Network){
		"format":                       func(n *Network) { n.Format = "app-offload network 2" },
		"0 layers":                     func(n *Network) { n.Layers = nil },
		"needs 1–256, and":             func(n *Network) { n.Layers[0].Weights = n.Layers[0].Weights[1:] },
		"layer 1":                      func(n *Network) { n.Layers[1].Bias = nil },
		"0 biases and 0 weights":       func(n *Network) { n.Layers[1] = Layer{} },
		"257 biases":                   func(n *Network) { n.Layers[1] = Layer{Weights: make([]float64, 4*257), Bias: make([]float64, 257)} },
		"that is not finite":           func(n *Network) { n.Layers[0].Bias[0] = math.NaN() },
		`input "rtt in usual s": mean`: func(n *Network) { n.Inputs[inRTT].Deviation = 0 },
		"deviation -1":                 func(n *Network) { n.Inputs[inRTT].Deviation = -1 },
		"deviation 1e-310":             func(n *Network) { n.Inputs[inRTT].Deviation = 1e-310 },
		`input "queue": mean`:          func(n *Network) { n.Inputs[inQueue].Low = 1e9 },
		`input "others": mean`:         func(n *Network) { n.Inputs[inOthers].High = math.Inf(1) },
	} {
		n := drawnNetwork(1, 10, 4, 2)
		n.Inputs[inRTT].Low, n.Inputs[inRTT].High = 1, 1 // an input that never changed in training is one
		require.NoError(t, n.Write(&strings.Builder{}))
		spoil(n)
		require.ErrorContains(t, n.Write(&strings.Builder{}), name)
	}
	for _, text := range []string{"", "{", "[]", `{"inputs":[{"name":"x","weight":1}]}`, `{"format":"app-offload network 1"}`} {
		_, err := ReadNetwork(strings.NewReader(text))
		require.Error(t, err, text)
	}
}

func situation() (*task.Task, *score.Estimate, *host.State) {
	return &task.Task{Data: make([]byte, 40*score.KB), Deadline: 2 * time.Second, Received: 1e18},
		&score.Estimate{LocalTime: 1.5, CloudTime: 0.8, LocalEnergy: 2, CloudEnergy: 0.3, Cycles: 1500, Bytes: 41_000},
		&host.State{Time: 1e18, CPU: 100, OwnCPU: 70, QueueTasks: 2, QueueCycles: 3000, Link: host.Link{Up: true, Goodput: 1e5, RTT: 0.1, BacklogBytes: 20_000, BacklogTasks: 1}}
}

// Impossible counts make no infinite input.
func TestInputsOfImpossibleCounts(t *testing.T) {
	k, e, s := situation()
	s.QueueTasks, s.Link.BacklogTasks, s.CPU, s.OwnCPU, s.Link.Goodput, s.Link.RTT = -5, -5, 0, 50, 0, -1
	for _, cloud := range []float64{0, 1e12} {
		e.CloudTime = cloud // so clear that an advice of 0 or 1 would be endless
		var x [NumInputs]float64
		Inputs(k, e, s, Arrivals{Usual: 1}, &x)
		for i, v := range x {
			require.False(t, math.IsNaN(v) || math.IsInf(v, 0), "%s = %v", InputNames[i], v)
		}
	}
}

// The cost that training uses: lateness, energy, and one more for a missed deadline.
func TestWhatTrainingWeighs(t *testing.T) {
	for _, c := range [][3]float64{{0.5, 2, 0.6}, {1, 0, 1}, {1.5, 2, 2.6}, {3, 0, 4}} {
		require.InDelta(t, c[2], weighed(c[0], c[1]), 1e-12, "%v", c)
	}
}

func TestInputsAreTakenApart(t *testing.T) {
	tk, e, s := situation()
	var x [NumInputs]float64
	Inputs(tk, e, s, Arrivals{0.9, 1.9, 1}, &x)
	for in, want := range map[int]float64{
		inDeadline: math.Log(2.01), inLocalTime: math.Log(1.51), inLocalWait: math.Log(1.01), inLocalWork: math.Log(0.51),
		inCloudWait: math.Log(0.21), inCloudWork: math.Log(0.61), inLocalLate: 0.75, inCloudLate: 0.4, inOthers: 0.3,
		inGoodput: math.Log(0.11), inQueue: math.Log(3), inBacklog: math.Log(2), inSaving: 0.75 + 0.1 - 0.4 - 0.015 - 0.05,
		inLately: 0, inLong: math.Log(2),
	} {
		require.InDelta(t, want, x[in], 1e-9, InputNames[in])
	}
	advised := build(t, "cost").Decide(tk, e, s)
	require.InDelta(t, advised.Score, 1/(1+math.Exp(-x[inAdvice])), 1e-9)
}

// Policy cost decides every unknown situation: no weights, the wrong ones, a task without a deadline, a link that is down, and a node unlike those of
// the training.
func TestOutsideOfItsTrainingCostDecides(t *testing.T) {
	tk, e, s := situation()
	inside := build(t, "ppo", weights(writtenTo(t, drawnNetwork(2, 100, 8, 2)))).Decide(tk, e, s)
	require.False(t, inside.Reason.IsGuard())
	require.InDelta(t, 1, inside.Propensity, 0)

	other := drawnNetwork(2, 100, 8, 2)
	other.Inputs[3].Name = "another"
	endless, down := *tk, *e
	endless.Deadline, down.CloudTime = 0, math.Inf(1)
	for name, c := range map[string]struct {
		file string
		task *task.Task
		est  *score.Estimate
		says string
	}{
		"no file":      {"", tk, e, "no weights"},
		"missing file": {"nowhere.json", tk, e, "nowhere.json"},
		"other inputs": {writtenTo(t, other), tk, e, "train them again"},
		"three ways":   {writtenTo(t, drawnNetwork(2, 100, 8, 3)), tk, e, "3 outputs"},
		"narrow":       {writtenTo(t, drawnNetwork(2, 0.1, 8, 2)), tk, e, "outside of its training"},
		"no deadline":  {writtenTo(t, drawnNetwork(2, 100, 8, 2)), &endless, e, ""},
		"link is down": {writtenTo(t, drawnNetwork(2, 100, 8, 2)), tk, &down, ""},
	} {
		p := build(t, "ppo", weights(c.file))
		want := build(t, "cost").Decide(c.task, c.est, s)
		want.Reason = decision.GuardOutside
		require.Equal(t, want, p.Decide(c.task, c.est, s), name)
		require.Contains(t, p.String(), c.says, name)
	}
}

func TestDefaultNeedsItsWeights(t *testing.T) {
	require.NoError(t, config(weights("nowhere.json")).Validate())
	asDefault := func(c *Config) { c.Default = "ppo" }
	require.ErrorContains(t, config(weights("nowhere.json"), asDefault).Validate(), "PPOWeights")
	require.NoError(t, config(weights(writtenTo(t, drawnNetwork(3, 9, 4, 2))), asDefault).Validate())
}

func TestPPOAllocatesNothing(t *testing.T) {
	p := build(t, "ppo", weights(writtenTo(t, drawnNetwork(4, 100, 48, 48, 2))))
	tk, e, s := situation()
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Decide(tk, e, s) }))
}

// The bound is 5 µs and 0 allocations.
func BenchmarkPPO(b *testing.B) {
	p := build(b, "ppo", weights(writtenTo(b, drawnNetwork(4, 100, 48, 48, 2))))
	tk, e, s := situation()
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(tk, e, s)
	}
}

// The shipped weights fit the inputs of this program.
func TestShippedWeightsFit(t *testing.T) {
	n, err := loadNetwork("../../res/policies/ppo.json")
	require.NoError(t, err)
	require.Contains(t, n.Made, "offload-lab train")
}
