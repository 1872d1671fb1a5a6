// Package nn trains the small convolutional networks that ship with the service, and writes them: float as .onnx, quantised to int8 as .tflite.
//
// Tensors are float32 in the order rows, pixels, channels (NHWC); a signal is a picture of one row. Equal seeds and equal data give networks that are
// equal bit for bit on one kind of processor, for any number of cores: a batch is always cut into the same parts, whose gradients are added in the
// same order.
package nn

import (
	"fmt"
	"math"
	"math/rand/v2"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
	"app-offload/functions/engine/onnx"
	"app-offload/functions/engine/tflite"
)

// Layer describes one layer of a network. Without KH it is fully connected. Without Out it is a maximum pool of KH × KW with that stride. With both it
// is a convolution.
type Layer struct {
	Out              int
	KH, KW           int
	StrideH, StrideW int
	Relu             bool
}

// Conv is a convolution with "same" padding and ReLU.
func Conv(out, kh, kw, strideH, strideW int) Layer { return Layer{out, kh, kw, strideH, strideW, true} }

// Dense is a fully connected layer.
func Dense(out int, relu bool) Layer { return Layer{Out: out, Relu: relu} }

// MaxPool takes the maximum of each window; windows do not overlap.
func MaxPool(kh, kw int) Layer { return Layer{KH: kh, KW: kw, StrideH: kh, StrideW: kw} }

func (l *Layer) pools() bool { return l.Out == 0 }
func (l *Layer) full() bool  { return l.KH == 0 }

// node is a layer with its place in the network and its weights, by output: w[out·k + i].
type node struct {
	layer Layer
	kernel.Window
	n, k int
	w, b []float32
}

func (d *node) pools() bool { return d.layer.pools() }
func (d *node) dense() bool { return d.layer.full() }

// rows is the number of output pixels.
func (d *node) rows() int {
	if d.dense() {
		return 1
	}
	return d.OutH * d.OutW
}

func (d *node) outputs() int {
	if d.pools() {
		return d.rows() * d.C
	}
	return d.rows() * d.n
}

func (d *node) inputs() int { return d.H * d.W * d.C }

// Net is a network with its weights. It is safe for concurrent use except during training.
type Net struct {
	H, W, C int // of the input
	nodes   []node
}

// New creates a network with random weights (He et al., Delving Deep into Rectifiers, 2015).
func New(h, w, c int, seed uint64, layers ...Layer) *Net {
	net := &Net{H: h, W: w, C: c}
	rng := rand.New(rand.NewPCG(seed, 0x6e6574))
	for _, l := range layers {
		d := node{layer: l, n: l.Out}
		d.H, d.W, d.C = h, w, c
		if l.full() {
			d.k, h, w, c = d.inputs(), 1, 1, l.Out
		} else {
			d.KH, d.KW, d.StrideH, d.StrideW, d.DilateH, d.DilateW = l.KH, l.KW, l.StrideH, l.StrideW, 1, 1
			d.OutH, d.PadH = kernel.Out(h, l.KH, l.StrideH, 1, !l.pools())
			d.OutW, d.PadW = kernel.Out(w, l.KW, l.StrideW, 1, !l.pools())
			d.k, h, w = d.Columns(), d.OutH, d.OutW
			if !l.pools() {
				c = l.Out
			}
		}
		d.w, d.b = make([]float32, d.n*d.k), make([]float32, d.n)
		for i := range d.w {
			d.w[i] = float32(rng.NormFloat64() * math.Sqrt(2/float64(d.k)))
		}
		if len(net.nodes) == 0 && !l.full() {
			d.balance()
		}
		net.nodes = append(net.nodes, d)
	}
	return net
}

// balance subtracts the mean of each filter, so that a first layer initially responds to differences and not to levels.
func (d *node) balance() {
	for j := range d.n {
		w, mean := d.w[j*d.k:(j+1)*d.k], float32(0)
		for _, v := range w {
			mean += v / float32(len(w))
		}
		for i := range w {
			w[i] -= mean
		}
	}
}

// Outputs is the number of outputs of Forward.
func (n *Net) Outputs() int { return n.nodes[len(n.nodes)-1].outputs() }

// pass is the memory of one forward and backward pass. It must be used by one goroutine.
type pass struct {
	values  [][]float32 // outputs of each layer, the input first
	columns [][]float32 // inputs of each output pixel
	chosen  [][]int32   // for a pool, the position of each maximum
	slopes  [][]float32 // gradients of the loss by the values
	column  []float32   // gradients of columns
	dw, db  [][]float32 // gradients of the loss by weights and biases, summed over the samples of a part
	loss    float64
}

func (n *Net) newPass() *pass {
	p := &pass{values: [][]float32{nil}, slopes: [][]float32{make([]float32, n.H*n.W*n.C)}}
	most := 0
	for i := range n.nodes {
		d := &n.nodes[i]
		p.values = append(p.values, make([]float32, d.outputs()))
		p.slopes = append(p.slopes, make([]float32, d.outputs()))
		p.dw, p.db = append(p.dw, make([]float32, len(d.w))), append(p.db, make([]float32, len(d.b)))
		size, chosen := d.rows()*d.k, 0
		if d.pools() {
			size, chosen = 0, d.outputs()
		}
		p.columns, p.chosen = append(p.columns, make([]float32, size)), append(p.chosen, make([]int32, chosen))
		most = max(most, size)
	}
	p.column = make([]float32, most)
	return p
}

// forward computes the outputs of one sample.
func (n *Net) forward(p *pass, x []float32) []float32 {
	p.values[0] = x
	for i := range n.nodes {
		d, in, out := &n.nodes[i], p.values[i], p.values[i+1]
		if d.pools() {
			d.pool(out, in, p.chosen[i])
			continue
		}
		columns := in
		if !d.dense() {
			columns = p.columns[i]
			for y := range d.OutH {
				kernel.Row(&d.Window, columns[y*d.OutW*d.k:], in, y, 0)
			}
		}
		kernel.GemmF32(out, columns, d.w, d.rows(), d.n, d.k)
		for r := range d.rows() {
			row := out[r*d.n : (r+1)*d.n]
			for j, b := range d.b {
				row[j] += b
				if d.layer.Relu && row[j] < 0 {
					row[j] = 0
				}
			}
		}
	}
	return p.values[len(n.nodes)]
}

// pool takes the maximum of each window and stores its position.
func (d *node) pool(out, in []float32, chosen []int32) {
	at := 0
	for y := range d.OutH {
		for x := range d.OutW {
			for c := range d.C {
				best := (y*d.KH*d.W+x*d.KW)*d.C + c
				for ky := range d.KH {
					for kx := range d.KW {
						if i := ((y*d.KH+ky)*d.W+x*d.KW+kx)*d.C + c; in[i] > in[best] {
							best = i
						}
					}
				}
				out[at], chosen[at] = in[best], int32(best)
				at++
			}
		}
	}
}

// backward adds the gradients of one sample to dw and db; those of the outputs are already in p.slopes.
func (n *Net) backward(p *pass) {
	for i := len(n.nodes) - 1; i >= 0; i-- {
		d, out, slope, to := &n.nodes[i], p.values[i+1], p.slopes[i+1], p.slopes[i]
		clear(to)
		if d.pools() {
			for at, from := range p.chosen[i] {
				to[from] += slope[at]
			}
			continue
		}
		if d.layer.Relu {
			for j, v := range out {
				if v <= 0 {
					slope[j] = 0
				}
			}
		}
		columns, back := p.columns[i], p.column
		if d.dense() {
			columns, back = p.values[i], to
		}
		if i == 0 {
			back = nil // the input has no gradient
		}
		d.spread(columns, slope, back, p.dw[i], p.db[i])
		if back != nil {
			d.gather(to, back) // nothing for a fully connected layer, which has no pixels
		}
	}
}

// spread is the backward pass of a matrix product.
func (d *node) spread(columns, slope, back, dw, db []float32) {
	for r := range d.rows() {
		column := columns[r*d.k : (r+1)*d.k]
		var b []float32
		if back != nil {
			b = back[r*d.k : (r+1)*d.k]
			clear(b)
		}
		for j, s := range slope[r*d.n : (r+1)*d.n] {
			if s == 0 {
				continue
			}
			db[j] += s
			kernel.AddScaledF32(dw[j*d.k:(j+1)*d.k], column, s)
			if b != nil {
				kernel.AddScaledF32(b, d.w[j*d.k:(j+1)*d.k], s)
			}
		}
	}
}

// gather adds the gradients of columns to those of the image.
func (d *node) gather(to, back []float32) {
	at := 0
	for y := range d.OutH {
		for x := range d.OutW {
			for ky := range d.KH {
				iy := y*d.StrideH - d.PadH + ky
				for kx := range d.KW {
					ix := x*d.StrideW - d.PadW + kx
					if iy >= 0 && iy < d.H && ix >= 0 && ix < d.W {
						row := to[(iy*d.W+ix)*d.C:][:d.C]
						for c, s := range back[at : at+d.C] {
							row[c] += s
						}
					}
					at += d.C
				}
			}
		}
	}
}

// Float writes the network as .onnx in float32. Its input is 1×C×H×W, the order of pictures in ONNX.
func (n *Net) Float() ([]byte, error) {
	w := &onnx.Writer{}
	x := w.Input("input", 1, n.C, n.H, n.W)
	flat := false
	for i := range n.nodes {
		d := &n.nodes[i]
		name := fmt.Sprintf("layer%d", i)
		if d.dense() && !flat {
			flat = true
			x = w.Node("Flatten", []string{x}, name+".flat", onnx.Attribute{Name: "axis", Int: 1})
		}
		switch {
		case d.pools():
			x = w.Node("MaxPool", []string{x}, name, onnx.Attribute{Name: "kernel_shape", Ints: []int64{int64(d.KH), int64(d.KW)}}, onnx.Attribute{Name: "strides", Ints: []int64{int64(d.KH), int64(d.KW)}})
			continue
		case d.dense():
			weights := d.w
			if i > 0 && !n.nodes[i-1].dense() {
				weights = d.planes(d.n, d.inputs()/d.C, d.C)
			}
			x = w.Node("Gemm", []string{x, w.Floats(name+".w", weights, d.n, d.k), w.Floats(name+".b", d.b, d.n)}, name, onnx.Attribute{Name: "transB", Int: 1})
		default:
			after := func(pad, out, stride, k, in int) int64 { return int64(max((out-1)*stride+k-in-pad, 0)) }
			x = w.Node("Conv", []string{x, w.Floats(name+".w", d.planes(d.n, d.KH*d.KW, d.C), d.n, d.C, d.KH, d.KW), w.Floats(name+".b", d.b, d.n)}, name,
				onnx.Attribute{Name: "kernel_shape", Ints: []int64{int64(d.KH), int64(d.KW)}}, onnx.Attribute{Name: "strides", Ints: []int64{int64(d.StrideH), int64(d.StrideW)}},
				onnx.Attribute{Name: "pads", Ints: []int64{int64(d.PadH), int64(d.PadW), after(d.PadH, d.OutH, d.StrideH, d.KH, d.H), after(d.PadW, d.OutW, d.StrideW, d.KW, d.W)}})
		}
		if d.layer.Relu {
			x = w.Node("Relu", []string{x}, name+".relu")
		}
	}
	w.Output(x, 1, n.Outputs())
	return w.Bytes()
}

// planes reorders each output's weights from pixels-first to channels-first.
func (d *node) planes(outputs, pixels, channels int) []float32 {
	to := make([]float32, 0, len(d.w))
	for j := range outputs {
		for c := range channels {
			for p := range pixels {
				to = append(to, d.w[(j*pixels+p)*channels+c])
			}
		}
	}
	return to
}

// grid maps real values to int8: scale·(q − zero).
type grid struct {
	scale float32
	zero  int32
}

// gridOf covers a range with 255 steps, with an exact 0.
func gridOf(low, top float64) grid {
	low, top = min(low, 0), max(top, 0)
	scale := max((top-low)/255, 1e-9)
	zero := math.Round(-128 - low/scale)
	return grid{float32(scale), int32(min(max(zero, -128), 127))}
}

// Int8 writes the network as .tflite with int8 weights and activations: post-training quantisation as in TensorFlow Lite's converter, with symmetric
// weights per output channel (fully connected layers per layer, as older interpreters require), and activations in the range of the calibration
// samples. input is the scale of the model's input, whose zero point is 0.
func (n *Net) Int8(samples [][]float32, input float32) ([]byte, error) {
	w := &tflite.Writer{}
	ranges := n.ranges(samples)
	from := grid{scale: input}
	at := w.Tensor(n.spec("input", []int{1, n.H, n.W, n.C}, from))
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

// ranges are the minimum and maximum output of each layer over all samples.
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
