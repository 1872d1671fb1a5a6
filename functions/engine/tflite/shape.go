package tflite

import (
	"math"

	"app-offload/functions/engine"
)

// shapes are the operators that rearrange elements.
var shapes = map[int]builder{
	2:  {"CONCATENATION", (*compiler).concatenation},
	22: {"RESHAPE", (*compiler).reshape},
	34: {"PAD", (*compiler).pad},
	36: {"GATHER", (*compiler).gather},
	39: {"TRANSPOSE", (*compiler).transpose},
	43: {"SQUEEZE", (*compiler).reshape},
	45: {"STRIDED_SLICE", (*compiler).stridedSlice},
	49: {"SPLIT", (*compiler).split},
	60: {"PADV2", (*compiler).pad},
	65: {"SLICE", (*compiler).slice},
	70: {"EXPAND_DIMS", (*compiler).reshape},
	77: {"SHAPE", (*compiler).shape},
	83: {"PACK", (*compiler).pack},
}

// move copies elements of any type: to[i] = from[places[i]], or one to one without places.
func (c *compiler) move(in, out *value, places []int32) {
	c.step(func() {
		moveAll(out.F32, in.F32, places)
		moveAll(out.I8, in.I8, places)
		moveAll(out.U8, in.U8, places)
		moveAll(out.I16, in.I16, places)
		moveAll(out.I32, in.I32, places)
		moveAll(out.I64, in.I64, places)
	})
}

func moveAll[T any](to, from []T, places []int32) {
	if places == nil {
		copy(to, from)
		return
	}
	for i := range to {
		to[i] = from[places[i]]
	}
}

// part copies a part of a tensor.
func part(to, from *value, toAt, fromAt, n int) {
	partOf(to.F32, from.F32, toAt, fromAt, n)
	partOf(to.I8, from.I8, toAt, fromAt, n)
	partOf(to.U8, from.U8, toAt, fromAt, n)
	partOf(to.I16, from.I16, toAt, fromAt, n)
	partOf(to.I32, from.I32, toAt, fromAt, n)
	partOf(to.I64, from.I64, toAt, fromAt, n)
}

func partOf[T any](to, from []T, toAt, fromAt, n int) {
	if len(from) > 0 {
		copy(to[toAt:toAt+n], from[fromAt:fromAt+n])
	}
}

// reshape implements RESHAPE, SQUEEZE and EXPAND_DIMS: the same elements with the output shape in the file.
func (c *compiler) reshape() {
	in, out := c.in(0), c.out(0)
	c.same(in, out)
	if in.Type == engine.Int8 {
		c.note(in, out, Step{Kind: PlanCopy})
	}
	c.move(in, out, nil)
}

func (c *compiler) concatenation() {
	out := c.out(0)
	axis := c.axisOf(c.op.options.int32(0, 0), len(out.Shape))
	if c.op.options.int8(1) != 0 {
		c.fail("a fused activation is not supported")
	}
	total := 0
	var list []*value
	for i := range c.op.inputs {
		in := c.in(i, out.Type)
		if len(in.Shape) != len(out.Shape) {
			c.fail("input %v and output %v differ in dimensions", in.Shape, out.Shape)
		}
		for d := range in.Shape {
			if d != axis && in.Shape[d] != out.Shape[d] {
				c.fail("input %v does not fit output %v", in.Shape, out.Shape)
			}
		}
		if in.Scale != out.Scale || in.Zero != out.Zero {
			c.fail("input %d is quantised differently from the output", i)
		}
		total += in.Shape[axis]
		list = append(list, in)
	}
	if total != out.Shape[axis] {
		c.fail("the inputs have %d elements along axis %d, the output %v", total, axis, out.Shape)
	}
	c.interleave(list, out, axis)
}

// interleave alternates blocks of the inputs.
func (c *compiler) interleave(list []*value, out *value, axis int) {
	outer := engine.Product(out.Shape[:axis])
	block := make([]int, len(list))
	width := 0
	for i, in := range list {
		block[i] = in.Elements() / max(outer, 1)
		width += block[i]
	}
	c.step(func() {
		for o := range outer {
			at := o * width
			for i, in := range list {
				part(out, in, at, o*block[i], block[i])
				at += block[i]
			}
		}
	})
}

func (c *compiler) pack() {
	out := c.out(0)
	axis := c.axisOf(c.op.options.int32(1, 0), len(out.Shape))
	var list []*value
	for i := range c.op.inputs {
		in := c.in(i, out.Type)
		if in.Elements()*len(c.op.inputs) != out.Elements() {
			c.fail("%d inputs of %v do not make %v", len(c.op.inputs), in.Shape, out.Shape)
		}
		list = append(list, in)
	}
	if out.Shape[axis] != len(list) {
		c.fail("%d inputs do not make %v", len(list), out.Shape)
	}
	c.interleave(list, out, axis)
}

func (c *compiler) split() {
	axes := c.ints(0)
	in := c.in(1)
	if len(axes) != 1 {
		c.fail("the axis has %d values", len(axes))
	}
	axis := c.axisOf(axes[0], len(in.Shape))
	n := len(c.op.outputs)
	if n == 0 || in.Shape[axis]%n != 0 {
		c.fail("%v cannot be split into %d parts along axis %d", in.Shape, n, axis)
	}
	outer := engine.Product(in.Shape[:axis])
	var list []*value
	for i := range c.op.outputs {
		out := c.out(i, in.Type)
		if out.Elements()*n != in.Elements() {
			c.fail("output %v is not a part of %v", out.Shape, in.Shape)
		}
		list = append(list, out)
	}
	width := in.Elements() / max(outer, 1)
	c.step(func() {
		for o := range outer {
			for i, out := range list {
				part(out, in, o*(width/n), o*width+i*(width/n), width/n)
			}
		}
	})
}

// pad implements PAD and PADV2, whose third input is the padding value.
func (c *compiler) pad() {
	in, out := c.in(0), c.out(0)
	pads := c.ints(1)
	rank := len(in.Shape)
	if in.Type != out.Type || len(pads) != 2*rank || len(out.Shape) != rank {
		c.fail("%d paddings do not fit input %v and output %v", len(pads), in.Shape, out.Shape)
	}
	strides, offset, stride := make([]int, rank), 0, 1
	for d := rank - 1; d >= 0; d-- {
		if pads[2*d] < 0 || pads[2*d+1] < 0 || in.Shape[d]+pads[2*d]+pads[2*d+1] != out.Shape[d] {
			c.fail("paddings %v do not fit input %v and output %v", pads, in.Shape, out.Shape)
		}
		strides[d] = stride
		offset += pads[2*d] * stride
		stride *= out.Shape[d]
	}
	places := c.places(in.Shape, strides, offset)
	fill := c.optional(2)
	c.step(func() {
		switch {
		case fill == nil:
			for i := range out.I8 {
				out.I8[i] = int8(out.Zero) //nolint:gosec // checked when the model was read
			}
			clear(out.F32)
			clear(out.I32)
		default:
			for i := range out.I8 {
				out.I8[i] = fill.I8[0]
			}
			for i := range out.F32 {
				out.F32[i] = fill.F32[0]
			}
			for i := range out.I32 {
				out.I32[i] = fill.I32[0]
			}
		}
		scatter(out.F32, in.F32, places)
		scatter(out.I8, in.I8, places)
		scatter(out.I32, in.I32, places)
	})
}

func scatter[T any](to, from []T, places []int32) {
	for i, v := range from {
		to[places[i]] = v
	}
}

func (c *compiler) transpose() {
	in, out := c.in(0), c.out(0)
	order := c.ints(1)
	rank := len(in.Shape)
	c.same(in, out)
	if len(order) != rank || len(out.Shape) != rank {
		c.fail("the order %v does not fit %v", order, in.Shape)
	}
	own := stridesOf(in.Shape)
	strides, seen := make([]int, rank), make([]bool, rank)
	for d, from := range order {
		if from < 0 || from >= rank || seen[from] || out.Shape[d] != in.Shape[from] {
			c.fail("the order %v does not make %v of %v", order, out.Shape, in.Shape)
		}
		seen[from] = true
		strides[d] = own[from]
	}
	c.move(in, out, c.places(out.Shape, strides, 0))
}

func stridesOf(shape []int) []int {
	strides, stride := make([]int, len(shape)), 1
	for d := len(shape) - 1; d >= 0; d-- {
		strides[d] = stride
		stride *= shape[d]
	}
	return strides
}

func (c *compiler) slice() {
	in, out := c.in(0), c.out(0)
	begin, size := c.ints(1), c.ints(2)
	rank := len(in.Shape)
	if len(begin) != rank || len(size) != rank || len(out.Shape) != rank || in.Type != out.Type {
		c.fail("begin %v and size %v do not fit %v", begin, size, in.Shape)
	}
	own, offset := stridesOf(in.Shape), 0
	for d := range rank {
		n := size[d]
		if n == -1 {
			n = in.Shape[d] - begin[d]
		}
		if begin[d] < 0 || n < 0 || begin[d]+n > in.Shape[d] || out.Shape[d] != n {
			c.fail("begin %v and size %v do not make %v of %v", begin, size, out.Shape, in.Shape)
		}
		offset += begin[d] * own[d]
	}
	c.move(in, out, c.places(out.Shape, own, offset))
}

// stridedSlice has masks: bit d of begin and end means "from the first" and "to the last" element, of shrink "only this index".
func (c *compiler) stridedSlice() {
	in, out := c.in(0), c.out(0)
	begin, end, stride := c.ints(1), c.ints(2), c.ints(3)
	o := c.op.options
	if o.int32(2, 0) != 0 || o.int32(3, 0) != 0 || o.bool(5) {
		c.fail("ellipsis, new axes and offsets are not supported")
	}
	rank := len(in.Shape)
	if len(begin) > rank || len(end) != len(begin) || len(stride) != len(begin) || in.Type != out.Type {
		c.fail("begin %v, end %v and strides %v do not fit %v", begin, end, stride, in.Shape)
	}
	own, offset := stridesOf(in.Shape), 0
	var shape, strides []int
	for d := range rank {
		first, n, by := 0, in.Shape[d], 1
		if d < len(begin) {
			first, n, by = span(begin[d], end[d], stride[d], in.Shape[d], o.int32(0, 0)>>d&1 == 1, o.int32(1, 0)>>d&1 == 1)
			if o.int32(4, 0)>>d&1 == 1 {
				first, n = index(begin[d], in.Shape[d]), 1
				if first < 0 || first >= in.Shape[d] {
					c.fail("index %d of dimension %d of %v", begin[d], d, in.Shape)
				}
				offset += first * own[d]
				continue
			}
		}
		if by == 0 {
			c.fail("a stride of 0")
		}
		offset += first * own[d]
		shape, strides = append(shape, n), append(strides, by*own[d])
	}
	n := engine.Product(shape)
	if n != out.Elements() {
		c.fail("begin %v, end %v and strides %v of %v make %v, the output is %v", begin, end, stride, in.Shape, shape, out.Shape)
	}
	c.move(in, out, c.places(shape, strides, offset))
}

func index(at, n int) int {
	if at < 0 {
		at += n
	}
	return at
}

// span returns the beginning of a strided slice of a dimension of n and its number of elements.
func span(begin, end, stride, n int, fromStart, toEnd bool) (first, count, by int) {
	if stride == 0 {
		return 0, 0, 0
	}
	low, high := 0, n
	if stride < 0 {
		low, high = -1, n-1
	}
	first, last := min(max(index(begin, n), low), high), min(max(index(end, n), low), high)
	if fromStart {
		first = low
		if stride < 0 {
			first = high
		}
	}
	if toEnd {
		last = high
		if stride < 0 {
			last = low
		}
	}
	if stride > 0 {
		return first, max((last-first+stride-1)/stride, 0), stride
	}
	return first, max((first-last-stride-1)/-stride, 0), stride
}

func (c *compiler) shape() {
	in := c.in(0)
	out := c.out(0, engine.Int32, engine.Int64)
	if out.Elements() != len(in.Shape) {
		c.fail("the output %v cannot hold the shape %v", out.Shape, in.Shape)
	}
	c.step(func() {
		for i := range out.I32 {
			out.I32[i] = int32(in.Shape[i]) //nolint:gosec // bounded when the model was read
		}
		for i := range out.I64 {
			out.I64[i] = int64(in.Shape[i])
		}
	})
}

// gather selects rows by number; a number out of range selects the nearest row.
func (c *compiler) gather() {
	in, at := c.in(0), c.in(1, engine.Int32, engine.Int64)
	out := c.out(0, in.Type)
	axis := c.axisOf(c.op.options.int32(0, 0), len(in.Shape))
	if c.op.options.int32(1, 0) != 0 {
		c.fail("batch dimensions are not supported")
	}
	outer, inner := engine.Product(in.Shape[:axis]), engine.Product(in.Shape[axis+1:])
	n, k := at.Elements(), in.Shape[axis]
	if k == 0 || outer*n*inner != out.Elements() {
		c.fail("%d rows of %v do not make %v", n, in.Shape, out.Shape)
	}
	c.step(func() {
		for o := range outer {
			for i := range n {
				row := 0
				if at.I32 != nil {
					row = int(at.I32[i])
				} else {
					row = int(min(max(at.I64[i], math.MinInt32), math.MaxInt32)) // int may have 32 bits
				}
				row = min(max(index(row, k), 0), k-1)
				part(out, in, (o*n+i)*inner, (o*k+row)*inner, inner)
			}
		}
	})
}
