package tflite

import (
	"encoding/binary"
	"math"
)

// member is a field of a table of a FlatBuffer: a scalar is in the table itself, other members are behind it.
type member interface {
	// put writes the member at the end and returns its offset.
	put(f *flatFile) int
}

// object is a table: its members by field number.
type object map[int]member

// scalar is a number of up to 32 bits. All scalars use four bytes: the bytes of a smaller one come first.
type scalar uint32

func (s scalar) put(*flatFile) int { return 0 }

type (
	list   []object
	ints   []int
	longs  []int64
	floats []float32
	text   string
	blob   []byte
)

// flatFile grows from its front: targets are behind their references, so that all offsets are positive.
type flatFile struct{ b []byte }

// flat returns the file of a model's table.
func flat(root object) []byte {
	f := &flatFile{b: append(make([]byte, 4), "TFL3"...)}
	f.name(0, root.put(f))
	return f.b
}

// align appends zeros until the offset after skip more bytes is a multiple of to.
func (f *flatFile) align(to, skip int) {
	for (len(f.b)+skip)%to != 0 {
		f.b = append(f.b, 0)
	}
}

func (f *flatFile) u16(v int) { f.b = binary.LittleEndian.AppendUint16(f.b, uint16(v)) } //nolint:gosec // sizes of tables
func (f *flatFile) u32(v int) { f.b = binary.LittleEndian.AppendUint32(f.b, uint32(v)) } //nolint:gosec // the bits

// name writes the relative offset from one place to another.
func (f *flatFile) name(at, to int) { binary.LittleEndian.PutUint32(f.b[at:], uint32(to-at)) } //nolint:gosec // positive

func (o object) put(f *flatFile) int {
	fields := 0
	for id := range o {
		fields = max(fields, id+1)
	}
	size := 4 + 2*fields
	f.align(4, size)
	fore := len(f.b)
	f.u16(size)
	f.u16(4 + 4*len(o))
	slot := 4
	for id := range fields {
		if o[id] == nil {
			f.u16(0)
			continue
		}
		f.u16(slot)
		slot += 4
	}
	at := len(f.b)
	f.u32(at - fore)
	for id := range fields {
		if s, ok := o[id].(scalar); ok {
			f.u32(int(s))
		} else if o[id] != nil {
			f.u32(0)
		}
	}
	slot = at + 4
	for id := range fields {
		if o[id] == nil {
			continue
		}
		if _, ok := o[id].(scalar); !ok {
			f.name(slot, o[id].put(f))
		}
		slot += 4
	}
	return at
}

// vector begins a list whose elements are aligned to a size.
func (f *flatFile) vector(n, align int) int {
	f.align(max(align, 4), 4)
	f.u32(n)
	return len(f.b) - 4
}

func (l list) put(f *flatFile) int {
	at := f.vector(len(l), 4)
	f.b = append(f.b, make([]byte, 4*len(l))...)
	for i, o := range l {
		f.name(at+4+4*i, o.put(f))
	}
	return at
}

func (l ints) put(f *flatFile) int {
	at := f.vector(len(l), 4)
	for _, v := range l {
		f.u32(v)
	}
	return at
}

func (l longs) put(f *flatFile) int {
	at := f.vector(len(l), 8)
	for _, v := range l {
		f.b = binary.LittleEndian.AppendUint64(f.b, uint64(v)) //nolint:gosec // the bits
	}
	return at
}

func (l floats) put(f *flatFile) int {
	at := f.vector(len(l), 4)
	for _, v := range l {
		f.b = binary.LittleEndian.AppendUint32(f.b, math.Float32bits(v))
	}
	return at
}

func (t text) put(f *flatFile) int {
	at := f.vector(len(t), 4)
	f.b = append(append(f.b, t...), 0)
	return at
}

// put writes data aligned to 16 bytes, as TensorFlow Lite requires.
func (b blob) put(f *flatFile) int {
	at := f.vector(len(b), 16)
	f.b = append(f.b, b...)
	return at
}
