package task

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"
)

// drawTask draws a task that a record can represent to the last bit.
func drawTask(t *rapid.T) *Task {
	names := rapid.StringN(0, 12, 40)
	count := rapid.IntRange(0, maxLength)
	share := rapid.Float32Range(0, 1)
	have := &Task{
		EventID: names.Draw(t, "id"), Device: names.Draw(t, "device"), Profile: names.Draw(t, "profile"),
		Source: names.Draw(t, "source"), Resource: names.Draw(t, "resource"),
		Origin: rapid.Int64().Draw(t, "origin"), Received: rapid.Int64().Draw(t, "received"),
		Of:       rapid.IntRange(1, MaxTasks).Draw(t, "of"),
		Class:    &Class{Name: names.Draw(t, "class"), Priority: rapid.IntRange(0, maxPriority).Draw(t, "priority")},
		Critical: rapid.Bool().Draw(t, "critical"), Encoding: Encoding(rapid.IntRange(1, 4).Draw(t, "encoding")),
		Data: rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "data"), Type: ValueType(rapid.IntRange(0, int(Object)).Draw(t, "type")),
		Offset: count.Draw(t, "offset"), Count: count.Draw(t, "count"), Hole: rapid.IntRange(0, MaxTasks).Draw(t, "hole"),
		Complexity: float64(100 * share.Draw(t, "complexity")), Score: float64(share.Draw(t, "score")),
		Deadline: time.Duration(count.Draw(t, "ms")) * time.Millisecond, Policy: names.Draw(t, "policy"),
		CorrelationID: names.Draw(t, "correlation"),
	}
	have.Chunk = rapid.IntRange(0, have.Of-1).Draw(t, "chunk")
	if have.Chunk == 0 {
		for at := range rapid.IntRange(0, len(have.Data)).Draw(t, "holes") {
			have.Holes = append(have.Holes, Hole{
				Resource: names.Draw(t, "hole of"), At: at, Length: count.Draw(t, "length"), Encoding: Binary,
			})
		}
	}
	return have
}

func TestDecodeRestoresWhatAppendWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTask(t)
		have, err := Decode(want.Append(nil))
		require.NoError(t, err)
		require.Equal(t, want, have)
		event, chunk, err := Identity(want.Append(nil))
		require.NoError(t, err)
		require.Equal(t, want.EventID, event)
		require.Equal(t, want.Chunk, chunk)
	})
}

// TestDecodeReadsWhateverAppendWrites uses tasks that no part of the service makes: a record must not be lost for them.
func TestDecodeReadsWhateverAppendWrites(t *testing.T) {
	rows := []struct {
		why        string
		task, want Task
	}{
		{"no class", Task{}, Task{}},
		{"a name that is not UTF-8", Task{Device: "a\xff"}, Task{Device: "a\uFFFD"}},
		{"half a millisecond is not none", Task{Deadline: 500 * time.Microsecond}, Task{Deadline: time.Millisecond}},
		{"a deadline in the past", Task{Deadline: -5}, Task{}},
		{"a deadline in three centuries", Task{Deadline: math.MaxInt64}, Task{Deadline: maxLength * time.Millisecond}},
		{"numbers that are none", Task{Score: math.NaN(), Complexity: math.NaN()}, Task{}},
		{"numbers too large", Task{Score: 1.5, Complexity: math.Inf(1)}, Task{Score: 1, Complexity: 100}},
		{"numbers too small", Task{Score: -1, Complexity: 1e-300}, Task{}},
		{"a lane that does not exist", Task{Class: &Class{Priority: 12}}, Task{Class: &Class{Priority: 9}}},
		{"a lane below all", Task{Class: &Class{Priority: -3}}, Task{}},
		{"a hole of a name that is not UTF-8", Task{Holes: []Hole{{Resource: "\xff"}}}, Task{Holes: []Hole{{Resource: "\uFFFD"}}}},
	}
	for _, row := range rows {
		row.task.Of, row.want.Of = 1, 1
		row.task.Encoding, row.want.Encoding = JSON, JSON
		if row.want.Class == nil {
			row.want.Class = &Class{}
		}
		have, err := Decode(row.task.Append(nil))
		require.NoError(t, err, row.why)
		require.Equal(t, &row.want, have, row.why)
	}
}

// schema compiles task.proto as a reader in another language would.
func schema(t testing.TB) protoreflect.FileDescriptor {
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{}}
	files, err := compiler.Compile(t.Context(), "task.proto")
	require.NoError(t, err)
	return files[0]
}

// TestSchemaAndCodeAgree reads and writes the records with a stock protobuf library by task.proto, byte for byte.
func TestSchemaAndCodeAgree(t *testing.T) {
	desc := schema(t).Messages().ByName("Task")
	rapid.Check(t, func(t *rapid.T) {
		want := drawTask(t)
		record := want.Append(nil)
		m := dynamicpb.NewMessage(desc)
		require.NoError(t, proto.Unmarshal(record, m))
		require.Empty(t, m.GetUnknown(), "the schema has every field of the code")
		requireFields(t, want, m)
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		require.NoError(t, err)
		require.Equal(t, record, again)
	})
}

// requireFields compares by the schema's names, so that no two fields can be swapped.
func requireFields(t require.TestingT, want *Task, m *dynamicpb.Message) {
	fields := map[protoreflect.Name]any{
		"event_id": want.EventID, "device": want.Device, "profile": want.Profile, "source": want.Source,
		"resource": want.Resource, "class": want.Class.Name, "origin": want.Origin, "received": want.Received,
		"chunk": uint32(want.Chunk), "of": uint32(want.Of), "critical": want.Critical,
		"encoding": protoreflect.EnumNumber(want.Encoding), "data": want.Data,
		"value_type": protoreflect.EnumNumber(want.Type), "offset": uint64(want.Offset), "count": uint64(want.Count),
		"hole": uint32(want.Hole), "complexity": float32(want.Complexity), "deadline_ms": uint64(want.Deadline.Milliseconds()),
		"score": float32(want.Score), "policy": want.Policy, "priority": uint32(want.Class.Priority),
		"correlation_id": want.CorrelationID,
	}
	all := m.Descriptor().Fields()
	require.Len(t, fields, all.Len()-1, "a field of the schema is not compared")
	for name, value := range fields {
		require.Equal(t, value, m.Get(all.ByName(name)).Interface(), name)
	}
	holes := m.Get(all.ByName("holes")).List()
	require.Equal(t, len(want.Holes), holes.Len())
	for i, h := range want.Holes {
		got, names := holes.Get(i).Message(), all.ByName("holes").Message().Fields()
		require.Equal(t, h, Hole{
			Resource: got.Get(names.ByName("resource")).String(), At: int(got.Get(names.ByName("at")).Uint()),
			Length: int(got.Get(names.ByName("length")).Uint()), Encoding: Encoding(got.Get(names.ByName("encoding")).Enum()),
		})
	}
}

// TestSchemaNamesAgree compares the enums with the names in the code.
func TestSchemaNamesAgree(t *testing.T) {
	enums := schema(t).Enums()
	types := enums.ByName("ValueType").Values()
	require.Equal(t, int(Object)+1, types.Len())
	for v := Bool; v <= Object; v++ {
		name := string(types.ByNumber(protoreflect.EnumNumber(v)).Name())
		if v != Blob {
			require.Equal(t, strings.ToUpper(v.String()), strings.ReplaceAll(name, "_", ""))
		}
	}
	for v, name := range map[Encoding]string{JSON: "JSON", CBOR: "CBOR", Text: "TEXT", Binary: "BINARY"} {
		require.EqualValues(t, name, enums.ByName("Encoding").Values().ByNumber(protoreflect.EnumNumber(v)).Name())
	}
}

// least is the smallest possible record; rows below append to it, and of two values for a field the last one counts.
func least() []byte { return (&Task{Of: 1, Encoding: JSON}).Append(nil) }

func TestDecodeRefuses(t *testing.T) {
	number := func(field protowire.Number, v uint64) []byte { return appendUint(least(), field, v) }
	bits := func(field protowire.Number, v float32) []byte {
		return protowire.AppendFixed32(protowire.AppendTag(least(), field, protowire.Fixed32Type), math.Float32bits(v))
	}
	raw := func(field protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(least(), field, protowire.BytesType), b)
	}
	rows := []struct {
		why    string
		record []byte
		want   string
	}{
		{"nothing at all", nil, "chunk 0 of 0"},
		{"no encoding", (&Task{Of: 1}).Append(nil), "no encoding"},
		{"cut short", least()[:len(least())-1], "field 12: unexpected EOF"},
		{"a field number of 0", append(least(), 0), "invalid field number"},
		{"a length beyond the end", append(least(), 0x0a, 0x05, 'a'), "field 1: unexpected EOF"},
		{"a chunk beyond the count", number(fieldChunk, 1), "chunk 1 of 1"},
		{"too many tasks", number(fieldOf, MaxTasks+1), "field 10: 65537 is more than 65536"},
		{"an unknown encoding", number(fieldEncoding, 6), "field 12: 6 is more than 5"},
		{"an unknown type", number(fieldValueType, 27), "field 14"},
		{"an offset no int holds", number(fieldOffset, math.MaxUint64), "field 15"},
		{"a deadline no duration holds", number(fieldDeadline, math.MaxUint64), "field 20"},
		{"a lane that does not exist", number(fieldPriority, 10), "field 23"},
		{"a score above 1", bits(fieldScore, 1.5), "field 21: 1.5 is not between 0 and 1"},
		{"a complexity that is no number", bits(fieldComplexity, float32(math.NaN())), "field 19: NaN"},
		{"a name that is not UTF-8", raw(fieldDevice, []byte("a\xff")), `field 2: "a\xff" is not UTF-8`},
		{"a hole beyond the data", raw(fieldHoles, appendUint(nil, holeAt, 1)), "hole 0 at 1 is not between 0 and 0"},
		{"a torn hole", raw(fieldHoles, []byte{0x10}), "field 18: field 2: unexpected EOF"},
		{"a chunk with holes", (&Task{Of: 2, Chunk: 1, Encoding: Text, Holes: []Hole{{}}}).Append(nil), "which only a frame has"},
	}
	for _, row := range rows {
		_, err := Decode(row.record)
		require.ErrorContains(t, err, row.want, row.why)
	}
}

// TestDecodeSkipsWhatItDoesNotKnow lets a later version add fields.
func TestDecodeSkipsWhatItDoesNotKnow(t *testing.T) {
	b := appendUint(least(), 99, 7)
	b = appendText(b, 100, "later")
	b = protowire.AppendFixed64(protowire.AppendTag(b, 101, protowire.Fixed64Type), 1)
	b = protowire.AppendFixed32(protowire.AppendTag(b, 102, protowire.Fixed32Type), 1)
	b = appendUint(b, fieldEventID, 1) // a known number of another kind is another field
	hole := appendText(nil, holeResource, "r")
	hole = appendUint(hole, holeAt, 3)
	hole = appendUint(hole, holeResource, 1)
	hole = appendText(hole, holeAt, "x")
	hole = appendText(hole, holeLength, "x")
	hole = appendText(hole, holeEncoding, "x")
	b = protowire.AppendBytes(protowire.AppendTag(b, fieldHoles, protowire.BytesType), hole)
	b = appendText(b, fieldData, "abc")
	have, err := Decode(b)
	require.NoError(t, err)
	require.Equal(t, &Task{Of: 1, Encoding: JSON, Class: &Class{}, Data: []byte("abc"), Holes: []Hole{{Resource: "r", At: 3}}}, have)
}

func TestDecodeBoundsHoles(t *testing.T) {
	b := least()
	for range MaxTasks + 1 {
		b = protowire.AppendBytes(protowire.AppendTag(b, fieldHoles, protowire.BytesType), nil)
	}
	_, err := Decode(b)
	require.ErrorContains(t, err, "more than 65536 holes")
}

// FuzzDecode decodes arbitrary bytes. A decoded task must equal the one decoded from its own record, and Join must accept it without panic.
func FuzzDecode(f *testing.F) {
	f.Add(least())
	f.Add([]byte{})
	f.Add([]byte{0x92, 0x01, 0x02, 0x10, 0x01})
	small := newEvent().add("V", Int8Array, "[1, 2, 3]").event() // large seeds take the fuzzer long to minimise
	for _, t := range Split(small, always(class(f, ClassConfig{ChunkSize: 2})), nil) {
		f.Add(t.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		event, chunk, err2 := Identity(b)
		have, err := Decode(b)
		if err != nil {
			return
		}
		require.NoError(t, err2)
		require.Equal(t, have.EventID, event)
		require.Equal(t, have.Chunk, chunk)
		again, err := Decode(have.Append(nil))
		require.NoError(t, err)
		if len(have.Data) == 0 {
			have.Data, again.Data = nil, nil
		}
		require.Equal(t, have, again)
		_, _ = Join([]*Task{have})
		_, _ = Join([]*Task{have, {EventID: have.EventID, Of: have.Of, Chunk: 1, Encoding: Text, Data: []byte("1"), Count: 1}})
	})
}

// FuzzSplit splits arbitrary bytes anywhere; Join must restore them for any positions.
func FuzzSplit(f *testing.F) {
	f.Add([]byte(`{"value":"[1, 2, 3, 4, 5]"}`), 10, 25, byte(Int8Array), 2, true)
	f.Add([]byte(`{"binaryValue":"AAECAwQ="}`), 16, 24, byte(Blob), 1, false)
	f.Fuzz(func(t *testing.T, raw []byte, start, end int, typ byte, size int, json bool) {
		if start < 0 || end < start || end > len(raw) {
			return // intake places values inside of the event
		}
		r := Reading{Resource: "R", Type: ValueType(typ), Start: start, End: end, Value: raw[start:end]}
		ev := &Event{ID: "e", Raw: raw, Encoding: CBOR, Readings: []Reading{r, r}, Tags: raw}
		if json {
			ev.Encoding = JSON
		}
		c := &Class{ChunkSize: min(size, 1<<20), Critical: Critical{Low: -1, High: 1, Tag: "a"}}
		have, err := Join(Split(ev, always(c), nil))
		require.NoError(t, err)
		require.Equal(t, string(raw), string(have))
	})
}

// The correlation id of the envelope is stored in the record, with any content, and is bounded.
func TestTheCorrelationIDTravels(t *testing.T) {
	for id, want := range map[string]string{"": "", "c-1": "c-1", strings.Repeat("x", 1000): strings.Repeat("x", 128), "a\xff": "a\uFFFD"} {
		ev := &Event{ID: "e", CorrelationID: id, Encoding: JSON, Raw: []byte("{}")}
		tasks := Split(ev, func(string) *Class { return &Class{Name: "c"} }, nil)
		back, err := Decode(tasks[0].Append(nil))
		require.NoError(t, err)
		require.Equal(t, want, back.CorrelationID)
	}
}

// The ends of each range are valid, and nothing beyond.
func TestFieldsHaveRanges(t *testing.T) {
	for v, fine := range map[float64]bool{0: true, 0.5: true, 1: true, -0.1: false, 1.1: false, math.Inf(1): false, math.Inf(-1): false} {
		have, err := share(v, 1)
		require.Equal(t, fine, err == nil, "%v", v)
		if fine {
			require.InDelta(t, v, have, 0)
		}
	}
	_, err := share(math.NaN(), 1)
	require.Error(t, err)
	for v, fine := range map[uint64]bool{0: true, 5: true, 6: false, math.MaxUint64: false} {
		have, err := within(v, 5)
		require.Equal(t, fine, err == nil, "%v", v)
		require.Equal(t, fine, uint64(have) == v) //nolint:gosec // not below 0
	}
	for name, c := range map[string]struct {
		one  Task
		fine bool
	}{
		"whole":                {Task{Of: 1, Encoding: JSON}, true},
		"of none":              {Task{Of: 0, Encoding: JSON}, false},
		"the last":             {Task{Chunk: 1, Of: 2, Encoding: Text}, true},
		"beyond the last":      {Task{Chunk: 2, Of: 2, Encoding: Text}, false},
		"no encoding":          {Task{Of: 1}, false},
		"a hole at both ends":  {Task{Of: 2, Encoding: JSON, Data: []byte("ab"), Holes: []Hole{{At: 0}, {At: 2}}}, true},
		"two holes at a place": {Task{Of: 2, Encoding: JSON, Data: []byte("ab"), Holes: []Hole{{At: 1}, {At: 1}}}, true},
		"holes in disorder":    {Task{Of: 2, Encoding: JSON, Data: []byte("ab"), Holes: []Hole{{At: 2}, {At: 1}}}, false},
		"a hole beyond":        {Task{Of: 2, Encoding: JSON, Data: []byte("ab"), Holes: []Hole{{At: 3}}}, false},
		"a chunk with a hole":  {Task{Chunk: 1, Of: 2, Encoding: JSON, Data: []byte("ab"), Holes: []Hole{{At: 1}}}, false},
	} {
		require.Equal(t, c.fine, c.one.verify() == nil, name)
	}
}

// A negative deadline is written as none: a record has no negative numbers.
func TestADeadlineBelowZeroIsNone(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{-time.Hour: 0, -1: 0, 0: 0, 1: time.Millisecond, time.Millisecond: time.Millisecond, math.MaxInt64: maxLength * time.Millisecond} {
		x := &Task{EventID: "e", Of: 1, Class: &Class{Name: "c"}, Encoding: JSON, Data: []byte("{}"), Deadline: d}
		got, err := Decode(x.Append(nil))
		require.NoError(t, err)
		require.Equal(t, want, got.Deadline, "%v", d)
	}
}
