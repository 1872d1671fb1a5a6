package local

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Models have a lower priority than the rest of the process, whatever that of the process is.
func TestThePriorityIsBelowThatOfTheProcess(t *testing.T) {
	for _, c := range []struct{ process, by, want int }{{7, 5, 12}, {7, 19, 19}} {
		have := make(chan int)
		go func() {
			runtime.LockOSThread() // and let the thread end with this goroutine
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), c.process)
			lower(c.by)
			raw, _ := syscall.Getpriority(syscall.PRIO_PROCESS, syscall.Gettid())
			have <- 20 - raw
		}()
		require.Equal(t, c.want, <-have)
	}
}
