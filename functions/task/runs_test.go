package task

import (
	"fmt"
	"strings"
	"testing"

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

// An event of 10,000 readings exceeds the limit of a message although no value of it does: it is cut by its readings.
func TestAnEventOfVeryManyReadingsFitsTheMessageLimit(t *testing.T) {
	class := &Class{Name: "c", ChunkSize: 256, Whole: true, Largest: 760 << 10}
	ev := manyReadings(10_000, "", false)
	ev.Raw = append(ev.Raw[:len(ev.Raw)-1], []byte(`,"x":"`+strings.Repeat("x", 100<<10)+`"}`)...)
	require.Greater(t, len(ev.Raw), class.Largest)
	tasks := Split(ev, func(string) *Class { return class }, nil)
	require.Greater(t, len(tasks), 2)
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

// Whatever is cut by readings comes back byte for byte.
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

// An event whose array is longer than a chunk leaves whole, in the form in which it came, unless cutting pays.
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

// An array that is cut among scalar readings parts their runs: each reading is in one run, and none of the array's is.
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
