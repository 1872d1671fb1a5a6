package task

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// manyReadings is an event of so many scalar readings in JSON, with blanks where JSON allows them, and its index.
func manyReadings(n int, blank string, nasty bool) *Event {
	var b strings.Builder
	b.WriteString(`{"apiVersion":"v3","tags":{"readings":["}",{"x":1}]},"id":"many",` + blank + `"readings":` + blank + `[` + blank)
	ev := &Event{ID: "many", Encoding: JSON}
	for i := range n {
		if i > 0 {
			b.WriteString(blank + "," + blank)
		}
		name := fmt.Sprintf("r%d", i)
		units := "C"
		if nasty {
			units = `\",]}{[\\`
		}
		fmt.Fprintf(&b, `{"resourceName":"%s","valueType":"Float64","units":"%s","value":"`, name, units)
		start := b.Len()
		fmt.Fprintf(&b, "%d.5", i)
		ev.Readings = append(ev.Readings, Reading{Resource: name, Type: Float64, Start: start, End: b.Len()})
		b.WriteString(`"}`)
	}
	b.WriteString(blank + `],"deviceName":"d"}`)
	ev.Raw = []byte(b.String())
	for i := range ev.Readings {
		r := &ev.Readings[i]
		r.Value = ev.Raw[r.Start:r.End]
	}
	return ev
}

// An event of 10,000 readings exceeds the limit of a message although none of its values does: it is split by its readings.
func TestAnEventOfVeryManyReadingsFitsTheMessageLimit(t *testing.T) {
	class := &Class{Name: "c", ChunkSize: 256, Whole: true, Largest: 760 << 10}
	ev := manyReadings(10_000, "", false)
	ev.Raw = append(ev.Raw[:len(ev.Raw)-1], []byte(`,"x":"`+strings.Repeat("x", 100<<10)+`"}`)...)
	require.Greater(t, len(ev.Raw), class.Largest)
	tasks := Split(ev, func(string) *Class { return class }, nil)
	require.InDelta(t, len(ev.Raw)/runSize, len(tasks), 4, "chunks are about as long as they should be")
	readings := 0
	for _, x := range tasks {
		require.LessOrEqual(t, x.Size(), class.Largest)
		readings += len(x.Readings)
	}
	require.Equal(t, 10_000, readings, "each reading is with one task, for the operators")
	raw, err := Join(tasks)
	require.NoError(t, err)
	require.Equal(t, string(ev.Raw), string(raw))
	decoded := make([]*Task, len(tasks))
	for i, x := range tasks {
		decoded[i], err = Decode(x.Append(nil))
		require.NoError(t, err)
	}
	raw, err = Join(decoded)
	require.NoError(t, err)
	require.Equal(t, string(ev.Raw), string(raw))
}

// However small the messages are, an event has no more tasks than a consumer joins.
func TestAnEventHasNoMoreTasksThanJoin(t *testing.T) {
	class := &Class{Name: "c", ChunkSize: -1, Whole: true, Largest: 180}
	ev := manyReadings(100_000, "", false)
	tasks := Split(ev, func(string) *Class { return class }, nil)
	require.InDelta(t, 50_000, len(tasks), 1)
	raw, err := Join(tasks)
	require.NoError(t, err)
	require.Equal(t, string(ev.Raw), string(raw))
}

// An event split by its readings is restored byte for byte.
func TestRunsOfReadingsJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "readings")
		blank := rapid.SampledFrom([]string{"", " ", "\n\t", "  "}).Draw(t, "blank")
		ev := manyReadings(n, blank, rapid.Bool().Draw(t, "nasty"))
		class := &Class{Name: "c", ChunkSize: 256, Whole: true, Largest: rapid.IntRange(50, len(ev.Raw)+10).Draw(t, "largest")}
		if low := rapid.IntRange(-1, n).Draw(t, "critical"); low >= 0 {
			class.Critical = Critical{Low: float64(low), High: 1e9}
		}
		tasks := Split(ev, func(string) *Class { return class }, nil)
		raw, err := Join(tasks)
		require.NoError(t, err)
		require.Equal(t, string(ev.Raw), string(raw))
	})
}

// An event whose array is longer than a chunk leaves whole and unchanged, unless splitting is useful.
func TestEventsLeaveWholeUnlessCuttingPays(t *testing.T) {
	array := func(n int) *Event {
		value := "[" + strings.Repeat("1.5,", n-1) + "9.5]"
		raw := `{"readings":[{"value":"` + value + `"}]}`
		start := strings.Index(raw, value)
		return &Event{ID: "e", Encoding: JSON, Raw: []byte(raw), Readings: []Reading{{
			Resource: "wave", Type: Float64Array, Value: []byte(value), Start: start, End: start + len(value),
		}}}
	}
	for name, tc := range map[string]struct {
		n     int
		class Class
		whole bool
	}{
		"by default":                          {512, Class{Whole: true, Largest: 760 << 10}, true},
		"a chunk size that was asked for":     {512, Class{Largest: 760 << 10}, false},
		"above the limit of a message":        {1000, Class{Whole: true, Largest: 2 << 10}, false},
		"critical, but it leaves soon":        {512, Class{Whole: true, Critical: Critical{Low: 0, High: 5}}, true},
		"critical, and large":                 {20_000, Class{Whole: true, Critical: Critical{Low: 0, High: 5}}, false},
		"large, and nothing of it critical":   {20_000, Class{Whole: true, Critical: Critical{Low: 0, High: 10}}, true},
		"large, and the resource is critical": {20_000, Class{Whole: true, Critical: Critical{Resource: "wave", Low: 0, High: 10}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			class := tc.class
			class.Name, class.ChunkSize = "c", 256
			require.Equal(t, tc.whole, len(Split(array(tc.n), func(string) *Class { return &class }, nil)) == 1)
		})
	}
}

// An array that is cut out between scalar readings separates their runs: each scalar reading is in one run, and the array in none.
func TestRunsStandBesideCutArrays(t *testing.T) {
	b := newEvent()
	for i := range 6 {
		b.add(fmt.Sprintf("a%d", i), Int8, "1")
	}
	b.add("V", Int8Array, "[1, 2, 3, 4]").add("one", Int8, "2").add("W", Int8Array, "[5, 6, 7]").add("x", Int8, "3").add("y", Int8, "4")
	ev := b.event()
	class := &Class{Name: "c", ChunkSize: 2, Largest: 300}
	var shape []string
	tasks := Split(ev, always(class), nil)
	for _, one := range tasks {
		var names []string
		for _, r := range one.Readings {
			names = append(names, r.Resource)
		}
		shape = append(shape, fmt.Sprintf("%d/%d %s %d+%d of hole %d: %v", one.Chunk, one.Of, one.Resource, one.Offset, one.Count, one.Hole, names))
	}
	require.Equal(t, []string{
		"0/9  0+0 of hole 0: [one]", // a run of one saves nothing
		"1/9  0+2 of hole 0: [a0 a1]", "2/9  2+2 of hole 0: [a2 a3]", "3/9  4+2 of hole 0: [a4 a5]",
		"4/9 V 0+2 of hole 1: [V]", "5/9 V 2+2 of hole 1: [V]",
		"6/9 W 0+2 of hole 2: [W]", "7/9 W 2+1 of hole 2: [W]",
		"8/9  0+2 of hole 3: [x y]",
	}, shape)
	raw, err := Join(tasks)
	require.NoError(t, err)
	require.Equal(t, string(ev.Raw), string(raw))
}

// manyInCBOR is an event of readings of several forms in CBOR, whose array of readings may be of indefinite length.
func manyInCBOR(t require.TestingT, n int, indefinite bool) *Event {
	ev := &Event{ID: "many", Encoding: CBOR}
	raw := append([]byte{0xa3, 0x64}, "tags"...) // a map of 3
	raw = append(append(raw, 0xa1, 0x68), "readings"...)
	raw = append(append(raw, 0x81, 0x01, 0x68), "readings"...)
	if indefinite {
		raw = append(raw, 0x9f)
	} else {
		raw = append(raw, 0x99, byte(n>>8), byte(n))
	}
	for i := range n {
		reading := map[string]any{"resourceName": fmt.Sprint("r", i), "valueType": "Float64", "value": fmt.Sprint(i, ".5"), "tags": []any{1.5, nil, []byte{0xff, 0xa1}}}
		one, err := cbor.Marshal(reading)
		require.NoError(t, err)
		value := []byte(fmt.Sprint(i, ".5"))
		start := len(raw) + bytes.Index(one, value)
		raw = append(raw, one...)
		ev.Readings = append(ev.Readings, Reading{Resource: fmt.Sprint("r", i), Type: Float64, Start: start, End: start + len(value)})
	}
	if indefinite {
		raw = append(raw, 0xff)
	}
	ev.Raw = append(append(raw, 0x62), "id\x64many"...)
	for i := range ev.Readings {
		r := &ev.Readings[i]
		r.Value = ev.Raw[r.Start:r.End]
	}
	return ev
}

// In CBOR too, each chunk is an array of its readings, and joining restores every byte.
func TestRunsOfReadingsInCBOR(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 600).Draw(t, "readings")
		ev := manyInCBOR(t, n, rapid.Bool().Draw(t, "indefinite"))
		class := &Class{Name: "c", Largest: rapid.IntRange(50, len(ev.Raw)+10).Draw(t, "largest")}
		tasks := Split(ev, always(class), nil)
		require.Equal(t, n > 1 && class.Largest < len(ev.Raw), n > 1 && len(tasks) > 1)
		for _, one := range tasks {
			if one.Chunk == 0 || one.Encoding != CBOR {
				continue
			}
			var read []struct {
				Name string `cbor:"resourceName"`
			}
			require.NoError(t, cbor.Unmarshal(one.Data, &read))
			require.Len(t, read, one.Count)
			for i, r := range one.Readings {
				require.Equal(t, r.Resource, read[i].Name)
			}
		}
		raw, err := Join(tasks)
		require.NoError(t, err)
		require.Equal(t, ev.Raw, raw)
	})
}

// An event whose bytes and index disagree is not split by its readings, and neither is one that would give more tasks than allowed.
func TestAnEventThatCannotBeCutByItsReadings(t *testing.T) {
	class := &Class{Name: "c", Largest: 200}
	for name, ev := range map[string]*Event{
		"no JSON":            {Encoding: JSON, Raw: []byte(strings.Repeat("x", 300))},
		"an array":           {Encoding: JSON, Raw: []byte("[" + strings.Repeat(" ", 300) + "]")},
		"no array":           {Encoding: JSON, Raw: []byte(`{"readings":"` + strings.Repeat("x", 300) + `"}`)},
		"more than indexed":  {Encoding: JSON, Raw: []byte(`{"readings":[1,2,"` + strings.Repeat("x", 300) + `"]}`), Readings: make([]Reading, 2)},
		"fewer than indexed": {Encoding: CBOR, Raw: manyInCBOR(t, 9, false).Raw, Readings: make([]Reading, 10)},
		"cut short":          {Encoding: CBOR, Raw: manyInCBOR(t, 9, false).Raw[:400], Readings: make([]Reading, 9)},
	} {
		tasks := Split(ev, always(class), nil)
		require.Len(t, tasks, 1, name)
		require.Equal(t, ev.Raw, tasks[0].Data, name)
	}
	ev := manyReadings(MaxTasks, "", false)
	ev.Raw = append(ev.Raw, '\n')
	class.Largest = 60
	require.Len(t, Split(ev, always(class), nil), 1)
}

// Chunks that are not valid readings are not joined.
func TestJoinRefusesChunksThatAreNoArrays(t *testing.T) {
	for _, bad := range []struct {
		encoding Encoding
		data     string
	}{
		{JSON, ""},
		{JSON, "["},
		{JSON, "1,2]"},
		{JSON, "[1,2"},
		{CBOR, ""},
		{CBOR, "\x80"},
		{CBOR, "\x01"},
		{CBOR, "\x82\x01"},
		{CBOR, "\x9f\x01\x02\xff"},
		{CBOR, "\x82\x01\x02\x03"},
	} {
		_, err := Join([]*Task{
			{Of: 2, Encoding: bad.encoding, Data: []byte("ab"), Holes: []Hole{{At: 1, Length: 2, Encoding: bad.encoding}}},
			{Of: 2, Chunk: 1, Encoding: bad.encoding, Data: []byte(bad.data), Count: 2},
		})
		require.ErrorContains(t, err, "chunk 1 is not an array of readings", "%q", bad.data)
	}
	_, err := Join([]*Task{
		{Of: 2, Encoding: CBOR, Data: []byte("ab"), Holes: []Hole{{At: 1, Length: 2, Encoding: CBOR}}},
		{Of: 2, Chunk: 1, Encoding: CBOR, Data: []byte("\x83\x01\x02\x03"), Count: 2},
	})
	require.ErrorContains(t, err, "3 of 2 at 0 does not continue")
}

// A run is critical if any of its readings is.
func TestARunIsCriticalForAnyReading(t *testing.T) {
	for low, want := range map[float64][]bool{0: {false, false}, 0.75: {true, false}, 1.75: {true, false}} {
		ev := manyReadings(6, "", false)
		class := &Class{Name: "c", Largest: len(ev.Raw) / 2, Critical: Critical{Low: low, High: 1e9}}
		tasks := Split(ev, always(class), nil)
		require.Greater(t, len(tasks), 2)
		critical := map[int]bool{}
		for _, one := range tasks {
			critical[one.Chunk] = one.Critical
		}
		require.Equal(t, want, []bool{critical[1], critical[len(tasks)-1]}, low)
	}
}

// A copied part has no position, whatever its capacity suggests.
func TestACopyHasNoPlace(t *testing.T) {
	raw := []byte("\x82abcd")
	places, ok := placesOf([]span{raw[1:3], raw[3:5]}, raw)
	require.True(t, ok)
	require.Equal(t, [][2]int{{1, 3}, {3, 5}}, places)
	for _, part := range []span{[]byte("ab"), append(make([]byte, 0, 1<<10), "ab"...), raw[1:3:3], {}} {
		_, ok = placesOf([]span{raw[1:3], part}, raw)
		require.False(t, ok)
	}
}

// Readings beside one that is larger than a message leave in runs of their own, for any position of the large one: no task exceeds the limit.
func TestReadingsBesideALargeOneFitTheMessageLimit(t *testing.T) {
	class := &Class{Name: "c", ChunkSize: -1, Whole: true, Largest: 16 << 10}
	for i, at := range []int{0, 1, 2, 300, 598, 599} {
		ev := manyReadings(600, "", false)
		value := ev.Readings[at].Start
		large := strings.Repeat("7", (40-30*(i%2))<<10) // more than fits, and more than half of that
		ev.Raw = []byte(string(ev.Raw[:value]) + large + string(ev.Raw[value:]))
		ev.Readings[at].End += len(large)
		for n := range ev.Readings {
			r := &ev.Readings[n]
			if n > at {
				r.Start, r.End = r.Start+len(large), r.End+len(large)
			}
			r.Value = ev.Raw[r.Start:r.End]
		}
		tasks := Split(ev, func(string) *Class { return class }, nil)
		require.InDelta(t, len(ev.Raw)/(class.Largest/2), len(tasks), 4, "chunks are about half of the limit")
		for _, x := range tasks {
			require.LessOrEqual(t, x.Size(), class.Largest, "the large one is reading %d", at)
		}
		raw, err := Join(tasks)
		require.NoError(t, err)
		require.Equal(t, string(ev.Raw), string(raw))
	}
}
