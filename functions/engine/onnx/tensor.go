package onnx

import (
	"fmt"

	"app-offload/functions/engine"
)

// typeOf maps numbers of the schema to the supported element types.
var typeOf = map[int64]engine.Type{
	1: engine.Float32, 2: engine.Uint8, 3: engine.Int8, 4: engine.Uint16, 5: engine.Int16, 6: engine.Int32, 7: engine.Int64, 9: engine.Bool,
	11: engine.Float64, 12: engine.Uint32, 13: engine.Uint64,
}

var typeNames = map[int64]string{8: "string", 10: "float16", 14: "complex64", 15: "complex128", 16: "bfloat16"}

func elementType(code int64) (engine.Type, error) {
	if t, ok := typeOf[code]; ok {
		return t, nil
	}
	if name := typeNames[code]; name != "" {
		return engine.Invalid, fmt.Errorf("elements of type %s are not supported", name)
	}
	return engine.Invalid, fmt.Errorf("elements of type %d are not supported", code)
}

// value is a tensor of a session, or a constant.
type value struct {
	engine.Tensor
	fixed bool // a constant of the file
}

const maxRank = engine.MaxRank

// rawTensor is a tensor in the file.
type rawTensor struct {
	name             string
	dims, i32s, i64s []int64
	code, location   int64
	f32s             []float32
	f64s             []float64
	raw              []byte
	hasRaw           bool
}

// readTensor reads a TensorProto. It copies the data only after it has checked the shape.
func readTensor(f field, most int64) (*value, error) {
	var t rawTensor
	err := f.message("a tensor", func(f field) error {
		switch f.num {
		case 1:
			return f.ints(&t.dims)
		case 2:
			return f.int(&t.code)
		case 4:
			return f.floats(&t.f32s)
		case 5:
			return f.ints(&t.i32s)
		case 7, 11:
			return f.ints(&t.i64s)
		case 8:
			return f.string(&t.name)
		case 9:
			t.raw, t.hasRaw = f.b, true
		case 10:
			return f.doubles(&t.f64s)
		case 14:
			return f.int(&t.location)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	v, err := t.decode(most)
	if err != nil {
		return nil, fmt.Errorf("byte %d: tensor %.64q: %w", f.at, t.name, err)
	}
	return v, nil
}

func (t *rawTensor) decode(most int64) (*value, error) {
	v := &value{fixed: true}
	v.Name = t.name
	if t.location != 0 {
		return nil, fmt.Errorf("its data are in another file, which is not supported")
	}
	var err error
	if v.Type, err = elementType(t.code); err != nil {
		return nil, err
	}
	v.Shape = make([]int, 0, len(t.dims))
	for _, d := range t.dims {
		if d < 0 || d > most {
			return nil, fmt.Errorf("expected dimensions within 0 and %d, found %v", most, t.dims)
		}
		v.Shape = append(v.Shape, int(d))
	}
	n, err := engine.Elements(v.Shape, most/int64(v.Type.Size()))
	if err != nil {
		return nil, err
	}
	if have := t.count(v.Type); have != n {
		return nil, fmt.Errorf("%s%v needs %d elements, the file has %d", v.Type, v.Shape, n, have)
	}
	v.Allocate()
	if t.hasRaw {
		return v, kinds[v.Type].decode(&v.Tensor, t.raw)
	}
	integers := t.i32s // a file may have more lists than the one of its type
	if t.wide(v.Type) {
		integers = t.i64s
	}
	for i := range min(n, len(integers)) {
		setInt(&v.Tensor, i, integers[i])
	}
	copy(v.F32, t.f32s)
	copy(v.F64, t.f64s)
	return v, nil
}

// count returns the number of elements in the file for a type, -1 if it is not whole.
func (t *rawTensor) count(of engine.Type) int {
	if t.hasRaw {
		if len(t.raw)%of.Size() != 0 {
			return -1
		}
		return len(t.raw) / of.Size()
	}
	switch of {
	case engine.Float32:
		return len(t.f32s)
	case engine.Float64:
		return len(t.f64s)
	}
	if t.wide(of) {
		return len(t.i64s)
	}
	return len(t.i32s)
}

// wide reports whether the schema stores a type in a list of 64 bits.
func (t *rawTensor) wide(of engine.Type) bool {
	return of == engine.Int64 || of == engine.Uint64 || of == engine.Uint32
}

// setInt stores the bits of an integer.
//
//nolint:gosec // the bits that fit
func setInt(t *engine.Tensor, i int, x int64) {
	switch t.Type {
	case engine.Int8:
		t.I8[i] = int8(x)
	case engine.Uint8:
		t.U8[i] = uint8(x)
	case engine.Bool:
		t.U8[i] = truth(x != 0)
	case engine.Int16:
		t.I16[i] = int16(x)
	case engine.Uint16:
		t.U16[i] = uint16(x)
	case engine.Int32:
		t.I32[i] = int32(x)
	case engine.Uint32:
		t.U32[i] = uint32(x)
	case engine.Int64:
		t.I64[i] = x
	case engine.Uint64:
		t.U64[i] = uint64(x)
	}
}
