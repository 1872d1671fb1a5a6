package intake

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// TestWhatIsParsedCanBeSplit: the places of values are such that an event in chunks becomes the same bytes again.
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
