package local

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The queue shows progress of the current task, at the speed of the previous tasks: a task near its end hardly delays the next one.
func TestTheQueueShowsProgressWithTheTaskAtHand(t *testing.T) {
	var h head
	const second, ms = int64(time.Second), int64(time.Millisecond)
	h.begin(4000, second)
	require.Zero(t, h.done(2*second), "nothing is known of how fast tasks go")
	h.end(2 * time.Second)
	require.Zero(t, h.done(9*second), "no task is at hand")

	h.begin(4000, 10*second)
	require.InDelta(t, 1000, h.done(10*second+500*ms), 1)
	require.Zero(t, h.done(9*second), "begun after the reader looked at its clock")
	require.EqualValues(t, 3600, h.done(15*second), "a task that takes longer than predicted is not done")
	h.end(5 * time.Second)

	h.begin(4000, 20*second)
	require.Less(t, h.done(21*second), int64(1500), "the later one was slower")
	require.Greater(t, h.done(21*second), int64(800))
}
