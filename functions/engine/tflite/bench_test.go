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

func BenchmarkMobileNet(b *testing.B) {
	file, err := mobileNet(rand.New(rand.NewPCG(1, 1))).Bytes()
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
