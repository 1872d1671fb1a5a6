package tflite

import (
	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

// pool reads a pool's options: padding, stride and filter.
func (c *compiler) pool(in, out *value) (kernel.Window, bool) {
	o := c.op.options
	w, ok := c.window(in, out, o.int32(4, 0), o.int32(3, 0), o.int8(0) == 0, o.int32(1, 0), o.int32(2, 0), 1, 1)
	if ok && out.Shape[3] != w.C {
		c.fail("a pool of %v gives no %v", in.Shape, out.Shape)
	}
	return w, ok && c.err == nil
}

func (c *compiler) averagePool() {
	in := c.in(0, engine.Float32, engine.Int8)
	out := c.out(0, in.Type)
	w, ok := c.pool(in, out)
	if !ok {
		return
	}
	size, outSize := w.H*w.W*w.C, w.OutH*w.OutW*w.C
	low, top := c.bounds(c.op.options.int8(5))
	ql, qt := c.quantBounds(c.op.options.int8(5), out)
	if in.Type == engine.Int8 && in.Shape[0] == 1 {
		c.note(in, out, Step{Kind: PlanAveragePool, Window: w, Low: ql, Top: qt})
	}
	c.step(func() {
		for b := range in.Shape[0] {
			if in.Type == engine.Int8 {
				kernel.AveragePoolInt8(&w, out.I8[b*outSize:], in.I8[b*size:], ql, qt)
			} else {
				kernel.AveragePoolF32(&w, out.F32[b*outSize:], in.F32[b*size:], low, top)
			}
		}
	})
}

func (c *compiler) maxPool() {
	in := c.in(0, engine.Float32, engine.Int8)
	out := c.out(0, in.Type)
	w, ok := c.pool(in, out)
	if !ok {
		return
	}
	size, outSize := w.H*w.W*w.C, w.OutH*w.OutW*w.C
	low, top := c.bounds(c.op.options.int8(5))
	ql, qt := c.quantBounds(c.op.options.int8(5), out)
	if in.Type == engine.Int8 && in.Shape[0] == 1 {
		c.note(in, out, Step{Kind: PlanMaxPool, Window: w, Low: ql, Top: qt})
	}
	c.step(func() {
		for b := range in.Shape[0] {
			if in.Type == engine.Int8 {
				kernel.MaxPool(&w, out.I8[b*outSize:], in.I8[b*size:], int8(ql), int8(qt)) //nolint:gosec // within int8
			} else {
				kernel.MaxPool(&w, out.F32[b*outSize:], in.F32[b*size:], low, top)
			}
		}
	})
}
