package task

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cutEvent is an event in three holes with its tasks.
func cutEvent(t testing.TB) (*Event, []*Task) {
	ev := newEvent().add("A", Int8Array, "[1, 2, 3, 4, 5]").binary("I", noise(5000)).add("B", BoolArray, "[true, false, true]").event()
	tasks := Split(ev, always(class(t, ClassConfig{ChunkSize: 2})), nil)
	require.Len(t, tasks, 1+3+3+2)
	return ev, tasks
}

func TestJoinNamesWhatIsMissing(t *testing.T) {
	ev, tasks := cutEvent(t)
	for _, gone := range [][]int{{0}, {1}, {8}, {0, 2, 5}, {1, 2, 3, 4, 5, 6, 7, 8}} {
		var some []*Task
		for _, have := range tasks {
			if !slices.Contains(gone, have.Chunk) {
				some = append(some, have)
			}
		}
		_, err := Join(some)
		var missing *MissingError
		require.ErrorAs(t, err, &missing)
		require.Equal(t, MissingError{EventID: ev.ID, Missing: gone, Of: 9}, *missing)
		require.Contains(t, err.Error(), fmt.Sprintf("%d of 9 chunks are missing: %v", len(gone), gone))
	}
}

func TestMissingErrorStaysShort(t *testing.T) {
	_, err := Join([]*Task{{EventID: "e", Of: MaxTasks, Encoding: JSON}})
	require.Less(t, len(err.Error()), 200)
	require.True(t, strings.HasSuffix(err.Error(), "10] …"), err.Error())
}

func TestJoinTakesRedeliveredTasks(t *testing.T) {
	ev, tasks := cutEvent(t)
	again := *tasks[3]
	again.Received++ // the second copy came later, and was scored in another state
	again.Score = 0.5
	again.Data = slices.Clone(again.Data)
	raw, err := Join(append(slices.Clone(tasks), &again))
	require.NoError(t, err)
	require.Equal(t, ev.Raw, raw)
}

func TestJoinRefusesContradictions(t *testing.T) {
	rows := []struct {
		why    string
		change func(t *Task) // of a copy of chunk 2
		add    bool          // beside the original, or in its place
		want   string
	}{
		{"same number, other bytes", func(t *Task) { t.Data = []byte(" 9, 9") }, true, "different contents"},
		{"same number, other place", func(t *Task) { t.Offset = 4 }, true, "different contents"},
		{"another event", func(t *Task) { t.EventID = "other" }, true, "is not one of them"},
		{"another count", func(t *Task) { t.Of = 10 }, true, "is not one of them"},
		{"a number beyond the count", func(t *Task) { t.Chunk = 9 }, true, "is not one of them"},
		{"a negative number", func(t *Task) { t.Chunk = -1 }, true, "is not one of them"},
		{"an overlap", func(t *Task) { t.Offset = 1 }, false, "does not continue"},
		{"elements lost on the way", func(t *Task) { t.Data = []byte(" 3") }, false, "does not continue"},
		{"a binary among text", func(t *Task) { t.Encoding = Binary }, false, "does not continue"},
		{"a short value", func(t *Task) { t.Data, t.Count = []byte(" 3"), 1 }, false, "does not continue"},
		{"a hole that is not there", func(t *Task) { t.Hole = 7 }, false, "hold 2 of 5"},
	}
	for _, row := range rows {
		_, tasks := cutEvent(t)
		bad := *tasks[2]
		row.change(&bad)
		if row.add {
			tasks = append(tasks, &bad)
		} else {
			tasks[2] = &bad
		}
		_, err := Join(tasks)
		require.ErrorContains(t, err, row.want, row.why)
		require.False(t, errors.As(err, new(*MissingError)), row.why)
	}
}

func TestJoinRefusesBadFrames(t *testing.T) {
	rows := []struct {
		why   string
		holes []Hole
		want  string
	}{
		{"beyond the frame", []Hole{{At: 3, Length: 1, Encoding: Text}}, "is not between"},
		{"negative", []Hole{{At: -1, Length: 1, Encoding: Text}}, "is not between"},
		{"longer than its chunks", []Hole{{At: 1, Length: math.MaxInt, Encoding: Binary}}, "does not continue"},
		{"longer than its chunks", []Hole{{At: 1, Length: math.MaxInt, Encoding: Text}}, "hold 1 of"},
		{"no hole for the chunk", nil, "which the frame does not have"},
	}
	for _, row := range rows {
		_, err := Join([]*Task{
			{Of: 2, Encoding: JSON, Data: []byte("{}"), Holes: row.holes},
			{Of: 2, Chunk: 1, Encoding: Text, Data: []byte("1"), Count: 1},
		})
		require.ErrorContains(t, err, row.want, row.why)
	}
	for _, tasks := range [][]*Task{nil, {{Of: 0}}, {{Of: MaxTasks + 1}}} {
		_, err := Join(tasks)
		require.Error(t, err)
	}
}

// drawValue draws a value that can be split, or one that cannot, in all spellings that must survive.
func drawValue(t *rapid.T) (ValueType, string) {
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return Float64, "1.5e+00"
	case 1:
		blob := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "blob")
		blob = append(blob, noise(rapid.IntRange(0, 4*kib).Draw(t, "more"))...)
		return Blob, base64.StdEncoding.EncodeToString(blob)
	case 2:
		tail := rapid.StringMatching(`[A-Za-z0-9+/=]{0,9}`).Draw(t, "nearly base64")
		return Blob, strings.Repeat("AAAA", rapid.IntRange(0, 900).Draw(t, "groups")) + tail
	case 3:
		return StringArray, rapid.StringMatching(`\[?[a-c, ]{0,20}\]?`).Draw(t, "list")
	}
	elements := rapid.SliceOf(rapid.StringMatching(` ?-?[0-9]{1,3}(\.5e\+00)? ?`)).Draw(t, "elements")
	return Int8Array, "[" + strings.Join(elements, ",") + "]"
}

// TestJoinRestoresWhatSplitCut checks the promise: the original bytes, from any order, with duplicates, also through records.
func TestJoinRestoresWhatSplitCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newEvent()
		for range rapid.IntRange(1, 5).Draw(t, "readings") {
			typ, value := drawValue(t)
			b.add("R", typ, value)
		}
		ev := b.event()
		c := &Class{Name: "c", ChunkSize: rapid.IntRange(0, 4).Draw(t, "chunk size"), Critical: Critical{Low: -500, High: 500}}
		tasks := Split(ev, always(c), nil)
		for _, have := range slices.Clone(tasks) {
			if rapid.Bool().Draw(t, "twice") {
				read, err := Decode(have.Append(nil))
				require.NoError(t, err)
				tasks = append(tasks, read)
			}
		}
		raw, err := Join(rapid.Permutation(tasks).Draw(t, "order"))
		require.NoError(t, err)
		require.Equal(t, string(ev.Raw), string(raw))
	})
}

// TestCriticalFirst checks the order: critical ones first, otherwise by chunk, and the frame is critical if any chunk is.
func TestCriticalFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.IntRange(0, 100), 3, 40).Draw(t, "values")
		ev := newEvent().add("V", Uint8Array, strings.ReplaceAll(fmt.Sprint(values), " ", ", ")).event()
		tasks := Split(ev, always(&Class{ChunkSize: 2, Critical: Critical{Low: 10, High: 90}}), nil)
		seen := slices.MinFunc(tasks, func(a, b *Task) int { return a.Chunk - b.Chunk })
		require.Equal(t, slices.ContainsFunc(values, func(v int) bool { return v < 10 || v > 90 }), seen.Critical)
		require.True(t, slices.IsSortedFunc(tasks, func(a, b *Task) int {
			if a.Critical != b.Critical {
				if a.Critical {
					return -1
				}
				return 1
			}
			return a.Chunk - b.Chunk
		}))
	})
}
