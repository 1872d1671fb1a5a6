package spool

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A pipe in place of a file of the spool does not block the start: it is named, and all other files stay.
func TestAPipeDoesNotHoldUpTheStart(t *testing.T) {
	for _, name := range []string{"1-0000000000000009.seg", "1-0000000000000001.idx", "state-a.tmp", "state-a", "quarantine/1-0000000000000009.seg"} {
		dir := t.TempDir()
		s, err := Open(dir, DefaultConfig(), small(16<<20, 1<<20, 1<<20))
		require.NoError(t, err)
		require.NoError(t, put(s, rec(1, "c", 1000, 1)))
		require.NoError(t, s.Close())
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		_ = os.Remove(filepath.Join(dir, name))
		require.NoError(t, unix.Mkfifo(filepath.Join(dir, name), 0o600))
		done := make(chan error, 1)
		go func() {
			s, err := Open(dir, DefaultConfig(), small(16<<20, 1<<20, 1<<20))
			if err == nil {
				err = s.Close()
			}
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				require.ErrorContains(t, err, filepath.Base(name))
			}
		case <-time.After(20 * time.Second):
			require.Fail(t, "the start waits", name)
		}
	}
}
