package task

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
)

// Floats appends the value, or each element of an array, to dst: numbers as they are, false as 0 and true as 1.
// Integers beyond 2⁵³ lose their last digits. On an error dst is returned as it was.
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

// Bytes returns the bytes of a binary. They are to be read only: where nothing had to be decoded they are the event's.
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

// elementList walks the elements of an array's text without allocating.
type elementList struct {
	rest []byte
	done bool
}

// newElements takes the text with or without its brackets: chunks have none.
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
	if typ != Bool && typ != BoolArray {
		if v, ok := exact(elem); ok {
			return v, nil
		}
		return strconv.ParseFloat(string(elem), 64)
	}
	v, err := strconv.ParseBool(string(elem))
	if err != nil || !v {
		return 0, err
	}
	return 1, nil
}

// powers are those of ten that a float64 holds exactly.
var powers = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// exact reads plain decimals of up to 15 digits, the usual values, in half of ParseFloat's time: digits and power of
// ten are then both exact, so that one operation rounds correctly. It leaves everything else to ParseFloat.
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

// mantissa reads digits with at most one point; scale of them stand behind it. It stops early beyond 15 digits.
func mantissa(text []byte) (digits uint64, count, scale int, rest []byte) {
	point := -1
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9' && count <= 15:
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

// exponent reads e+01 in its forms of one or two digits; none at all is 0.
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
