//go:build onnxruntime

package onnxruntime

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
	"app-offload/functions/engine/onnx"
)

const allowed = 256 << 20

// config finds the library. Without it these tests fail: the build tag requests them.
func config(t testing.TB) Config {
	c := DefaultConfig()
	if c.Library = os.Getenv("OFFLOAD_ONNXRUNTIME"); c.Library == "" {
		t.Fatal("OFFLOAD_ONNXRUNTIME must name the library; .ci/onnxruntime/fetch prints it")
	}
	return c
}

// shipped returns the ONNX models in the repository.
func shipped(t testing.TB) []string {
	list, err := filepath.Glob("../../../res/models/*/model.onnx")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(list), 2)
	return list
}

func loaded(t testing.TB, c Config, path string) (engine.Program, engine.Session) {
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	p, err := Load(file, c, allowed)
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.(*session).Close())
		require.NoError(t, p.(*program).Close())
	})
	return p, s
}

// The shipped models give the same results and descriptions as with the Go engine.
func TestONNXRuntimeAgreesWithGo(t *testing.T) {
	c := config(t)
	for _, path := range shipped(t) {
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		inGo, err := onnx.Load(file, onnx.Limits{})
		require.NoError(t, err)
		want, err := inGo.NewSession()
		require.NoError(t, err)
		p, s := loaded(t, c, path)
		require.Equal(t, "onnxruntime", p.Info().Format)
		require.Equal(t, inGo.Info().MACs, p.Info().MACs)
		require.Equal(t, inGo.Info().Parameters, p.Info().Parameters)
		require.Equal(t, inGo.Info().Inputs, p.Info().Inputs)
		require.Equal(t, inGo.Info().Outputs, p.Info().Outputs)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 50 {
			for i := range want.Inputs()[0].F32 {
				want.Inputs()[0].F32[i] = float32(rng.NormFloat64())
			}
			copy(s.Inputs()[0].F32, want.Inputs()[0].F32)
			require.NoError(t, want.Run())
			require.NoError(t, s.Run())
			require.InDeltaSlice(t, want.Outputs()[0].F32, s.Outputs()[0].F32, 2e-4, path)
		}
	}
}

// ONNX's own cases that both engines load give the same results for the same inputs.
func TestONNXRuntimeAgreesWithGoOnOfficialModels(t *testing.T) {
	c := config(t)
	all, err := filepath.Glob("/usr/lib/python3/dist-packages/onnx/backend/test/data/*/*/model.onnx")
	require.NoError(t, err)
	require.NotEmpty(t, all, "install libonnx-testdata")
	same := 0
	for _, path := range all {
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		inGo, err := onnx.Load(file, onnx.Limits{})
		if err != nil {
			continue
		}
		p, err := Load(file, c, allowed)
		if err != nil {
			continue // it cannot run on zeros, as with a shape as input, or is newer than the library
		}
		s, err := p.NewSession()
		if err == nil {
			if differ, ran := compare(t, inGo, s); ran && differ != nil {
				t.Errorf("%s: %v", path, differ)
			} else if ran {
				same++
			}
			require.NoError(t, s.(*session).Close())
		}
		require.NoError(t, p.(*program).Close())
	}
	fmt.Printf("onnxruntime: %d of %d official models give the same in both engines\n", same, len(all))
	require.Greater(t, same, 300)
}

// compare runs both engines on the same random inputs. ran is false if either rejects them.
func compare(t *testing.T, inGo *onnx.Program, s engine.Session) (differ error, ran bool) {
	want, err := inGo.NewSession()
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 4))
	for i, in := range want.Inputs() {
		draw(rng, in)
		if in.Type != s.Inputs()[i].Type || len(in.F32) != len(s.Inputs()[i].F32) {
			return nil, false
		}
		assign(s.Inputs()[i], in)
	}
	if want.Run() != nil || s.Run() != nil {
		return nil, false
	}
	for i, w := range want.Outputs() {
		if g := s.Outputs()[i]; fmt.Sprint(w.Shape) != fmt.Sprint(g.Shape) || w.Type != g.Type {
			return fmt.Errorf("output %d: Go has %s, the library %s", i, &w.Spec, &g.Spec), true
		}
		for k := range w.F32 {
			a, b := float64(w.F32[k]), float64(s.Outputs()[i].F32[k])
			if !(a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-5+1e-3*math.Abs(a)) {
				return fmt.Errorf("output %d, element %d: Go gives %v, the library %v", i, k, a, b), true
			}
		}
		if fmt.Sprint(w.I8, w.U8, w.I32, w.I64) != fmt.Sprint(s.Outputs()[i].I8, s.Outputs()[i].U8, s.Outputs()[i].I32, s.Outputs()[i].I64) {
			return fmt.Errorf("output %d: Go and the library differ", i), true
		}
	}
	return nil, true
}

func draw(rng *rand.Rand, t *engine.Tensor) {
	for i := range t.F32 {
		t.F32[i] = float32(rng.NormFloat64())
	}
	for i := range t.I8 {
		t.I8[i] = int8(rng.IntN(256) - 128)
	}
	for i := range t.I32 {
		t.I32[i] = 1 // lengths, exponents and bases
	}
}

func assign(to, from *engine.Tensor) {
	copy(to.F32, from.F32)
	copy(to.I8, from.I8)
	copy(to.I32, from.I32)
}

// A bad file causes an error that names the problem and its place, from the Go reader if possible, before the library reads it.
func TestONNXRuntimeRefusesBadFiles(t *testing.T) {
	c := config(t)
	good, err := os.ReadFile(shipped(t)[0])
	require.NoError(t, err)
	unknown := &onnx.Writer{}
	unknown.Input("x", 1, 2)
	unknown.Output(unknown.Node("Relu", []string{"x"}, "y"), 1, 2)
	relu, err := unknown.Bytes()
	require.NoError(t, err)
	for name, one := range map[string]struct {
		file   []byte
		memory int64
		want   string
	}{
		"empty":                     {nil, allowed, "has no graph"},
		"foreign":                   {[]byte("TFL3 is another format"), allowed, "byte"},
		"truncated":                 {good[:len(good)/2], allowed, "byte"},
		"too large":                 {good, int64(len(good)) / 2, "layer5.w"},
		"operator that nothing has": {[]byte(strings.Replace(string(relu), "Relu", "Rilu", 1)), allowed, "Rilu"},
	} {
		_, err := Load(one.file, c, one.memory)
		require.ErrorContains(t, err, one.want, name)
	}
	for range 200 { // none of them ends the process
		rng := rand.New(rand.NewPCG(5, 6))
		bad := append([]byte(nil), relu...)
		bad[rng.IntN(len(bad))] ^= byte(1 + rng.IntN(255))
		if p, err := Load(bad, c, allowed); err == nil {
			require.NoError(t, p.(*program).Close())
		}
	}
	c.Library = "/nowhere/libonnxruntime.so"
	_, err = Load(good, c, allowed)
	require.ErrorContains(t, err, "needs a restart", "the library of this process is another one")
}

// An operator that Go lacks runs. Its memory is unknown, so the whole limit is counted.
func TestONNXRuntimeHasOperatorsThatGoLacks(t *testing.T) {
	c := config(t)
	w := &onnx.Writer{}
	w.Input("x", 1, 4)
	w.Output(w.Node("ThresholdedRelu", []string{"x"}, "y"), 1, 4)
	file, err := w.Bytes()
	require.NoError(t, err)
	file = []byte(strings.Replace(string(file), "ThresholdedRelu", "LpNormalization", 1)) // the vector divided by its length
	_, err = onnx.Load(file, onnx.Limits{})
	require.ErrorContains(t, err, "not supported: LpNormalization", "if Go has it now, take another operator")
	p, err := Load(file, c, 1<<20)
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, p.Info().Bytes)
	s, err := p.NewSession()
	require.NoError(t, err)
	copy(s.Inputs()[0].F32, []float32{3, 0, -4, 0})
	require.NoError(t, s.Run())
	require.InDeltaSlice(t, []float32{0.6, 0, -0.8, 0}, s.Outputs()[0].F32, 1e-6)
	require.NoError(t, s.(*session).Close())
	require.NoError(t, p.(*program).Close())
}

// Close releases the library's memory and its threads, of which a program has as many as configured, minus the caller's.
func TestONNXRuntimeIsBoundedAndFreed(t *testing.T) {
	c := config(t)
	path := shipped(t)[0]
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	turn := func(c Config) {
		p, err := Load(file, c, allowed)
		require.NoError(t, err)
		s, err := p.NewSession()
		require.NoError(t, err)
		require.NoError(t, s.Run())
		require.NoError(t, s.(*session).Close())
		require.NoError(t, p.(*program).Close())
	}
	for range 20 {
		turn(c)
	}
	runtime.GC()
	before := resident(t)
	for range 300 {
		turn(c)
	}
	runtime.GC()
	require.Less(t, resident(t)-before, int64(16<<20), "300 programs of %d bytes came and went", len(file))

	c.Threads = 4
	start := threads(t)
	p, err := Load(file, c, allowed)
	require.NoError(t, err)
	require.LessOrEqual(t, threads(t)-start, 3+2, "the runtime of Go may have started some of its own")
	require.GreaterOrEqual(t, threads(t)-start, 3)
	require.NoError(t, p.(*program).Close())
	require.LessOrEqual(t, threads(t)-start, 2)
}

func resident(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	require.NoError(t, err)
	return pages * int64(os.Getpagesize())
}

func threads(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(list)
}

// Sessions of one program run concurrently.
func TestONNXRuntimeRunsSessionsTogether(t *testing.T) {
	p, first := loaded(t, config(t), shipped(t)[0])
	for i := range first.Inputs()[0].F32 {
		first.Inputs()[0].F32[i] = float32(i%7) / 7
	}
	require.NoError(t, first.Run())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			s, err := p.NewSession()
			require.NoError(t, err)
			copy(s.Inputs()[0].F32, first.Inputs()[0].F32)
			for range 50 {
				require.NoError(t, s.Run())
				require.Equal(t, first.Outputs()[0].F32, s.Outputs()[0].F32)
			}
			require.NoError(t, s.(*session).Close())
		})
	}
	all.Wait()
}

func BenchmarkONNXRuntime(b *testing.B) {
	c := config(b)
	for _, path := range shipped(b) {
		for _, n := range []int{0, 1, 2} {
			name := fmt.Sprintf("%s/threads=%d", filepath.Base(filepath.Dir(path)), n)
			if n == 0 {
				name = filepath.Base(filepath.Dir(path)) + "/go"
			}
			b.Run(name, func(b *testing.B) {
				file, err := os.ReadFile(path)
				require.NoError(b, err)
				var s engine.Session
				if c.Threads = n; n == 0 {
					p, err := onnx.Load(file, onnx.Limits{})
					require.NoError(b, err)
					s, err = p.NewSession()
					require.NoError(b, err)
				} else {
					_, s = loaded(b, c, path)
				}
				b.ReportAllocs()
				for b.Loop() {
					require.NoError(b, s.Run())
				}
			})
		}
	}
}
