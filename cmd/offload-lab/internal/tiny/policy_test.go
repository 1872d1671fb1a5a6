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

	"github.com/stretchr/testify/require"

	"app-offload/functions/policy"
)

const policyHarness = `
#include <stdio.h>
int main(void)
{
	double in[net_inputs], out[net_outputs];
	int i;

	while (fread(in, 1, sizeof in, stdin) == sizeof in) {
		double best;

		for (i = 0; i < net_outputs; i++)
			out[i] = 0;
		best = net_decide(in, out, 0.1);
		fwrite(&best, 1, sizeof best, stdout);
		fwrite(out, 1, sizeof out, stdout);
	}
	return 0;
}
`

const policyGoHarness = `
func main() {
	var in [Inputs]float64
	r, w := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for binary.Read(r, binary.LittleEndian, &in) == nil {
		var out [Outputs]float64
		best := float64(Decide(&in, &out, 0.1))
		binary.Write(w, binary.LittleEndian, best)
		binary.Write(w, binary.LittleEndian, &out)
	}
	w.Flush()
}
`

func floatsOf(b []byte) []float64 {
	list := make([]float64, len(b)/8)
	for i := range list {
		list[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return list
}

// The exported policy decides as the service's network on 10,000 inputs: the Go file bit for bit, the C file up to the last bits of exp.
func TestPoliciesDecideAsTheService(t *testing.T) {
	f, err := os.Open("../../../../res/policies/ppo.json")
	require.NoError(t, err)
	defer f.Close()
	n, err := policy.ReadNetwork(f)
	require.NoError(t, err)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var in, want []byte
	known := 0
	for range 10_000 {
		x, out := make([]float64, len(n.Inputs)), make([]float64, n.Outputs())
		for i, s := range n.Inputs {
			x[i] = s.Low + (s.High-s.Low)*(r.Float64()*1.004-0.002)
		}
		if r.IntN(20) == 0 {
			x[r.IntN(len(x))] = math.NaN()
		}
		best := -1.0
		if n.Known(x, 0.1) {
			known++
			n.Forward(x, out)
			best = 0
			for i, v := range out {
				if v > out[int(best)] {
					best = float64(i)
				}
			}
		}
		in, err = binary.Append(in, binary.LittleEndian, x)
		require.NoError(t, err)
		want, err = binary.Append(want, binary.LittleEndian, append([]float64{best}, out...))
		require.NoError(t, err)
	}
	require.Greater(t, known, 8000)
	dir := t.TempDir()
	var c, g bytes.Buffer
	_, err = PolicyC(&c, n, Options{Name: "net", Made: "a test"})
	require.NoError(t, err)
	c.WriteString(policyHarness)
	path, program := filepath.Join(dir, "p.c"), filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(path, c.Bytes(), 0o600))
	for _, cc := range compilers(t) {
		if cc.name == "gcc -O3, fused" { // sums with fused additions have other bits by design
			continue
		}
		got, err := exec.Command(cc.cc[0], append(cc.cc[1:], "-o", program, path, "-lm")...).CombinedOutput()
		require.NoError(t, err, "%s: %s", cc.name, got)
		got = output(t, append(cc.run, program), in)
		require.Equal(t, len(want), len(got))
		wanted, values := floatsOf(want), floatsOf(got)
		for i, v := range values {
			if i%(1+n.Outputs()) == 0 {
				require.Equal(t, wanted[i], v, "decision %d with %s", i/(1+n.Outputs()), cc.name)
			} else {
				require.InDelta(t, wanted[i], v, 1e-9, "%s", cc.name)
			}
		}
	}
	_, err = PolicyGo(&g, n, Options{Name: "main", Made: "a test"})
	require.NoError(t, err)
	text := strings.Replace(g.String(), `import "math"`, "import (\n\"bufio\"\n\"encoding/binary\"\n\"math\"\n\"os\"\n)", 1)
	path = filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(path, []byte(text+policyGoHarness), 0o600))
	got, err := exec.Command("go", "build", "-o", program, path).CombinedOutput()
	require.NoError(t, err, string(got))
	require.True(t, bytes.Equal(want, output(t, []string{program}, in)))
}

func output(t *testing.T, command []string, in []byte) []byte {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	got, err := cmd.Output()
	require.NoError(t, err)
	return got
}
