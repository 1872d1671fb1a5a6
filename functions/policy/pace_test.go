package policy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPaceFollowsTheArrivals(t *testing.T) {
	var p pace
	now := int64(1e18)
	require.Equal(t, UsualArrivals(), p.note(now))
	for range 2000 {
		now += int64(100 * time.Millisecond)
		p.note(now)
	}
	got := p.note(now + int64(100*time.Millisecond))
	require.InDelta(t, 10, got.Lately, 0.2)
	require.InDelta(t, 10, got.Long, 0.1)
	later := p.note(now + int64(time.Minute))
	require.Less(t, later.Lately, 0.3, "a minute of silence is long for the short average")
	require.Greater(t, later.Long, later.Lately)
}

// Whatever the order of times, rates are numbers, positive, and never above what so many tasks at once would make.
func TestPaceOfAnyTimes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var p pace
		times := rapid.SliceOfN(rapid.Int64Range(0, 1e15), 1, 50).Draw(r, "times")
		for _, at := range times {
			a := p.note(at)
			require.Positive(r, a.Lately)
			require.Positive(r, a.Long)
			require.LessOrEqual(r, a.Lately, usualArrivals+float64(len(times))/latelySeconds)
			require.LessOrEqual(r, a.Long, usualArrivals+float64(len(times))/longSeconds)
		}
	})
}
