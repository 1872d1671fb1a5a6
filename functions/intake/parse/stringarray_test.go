package parse

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/task"
)

// hostile are parts of texts in which a comma need not separate elements: EdgeX writes [a, b] without quotes, and others write JSON.
var hostile = []string{
	`,`, `, `, ` `, `[`, `]`, `"`, `""`, `\`, `\"`, `\\`, `","`, `"a, b"`, `["a","b"]`, `\u002c`, `null`, "\n", "\t", "é", "–", "😀", "a", "word",
}

// drawTexts draws the text of a StringArray larger than a message, possibly with one long element.
func drawTexts(t *rapid.T, least int) string {
	parts := rapid.SliceOfN(rapid.SampledFrom(hostile), 1, 30).Draw(t, "parts")
	body := strings.Join(parts, "")
	body = strings.Repeat(body, least/len(body)+1)
	if rapid.Bool().Draw(t, "one is long") {
		body += `,` + strings.Repeat(rapid.SampledFrom([]string{"x", "é", `\"`}).Draw(t, "long"), least) + `,` + body
	}
	if rapid.Bool().Draw(t, "brackets") {
		return "[" + body + "]"
	}
	return body
}

// A comma in the text of a StringArray may belong to an element, so its pieces are bytes of the event, for any ChunkSize. They fit a message, and
// Join restores every byte.
func TestAStringArrayAboveTheLimitLeavesInPiecesOfBytes(t *testing.T) {
	const largest = 4 << 10
	rapid.Check(t, func(t *rapid.T) {
		value := drawTexts(t, largest)
		event := map[string]any{
			"apiVersion": "v3", "id": "00000000-0000-4000-8000-000000000001", "deviceName": "d", "profileName": "p", "sourceName": "s",
			"origin": int64(1750000000000000001), "readings": []any{map[string]any{
				"id": "00000000-0000-4000-8000-000000000002", "origin": int64(1750000000000000001), "deviceName": "d", "resourceName": "r",
				"profileName": "p", "valueType": "StringArray", "value": value,
			}},
		}
		contentType, marshal := ContentTypeJSON, json.Marshal
		if rapid.Bool().Draw(t, "cbor") {
			contentType, marshal = ContentTypeCBOR, cborMarshal
		}
		payload, err := marshal(event)
		require.NoError(t, err)
		ev, err := Parse(payload, contentType)
		require.NoError(t, err)
		size := rapid.SampledFrom([]int{-1, 0, 1, 256, 1 << 20}).Draw(t, "chunk size")
		class := &task.Class{Name: "c", ChunkSize: size, Largest: largest, Whole: rapid.Bool().Draw(t, "whole")}

		tasks := task.Split(ev, func(string) *task.Class { return class }, nil)
		require.Greater(t, len(tasks), 2)
		for i, one := range tasks {
			require.LessOrEqual(t, one.Size(), largest)
			if one.Chunk > 0 {
				require.Equal(t, task.Raw, one.Encoding)
				require.Empty(t, one.Readings, "no piece is taken for a StringArray")
			}
			tasks[i], err = task.Decode(one.Append(nil))
			require.NoError(t, err)
		}
		joined, err := task.Join(rapid.Permutation(tasks).Draw(t, "order"))
		require.NoError(t, err)
		require.Equal(t, string(payload), string(joined))
	})
}
