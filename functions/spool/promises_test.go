package spool

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// If commits do not sync, the state on disk is ahead of every assigned sequence, to the last one before the next reserve.
func TestTheStateIsAlwaysAheadOfTheSequencesGiven(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Sync, cfg.SyncInterval, cfg.AckInterval = SyncInterval, "1h", "1h"
	disk := crashFS{vfs.NewCrashableMem(), func() {}}
	s, err := Open("/spool", cfg, WithFS(disk), small(16<<20, 64<<10, 1<<20))
	require.NoError(t, err)
	require.NoError(t, put(s), "nothing at all")
	require.NoError(t, put(s, rec(1, "c", 10, 1)))
	s.mu.Lock()
	s.next = s.reserved // the first sequence that is not reserved
	s.mu.Unlock()
	r := []Record{rec(1, "c", 10, 2)}
	require.NoError(t, put(s, r...))
	after := crashFS{disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0}), func() {}}
	require.NoError(t, s.Close())
	s, err = Open("/spool", cfg, WithFS(after), small(16<<20, 64<<10, 1<<20))
	require.NoError(t, err)
	again := []Record{rec(1, "c", 10, 3)}
	require.NoError(t, put(s, again...))
	require.Greater(t, again[0].Seq, r[0].Seq)
	require.NoError(t, s.Close())
}

// A record that was parked and then released counts for the link like any other: no exporter takes it, so the ring rests.
func TestAReleasedRecordIsHeldNoLonger(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	require.NoError(t, put(s, held(rec(1, "c", 10, 1))))
	require.True(t, s.ring.empty())
	s.Release([]uint64{1})
	require.False(t, s.ring.empty())
	require.Zero(t, s.ring.held)
	s.Done([]uint64{1})
	require.True(t, s.ring.empty())
}

// A record does not displace another of equal score: the existing one has waited longer.
func TestAnEqualScoreDisplacesNone(t *testing.T) {
	cfg := DefaultConfig()
	cfg.OnFull = DropLowestScore
	s := open(t, t.TempDir(), cfg, small(2<<20, 64<<10, 100<<10))
	for {
		r := rec(5, "c", 4000, 1)
		r.Score, r.OnFull = 0.5, Refuse
		if put(s, r) != nil {
			break
		}
	}
	r := rec(5, "c", 4000, 2)
	r.Score = 0.5
	require.ErrorIs(t, put(s, r), ErrFull)
	require.Empty(t, balanced(t, s).Dropped)
	r.Score = 0.5001
	require.NoError(t, put(s, r))
	require.Len(t, balanced(t, s).Dropped, 1)
}
