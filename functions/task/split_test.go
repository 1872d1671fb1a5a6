package task

import (
	"bytes"
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
)

func chunkNumbers(tasks []*Task) (n []int) {
	for _, t := range tasks {
		n = append(n, t.Chunk)
	}
	return n
}

func TestSplitLeavesSmallEventsWhole(t *testing.T) {
	small := class(t, ClassConfig{ChunkSize: 4})
	never := class(t, ClassConfig{ChunkSize: -1})
	rows := []struct {
		why   string
		class *Class
		ev    *Event
	}{
		{"scalars have nothing to cut", small, newEvent().add("T", Float64, "1.5e+00").event()},
		{"exactly ChunkSize elements is not more", small, newEvent().add("V", Int8Array, "[1, 2, 3, 4]").event()},
		{"exactly ChunkSize KiB is not more", small, newEvent().binary("I", noise(4*kib)).event()},
		{"-1 never splits", never, newEvent().add("V", Int8Array, "[1, 2, 3, 4, 5]").binary("I", noise(9*kib)).event()},
		{"long text and objects are no lists", small, newEvent().add("S", String, strings.Repeat("a,", 9000)).event()},
		{"text that looks like a binary stays text", small, newEvent().add("S", String, base64.StdEncoding.EncodeToString(noise(9*kib))).event()},
		{"nor is an object", small, newEvent().add("O", Object, strings.Repeat("AAAA", 9000)).event()},
		{"no rule finds the elements of texts", small, newEvent().add("V", StringArray, "["+strings.Repeat("a, ", 9000)+"a]").event()},
		{"an empty array has no elements", small, newEvent().add("V", Int8Array, "[]").event()},
		{"a value without a place cannot be cut", small, &Event{ID: "x", Encoding: JSON, Raw: []byte("{}"), Readings: []Reading{
			{Resource: "V", Type: Int8Array, Value: []byte("[1, 2, 3, 4, 5]")},
		}}},
		{"base64 with a bit set in its padding would not come back", small, newEvent().add("I", Blob, strings.Repeat("AAAA", 2000)+"AB==").event()},
		{"base64 with a line break would not come back", small, newEvent().add("I", Blob, strings.Repeat("AAAA", 2000)+"\n").event()},
		{"invalid base64 stays unchanged", small, newEvent().add("I", Blob, strings.Repeat("*", 9000)).event()},
	}
	for _, row := range rows {
		tasks := Split(row.ev, always(row.class), nil)
		require.Len(t, tasks, 1, row.why)
		have := tasks[0]
		require.Equal(t, 0, have.Chunk, row.why)
		require.Equal(t, 1, have.Of, row.why)
		require.Equal(t, row.ev.Raw, have.Data, row.why)
		require.Equal(t, row.ev.Readings, have.Readings, row.why)
		require.Same(t, row.class, have.Class, row.why)
		raw, err := Join(tasks)
		require.NoError(t, err, row.why)
		require.Equal(t, row.ev.Raw, raw, row.why)
	}
}

func TestSplitArray(t *testing.T) {
	ev := newEvent().add("T", Int8, "5").add("V", Int16Array, "[1, 2, 3, 4, 5]").add("U", Int8, "6").event()
	c := class(t, ClassConfig{ChunkSize: 2, Complexity: 33, Deadline: "80ms"})
	tasks := Split(ev, always(c), nil)
	require.Equal(t, []int{0, 1, 2, 3}, chunkNumbers(tasks))

	frame := tasks[0]
	require.Equal(t, strings.Replace(string(ev.Raw), "1, 2, 3, 4, 5", "", 1), string(frame.Data))
	require.Equal(t, []Hole{{Resource: "V", At: ev.Readings[1].Start + 1, Length: 5, Encoding: Text}}, frame.Holes)
	require.Equal(t, []Reading{ev.Readings[0], ev.Readings[2]}, frame.Readings, "the frame keeps the other readings")

	for i, want := range []string{"1, 2", " 3, 4", " 5"} {
		chunk := tasks[i+1]
		require.Equal(t, want, string(chunk.Data))
		require.Equal(t, Text, chunk.Encoding)
		require.Equal(t, 2*i, chunk.Offset)
		require.Equal(t, min(2, 5-2*i), chunk.Count)
		require.Equal(t, "V", chunk.Resource)
		require.Equal(t, Int16Array, chunk.Type)
		require.Equal(t, []any{ev.ID, ev.Device, ev.Profile, ev.Source, ev.Origin, ev.Received, 4},
			[]any{chunk.EventID, chunk.Device, chunk.Profile, chunk.Source, chunk.Origin, chunk.Received, chunk.Of})
		require.Equal(t, []any{c.Complexity, c.Deadline}, []any{chunk.Complexity, chunk.Deadline})
	}
	require.Same(t, &ev.Raw[ev.Readings[1].Start+1], &tasks[1].Data[0], "chunks of arrays are not copied")
	values, err := tasks[2].Readings[0].Floats(nil)
	require.NoError(t, err)
	require.Equal(t, []float64{3, 4}, values, "operators compute on a chunk as on an array")
}

func TestSplitBinary(t *testing.T) {
	blob := noise(2*kib + 1) // 1 KiB is not a multiple of 3: chunks end inside of base64 groups
	one := class(t, ClassConfig{ChunkSize: 1})
	for _, ev := range []*Event{newEvent().binary("Image", blob).event(), cborEvent(t, "[1]", blob)} {
		tasks := Split(ev, always(one), nil)
		require.Equal(t, []int{0, 1, 2, 3}, chunkNumbers(tasks))
		var got []byte
		for _, chunk := range tasks[1:] {
			require.Equal(t, Binary, chunk.Encoding)
			part, err := chunk.Readings[0].Bytes()
			require.NoError(t, err)
			got = append(got, part...)
		}
		require.Equal(t, blob, got)
		raw, err := Join(tasks)
		require.NoError(t, err)
		require.Equal(t, ev.Raw, raw)
	}
}

func TestSplitAppends(t *testing.T) {
	first := &Task{EventID: "kept"}
	tasks := Split(newEvent().add("T", Int8, "1").event(), always(class(t, ClassConfig{})), []*Task{first})
	require.Len(t, tasks, 2)
	require.Same(t, first, tasks[0])
}

// The tasks of an event stay unchanged when it is split again.
func TestSplitAgain(t *testing.T) {
	ev, split := newEvent().add("T", Int8, "1").event(), always(class(t, ClassConfig{}))
	first := Split(ev, split, nil)
	require.Equal(t, first, Split(ev, split, nil))
	require.NotSame(t, first[0], Split(ev, split, nil)[0])
}

// TestSplitIsBounded shows that a class with chunks of one element does not turn an event into millions of tasks.
func TestSplitIsBounded(t *testing.T) {
	big := "[" + strings.Repeat("1,", 3*MaxTasks) + "1]"
	ev := newEvent().add("A", Int8Array, big).add("B", Int8Array, big).event()
	tasks := Split(ev, always(class(t, ClassConfig{ChunkSize: 1})), nil)
	require.LessOrEqual(t, len(tasks), MaxTasks)
	require.Greater(t, len(tasks), MaxTasks/2)
	raw, err := Join(tasks)
	require.NoError(t, err)
	require.Equal(t, ev.Raw, raw)
}

// TestSplitOverlap uses positions that intake never produces; the bytes must survive even then.
func TestSplitOverlap(t *testing.T) {
	ev := newEvent().add("A", Int8Array, "[1, 2, 3, 4, 5, 6]").event()
	ev.Readings = append(ev.Readings, ev.Readings[0], Reading{Resource: "C", Type: Int8Array, Start: 5, End: 1 << 20})
	tasks := Split(ev, always(class(t, ClassConfig{ChunkSize: 2})), nil)
	require.Len(t, tasks, 4)
	raw, err := Join(tasks)
	require.NoError(t, err)
	require.Equal(t, ev.Raw, raw)
}

func TestSplitUsesTheClassOfEachReading(t *testing.T) {
	whole, fine := class(t, ClassConfig{ChunkSize: 4, Priority: 1}), class(t, ClassConfig{ChunkSize: 2, Priority: 9})
	classOf := func(resource string) *Class {
		if resource == "B" {
			return fine
		}
		return whole
	}
	ev := newEvent().add("A", Int8Array, "[1, 2, 3]").add("B", Int8Array, "[1, 2, 3]").event()
	tasks := Split(ev, classOf, nil)
	require.Len(t, tasks, 3, "A fits its class, B does not fit its own")
	require.Same(t, whole, tasks[0].Class)
	require.Same(t, fine, tasks[1].Class)
	ev = newEvent().add("A", Int8Array, "[1, 2, 3]").add("B", Int8Array, "[1, 2, 3]").tags(`{"alarm":true}`).event()
	for _, tag := range [][2]string{{"", "alarm"}, {"alarm", ""}} { // either marks the event
		whole.Critical.Tag, fine.Critical.Tag = tag[0], tag[1]
		for _, have := range Split(ev, classOf, nil) {
			require.True(t, have.Critical, "%q: chunk %d", tag, have.Chunk)
		}
	}
}

func TestSplitCritical(t *testing.T) {
	array := "[1, 2, 3, 90, 5, 6]" // in chunks of two: the second one holds the 90
	tagged := func(tags string) *Event { return newEvent().add("V", Int8Array, array).tags(tags).event() }
	rows := []struct {
		why    string
		config ClassConfig
		ev     *Event
		order  []int
		marked int // how many of them are critical
	}{
		{"nothing asked", ClassConfig{}, tagged(`{"alarm":true}`), []int{0, 1, 2, 3}, 0},
		{"a value above goes first, after its frame", ClassConfig{CriticalHigh: "80"}, tagged(``), []int{0, 2, 1, 3}, 2},
		{"the bound itself is not outside", ClassConfig{CriticalHigh: "90", CriticalLow: "1"}, tagged(``), []int{0, 1, 2, 3}, 0},
		{"a value below", ClassConfig{CriticalLow: "1.5"}, tagged(``), []int{0, 1, 2, 3}, 2},
		{"the resource marks all of its chunks", ClassConfig{CriticalResource: "V*"}, tagged(``), []int{0, 1, 2, 3}, 4},
		{"another resource", ClassConfig{CriticalResource: "W*"}, tagged(``), []int{0, 1, 2, 3}, 0},
		{"a tag marks the whole event", ClassConfig{CriticalTag: "alarm"}, tagged(`{"alarm":true}`), []int{0, 1, 2, 3}, 4},
		{"a tag that is false", ClassConfig{CriticalTag: "alarm"}, tagged(`{"alarm":"False"}`), []int{0, 1, 2, 3}, 0},
		{
			"an uncut reading makes its frame critical, and only that",
			ClassConfig{CriticalResource: "T"},
			newEvent().add("V", Int8Array, array).add("T", Int8, "1").event(),
			[]int{0, 1, 2, 3},
			1,
		},
	}
	for _, row := range rows {
		row.config.ChunkSize = 2
		tasks := Split(row.ev, always(class(t, row.config)), nil)
		require.Equal(t, row.order, chunkNumbers(tasks), row.why)
		for i, have := range tasks {
			require.Equal(t, i < row.marked, have.Critical, "%s: position %d", row.why, i)
		}
	}
}

func TestWholeEventsCanBeCritical(t *testing.T) {
	high := ClassConfig{CriticalHigh: "80"}
	rows := []struct {
		why    string
		config ClassConfig
		ev     *Event
		want   bool
	}{
		{"a scalar outside", high, newEvent().add("T", Float32, "8.5e+01").event(), true},
		{"a scalar inside", high, newEvent().add("T", Float32, "7.5e+01").event(), false},
		{"an element outside", high, newEvent().add("V", Uint8Array, "[1, 81]").event(), true},
		{"NaN is out of every range", high, newEvent().add("T", Float64, "NaN").event(), true},
		{"text is no number", high, newEvent().add("T", String, "99").event(), false},
		{"what cannot be read is not judged", high, newEvent().add("T", Float64, "hot").event(), false},
		{"the second reading counts too", high, newEvent().add("A", Int8, "1").add("B", Int8, "99").event(), true},
		{"by resource", ClassConfig{CriticalResource: "Alarm?"}, newEvent().add("Alarm1", Bool, "false").event(), true},
		{"by tag", ClassConfig{CriticalTag: "urgent"}, newEvent().add("A", Int8, "1").tags(`{"urgent":1}`).event(), true},
	}
	for _, row := range rows {
		tasks := Split(row.ev, always(class(t, row.config)), nil)
		require.Len(t, tasks, 1, row.why)
		require.Equal(t, row.want, tasks[0].Critical, row.why)
	}
}

func TestWhatIsTruthy(t *testing.T) {
	for _, yes := range []any{true, "x", "1", 1.0, -0.5, uint64(1), uint64(2), int64(1), int64(-1)} {
		require.True(t, truthy(yes), "%T %v", yes, yes)
	}
	for _, no := range []any{false, "", "0", "False", 0.0, uint64(0), int64(0), nil, []any{1}} {
		require.False(t, truthy(no), "%T %v", no, no)
	}
}

func TestTags(t *testing.T) {
	c := class(t, ClassConfig{CriticalTag: "k"})
	rows := []struct {
		tags string
		want bool
	}{
		{`{"k":true}`, true},
		{`{"k":false}`, false},
		{`{"k":1}`, true},
		{`{"k":-0.5}`, true},
		{`{"k":0}`, false},
		{`{"k":"yes"}`, true},
		{`{"k":""}`, false},
		{`{"k":"0"}`, false},
		{`{"k":"false"}`, false},
		{`{"k":null}`, false},
		{`{"k":{}}`, false},
		{`{"a":"k"}`, false},
		{`{"\u006b":true}`, true}, // a name may be written with escapes
		{`{"k":`, false},
		{``, false},
	}
	for _, row := range rows {
		ev := &Event{Encoding: JSON, Tags: []byte(row.tags)}
		require.Equal(t, row.want, c.tagged(ev), row.tags)
	}
}

func TestTagsInCBOR(t *testing.T) {
	c := class(t, ClassConfig{CriticalTag: "k"})
	rows := []struct {
		value any
		want  bool
	}{
		{true, true},
		{false, false},
		{7, true},
		{-7, true},
		{0, false},
		{0.25, true},
		{"f", true},
		{"false", false},
		{nil, false},
		{[]int{1}, false},
	}
	for _, row := range rows {
		tags, err := cbor.Marshal(map[string]any{"k": row.value})
		require.NoError(t, err)
		require.Equal(t, row.want, c.tagged(&Event{Encoding: CBOR, Tags: tags}), "%v", row.value)
	}
	require.False(t, c.tagged(&Event{Encoding: CBOR, Tags: []byte("\xa1ak")}), "a torn map has no tags")
}

func TestElementsOutsideWithOneBound(t *testing.T) {
	c := &Class{Critical: Critical{Low: math.NaN(), High: math.NaN()}}
	require.False(t, c.outside(Float64Array, []byte("[NaN, 1e300]")), "without bounds nothing is outside")
	c.Critical.Low = 0
	require.True(t, c.outside(Float64Array, []byte("[1, -1]")))
	require.False(t, c.outside(Float64Array, []byte("[1, 1e300]")))
}

// TestCapacity prevents that an operator that appends to one chunk writes into its neighbour.
func TestCapacity(t *testing.T) {
	ev := newEvent().add("V", Int8Array, "[1,2,3,4]").binary("I", noise(3*kib)).event()
	before := string(ev.Raw)
	for _, have := range Split(ev, always(class(t, ClassConfig{ChunkSize: 1})), nil) { // the frame has no spare memory either
		require.Equal(t, len(have.Data), cap(have.Data))
		require.Equal(t, len(have.Readings), cap(have.Readings))
		require.Equal(t, len(have.Cut), cap(have.Cut))
		_ = append(have.Data, 'x')
	}
	require.Equal(t, before, string(ev.Raw))
	require.True(t, strings.Contains(before, base64.StdEncoding.EncodeToString(noise(3*kib))))
}

// A piece of an event that must not leave does not leave either, whatever the class of its own resource allows.
func TestPiecesOfAnEventThatMustNotLeaveStay(t *testing.T) {
	classes, err := NewClasses(map[string]ClassConfig{
		"secret": {MatchResource: "Face*", NeverLeave: true}, "sound": {MatchResource: "Noise", ChunkSize: 2},
	})
	require.NoError(t, err)
	raw := []byte(`{"readings":[{"value":"[1,2,3,4,5]"},{"value":"7"}]}`)
	at := bytes.IndexByte(raw, '[') + 11 + bytes.IndexByte(raw[bytes.IndexByte(raw, '[')+11:], '[')
	ev := &Event{Device: "d", Encoding: JSON, Raw: raw, Readings: []Reading{
		{Resource: "Noise", Type: Float64Array, Value: raw[at : at+11], Start: at, End: at + 11},
		{Resource: "Face/1", Type: Int8, Value: []byte("7")},
	}}
	tasks := Split(ev, func(resource string) *Class { return classes.ForResource(ev, resource) }, nil)
	require.Len(t, tasks, 4)
	for _, one := range tasks {
		require.True(t, one.Class.NeverLeave, "chunk %d of class %s", one.Chunk, one.Class.Name)
	}
}

// Elements may have different lengths: the pieces fit a message although the longest ones are adjacent, or one of them has more bytes than a message.
func TestPiecesOfUnevenElementsFitTheMessageLimit(t *testing.T) {
	const largest = 4 << 10
	for name, value := range map[string]string{
		"zeros, then long numbers": "[" + strings.Repeat("0,", 9*kib) + strings.Repeat("18446744073709551615,", kib) + "1]",
		"blanks":                   "[" + strings.Repeat("1,", kib) + strings.Repeat(" ", 2*largest) + "2]",
	} {
		ev := newEvent().add("T", Int8, "5").add("V", Uint64Array, value).event()
		for _, size := range []int{1, 256, 1 << 20} {
			tasks := Split(ev, always(&Class{Name: "c", ChunkSize: size, Largest: largest}), nil)
			for _, one := range tasks {
				require.LessOrEqual(t, one.Size(), largest, "%s, chunks of %d", name, size)
			}
			raw, err := Join(tasks)
			require.NoError(t, err)
			require.Equal(t, string(ev.Raw), string(raw))
		}
	}
}

// A cut takes whole elements, empty ones as well, and the comma behind them with neither side.
func TestATextIsCutAtItsCommas(t *testing.T) {
	for _, c := range []struct {
		data        string
		n           int
		piece, rest string
	}{
		{"1,2,3", 1, "1", "2,3"},
		{"1, 2,3", 2, "1, 2", "3"},
		{"1,2", 2, "1,2", ""},
		{",1,2", 1, "", "1,2"},
	} {
		piece, rest := (&cut{text: true}).take([]byte(c.data), c.n)
		require.Equal(t, [2]string{c.piece, c.rest}, [2]string{string(piece), string(rest)}, "%q", c.data)
	}
}
