package host

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree is a fake sysfs and procfs in a temporary folder.
type tree struct {
	t    *testing.T
	root string
}

// newTree has what every Linux has: CPU times and memory, and no sensor at all.
func newTree(t *testing.T) tree {
	t.Helper()
	tr := tree{t, t.TempDir()}
	require.NoError(t, os.Mkdir(filepath.Join(tr.root, "sys"), 0o755))
	tr.cpu(100, 900)
	tr.put("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nBuffers: 50 kB\nCached: 250 kB\n")
	return tr
}

func (tr tree) put(file, content string) {
	tr.t.Helper()
	path := filepath.Join(tr.root, file)
	require.NoError(tr.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(tr.t, os.WriteFile(path, []byte(content), 0o644))
}

func (tr tree) remove(file string) {
	tr.t.Helper()
	require.NoError(tr.t, os.RemoveAll(filepath.Join(tr.root, file)))
}

func (tr tree) config() Config {
	c := DefaultConfig()
	c.SysfsRoot, c.ProcfsRoot = filepath.Join(tr.root, "sys"), filepath.Join(tr.root, "proc")
	return c
}

func (tr tree) sampler() *Sampler {
	tr.t.Helper()
	s, err := New(tr.config())
	require.NoError(tr.t, err)
	return s
}
