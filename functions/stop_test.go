package functions

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/policy"
)

// A task that finds no room in the spool gives the place back that was kept for it, there and among those that wait.
func TestWhatCannotWaitGivesItsPlaceBack(t *testing.T) {
	n := openNarrow(t, lateConfig(t))
	ev := event("d", 1)
	r := n.begin(nil, nil)
	r.events, r.open = nil, make([]countdown, 1)
	n.split(r)
	j := &job{task: taskOf(t, n.Service, ev), event: &r.open[0], waits: true}
	j.event.run = r
	require.True(t, n.room.take(policy.Room{Tasks: 10, Bytes: 1 << 20}, j.task.Size()))
	require.Positive(t, n.held())
	n.unhold(j)
	require.Zero(t, n.held())
	require.Zero(t, n.undecided())
	require.False(t, j.waits)
}

// A task that waited for the link does not wait for company in its batch as well.
func TestABoundTaskLeavesAtOnce(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Writable.Batch.MaxAge = "1h"
	n := openNarrow(t, cfg)
	n.submit(6)
	require.Positive(t, n.undecided())
	n.sent()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	b, err := n.scheduler.Next(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, b.Records)
}
