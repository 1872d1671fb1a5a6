package ctl

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A verb that waits for a terminal or a pipe ends with the process all the same; one that heeds the signal has time for it.
func TestASignalEndsAVerbThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.Equal(t, exitUsage, within(t.Context(), func() int { return exitUsage }))
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		time.AfterFunc(time.Minute, cancel)
		require.Equal(t, exitNotReady, within(ctx, func() int {
			<-ctx.Done()
			time.Sleep(stopGrace / 2)
			return exitNotReady
		}))
		other := make(chan int)
		require.Equal(t, exitFailed, within(ctx, func() int { return <-other }))
		require.Equal(t, time.Minute+stopGrace/2+stopGrace, time.Since(begun))
		other <- exitFine
	})
}
