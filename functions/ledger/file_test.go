package ledger

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/status"
)

// obstruct puts a non-empty folder in the place of a file: it can be neither read, written nor replaced.
func obstruct(t *testing.T, path string) (clear func()) {
	t.Helper()
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.MkdirAll(filepath.Join(path, "x"), 0o700))
	return func() { require.NoError(t, os.RemoveAll(path)) }
}

// A file that exists but cannot be read keeps the service from starting, since it would be overwritten.
func TestFilesThatCannotBeReadAreErrors(t *testing.T) {
	dir := t.TempDir()
	for name, read := range map[string]func() error{
		ledgerFile: func() error { _, err := Load(dir); return err },
		dropsFile:  func() error { _, err := OpenDrops(dir); return err },
	} {
		require.NoError(t, read(), "%s is not there", name)
		obstruct(t, filepath.Join(dir, name))
		err := read()
		require.ErrorContains(t, err, "reading the ", name)
		require.ErrorContains(t, err, name)
		require.NotErrorIs(t, err, ErrDamaged, name)
		require.DirExists(t, filepath.Join(dir, name))
		require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
		require.NoError(t, syscall.Mkfifo(filepath.Join(dir, name), 0o600))
		require.ErrorContains(t, read(), "must be a file", name)
		require.NoError(t, os.Remove(filepath.Join(dir, name)))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("{"), 0o600))
		require.ErrorIs(t, read(), ErrDamaged, name)
	}
}

// A flipped bit anywhere in the account is detected, or does not change what is read. A file without a checksum is from an earlier version.
func TestAFlippedBitFalsifiesNoAccount(t *testing.T) {
	dir, want := t.TempDir(), Saved{Local: 1234, Dropped: map[string]int64{"tooLarge": 5}}
	path := filepath.Join(dir, ledgerFile)
	require.NoError(t, New(want, SpoolCounts{}).Save(dir, status.Counts{Accepted: 77}))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for bit := range len(whole) * 8 {
		bad := bytes.Clone(whole)
		bad[bit/8] ^= 1 << (bit % 8)
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		if got, err := Load(dir); err == nil {
			require.Equal(t, want, got, "bit %d: %s", bit, bad)
		} else {
			require.ErrorIs(t, err, ErrDamaged)
		}
	}
	require.NoError(t, os.WriteFile(path, []byte(`{"saved":{"local":1234,"dropped":{"tooLarge":5}},"counts":{}}`), 0o600))
	got, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// The same for the drops.
func TestAFlippedBitFalsifiesNoDrops(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDrops(dir)
	require.NoError(t, err)
	d.Early("vibration", "full")
	d.See(map[string]map[string]uint64{"camera": {"expired": 1234}}, true)
	require.NoError(t, d.Save())
	whole, err := os.ReadFile(d.path)
	require.NoError(t, err)
	want, err := OpenDrops(dir)
	require.NoError(t, err)
	require.EqualValues(t, 1235, want.Status().Unacknowledged)
	for bit := range len(whole) * 8 {
		bad := bytes.Clone(whole)
		bad[bit/8] ^= 1 << (bit % 8)
		require.NoError(t, os.WriteFile(d.path, bad, 0o600))
		got, err := OpenDrops(dir)
		if err == nil {
			require.Equal(t, want.list, got.list, "bit %d: %s", bit, bad)
		} else {
			require.ErrorIs(t, err, ErrDamaged)
			require.Empty(t, got.Status().List)
		}
	}
	require.NoError(t, os.WriteFile(d.path, []byte(`[{"class":"vibration","reason":"full","count":7,"unacknowledged":2,"early":3}]`), 0o600))
	got, err := OpenDrops(dir)
	require.NoError(t, err, "of an earlier version")
	require.Equal(t, []status.Drop{{Class: "vibration", Reason: "full", Count: 7, Unacknowledged: 2}}, got.Status().List)
}

// A file of valid JSON without content is damaged: such a file is never saved.
func TestAnEmptyAccountIsDamaged(t *testing.T) {
	dir := t.TempDir()
	for _, content := range []string{"", "{}", "null", `{"counts":{}}`, `{"saved":[]}`, `{"saved":{"local":"x"}}`} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, ledgerFile), []byte(content), 0o600))
		_, err := Load(dir)
		require.ErrorIs(t, err, ErrDamaged, content)
		require.NoError(t, os.WriteFile(filepath.Join(dir, dropsFile), []byte(content), 0o600))
		d, err := OpenDrops(dir)
		if content != `{"saved":[]}` {
			require.ErrorIs(t, err, ErrDamaged, content)
		}
		require.Empty(t, d.Status().List)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, dropsFile), []byte(`[{"class":"a"},{"class":7}]`), 0o600))
	d, err := OpenDrops(dir)
	require.ErrorIs(t, err, ErrDamaged)
	require.Empty(t, d.Status().List, "nothing of what could be read of it")
}

// Neither a file that cannot be written nor one that cannot be renamed counts as saved, and the next try saves it.
func TestFilesThatCannotBeSavedAreErrors(t *testing.T) {
	dir, l := t.TempDir(), New(Saved{}, SpoolCounts{})
	d, err := OpenDrops(dir)
	require.NoError(t, err)
	var accepted int64
	for name, save := range map[string]func() error{
		ledgerFile: func() error {
			accepted++ // an unchanged account is not saved
			return l.Save(dir, status.Counts{Accepted: accepted})
		},
		dropsFile: func() error {
			d.Early("c", "too_large")
			return d.Save()
		},
	} {
		path := filepath.Join(dir, name)
		for _, at := range []string{path + ".tmp", path} {
			clear := obstruct(t, at)
			require.ErrorContains(t, save(), name, at)
			clear()
			require.NoError(t, save(), "%s: the next try", at)
			require.FileExists(t, path)
		}
	}
}

// Unchanged drops are not written.
func TestDropsAreSavedWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDrops(dir)
	require.NoError(t, err)
	require.NoError(t, d.Save())
	require.NoFileExists(t, d.path)
	d.Early("c", "full")
	require.NoError(t, d.Save())
	require.NoError(t, os.Remove(d.path))
	require.NoError(t, d.Save())
	require.NoFileExists(t, d.path)
	require.EqualValues(t, 1, d.Acknowledge())
	require.Zero(t, d.Acknowledge())
	require.NoError(t, d.Save())
	require.FileExists(t, d.path, "the second acknowledgement hides no change")
	require.NoError(t, os.Remove(d.path))
	require.Zero(t, d.Acknowledge())
	require.NoError(t, d.Save())
	require.NoFileExists(t, d.path, "nothing was newly acknowledged")
}

// The latest drop is first, one with an unknown time last; of equal times the larger one, then by name.
func TestDropsAreListedLatestFirst(t *testing.T) {
	at := func(s int) *time.Time { v := time.Unix(int64(s), 0); return &v }
	d := &Drops{}
	for _, one := range []status.Drop{
		{Class: "unknown"},
		{Class: "old", Last: at(1)},
		{Class: "b", Last: at(2), Unacknowledged: 1},
		{Class: "large", Last: at(2), Unacknowledged: 2},
		{Class: "a", Last: at(2), Unacknowledged: 1},
		{Class: "never", Unacknowledged: 3},
	} {
		d.list = append(d.list, dropEntry{Drop: one})
	}
	var order []string
	st := d.Status()
	for _, one := range st.List {
		order = append(order, one.Class)
	}
	require.Equal(t, []string{"large", "a", "b", "old", "never", "unknown"}, order)
	require.EqualValues(t, 7, st.Unacknowledged)
	require.Zero(t, compareTimes(nil, nil))
	require.Equal(t, -1, compareTimes(nil, at(1)))
	require.Equal(t, 1, compareTimes(at(1), nil))
	require.Equal(t, -1, compareTimes(at(1), at(2)))
}

// Drops of one reason in two classes, and of one class for two reasons, are distinct.
func TestDropsAreToldApart(t *testing.T) {
	d, err := OpenDrops(t.TempDir())
	require.NoError(t, err)
	for _, drop := range [][2]string{{"a", "full"}, {"b", "full"}, {"a", "expired"}, {"b", "full"}} {
		d.Early(drop[0], drop[1])
	}
	counts := map[string]uint64{}
	for _, drop := range d.Status().List {
		counts[drop.Class+" "+drop.Reason] = drop.Count
	}
	require.Equal(t, map[string]uint64{"a full": 1, "b full": 2, "a expired": 1}, counts)
}

// A recreated spool is detected, also before anything of it is dropped.
func TestASpoolThatBeginsAnewIsNoted(t *testing.T) {
	d, err := OpenDrops(t.TempDir())
	require.NoError(t, err)
	d.See(map[string]map[string]uint64{"a": {"full": 2}}, true)
	require.NoError(t, d.Save())
	require.NoError(t, os.Remove(d.path))
	d.See(map[string]map[string]uint64{"a": {"full": 2}}, false)
	require.NoError(t, d.Save())
	require.NoFileExists(t, d.path)
	d.See(map[string]map[string]uint64{"a": {"full": 0}}, false)
	require.NoError(t, d.Save())
	require.FileExists(t, d.path)
	require.Zero(t, d.Status().Unacknowledged)
}
