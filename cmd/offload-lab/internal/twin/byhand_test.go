package twin

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheEpisodeOfARunByHand(t *testing.T) {
	g := gateway{here: Line{0.1, 2e-4}, first: Line{0.02, 1e-5}, after: Line{0.05, 3e-5}, wire: Line{100, 0.3}}
	s := Settings()[0]
	e, w, err := g.episode(&s, []lived{{at: 1, bytes: 10_000}, {at: 2, bytes: 20_000}}, [2]float64{})
	require.NoError(t, err)
	require.Len(t, e.Jobs, 2)
	for i, want := range []struct{ at, bytes, mcycles, away float64 }{
		{1, 3100, 2100, 0.04 + 0.03 + 0.4}, // round trip, what lone tasks take beyond it, and 40 µs a byte
		{2, 6100, 4100, 0.04 + 0.03 + 0.8},
	} {
		j := &e.Jobs[i]
		require.InDelta(t, want.at, j.At, 0)
		require.InDelta(t, want.bytes, j.Bytes, 1e-9)
		require.InDelta(t, want.mcycles, j.Mcycles, 1e-9)
		require.InDelta(t, want.away, e.Away(i), 1e-9)
		require.InDelta(t, s.Deadline.Seconds(), j.Deadline, 0)
	}
	require.InDeltaSlice(t, []float64{3100, 6100}, w.Config.Mix[0].Bytes[:], 1e-9)
	require.InDeltaSlice(t, []float64{2100, 4100}, w.Config.Mix[0].Mcycles[:], 1e-9)

	g.here, g.after.Fixed = Line{}, 0 // no work at all would divide by nothing, and lone tasks that were sooner than a round trip add nothing
	e, w, err = g.episode(&s, []lived{{at: 1, bytes: 10_000}}, [2]float64{})
	require.NoError(t, err)
	require.InDelta(t, 1e-3, e.Jobs[0].Mcycles, 0)
	require.Zero(t, w.Config.Overhead)
	require.InDelta(t, 0.04+0.4, e.Away(0), 1e-9)
}

func TestWhatTasksTakeBeyondTheirBytes(t *testing.T) {
	tasks := []lived{{bytes: 10, took: 3}, {bytes: 20, took: 6}}
	require.InDelta(t, 1.5, beyond(tasks, 0.2, took), 1e-12)
	require.Zero(t, beyond(tasks, 1, took), "never less than nothing")
}
