package feedback

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/host"
	"app-offload/functions/task"
)

func TestLatenessIsThatOfLocalWork(t *testing.T) {
	f := open(t)
	require.Zero(t, f.Lateness())
	now := f.clock.Now()
	var here []*decide.Case
	see := func(local float64, deadline time.Duration) {
		c := &decide.Case{Task: &task.Task{Received: now - int64(time.Second), Deadline: deadline}}
		c.Estimate.LocalTime = local
		here = append(here, c)
		f.Stays(here, &host.State{Time: now})
	}
	see(9, 0)               // without a deadline nothing is late
	see(0.5, 3*time.Second) // in time
	require.Zero(t, f.Lateness())
	see(2.5, 3*time.Second) // a second has passed already
	require.InDelta(t, 0.5, f.Lateness(), 1e-6)
	f.lateness.at.Store(now - int64(latenessHolds) - int64(time.Second))
	require.Zero(t, f.Lateness(), "that was long ago")
}
