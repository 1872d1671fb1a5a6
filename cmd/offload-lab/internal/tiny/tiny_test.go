package tiny

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
	"app-offload/functions/engine/tflite"
)

// harness runs the exported model on inputs from stdin.
const harness = `
#include <stdio.h>
int main(void)
{
	static int8_t in[net_inputs], out[net_outputs];

	while (fread(in, 1, sizeof in, stdin) == sizeof in) {
		net_run(in, out);
		fwrite(out, 1, sizeof out, stdout);
	}
	return 0;
}
`

const goHarness = `
func main() {
	var in [Inputs]int8
	var out [Outputs]int8
	var net Net
	r, w := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for binary.Read(r, binary.LittleEndian, &in) == nil {
		net.Run(&in, &out)
		binary.Write(w, binary.LittleEndian, &out)
	}
	w.Flush()
}
`

// everything has each kind of step.
func everything(t *testing.T, r *rand.Rand) []byte {
	w := &tflite.Writer{}
	q := func(name string, scale float32, zero int32, shape ...int) int {
		return w.Tensor(engine.Spec{Name: name, Type: engine.Int8, Shape: shape, Scale: scale, Zero: zero})
	}
	weights := func(name string, axis int, shape ...int) int {
		n := 1
		for _, d := range shape {
			n *= d
		}
		list, scales := make([]int8, n), make([]float32, shape[axis])
		for i := range list {
			list[i] = int8(r.IntN(255) - 127)
		}
		for i := range scales {
			scales[i] = 0.002 + 0.01*r.Float32()
		}
		scales[0] = 1e-36 // as of a channel without weights
		return w.Int8s(name, list, scales, axis, shape...)
	}
	bias := func(name string, n int) int {
		list, scales := make([]int32, n), make([]float32, n)
		for i := range list {
			list[i], scales[i] = int32(r.IntN(4000)-2000), 0.0001
		}
		return w.Int32s(name, list, scales, n)
	}
	x, a, b := q("x", 0.05, -3, 1, 11, 9, 3), q("a", 0.06, -128, 1, 6, 5, 8), q("b", 0.07, 4, 1, 6, 5, 8)
	m, v, f, d, y := q("m", 0.07, 4, 1, 3, 2, 8), q("v", 0.07, 4, 1, 1, 1, 8), q("f", 0.07, 4, 1, 8), q("d", 0.05, 9, 1, 5), q("y", 1./256, -128, 1, 5)
	w.Operator("CONV_2D", tflite.Options{Stride: [2]int{2, 2}, Activation: tflite.Relu}, []int{x, weights("wa", 0, 8, 3, 3, 3), bias("ba", 8)}, a)
	w.Operator("DEPTHWISE_CONV_2D", tflite.Options{}, []int{a, weights("wb", 3, 1, 3, 3, 8), bias("bb", 8)}, b)
	w.Operator("MAX_POOL_2D", tflite.Options{Padding: tflite.Valid, Stride: [2]int{2, 2}, Filter: [2]int{2, 2}}, []int{b}, m)
	w.Operator("AVERAGE_POOL_2D", tflite.Options{Padding: tflite.Valid, Stride: [2]int{3, 2}, Filter: [2]int{3, 2}}, []int{m}, v)
	w.Operator("RESHAPE", tflite.Options{Shape: []int{1, 8}}, []int{v, w.Int32s("shape", []int32{1, 8}, nil, 2)}, f)
	list := make([]int8, 40)
	for i := range list {
		list[i] = int8(r.IntN(255) - 127)
	}
	w.Operator("FULLY_CONNECTED", tflite.Options{}, []int{f, w.Int8s("wd", list, []float32{0.004}, 0, 5, 8), w.Int32s("bd", []int32{5, -300, 40, 900, -7}, []float32{0.00028}, 5)}, d)
	w.Operator("SOFTMAX", tflite.Options{}, []int{d}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	require.NoError(t, err)
	return file
}

// cases are models with the number of inputs to compare.
func cases(t *testing.T, r *rand.Rand) map[string][]byte {
	all := map[string][]byte{"everything": everything(t, r)}
	paths, err := filepath.Glob("../../../../res/models/*/model.tflite")
	require.NoError(t, err)
	for _, path := range paths {
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		all[filepath.Base(filepath.Dir(path))] = file
	}
	return all
}

// engineRuns returns inputs and the engine's outputs. Models with many multiply-accumulates get fewer, unless TINY_FULL is set.
func engineRuns(t *testing.T, r *rand.Rand, p *tflite.Program) (in, out []byte) {
	n := 10_000
	if p.Info().MACs > 100_000 && os.Getenv("TINY_FULL") == "" {
		n = 200
	}
	s, err := p.NewSession()
	require.NoError(t, err)
	for i := range n {
		x := s.Inputs()[0].I8
		for k := range x {
			switch x[k] = int8(r.IntN(256) - 128); i % 4 {
			case 1:
				x[k] /= 4
			case 2:
				x[k] = int8(r.IntN(2)*255 - 128)
			}
		}
		require.NoError(t, s.Run())
		in, out = append(in, raw(x)...), append(out, raw(s.Outputs()[0].I8)...)
	}
	return in, out
}

func raw(list []int8) []byte {
	b := make([]byte, len(list))
	for i, v := range list {
		b[i] = byte(v)
	}
	return b
}

// compiler builds a C file and returns how to run the result.
type compiler struct {
	name string
	cc   []string
	run  []string
}

// compilers are the installed ones; in CI, all must be installed.
func compilers(t *testing.T) (installed []compiler) {
	for _, c := range allCompilers() {
		switch missing := c.missing(); {
		case missing == "":
			installed = append(installed, c)
		case os.Getenv("CI") != "":
			t.Fatalf("%s is not installed, so nothing was compared with %s", missing, c.name)
		default:
			t.Logf("%s is not installed", missing)
		}
	}
	return installed
}

func allCompilers() []compiler {
	strict := []string{"-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"}
	with := func(cc string, more ...string) []string { return append(append([]string{cc}, strict...), more...) }
	return []compiler{
		{"gcc", with("gcc", "-O2"), nil},
		{"gcc -O3, fused", with("gcc", "-O3", "-march=native", "-ffp-contract=fast"), nil},
		{"sanitizers", with("gcc", "-O1", "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"), nil},
		{"arm", with("arm-linux-gnueabihf-gcc", "-O2", "-static"), []string{"qemu-arm"}},
	}
}

// missing is the first program that is not installed.
func (c *compiler) missing() string {
	for _, program := range append([]string{c.cc[0]}, c.run...) {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

// The exported C gives the engine's bits under every compiler, without warnings and without findings of the sanitizers.
func TestCGivesTheEnginesBits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	for name, file := range cases(t, r) {
		p, err := tflite.Load(file, tflite.Limits{})
		require.NoError(t, err, name)
		plan, err := p.Plan()
		require.NoError(t, err, name)
		var source bytes.Buffer
		size, err := C(&source, plan, Options{Name: "net", Made: "a test"})
		require.NoError(t, err, name)
		source.WriteString(harness)
		path := filepath.Join(dir, name+".c")
		require.NoError(t, os.WriteFile(path, source.Bytes(), 0o600))
		in, want := engineRuns(t, r, p)
		for i, c := range compilers(t) {
			if i > 0 && testing.Short() && name != "everything" {
				continue // the model of every step has them all, and the large ones take long to compile
			}
			program := filepath.Join(dir, "program")
			got, err := exec.Command(c.cc[0], append(c.cc[1:], "-o", program, path)...).CombinedOutput()
			require.NoError(t, err, "%s with %s: %s", name, c.name, got)
			require.Empty(t, string(got))
			compare(t, name+" with "+c.name, append(c.run, program), in, want)
		}
		t.Logf("%s: %d bytes of flash, %d of RAM, %d inputs", name, size.Flash, size.RAM, len(in)/p.Info().Inputs[0].Elements())
	}
}

func compare(t *testing.T, name string, command []string, in, want []byte) {
	cmd := exec.Command(command[0], command[1:]...)
	var complaints strings.Builder
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &complaints
	got, err := cmd.Output()
	require.NoError(t, err, "%s: %s", name, complaints.String())
	require.Equal(t, len(want), len(got), name)
	for i := range want {
		if want[i] != got[i] {
			t.Fatalf("%s: value %d is %d, the engine has %d", name, i, int8(got[i]), int8(want[i]))
		}
	}
}

// The exported Go does the same.
func TestGoGivesTheEnginesBits(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	for name, file := range cases(t, r) {
		p, err := tflite.Load(file, tflite.Limits{})
		require.NoError(t, err, name)
		plan, err := p.Plan()
		require.NoError(t, err, name)
		var source bytes.Buffer
		_, err = Go(&source, plan, Options{Name: "main", Made: "a test"})
		require.NoError(t, err, name)
		text := strings.Replace(source.String(), `import "math"`, "import (\n\"bufio\"\n\"encoding/binary\"\n\"math\"\n\"os\"\n)", 1)
		path := filepath.Join(dir, "main.go")
		require.NoError(t, os.WriteFile(path, []byte(text+goHarness), 0o600))
		program := filepath.Join(dir, "program")
		got, err := exec.Command("go", "build", "-o", program, path).CombinedOutput()
		require.NoError(t, err, "%s: %s", name, got)
		in, want := engineRuns(t, r, p)
		compare(t, name, []string{program}, in, want)
	}
}

// Unsupported input is rejected by name.
func TestRefused(t *testing.T) {
	w := &tflite.Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Int8, Shape: []int{1, 4}, Scale: 1})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Int8, Shape: []int{1, 4}, Scale: 1})
	w.Operator("TANH", tflite.Options{}, []int{x}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	require.NoError(t, err)
	p, err := tflite.Load(file, tflite.Limits{})
	require.NoError(t, err)
	_, err = p.Plan()
	require.ErrorContains(t, err, "TANH (operator 0)")
	w = &tflite.Writer{}
	x = w.Tensor(engine.Spec{Name: "x", Type: engine.Int8, Shape: []int{1, 2, 2, 1}, Scale: 1})
	y = w.Tensor(engine.Spec{Name: "y", Type: engine.Int8, Shape: []int{1, 1, 1, 1}, Scale: 1})
	w.Operator("MAX_POOL_2D", tflite.Options{Padding: tflite.Valid, Stride: [2]int{2, 2}, Filter: [2]int{2, 2}}, []int{x}, y)
	w.Ends([]int{x}, []int{y})
	file, err = w.Bytes()
	require.NoError(t, err)
	p, err = tflite.Load(file, tflite.Limits{})
	require.NoError(t, err)
	plan, err := p.Plan()
	require.NoError(t, err)
	for _, write := range []func(io.Writer, *tflite.Plan, Options) (Size, error){C, Go} {
		_, err := write(io.Discard, plan, Options{Name: "net"})
		require.ErrorContains(t, err, "no layer with weights")
	}
	for _, o := range []Options{{Name: ""}, {Name: "A"}, {Name: "1a"}, {Name: "a b"}, {Name: "a", Made: "x */ y"}} {
		require.Error(t, o.Validate(), fmt.Sprint(o))
	}
}
