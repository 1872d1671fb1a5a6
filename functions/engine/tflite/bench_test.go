package tflite

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// mobileNet is MobileNetV1 at a quarter of its width on 96×96 grey pixels, the network of person_detect, with random weights: 7 million
// multiply-accumulates.
func mobileNet(r *rand.Rand) *Writer {
	w := &Writer{}
	tensor := func(name string, shape ...int) int {
		return w.Tensor(engine.Spec{Name: name, Type: engine.Int8, Shape: shape, Scale: 0.05, Zero: -128})
	}
	weights := func(name string, n, axis int, shape ...int) int {
		size := 1
		for _, d := range shape {
			size *= d
		}
		return w.Int8s(name, draws8(r, size), filled(n, 0.01), axis, shape...)
	}
	h, c := 48, 8
	at, last := tensor("x", 1, 96, 96, 1), tensor("l0", 1, h, h, c)
	first := at
	w.Operator("DEPTHWISE_CONV_2D", Options{Stride: [2]int{2, 2}, Activation: Relu6}, []int{at, weights("w0", c, 3, 1, 3, 3, c), w.Int32s("b0", draws32(r, c, 900), filled(c, 0.0005), c)}, last)
	at = last
	for i, l := range [][2]int{{1, 16}, {2, 32}, {1, 32}, {2, 64}, {1, 64}, {2, 128}, {1, 128}, {1, 128}, {1, 128}, {1, 128}, {1, 128}, {2, 256}, {1, 256}} {
		h = (h + l[0] - 1) / l[0]
		d, p := tensor(fmt.Sprint("d", i), 1, h, h, c), tensor(fmt.Sprint("p", i), 1, h, h, l[1])
		w.Operator("DEPTHWISE_CONV_2D", Options{Stride: [2]int{l[0], l[0]}, Activation: Relu6}, []int{at, weights(fmt.Sprint("wd", i), c, 3, 1, 3, 3, c), w.Int32s(fmt.Sprint("bd", i), draws32(r, c, 900), filled(c, 0.0005), c)}, d)
		w.Operator("CONV_2D", Options{Activation: Relu6}, []int{d, weights(fmt.Sprint("wp", i), l[1], 0, l[1], 1, 1, c), w.Int32s(fmt.Sprint("bp", i), draws32(r, l[1], 900), filled(l[1], 0.0005), l[1])}, p)
		at, c = p, l[1]
	}
	y := tensor("y", 1, 1, 1, c)
	w.Operator("AVERAGE_POOL_2D", Options{Padding: Valid, Stride: [2]int{2, 2}, Filter: [2]int{h, h}}, []int{at}, y)
	w.Ends([]int{first}, []int{y})
	return w
}

// mobileNetV2 is MobileNetV2 at 0.35 of its width on 96×96 pixels of three channels, with random weights: blocks that widen, convolve each channel
// and narrow again, with a sum around blocks that keep their size.
func mobileNetV2(r *rand.Rand) *Writer {
	w := &Writer{}
	tensor := func(name string, scale float32, zero int32, shape ...int) int {
		return w.Tensor(engine.Spec{Name: name, Type: engine.Int8, Shape: shape, Scale: scale, Zero: zero})
	}
	bias := func(n int) int { return w.Int32s("b", draws32(r, n, 900), filled(n, 0.0005), n) }
	conv := func(at, size, in, out, k, stride int, a Activation, scale float32, zero int32) int {
		y := tensor("c", scale, zero, 1, size, size, out)
		w.Operator("CONV_2D", Options{Stride: [2]int{stride, stride}, Activation: a}, []int{at, w.Int8s("w", draws8(r, out*k*k*in), filled(out, 0.004), 0, out, k, k, in), bias(out)}, y)
		return y
	}
	h, c := 48, 16
	first := tensor("x", 0.0078, -1, 1, 96, 96, 3)
	at := conv(first, h, 3, c, 3, 2, Relu6, 0.0235, -128)
	for i, b := range [][4]int{{1, 8, 1, 1}, {6, 8, 2, 2}, {6, 16, 3, 2}, {6, 24, 4, 2}, {6, 32, 3, 1}, {6, 56, 3, 2}, {6, 112, 1, 1}} {
		for n := range b[2] {
			stride, in := 1, at
			if n == 0 {
				stride = b[3]
			}
			wide, before := c*b[0], h
			if b[0] > 1 {
				at = conv(at, before, c, wide, 1, 1, Relu6, 0.0235, -128)
			}
			h = (before + stride - 1) / stride
			d := tensor("d", 0.0235, -128, 1, h, h, wide)
			w.Operator("DEPTHWISE_CONV_2D", Options{Stride: [2]int{stride, stride}, Activation: Relu6}, []int{at, w.Int8s("w", draws8(r, 9*wide), filled(wide, 0.01), 3, 1, 3, 3, wide), bias(wide)}, d)
			at = conv(d, h, wide, b[1], 1, 1, NoActivation, 0.08, int32(i-3))
			if c == b[1] && stride == 1 {
				sum := tensor("s", 0.11, int32(n), 1, h, h, c)
				w.Operator("ADD", Options{}, []int{in, at}, sum)
				at = sum
			}
			c = b[1]
		}
	}
	at = conv(at, h, c, 1280, 1, 1, Relu6, 0.0235, -128)
	y, axes := tensor("y", 0.0235, -128, 1, 1280), w.Int32s("axes", []int32{1, 2}, nil, 2)
	w.Operator("MEAN", Options{}, []int{at, axes}, y)
	w.Ends([]int{first}, []int{y})
	return w
}

func BenchmarkMobileNet(b *testing.B) { benchmark(b, mobileNet) }

func BenchmarkMobileNetV2(b *testing.B) { benchmark(b, mobileNetV2) }

func benchmark(b *testing.B, model func(*rand.Rand) *Writer) {
	file, err := model(rand.New(rand.NewPCG(1, 1))).Bytes()
	require.NoError(b, err)
	p, err := Load(file, Limits{})
	require.NoError(b, err)
	s, err := p.NewSession()
	require.NoError(b, err)
	feed(s.Inputs(), 1)
	b.ReportAllocs()
	b.ReportMetric(float64(p.Info().MACs), "MACs")
	for b.Loop() {
		if err := s.Run(); err != nil {
			b.Fatal(err)
		}
	}
}
