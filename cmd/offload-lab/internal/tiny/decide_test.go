package tiny

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// given is one input of a harness, in the layout of the exported C struct, with its outcome; a negative time means no outcome.
type given struct {
	Now, Received, Deadline                        int64
	LocalTime, CloudTime, LocalEnergy, CloudEnergy float64
	Cycles, QueueCycles, Bytes, Goodput, Growth    float64
	BacklogBytes, InflightBytes, Size              int64
	Complexity, CPU, Money, MemoryStall, Battery   float64
	OnBattery, Critical                            int32
	Target                                         int64
	Took                                           float64
}

const decideHarness = `
#include <stdio.h>
int main(void)
{
	struct { net_task task; int64_t target; double took; } in;
	STATE
	while (fread(&in, 1, sizeof in, stdin) == sizeof in) {
		net_decision d;
		double out[3];

		out[0] = net_decide(POINTER &in.task, &d);
		out[1] = d.score;
		out[2] = d.propensity;
		fwrite(out, 1, sizeof out, stdout);
		OBSERVE
	}
	return 0;
}
`

const decideGoHarness = `
func main() {
	r, w := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	STATE
	var in struct {
		Now, Received, Deadline                        int64
		LocalTime, CloudTime, LocalEnergy, CloudEnergy float64
		Cycles, QueueCycles, Bytes, Goodput, Growth    float64
		BacklogBytes, InflightBytes, Size              int64
		Complexity, CPU, Money, MemoryStall, Battery   float64
		OnBattery, Critical                            int32
		Target                                         int64
		Took                                           float64
	}
	for binary.Read(r, binary.LittleEndian, &in) == nil {
		t := &Task{in.Now, in.Received, in.Deadline, in.LocalTime, in.CloudTime, in.LocalEnergy, in.CloudEnergy, in.Cycles, in.QueueCycles, in.Bytes, in.Goodput,
			in.Growth, in.BacklogBytes, in.InflightBytes, in.Size, in.Complexity, in.CPU, in.Money, in.MemoryStall, in.Battery, in.OnBattery != 0, in.Critical != 0}
		d := DECIDE(t)
		binary.Write(w, binary.LittleEndian, [3]float64{float64(d.Target), d.Score, d.Propensity})
		OBSERVE
	}
	w.Flush()
}
`

// filled passes a harness the calls of one policy.
func filled(harness, policy string) string {
	state, pointer, observe, decide := "", "", "", "Decide"
	inGo := strings.Contains(harness, "func main")
	switch {
	case policy == "bandit" && inGo:
		state, observe, decide = "p := Start()", "if in.Took >= 0 { p.Observe(t, int(in.Target), in.Took) }", "p.Decide"
	case policy == "bandit":
		state, pointer, observe = "net_state p;\nnet_start(&p);", "&p,", "if (in.took >= 0) net_observe(&p, &in.task, (int)in.target, in.took);"
	case policy == "cost" && inGo:
		state, decide = "p := &State{}", "p.Decide"
	case policy == "cost":
		state, pointer = "net_state p = { 0 };", "&p,"
	}
	return strings.NewReplacer("STATE", state, "POINTER", pointer, "OBSERVE", observe, "DECIDE", decide).Replace(harness)
}

// situations are consecutive tasks with estimates and states of all kinds: unreachable clouds, empty batteries, expired deadlines, extreme numbers.
func situations(r *rand.Rand, n int) []given {
	list := make([]given, n)
	now := int64(1 + r.Int64N(1<<40))
	number := func(scale float64) float64 {
		switch r.IntN(30) {
		case 0:
			return 0
		case 1:
			return -scale * r.Float64()
		case 2:
			return 1e15 * r.Float64()
		}
		return scale * math.Exp(r.Float64()*8-6)
	}
	for i := range list {
		now += r.Int64N(int64(2 * time.Second))
		g := given{
			Now: now - int64(r.IntN(3)/2)*r.Int64N(1e9), LocalTime: number(1), CloudTime: number(1), LocalEnergy: number(2), CloudEnergy: number(2), Cycles: number(100), QueueCycles: number(1000),
			Bytes: number(1e4), Goodput: number(1e5), Growth: number(1), BacklogBytes: r.Int64N(1 << 22), InflightBytes: r.Int64N(1<<16) - 100, Size: r.Int64N(1 << 21),
			Complexity: r.Float64() * 120, CPU: r.Float64() * 100, Battery: r.Float64() * 100, OnBattery: int32(r.IntN(2)), Critical: int32(r.IntN(8) / 7), Took: -1,
			Target: r.Int64N(2),
		}
		if r.IntN(3) > 0 {
			g.Received = max(now-r.Int64N(int64(3*time.Second)), 1)
		}
		if r.IntN(3) > 0 {
			g.Deadline = r.Int64N(int64(5 * time.Second))
		}
		if r.IntN(3) == 0 {
			g.Money, g.MemoryStall = number(0.1), number(50)
		}
		if r.IntN(12) == 0 {
			g.CloudTime = math.Inf(1)
		}
		if r.IntN(4) > 0 { // about as predicted for local tasks, far off for the cloud's
			g.Took = []float64{g.LocalTime, g.CloudTime * 3}[g.Target] * (0.5 + r.Float64())
		}
		list[i] = g
	}
	return list
}

// decisions are the decisions of the service's policy in these situations.
func decisions(p policy.Policy, list []given) (out []float64) {
	data := make([]byte, 1<<21)
	for _, g := range list {
		t := &task.Task{Data: data[:g.Size], Complexity: g.Complexity, Received: g.Received, Deadline: time.Duration(g.Deadline), Critical: g.Critical != 0, Class: &task.Class{}}
		e := &score.Estimate{LocalTime: g.LocalTime, CloudTime: g.CloudTime, LocalEnergy: g.LocalEnergy, CloudEnergy: g.CloudEnergy, Cycles: g.Cycles, Bytes: g.Bytes, Money: g.Money}
		s := &host.State{Time: g.Now, CPU: g.CPU, OnBattery: g.OnBattery != 0, Battery: g.Battery, MemoryStall: g.MemoryStall, QueueCycles: g.QueueCycles}
		s.Link = host.Link{Up: true, Goodput: g.Goodput, Growth: g.Growth, BacklogBytes: g.BacklogBytes, InflightBytes: g.InflightBytes}
		d := p.Decide(t, e, s)
		out = append(out, float64(d.Target), d.Score, d.Propensity)
		if l, ok := p.(policy.Learner); ok && g.Took >= 0 {
			entry := decision.NewEntry(t, e, s, decision.Decision{Target: decision.Target(g.Target), Propensity: 1}, p.Name(), "v")
			entry.Outcome = decision.Outcome{Known: true, Time: g.Took}
			l.Observe(&entry)
		}
	}
	return out
}

// formulas are configurations that cover every line of the exported code.
var formulas = []struct {
	name, policy string
	edit         func(*policy.Config)
}{
	{"weighted", "weighted", nil},
	{"weighted to the letter", "weighted", func(c *policy.Config) { c.WeightedPreset = "article" }},
	{"weighted otherwise", "weighted", func(c *policy.Config) {
		c.WeightedPreset, c.SizeDirection, c.CPUWeight, c.WeightedThreshold = "custom", "rises", 0.7, 0.61
	}},
	{"deadline", "deadline", nil},
	{"deadline without money", "deadline", func(c *policy.Config) { c.CostMoney, c.CostPatience = 0, 0.3 }},
	{"cost", "cost", nil},
	{"greedy", "cost", func(c *policy.Config) { c.CostShadow, c.CostMoney = false, 0 }},
	{"bandit", "bandit", nil},
	{"curious", "bandit", func(c *policy.Config) {
		c.BanditExplore, c.BanditOptimism, c.BanditForgetting, c.RandomSeed = 0.5, 0.7, 0.97, -3
	}},
}

// The exported code decides 10,000 tasks bit for bit as the service does, including learning, from an empty and from a learned state.
func TestFormulasDecideAsTheService(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, f := range formulas {
		c := policy.DefaultConfig()
		if f.edit != nil {
			f.edit(&c)
		}
		p, err := policy.New(f.policy, c)
		require.NoError(t, err)
		if f.name == "curious" {
			decisions(p, situations(r, 2000))
			saved, err := p.(policy.Learner).Save()
			require.NoError(t, err)
			p, err = policy.New(f.policy, c)
			require.NoError(t, err)
			require.NoError(t, p.(policy.Learner).Restore(saved))
		}
		formula, err := policy.FormulaOf(p)
		require.NoError(t, err)
		var c99, goFile bytes.Buffer
		size, err := FormulaC(&c99, formula, Options{Name: "net", Made: "a test"})
		require.NoError(t, err)
		_, err = FormulaGo(&goFile, formula, Options{Name: "main", Made: "a test"})
		require.NoError(t, err)
		list := situations(r, 10_000)
		in, err := binary.Append(nil, binary.LittleEndian, list)
		require.NoError(t, err)
		want := decisions(p, list)
		dir := t.TempDir()
		path, program := filepath.Join(dir, "p.c"), filepath.Join(dir, "program")
		c99.WriteString(filled(decideHarness, f.policy))
		require.NoError(t, os.WriteFile(path, c99.Bytes(), 0o600))
		for _, cc := range compilers(t) {
			if cc.name == "gcc -O3, fused" { // sums with fused additions have other bits by design
				continue
			}
			got, err := exec.Command(cc.cc[0], append(cc.cc[1:], "-o", program, path, "-lm")...).CombinedOutput()
			require.NoError(t, err, "%s, %s: %s", f.name, cc.name, got)
			same(t, f.name+", "+cc.name, want, output(t, append(cc.run, program), in))
		}
		text := strings.Replace(goFile.String(), `import "math"`, "import (\n\"bufio\"\n\"encoding/binary\"\n\"math\"\n\"os\"\n)", 1)
		path = filepath.Join(dir, "main.go")
		require.NoError(t, os.WriteFile(path, []byte(text+filled(decideGoHarness, f.policy)), 0o600))
		got, err := exec.Command("go", "build", "-o", program, path).CombinedOutput()
		require.NoError(t, err, "%s: %s", f.name, got)
		same(t, f.name+", Go", want, output(t, []string{program}, in))
		t.Logf("%s: %d bytes of flash, %d of RAM", f.name, size.Flash, size.RAM)
	}
}

// same compares decisions bit for bit, and checks that both targets occur.
func same(t *testing.T, name string, want []float64, raw []byte) {
	t.Helper()
	got, cloud := floatsOf(raw), 0
	require.Len(t, got, len(want), name)
	for i := range want {
		if math.Float64bits(want[i]) != math.Float64bits(got[i]) {
			t.Fatalf("%s: task %d: the service has target, score and propensity %v, the export %v", name, i/3, want[i/3*3:i/3*3+3], got[i/3*3:i/3*3+3])
		}
		if i%3 == 0 && want[i] == 1 {
			cloud++
		}
	}
	require.Greater(t, cloud, len(want)/3/20, name)
	require.Less(t, cloud, len(want)/3*19/20, name)
}

// Every policy in the configuration is exported, or rejected with a reason.
func TestEveryPolicyIsExportedOrSaysWhyNot(t *testing.T) {
	c := policy.DefaultConfig()
	c.PPOWeights = "../../../../res/policies/ppo.json"
	exported := map[string]bool{}
	for _, p := range policy.All(c) {
		f, err := policy.FormulaOf(p)
		if err == nil {
			require.NotEmpty(t, decideParts[p.Name()])
			exported[f.Policy] = true
			continue
		}
		require.ErrorContains(t, err, map[string]string{
			"defer": "durable queue", "ppo": "export that file", "edge": "always local", "cloud": "always cloud", "random": "for 0.5 of the tasks",
		}[p.Name()], p.Name())
	}
	require.Equal(t, map[string]bool{"weighted": true, "deadline": true, "cost": true, "bandit": true}, exported)
}
