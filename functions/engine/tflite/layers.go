package tflite

import (
	"math"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

var layers = map[int]builder{
	3: {"CONV_2D", (*compiler).conv},
	9: {"FULLY_CONNECTED", (*compiler).fullyConnected},
}

// maxInputs is the maximum number of inputs of one sum in int32.
const maxInputs = 1 << 16

// bounds returns the bounds of a fused activation in float32.
func (c *compiler) bounds(activation int) (low, top float32) {
	switch activation {
	case 0:
		return -math.MaxFloat32, math.MaxFloat32
	case 1:
		return 0, math.MaxFloat32
	case 2:
		return -1, 1
	case 3:
		return 0, 6
	}
	c.fail("fused activation %d is not supported", activation)
	return 0, 0
}

// quantBounds returns the bounds in quantised values of the output.
func (c *compiler) quantBounds(activation int, out *value) (low, top int32) {
	low, top = math.MinInt8, math.MaxInt8
	fl, ft := c.bounds(activation)
	at := func(v float32) int32 { return out.Zero + kernel.Held(math.Round(float64(v/out.Scale))) }
	if fl != -math.MaxFloat32 {
		low = max(low, at(fl))
	}
	if ft != math.MaxFloat32 {
		top = min(top, at(ft))
	}
	return low, top
}

// requant returns the conversion of sums over input·weights to the output, channel by channel.
func (c *compiler) requant(in, weights, out *value, channels, activation int) kernel.Requant {
	r := kernel.Requant{Zero: out.Zero}
	r.Low, r.Top = c.quantBounds(activation, out)
	scales := weights.def.scales
	if len(scales) == 0 {
		scales = []float32{1}
	}
	if len(scales) != 1 && len(scales) != channels {
		c.fail("weights %.64q have %d scales for %d outputs", weights.Name, len(scales), channels)
	}
	for _, s := range scales {
		r.Scales = append(r.Scales, in.Scale*s/out.Scale)
	}
	return r
}

// folded returns the bias with −zero·Σw added, so that inputs can be used unchanged.
func (c *compiler) folded(bias, weights *value, zero int32, n, k int, at func(output, input int) int) []int32 {
	sums := make([]int32, n)
	if bias != nil {
		if len(bias.I32) != n {
			c.fail("the bias has %d values for %d outputs", len(bias.I32), n)
		}
		copy(sums, bias.I32)
	}
	for j := range sums {
		var s int32
		for i := range k {
			s += int32(weights.I8[at(j, i)])
		}
		sums[j] -= zero * s
	}
	return sums
}

// packWeights returns packed weights, shared by all sessions.
func (c *compiler) packWeights(w *value, n, k int) *kernel.Packed {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	key := packing{w.def, n, k}
	if c.p.packed[key] == nil {
		c.prepare(kernel.PackedBytes(n, k))
		c.p.packed[key] = kernel.Pack(w.I8, n, k)
	}
	return c.p.packed[key]
}

// floats returns the weights of a float layer, expanded if the file has int8 weights.
func (c *compiler) floats(w *value, axis int) []float32 {
	if w.Type == engine.Float32 || len(w.I8) == 0 {
		return w.F32
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	key := packing{w.def, axis, 0}
	if wide := c.p.wide[key]; wide != nil {
		return wide
	}
	c.prepare(4 * len(w.I8))
	wide := make([]float32, len(w.I8))
	inner := engine.Product(w.Shape[axis+1:])
	scales := w.def.scales
	for i, q := range w.I8 {
		s := w.Scale
		if len(scales) > 1 {
			s = scales[i/inner%len(scales)]
		}
		wide[i] = s * float32(int32(q)-w.Zero)
	}
	c.p.wide[key] = wide
	return wide
}

// biasOf returns the i-th input as a bias of n values of the type, nil if it is absent.
func (c *compiler) biasOf(i, n int, t engine.Type) *value {
	b := c.optional(i)
	if b == nil {
		return nil
	}
	if b.Type != t || b.Elements() != n || !b.def.fixed {
		c.fail("the bias %s must be a constant of %d values of %s", &b.Spec, n, t)
	}
	return b
}

func (c *compiler) fullyConnected() {
	in := c.in(0, engine.Float32, engine.Int8)
	w := c.constant(1, engine.Float32, engine.Int8)
	out := c.out(0, in.Type)
	c.rank(w, 2)
	activation := c.op.options.int8(0)
	if c.op.options.int8(1) != 0 {
		c.fail("shuffled weights are not supported")
	}
	n, k := w.Shape[0], w.Shape[1]
	if n == 0 || k == 0 || k > maxInputs || in.Elements()%k != 0 || out.Elements() != in.Elements()/k*n {
		c.fail("weights %v do not fit input %v and output %v", w.Shape, in.Shape, out.Shape)
	}
	m := in.Elements() / k
	c.s.macs += c.work(m, n, k)
	if in.Type == engine.Float32 {
		c.denseFloat(in, w, out, m, n, k, activation)
		return
	}
	if w.Type != engine.Int8 || w.Zero != 0 {
		c.fail("weights of an int8 layer must be int8 with zero point 0")
	}
	bias := c.folded(c.biasOf(2, n, engine.Int32), w, in.Zero, n, k, func(j, i int) int { return j*k + i })
	q := c.requant(in, w, out, n, activation)
	c.noteLayer(in, out, PlanDense, kernel.Window{}, m, n, k, w.I8, bias, &q)
	packed := c.packWeights(w, n, k)
	sums := c.scratch(m * n)
	c.step(func() {
		packed.Gemm(sums, in.I8, m)
		requantRows(out.I8, sums, bias, &q)
	})
}

func requantRows(out []int8, sums, bias []int32, q *kernel.Requant) {
	n := len(bias)
	for len(out) >= n {
		row := sums[:n]
		for j, b := range bias {
			out[j] = q.Channel(row[j]+b, j)
		}
		out, sums = out[n:], sums[n:]
	}
}

// scratch returns memory for sums, counted for the session.
func (c *compiler) scratch(n int) []int32 {
	c.charge(n, 4)
	return make([]int32, n)
}

func (c *compiler) denseFloat(in, w, out *value, m, n, k, activation int) {
	weights := c.floats(w, 0)
	low, top := c.bounds(activation)
	var bias []float32
	if b := c.biasOf(2, n, engine.Float32); b != nil {
		bias = b.F32
	}
	c.step(func() {
		kernel.GemmF32(out.F32, in.F32, weights, m, n, k)
		finish(out.F32, bias, n, low, top)
	})
}

// finish adds the bias and applies the bounds of the activation.
func finish(out, bias []float32, n int, low, top float32) {
	for len(out) >= n {
		row := out[:n]
		for j, b := range bias {
			row[j] += b
		}
		for j, v := range row {
			row[j] = min(max(v, low), top)
		}
		out = out[n:]
	}
}

// window reads the common options of convolutions and pools.
func (c *compiler) window(in, out *value, kh, kw int, same bool, strideW, strideH, dilateW, dilateH int) (w kernel.Window) {
	c.rank(in, 4)
	c.rank(out, 4)
	const most = 1 << 15
	for _, v := range []int{kh, kw, strideH, strideW, dilateH, dilateW} {
		if v < 1 || v > most {
			c.fail("a kernel of %d×%d with strides %d×%d and dilations %d×%d", kh, kw, strideH, strideW, dilateH, dilateW)
		}
	}
	w = kernel.Window{H: in.Shape[1], W: in.Shape[2], C: in.Shape[3], KH: kh, KW: kw, StrideH: strideH, StrideW: strideW, DilateH: dilateH, DilateW: dilateW}
	w.OutH, w.PadH = kernel.Out(w.H, kh, strideH, dilateH, same)
	w.OutW, w.PadW = kernel.Out(w.W, kw, strideW, dilateW, same)
	if w.OutH < 1 || w.OutW < 1 || out.Shape[0] != in.Shape[0] || out.Shape[1] != w.OutH || out.Shape[2] != w.OutW {
		c.fail("input %v and a kernel of %d×%d give %d×%d, the output is %v", in.Shape, kh, kw, w.OutH, w.OutW, out.Shape)
	}
	return w
}

// filtered reads the input, filter and output of a layer whose options have dilations in field dilate and the next one.
func (c *compiler) filtered(dilate int) (in, f, out *value, w kernel.Window) {
	in = c.in(0, engine.Float32, engine.Int8)
	f = c.constant(1, engine.Float32, engine.Int8)
	out = c.out(0, in.Type)
	c.rank(f, 4)
	o := c.op.options
	w = c.window(in, out, f.Shape[1], f.Shape[2], o.int8(0) == 0, o.int32(1, 0), o.int32(2, 0), o.int32(dilate, 1), o.int32(dilate+1, 1))
	if in.Type == engine.Int8 && f.Type != engine.Int8 {
		c.fail("the filter of an int8 layer must be int8")
	}
	return in, f, out, w
}

func (c *compiler) conv() {
	in, f, out, w := c.filtered(4)
	activation := c.op.options.int8(3)
	n, k := f.Shape[0], w.Columns()
	if f.Shape[3] != w.C || n == 0 || k == 0 || k > maxInputs || out.Shape[3] != n {
		c.fail("a filter of %v on %d channels gives no %v; grouped convolutions are not supported", f.Shape, w.C, out.Shape)
	}
	batches := in.Shape[0]
	c.s.macs += c.work(batches, w.OutH, w.OutW, n, k)
	if in.Type == engine.Float32 {
		c.convFloat(in, f, out, w, batches, n, k, activation)
		return
	}
	c.convInt8(in, f, out, w, batches, n, k, c.biasOf(2, n, engine.Int32), activation)
}

// convInt8 computes a matrix product, row by row of the output image. f.I8 has n rows of k weights.
func (c *compiler) convInt8(in, f, out *value, w kernel.Window, batches, n, k int, biasIn *value, activation int) {
	bias := c.folded(biasIn, f, in.Zero, n, k, func(j, i int) int { return j*k + i })
	q := c.requant(in, f, out, n, activation)
	if batches == 1 {
		c.noteLayer(in, out, PlanConv, w, 1, n, k, f.I8, bias, &q)
	}
	packed := c.packWeights(f, n, k)
	rows := w.OutW
	if w.Plain() {
		rows = w.OutW * w.OutH
	}
	sums := c.scratch(rows * n)
	var columns []int8
	if !w.Plain() {
		columns = make([]int8, rows*k)
		c.s.bytes += int64(len(columns))
	}
	size, outSize := w.H*w.W*w.C, w.OutH*w.OutW*n
	fill := int8(in.Zero) //nolint:gosec // checked when the model was read
	c.step(func() {
		for b := range batches {
			image, result := in.I8[b*size:(b+1)*size], out.I8[b*outSize:(b+1)*outSize]
			if columns == nil {
				packed.Gemm(sums, image, rows)
				requantRows(result, sums, bias, &q)
				continue
			}
			for y := range w.OutH {
				kernel.Row(&w, columns, image, y, fill)
				packed.Gemm(sums, columns, rows)
				requantRows(result[y*rows*n:(y+1)*rows*n], sums, bias, &q)
			}
		}
	})
}

func (c *compiler) convFloat(in, f, out *value, w kernel.Window, batches, n, k, activation int) {
	weights := c.floats(f, 0)
	low, top := c.bounds(activation)
	var bias []float32
	if b := c.biasOf(2, n, engine.Float32); b != nil {
		bias = b.F32
	}
	c.charge(w.OutW, k, 4)
	columns := make([]float32, w.OutW*k)
	size, outSize := w.H*w.W*w.C, w.OutH*w.OutW*n
	c.step(func() {
		for b := range batches {
			image, result := in.F32[b*size:(b+1)*size], out.F32[b*outSize:(b+1)*outSize]
			for y := range w.OutH {
				kernel.Row(&w, columns, image, y, 0)
				kernel.GemmF32(result[y*w.OutW*n:(y+1)*w.OutW*n], columns, weights, w.OutW, n, k)
			}
		}
		finish(out.F32, bias, n, low, top)
	})
}
