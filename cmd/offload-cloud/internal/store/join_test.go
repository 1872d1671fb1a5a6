package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// cutEvent cuts an event with two arrays into chunks of the given size, at a time of reception.
func cutEvent(size int, received int64, values ...string) (found []*Found, raw string) {
	raw = fmt.Sprintf(`{"id":"e","a":"[%s]","b":"[%s]"}`, values[0], values[1])
	ev := &task.Event{ID: "e", Device: "d", Profile: "p", Source: "s", Origin: 1, Received: received, Encoding: task.JSON, Raw: []byte(raw)}
	for _, value := range values {
		at := strings.Index(raw, "["+value)
		ev.Readings = append(ev.Readings, task.Reading{
			Resource: "r", Type: task.Int32Array, Value: ev.Raw[at : at+len(value)+2], Start: at, End: at + len(value) + 2,
		})
	}
	class := &task.Class{Name: "default", ChunkSize: size}
	for _, one := range task.Split(ev, func(string) *task.Class { return class }, nil) {
		found = append(found, &Found{ID: int64(len(found) + 1), Node: "n1", Task: one})
	}
	return found, raw
}

// A record is stored in two columns and read back with each byte of its data.
func TestAShortRecordIsReadAsItWas(t *testing.T) {
	for _, data := range []string{"", "1", "12"} {
		one := whole("e")
		one.Data = []byte(data)
		r := (&stream{}).row(&Record{Task: one}, 0)
		got, err := join(r.meta, r.data)
		require.NoError(t, err)
		require.Equal(t, data, string(got.Data))
		require.Equal(t, one.EventID, got.EventID)
	}
}

// Chunks join in any order, and a chunk missing in one cut is taken from another only if it continues exactly where the previous chunk ends.
func TestJoin(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	one, raw := cutEvent(2, 1, "1, 2, 3, 4, 5, 6", "7, 8, 9, 10")
	require.Len(t, one, 6)
	for range 20 {
		r.Shuffle(len(one), func(i, j int) { one[i], one[j] = one[j], one[i] })
		whole, missing, err := Join(one)
		require.NoError(t, err)
		require.Nil(t, missing)
		require.Equal(t, []Whole{{6, task.JSON, []byte(raw)}}, whole)
	}
	one, _ = cutEvent(2, 1, "1, 2, 3, 4, 5, 6", "7, 8, 9, 10")
	again, _ := cutEvent(2, 2, "1, 2, 3, 4, 5, 6", "7, 8, 9, 10")
	mixed := append(one[:3:3], again[3:]...)
	whole, _, err := Join(mixed)
	require.NoError(t, err)
	require.Len(t, whole, 1)
	require.Equal(t, raw, string(whole[0].Raw))
	shifted := *again[3].Task
	shifted.Offset++
	again[3].Task = &shifted
	whole, missing, err := Join(append(one[:3:3], again[3:]...))
	require.Empty(t, whole)
	require.Nil(t, missing)
	require.ErrorContains(t, err, "do not continue each other")
	_, missing, err = Join(one[:4])
	require.NoError(t, err)
	require.Equal(t, []int{4, 5}, missing.Missing)
}

// Events that a node cuts again for each delivery cost time in proportion to their chunks, whatever is missing of each cut. The search for fitting
// chunks ends, and does not affect a complete cut.
func TestJoinOfManyCuts(t *testing.T) {
	part := func(of, chunk int, received int64) *task.Task {
		one, _ := cutEvent(2, received, "1, 2, 3, 4", "7, 8")
		other := *one[chunk].Task
		other.Of = of
		return &other
	}
	many := func(n int, each func(i int) []*task.Task) (all []*Found) {
		for i := range n {
			for _, one := range each(i) {
				all = append(all, &Found{ID: int64(len(all) + 1), Task: one})
			}
		}
		return all
	}
	for name, each := range map[string]func(i int) []*task.Task{
		"one chunk of each":          func(i int) []*task.Task { return []*task.Task{part(3, 1, int64(i))} },
		"one of each, of many parts": func(i int) []*task.Task { return []*task.Task{part(3+i, 1, int64(i))} },
		"whole": func(i int) []*task.Task {
			return []*task.Task{part(3, 0, int64(i)), part(3, 1, int64(i)), part(3, 2, int64(i))}
		},
	} {
		few, more := many(200, each), many(800, each)
		memory := func(all []*Found) uint64 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, _ = Join(all)
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		require.Less(t, memory(more), 8*memory(few), name)
	}

	// Chunks that never fit: 30 numbers, each with one more chunk than there are cuts.
	misfits := many(40, func(i int) (list []*task.Task) {
		for chunk := range 30 {
			one := part(3, min(chunk, 1), int64(i))
			one.Of, one.Chunk, one.Offset, one.Hole = 30, chunk, 7*(chunk%29), 1
			list = append(list, one)
		}
		return list
	})
	good, raw := cutEvent(2, 1000, "1, 2, 3, 4", "7, 8")
	for _, f := range good {
		f.ID += 10_000
	}
	found, missing, err := Join(append(misfits, good...))
	require.ErrorContains(t, err, "do not continue each other")
	require.Nil(t, missing)
	require.Equal(t, []Whole{{3, task.JSON, []byte(raw)}}, found)
}
