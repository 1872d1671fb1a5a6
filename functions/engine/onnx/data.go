package onnx

import (
	"app-offload/functions/engine"
)

// integer and number are the types of elements.
type integer interface {
	int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64
}

type number interface {
	integer | float32 | float64
}

// data are a tensor's elements.
func data[T number](t *engine.Tensor) []T {
	var slice any
	switch any(*new(T)).(type) {
	case float32:
		slice = &t.F32
	case float64:
		slice = &t.F64
	case int8:
		slice = &t.I8
	case uint8:
		slice = &t.U8
	case int16:
		slice = &t.I16
	case uint16:
		slice = &t.U16
	case int32:
		slice = &t.I32
	case uint32:
		slice = &t.U32
	case int64:
		slice = &t.I64
	case uint64:
		slice = &t.U64
	}
	return *slice.(*[]T)
}

// length is the number of elements that a tensor has memory for.
func length(t *engine.Tensor) int {
	switch t.Type {
	case engine.Float32:
		return len(t.F32)
	case engine.Float64:
		return len(t.F64)
	case engine.Int8:
		return len(t.I8)
	case engine.Uint8, engine.Bool:
		return len(t.U8)
	case engine.Int16:
		return len(t.I16)
	case engine.Uint16:
		return len(t.U16)
	case engine.Int32:
		return len(t.I32)
	case engine.Uint32:
		return len(t.U32)
	case engine.Int64:
		return len(t.I64)
	case engine.Uint64:
		return len(t.U64)
	}
	return 0
}

// walk visits all positions of a shape but those of its last axis, with the offsets of up to three tensors.
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

// end is the last stride, 1 for a scalar.
func end(strides []int) int {
	if len(strides) == 0 {
		return 1
	}
	return strides[len(strides)-1]
}

// move copies elements between positions of two tensors of one type.
func (c *call) move(dst *value, to int, dstStrides []int, src *value, from int, srcStrides, shape []int) {
	switch dst.Type {
	case engine.Float32:
		moved(c, dst.F32, to, dstStrides, src.F32, from, srcStrides, shape)
	case engine.Float64:
		moved(c, dst.F64, to, dstStrides, src.F64, from, srcStrides, shape)
	case engine.Int8:
		moved(c, dst.I8, to, dstStrides, src.I8, from, srcStrides, shape)
	case engine.Uint8, engine.Bool:
		moved(c, dst.U8, to, dstStrides, src.U8, from, srcStrides, shape)
	case engine.Int16:
		moved(c, dst.I16, to, dstStrides, src.I16, from, srcStrides, shape)
	case engine.Uint16:
		moved(c, dst.U16, to, dstStrides, src.U16, from, srcStrides, shape)
	case engine.Int32:
		moved(c, dst.I32, to, dstStrides, src.I32, from, srcStrides, shape)
	case engine.Uint32:
		moved(c, dst.U32, to, dstStrides, src.U32, from, srcStrides, shape)
	case engine.Int64:
		moved(c, dst.I64, to, dstStrides, src.I64, from, srcStrides, shape)
	case engine.Uint64:
		moved(c, dst.U64, to, dstStrides, src.U64, from, srcStrides, shape)
	}
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
	shape := c.ints(1)
	shape[0] = length(&src.Tensor)
	one := c.strides(shape)
	c.move(dst, 0, one, src, 0, one, shape)
}

// element copies one element.
func element(dst *value, to int, src *value, from int) { one(dst, to, src, from, 1) }

// one copies n elements that follow each other.
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

// zero clears all elements.
func zero(v *value) {
	clear(v.F32)
	clear(v.F64)
	clear(v.I8)
	clear(v.U8)
	clear(v.I16)
	clear(v.U16)
	clear(v.I32)
	clear(v.U32)
	clear(v.I64)
	clear(v.U64)
}
