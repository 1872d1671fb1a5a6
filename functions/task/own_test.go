package task

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever becomes of the event's bytes, a task that owns its memory stays what it was. Its data, and the values in them, are in the
// record and not there a second time.
func TestOwnSharesMemoryWithItsRecordAlone(t *testing.T) {
	ev, tasks := cutEvent(t)
	whole := newEvent().add("A", Int8Array, "[1, 2, 3]").binary("I", noise(500)).event()
	tasks = append(tasks, Split(whole, always(class(t, ClassConfig{})), nil)...)
	var records [][]byte
	var owned, want []*Task
	for _, one := range tasks {
		record := one.Append(nil)
		own := one.Own(record)
		require.Equal(t, one, own)
		deep := *own
		deep.Data, deep.Readings = slices.Clone(own.Data), slices.Clone(own.Readings)
		for i := range deep.Readings {
			deep.Readings[i].Value = slices.Clone(deep.Readings[i].Value)
		}
		records, owned, want = append(records, record), append(owned, own), append(want, &deep)
	}
	clear(ev.Raw)
	clear(whole.Raw)
	for _, one := range tasks {
		clear(one.Data)
	}
	require.Equal(t, want, owned)
	for i := range records {
		clear(records[i])
		require.NotEqual(t, want[i].Data, owned[i].Data, "they are those of the record")
		if want[i].Chunk > 0 || want[i].Of == 1 {
			require.NotEqual(t, want[i].Readings[0].Value, owned[i].Readings[0].Value)
		}
	}
}
