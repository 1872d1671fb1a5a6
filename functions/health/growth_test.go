package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Counters of health cover one minute, in steps of a second.
func TestGrowthIsThatOfTheLastMinute(t *testing.T) {
	p := well(t)
	m, fake := &p.memory, p.fake
	m.counters = map[string]*growth{}
	for i, c := range []struct {
		advance time.Duration
		n, want uint64
		steps   int
	}{
		{0, 100, 0, 0},               // counted before the first look
		{0, 103, 3, 1},               //
		{time.Second - 1, 104, 4, 1}, // within the same second
		{1, 106, 6, 2},               // a second after the step began
		{0, 106, 6, 2},               //
		{time.Minute - time.Second - 1, 106, 6, 2}, // the first step is not yet a minute ago
		{1, 106, 2, 1},                           // now it is
		{time.Second, 5, 5, 1},                   // begun anew from 0
		{time.Minute, 5, 0, 0},                   //
		{time.Minute, 6, 1, 1},                   //
		{time.Minute - time.Nanosecond, 8, 3, 2}, //
		{time.Nanosecond, 8, 2, 1},               //
		{time.Minute - time.Nanosecond, 8, 0, 0}, //
	} {
		fake.Advance(c.advance)
		require.Equal(t, c.want, m.grown("x", c.n), "row %d", i)
		require.Len(t, m.counters["x"].steps, c.steps, "row %d", i)
	}
	require.True(t, m.grew("y").IsZero())
	fake.Advance(time.Second)
	m.grown("y", 1)
	require.True(t, m.grew("y").IsZero(), "it has not grown yet")
	m.grown("y", 2)
	require.Equal(t, m.clock.Time(), m.grew("y"))
}
