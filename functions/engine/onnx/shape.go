package onnx

import (
	"math"
	"slices"

	"app-offload/functions/engine"
)

var shapes = map[string]func(*call){
	"Identity": identity, "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose,
	"Slice": slice, "Concat": concat, "Split": split, "Pad": pad, "Expand": expand, "Tile": tile, "Shape": shapeOf, "Size": size,
}

func (c *call) reshaped(x *value, shape []int) {
	if engine.Product(shape) != x.Elements() {
		c.fail("shape %v does not have the %d elements of %v", slices.Clone(shape), x.Elements(), slices.Clone(x.Shape))
	}
	c.copyAll(c.output(0, x.Type, shape), x)
}

func identity(c *call) { c.reshaped(c.input(0), c.input(0).Shape) }

func reshape(c *call) {
	x, want := c.input(0), c.settings("shape", 1)
	if len(want) > maxRank {
		c.fail("%d dimensions, at most %d are supported", len(want), maxRank)
	}
	shape := c.shape(want...)
	known, open := 1, -1
	for i, d := range shape {
		switch {
		case d == 0 && c.int("allowzero", 0) == 0:
			if i >= len(x.Shape) {
				c.fail("shape %v copies dimension %d of %d", slices.Clone(want), i, len(x.Shape))
			}
			shape[i] = x.Shape[i]
		case d == -1 && open < 0:
			open = i
			continue
		case d < 0:
			c.fail("shape %v", slices.Clone(want))
		}
		if shape[i] > 0 && known > math.MaxInt32/shape[i] {
			c.fail("shape %v has too many elements", slices.Clone(want))
		}
		known *= shape[i]
	}
	if open >= 0 {
		shape[open] = x.Elements() / max(known, 1)
	}
	c.reshaped(x, shape)
}

func flatten(c *call) {
	x, axis := c.input(0), c.int("axis", 1)
	if axis != len(x.Shape) {
		axis = c.axis(axis, len(x.Shape))
	}
	shape := c.shape(engine.Product(x.Shape[:axis]), engine.Product(x.Shape[axis:]))
	c.reshaped(x, shape)
}

func squeeze(c *call) {
	x, axes := c.input(0), c.settings("axes", 1)
	drop := c.ints(len(x.Shape))
	for _, a := range axes {
		drop[c.axis(a, len(x.Shape))] = 1
	}
	shape := c.ints(len(x.Shape))[:0]
	for i, d := range x.Shape {
		if drop[i] == 0 && (d != 1 || axes != nil) {
			shape = append(shape, d)
		}
	}
	c.reshaped(x, shape)
}

func unsqueeze(c *call) {
	x, axes := c.input(0), c.settings("axes", 1)
	rank := len(x.Shape) + len(axes)
	if rank > maxRank {
		c.fail("%d dimensions, at most %d are supported", rank, maxRank)
	}
	shape := c.ints(rank)
	for i := range shape {
		shape[i] = -1
	}
	for _, a := range axes {
		shape[c.axis(a, rank)] = 1
	}
	rest := x.Shape
	for i, d := range shape {
		if d < 0 {
			shape[i], rest = rest[0], rest[1:]
		}
	}
	c.reshaped(x, shape)
}

func transpose(c *call) {
	x, perm := c.input(0), c.list("perm")
	n := len(x.Shape)
	if perm != nil && len(perm) != n {
		c.fail("perm %v of %d dimensions", perm, n)
	}
	shape, strides, from := c.ints(n), c.ints(n), c.strides(x.Shape)
	seen := c.ints(n)
	for i := range n {
		p := n - 1 - i
		if perm != nil {
			p = c.axis(perm[i], n)
		}
		seen[p]++
		shape[i], strides[i] = x.Shape[p], from[p]
	}
	if slices.Contains(seen, 0) {
		c.fail("perm %v does not name every axis once", perm)
	}
	c.move(c.output(0, x.Type, shape), 0, c.strides(shape), x, 0, strides, shape)
}

func slice(c *call) {
	x := c.input(0)
	n := len(x.Shape)
	starts, ends, axes, steps := c.settings("starts", 1), c.settings("ends", 2), c.settings("axes", 3), c.numbers(4)
	if len(ends) != len(starts) || axes != nil && len(axes) != len(starts) || steps != nil && len(steps) != len(starts) {
		c.fail("%d starts, %d ends, %d axes and %d steps", len(starts), len(ends), len(axes), len(steps))
	}
	shape, strides, offset := c.shape(x.Shape...), c.strides(x.Shape), 0
	for i, start := range starts {
		a, step := i, 1
		if axes != nil {
			a = axes[i]
		}
		a = c.axis(a, n)
		if steps != nil {
			step = steps[i]
		}
		d, stop := x.Shape[a], ends[i]
		if step = min(max(step, -math.MaxInt32), math.MaxInt32); step == 0 {
			c.fail("a step of 0")
		}
		low, top := 0, d
		if step < 0 {
			low, top = -1, d-1
		}
		start, stop = bounded(start, d, max(low, 0), top), bounded(stop, d, low, top)
		span := 0
		if step > 0 && stop > start {
			span = (stop - start + step - 1) / step
		} else if step < 0 && stop < start {
			span = (start - stop - step - 1) / -step
		}
		shape[a] = span
		offset += start * strides[a]
		strides[a] *= step
	}
	y := c.output(0, x.Type, shape)
	if y.Elements() > 0 {
		c.move(y, 0, c.strides(shape), x, offset, strides, shape)
	}
}

// bounded converts a negative index and clamps it to the bounds.
func bounded(i, length, low, top int) int {
	if i < 0 {
		i += length
	}
	return min(max(i, low), top)
}

func concat(c *call) {
	first := c.input(0)
	axis := c.axis(c.int("axis", 1), len(first.Shape))
	shape := c.shape(first.Shape...)
	shape[axis] = 0
	for i := range c.in {
		x := c.input(i, first.Type)
		if len(x.Shape) != len(shape) {
			c.fail("%s and %s differ in dimensions", &x.Spec, &first.Spec)
		}
		for k, d := range x.Shape {
			if k != axis && d != shape[k] {
				c.fail("%s and %s differ in dimension %d", &x.Spec, &first.Spec, k)
			}
		}
		shape[axis] += x.Shape[axis]
	}
	y := c.output(0, first.Type, shape)
	inner := engine.Product(shape[axis+1:])
	done := 0
	for i := range c.in {
		x := c.in[i]
		n := x.Shape[axis] * inner
		for o := range engine.Product(shape[:axis]) {
			one(y, (o*shape[axis])*inner+done, x, o*n, n)
		}
		done += n
	}
}

func split(c *call) {
	x := c.input(0)
	axis := c.axis(c.int("axis", 0), len(x.Shape))
	parts := c.settings("split", 1)
	if parts == nil {
		parts = c.ints(len(c.out))
		each := (x.Shape[axis] + len(c.out) - 1) / len(c.out)
		for i := range parts {
			parts[i] = max(min(each, x.Shape[axis]-i*each), 0)
		}
	}
	total := 0
	for _, p := range parts {
		if p < 0 {
			c.fail("parts %v", slices.Clone(parts))
		}
		total += p
	}
	if len(parts) != len(c.out) || total != x.Shape[axis] {
		c.fail("%d parts %v of %d outputs and a length of %d", len(parts), slices.Clone(parts), len(c.out), x.Shape[axis])
	}
	inner, from := engine.Product(x.Shape[axis+1:]), 0
	for i, p := range parts {
		if !c.wants(i) {
			from += p * inner
			continue
		}
		shape := c.shape(x.Shape...)
		shape[axis] = p
		y := c.output(i, x.Type, shape)
		for o := range engine.Product(shape[:axis]) {
			one(y, o*p*inner, x, o*x.Shape[axis]*inner+from, p*inner)
		}
		from += p * inner
	}
}

func pad(c *call) {
	x, pads := c.input(0), c.settings("pads", 1)
	n := len(x.Shape)
	if axes := c.numbers(3); axes != nil {
		if len(pads) != 2*len(axes) {
			c.fail("%d pads for %d axes", len(pads), len(axes))
		}
		all := c.ints(2 * n)
		for i, a := range axes {
			a = c.axis(a, n)
			all[a], all[n+a] = pads[i], pads[len(axes)+i]
		}
		pads = all
	}
	if len(pads) != 2*n {
		c.fail("%d pads of %d dimensions", len(pads), n)
	}
	shape, strides := c.ints(n), c.strides(x.Shape)
	for i, d := range x.Shape {
		if pads[i] > math.MaxInt32 || pads[n+i] > math.MaxInt32 || pads[i] < -d || pads[n+i] < -d {
			c.fail("pads %v", slices.Clone(pads))
		}
		shape[i] = d + pads[i] + pads[n+i]
	}
	y, mode := c.output(0, x.Type, shape), c.string("mode", "constant")
	fill := float64(c.float("value", 0))
	if v := c.optional(2); v != nil {
		fill = at(&v.Tensor, 0)
	}
	index := c.ints(n)
	for k := range y.Elements() {
		from, inside := 0, true
		for i, p := range index {
			q, ok := mirrored(p-pads[i], x.Shape[i], mode)
			inside = inside && ok
			from += q * strides[i]
		}
		if inside {
			element(y, k, x, from)
		} else {
			put(&y.Tensor, k, fill)
		}
		advance(index, shape)
	}
}

// mirrored returns the position that replaces one outside of an axis.
func mirrored(p, length int, mode string) (int, bool) {
	if p >= 0 && p < length {
		return p, true
	}
	if length == 0 {
		return 0, false
	}
	switch mode {
	case "edge":
		return min(max(p, 0), length-1), true
	case "wrap":
		return ((p % length) + length) % length, true
	case "reflect":
		period := max(2*(length-1), 1)
		p = ((p % period) + period) % period
		if p >= length {
			p = period - p
		}
		return p, true
	}
	return 0, false
}

// advance moves an index to the next position of a shape.
func advance(index, shape []int) {
	for i := len(index) - 1; i >= 0; i-- {
		if index[i]++; index[i] < shape[i] {
			return
		}
		index[i] = 0
	}
}

func expand(c *call) {
	x, want := c.input(0), c.numbers(1)
	for _, d := range want {
		if d < 0 {
			c.fail("shape %v", slices.Clone(want))
		}
	}
	shape := c.broadcast(x.Shape, want)
	y := c.output(0, x.Type, shape)
	c.move(y, 0, c.strides(shape), x, 0, c.spread(x.Shape, shape), shape)
}

func tile(c *call) {
	x, repeats := c.input(0), c.numbers(1)
	if len(repeats) != len(x.Shape) {
		c.fail("%d repeats of %d dimensions", len(repeats), len(x.Shape))
	}
	shape, strides := c.ints(len(repeats)), c.strides(x.Shape)
	for i, r := range repeats {
		if r < 0 || r > math.MaxInt32 {
			c.fail("repeats %v", slices.Clone(repeats))
		}
		shape[i] = x.Shape[i] * r
	}
	y := c.output(0, x.Type, shape)
	index := c.ints(len(shape))
	for k := range y.Elements() {
		from := 0
		for i, p := range index {
			from += p % x.Shape[i] * strides[i]
		}
		element(y, k, x, from)
		advance(index, shape)
	}
}

func shapeOf(c *call) {
	x := c.input(0)
	n := len(x.Shape)
	from, to := bounded(c.int("start", 0), n, 0, n), bounded(c.int("end", n), n, 0, n)
	part := x.Shape[from:max(from, to)]
	shape := c.shape(len(part))
	y := c.output(0, engine.Int64, shape)
	for i, d := range part {
		y.I64[i] = int64(d)
	}
}

func size(c *call) { c.output(0, engine.Int64, nil).I64[0] = int64(c.input(0).Elements()) }
