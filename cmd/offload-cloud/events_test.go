package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/task"
)

// cutIn cuts an event with two arrays into chunks of the given size, at a time of reception.
func cutIn(id string, size int, received int64, values ...string) []*task.Task {
	raw := fmt.Sprintf(`{"id":%q,"a":"[%s]","b":"[%s]"}`, id, values[0], values[1])
	ev := &task.Event{ID: id, Device: "press-1", Profile: "press", Source: "wave", Origin: 1, Received: received, Encoding: task.JSON, Raw: []byte(raw)}
	for _, value := range values {
		at := strings.Index(raw, "["+value)
		ev.Readings = append(ev.Readings, task.Reading{
			Resource: "wave", Type: task.Int32Array, Value: ev.Raw[at : at+len(value)+2], Start: at, End: at + len(value) + 2,
		})
	}
	class := &task.Class{Name: "default", ChunkSize: size}
	return task.Split(ev, func(string) *task.Class { return class }, nil)
}

func printed(t *testing.T, dsn string) (lines []eventLine) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(verb(t, "events", "-store", dsn)))
	for decoder.More() {
		var line eventLine
		require.NoError(t, decoder.Decode(&line))
		lines = append(lines, line)
	}
	return lines
}

// storeTasks commits tasks as records of one node, in the given order.
func storeTasks(t *testing.T, dsn string, tasks ...*task.Task) {
	t.Helper()
	db, err := store.Open(t.Context(), dsn, store.Options{})
	require.NoError(t, err)
	b := &store.Batch{Node: "n1", Epoch: "e1", Floor: 1}
	for i, one := range tasks {
		b.Records = append(b.Records, store.Record{Sequence: uint64(i + 1), Task: one})
	}
	_, err = db.Commit(t.Context(), &store.Group{Batches: []*store.Batch{b}})
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// An event that was cut twice into the same number of chunks, in different places, is shown once and complete, in any order of arrival. So is each of
// two events with one id. Chunks that both cuts have in common were stored once.
func TestEventsCutTwiceAreShown(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	const a, b = "1, 2, 3, 4, 5, 6", "7, 8, 9, 10"
	same := cutIn("e", 3, 1, a, b)
	tests := map[string]struct {
		tasks []*task.Task
		want  []string
	}{
		"equally many chunks":      {append(cutIn("e", 4, 1, a, b), cutIn("e", 3, 2, a, b)...), []string{a + "|" + b}},
		"different numbers":        {append(cutIn("e", 2, 1, a, b), cutIn("e", 3, 2, a, b)...), []string{a + "|" + b}},
		"the same chunks":          {append(same, cutIn("e", 3, 2, a, b)...), []string{a + "|" + b}},
		"two events under one id":  {append(cutIn("e", 3, 1, a, b), cutIn("e", 3, 2, "6, 5, 4, 3, 2, 1", "10, 9, 8, 7")...), []string{a + "|" + b, "6, 5, 4, 3, 2, 1|10, 9, 8, 7"}},
		"one of which is the same": {append(cutIn("e", 3, 1, a, b), cutIn("e", 3, 2, "1, 2, 3, 9, 9, 9", b)...), []string{a + "|" + b, "1, 2, 3, 9, 9, 9|" + b}},
		"the second is incomplete": {append(cutIn("e", 4, 1, a, b), cutIn("e", 3, 2, a, b)[:2]...), []string{a + "|" + b}},
	}
	for name, tt := range tests {
		for round := range 4 {
			t.Run(fmt.Sprint(name, round), func(t *testing.T) {
				dsn := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
				if round > 0 {
					r.Shuffle(len(tt.tasks), func(i, j int) { tt.tasks[i], tt.tasks[j] = tt.tasks[j], tt.tasks[i] })
				}
				storeTasks(t, dsn, tt.tasks...)
				var have []string
				for _, line := range printed(t, dsn) {
					require.Empty(t, line.Missing)
					var content struct{ A, B string }
					require.NoError(t, json.Unmarshal(line.Data, &content), "%+v", line)
					have = append(have, strings.Trim(content.A, "[]")+"|"+strings.Trim(content.B, "[]"))
				}
				require.ElementsMatch(t, tt.want, have)
			})
		}
	}
}

// A damaged row is shown with its problem; the events before and after it are complete.
func TestEventsShowDamagedRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloud.db")
	var tasks []*task.Task
	for _, id := range []string{"first", "second", "third"} {
		tasks = append(tasks, cutIn(id, 1000, 1, "1, 2", "3")...)
	}
	storeTasks(t, "sqlite:"+path, tasks...)
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `UPDATE records SET meta = x'ff' WHERE id = 2`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	lines := printed(t, "sqlite:"+path)
	require.Len(t, lines, 3)
	require.Equal(t, []string{"first", "", "third"}, []string{lines[0].Event, lines[1].Event, lines[2].Event})
	require.Contains(t, lines[1].Problem, "record 2 of the database is damaged")
	require.Equal(t, []any{int64(2), "n1"}, []any{lines[1].ID, lines[1].Node})
}

// Five devices send different events with one event id, each of them cut: five events are shown.
func TestOneIDOfManyDevicesIsManyEvents(t *testing.T) {
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "cloud.db")
	var tasks []*task.Task
	for i := range 5 {
		for _, one := range cutIn("same", 3, 1, "1, 2, 3, 4", fmt.Sprint(i, ", 8, 9, 10")) {
			own := *one
			own.Device = fmt.Sprint("d", i)
			tasks = append(tasks, &own)
		}
	}
	storeTasks(t, dsn, tasks...)
	lines := printed(t, dsn)
	require.Len(t, lines, 5)
	for i, line := range lines {
		require.Equal(t, fmt.Sprint("d", i), line.Device)
		require.True(t, bytes.Contains(line.Data, []byte(fmt.Sprintf(`[%d, 8,`, i))), "%s", line.Data)
	}
}
