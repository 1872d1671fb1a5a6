package local

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check"
)

// submit submits work to the pool that records its name and takes a time.
func submit(t *testing.T, p *Pool, due int64, lasts time.Duration, note func(string), name string) {
	t.Helper()
	require.NoError(t, p.Take(t.Context(), lasts.Seconds(), false))
	p.Submit(Heavy{Due: due, Expect: lasts.Seconds(), Run: func() { time.Sleep(lasts); note(name) }, Refuse: func(error) { note("refused " + name) }})
}

// notes is a list that several goroutines write.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, text)
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.list...)
}

// The earliest deadline runs first, and the queue's seconds are those until the worker is free.
func TestThePoolGoesByDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen notes
		p := NewPool(PoolConfig{Workers: 1, QueueTasks: 8})
		submit(t, p, 9, time.Second, seen.add, "first")
		synctest.Wait() // it runs
		submit(t, p, 30, time.Second, seen.add, "late")
		submit(t, p, 10, time.Second, seen.add, "soon")
		submit(t, p, 10, time.Second, seen.add, "as soon")
		time.Sleep(300 * time.Millisecond)
		require.NoError(t, p.Take(t.Context(), 2, false))
		tasks, seconds := p.Queue()
		require.Equal(t, 5, tasks)
		require.InDelta(t, 5.7, seconds, 1e-6, "with the one that is still with the operators")
		p.Give(2)
		_, seconds = p.Queue()
		require.InDelta(t, 3.7, seconds, 1e-6)
		time.Sleep(time.Second)
		_, seconds = p.Queue()
		require.InDelta(t, 2.7, seconds, 1e-6)
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"first", "soon", "as soon", "late"}, seen.all())
		tasks, seconds = p.Queue()
		require.Zero(t, tasks)
		require.Zero(t, seconds)
		require.NoError(t, p.Shut(t.Context()))
	})
}

// Work with equal deadlines runs in the order of submission.
func TestEqualDeadlinesGoInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen notes
		p := NewPool(PoolConfig{Workers: 1, QueueTasks: 20})
		submit(t, p, 1, time.Second, seen.add, "0")
		synctest.Wait()
		want := []string{"0"}
		for i := range 9 {
			want = append(want, fmt.Sprint(i+1))
			submit(t, p, 5, time.Second, seen.add, fmt.Sprint(i+1))
		}
		time.Sleep(time.Minute)
		require.Equal(t, want, seen.all())
		require.NoError(t, p.Shut(t.Context()))
	})
}

// A full pool refuses immediately, or lets the caller wait for a place.
func TestTheQueueOfThePoolIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen notes
		p := NewPool(PoolConfig{Workers: 1, QueueTasks: 1})
		submit(t, p, 1, time.Second, seen.add, "a")
		submit(t, p, 2, time.Second, seen.add, "b")
		require.True(t, p.Full())
		require.ErrorIs(t, p.Take(t.Context(), 0, false), ErrBusy)
		start := time.Now()
		require.NoError(t, p.Take(t.Context(), 0, true))
		require.Equal(t, time.Second, time.Since(start))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, p.Take(ended, 0, true), ErrFull)
		p.Give(0)
		require.NoError(t, p.Take(t.Context(), 0, true))
		p.Give(0)
		time.Sleep(5 * time.Second)
		require.Empty(t, p.places)
		require.NoError(t, p.Shut(t.Context()))
	})
}

// A stop waits only for running work.
func TestAStopWaitsForOneRunOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen notes
		p := NewPool(PoolConfig{Workers: 1, QueueTasks: 8, Nice: 1})
		for _, name := range []string{"a", "b", "c"} {
			submit(t, p, 1, time.Second, seen.add, name)
		}
		time.Sleep(400 * time.Millisecond)
		require.NoError(t, p.Take(t.Context(), 0, false))
		start := time.Now()
		require.NoError(t, p.Shut(t.Context()))
		require.Equal(t, 600*time.Millisecond, time.Since(start))
		require.NoError(t, p.Shut(t.Context()), "a second time refuses nothing again")
		require.ElementsMatch(t, []string{"a", "refused b", "refused c"}, seen.all())
		tasks, _ := p.Queue()
		require.Equal(t, 1, tasks, "the place that was taken")
		require.ErrorIs(t, p.Take(t.Context(), 0, true), ErrShut)
		p.Submit(Heavy{Run: func() { seen.add("run") }, Refuse: func(error) { seen.add("refused d") }})
		require.Contains(t, seen.all(), "refused d")
	})
}

// A run that exceeds the stop's timeout does not delay it.
func TestALongRunDoesNotHoldAStopUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(PoolConfig{Workers: 2, QueueTasks: 1})
		submit(t, p, 1, time.Minute, func(string) {}, "long")
		synctest.Wait() // it runs
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.Shut(ctx), context.DeadlineExceeded)
		require.NoError(t, p.Shut(t.Context()))
	})
}

func TestDeadlinesOfThePool(t *testing.T) {
	require.Equal(t, int64(time.Second), DueOf(0, time.Second))
	require.Equal(t, int64(defaultDeadline), DueOf(0, 0))
}

// One core is left to everything else if there are several.
func TestWorkersLeaveACore(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for cores, want := range map[int]int{1: 1, 2: 1, 3: 2, 8: 7} {
		runtime.GOMAXPROCS(cores)
		require.Equal(t, want, PoolConfig{}.Sized(), "%d cores", cores)
		require.Equal(t, 5, PoolConfig{Workers: 5}.Sized())
	}
}

// Each number of the pool has its range.
func TestTheRangesOfThePool(t *testing.T) {
	for name, c := range map[string]struct {
		at        func(c *PoolConfig) *int
		low, high int
	}{
		"Workers": {func(c *PoolConfig) *int { return &c.Workers }, 0, 256}, "QueueTasks": {func(c *PoolConfig) *int { return &c.QueueTasks }, 1, 100_000},
		"Nice": {func(c *PoolConfig) *int { return &c.Nice }, 0, 19},
	} {
		for v, valid := range map[int]bool{c.low: true, c.high: true, c.low - 1: false, c.high + 1: false} {
			cfg := DefaultPoolConfig()
			*c.at(&cfg) = v
			err := check.Fields("Models", cfg).Err()
			if valid {
				require.NoError(t, err, "%s = %d", name, v)
			} else {
				require.ErrorContains(t, err, "Models."+name, "%d", v)
			}
		}
	}
}
