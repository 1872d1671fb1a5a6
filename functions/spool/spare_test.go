package spool

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// drainAll ends an outage: all records are taken and done, and both slots have forgotten them.
func drainAll(t *testing.T, s *Spool, lane int) {
	t.Helper()
	for got := s.Take(lane, "", Backlog, 100, 1<<20, nil); len(got) > 0; got = s.Take(lane, "", Backlog, 100, 1<<20, nil) {
		s.Done(seqs(got))
	}
	for range 2 {
		s.mu.Lock()
		s.dirty = true
		s.mu.Unlock()
		require.NoError(t, s.Checkpoint())
	}
}

func spares(t *testing.T, dir string) (n int) {
	t.Helper()
	names, err := osFS{}.List(dir)
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasPrefix(name, "spare-") {
			n++
		}
	}
	return n
}

// Emptied segments are kept up to their limit, also across a restart, and the next outage overwrites them.
func TestEmptiedSegmentsAreWrittenOver(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, DefaultConfig(), small(4<<20, 64<<10, 0))
	require.NoError(t, err)
	outage := func(n int) {
		for i := range n {
			require.NoError(t, put(s, rec(3, "c", 5000, i)))
		}
	}
	outage(400)
	full := s.Stats()
	require.Greater(t, full.Segments, 30)
	drainAll(t, s, 3)
	require.Equal(t, 16, spares(t, dir), "a quarter of the quota")
	require.Less(t, s.Stats().DiskBytes, full.DiskBytes)
	require.NoError(t, s.Close())

	s = open(t, dir, DefaultConfig(), small(4<<20, 64<<10, 0))
	require.LessOrEqual(t, spares(t, dir), 17)
	before := s.Stats().DiskBytes
	outage(150)
	require.LessOrEqual(t, s.Stats().DiskBytes, before+64<<10, "no block was asked for")
	balanced(t, s)
}

// Spares make way for a record that needs a segment of its own size.
func TestSparesMakeWayForALargeRecord(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.SpareMiB = 512 // more than there is
	s := open(t, dir, cfg, small(4<<20, 64<<10, 0))
	for i := range 550 {
		require.NoError(t, put(s, rec(3, "c", 5000, i)))
	}
	drainAll(t, s, 3)
	require.Greater(t, spares(t, dir), 40)
	for i := range 4 {
		require.NoError(t, put(s, rec(1, "large", 600<<10, i)))
	}
	st := balanced(t, s)
	require.EqualValues(t, 4, st.Held)
	require.LessOrEqual(t, st.DiskBytes, st.Quota)
	for _, g := range s.lanes[1].segs {
		require.Equal(t, g.end, g.size, "neither too small nor too large")
	}
}

// Segments without records are buried before the next regular state if they pile up, or if the next segment has no spare.
func TestWhenSegmentsAreBuried(t *testing.T) {
	for _, c := range []struct {
		dying, spares int
		want          bool
	}{{0, 0, false}, {1, 0, true}, {1, 1, false}, {1, 2, false}, {2, 0, true}, {2, 1, true}, {3, 2, true}} {
		s := &Spool{dying: make([]dying, c.dying), spares: make([]spare, c.spares)}
		require.Equal(t, c.want, s.buryNow(), "%+v", c)
	}
}
