package onnx

import (
	"math"

	"app-offload/functions/engine"
)

var scalars = map[string]func(*call){
	"Abs": signed(0), "Neg": signed(1), "Sign": signed(2), "Relu": signed(3), "Not": not, "IsNaN": isNaN, "IsInf": isInf, "Pow": pow,
	"Clip": clip, "Where": where, "PRelu": prelu, "Cast": cast, "CastLike": castLike, "Dropout": dropout,
}

// signed implements operators on one number of any type: 0 absolute value, 1 negation, 2 sign, 3 positive part.
func signed(op int) func(*call) {
	return func(c *call) {
		x := c.input(0)
		kinds[x.Type].signed(c.output(0, x.Type, x.Shape), x, op)
	}
}

func not(c *call) {
	x := c.input(0, engine.Bool)
	y := c.output(0, engine.Bool, x.Shape)
	for i, v := range x.U8 {
		y.U8[i] = truth(v == 0)
	}
}

func isNaN(c *call) {
	x := c.input(0, engine.Float32)
	y := c.output(0, engine.Bool, x.Shape)
	for i, v := range x.F32 {
		y.U8[i] = truth(v != v)
	}
}

func isInf(c *call) {
	x := c.input(0, engine.Float32)
	y := c.output(0, engine.Bool, x.Shape)
	up, down := c.int("detect_positive", 1) != 0, c.int("detect_negative", 1) != 0
	for i, v := range x.F32 {
		y.U8[i] = truth(up && math.IsInf(float64(v), 1) || down && math.IsInf(float64(v), -1))
	}
}

// at returns one element as a number.
func at(t *engine.Tensor, i int) float64 {
	switch t.Type {
	case engine.Float32:
		return float64(t.F32[i])
	case engine.Float64:
		return t.F64[i]
	case engine.Uint64:
		return float64(t.U64[i])
	}
	return float64(intAt(t, i))
}

func intAt(t *engine.Tensor, i int) int64 {
	switch t.Type {
	case engine.Float32:
		return int64(t.F32[i])
	case engine.Float64:
		return int64(t.F64[i])
	case engine.Int8:
		return int64(t.I8[i])
	case engine.Uint8, engine.Bool:
		return int64(t.U8[i])
	case engine.Int16:
		return int64(t.I16[i])
	case engine.Uint16:
		return int64(t.U16[i])
	case engine.Int32:
		return int64(t.I32[i])
	case engine.Uint32:
		return int64(t.U32[i])
	case engine.Int64:
		return t.I64[i]
	case engine.Uint64:
		return int64(t.U64[i]) //nolint:gosec // the bits
	}
	return 0
}

// put stores a number in the tensor's type; integers are truncated.
func put(t *engine.Tensor, i int, v float64) {
	switch t.Type {
	case engine.Float32:
		t.F32[i] = float32(v)
	case engine.Float64:
		t.F64[i] = v
	case engine.Bool:
		t.U8[i] = truth(v != 0)
	case engine.Uint64:
		t.U64[i] = uint64(v)
	default:
		setInt(t, i, int64(v))
	}
}

func isFloat(t engine.Type) bool { return t == engine.Float32 || t == engine.Float64 }

func pow(c *call) {
	a, b := c.input(0), c.input(1)
	y := c.output(0, a.Type, c.broadcast(a.Shape, b.Shape))
	s1, s2 := c.spread(a.Shape, y.Shape), c.spread(b.Shape, y.Shape)
	w, last := c.start(y.Shape, s1, s2)
	for n := 0; w.left > 0 && last > 0; w.next() {
		p, q := w.offset[0], w.offset[1]
		for range last {
			put(&y.Tensor, n, math.Pow(at(&a.Tensor, p), at(&b.Tensor, q)))
			p, q, n = p+end(s1), q+end(s2), n+1
		}
	}
}

func clip(c *call) {
	x := c.input(0)
	y := c.output(0, x.Type, x.Shape)
	low, top := float64(c.float("min", float32(math.Inf(-1)))), float64(c.float("max", float32(math.Inf(1))))
	if v := c.optional(1); v != nil {
		low = at(&v.Tensor, 0)
	}
	if v := c.optional(2); v != nil {
		top = at(&v.Tensor, 0)
	}
	if x.Type == engine.Float32 {
		l, t := float32(low), float32(top)
		for i, v := range x.F32 {
			y.F32[i] = min(max(v, l), t)
		}
		return
	}
	c.copyAll(y, x)
	for i := range length(&x.Tensor) {
		if v := at(&x.Tensor, i); v < low || v > top {
			put(&y.Tensor, i, min(max(v, low), top))
		}
	}
}

func where(c *call) {
	choice, a, b := c.input(0, engine.Bool), c.input(1), c.input(2)
	if a.Type != b.Type {
		c.fail("%s and %s differ in type", &a.Spec, &b.Spec)
	}
	shape := c.broadcast(c.broadcast(a.Shape, b.Shape), choice.Shape)
	y := c.output(0, a.Type, shape)
	s0, s1, s2 := c.spread(choice.Shape, shape), c.spread(a.Shape, shape), c.spread(b.Shape, shape)
	w, last := c.start(shape, s0, s1, s2)
	for n := 0; w.left > 0 && last > 0; w.next() {
		for i := range last {
			if choice.U8[w.offset[0]+i*end(s0)] != 0 {
				element(y, n, a, w.offset[1]+i*end(s1))
			} else {
				element(y, n, b, w.offset[2]+i*end(s2))
			}
			n++
		}
	}
}

func prelu(c *call) {
	x, slope := c.input(0, engine.Float32), c.input(1, engine.Float32)
	if n := len(slope.F32); len(slope.Shape) == 1 && c.s.p.graph.opset < 7 && len(x.Shape) > 1 && n == x.Shape[1] {
		channel := &value{Tensor: slope.Tensor} // one slope for each channel, in the first versions
		channel.Shape = c.ints(len(x.Shape) - 1)
		for i := range channel.Shape {
			channel.Shape[i] = 1
		}
		channel.Shape[0] = n
		slope = channel
	}
	y := c.output(0, engine.Float32, c.broadcast(x.Shape, slope.Shape))
	pairs(c, x, slope, y, x.F32, slope.F32, y.F32, func(v, s float32) float32 {
		if v < 0 {
			return v * s
		}
		return v
	})
}

func (c *call) cast(x *value, to engine.Type) {
	y := c.output(0, to, x.Shape)
	for i := range length(&x.Tensor) {
		switch {
		case x.Type == to:
			element(y, i, x, i)
		case isFloat(x.Type) || isFloat(to) || to == engine.Bool:
			put(&y.Tensor, i, at(&x.Tensor, i))
		default:
			setInt(&y.Tensor, i, intAt(&x.Tensor, i))
		}
	}
}

func cast(c *call) {
	to, err := elementType(int64(c.int("to", 0)))
	if err != nil {
		c.fail("attribute to: %w", err)
	}
	c.cast(c.input(0), to)
}

func castLike(c *call) { c.cast(c.input(0), c.input(1).Type) }

// dropout returns its input, as outside of training.
func dropout(c *call) {
	x := c.input(0)
	if v := c.optional(2); v != nil && v.U8[0] != 0 {
		if r := c.optional(1); r == nil || at(&r.Tensor, 0) != 0 {
			c.fail("training is not supported")
		}
	}
	c.copyAll(c.output(0, x.Type, x.Shape), x)
	if c.wants(1) {
		mask := c.output(1, engine.Bool, x.Shape)
		for i := range mask.U8 {
			mask.U8[i] = 1
		}
	}
}
