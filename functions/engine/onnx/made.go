package onnx

import (
	"math"

	"app-offload/functions/engine"
)

var creations = map[string]func(*call){
	"ConstantOfShape": constantOfShape, "DepthToSpace": depthToSpace, "SpaceToDepth": spaceToDepth, "Range": ranged, "EyeLike": eyeLike,
	"Trilu": trilu,
}

func constantOfShape(c *call) {
	shape := c.numbers(0)
	a := c.node.attributes["value"]
	if a == nil || a.tensor == nil {
		clear(c.output(0, engine.Float32, shape).F32)
		return
	}
	if a.tensor.Elements() != 1 {
		c.fail("a value of %d elements", a.tensor.Elements())
	}
	y := c.output(0, a.tensor.Type, shape)
	strides := c.ints(len(shape))
	c.move(y, 0, c.strides(shape), a.tensor, 0, strides, shape)
}

// blocks transposes six axes, as in DepthToSpace and SpaceToDepth.
func (c *call) blocks(x *value, six, perm []int, out ...int) {
	shape, strides, from := c.ints(6), c.ints(6), c.strides(six)
	for i, p := range perm {
		shape[i], strides[i] = six[p], from[p]
	}
	c.move(c.output(0, x.Type, out), 0, c.strides(shape), x, 0, strides, shape)
}

func depthToSpace(c *call) {
	x, b := c.rank(c.input(0), 4, 4), c.int("blocksize", 0)
	n, d, h, w := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	if b < 1 || b > math.MaxInt16 || d%(b*b) != 0 {
		c.fail("blocks of %d and %d channels", b, d)
	}
	six, perm := []int{n, b, b, d / (b * b), h, w}, []int{0, 3, 4, 1, 5, 2}
	if c.string("mode", "DCR") == "CRD" {
		six, perm = []int{n, d / (b * b), b, b, h, w}, []int{0, 1, 4, 2, 5, 3}
	}
	c.blocks(x, six, perm, n, d/(b*b), h*b, w*b)
}

func spaceToDepth(c *call) {
	x, b := c.rank(c.input(0), 4, 4), c.int("blocksize", 0)
	n, d, h, w := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	if b < 1 || b > math.MaxInt16 || h%b != 0 || w%b != 0 {
		c.fail("blocks of %d and an image of %d×%d", b, h, w)
	}
	c.blocks(x, []int{n, d, h / b, b, w / b, b}, []int{0, 3, 5, 1, 2, 4}, n, d*b*b, h/b, w/b)
}

func ranged(c *call) {
	first, limit, delta := c.input(0), c.input(1), c.input(2)
	if first.Elements() != 1 || limit.Elements() != 1 || delta.Elements() != 1 {
		c.fail("expected three numbers")
	}
	from, step := at(&first.Tensor, 0), at(&delta.Tensor, 0)
	n := math.Max(math.Ceil((at(&limit.Tensor, 0)-from)/step), 0)
	if !(n <= math.MaxInt32) {
		c.fail("%g elements", n)
	}
	shape := c.shape(int(n))
	y := c.output(0, first.Type, shape)
	for i := range shape[0] {
		put(&y.Tensor, i, from+float64(i)*step)
	}
}

func eyeLike(c *call) {
	x := c.rank(c.input(0), 2, 2)
	t := x.Type
	if a := c.node.attributes["dtype"]; a != nil {
		var err error
		if t, err = elementType(a.i); err != nil {
			c.fail("attribute dtype: %w", err)
		}
	}
	y := c.output(0, t, x.Shape)
	kinds[y.Type].clear(&y.Tensor)
	for i := range x.Shape[0] {
		if k := i + c.int("k", 0); k >= 0 && k < x.Shape[1] {
			put(&y.Tensor, i*x.Shape[1]+k, 1)
		}
	}
}

func trilu(c *call) {
	x := c.rank(c.input(0), 2, maxRank)
	y := c.output(0, x.Type, x.Shape)
	kinds[y.Type].clear(&y.Tensor)
	k := 0
	if v := c.optional(1); v != nil {
		k = c.indices(v)[0]
	}
	h, w := fromEnd(x.Shape, 2), fromEnd(x.Shape, 1)
	upper := c.int("upper", 1) != 0
	for i := range x.Elements() {
		row, column := i/w%h, i%w
		if upper && column-row >= k || !upper && column-row <= k {
			element(y, i, x, i)
		}
	}
}
