package functions

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/task"
)

// A task that finds no room in the spool releases its reserved place, in the spool and in the pool, and continues as decided.
func TestATaskThatCannotBeParkedGoesOnAsDecided(t *testing.T) {
	cfg := lateConfig(t)
	n := openNarrow(t, cfg)
	n.submit(2) // node and link are busy
	parked, held := n.undecided(), n.held()
	require.NoError(t, n.spool.Close())
	before := n.Counts().InFlight
	done := make(chan error, 1)
	n.Submit([]*task.Event{event("late", 100)}, func(_ int, err error) { done <- err })
	require.Equal(t, parked, n.undecided())
	require.Equal(t, held, n.held())
	require.GreaterOrEqual(t, n.Counts().InFlight, before)
	reason := n.Decisions(1, nil)[0].Decision.Reason
	require.NotEqual(t, decision.Undecided, reason)
}

// A task that waited for the link does not wait for a full batch as well.
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
