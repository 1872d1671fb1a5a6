package onnx

import (
	"fmt"
	"math"
	"slices"

	"app-offload/functions/engine"
)

// call is a node of one session, with the memory of its kernel in addition to the outputs.
type call struct {
	s       *session
	node    *node
	in, out []*value
	arena   []int // for shapes and indices of one run
	used    int
	layer   layer      // of convolutions of 8 bits
	product matrixPlan // of matrices of 8 bits
	sum     *summation // of an Einsum
	f32     [8][]float32
	i8      [3][]int8
	i32     [4][]int32
	f64     []float64
	key     uint64 // of the table of pixels
}

// fail ends the node with an error; do recovers.
func (c *call) fail(format string, args ...any) {
	panic(failure{fmt.Errorf(format, args...)})
}

// ints returns zeroed memory for a shape or indices, valid until the node ends.
func (c *call) ints(n int) []int {
	if c.used+n > len(c.arena) {
		c.charge(n+64, 8)
		c.arena, c.used = make([]int, 2*len(c.arena)+n+64), 0
	}
	list := c.arena[c.used : c.used+n : c.used+n]
	c.used += n
	clear(list)
	return list
}

// charge counts memory against the limit.
func (c *call) charge(n, size int) {
	limit := c.s.p.limits.MaxBytes - c.s.p.graph.bytes
	if n < 0 || int64(n) > limit/int64(size) || c.s.bytes+int64(n*size) > limit {
		c.fail("the tensors of a run take more than %d bytes", c.s.p.limits.MaxBytes)
	}
	c.s.bytes += int64(n * size)
}

// macs counts the multiply-accumulates of a run against the limit.
func (c *call) macs(factors ...int) {
	n := int64(1)
	for _, f := range factors {
		if f <= 0 {
			return
		}
		if n > c.s.p.limits.MaxMACs/int64(f) {
			panic(failure{errMACs})
		}
		n *= int64(f)
	}
	if c.s.macs += n; c.s.macs > c.s.p.limits.MaxMACs {
		panic(failure{errMACs})
	}
}

// floats, int8s and int32s return scratch memory with undefined contents.
func (c *call) floats(i, n int) []float32 { return scratch(c, &c.f32[i], n, 4) }
func (c *call) int8s(i, n int) []int8     { return scratch(c, &c.i8[i], n, 1) }
func (c *call) int32s(i, n int) []int32   { return scratch(c, &c.i32[i], n, 4) }

func scratch[T any](c *call, at *[]T, n, size int) []T {
	if n > cap(*at) || n < 0 {
		c.charge(n, size)
		*at = make([]T, n)
	}
	return (*at)[:n]
}

// optional returns the i-th input, nil if it is absent.
func (c *call) optional(i int) *value {
	if i >= len(c.in) {
		return nil
	}
	return c.in[i]
}

// input returns the i-th input. If types are given, its type must be one of them.
func (c *call) input(i int, types ...engine.Type) *value {
	v := c.optional(i)
	if v == nil {
		c.fail("input %d is missing", i)
	}
	if len(types) > 0 && !slices.Contains(types, v.Type) {
		c.fail("input %d (%.64q) is %s, supported are %v", i, v.Name, v.Type, slices.Clone(types))
	}
	return v
}

// rank checks the number of dimensions.
func (c *call) rank(v *value, low, top int) *value {
	if len(v.Shape) < low || len(v.Shape) > top {
		c.fail("%s has %d dimensions, expected %d to %d", &v.Spec, len(v.Shape), low, top)
	}
	return v
}

// wants reports whether the i-th output is used.
func (c *call) wants(i int) bool { return i < len(c.out) && c.out[i] != nil }

// output allocates the i-th output with a type and a shape. It fails if the node does not have that output.
func (c *call) output(i int, t engine.Type, shape []int) *value {
	if !c.wants(i) {
		c.fail("output %d is missing", i)
	}
	v := c.out[i]
	n, err := engine.Elements(shape, c.s.p.limits.MaxBytes/int64(t.Size()))
	if err != nil {
		c.fail("output %d: %w", i, err)
	}
	v.Type = t
	v.Shape = append(v.Shape[:0], shape...)
	kinds[t].resize(c, &v.Tensor, n)
	return v
}

func (c *call) int(name string, otherwise int) int {
	if a := c.node.attributes[name]; a != nil {
		return narrow(a.i)
	}
	return otherwise
}

func (c *call) float(name string, otherwise float32) float32 {
	if a := c.node.attributes[name]; a != nil {
		return a.f
	}
	return otherwise
}

func (c *call) string(name, otherwise string) string {
	if a := c.node.attributes[name]; a != nil {
		return a.s
	}
	return otherwise
}

// list returns an attribute's integers, nil if it is absent.
func (c *call) list(name string) []int { return c.attribute(name).ints }

// attribute returns an empty attribute if the node does not have it.
func (c *call) attribute(name string) *attribute {
	if a := c.node.attributes[name]; a != nil {
		return a
	}
	return &none
}

var none attribute

// numbers returns an input's integers, nil if it is absent.
func (c *call) numbers(i int) []int {
	v := c.optional(i)
	if v == nil {
		return nil
	}
	return c.indices(v)
}

// narrow clamps a number to int, which may have 32 bits: the ends of slices can be extreme.
func narrow(x int64) int { return int(min(max(x, math.MinInt), math.MaxInt)) }

func (c *call) indices(v *value) []int {
	list := c.ints(v.Elements())
	switch v.Type {
	case engine.Int32:
		for i, x := range v.I32 {
			list[i] = int(x)
		}
	case engine.Int64:
		for i, x := range v.I64 {
			list[i] = narrow(x)
		}
	default:
		c.fail("%s must have integers of 32 or 64 bits", &v.Spec)
	}
	return list
}

// settings returns integers that are an attribute in older versions of an operator and an input in newer ones.
func (c *call) settings(name string, input int) []int {
	if a := c.node.attributes[name]; a != nil {
		return a.ints
	}
	return c.numbers(input)
}

// axis converts a negative axis to a positive one.
func (c *call) axis(axis, rank int) int {
	if axis < 0 {
		axis += rank
	}
	if axis < 0 || axis >= rank {
		c.fail("axis %d of %d dimensions", axis, rank)
	}
	return axis
}

// shape returns a copy that the node may change.
func (c *call) shape(dims ...int) []int {
	list := c.ints(len(dims))
	copy(list, dims)
	return list
}

// joined concatenates parts of a shape.
func (c *call) joined(parts ...[]int) []int {
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	list := c.ints(n)[:0]
	for _, part := range parts {
		list = append(list, part...)
	}
	return list
}

// strides returns the distance of neighbours along each axis.
func (c *call) strides(shape []int) []int {
	list := c.ints(len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		list[i] = n
		n *= shape[i]
	}
	return list
}

// broadcast returns the common shape of two tensors.
func (c *call) broadcast(a, b []int) []int {
	shape := c.ints(max(len(a), len(b)))
	for i := range shape {
		x, y := fromEnd(a, len(shape)-i), fromEnd(b, len(shape)-i)
		switch {
		case x == y || y == 1:
			shape[i] = x
		case x == 1:
			shape[i] = y
		default:
			c.fail("shapes %v and %v do not fit", slices.Clone(a), slices.Clone(b))
		}
	}
	return shape
}

func fromEnd(shape []int, i int) int {
	if i > len(shape) {
		return 1
	}
	return shape[len(shape)-i]
}

// spread returns the strides of a tensor over a larger shape: 0 along repeated axes.
func (c *call) spread(v, shape []int) []int {
	if len(v) > len(shape) {
		c.fail("shape %v does not fit %v", slices.Clone(v), slices.Clone(shape))
	}
	list := c.ints(len(shape))
	n := 1
	for i := range len(v) {
		at, d := len(shape)-1-i, v[len(v)-1-i]
		switch {
		case d == shape[at]:
			list[at] = n
		case d != 1:
			c.fail("shape %v does not fit %v", slices.Clone(v), slices.Clone(shape))
		}
		n *= d
	}
	return list
}

// prepare returns the prepared form of a constant, computed once for all sessions.
func prepare[T any](c *call, part, bytes int, make func() T) T {
	p := c.s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	key := preparation{c.node, part}
	if got, ok := p.prepared[key]; ok {
		return got.(T)
	}
	if p.bytes+int64(bytes) > p.limits.MaxBytes-p.graph.bytes {
		c.fail("prepared weights take more than %d bytes", p.limits.MaxBytes)
	}
	p.bytes += int64(bytes)
	made := make()
	p.prepared[key] = made
	return made
}
