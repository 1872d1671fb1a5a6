package local

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Models have a lower priority than the rest of the process, whatever that of the process is.
func TestThePriorityIsBelowThatOfTheProcess(t *testing.T) {
	for _, by := range []int{5, 19} {
		have := make(chan int, 2)
		niceness := func() int {
			raw, _ := syscall.Getpriority(syscall.PRIO_PROCESS, syscall.Gettid())
			return 20 - raw
		}
		go func() {
			runtime.LockOSThread() // and let the thread end with this goroutine
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), 7)
			have <- niceness()
			lower(by)
			have <- niceness()
		}()
		require.Equal(t, min(<-have+by, 19), <-have)
	}
}
