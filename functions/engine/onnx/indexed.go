package onnx

import (
	"cmp"
	"math"
	"slices"

	"app-offload/functions/engine"
)

var indexed = map[string]func(*call){
	"Gather": gather, "GatherElements": gatherElements, "GatherND": gatherND, "ScatterElements": scatterElements, "Scatter": scatterElements,
	"ScatterND": scatterND, "TopK": topK, "OneHot": oneHot, "NonZero": nonZero, "Compress": compress, "ReverseSequence": reverseSequence,
}

// index converts a negative index and checks that it is within the axis.
func (c *call) index(i, length int) int {
	if i < 0 {
		i += length
	}
	if i < 0 || i >= length {
		c.fail("index %d of %d", i, length)
	}
	return i
}

func gather(c *call) {
	x, indices := c.input(0), c.input(1)
	axis := c.axis(c.int("axis", 0), len(x.Shape))
	outer, length, inner := lines(x.Shape, axis)
	if len(x.Shape)+len(indices.Shape) > maxRank+1 {
		c.fail("too many dimensions")
	}
	y := c.output(0, x.Type, c.joined(x.Shape[:axis], indices.Shape, x.Shape[axis+1:]))
	list := c.indices(indices)
	for o := range outer {
		for k, i := range list {
			one(y, (o*len(list)+k)*inner, x, (o*length+c.index(i, length))*inner, inner)
		}
	}
}

// elementsAt visits the positions of indices with the offset of the element that each refers to.
func (c *call) elementsAt(x, indices *value, axis int, visit func(at, of int)) {
	if len(indices.Shape) != len(x.Shape) {
		c.fail("%s and %s differ in dimensions", &x.Spec, &indices.Spec)
	}
	strides, list, index := c.strides(x.Shape), c.indices(indices), c.ints(len(x.Shape))
	for k, i := range list {
		of := 0
		for a, p := range index {
			if a == axis {
				p = i
			}
			of += c.index(p, x.Shape[a]) * strides[a]
		}
		visit(k, of)
		advance(index, indices.Shape)
	}
}

func gatherElements(c *call) {
	x, indices := c.input(0), c.input(1)
	y := c.output(0, x.Type, indices.Shape)
	c.elementsAt(x, indices, c.axis(c.int("axis", 0), len(x.Shape)), func(at, of int) { element(y, at, x, of) })
}

func scatterElements(c *call) {
	x, indices, updates := c.input(0), c.input(1), c.input(2)
	if updates.Type != x.Type || updates.Elements() != indices.Elements() {
		c.fail("%s does not fit %s and %s", &updates.Spec, &x.Spec, &indices.Spec)
	}
	y, add := c.output(0, x.Type, x.Shape), c.reducer()
	c.copyAll(y, x)
	c.elementsAt(x, indices, c.axis(c.int("axis", 0), len(x.Shape)), func(at, of int) { add(y, of, updates, at, 1) })
}

// reducer returns the function that combines an update with the existing elements.
func (c *call) reducer() func(y *value, to int, u *value, from, n int) {
	var f func(a, b float64) float64
	switch how := c.string("reduction", "none"); how {
	case "none":
		return one
	case "add":
		f = func(a, b float64) float64 { return a + b }
	case "mul":
		f = func(a, b float64) float64 { return a * b }
	case "min":
		f = math.Min
	case "max":
		f = math.Max
	default:
		c.fail("reduction %.64q", how)
	}
	return func(y *value, to int, u *value, from, n int) {
		for i := range n {
			put(&y.Tensor, to+i, f(at(&y.Tensor, to+i), at(&u.Tensor, from+i)))
		}
	}
}

// tuples visits the parts of x that tuples of indices refer to, each of n elements.
func (c *call) tuples(x, indices *value, batch int, visit func(k, of, n int)) {
	c.rank(indices, 1, maxRank)
	depth := fromEnd(indices.Shape, 1)
	if batch < 0 || batch >= len(indices.Shape) || batch+depth > len(x.Shape) || depth < 1 {
		c.fail("tuples of %d indices for %s", depth, &x.Spec)
	}
	strides, list := c.strides(x.Shape), c.indices(indices)
	n, batches := engine.Product(x.Shape[batch+depth:]), engine.Product(x.Shape[:batch])
	if engine.Product(indices.Shape[:batch]) != batches {
		c.fail("%s and %s differ in their first dimensions", &x.Spec, &indices.Spec)
	}
	each := len(list) / depth / max(batches, 1)
	for k := range len(list) / depth {
		of := k / max(each, 1) * engine.Product(x.Shape[batch:])
		for i, p := range list[k*depth : (k+1)*depth] {
			of += c.index(p, x.Shape[batch+i]) * strides[batch+i]
		}
		visit(k, of, n)
	}
}

func gatherND(c *call) {
	x, indices, batch := c.input(0), c.input(1), c.int("batch_dims", 0)
	c.rank(indices, 1, maxRank)
	depth := fromEnd(indices.Shape, 1)
	if batch < 0 || batch+depth > len(x.Shape) || depth < 0 {
		c.fail("tuples of %d indices for %s", depth, &x.Spec)
	}
	y := c.output(0, x.Type, c.joined(indices.Shape[:len(indices.Shape)-1], x.Shape[batch+depth:]))
	c.tuples(x, indices, batch, func(k, of, n int) { one(y, k*n, x, of, n) })
}

func scatterND(c *call) {
	x, indices, updates := c.input(0), c.input(1), c.input(2)
	if updates.Type != x.Type {
		c.fail("%s and %s differ in type", &updates.Spec, &x.Spec)
	}
	y, add := c.output(0, x.Type, x.Shape), c.reducer()
	c.copyAll(y, x)
	c.tuples(x, indices, 0, func(k, of, n int) { add(y, of, updates, k*n, n) })
}

func topK(c *call) {
	x, k := c.input(0), c.int("k", 0)
	if v := c.optional(1); v != nil {
		k = c.indices(v)[0]
	}
	axis := c.axis(c.int("axis", -1), len(x.Shape))
	outer, length, inner := lines(x.Shape, axis)
	if k < 0 || k > length {
		c.fail("the first %d of %d", k, length)
	}
	shape := c.shape(x.Shape...)
	shape[axis] = k
	y, places := c.output(0, x.Type, shape), c.output(1, engine.Int64, shape)
	sign := -1
	if c.int("largest", 1) == 0 {
		sign = 1
	}
	order := c.ints(length)
	for o := range outer {
		for i := range inner {
			for p := range order {
				order[p] = p
			}
			slices.SortStableFunc(order, func(a, b int) int {
				return sign * cmp.Compare(at(&x.Tensor, (o*length+a)*inner+i), at(&x.Tensor, (o*length+b)*inner+i))
			})
			for p, from := range order[:k] {
				to := (o*k+p)*inner + i
				element(y, to, x, (o*length+from)*inner+i)
				places.I64[to] = int64(from)
			}
		}
	}
}

func oneHot(c *call) {
	indices, depth, values := c.input(0), c.input(1), c.input(2)
	n := int(intAt(&depth.Tensor, 0))
	if n < 1 || n > math.MaxInt32 || values.Elements() != 2 || len(indices.Shape) >= maxRank {
		c.fail("depth %d with %s", n, &values.Spec)
	}
	axis := c.axis(c.int("axis", -1), len(indices.Shape)+1)
	shape := c.joined(indices.Shape[:axis], []int{n}, indices.Shape[axis:])
	y := c.output(0, values.Type, shape)
	outer, length, inner := lines(shape, axis)
	for o := range outer {
		for i := range inner {
			hot := int(at(&indices.Tensor, o*inner+i))
			if hot < 0 {
				hot += n
			}
			for k := range length {
				element(y, (o*length+k)*inner+i, values, int(truth(k == hot)))
			}
		}
	}
}

func nonZero(c *call) {
	x := c.input(0)
	n, rank := 0, len(x.Shape)
	for i := range x.Elements() {
		if at(&x.Tensor, i) != 0 {
			n++
		}
	}
	shape := c.shape(rank, n)
	y := c.output(0, engine.Int64, shape)
	index, k := c.ints(rank), 0
	for i := range x.Elements() {
		if at(&x.Tensor, i) != 0 {
			for a, p := range index {
				y.I64[a*n+k] = int64(p)
			}
			k++
		}
		advance(index, x.Shape)
	}
}

func compress(c *call) {
	x, keep := c.input(0), c.input(1, engine.Bool)
	shape, axis := x.Shape, 0
	if a := c.node.attributes["axis"]; a != nil {
		axis = c.axis(narrow(a.i), len(shape))
	} else {
		shape = c.shape(x.Elements())
	}
	outer, length, inner := lines(shape, axis)
	n := 0
	for _, k := range keep.U8[:min(len(keep.U8), length)] {
		n += int(k)
	}
	out := c.shape(shape...)
	out[axis] = n
	y, to := c.output(0, x.Type, out), 0
	for o := range outer {
		for k := range min(len(keep.U8), length) {
			if keep.U8[k] != 0 {
				one(y, to, x, (o*length+k)*inner, inner)
				to += inner
			}
		}
	}
}

func reverseSequence(c *call) {
	x, lengths := c.rank(c.input(0), 2, maxRank), c.numbers(1)
	time, batch := c.int("time_axis", 0), c.int("batch_axis", 1)
	if time+batch != 1 || time*batch != 0 || len(lengths) != x.Shape[batch] {
		c.fail("axes %d and %d with %d lengths", time, batch, len(lengths))
	}
	y := c.output(0, x.Type, x.Shape)
	inner := engine.Product(x.Shape[2:])
	for i := range x.Shape[0] {
		for j := range x.Shape[1] {
			t, b := i, j
			if time == 1 {
				t, b = j, i
			}
			if n := lengths[b]; t < n && n <= x.Shape[time] {
				t = n - 1 - t
			}
			from := t*x.Shape[1] + b
			if time == 1 {
				from = b*x.Shape[1] + t
			}
			one(y, (i*x.Shape[1]+j)*inner, x, from*inner, inner)
		}
	}
}
