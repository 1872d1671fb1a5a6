package main

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// An outage makes the collector work earlier, its end as usual, and a user's own setting stays.
func TestThrift(t *testing.T) {
	before := debug.SetGCPercent(usualGC)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	now := func() int {
		v := debug.SetGCPercent(usualGC)
		debug.SetGCPercent(v)
		return v
	}
	t.Setenv("GOGC", "")
	own := newThrift()
	own.set(true)
	require.Equal(t, savingGC, now())
	own.set(true)
	own.set(false)
	require.Equal(t, usualGC, now())
	t.Setenv("GOGC", "200")
	newThrift().set(true)
	require.Equal(t, usualGC, now())
}

// What is configured bounds the memory, unless the user bounds it, and no longer than the service runs.
func TestThriftHoldsWhatIsConfigured(t *testing.T) {
	limit := func() int64 { return debug.SetMemoryLimit(-1) }
	before := limit()
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "")
	own := newThrift()
	own.hold(100 << 20)
	require.Equal(t, int64(120<<20), limit())
	own.hold(100<<20 + leastNew - 1)
	require.Equal(t, int64(120<<20), limit())
	own.hold(50 << 20)
	require.Equal(t, int64(70<<20), limit())
	own.end()
	require.Equal(t, int64(math.MaxInt64), limit())
	t.Setenv("GOMEMLIMIT", "1GiB")
	newThrift().hold(1)
	require.Equal(t, int64(math.MaxInt64), limit())
}
