package task

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkSplit measures the cost of nearly every event, and of the large ones.
func BenchmarkSplit(b *testing.B) {
	classes, err := NewClasses(map[string]ClassConfig{
		"vibration": {MatchResource: "Vibration", CriticalHigh: "100"},
		"pumps":     {MatchDevice: "pump-*"},
	})
	require.NoError(b, err)
	rows := []struct {
		name string
		ev   *Event
	}{
		{"small", newEvent().add("T", Float64, "1.5e+00").event()},
		{"readings=8", eight()},
		{"vibration=512", newEvent().add("Vibration", Float32Array, floats(512, sine)).event()},
		{"image=300KiB", newEvent().binary("Image", noise(300*kib)).event()},
	}
	for _, row := range rows {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(row.ev.Raw)))
			var dst []*Task
			for b.Loop() {
				dst = Split(row.ev, func(resource string) *Class { return classes.ForResource(row.ev, resource) }, dst[:0])
			}
		})
	}
}

func eight() *Event {
	e := newEvent()
	for i := range 8 {
		e.add(fmt.Sprint("T", i), Float64, "1.5e+00")
	}
	return e.event()
}

func BenchmarkJoin(b *testing.B) {
	ev := newEvent().binary("Image", noise(300*kib)).add("V", Float32Array, floats(512, sine)).event()
	tasks := Split(ev, always(class(b, ClassConfig{ChunkSize: 16})), nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(ev.Raw)))
	for b.Loop() {
		if _, err := Join(tasks); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	tasks := Split(newEvent().add("T", Float64, "1.5e+00").event(), always(class(b, ClassConfig{})), nil)
	dst := tasks[0].Append(nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(dst)))
	for b.Loop() {
		dst = tasks[0].Append(dst[:0])
	}
}

func BenchmarkDecode(b *testing.B) {
	record := Split(newEvent().add("T", Float64, "1.5e+00").event(), always(class(b, ClassConfig{})), nil)[0].Append(nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(record)))
	for b.Loop() {
		if _, err := Decode(record); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloats(b *testing.B) {
	rows := map[string]Reading{
		"integers=512": {Type: Int16Array, Value: []byte(strings.ReplaceAll(fmt.Sprint(make([]int, 512)), " ", ", "))},
		"floats=512":   {Type: Float32Array, Value: []byte(floats(512, sine))},
	}
	for name, r := range rows {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []float64
			for b.Loop() {
				dst, _ = r.Floats(dst[:0])
			}
		})
	}
}

func BenchmarkClassesFor(b *testing.B) {
	classes, err := NewClasses(map[string]ClassConfig{"vibration": {MatchResource: "Vibration"}, "pumps": {MatchDevice: "pump-*"}})
	require.NoError(b, err)
	ev := newEvent().add("T", Float64, "1.5e+00").event()
	b.ReportAllocs()
	for b.Loop() {
		classes.For(ev)
	}
}

// TestAllocations bounds the allocations of the two paths of every event.
func TestAllocations(t *testing.T) {
	ev := newEvent().add("T", Float64, "1.5e+00").event()
	classes, err := NewClasses(nil)
	require.NoError(t, err)
	dst := make([]*Task, 0, 1)
	classOf := func(resource string) *Class { return classes.ForResource(ev, resource) }
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { dst = Split(ev, classOf, dst[:0]) }), 1.0, "only the task")
	record := make([]byte, 0, 1024)
	require.Zero(t, testing.AllocsPerRun(100, func() { record = dst[0].Append(record[:0]) }))
	_, cut := cutEvent(t)
	large := make([]byte, 0, 1<<16)
	require.Zero(t, testing.AllocsPerRun(100, func() { large = cut[0].Append(large[:0]) }), "a frame with holes")
}
