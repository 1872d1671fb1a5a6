package functions

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
)

// The user with this id owns nothing.
const unprivileged = 65534

// A file of another user, such as after one run as root, is not damaged: the start names it, and no file is moved aside or rewritten. A spare file is
// only named. Once ownership is restored all is as before.
func TestAFileOfAnotherUserIsNotDamaged(t *testing.T) {
	if dir := os.Getenv("OFFLOAD_TEST_DIR"); dir != "" { // the process that may not read it
		cfg := testConfig(t, nil, "cloud")
		cfg.Spool.Directory, cfg.Spool.QuotaMiB = dir, 16
		s, err := New(cfg, Deps{Name: "app-offload", Log: testLog{t}, Secrets: noSecrets{}, Publisher: &bin{}})
		if err == nil {
			_ = s.Stop()
		}
		if strings.HasPrefix(filepath.Base(os.Getenv("OFFLOAD_TEST_FILE")), "spare-") {
			require.NoError(t, err, "it holds nothing")
			return
		}
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, "belongs to user 0")
		require.ErrorContains(t, err, filepath.Base(os.Getenv("OFFLOAD_TEST_FILE")))
		_, err = spool.Inspect(dir)
		require.True(t, err == nil || errors.Is(err, fs.ErrPermission), "%v", err)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("giving a file to another user takes root")
	}
	dir, err := os.MkdirTemp("/tmp", "offload-owner-") // where others may enter
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := testConfig(t, nil, "cloud")
	cfg.Spool.Directory, cfg.Spool.QuotaMiB = dir, 16
	s := open(t, cfg, &bin{})
	for n := range 50 {
		takeIn(t, s, "d", n)
	}
	s.ledger.Enter(7)
	s.ledger.Local(7)
	s.drops.Early("default", "full")
	require.NoError(t, s.drops.Save())
	require.NoError(t, s.Stop())
	before := s.ledger.Saved()

	names, err := filepath.Glob(dir + "/*")
	require.NoError(t, err)
	tried := 0
	for _, name := range names {
		if strings.HasSuffix(name, ".idx") {
			continue // a symbolic link: its target is read elsewhere
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			tried++
			for _, each := range append(names, dir) {
				require.NoError(t, os.Chown(each, unprivileged, unprivileged))
			}
			require.NoError(t, os.Chown(name, 0, 0))
			require.NoError(t, os.Chmod(name, 0o600))
			content, err := os.ReadFile(name)
			require.NoError(t, err)
			self, err := os.Executable()
			require.NoError(t, err)
			copied := filepath.Join(dir, "test")
			require.NoError(t, exec.Command("cp", self, copied).Run())
			defer os.Remove(copied)
			require.NoError(t, os.Chmod(copied, 0o755))
			cmd := exec.Command(copied, "-test.run", "^TestAFileOfAnotherUserIsNotDamaged$", "-test.v")
			cmd.Env = append(os.Environ(), "OFFLOAD_TEST_DIR="+dir, "OFFLOAD_TEST_FILE="+name, "TMPDIR=/tmp")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
			cmd.Dir = "/"
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			still, err := os.ReadFile(name)
			require.NoError(t, err)
			require.Equal(t, content, still)
			require.NoFileExists(t, filepath.Join(dir, "learned.bad.json"))
		})
	}
	require.Greater(t, tried, 6)
	s = open(t, cfg, &bin{})
	require.Equal(t, before, s.ledger.Saved())
	require.EqualValues(t, 50, s.Counts().Spooled)
	require.Zero(t, s.Counts().Balance)
}
