package atomicfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for _, content := range []string{"first", "second, and longer", "3"} {
		require.NoError(t, Replace(path, []byte(content)))
		have, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(have))
		require.NoFileExists(t, path+".tmp")
	}
	require.ErrorContains(t, Replace(filepath.Join(t.TempDir(), "gone", "x"), nil), "gone")
}

// A link leads to the file that is replaced, and stays. A device, a pipe or a folder is refused and stays; so is a link without an end, or into
// a missing folder. Nothing is written through leftovers at the temporary name.
func TestWhatIsNoFileStays(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.Mkdir(at("disk"), 0o700))
	require.NoError(t, os.WriteFile(at("disk/state"), []byte("old"), 0o600))
	require.NoError(t, os.Symlink("disk/state", at("link")))
	require.NoError(t, Replace(at("link"), []byte("new")))
	have, err := Read(at("disk/state"))
	require.NoError(t, err)
	require.Equal(t, "new", string(have))
	require.Equal(t, fs.ModeSymlink, kind(t, at("link")))

	require.NoError(t, os.Symlink("disk/new", at("early")))
	require.NoError(t, Replace(at("early"), []byte("created")))
	have, err = Read(at("disk/new"))
	require.NoError(t, err)
	require.Equal(t, "created", string(have))
	require.Equal(t, fs.ModeSymlink, kind(t, at("early")))

	require.NoError(t, os.Symlink("gone/state", at("dangling")))
	require.NoError(t, os.Symlink("loop", at("loop")))
	require.NoError(t, os.Symlink("/dev/null", at("null")))
	require.NoError(t, syscall.Mkfifo(at("pipe"), 0o600))
	for _, name := range []string{"disk", "dangling", "loop", "null", "pipe"} {
		before := kind(t, at(name))
		require.ErrorContains(t, Replace(at(name), []byte("x")), "replacing "+at(name))
		require.Equal(t, before, kind(t, at(name)), name)
		_, err := Read(at(name))
		require.Error(t, err, name)
	}
	require.ErrorContains(t, Replace(os.DevNull, nil), "must be a file")

	for _, leave := range []func(string) error{
		func(tmp string) error { return syscall.Mkfifo(tmp, 0o600) },
		func(tmp string) error { return os.Symlink(at("disk/state"), tmp) },
	} {
		require.NoError(t, leave(at("fresh.tmp")))
		require.NoError(t, Replace(at("fresh"), []byte("fresh")))
		have, err := Read(at("fresh"))
		require.NoError(t, err)
		require.Equal(t, "fresh", string(have))
		require.Zero(t, kind(t, at("fresh")))
	}
	have, err = Read(at("disk/state"))
	require.NoError(t, err)
	require.Equal(t, "new", string(have))
}

func kind(t *testing.T, path string) fs.FileMode {
	info, err := os.Lstat(path)
	require.NoError(t, err)
	return info.Mode().Type()
}
