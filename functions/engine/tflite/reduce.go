package tflite

import (
	"math"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

// reductions are the operators that fold axes or resize images.
var reductions = map[int]builder{
	23: {"RESIZE_BILINEAR", (*compiler).resizeBilinear},
	40: {"MEAN", func(c *compiler) { c.total(true) }},
	56: {"ARG_MAX", (*compiler).argMax},
	74: {"SUM", func(c *compiler) { c.total(false) }},
	82: {"REDUCE_MAX", (*compiler).reduceMax},
	97: {"RESIZE_NEAREST_NEIGHBOR", (*compiler).resizeNearest},
}

// reduction returns, for each input element, its output element, and the number of inputs of each output.
func (c *compiler) reduction(types ...engine.Type) (in, out *value, places []int32, count int) {
	in = c.in(0, types...)
	axes := c.ints(1)
	out = c.out(0, in.Type)
	rank := len(in.Shape)
	gone := make([]bool, rank)
	count = 1
	for _, a := range axes {
		d := c.axisOf(a, rank)
		if !gone[d] {
			gone[d] = true
			count *= in.Shape[d]
		}
	}
	strides, stride := make([]int, rank), 1
	for d := rank - 1; d >= 0; d-- {
		if !gone[d] {
			strides[d] = stride
			stride *= in.Shape[d]
		}
	}
	if stride != out.Elements() || count == 0 {
		c.fail("%v over axes %v has %d elements, the output is %v", in.Shape, axes, stride, out.Shape)
	}
	return in, out, c.places(in.Shape, strides, 0), count
}

func (c *compiler) total(mean bool) {
	in, out, places, count := c.reduction(engine.Float32, engine.Int8)
	if in.Type == engine.Float32 {
		scale := float32(1)
		if mean {
			scale = 1 / float32(count)
		}
		c.step(func() {
			clear(out.F32)
			for i, v := range in.F32 {
				out.F32[places[i]] += v
			}
			for i := range out.F32 {
				out.F32[i] *= scale
			}
		})
		return
	}
	scale := in.Scale / out.Scale
	if mean {
		scale = in.Scale / (out.Scale * float32(count))
	}
	sums := c.scratch(out.Elements())
	offset := in.Zero * int32(count) //nolint:gosec // bounded by the size of a tensor
	c.step(func() {
		clear(sums)
		for i, q := range in.I8 {
			sums[places[i]] += int32(q)
		}
		for i, s := range sums {
			out.I8[i] = int8(min(max(kernel.Scaled(s-offset, scale)+out.Zero, math.MinInt8), math.MaxInt8)) //nolint:gosec // held within int8
		}
	})
}

func (c *compiler) reduceMax() {
	in, out, places, _ := c.reduction(engine.Float32, engine.Int8)
	if in.Scale != out.Scale || in.Zero != out.Zero {
		c.fail("input and output are quantised differently")
	}
	c.step(func() {
		for i := range out.F32 {
			out.F32[i] = float32(math.Inf(-1))
		}
		for i, v := range in.F32 {
			out.F32[places[i]] = max(out.F32[places[i]], v)
		}
		for i := range out.I8 {
			out.I8[i] = math.MinInt8
		}
		for i, v := range in.I8 {
			out.I8[places[i]] = max(out.I8[places[i]], v)
		}
	})
}

// argMax computes the position of the greatest value along an axis, the first one among equals.
func (c *compiler) argMax() {
	in := c.in(0, engine.Float32, engine.Int8)
	axes := c.ints(1)
	out := c.out(0, engine.Int32, engine.Int64)
	if len(axes) != 1 {
		c.fail("the axis has %d values", len(axes))
	}
	axis := c.axisOf(axes[0], len(in.Shape))
	n, inner := in.Shape[axis], engine.Product(in.Shape[axis+1:])
	if n == 0 || out.Elements()*n != in.Elements() {
		c.fail("%v without axis %d is not %v", in.Shape, axis, out.Shape)
	}
	c.step(func() {
		for i := range out.Elements() {
			at, best := i/inner*n*inner+i%inner, 0
			for k := range n {
				if in.F32 != nil && in.F32[at+k*inner] > in.F32[at+best*inner] || in.I8 != nil && in.I8[at+k*inner] > in.I8[at+best*inner] {
					best = k
				}
			}
			if out.I32 != nil {
				out.I32[i] = int32(best) //nolint:gosec // bounded by the size of a tensor
			} else {
				out.I64[i] = int64(best)
			}
		}
	})
}

// resizing reads the common options of both kinds of resizing.
func (c *compiler) resizing() (in, out *value, scaleH, scaleW float32, aligned, half bool) {
	in = c.in(0, engine.Float32, engine.Int8)
	out = c.out(0, in.Type)
	c.rank(in, 4)
	c.rank(out, 4)
	i := 0
	if c.op.code == 23 {
		i = 2 // two earlier fields are deprecated
	}
	aligned, half = c.op.options.bool(i), c.op.options.bool(i+1)
	if in.Shape[0] != out.Shape[0] || in.Shape[3] != out.Shape[3] || in.Elements() == 0 || out.Elements() == 0 {
		c.fail("%v cannot be resized to %v", in.Shape, out.Shape)
	}
	scale := func(from, to int) float32 {
		if aligned && to > 1 {
			return float32(from-1) / float32(to-1)
		}
		return float32(from) / float32(to)
	}
	return in, out, scale(in.Shape[1], out.Shape[1]), scale(in.Shape[2], out.Shape[2]), aligned, half
}

func (c *compiler) resizeNearest() {
	in, out, sh, sw, aligned, half := c.resizing()
	offset := float32(0)
	if half {
		offset = 0.5
	}
	nearest := func(i, n int, scale float32) int {
		v := (float32(i) + offset) * scale
		at := int(math.Floor(float64(v)))
		if aligned {
			at = int(math.Round(float64(v)))
		}
		return min(at, n-1)
	}
	h, w, depth := out.Shape[1], out.Shape[2], out.Shape[3]
	size, outSize := in.Shape[1]*in.Shape[2]*depth, h*w*depth
	c.step(func() {
		for b := range in.Shape[0] {
			for y := range h {
				iy := nearest(y, in.Shape[1], sh)
				for x := range w {
					ix := nearest(x, in.Shape[2], sw)
					part(out, in, b*outSize+(y*w+x)*depth, b*size+(iy*in.Shape[2]+ix)*depth, depth)
				}
			}
		}
	})
}

// between is the position of an output pixel between two input pixels, with the share of the upper one.
type between struct {
	low, high int
	float     float32
	fixed     int64 // in units of 1/1024
}

func betweens(n, in int, scale float32, half bool) []between {
	list := make([]between, n)
	for i := range list {
		v := float32(i) * scale
		if half {
			v = (float32(i)+0.5)*scale - 0.5
		}
		low := max(int(math.Floor(float64(v))), 0)
		list[i] = between{low: low, high: min(int(math.Ceil(float64(v))), in-1), float: v - float32(low)}
	}
	return list
}

// betweensFixed is betweens in steps of 1/1024, like the integer kernel.
func betweensFixed(n, in int, aligned, half bool) []between {
	const one = 1 << 10
	list, scale := make([]between, n), (one*in+n/2)/n
	if aligned && n > 1 {
		scale = (one*(in-1) + (n-1)/2) / (n - 1)
	}
	for i := range list {
		v := i * scale
		if half {
			v += scale/2 - one/2
		}
		low := max(v/one, 0)
		list[i] = between{low: low, high: min((v+one-1)/one, in-1), fixed: int64(v - one*low)}
	}
	return list
}

func (c *compiler) resizeBilinear() {
	in, out, sh, sw, aligned, half := c.resizing()
	h, w, depth := out.Shape[1], out.Shape[2], out.Shape[3]
	rows, columns := betweens(h, in.Shape[1], sh, half), betweens(w, in.Shape[2], sw, half)
	if in.Type == engine.Int8 {
		rows, columns = betweensFixed(h, in.Shape[1], aligned, half), betweensFixed(w, in.Shape[2], aligned, half)
	}
	size, width := in.Shape[1]*in.Shape[2]*depth, in.Shape[2]
	c.step(func() {
		to := 0
		for b := range in.Shape[0] {
			for _, r := range rows {
				for _, k := range columns {
					ll, lr := b*size+(r.low*width+k.low)*depth, b*size+(r.low*width+k.high)*depth
					hl, hr := b*size+(r.high*width+k.low)*depth, b*size+(r.high*width+k.high)*depth
					for d := range depth {
						if in.Type == engine.Float32 {
							f := in.F32
							out.F32[to] = f[ll+d]*(1-r.float)*(1-k.float) + f[hl+d]*r.float*(1-k.float) + f[lr+d]*(1-r.float)*k.float + f[hr+d]*r.float*k.float
						} else {
							out.I8[to] = mix(in.I8[ll+d], in.I8[hl+d], in.I8[lr+d], in.I8[hr+d], r.fixed, k.fixed)
						}
						to++
					}
				}
			}
		}
	})
}

// mix averages four pixels with weights in units of 1/1024, rounded half away from zero.
func mix(ll, hl, lr, hr int8, y, x int64) int8 {
	const one = 1 << 10
	v := int64(ll)*(one-y)*(one-x) + int64(hl)*y*(one-x) + int64(lr)*(one-y)*x + int64(hr)*y*x
	if v > 0 {
		return int8((v + 1<<19) / (1 << 20)) //nolint:gosec // a mean of int8
	}
	return int8((v - 1<<19) / (1 << 20)) //nolint:gosec // a mean of int8
}
