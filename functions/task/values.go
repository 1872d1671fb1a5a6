package task

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// Floats appends the value, or each element of an array, to dst: numbers unchanged, false as 0 and true as 1. A float may also be the base64 of its 4
// or 8 bytes, big-endian, as old device services write it. A text that is not a value of the reading's type, such as 300 for an Int8, is an error,
// and then dst is returned unchanged. Integers beyond 2⁵³ lose their last digits; Ranks returns all digits.
func (r *Reading) Floats(dst []float64) ([]float64, error) {
	array := r.Type.IsArray()
	if !r.Type.IsNumeric() && r.Type != Bool && r.Type != BoolArray {
		return dst, fmt.Errorf("reading %s as numbers: its type is %s", r.Resource, r.Type)
	}
	if !array {
		v, err := number(r.Type, r.Value)
		if err != nil {
			return dst, r.bad(0, err)
		}
		return append(dst, v), nil
	}
	out, list := dst, newElements(r.Value)
	for elem, ok := list.next(); ok; elem, ok = list.next() {
		v, err := number(r.Type, elem)
		if err != nil {
			return dst, r.bad(len(out)-len(dst), err)
		}
		out = append(out, v)
	}
	return out, nil
}

func (r *Reading) bad(element int, err error) error {
	return fmt.Errorf("reading %s as %s, element %d: %w", r.Resource, r.Type, element, err)
}

// Bytes returns the bytes of a binary. They are read-only: unless they were decoded they are the event's.
func (r *Reading) Bytes() ([]byte, error) {
	if r.Type != Blob {
		return nil, fmt.Errorf("reading %s as bytes: its type is %s, not %s", r.Resource, r.Type, Blob)
	}
	if r.Encoding == CBOR || r.Encoding == Binary {
		return r.Value, nil
	}
	decoded, err := base64.StdEncoding.AppendDecode(nil, r.Value)
	if err != nil {
		return nil, fmt.Errorf("reading %s as bytes: %w", r.Resource, err)
	}
	return decoded, nil
}

// elementList iterates over the elements of an array's text without allocating.
type elementList struct {
	rest []byte
	done bool
}

// newElements accepts the text with or without its brackets: chunks have none.
func newElements(text []byte) elementList {
	text = bytes.TrimSpace(text)
	if n := len(text); n >= 2 && text[0] == '[' && text[n-1] == ']' {
		text = bytes.TrimSpace(text[1 : n-1])
	}
	return elementList{rest: text, done: len(text) == 0}
}

func (l *elementList) next() (elem []byte, ok bool) {
	if l.done {
		return nil, false
	}
	i := bytes.IndexByte(l.rest, ',')
	if i < 0 {
		l.done = true
		return l.rest, true
	}
	elem, l.rest = l.rest[:i], l.rest[i+1:]
	return elem, true
}

// number reads one element in EdgeX's text, such as 42, -1.5, 1.234568e+01 or true.
func number(typ ValueType, elem []byte) (float64, error) {
	elem = bytes.TrimSpace(elem)
	switch kind := typ.Element(); kind {
	case Bool:
		v, err := strconv.ParseBool(string(elem))
		if err != nil || !v {
			return 0, err
		}
		return 1, nil
	case Float32, Float64:
		return float(kind, elem)
	default:
		return whole(kind, elem)
	}
}

// whole reads an integer in the range of its type, also in the notation of a float, such as 20.0 or 1e2.
func whole(typ ValueType, elem []byte) (float64, error) {
	if v, ok := exact(elem); ok && v == math.Trunc(v) && math.Abs(v) <= 1<<53 && v >= bounds[typ].least && v <= bounds[typ].most {
		return v, nil
	}
	bits := typ.Bits()
	if typ.IsUnsigned() {
		v, err := strconv.ParseUint(string(elem), 10, bits)
		return float64(v), err
	}
	v, err := strconv.ParseInt(string(elem), 10, bits)
	return float64(v), err
}

// float reads a number, or the base64 of one.
func float(typ ValueType, elem []byte) (float64, error) {
	if v, ok := exact(elem); ok { // below 1e37, so that a Float32 holds it
		return v, nil
	}
	if v, ok := encoded(elem); ok {
		return v, nil
	}
	v, err := strconv.ParseFloat(string(elem), 64)
	if err == nil && typ == Float32 {
		_, err = strconv.ParseFloat(string(elem), 32) // a value that rounds to the greatest one is in range
	}
	return v, err
}

// encoded reads the base64 of 4 or 8 bytes. No other notation of a number has its padding. For 4 bytes the result is the shortest decimal that
// encodes to them, as it would have been written.
func encoded(elem []byte) (float64, bool) {
	var b [9]byte
	if n := len(elem); n != 8 && n != 12 || elem[n-1] != '=' {
		return 0, false
	}
	switch n, err := base64.StdEncoding.Decode(b[:], elem); {
	case err == nil && n == 4:
		v := float64(math.Float32frombits(binary.BigEndian.Uint32(b[:])))
		var text [24]byte
		v, err = strconv.ParseFloat(string(strconv.AppendFloat(text[:0], v, 'g', -1, 32)), 64)
		return v, err == nil
	case err == nil && n == 8:
		return math.Float64frombits(binary.BigEndian.Uint64(b[:])), true
	}
	return 0, false
}

// Ranks appends the exact value or elements of 64-bit integers to dst; for other types it appends nothing. A rank is the distance from the least
// value of the type, so that ranks compare, and their differences are those of the values; see AppendRank. Call it after Floats has succeeded.
func (r *Reading) Ranks(dst []uint64) []uint64 {
	kind := r.Type.Element()
	if kind != Int64 && kind != Uint64 {
		return dst
	}
	if !r.Type.IsArray() {
		return append(dst, rank(kind, r.Value))
	}
	list := newElements(r.Value)
	for elem, ok := list.next(); ok; elem, ok = list.next() {
		dst = append(dst, rank(kind, elem))
	}
	return dst
}

// signBit is the rank of 0 in Int64.
const signBit = 1 << 63

func rank(kind ValueType, elem []byte) uint64 {
	text := string(bytes.TrimSpace(elem))
	if kind == Uint64 {
		if v, err := strconv.ParseUint(text, 10, 64); err == nil {
			return v
		}
		v, _ := exact([]byte(text)) // in the notation of a float
		return uint64(v)
	}
	if v, err := strconv.ParseInt(text, 10, 64); err == nil {
		return uint64(v) ^ signBit
	}
	v, _ := exact([]byte(text))
	return uint64(int64(v)) ^ signBit
}

// AppendRank appends the integer of a rank, in decimal digits.
func AppendRank(dst []byte, rank uint64, unsigned bool) []byte {
	if unsigned {
		return strconv.AppendUint(dst, rank, 10)
	}
	return strconv.AppendInt(dst, int64(rank^signBit), 10)
}

// powers are the powers of ten that a float64 holds exactly.
var powers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// exact reads plain decimals of up to 15 digits, the usual values, in half of ParseFloat's time: digits and power of ten are then both exact, so that
// one operation rounds correctly. It leaves all others to ParseFloat.
func exact(text []byte) (float64, bool) {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	digits, count, scale, rest := mantissa(text)
	power, ok := exponent(rest)
	power -= scale
	if !ok || count == 0 || count > 15 || power < -22 || power > 22 {
		return 0, false
	}
	v := float64(digits)
	if power < 0 {
		v /= powers[-power]
	} else {
		v *= powers[power]
	}
	if negative {
		v = -v
	}
	return v, true
}

// mantissa reads digits with at most one point; scale is the number of digits behind it. With more than 15 digits, digits is invalid.
func mantissa(text []byte) (digits uint64, count, scale int, rest []byte) {
	point := -1
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9':
			digits = digits*10 + uint64(c-'0')
			count++
		case c == '.' && point < 0:
			point = count
		default:
			return digits, count, behind(point, count), text[i:]
		}
	}
	return digits, count, behind(point, count), nil
}

func behind(point, count int) int {
	if point < 0 {
		return 0
	}
	return count - point
}

// exponent reads e+01 in its forms of one or two digits; an empty text is 0.
func exponent(text []byte) (power int, ok bool) {
	if len(text) == 0 {
		return 0, true
	}
	if text[0] != 'e' && text[0] != 'E' {
		return 0, false
	}
	text = text[1:]
	sign := 1
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		if text[0] == '-' {
			sign = -1
		}
		text = text[1:]
	}
	if len(text) == 0 || len(text) > 2 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		power = power*10 + int(c-'0')
	}
	return sign * power, true
}
