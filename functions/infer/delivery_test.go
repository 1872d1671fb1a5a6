package infer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/models/delivery"
)

// No message in the queue of deliveries is larger than the limit, whatever is published on the node's topic.
func TestNoLargeMessageWaits(t *testing.T) {
	d := &Deliveries{queue: make(chan []byte, 2)}
	for _, begins := range []string{"OMC1", `{"`} {
		d.Take(append([]byte(begins), make([]byte, 4<<20)...))
		waits := <-d.queue
		require.LessOrEqual(t, cap(waits), 2*delivery.MaxChunk)
		_, _, err := delivery.DecodeDown(waits)
		require.ErrorContains(t, err, "bytes", "it is refused for its size")
	}
	whole := make([]byte, delivery.MaxMessage)
	d.Take(whole)
	require.Len(t, <-d.queue, len(whole))
	for range 5 {
		d.Take(whole)
	}
	require.EqualValues(t, 3, d.Dropped(), "the queue takes two")
}
