package tflite

import (
	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

// windows are the operators that process each channel separately.
var windows = map[int]builder{
	1:  {"AVERAGE_POOL_2D", func(c *compiler) { c.pool(PlanAveragePool, kernel.AveragePoolInt8, kernel.AveragePoolF32) }},
	4:  {"DEPTHWISE_CONV_2D", (*compiler).depthwise},
	17: {"MAX_POOL_2D", func(c *compiler) { c.pool(PlanMaxPool, maxPoolInt8, kernel.MaxPool[float32]) }},
}

func (c *compiler) depthwise() {
	in, f, out, w := c.filtered(5)
	n := f.Shape[3]
	if f.Shape[0] != 1 || w.C == 0 || n == 0 || n%w.C != 0 || out.Shape[3] != n {
		c.fail("a filter of %v on %d channels gives no %v", f.Shape, w.C, out.Shape)
	}
	taps := w.KH * w.KW
	c.s.macs += c.work(in.Shape[0], w.OutH, w.OutW, n, taps)
	activation := c.op.options.int8(4)
	if w.C == 1 { // one input channel: an ordinary convolution with transposed weights
		c.turned(in, f, out, w, n, taps, activation)
		return
	}
	multiplier := n / w.C
	image := c.repeated(in, w, multiplier)
	w.C = n
	if in.Type == engine.Float32 {
		c.depthwiseFloat(in, f, out, w, image, activation)
		return
	}
	bias := c.folded(c.biasOf(2, n, engine.Int32), f, in.Zero, n, taps, func(j, i int) int { return i*n + j })
	q := c.requant(in, f, out, n, activation)
	if multiplier == 1 && in.Shape[0] == 1 {
		c.noteLayer(in, out, PlanDepthwise, w, 1, n, taps, f.I8, bias, &q)
	}
	sums := c.scratch(n)
	size, outSize := w.H*w.W*n, w.OutH*w.OutW*n
	c.step(func() {
		image.fill()
		for b := range in.Shape[0] {
			kernel.DepthwiseInt8(&w, out.I8[b*outSize:], image.i8[b*size:(b+1)*size], f.I8, bias, sums, in.Zero, &q)
		}
	})
}

func (c *compiler) depthwiseFloat(in, f, out *value, w kernel.Window, image repeated, activation int) {
	weights := c.floats(f, len(f.Shape)-1)
	low, top := c.bounds(activation)
	bias := make([]float32, w.C)
	if b := c.biasOf(2, w.C, engine.Float32); b != nil {
		bias = b.F32
	}
	size, outSize := w.H*w.W*w.C, w.OutH*w.OutW*w.C
	c.step(func() {
		image.fill()
		for b := range in.Shape[0] {
			kernel.DepthwiseF32(&w, out.F32[b*outSize:], image.f32[b*size:(b+1)*size], weights, bias, low, top)
		}
	})
}

// repeated is an image in which each channel is repeated for each of its kernels.
type repeated struct {
	in  *value
	by  int
	i8  []int8
	f32 []float32
}

func (c *compiler) repeated(in *value, w kernel.Window, by int) repeated {
	r := repeated{in: in, by: by, i8: in.I8, f32: in.F32}
	if by == 1 {
		return r
	}
	c.charge(in.Elements(), by, in.Type.Size())
	r.i8, r.f32 = make([]int8, len(in.I8)*by), make([]float32, len(in.F32)*by)
	return r
}

func (r *repeated) fill() {
	if r.by == 1 {
		return
	}
	for i, v := range r.in.I8 {
		for k := range r.by {
			r.i8[i*r.by+k] = v
		}
	}
	for i, v := range r.in.F32 {
		for k := range r.by {
			r.f32[i*r.by+k] = v
		}
	}
}

// turned convolves one channel with n kernels, whose weights are stored tap by tap in the file.
func (c *compiler) turned(in, f, out *value, w kernel.Window, n, taps, activation int) {
	rows := c.turn(f, w, n, taps)
	if in.Type == engine.Float32 {
		c.convFloat(in, rows, out, w, in.Shape[0], n, taps, activation)
		return
	}
	c.convInt8(in, rows, out, w, in.Shape[0], n, taps, c.biasOf(2, n, engine.Int32), activation)
}

func (c *compiler) turn(f *value, w kernel.Window, n, taps int) *value {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if rows := c.p.turned[f.def]; rows != nil {
		return rows
	}
	c.prepare(len(f.I8) + 4*len(f.F32))
	rows := &value{def: &tensor{scales: f.def.scales, fixed: true}}
	rows.Spec = f.Spec
	rows.Shape = []int{n, w.KH, w.KW, 1}
	rows.I8, rows.F32 = make([]int8, len(f.I8)), make([]float32, len(f.F32))
	for i := range taps {
		for j := range n {
			if f.Type == engine.Int8 {
				rows.I8[j*taps+i] = f.I8[i*n+j]
			} else {
				rows.F32[j*taps+i] = f.F32[i*n+j]
			}
		}
	}
	c.p.turned[f.def] = rows
	return rows
}

func maxPoolInt8(w *kernel.Window, to, from []int8, low, top int32) {
	kernel.MaxPool(w, to, from, int8(low), int8(top)) //nolint:gosec // within int8
}

// pool computes one value of each window.
func (c *compiler) pool(kind Kind, int8s func(w *kernel.Window, to, from []int8, low, top int32),
	floats func(w *kernel.Window, to, from []float32, low, top float32),
) {
	in := c.in(0, engine.Float32, engine.Int8)
	out, o := c.out(0, in.Type), c.op.options
	w := c.window(in, out, o.int32(4, 0), o.int32(3, 0), o.int8(0) == 0, o.int32(1, 0), o.int32(2, 0), 1, 1)
	if out.Shape[3] != w.C {
		c.fail("a pool of %v gives no %v", in.Shape, out.Shape)
	}
	c.work(in.Shape[0], w.OutH, w.OutW, w.C, w.KH, w.KW)
	size, outSize := w.H*w.W*w.C, w.OutH*w.OutW*w.C
	low, top := c.bounds(o.int8(5))
	ql, qt := c.quantBounds(o.int8(5), out)
	if in.Type == engine.Int8 && in.Shape[0] == 1 {
		c.note(in, out, Step{Kind: kind, Window: w, Low: ql, Top: qt})
	}
	c.step(func() {
		for b := range in.Shape[0] {
			if in.Type == engine.Int8 {
				int8s(&w, out.I8[b*outSize:], in.I8[b*size:], ql, qt)
			} else {
				floats(&w, out.F32[b*outSize:], in.F32[b*size:], low, top)
			}
		}
	})
}
