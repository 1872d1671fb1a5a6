package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var epochs = regexp.MustCompile(`epoch [0-9a-f]{16}`)

var errBroken = errors.New("the disk is broken")

// used is a spool's folder in which a start has everything to do: segments of two lanes, records done and held, a segment without an
// index, one of another spool, one without a header, spares of the right and of a wrong size, leftovers and a quarantine.
func used(t *testing.T) (dir string, opts []Option) {
	dir = t.TempDir()
	opts = []Option{small(4<<20, 8<<10, 0), func(o *options) { o.rescan = true }}
	cfg := DefaultConfig()
	for _, at := range []string{dir, t.TempDir()} {
		s, err := Open(at, cfg, opts...)
		require.NoError(t, err)
		n := 40
		if at != dir {
			n = 100
		}
		for i := range n {
			require.NoError(t, put(s, rec(i%2, "c", 1000, i)))
		}
		s.Done([]uint64{1, 2, 3, 5})
		require.NoError(t, s.Close())
		if at != dir {
			found, err := filepath.Glob(filepath.Join(at, "*.seg"))
			require.NoError(t, err)
			raw, err := os.ReadFile(found[len(found)-1])
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(found[len(found)-1])), raw, 0o600))
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, segmentName(1, 0xf2)), make([]byte, 8<<10), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "spare-1"), make([]byte, 8<<10), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "spare-2"), make([]byte, 100), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "state-a.tmp"), nil, 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, quarantineDir), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, quarantineDir, "kept"), make([]byte, 123), 0o600))
	found, err := filepath.Glob(filepath.Join(dir, "*.idx"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(found[0]))
	return dir, opts
}

// A step of a start that fails either keeps the spool from opening, with the step named and no file left open, or costs nothing but
// what the golden file says. Each step is made to fail, one at a time.
func TestEachStepOfAStartMayFail(t *testing.T) {
	master, opts := used(t)
	start := func(fail string) (report string, steps []string) {
		dir := filepath.Join(t.TempDir(), "parent", "spool")
		require.NoError(t, os.MkdirAll(filepath.Dir(dir), 0o750))
		require.NoError(t, os.CopyFS(dir, os.DirFS(master)))
		times := map[string]int{}
		disk := &faultFS{FS: osFS{}}
		disk.set(func(op, name string, _ int) (int, error) {
			step := op + " " + name
			times[step]++
			step = fmt.Sprintf("%s %d", step, times[step])
			steps = append(steps, step)
			if step == fail {
				return 0, errBroken
			}
			return 0, nil
		})
		files := openFiles(t)
		s := newSpool(dir, DefaultConfig(), append(opts, WithFS(disk)))
		err := s.open()
		disk.set(nil)
		if err != nil {
			require.ErrorIs(t, err, errBroken, fail)
			require.Equal(t, files, openFiles(t), "open after %s", fail)
			text := strings.ReplaceAll(err.Error(), filepath.Dir(dir), "PARENT")
			return "refused: " + epochs.ReplaceAllString(text, "epoch E"), steps
		}
		st := balanced(t, s)
		report = fmt.Sprintf("opened: held %d, done %d, dropped %v, next %d, disk %d, kept %d, spares %d, damages %d", st.Held, st.Done,
			st.Dropped, st.Next, s.disk, s.kept, len(s.spares), len(s.damages))
		if s.problem != "" {
			report += ", problem: " + strings.ReplaceAll(s.problem, filepath.Dir(dir), "PARENT")
		}
		require.NoError(t, s.abandon())
		return report, steps
	}
	clean, steps := start("")
	var out strings.Builder
	fmt.Fprintf(&out, "nothing fails: %s\n", clean)
	for _, step := range steps {
		if strings.HasPrefix(step, "close") {
			continue
		}
		report, _ := start(step)
		fmt.Fprintf(&out, "%s: %s\n", step, report)
	}
	path := filepath.Join("testdata", "startfaults.golden")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(out.String()), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.Split(string(want), "\n"), strings.Split(out.String(), "\n"))
}

// openFiles counts those of this process.
func openFiles(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(names)
}
