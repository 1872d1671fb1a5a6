package tflite

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

func draws8(r *rand.Rand, n int) []int8 {
	list := make([]int8, n)
	for i := range list {
		list[i] = int8(r.IntN(255) - 127)
	}
	return list
}

func draws32(r *rand.Rand, n, within int) []int32 {
	list := make([]int32, n)
	for i := range list {
		list[i] = int32(r.IntN(2*within) - within)
	}
	return list
}

func filled(n int, v float32) []float32 {
	list := make([]float32, n)
	for i := range list {
		list[i] = v * (1 + float32(i%5)/10)
	}
	return list
}

// int8Image returns a small network for pictures, with scales by channel.
func int8Image(r *rand.Rand) *Writer {
	w := &Writer{}
	q := func(name string, scale float32, zero int32, shape ...int) int {
		return w.Tensor(engine.Spec{Name: name, Type: engine.Int8, Shape: shape, Scale: scale, Zero: zero})
	}
	x, a, b := q("picture", 0.05, -3, 1, 12, 12, 3), q("a", 0.6, -128, 1, 6, 6, 8), q("b", 4, -128, 1, 6, 6, 8)
	p, f, d, y := q("p", 4, -128, 1, 3, 3, 8), q("f", 4, -128, 1, 72), q("d", 0.3, 5, 1, 4), q("y", 1./256, -128, 1, 4)
	w.Operator("CONV_2D", Options{Stride: [2]int{2, 2}, Activation: Relu},
		[]int{x, w.Int8s("wa", draws8(r, 8*27), filled(8, 0.01), 0, 8, 3, 3, 3), w.Int32s("ba", draws32(r, 8, 900), filled(8, 0.0005), 8)}, a)
	w.Operator("DEPTHWISE_CONV_2D", Options{Activation: Relu},
		[]int{a, w.Int8s("wb", draws8(r, 72), filled(8, 0.02), 3, 1, 3, 3, 8), w.Int32s("bb", draws32(r, 8, 900), filled(8, 0.012), 8)}, b)
	w.Operator("AVERAGE_POOL_2D", Options{Padding: Valid, Stride: [2]int{2, 2}, Filter: [2]int{2, 2}}, []int{b}, p)
	w.Operator("RESHAPE", Options{Shape: []int{1, 72}}, []int{p, w.Int32s("shape", []int32{1, 72}, nil, 2)}, f)
	w.Operator("FULLY_CONNECTED", Options{}, []int{f, w.Int8s("wd", draws8(r, 4*72), []float32{0.00005}, 0, 4, 72), w.Int32s("bd", draws32(r, 4, 9000), []float32{0.0002}, 4)}, d)
	w.Operator("SOFTMAX", Options{}, []int{d}, y)
	w.Ends([]int{x}, []int{y})
	return w
}

// floatSignal returns an autoencoder with a sum of two branches.
func floatSignal(r *rand.Rand) *Writer {
	w := &Writer{}
	floats := func(n int) []float32 {
		list := make([]float32, n)
		for i := range list {
			list[i] = float32(r.NormFloat64()) / 4
		}
		return list
	}
	t := func(name string, shape ...int) int {
		return w.Tensor(engine.Spec{Name: name, Type: engine.Float32, Shape: shape})
	}
	x, a, b, s, y := t("x", 1, 16), t("a", 1, 6), t("b", 1, 16), t("s", 1, 16), t("y", 1, 16)
	w.Operator("FULLY_CONNECTED", Options{Activation: Relu}, []int{x, w.Floats("w1", floats(96), 6, 16), w.Floats("b1", floats(6), 6)}, a)
	w.Operator("FULLY_CONNECTED", Options{}, []int{a, w.Floats("w2", floats(96), 16, 6), -1}, b)
	w.Operator("ADD", Options{}, []int{x, b}, s)
	w.Operator("TANH", Options{}, []int{s}, y)
	w.Ends([]int{x}, []int{y})
	return w
}

// A written model is read again with the same tensors, and runs. OFFLOAD_WRITTEN names a folder for the files, to check them with other programs.
func TestWrittenModelsAreRead(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, make := range map[string]func(*rand.Rand) *Writer{"image": int8Image, "signal": floatSignal, "mobilenet": mobileNet, "mobilenetv2": mobileNetV2} {
		file, err := make(rand.New(rand.NewPCG(seed, 2))).Bytes()
		require.NoError(t, err, name)
		p, err := Load(file, Limits{})
		require.NoError(t, err, name)
		s, err := p.NewSession()
		require.NoError(t, err, name)
		feed(s.Inputs(), 1)
		require.NoError(t, s.Run())
		again, err := make(rand.New(rand.NewPCG(seed, 2))).Bytes()
		require.NoError(t, err)
		require.Equal(t, file, again, "the same model is the same file")
		if dir := os.Getenv("OFFLOAD_WRITTEN"); dir != "" {
			require.NoError(t, os.WriteFile(dir+"/"+name+".tflite", file, 0o600))
		}
	}
	p, err := func() (*Program, error) {
		file, err := int8Image(rand.New(rand.NewPCG(1, 2))).Bytes()
		require.NoError(t, err)
		return Load(file, Limits{})
	}()
	require.NoError(t, err)
	info := p.Info()
	require.Equal(t, []string{"CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"}, info.Operators)
	require.Equal(t, engine.Spec{Name: "picture", Type: engine.Int8, Shape: []int{1, 12, 12, 3}, Scale: 0.05, Zero: -3}, info.Inputs[0])
}

// TensorFlow Lite reads the number of filters for each channel from the options of a depthwise convolution; this reader derives it from the shapes.
func TestTheDepthMultiplierIsWritten(t *testing.T) {
	file, err := mobileNet(rand.New(rand.NewPCG(1, 1))).Bytes()
	require.NoError(t, err)
	p, err := Load(file, Limits{})
	require.NoError(t, err)
	operators := p.graph.subgraphs[0].operators
	require.Equal(t, 8, operators[0].options.int32(3, 0), "8 filters on one channel")
	require.Equal(t, 1, operators[1].options.int32(3, 0), "one filter a channel")
}

// An invalid model is not written.
func TestAWriterRefusesWhatCannotRun(t *testing.T) {
	w := &Writer{}
	_, err := w.Bytes()
	require.ErrorContains(t, err, "no inputs")
	w = &Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, 4}})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{1, 5}})
	w.Operator("RELU", Options{}, []int{x}, y)
	w.Ends([]int{x}, []int{y})
	_, err = w.Bytes()
	require.ErrorContains(t, err, "operator 0 (RELU)")
	w = &Writer{}
	w.Floats("w", []float32{1}, 2)
	w.Ends([]int{0}, []int{0})
	_, err = w.Bytes()
	require.ErrorContains(t, err, `constant "w" has 1 elements for the shape [2]`)
	w = &Writer{}
	w.Operator("FROB", Options{}, []int{0}, 0)
	w.Ends([]int{0}, []int{0})
	_, err = w.Bytes()
	require.ErrorContains(t, err, `operator 0: "FROB" is not supported`)
}
