package tflite

import (
	"encoding/binary"
	"fmt"
	"math"
)

// reader reads an untrusted FlatBuffer. It keeps the first problem with its place; afterwards everything reads as zero, so that callers need only one
// check at the end.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(at int, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("byte %d: %s", at, fmt.Sprintf(format, args...))
	}
}

// has reports whether there are n bytes at that offset.
func (r *reader) has(at, n int, what string) bool {
	if r.err != nil {
		return false
	}
	if at < 0 || n < 0 || at > len(r.b) || n > len(r.b)-at {
		r.fail(at, "%s of %d bytes reaches beyond the end of the file (%d bytes)", what, n, len(r.b))
		return false
	}
	return true
}

func (r *reader) u32(at int, what string) int {
	if !r.has(at, 4, what) {
		return 0
	}
	v := binary.LittleEndian.Uint32(r.b[at:])
	if v > math.MaxInt32 { // an int has 32 bits on some machines
		r.fail(at, "%s: %d is too large", what, v)
		return 0
	}
	return int(v)
}

// follow reads a relative offset and returns its target.
func (r *reader) follow(at int, what string) int {
	offset := r.u32(at, what)
	if offset == 0 || offset > len(r.b) {
		r.fail(at, "%s: offset %d does not stay in the file", what, offset)
		return 0
	}
	return at + offset
}

// table is a table of the file; the zero table has no fields.
type table struct {
	r          *reader
	at         int
	vt, vtSize int
}

func (r *reader) table(at int, what string) table {
	if !r.has(at, 4, what) {
		return table{r: r}
	}
	vt := at - int(int32(binary.LittleEndian.Uint32(r.b[at:]))) //nolint:gosec // the offset is signed in the format
	if !r.has(vt, 4, what+"'s table of fields") {
		return table{r: r}
	}
	size := int(binary.LittleEndian.Uint16(r.b[vt:]))
	if size < 4 || !r.has(vt, size, what+"'s table of fields") {
		r.fail(vt, "%s has a table of fields of %d bytes", what, size)
		return table{r: r}
	}
	return table{r, at, vt, size}
}

// field returns the offset of the i-th field with n bytes, 0 if it is absent.
func (t table) field(i, n int) int {
	if t.vtSize < 6+2*i || t.r.err != nil {
		return 0
	}
	offset := int(binary.LittleEndian.Uint16(t.r.b[t.vt+4+2*i:]))
	if offset == 0 || !t.r.has(t.at+offset, n, "a field") {
		return 0
	}
	return t.at + offset
}

func (t table) has(i int) bool { return t.field(i, 1) != 0 }

func (t table) int8(i int) int {
	if at := t.field(i, 1); at != 0 {
		return int(int8(t.r.b[at])) //nolint:gosec // signed in the format
	}
	return 0
}

func (t table) bool(i int) bool { return t.int8(i) != 0 }

func (t table) int32(i, absent int) int {
	if at := t.field(i, 4); at != 0 {
		return int(int32(binary.LittleEndian.Uint32(t.r.b[at:]))) //nolint:gosec // signed in the format
	}
	return absent
}

func (t table) float32(i int) float32 {
	if at := t.field(i, 4); at != 0 {
		return math.Float32frombits(binary.LittleEndian.Uint32(t.r.b[at:]))
	}
	return 0
}

// vector returns the offset and the length of a vector with elements of that size.
func (t table) vector(i, size int, what string) (at, n int) {
	field := t.field(i, 4)
	if field == 0 {
		return 0, 0
	}
	at = t.r.follow(field, what)
	n = t.r.u32(at, what)
	if n > len(t.r.b)/size || !t.r.has(at+4, n*size, what) {
		t.r.fail(at, "%s says it has %d elements of %d bytes", what, n, size)
		return 0, 0
	}
	return at + 4, n
}

func (t table) bytes(i int, what string) []byte {
	at, n := t.vector(i, 1, what)
	if n == 0 {
		return nil
	}
	return t.r.b[at : at+n : at+n]
}

func (t table) string(i int, what string) string { return string(t.bytes(i, what)) }

func (t table) int32s(i int, what string) []int {
	at, n := t.vector(i, 4, what)
	list := make([]int, n)
	for k := range list {
		list[k] = int(int32(binary.LittleEndian.Uint32(t.r.b[at+4*k:]))) //nolint:gosec // signed in the format
	}
	return list
}

func (t table) float32s(i int, what string) []float32 {
	at, n := t.vector(i, 4, what)
	list := make([]float32, n)
	for k := range list {
		list[k] = math.Float32frombits(binary.LittleEndian.Uint32(t.r.b[at+4*k:]))
	}
	return list
}

func (t table) int64s(i int, what string) []int64 {
	at, n := t.vector(i, 8, what)
	list := make([]int64, n)
	for k := range list {
		list[k] = int64(binary.LittleEndian.Uint64(t.r.b[at+8*k:])) //nolint:gosec // signed in the format
	}
	return list
}

// sub returns the table that a field refers to.
func (t table) sub(i int, what string) table {
	field := t.field(i, 4)
	if field == 0 {
		return table{r: t.r}
	}
	return t.r.table(t.r.follow(field, what), what)
}

// tables returns the tables that a vector refers to.
func (t table) tables(i int, what string) []table {
	at, n := t.vector(i, 4, what)
	list := make([]table, 0, n)
	for k := range n {
		if t.r.err != nil {
			return nil
		}
		list = append(list, t.r.table(t.r.follow(at+4*k, what), what))
	}
	return list
}
