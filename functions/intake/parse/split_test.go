package parse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// TestWhatIsParsedCanBeSplit: with the parsed positions of values, an event in chunks is joined to the same bytes.
func TestWhatIsParsedCanBeSplit(t *testing.T) {
	class := &task.Class{Name: "small chunks", ChunkSize: 16}
	for name, c := range map[string]struct {
		payload     []byte
		contentType string
	}{
		"vibration":   {vibration(t), ContentTypeJSON},
		"camera/json": {camera(t, json.Marshal), ContentTypeJSON},
		"camera/cbor": {camera(t, cborMarshal), ContentTypeCBOR},
	} {
		ev, err := Parse(c.payload, c.contentType)
		require.NoError(t, err)
		tasks := task.Split(ev, func(string) *task.Class { return class }, nil)
		require.Greater(t, len(tasks), 10, name)
		joined, err := task.Join(tasks)
		require.NoError(t, err)
		require.Equal(t, string(ev.Raw), string(joined), name)
	}
}

// An event larger than a message, by its number of readings or one of them, in JSON or in CBOR, leaves in pieces that each fit, and is joined to the
// same bytes.
func TestWhatFitsNoMessageLeavesInPieces(t *testing.T) {
	const largest = 32 << 10
	long := strings.Repeat("a \"quoted\" word, another – ", 8000)
	reading := func(n int, typ string, member string, value any) map[string]any {
		return map[string]any{
			"id": fmt.Sprintf("%08d-0000-4000-8000-000000000000", n), "origin": int64(1750000000000000001), "deviceName": "d", "resourceName": fmt.Sprint("r", n),
			"profileName": "p", "valueType": typ, "mediaType": "image/jpeg", member: value,
		}
	}
	small := reading(1, "Float64", "value", "1.5")
	many := make([]any, 3000)
	for i := range many {
		many[i] = reading(i+1, "Float64", "value", fmt.Sprint(i))
	}
	for name, readings := range map[string][]any{
		"many":            many,
		"string":          {reading(2, "String", "value", long)},
		"string amid":     {small, reading(2, "String", "value", long), small, small, reading(3, "String", "value", long)},
		"object":          {small, reading(2, "Object", "objectValue", map[string]any{"a": long, "b": []any{1, 2.5, nil, true}})},
		"binary":          {reading(2, "Binary", "binaryValue", []byte(long)), small},
		"array":           {reading(2, "Float64Array", "value", "["+strings.Repeat("1.25,", 20000)+"1]")},
		"many and string": append(slices.Clone(many), reading(4000, "String", "value", long)),
	} {
		event := map[string]any{
			"apiVersion": "v3", "id": "00000000-0000-4000-8000-000000000001", "deviceName": "d", "profileName": "p", "sourceName": "s",
			"origin": int64(1750000000000000001), "readings": readings, "tags": map[string]any{"readings": []any{"}", 1}},
		}
		for contentType, marshal := range map[string]func(any) ([]byte, error){ContentTypeJSON: json.Marshal, ContentTypeCBOR: cborMarshal} {
			for chunk, size := range map[string]int{"never": 0, "small": 16, "above the limit": 1 << 20} {
				what := name + " " + contentType + " " + chunk
				payload, err := marshal(event)
				require.NoError(t, err)
				ev, err := Parse(payload, contentType)
				require.NoError(t, err, what)
				require.Greater(t, len(ev.Raw), largest, what)
				class := &task.Class{Name: "c", ChunkSize: size, Largest: largest, Whole: chunk != "small"}
				tasks := task.Split(ev, func(string) *task.Class { return class }, nil)
				kept := 0
				for i, one := range tasks {
					require.LessOrEqual(t, one.Size(), largest, what)
					if one.Encoding != task.Text && one.Encoding != task.Binary {
						kept += len(one.Readings)
					}
					tasks[i], err = task.Decode(one.Append(nil))
					require.NoError(t, err, what)
				}
				if name == "many" {
					require.Equal(t, len(many), kept, "%s: each reading is with one task, for the operators", what)
				}
				joined, err := task.Join(tasks)
				require.NoError(t, err, what)
				require.Equal(t, ev.Raw, joined, what)

				class.NeverLeave, class.Whole = true, true
				if chunk == "never" {
					require.Len(t, task.Split(ev, func(string) *task.Class { return class }, nil), 1, "%s: what must not leave stays whole", what)
				}
			}
		}
	}
}

// A name of up to 128 bytes is copied once, a longer one each time.
func TestNamesAreKeptUpToALength(t *testing.T) {
	var table nameTable
	for length, want := range map[int]float64{1: 0, 128: 0, 129: 1} {
		name := bytes.Repeat([]byte("n"), length)
		require.Equal(t, string(name), table.get(name))
		require.InDelta(t, want, testing.AllocsPerRun(100, func() { table.get(name) }), 0, "%d bytes", length)
	}
}
