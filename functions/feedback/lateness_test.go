package feedback

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/task"
)

func TestLatenessIsThatOfLocalWork(t *testing.T) {
	var l lateness
	require.Zero(t, l.seconds())
	now := time.Now().UnixNano()
	var here []*decide.Case
	see := func(local float64, deadline time.Duration) {
		c := &decide.Case{Task: &task.Task{Received: now - int64(time.Second), Deadline: deadline}}
		c.Estimate.LocalTime = local
		here = append(here, c)
		l.see(here, now)
	}
	see(9, 0)               // without a deadline nothing is late
	see(0.5, 3*time.Second) // in time
	require.Zero(t, l.seconds())
	see(2.5, 3*time.Second) // a second has passed already
	require.InDelta(t, 0.5, l.seconds(), 1e-6)
	l.at.Store(now - int64(latenessHolds) - int64(time.Second))
	require.Zero(t, l.seconds(), "that was long ago")
}
