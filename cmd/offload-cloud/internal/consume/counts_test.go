package consume

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-cloud/internal/store"
)

// The number of missing records covers the streams with known gaps: it is never negative, and zero once all gaps are filled.
func TestGapsAddUpHoweverManyStreams(t *testing.T) {
	b := newBench(t, Limits{})
	say := func(i int, gaps uint64) {
		r := store.Receipt{Node: fmt.Sprint("n", i), Epoch: "e1"}
		if gaps > 0 {
			r.Gaps = spans(1, gaps)
		}
		b.noteGaps([]store.Receipt{r})
	}
	for i := range streamsMax + 100 {
		say(i, 3)
	}
	require.Equal(t, int64(3*streamsMax), b.Counts.Gaps.Load(), "streams beyond the limit are not counted")
	say(0, 5)
	require.Equal(t, int64(3*streamsMax+2), b.Counts.Gaps.Load())
	say(streamsMax+1, 0)
	require.Equal(t, int64(3*streamsMax+2), b.Counts.Gaps.Load(), "nor taken off again")
	for range 2 {
		for i := range streamsMax + 100 {
			say(i, 0)
		}
		require.Zero(t, b.Counts.Gaps.Load())
		require.Empty(t, b.gaps)
	}
	say(streamsMax+1, 4)
	require.Equal(t, int64(4), b.Counts.Gaps.Load(), "there is room again")
	b.noteGaps([]store.Receipt{{Node: "n1", Epoch: "e1", Session: "a", Gaps: spans(1, 7)}, {Node: "n1", Epoch: "e1", Session: "b"}})
	require.Equal(t, int64(11), b.Counts.Gaps.Load(), "two sessions are one stream")
	require.NoError(t, b.stop())
}

// A transaction accepts no more messages once it has enough bytes, however few records it has.
func TestATransactionsBytesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{GroupMiB: 1})
		most := 0
		b.shelf.failing(func(g *store.Group) error {
			time.Sleep(time.Second) // so that messages gather
			size := 0
			for _, batch := range g.Batches {
				for _, r := range batch.Records {
					size += len(r.Raw)
				}
			}
			most = max(most, size)
			return nil
		})
		const size = 400 << 10
		msg := b.edge.Large(t, size, 1)
		for i := range 12 {
			b.pipe.send(fmt.Sprint(i), topic, msg)
		}
		time.Sleep(time.Minute)
		require.Len(t, b.pipe.acks(), 12)
		require.NoError(t, b.stop())
		require.Greater(t, most, 1<<20)
		require.Less(t, most, 1<<20+size+4096)
	})
}
