package background

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// However much waits there is one goroutine, it keeps the order, and it is gone when all is done.
func TestLaterNeedsOneGoroutine(t *testing.T) {
	var l Queue
	var all sync.WaitGroup
	before, held := runtime.NumGoroutine(), make(chan struct{})
	var order []int
	for i := range 1000 {
		all.Add(1)
		l.Do(func() {
			defer all.Done()
			<-held
			order = append(order, i)
		})
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before+1)
	close(held)
	all.Wait()
	require.Len(t, order, 1000)
	require.IsIncreasing(t, order)
	for i := range 3 { // it starts again whenever there is something
		all.Add(1)
		l.Do(func() { order[i] = -1; all.Done() })
		all.Wait()
	}
	require.Equal(t, []int{-1, -1, -1}, order[:3])
}
