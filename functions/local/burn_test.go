package local

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The CPU clock of a thread stands still while the thread sleeps, if the system has one.
func TestTheCPUClockIsNotTheTimeOfDay(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	synctest.Test(t, func(t *testing.T) {
		cpu, elapsed := clocks["cpu"](), clocks["elapsed"]()
		time.Sleep(time.Hour)
		require.Less(t, clocks["cpu"]()-cpu, time.Hour)
		require.Equal(t, time.Hour, clocks["elapsed"]()-elapsed)
	})
}

// burn uses about the requested CPU time, however often other threads run.
func TestBurnUsesTheCPUTimeAskedFor(t *testing.T) {
	for _, d := range []time.Duration{0, time.Millisecond, 30 * time.Millisecond} {
		used := spin(threadTime, d)
		require.GreaterOrEqual(t, used, d)
		require.Less(t, used, d+5*time.Millisecond, "some µs beyond, and an interrupt")
	}
}
