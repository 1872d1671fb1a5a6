package task

import "math"

// ValueType is an EdgeX value type.
type ValueType uint8

// The value types of EdgeX 3.1. Arrays follow their element type.
const (
	Unknown ValueType = iota
	Bool
	String
	Uint8
	Uint16
	Uint32
	Uint64
	Int8
	Int16
	Int32
	Int64
	Float32
	Float64
	BoolArray
	StringArray
	Uint8Array
	Uint16Array
	Uint32Array
	Uint64Array
	Int8Array
	Int16Array
	Int32Array
	Int64Array
	Float32Array
	Float64Array
	Blob   // "Binary"
	Object // "Object"
)

var typeNames = [...]string{
	"", "Bool", "String", "Uint8", "Uint16", "Uint32", "Uint64", "Int8", "Int16", "Int32", "Int64", "Float32", "Float64",
	"BoolArray", "StringArray", "Uint8Array", "Uint16Array", "Uint32Array", "Uint64Array", "Int8Array", "Int16Array",
	"Int32Array", "Int64Array", "Float32Array", "Float64Array", "Binary", "Object",
}

// String returns the type's EdgeX name, "" for Unknown.
func (t ValueType) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return ""
}

// IsArray reports whether values of the type are arrays.
func (t ValueType) IsArray() bool { return t >= BoolArray && t <= Float64Array }

// IsNumeric reports whether the value, or each element of it, is a number.
func (t ValueType) IsNumeric() bool {
	return (t >= Uint8 && t <= Float64) || (t >= Uint8Array && t <= Float64Array)
}

// ParseType returns the type of an EdgeX name without allocating.
func ParseType(name []byte) (ValueType, bool) {
	for i := 1; i < len(typeNames); i++ {
		if typeNames[i] == string(name) {
			return ValueType(i), true
		}
	}
	return Unknown, false
}

// Element returns the type of an array's elements, and any other type itself.
func (t ValueType) Element() ValueType {
	if t.IsArray() {
		return t - BoolArray + Bool
	}
	return t
}

// IsInteger reports whether the value, or each element of it, is an integer.
func (t ValueType) IsInteger() bool {
	e := t.Element()
	return e >= Uint8 && e <= Int64
}

// IsUnsigned reports whether the value, or each element of it, is an unsigned integer.
func (t ValueType) IsUnsigned() bool {
	e := t.Element()
	return e >= Uint8 && e <= Uint64
}

// Bits is the size of the integer, or of each element: 8 to 64. It is 0 for other types.
func (t ValueType) Bits() int {
	if !t.IsInteger() {
		return 0
	}
	if t.IsUnsigned() {
		return 8 << (t.Element() - Uint8)
	}
	return 8 << (t.Element() - Int8)
}

// bounds are the least and greatest value of each integer type; for 64 bits they are the nearest float64.
var bounds = func() (table [len(typeNames)]struct{ least, most float64 }) {
	for t := Uint8; t <= Uint64; t++ {
		table[t].most = math.Ldexp(1, t.Bits()) - 1
	}
	for t := Int8; t <= Int64; t++ {
		table[t].least, table[t].most = -math.Ldexp(1, t.Bits()-1), math.Ldexp(1, t.Bits()-1)-1
	}
	return table
}()
