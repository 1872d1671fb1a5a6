package onnx

import (
	"encoding/binary"

	"app-offload/functions/engine"
)

// integer and number are the element types.
type integer interface {
	int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64
}

type number interface {
	integer | float32 | float64
}

// kind provides the operations of one element type; kinds holds all of them. Operations on single elements stay a switch, which costs less than a
// call through an interface.
type kind interface {
	length(t *engine.Tensor) int
	resize(c *call, t *engine.Tensor, n int)
	clear(t *engine.Tensor)
	decode(t *engine.Tensor, raw []byte) error // little endian
	move(c *call, dst *value, to int, dstStrides []int, src *value, from int, srcStrides, shape []int)
	signed(y, x *value, op int)
	arithmetic(c *call, op byte, a, b, y *value)
	compare(c *call, op string, a, b, y *value)
}

var kinds = [...]kind{
	engine.Float32: newKind(func(t *engine.Tensor) *[]float32 { return &t.F32 }, floatOf[float32]),
	engine.Float64: newKind(func(t *engine.Tensor) *[]float64 { return &t.F64 }, floatOf[float64]),
	engine.Int8:    newKind(func(t *engine.Tensor) *[]int8 { return &t.I8 }, integerOf[int8]),
	engine.Uint8:   newKind(func(t *engine.Tensor) *[]uint8 { return &t.U8 }, integerOf[uint8]),
	engine.Bool:    newKind(func(t *engine.Tensor) *[]uint8 { return &t.U8 }, integerOf[uint8]),
	engine.Int16:   newKind(func(t *engine.Tensor) *[]int16 { return &t.I16 }, integerOf[int16]),
	engine.Uint16:  newKind(func(t *engine.Tensor) *[]uint16 { return &t.U16 }, integerOf[uint16]),
	engine.Int32:   newKind(func(t *engine.Tensor) *[]int32 { return &t.I32 }, integerOf[int32]),
	engine.Uint32:  newKind(func(t *engine.Tensor) *[]uint32 { return &t.U32 }, integerOf[uint32]),
	engine.Int64:   newKind(func(t *engine.Tensor) *[]int64 { return &t.I64 }, integerOf[int64]),
	engine.Uint64:  newKind(func(t *engine.Tensor) *[]uint64 { return &t.U64 }, integerOf[uint64]),
}

// kindOf is the kind of elements of type T. Its functions are created once, since their creation allocates.
type kindOf[T number] struct {
	data     func(*engine.Tensor) *[]T
	compute  map[byte]func(a, b T) T
	compares map[string]func(a, b T) uint8
}

func newKind[T number](data func(*engine.Tensor) *[]T, compute func(op byte) func(a, b T) T) kind {
	k := &kindOf[T]{data, map[byte]func(a, b T) T{}, map[string]func(a, b T) uint8{}}
	for _, op := range []byte("+-*/<>%flr") {
		k.compute[op] = compute(op)
	}
	for _, op := range []string{"=", "<", "<=", ">", ">=", "and", "or", "xor"} {
		k.compares[op] = compare[T](op)
	}
	return k
}

func compare[T number](op string) func(a, b T) uint8 {
	switch op {
	case "=":
		return func(a, b T) uint8 { return truth(a == b) }
	case "<":
		return func(a, b T) uint8 { return truth(a < b) }
	case "<=":
		return func(a, b T) uint8 { return truth(a <= b) }
	case ">":
		return func(a, b T) uint8 { return truth(a > b) }
	case ">=":
		return func(a, b T) uint8 { return truth(a >= b) }
	case "and":
		return func(a, b T) uint8 { return truth(a != 0 && b != 0) }
	case "or":
		return func(a, b T) uint8 { return truth(a != 0 || b != 0) }
	}
	return func(a, b T) uint8 { return truth((a != 0) != (b != 0)) } // xor
}

func (k *kindOf[T]) length(t *engine.Tensor) int { return len(*k.data(t)) }
func (k *kindOf[T]) clear(t *engine.Tensor)      { clear(*k.data(t)) }
func (k *kindOf[T]) signed(y, x *value, op int)  { each1(*k.data(&y.Tensor), *k.data(&x.Tensor), op) }

func each1[T number](y, x []T, op int) {
	switch op {
	case 0:
		for i, v := range x {
			y[i] = max(v, -v)
			if v >= 0 {
				y[i] = v
			}
		}
	case 1:
		for i, v := range x {
			y[i] = -v
		}
	case 2:
		for i, v := range x {
			switch {
			case v > 0:
				y[i] = 1
			case v < 0:
				y[i] = 0
				y[i]-- // −1 in any type
			default:
				y[i] = 0
			}
		}
	case 3:
		for i, v := range x {
			y[i] = max(v, 0)
		}
	}
}

func (k *kindOf[T]) resize(c *call, t *engine.Tensor, n int) {
	at := k.data(t)
	*at = grown(c, *at, n, t.Type.Size())
}

func grown[T any](c *call, old []T, n, size int) []T {
	if n <= cap(old) {
		return old[:n]
	}
	c.charge(n, size)
	return make([]T, n)
}

func (k *kindOf[T]) decode(t *engine.Tensor, raw []byte) error {
	_, err := binary.Decode(raw, binary.LittleEndian, *k.data(t))
	if t.Type == engine.Bool {
		for i, v := range t.U8 {
			t.U8[i] = truth(v != 0)
		}
	}
	return err
}

func (k *kindOf[T]) move(c *call, dst *value, to int, dstStrides []int, src *value, from int, srcStrides, shape []int) {
	moved(c, *k.data(&dst.Tensor), to, dstStrides, *k.data(&src.Tensor), from, srcStrides, shape)
}

func (k *kindOf[T]) arithmetic(c *call, op byte, a, b, y *value) {
	pairs(c, a, b, y, *k.data(&a.Tensor), *k.data(&b.Tensor), *k.data(&y.Tensor), k.compute[op])
}

func (k *kindOf[T]) compare(c *call, op string, a, b, y *value) {
	pairs(c, a, b, y, *k.data(&a.Tensor), *k.data(&b.Tensor), y.U8, k.compares[op])
}

// length returns the number of elements that a tensor has memory for.
func length(t *engine.Tensor) int {
	if t.Type == engine.Invalid {
		return 0
	}
	return kinds[t.Type].length(t)
}

// walk visits all positions of a shape except those of its last axis, with the offsets in up to three tensors.
type walk struct {
	shape, at []int
	strides   [3][]int
	offset    [3]int
	left      int
}

// start begins at the first position; last is the length of the last axis.
func (c *call) start(shape []int, strides ...[]int) (w walk, last int) {
	w.left, last = 1, 1
	if n := len(shape); n > 0 {
		last = shape[n-1]
		shape = shape[:n-1]
	}
	w.shape, w.at = shape, c.ints(len(shape))
	for _, d := range shape {
		w.left *= d
	}
	copy(w.strides[:], strides)
	return w, last
}

// next moves to the next position.
func (w *walk) next() {
	w.left--
	for i := len(w.shape) - 1; i >= 0; i-- {
		w.at[i]++
		for k, s := range w.strides {
			if s != nil {
				w.offset[k] += s[i]
			}
		}
		if w.at[i] < w.shape[i] {
			return
		}
		for k, s := range w.strides {
			if s != nil {
				w.offset[k] -= s[i] * w.shape[i]
			}
		}
		w.at[i] = 0
	}
}

// end returns the last stride, 1 for a scalar.
func end(strides []int) int {
	if len(strides) == 0 {
		return 1
	}
	return strides[len(strides)-1]
}

// move copies elements between positions of two tensors of one type.
func (c *call) move(dst *value, to int, dstStrides []int, src *value, from int, srcStrides, shape []int) {
	kinds[dst.Type].move(c, dst, to, dstStrides, src, from, srcStrides, shape)
}

func moved[T any](c *call, dst []T, to int, dstStrides []int, src []T, from int, srcStrides, shape []int) {
	w, last := c.start(shape, dstStrides, srcStrides)
	if last == 0 {
		return
	}
	ds, ss := end(dstStrides), end(srcStrides)
	for ; w.left > 0; w.next() {
		d, s := to+w.offset[0], from+w.offset[1]
		if ds == 1 && ss == 1 {
			copy(dst[d:d+last], src[s:s+last])
			continue
		}
		for range last {
			dst[d] = src[s]
			d += ds
			s += ss
		}
	}
}

// copyAll copies all elements in order.
func (c *call) copyAll(dst, src *value) {
	shape := c.shape(length(&src.Tensor))
	one := c.strides(shape)
	c.move(dst, 0, one, src, 0, one, shape)
}

// element copies one element.
func element(dst *value, to int, src *value, from int) { one(dst, to, src, from, 1) }

// one copies n consecutive elements.
func one(dst *value, to int, src *value, from, n int) {
	switch dst.Type {
	case engine.Float32:
		copy(dst.F32[to:to+n], src.F32[from:from+n])
	case engine.Float64:
		copy(dst.F64[to:to+n], src.F64[from:from+n])
	case engine.Int8:
		copy(dst.I8[to:to+n], src.I8[from:from+n])
	case engine.Uint8, engine.Bool:
		copy(dst.U8[to:to+n], src.U8[from:from+n])
	case engine.Int16:
		copy(dst.I16[to:to+n], src.I16[from:from+n])
	case engine.Uint16:
		copy(dst.U16[to:to+n], src.U16[from:from+n])
	case engine.Int32:
		copy(dst.I32[to:to+n], src.I32[from:from+n])
	case engine.Uint32:
		copy(dst.U32[to:to+n], src.U32[from:from+n])
	case engine.Int64:
		copy(dst.I64[to:to+n], src.I64[from:from+n])
	case engine.Uint64:
		copy(dst.U64[to:to+n], src.U64[from:from+n])
	}
}
