package spool

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// worn creates a spool with some records done, one payload damaged, and the index removed. It returns the directory.
func worn(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, DefaultConfig())
	require.NoError(t, err)
	for i := range 10 {
		require.NoError(t, put(s, rec(1+i%2, "c", 1000, i)))
	}
	s.Done([]uint64{1, 2})
	require.NoError(t, s.Close())
	f, err := os.OpenFile(filepath.Join(dir, segmentName(1, 1)), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("X"), dataStart+2*1057+500) // in record 5
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return dir
}

func TestInspectVerifyExportRepair(t *testing.T) {
	dir := worn(t)
	before := listing(t, dir)

	r, err := Inspect(dir)
	require.NoError(t, err)
	require.Equal(t, "ok", r.State)
	require.False(t, r.InUse)
	require.EqualValues(t, 8, r.Held)
	require.EqualValues(t, 10, r.Appended)
	require.Equal(t, map[string]int{"c": 8}, r.Classes)
	require.Len(t, r.Segments, 2)
	require.Empty(t, r.Damages, "inspecting does not read payloads")

	r, err = Verify(dir)
	require.NoError(t, err)
	require.Len(t, r.Damages, 1)
	require.EqualValues(t, 5, r.Damages[0].Seq)

	var got []uint64
	r, err = Export(dir, func(rec Record) error {
		got = append(got, rec.Seq)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []uint64{4, 6, 8, 10, 3, 7, 9}, got, "the highest lane first")
	require.Len(t, r.Damages, 1)
	require.Equal(t, before, listing(t, dir), "nothing changed")

	r, err = Repair(dir)
	require.NoError(t, err)
	require.Len(t, r.Damages, 1)
	require.EqualValues(t, 7, r.Held)
	require.Equal(t, []string{segmentName(1, 1) + "-3138.bad"}, r.Kept)
	r, err = Verify(dir)
	require.NoError(t, err)
	require.Empty(t, r.Damages)
	s := open(t, dir, DefaultConfig())
	require.EqualValues(t, 1, balanced(t, s).Dropped[ReasonQuarantined])
}

// Without a readable state the tools show all records in the segments, including those done.
func TestToolsWithoutAState(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"missing": os.Remove, "damaged": func(path string) error { return overwrite(path, 40, []byte("XXXX")) },
	} {
		dir := worn(t)
		for _, name := range slotNames {
			require.NoError(t, change(filepath.Join(dir, name)))
		}
		for _, look := range []func(string, ...Option) (*Report, error){Inspect, Verify} {
			r, err := look(dir)
			require.NoError(t, err, what)
			require.Equal(t, "lost", r.State, what)
			require.Len(t, r.Segments, 2, what)
			require.GreaterOrEqual(t, r.Held, 9, what)
		}
	}
}

func TestToolsBesideARunningSpool(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig())
	require.NoError(t, put(s, rec(1, "c", 100, 1)))
	r, err := Verify(dir)
	require.NoError(t, err)
	require.True(t, r.InUse)
	require.Equal(t, 1, r.Held)
	_, err = Repair(dir)
	require.ErrorIs(t, err, ErrLocked)
	_, err = Inspect(t.TempDir())
	require.ErrorContains(t, err, "no spool found")
}

func listing(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		st, err := e.Info()
		require.NoError(t, err)
		out[e.Name()] = st.Size()
	}
	return out
}
