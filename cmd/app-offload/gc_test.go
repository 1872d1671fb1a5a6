package main

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// The collector works harder than by default until the service ends, and a user's own setting stays.
func TestThrift(t *testing.T) {
	before := debug.SetGCPercent(80)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	now := func() int {
		v := debug.SetGCPercent(80)
		debug.SetGCPercent(v)
		return v
	}
	t.Setenv("GOGC", "")
	own := newThrift()
	require.Equal(t, percentGC, now())
	own.end()
	require.Equal(t, 80, now())
	t.Setenv("GOGC", "80")
	own = newThrift()
	require.Equal(t, 80, now())
	debug.SetGCPercent(90)
	own.end()
	require.Equal(t, 90, debug.SetGCPercent(90))
}

// The configured sizes limit the memory, unless the user limits it, and only while the service runs.
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
