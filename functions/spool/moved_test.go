package spool

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const lostPlace = "was removed, moved or replaced"

// A spool whose folder is moved, replaced or removed stores no more records, since the next start would not find them. The problem is also reported if
// there is no record to store. Once the folder is back, the spool continues.
func TestAFolderInAnotherPlaceTakesNothing(t *testing.T) {
	for what, replace := range map[string]func(dir string) error{
		"moved":    func(string) error { return nil },
		"replaced": func(dir string) error { return os.Mkdir(dir, 0o700) },
		"copied":   func(dir string) error { return os.CopyFS(dir, os.DirFS(dir+".moved")) },
	} {
		dir := filepath.Join(t.TempDir(), "spool")
		s := open(t, dir, DefaultConfig(), small(4<<20, 16<<10, 0))
		require.Eventually(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.spares) == 2 // none is prepared any more
		}, time.Minute, time.Millisecond, what)
		require.NoError(t, put(s, rec(1, "c", 1000, 1)), what)
		require.NoError(t, s.Checkpoint(), what)
		require.NoError(t, os.Rename(dir, dir+".moved"))
		require.NoError(t, replace(dir))
		require.ErrorContains(t, s.Checkpoint(), lostPlace, what)
		before, _ := filepath.Glob(filepath.Join(dir, "*"))
		for range 40 { // more than a segment
			require.ErrorContains(t, put(s, rec(1, "c", 1000, 2)), lostPlace, what)
		}
		require.ErrorContains(t, s.Checkpoint(), lostPlace, what)
		after, _ := filepath.Glob(filepath.Join(dir, "*"))
		require.Equal(t, before, after, what)
		require.EqualValues(t, 1, balanced(t, s).Held, what)
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.Rename(dir+".moved", dir))
		require.NoError(t, put(s, rec(1, "c", 1000, 3)), what)
		require.NoError(t, s.Close(), what)
		require.EqualValues(t, 2, balanced(t, open(t, dir, DefaultConfig(), small(4<<20, 16<<10, 0))).Held, what)
	}
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := Open(dir, DefaultConfig(), small(4<<20, 16<<10, 0))
	require.NoError(t, err)
	require.NoError(t, put(s, rec(1, "c", 1000, 1)))
	require.NoError(t, os.RemoveAll(dir))
	require.ErrorContains(t, put(s, rec(1, "c", 1000, 2)), lostPlace)
	require.ErrorContains(t, s.Close(), lostPlace)
}

// A removed file takes no more records: a segment is replaced by a new one, and a slot of the state is reported.
func TestAFileThatIsRemovedTakesNothing(t *testing.T) {
	for _, sync := range []string{SyncAlways, SyncInterval, SyncNone} {
		cfg := DefaultConfig()
		cfg.AckInterval, cfg.Sync = "1h", sync
		dir := t.TempDir()
		s, err := Open(dir, cfg, small(4<<20, 16<<10, 0))
		require.NoError(t, err)
		require.NoError(t, put(s, rec(1, "c", 1000, 1)))
		removeAll(t, dir, "*.seg")
		require.ErrorContains(t, put(s, rec(1, "c", 1000, 2)), lostPlace)
		require.NoError(t, put(s, rec(1, "c", 1000, 3)))
		got := open(t, crash(t, dir), cfg, small(4<<20, 16<<10, 0)).Take(1, "c", Backlog, 10, 1<<20, nil)
		require.Len(t, got, 1)
		require.Equal(t, rec(1, "c", 1000, 3).Payload, got[0].Payload)
		removeAll(t, dir, "state-*")
		require.ErrorContains(t, s.Checkpoint(), lostPlace)
		require.ErrorContains(t, s.Close(), lostPlace)
	}
}
