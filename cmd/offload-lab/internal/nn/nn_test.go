package nn

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/engine/onnx"
	"app-offload/functions/engine/onnxruntime"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

// small has a layer of each kind.
func small(seed uint64) *Net {
	return New(6, 8, 1, seed, Conv(4, 3, 3, 1, 1), Conv(3, 3, 3, 2, 2), MaxPool(1, 2), Dense(5, true), Dense(3, false))
}

func noise(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// Gradients equal finite differences of the loss.
func TestGradients(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	net := small(seed)
	x := noise(rng, 48)
	loss := func() float64 {
		p := net.newPass()
		return entropy(make([]float32, 3), net.forward(p, x), 1, 0.1)
	}
	p := net.newPass()
	entropy(p.slopes[len(p.slopes)-1], net.forward(p, x), 1, 0.1)
	net.backward(p)
	right, all := 0, 0
	for i := range net.nodes {
		for _, side := range []struct{ w, slope []float32 }{{net.nodes[i].w, p.dw[i]}, {net.nodes[i].b, p.db[i]}} {
			for k := range side.w {
				const step = 2e-3
				was := side.w[k]
				side.w[k] = was + step
				above := loss()
				side.w[k] = was - step
				below := loss()
				side.w[k] = was
				all++
				if math.Abs((above-below)/(2*step)-float64(side.slope[k])) < 2e-3+0.03*math.Abs(float64(side.slope[k])) {
					right++
				}
			}
		}
	}
	require.Greater(t, right, all*95/100, "%d of %d; those at a corner of a ReLU or pool may differ", right, all)
}

// blobs are two kinds of noise that a network can distinguish.
func blobs(seed uint64, n int) *Set {
	rng := rand.New(rand.NewPCG(seed, 2))
	set := &Set{}
	for i := range n {
		x := noise(rng, 48)
		for k := range 24 {
			x[k] += float32(i%3) * 0.8
		}
		set.Inputs, set.Labels = append(set.Inputs, x), append(set.Labels, i%3)
	}
	return set
}

// Training learns, and gives the same weights for any number of processors.
func TestTrainingIsReproducible(t *testing.T) {
	weights := func(processors int) []float32 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
		net := small(4)
		var last float64
		require.NoError(t, net.Train(context.Background(), blobs(1, 600), Recipe{Epochs: 15, Batch: 30, Rate: 0.01, Mirror: false, Seed: 1}, func(_ int, loss float64) { last = loss }))
		require.Less(t, last, 0.5)
		require.Positive(t, last)
		return append([]float32{}, net.nodes[0].w...)
	}
	require.Equal(t, weights(1), weights(2))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, small(1).Train(ctx, blobs(1, 60), Recipe{Epochs: 1, Batch: 30, Rate: 0.01}, nil), context.Canceled)
}

// Both files give the network's outputs: float up to rounding, int8 up to its steps.
func TestFilesAgreeWithTheNetwork(t *testing.T) {
	for name, net := range map[string]*Net{"picture": small(3), "short": New(6, 8, 1, 4, Conv(3, 3, 3, 2, 2), Dense(3, false)), "pool": New(6, 8, 1, 6, Conv(2, 3, 3, 1, 1), MaxPool(2, 2), Dense(3, false)), "signal": New(1, 16, 1, 5, Dense(6, true), Dense(16, false))} {
		set := blobs(9, 200)
		for i := range set.Inputs {
			set.Inputs[i] = set.Inputs[i][:net.H*net.W]
		}
		for i := range net.nodes {
			copy(net.nodes[i].b, noise(rand.New(rand.NewPCG(8, 8)), len(net.nodes[i].b)))
		}
		float, err := net.Float()
		require.NoError(t, err)
		fp, err := onnx.Load(float, onnx.Limits{})
		require.NoError(t, err)
		fs, err := fp.NewSession()
		require.NoError(t, err)
		int8s, err := net.Int8(set.Inputs, 6./127)
		require.NoError(t, err)
		again, err := net.Int8(set.Inputs, 6./127)
		require.NoError(t, err)
		require.Equal(t, int8s, again)
		qp, err := tflite.Load(int8s, tflite.Limits{})
		require.NoError(t, err)
		qs, err := qp.NewSession()
		require.NoError(t, err)
		p, most, sum := net.newPass(), 0.0, 0.0
		for _, x := range set.Inputs {
			want := net.forward(p, x)
			copy(fs.Inputs()[0].F32, x)
			require.NoError(t, fs.Run())
			require.InDeltaSlice(t, want, fs.Outputs()[0].F32, 1e-4, name)
			in, out := qs.Inputs()[0], qs.Outputs()[0]
			for i, v := range x {
				in.I8[i] = int8(min(max(math.Round(float64(v/in.Scale))+float64(in.Zero), -128), 127))
			}
			require.NoError(t, qs.Run())
			for i, w := range want {
				d := math.Abs(float64(w) - float64(out.Scale)*float64(int32(out.I8[i])-out.Zero))
				most, sum = max(most, d), sum+d/float64(len(want)*len(set.Inputs))
			}
		}
		require.Less(t, sum, 6*float64(qs.Outputs()[0].Scale), "%s: mean difference, largest %g", name, most)
	}
}

// A grid covers its range, and 0 is exact.
func TestGrids(t *testing.T) {
	for _, r := range [][2]float64{{0, 6}, {-3, 5}, {2, 9}, {-4, -1}, {0, 0}} {
		g := gridOf(r[0], r[1])
		for _, v := range []float64{r[0], r[1], 0} {
			q := math.Round(v/float64(g.scale)) + float64(g.zero)
			require.GreaterOrEqual(t, q, -129.0, "%v", r)
			require.LessOrEqual(t, q, 128.0, "%v", r)
		}
		require.GreaterOrEqual(t, g.zero, int32(-128))
		require.LessOrEqual(t, g.zero, int32(127))
	}
}

// Samples depend only on seed and number, and both variants get the same readings.
func TestSamples(t *testing.T) {
	for _, s := range []*Source{Parts, Bearings} {
		a, label := s.Draw(5, 3, true)
		b, again := s.Draw(5, 3, true)
		other, _ := s.Draw(5, 4, true)
		require.Equal(t, a, b)
		require.Equal(t, label, again)
		require.NotEqual(t, a.Value, other.Value)
	}
	set, err := Bearings.Collect(1, 40, models.Input{Kind: models.Numbers, Standardise: true}, []int{1, 1, bearingWindow, 1}, 0)
	require.NoError(t, err)
	require.NotEmpty(t, set.Inputs)
	require.Less(t, len(set.Inputs), 40)
	require.Len(t, set.Labels, len(set.Inputs))
	require.Equal(t, slices.Repeat([]int{0}, len(set.Labels)), set.Labels, "samples of other labels are left out")
	var b strings.Builder
	for n := range 12 {
		for _, low := range []bool{false, true} {
			r, label := Parts.Draw(5, n, low)
			head, err := jpeg.DecodeConfig(bytes.NewReader(r.Value))
			require.NoError(t, err)
			table := r.Value[bytes.Index(r.Value, []byte{0xff, 0xdb})+5:][:4] // the encoder's quality
			fmt.Fprintf(&b, "%s %s %s of %d×%d, quantisation %v\n", Parts.Labels[label], r.Resource, r.Type, head.Width, head.Height, table)
		}
		r, label := Bearings.Draw(5, n, true)
		var samples []float64
		require.NoError(t, json.Unmarshal(r.Value, &samples))
		square := 0.0
		for _, v := range samples {
			square += v * v / float64(len(samples))
		}
		fmt.Fprintf(&b, "%s %s %s: %d samples from %.4f, effective %.4f\n", Bearings.Labels[label], r.Resource, r.Type, len(samples), samples[0], math.Sqrt(square))
	}
	golden.Require(t, "samples.golden", b.String())
	_, err = Bearings.Collect(1, 4, models.Input{Kind: models.Numbers}, []int{1, 1, 7, 1}, -1)
	require.ErrorContains(t, err, "sample 0 of seed 1")
}

// A training of one layer is Adam with weights that decay (Loshchilov and Hutter, 2019), computed here in float64 by its formulas.
func TestTrainingIsAdam(t *testing.T) {
	const n, epochs, rate, decay, samples = 3, 20, 0.05, 0.1, 8
	rng := rand.New(rand.NewPCG(5, 6))
	set := &Set{}
	for range samples {
		set.Inputs = append(set.Inputs, noise(rng, n))
	}
	net := New(1, n, 1, 9, Dense(n, false))
	d := &net.nodes[0]
	w := make([]float64, n*n+n) // the biases last
	for i, v := range d.w {
		w[i] = float64(v)
	}
	mean, square := make([]float64, len(w)), make([]float64, len(w))
	var losses []float64
	for step := range epochs {
		gradient, loss := make([]float64, len(w)), 0.0
		for _, x := range set.Inputs {
			for j := range n {
				e := w[n*n+j] - float64(x[j])
				for i := range n {
					e += w[j*n+i] * float64(x[i])
				}
				loss += e * e / n / samples
				for i := range n {
					gradient[j*n+i] += 2 * e / n * float64(x[i]) / samples
				}
				gradient[n*n+j] += 2 * e / n / samples
			}
		}
		losses = append(losses, loss)
		now := rate * min(1, float64(step+1)/(epochs/10)) * (1 + math.Cos(math.Pi*float64(step)/epochs)) / 2
		for i, g := range gradient {
			mean[i], square[i] = 0.9*mean[i]+0.1*g, 0.999*square[i]+0.001*g*g
			if i < n*n {
				w[i] -= now * decay * w[i]
			}
			power := float64(step + 1)
			w[i] -= now * mean[i] / (1 - math.Pow(0.9, power)) / math.Sqrt(square[i]/(1-math.Pow(0.999, power)))
		}
	}
	var got []float64
	require.NoError(t, net.Train(t.Context(), set, Recipe{Epochs: epochs, Batch: samples, Rate: rate, Decay: decay, Seed: 1}, func(epoch int, loss float64) {
		got = append(got, loss)
		require.Equal(t, len(got), epoch)
	}))
	require.InDeltaSlice(t, losses, got, 1e-4)
	for i, want := range w {
		is := slices.Concat(d.w, d.b)[i]
		require.InDelta(t, want, is, 1e-3, "%d", i)
	}
}

// A recipe gives a file and a manifest that fit each other, and for a seed always the same figures.
func TestARecipeMakesAModel(t *testing.T) {
	source := &Source{[]string{"low", "high"}, func(rng *rand.Rand, _ bool) (task.Reading, int) {
		label := rng.IntN(2)
		var values [32]float64
		for i := range values {
			values[i] = 0.5*rng.NormFloat64() + float64(label*i%3)
		}
		text, _ := json.Marshal(values)
		if rng.IntN(5) == 0 { // so that no network is always right
			label = 1 - label
		}
		return task.Reading{Resource: "Acceleration", Type: task.Float64Array, Value: text}, label
	}}
	var b strings.Builder
	for _, m := range []Model{
		{Name: "int8", Variant: models.Edge, Scale: 4. / 127, Layers: []Layer{Conv(4, 1, 8, 1, 4), Dense(2, false)}},
		{Name: "float", Variant: models.Cloud, Layers: []Layer{Dense(2, false)}},
		{Name: "auto", Variant: models.Edge, Scale: 4. / 127, Auto: true, Layers: []Layer{Dense(8, true), Dense(32, false)}},
	} {
		m.Source, m.Samples, m.H, m.W = source, 2100, 1, 32 // more samples than calibrate
		m.Input, m.Recipe = models.Input{Resource: "Acceleration", Kind: models.Numbers, Window: "last"}, Recipe{Epochs: 3, Batch: 20, Rate: 0.01}
		epochs := 0
		file, manifest, err := m.Make(t.Context(), 3, "1.2.3", func(epoch int, _ float64) { epochs = epoch })
		require.NoError(t, err)
		require.Equal(t, 3, epochs)
		program, err := models.Load(models.EngineOf(file), file, 1<<20, onnxruntime.DefaultConfig())
		require.NoError(t, err)
		out := program.Info().Outputs[0]
		models.Close(program)
		fmt.Fprintf(&b, "%s %s %s: %d bytes, output %.3g (q − %d)\n  %v %s %q threshold %.3g temperature %.3g\n", manifest.Name, manifest.Version, manifest.Variant,
			len(file), out.Scale, out.Zero, manifest.Labels, manifest.Output.Kind, manifest.Output.Activation, manifest.Output.Threshold, manifest.Output.Temperature)
		require.Equal(t, m.Input, manifest.Input)

		dir := t.TempDir()
		require.NoError(t, Write(dir, file, manifest))
		cfg := models.DefaultConfig()
		cfg.Dir = dir
		look, err := models.LookAt(cfg)
		require.NoError(t, err)
		require.Empty(t, look.Problems)
		require.Empty(t, look.Reports()[0].Problem)
		require.NoError(t, look.Close())
		require.Error(t, Write(filepath.Join(dir, manifest.Folder(), manifest.File), file, manifest), "a file is no folder")
	}
	golden.Require(t, "recipes.golden", b.String())
	ended, end := context.WithCancel(t.Context())
	end()
	m := Models()[0]
	m.Samples = 100
	_, _, err := m.Make(ended, 1, "1.0.0", nil)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "training bearing")
	m.Input.Kind = models.Image
	_, _, err = m.Make(t.Context(), 3, "1.0.0", nil)
	require.ErrorContains(t, err, "sample 0 of seed 3", "vibration is no picture")
}

// Pictures are mirrored on each axis, with unchanged channels.
func TestMirror(t *testing.T) {
	net := &Net{H: 2, W: 2, C: 2}
	x := []float32{1, 2, 3, 4, 5, 6, 7, 8}
	for axes, want := range [][]float32{x, {5, 6, 7, 8, 1, 2, 3, 4}, {3, 4, 1, 2, 7, 8, 5, 6}, {7, 8, 5, 6, 3, 4, 1, 2}} {
		got := make([]float32, len(x))
		mirror(got, x, net, axes)
		require.Equal(t, want, got, axes)
	}
}

// Large logits also give valid probabilities.
func TestSoftmaxOfLargeNumbers(t *testing.T) {
	for _, shift := range []float32{-1e4, 0, 1e4} {
		require.InDeltaSlice(t, []float64{1 / (1 + math.E + math.E*math.E), math.E / (1 + math.E + math.E*math.E), math.E * math.E / (1 + math.E + math.E*math.E)}, Softmax([]float32{shift, shift + 1, shift + 2}), 1e-12)
		require.InDeltaSlice(t, []float64{math.E / (1 + math.E), 1 / (1 + math.E)}, Softmax([]float32{shift + 1, shift}), 1e-12)
	}
}

// A figure is mean, deviation and extremes of one value per seed.
func TestFigures(t *testing.T) {
	require.Equal(t, Figure{Mean: 0.5, Deviation: 0.25, Low: 0.25, High: 0.75}, figureOf([]float64{0.5, 0.25, 0.75}))
	require.Equal(t, Figure{Mean: -2, Low: -2, High: -2}, figureOf([]float64{-2}))
}

// A first layer of filters initially responds to differences, not to levels.
func TestTheFirstFiltersHaveNoMean(t *testing.T) {
	for j, d := 0, &small(7).nodes[0]; j < d.n; j++ {
		sum := 0.0
		for _, v := range d.w[j*d.k : (j+1)*d.k] {
			sum += float64(v)
		}
		require.InDelta(t, 0, sum, 1e-5)
	}
}

// The temperature calibrates the confidence, and one healthy sample of 200 exceeds the threshold.
func TestWhatAManifestLearns(t *testing.T) {
	net := New(1, 1, 1, 1, Dense(2, false))
	copy(net.nodes[0].w, []float32{1, 0})
	for _, want := range []float64{0.5, 2} {
		set := &Set{}
		for i := range 40 {
			set.Inputs, set.Labels = append(set.Inputs, []float32{float32(want * math.Log(3))}), append(set.Labels, i%4/3) // three of four are the first
		}
		require.InDelta(t, want, temperature(net, set), 0.03*want)
	}
	still, set := New(1, 2, 1, 1, Dense(2, false)), &Set{}
	copy(still.nodes[0].w, make([]float32, 4))
	for i := range 400 {
		v := float32(i)
		set.Inputs = append(set.Inputs, []float32{v, v})
	}
	require.InDelta(t, 398*398, threshold(still, set), 1e-3)
}
