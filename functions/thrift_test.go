package functions

import (
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
