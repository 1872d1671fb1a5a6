package task

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A task with its own memory is independent of the event's bytes. Its data, and the values in them, are in the record and not copied again.
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

// A task whose record cannot be read has a copy of its data, and a value outside of them its own copy.
func TestOwnWithoutARecord(t *testing.T) {
	value, data := []byte("1.5"), []byte(`{"readings":[]}`)
	one := &Task{EventID: "e", Of: 1, Encoding: JSON, Data: data, Readings: []Reading{{Resource: "R", Value: value}, {Resource: "E"}}}
	other := (&Task{EventID: "e", Of: 1, Encoding: JSON, Data: data[1:]}).Append(nil)
	for _, record := range [][]byte{nil, []byte("x"), other} {
		own := one.Own(record)
		require.Equal(t, one.Data, own.Data)
		require.NotSame(t, &one.Data[0], &own.Data[0])
		require.Equal(t, value, own.Readings[0].Value)
		require.NotSame(t, &value[0], &own.Readings[0].Value[0])
		require.Empty(t, own.Readings[1].Value)
	}
}
