package spool

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A new epoch keeps records, sequences and fates; records in flight are sent again under it; parked records stay with their owner.
func TestANewEpochKeepsRecordsAndTakesBackWhatIsInFlight(t *testing.T) {
	dir := t.TempDir()
	cfg := encrypted()
	options := []Option{small(16<<20, 8<<10, 4<<10), WithKeys(new(testKeys).set("k", "k"))}
	s, err := Open(dir, cfg, options...)
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, put(s, rec(1, "c", 1000, i)))
	}
	require.NoError(t, put(s, held(rec(1, "c", 1000, 21))))
	s.Done(seqs(s.Take(1, "", Backlog, 3, 1<<20, nil)))
	s.Drop([]uint64{7}, "because")
	flying := append(s.Take(1, "", Backlog, 5, 1<<20, nil), s.Take(1, "", Live, 9, 1<<20, nil)...)
	require.Greater(t, len(flying), 5, "of both kinds")
	old, session := s.Epoch(), s.Session()
	fresh, err := s.NewEpoch()
	require.NoError(t, err)
	require.NotEqual(t, old, fresh)
	require.Equal(t, fresh, s.Epoch())
	require.Equal(t, session, s.Session())

	st := balanced(t, s)
	require.Equal(t, fresh, st.Epoch)
	require.EqualValues(t, 21, st.Appended)
	require.Equal(t, 1, st.Leased, "the parked one")
	require.Equal(t, FateDone, s.Fate(1))
	require.Equal(t, "dropped:because", s.Fate(7))
	require.EqualValues(t, 22, st.Next)
	got := s.Take(1, "", Backlog, 99, 1<<20, nil)
	got = append(got, s.Take(1, "", Live, 99, 1<<20, nil)...)
	require.Len(t, got, 16)
	for _, r := range got {
		require.Equal(t, rec(1, "c", 1000, int(r.Seq)-1).Payload, r.Payload)
	}
	require.NoError(t, put(s, rec(2, "c", 1000, 1)), "and it goes on")
	s.Done([]uint64{22})
	require.NoError(t, s.Close())
	s = open(t, dir, cfg, options...)
	require.NotEqual(t, session, s.Session(), "an opening has a session of its own")
	st = balanced(t, s)
	require.Equal(t, fresh, st.Epoch)
	require.Zero(t, st.Quarantined, "segments of the epoch before are the spool's own")
	require.Len(t, s.Take(1, "", Backlog, 99, 1<<20, nil), 17)
	require.Equal(t, FateDone, s.Fate(1))
}

// If no state can be written, there is no new epoch, and nothing has changed.
func TestANewEpochThatCannotBeWrittenIsNone(t *testing.T) {
	disk := &faultFS{FS: osFS{}}
	s := open(t, t.TempDir(), DefaultConfig(), WithFS(disk))
	require.NoError(t, put(s, rec(1, "c", 100, 1)))
	require.Len(t, s.Take(1, "", Live, 1, 1, nil), 1)
	old := s.Epoch()
	disk.set(func(op, _ string, _ int) (int, error) {
		if op == "sync" {
			return 0, errors.New("no")
		}
		return 0, nil
	})
	_, err := s.NewEpoch()
	require.Error(t, err)
	disk.set(nil)
	require.Equal(t, old, s.Epoch())
	require.Equal(t, 1, s.Stats().Leased)
}

// If the state is lost after a new epoch, the segments of both epochs belong to the spool, and so does its history.
func TestALostStateKeepsTheRecordsOfAllEpochs(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, DefaultConfig(), small(16<<20, 8<<10, 4<<10))
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, put(s, rec(1, "c", 1000, i)))
	}
	_, err = s.NewEpoch()
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, put(s, rec(4, "c", 1000, i)))
	}
	fresh := s.Epoch()
	require.NoError(t, s.Close())
	for _, name := range slotNames {
		require.NoError(t, os.WriteFile(dir+"/"+name, make([]byte, 100), 0o600))
	}
	s = open(t, dir, DefaultConfig(), small(16<<20, 8<<10, 4<<10))
	st := balanced(t, s)
	require.EqualValues(t, 40, st.Held)
	require.Equal(t, fresh, st.Epoch)
	require.Zero(t, st.Quarantined)
}
