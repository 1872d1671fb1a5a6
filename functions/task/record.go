package task

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The field numbers of the messages in task.proto, which describes them.
const (
	fieldEventID protowire.Number = iota + 1
	fieldDevice
	fieldProfile
	fieldSource
	fieldResource
	fieldClass
	fieldOrigin
	fieldReceived
	fieldChunk
	fieldOf
	fieldCritical
	fieldEncoding
	fieldData
	fieldValueType
	fieldOffset
	fieldCount
	fieldHole
	fieldHoles
	fieldComplexity
	fieldDeadline
	fieldScore
	fieldPolicy
	fieldPriority
	fieldCorrelationID
)

const (
	holeResource protowire.Number = iota + 1
	holeAt
	holeLength
	holeEncoding
)

// maxCorrelationID is the number of bytes kept of a correlation id. EdgeX uses UUIDs; other senders may write anything.
const maxCorrelationID = 128

// maxLength bounds offsets and counts, so that they fit an int everywhere.
const maxLength = math.MaxInt32

// Append appends the task's record, the form in which it is stored and sent, to dst. Decode reads everything that Append writes: names that are not
// UTF-8 are repaired, numbers out of range are clamped, and a deadline is rounded up to whole milliseconds, as 0 would mean none. Append does not
// allocate if dst is large enough.
func (t *Task) Append(dst []byte) []byte {
	dst = appendText(dst, fieldEventID, t.EventID)
	dst = appendText(dst, fieldDevice, t.Device)
	dst = appendText(dst, fieldProfile, t.Profile)
	dst = appendText(dst, fieldSource, t.Source)
	dst = appendText(dst, fieldResource, t.Resource)
	if t.Class != nil {
		dst = appendText(dst, fieldClass, t.Class.Name)
	}
	dst = appendUint(dst, fieldOrigin, uint64(t.Origin))
	dst = appendUint(dst, fieldReceived, uint64(t.Received))
	dst = appendUint(dst, fieldChunk, uint64(t.Chunk))
	dst = appendUint(dst, fieldOf, uint64(t.Of))
	dst = appendUint(dst, fieldCritical, protowire.EncodeBool(t.Critical))
	dst = appendUint(dst, fieldEncoding, uint64(t.Encoding))
	if len(t.Data) > 0 {
		dst = protowire.AppendTag(dst, fieldData, protowire.BytesType)
		dst = protowire.AppendBytes(dst, t.Data)
	}
	dst = appendUint(dst, fieldValueType, uint64(t.Type))
	dst = appendUint(dst, fieldOffset, uint64(t.Offset))
	dst = appendUint(dst, fieldCount, uint64(t.Count))
	dst = appendUint(dst, fieldHole, uint64(t.Hole))
	for i := range t.Holes {
		dst = t.Holes[i].append(dst)
	}
	dst = appendFloat(dst, fieldComplexity, t.Complexity, 100)
	dst = appendUint(dst, fieldDeadline, milliseconds(t.Deadline))
	dst = appendFloat(dst, fieldScore, t.Score, 1)
	dst = appendText(dst, fieldPolicy, t.Policy)
	if t.Class != nil {
		dst = appendUint(dst, fieldPriority, uint64(min(max(t.Class.Priority, 0), maxPriority)))
	}
	return appendText(dst, fieldCorrelationID, t.CorrelationID[:min(len(t.CorrelationID), maxCorrelationID)])
}

func (h *Hole) append(dst []byte) []byte {
	size := sizeText(holeResource, h.Resource) + sizeUint(holeAt, uint64(h.At)) +
		sizeUint(holeLength, uint64(h.Length)) + sizeUint(holeEncoding, uint64(h.Encoding))
	dst = protowire.AppendTag(dst, fieldHoles, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(size))
	dst = appendText(dst, holeResource, h.Resource)
	dst = appendUint(dst, holeAt, uint64(h.At))
	dst = appendUint(dst, holeLength, uint64(h.Length))
	return appendUint(dst, holeEncoding, uint64(h.Encoding))
}

// appendText repairs text that is not UTF-8: readers in other languages reject a whole batch for it.
func appendText(dst []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendString(dst, valid(s))
}

func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func appendUint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

// milliseconds rounds up, and clamps to the range of Decode.
func milliseconds(d time.Duration) uint64 {
	d = min(max(d, 0), maxLength*time.Millisecond)
	return uint64((d + time.Millisecond - 1) / time.Millisecond)
}

// appendFloat writes v clamped to [0, high]; NaN becomes 0.
func appendFloat(dst []byte, num protowire.Number, v, high float64) []byte {
	f := float32(min(v, high))
	if !(f > 0) {
		return dst
	}
	return protowire.AppendFixed32(protowire.AppendTag(dst, num, protowire.Fixed32Type), math.Float32bits(f))
}

func sizeText(num protowire.Number, s string) int {
	if s == "" {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeBytes(len(valid(s)))
}

func sizeUint(num protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}

// Decode reads a record. The task's Data points into b, which must not change afterwards; its Class has name and priority only, and it has no
// Readings. Unknown fields are skipped. Any input is safe: the result is a task within the limits of Split, or an error, and the memory used is in
// proportion to b.
func Decode(b []byte) (*Task, error) {
	d := &decoder{}
	d.task.Class = &d.class
	if err := d.message(b, d.field); err != nil {
		return nil, fmt.Errorf("decoding a task: %w", err)
	}
	if err := d.task.verify(); err != nil {
		return nil, fmt.Errorf("decoding a task of event %q: %w", d.task.EventID, err)
	}
	return &d.task, nil
}

// Identity reads only the event's id and the number of the chunk from a record. It does not check the other fields.
func Identity(b []byte) (eventID string, chunk int, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", 0, fmt.Errorf("reading the identity of a task: %w", protowire.ParseError(n))
		}
		v := b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, v); n < 0 {
			return "", 0, fmt.Errorf("reading the identity of a task: %w", protowire.ParseError(n))
		}
		b = v[n:]
		switch {
		case num == fieldEventID && typ == protowire.BytesType:
			id, _ := protowire.ConsumeBytes(v) // it was consumed above
			eventID = string(id)
		case num == fieldChunk && typ == protowire.VarintType:
			number, _ := protowire.ConsumeVarint(v)
			chunk = int(min(number, maxLength)) // Decode rejects larger numbers
		}
	}
	return eventID, chunk, nil
}

// decoder holds a task with its class, so that a record costs one allocation for both.
type decoder struct {
	task  Task
	class Class
}

// value is one field on the wire: a number or bytes, by its wire type.
type value struct {
	typ   protowire.Type
	num   uint64
	bytes []byte
}

// message passes each field to set, and skips wire types that the format does not use.
func (d *decoder) message(b []byte, set func(protowire.Number, value) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		v := value{typ: typ}
		switch typ {
		case protowire.VarintType:
			v.num, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var bits uint32
			bits, n = protowire.ConsumeFixed32(b)
			v.num = uint64(bits)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
		}
		b = b[n:]
		if err := set(num, v); err != nil {
			return fmt.Errorf("field %d: %w", num, err)
		}
	}
	return nil
}

// field sets one field of the task. A field of an unexpected wire type counts as unknown.
func (d *decoder) field(num protowire.Number, v value) error {
	switch v.typ {
	case protowire.VarintType:
		return d.number(num, v.num)
	case protowire.Fixed32Type:
		return d.float(num, float64(math.Float32frombits(uint32(v.num))))
	case protowire.BytesType:
		return d.bytes(num, v.bytes)
	}
	return nil
}

func (d *decoder) number(num protowire.Number, v uint64) (err error) {
	t := &d.task
	switch num {
	case fieldOrigin:
		t.Origin = int64(v)
	case fieldReceived:
		t.Received = int64(v)
	case fieldChunk:
		t.Chunk, err = within(v, MaxTasks-1)
	case fieldOf:
		t.Of, err = within(v, MaxTasks)
	case fieldCritical:
		t.Critical = protowire.DecodeBool(v)
	case fieldEncoding:
		t.Encoding, err = encoding(v)
	case fieldValueType:
		var n int
		n, err = within(v, int(Object))
		t.Type = ValueType(n)
	case fieldOffset:
		t.Offset, err = within(v, maxLength)
	case fieldCount:
		t.Count, err = within(v, maxLength)
	case fieldHole:
		t.Hole, err = within(v, MaxTasks)
	case fieldDeadline:
		var ms int
		ms, err = within(v, maxLength)
		t.Deadline = time.Duration(ms) * time.Millisecond
	case fieldPriority:
		d.class.Priority, err = within(v, maxPriority)
	}
	return err
}

func (d *decoder) float(num protowire.Number, v float64) (err error) {
	switch num {
	case fieldComplexity:
		d.task.Complexity, err = share(v, 100)
	case fieldScore:
		d.task.Score, err = share(v, 1)
	}
	return err
}

func (d *decoder) bytes(num protowire.Number, v []byte) (err error) {
	t := &d.task
	switch num {
	case fieldEventID:
		t.EventID, err = text(v)
	case fieldDevice:
		t.Device, err = text(v)
	case fieldProfile:
		t.Profile, err = text(v)
	case fieldSource:
		t.Source, err = text(v)
	case fieldResource:
		t.Resource, err = text(v)
	case fieldClass:
		d.class.Name, err = text(v)
	case fieldData:
		t.Data = v[:len(v):len(v)]
	case fieldPolicy:
		t.Policy, err = text(v)
	case fieldCorrelationID:
		t.CorrelationID, err = text(v)
	case fieldHoles:
		err = d.hole(v)
	}
	return err
}

func (d *decoder) hole(b []byte) error {
	if len(d.task.Holes) == MaxTasks {
		return fmt.Errorf("more than %d holes", MaxTasks)
	}
	var h Hole
	err := d.message(b, func(num protowire.Number, v value) (err error) {
		switch {
		case num == holeResource && v.typ == protowire.BytesType:
			h.Resource, err = text(v.bytes)
		case num == holeAt && v.typ == protowire.VarintType:
			h.At, err = within(v.num, maxLength)
		case num == holeLength && v.typ == protowire.VarintType:
			h.Length, err = within(v.num, maxLength)
		case num == holeEncoding && v.typ == protowire.VarintType:
			h.Encoding, err = encoding(v.num)
		}
		return err
	})
	d.task.Holes = append(d.task.Holes, h)
	return err
}

// verify checks that the fields are consistent, once all are read.
func (t *Task) verify() error {
	if t.Of < 1 || t.Chunk >= t.Of {
		return fmt.Errorf("chunk %d of %d does not exist", t.Chunk, t.Of)
	}
	if t.Encoding == 0 {
		return errors.New("it has no encoding")
	}
	if t.Chunk > 0 && len(t.Holes) > 0 {
		return fmt.Errorf("chunk %d has holes, which only a frame has", t.Chunk)
	}
	last := 0
	for i, h := range t.Holes {
		if h.At < last || h.At > len(t.Data) {
			return fmt.Errorf("hole %d at %d is not between %d and %d", i, h.At, last, len(t.Data))
		}
		last = h.At
	}
	return nil
}

func within(v uint64, high int) (int, error) {
	if v > uint64(high) {
		return 0, fmt.Errorf("%d is more than %d", v, high)
	}
	return int(v), nil
}

func share(v, high float64) (float64, error) {
	if !(v >= 0 && v <= high) {
		return 0, fmt.Errorf("%v is not between 0 and %v", v, high)
	}
	return v, nil
}

func encoding(v uint64) (Encoding, error) {
	n, err := within(v, int(Raw))
	return Encoding(n), err
}

func text(b []byte) (string, error) {
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%q is not UTF-8", b[:min(len(b), 32)])
	}
	return string(b), nil
}
