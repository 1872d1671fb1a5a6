package consume

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// FuzzMessage: any message on any topic becomes a batch, a statement or a dead letter. A dead letter stays one when it is retried without other keys,
// and opened records can be printed as JSON lines.
func FuzzMessage(f *testing.F) {
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(f, err)
	one := &task.Task{EventID: "e", Device: "d", Of: 1, Class: &task.Class{Name: "default"}, Encoding: task.JSON, Data: []byte(`{"id":"e"}`)}
	batch, err := sealer.Seal(nil, &seal.Batch{
		ID: "b", Node: "n1", Epoch: "e1", Class: "default", Created: time.Unix(1, 0), Floor: 1, Sequences: []uint64{1}, Tasks: [][]byte{one.Append(nil)},
	})
	require.NoError(f, err)
	gone, err := sealer.SealGone(nil, &seal.Gone{
		ID: "g", Node: "n1", Epoch: "e1", Created: time.Unix(1, 0), Ranges: []seal.GoneRange{{Range: seal.Range{First: 4, Last: 7}, Reason: "expired"}},
	})
	require.NoError(f, err)
	f.Add("offload/v1/n1/batch/default", batch)
	f.Add("offload/v1/n1/gone", gone)
	f.Add("offload/v1/n2/batch/default", batch)
	f.Add("offload/v1//", []byte("{"))
	o := seal.NewOpener(nil, seal.Limits{MaxMessageKiB: 256, MaxDataMiB: 1, MaxRecords: 100})
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		it := open(o, &Message{Topic: topic, Payload: payload})
		switch {
		case it.letter != nil:
			require.NotEmpty(t, it.letter.Reason)
			_, err := Open(o, it.letter)
			require.Error(t, err)
		case it.gone != nil:
			for _, s := range it.gone.Spans {
				require.LessOrEqual(t, s.First, s.Last)
				require.NotEmpty(t, s.Fate)
			}
		default:
			printable(t, it.batch)
		}
	})
}

func printable(t *testing.T, b *store.Batch) {
	for _, r := range b.Records {
		if r.Task == nil {
			require.NotEmpty(t, r.Problem)
			continue
		}
		_, err := json.Marshal(NewLine(store.Fresh{Node: b.Node, Epoch: b.Epoch, Sequence: r.Sequence, Task: r.Task}))
		require.NoError(t, err)
	}
}

// FuzzLetter retries a quarantined record.
func FuzzLetter(f *testing.F) {
	one := &task.Task{EventID: "e", Device: "d", Of: 1, Class: &task.Class{Name: "default"}, Encoding: task.Text, Data: []byte("1,2")}
	f.Add(one.Append(nil), uint64(7))
	f.Add([]byte{0xff}, uint64(0))
	o := seal.NewOpener(nil, seal.Limits{})
	f.Fuzz(func(t *testing.T, raw []byte, sequence uint64) {
		g, err := Open(o, &store.Letter{Topic: "offload/v1/n1/batch/c", Node: "n1", Epoch: "e1", IsRecord: true, Sequence: sequence, Raw: raw})
		if err == nil {
			printable(t, g.Batches[0])
		}
	})
}
