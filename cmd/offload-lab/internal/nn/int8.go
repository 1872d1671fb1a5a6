package nn

import (
	"fmt"
	"math"

	"app-offload/functions/engine"
	"app-offload/functions/engine/tflite"
)

// grid is how real values become int8: scale·(q − zero).
type grid struct {
	scale float32
	zero  int32
}

// gridOf covers a range with 255 steps, so that 0 is exact.
func gridOf(low, top float64) grid {
	low, top = min(low, 0), max(top, 0)
	scale := max((top-low)/255, 1e-9)
	zero := math.Round(-128 - low/scale)
	return grid{float32(scale), int32(min(max(zero, -128), 127))}
}

// Int8 writes the network as .tflite with int8 weights and activations: post-training quantisation as TensorFlow Lite's converter does it,
// symmetric weights by output channel (fully connected layers by layer, as older interpreters want it), activations in the range that the
// calibration samples have. input is the scale of the model's input, whose zero point is 0.
func (n *Net) Int8(samples [][]float32, input float32) ([]byte, error) {
	w := &tflite.Writer{}
	ranges := n.ranges(samples)
	from := grid{scale: input}
	at := w.Tensor(n.spec("input", []int{1, n.H, n.W, n.C}, from))
	if n.nodes[0].dense() {
		at = 0
	}
	first, flat := at, n.nodes[0].dense()
	for i := range n.nodes {
		d := &n.nodes[i]
		name := fmt.Sprintf("layer%d", i)
		if d.dense() && !flat {
			flat = true
			shape := w.Int32s("flat", []int32{1, int32(d.k)}, nil, 2)
			to := w.Tensor(n.spec("flattened", []int{1, d.k}, from))
			w.Operator("RESHAPE", tflite.Options{Shape: []int{1, d.k}}, []int{at, shape}, to)
			at = to
		}
		if d.pools() {
			to := w.Tensor(n.spec(name, []int{1, d.OutH, d.OutW, d.C}, from))
			w.Operator("MAX_POOL_2D", tflite.Options{Padding: tflite.Valid, Stride: [2]int{d.KH, d.KW}, Filter: [2]int{d.KH, d.KW}}, []int{at}, to)
			at = to
			continue
		}
		to := gridOf(ranges[i][0], ranges[i][1])
		at = n.quantised(w, d, name, at, from, to)
		from = to
	}
	w.Ends([]int{first}, []int{at})
	return w.Bytes()
}

// spec describes an int8 tensor. The input of a dense network is flat.
func (n *Net) spec(name string, shape []int, g grid) engine.Spec {
	if name == "input" && n.nodes[0].dense() {
		shape = []int{1, n.H * n.W * n.C}
	}
	return engine.Spec{Name: name, Type: engine.Int8, Shape: shape, Scale: g.scale, Zero: g.zero}
}

// quantised writes one layer with weights and returns the index of its output.
func (n *Net) quantised(w *tflite.Writer, d *node, name string, at int, from, to grid) int {
	options, kind, shape, out := tflite.Options{}, "FULLY_CONNECTED", []int{d.n, d.k}, []int{1, d.n}
	channels := 1
	if !d.dense() {
		options.Stride, kind, shape, out = [2]int{d.StrideH, d.StrideW}, "CONV_2D", []int{d.n, d.KH, d.KW, d.C}, []int{1, d.OutH, d.OutW, d.n}
		channels = d.n
	}
	if d.layer.Relu {
		options.Activation = tflite.Relu
	}
	scales := make([]float32, channels)
	for j := range scales {
		part := len(d.w) / channels
		scales[j] = max(largest(d.w[j*part:(j+1)*part])/127, 1e-9)
	}
	weights, bias, biasScales := make([]int8, len(d.w)), make([]int32, d.n), make([]float32, channels)
	for j := range d.n {
		s := scales[j%channels]
		for i := range d.k {
			weights[j*d.k+i] = int8(math.Round(float64(d.w[j*d.k+i] / s)))
		}
		bias[j] = int32(math.Round(float64(d.b[j]) / (float64(from.scale) * float64(s))))
		biasScales[j%channels] = from.scale * s
	}
	y := w.Tensor(n.spec(name, out, to))
	w.Operator(kind, options, []int{at, w.Int8s(name+".w", weights, scales, 0, shape...), w.Int32s(name+".b", bias, biasScales, d.n)}, y)
	return y
}

func largest(list []float32) (most float32) {
	for _, v := range list {
		most = max(most, max(v, -v))
	}
	return most
}

// ranges are the smallest and the largest output of each layer over all samples.
func (n *Net) ranges(samples [][]float32) [][2]float64 {
	p := n.newPass()
	list := make([][2]float64, len(n.nodes))
	for _, x := range samples {
		n.forward(p, x)
		for i := range n.nodes {
			for _, v := range p.values[i+1] {
				list[i][0], list[i][1] = min(list[i][0], float64(v)), max(list[i][1], float64(v))
			}
		}
	}
	return list
}
