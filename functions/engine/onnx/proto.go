package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is a part of a file in protobuf's wire format. It is untrusted.
type message struct {
	b    []byte
	at   int // offset of its first byte in the file
	what string
}

// field is one field of a message.
type field struct {
	num  protowire.Number
	kind protowire.Type
	n    uint64 // value of a number
	b    []byte // bytes of a string, message or packed list
	at   int    // offset of b, or of the number
	of   string
}

// each calls f for all fields, in order.
func (m message) each(f func(field) error) error {
	for b := m.b; len(b) > 0; {
		at := m.at + len(m.b) - len(b)
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("byte %d: expected a field of %s: %w", at, m.what, protowire.ParseError(n))
		}
		one := field{num: num, kind: kind, at: at + n, of: m.what}
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			one.n, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			one.n = uint64(v)
		case protowire.Fixed64Type:
			one.n, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			one.b, n = protowire.ConsumeBytes(b)
			one.at += n - len(one.b)
		default:
			n = protowire.ConsumeFieldValue(num, kind, b)
		}
		if n < 0 {
			return fmt.Errorf("byte %d: expected the value of field %d of %s: %w", at, num, m.what, protowire.ParseError(n))
		}
		b = b[n:]
		if err := f(one); err != nil {
			return err
		}
	}
	return nil
}

var wireTypes = map[protowire.Type]string{
	protowire.VarintType: "an integer", protowire.Fixed32Type: "32 bits", protowire.Fixed64Type: "64 bits", protowire.BytesType: "a length and bytes",
}

func (f field) want(kind protowire.Type) error {
	if f.kind == kind {
		return nil
	}
	return fmt.Errorf("byte %d: field %d of %s: expected %s, found wire type %d", f.at, f.num, f.of, wireTypes[kind], f.kind)
}

// message opens a field as a message and calls each for its fields.
func (f field) message(what string, each func(field) error) error {
	if err := f.want(protowire.BytesType); err != nil {
		return err
	}
	return message{f.b, f.at, what}.each(each)
}

func (f field) int(to *int64) error {
	*to = int64(f.n) //nolint:gosec // the bits of an int64
	return f.want(protowire.VarintType)
}

func (f field) string(to *string) error {
	*to = string(f.b)
	return f.want(protowire.BytesType)
}

func (f field) float(to *float32) error {
	*to = math.Float32frombits(uint32(f.n)) //nolint:gosec // the bits of a float32
	return f.want(protowire.Fixed32Type)
}

// ints appends a number, or a packed list of numbers. A list is never longer than its bytes.
func (f field) ints(to *[]int64) error {
	if f.kind != protowire.BytesType {
		*to = append(*to, int64(f.n)) //nolint:gosec // the bits of an int64
		return f.want(protowire.VarintType)
	}
	for b := f.b; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return fmt.Errorf("byte %d: expected an integer of %s: %w", f.at+len(f.b)-len(b), f.of, protowire.ParseError(n))
		}
		*to = append(*to, int64(v)) //nolint:gosec // the bits of an int64
		b = b[n:]
	}
	return nil
}

// floats appends numbers of 32 bits, packed or not.
func (f field) floats(to *[]float32) error {
	if f.kind != protowire.BytesType {
		*to = append(*to, math.Float32frombits(uint32(f.n))) //nolint:gosec // the bits of a float32
		return f.want(protowire.Fixed32Type)
	}
	if len(f.b)%4 != 0 {
		return fmt.Errorf("byte %d: %s: expected numbers of 4 bytes, found %d bytes", f.at, f.of, len(f.b))
	}
	for i := 0; i < len(f.b); i += 4 {
		*to = append(*to, math.Float32frombits(binary.LittleEndian.Uint32(f.b[i:])))
	}
	return nil
}

// doubles appends numbers of 64 bits.
func (f field) doubles(to *[]float64) error {
	if f.kind != protowire.BytesType {
		*to = append(*to, math.Float64frombits(f.n))
		return f.want(protowire.Fixed64Type)
	}
	if len(f.b)%8 != 0 {
		return fmt.Errorf("byte %d: %s: expected numbers of 8 bytes, found %d bytes", f.at, f.of, len(f.b))
	}
	for i := 0; i < len(f.b); i += 8 {
		*to = append(*to, math.Float64frombits(binary.LittleEndian.Uint64(f.b[i:])))
	}
	return nil
}

var errDeep = errors.New("graphs within graphs are not supported")
