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

// used is a spool's folder in which a start has all its work to do: segments of two lanes, records done and held, a segment without an index, one of
// another spool, one without a header, spares of the right and of a wrong size, leftovers and a quarantine.
func used(t *testing.T) (dir string, opts []Option) {
	dir = t.TempDir()
	opts = []Option{small(4<<20, 8<<10, 0), func(o *options) { o.rescan = true }}
	cfg := DefaultConfig()
	cfg.AckInterval = "1h" // as many states are written on a slow machine
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

// A failing step of a start either keeps the spool from opening, with the step named and no file left open, or costs only what the golden file lists.
// Each step fails once, one at a time.
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
		require.NoError(t, s.closeFiles())
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
	requireGolden(t, "startfaults.golden", out.String())
}

func requireGolden(t *testing.T, name, have string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(have), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.Split(string(want), "\n"), strings.Split(have, "\n"))
}

// The upkeep of a spool: indexes, states, burials, rewrites, room, and the end. A failing step is reported, costs no record and is retried: held
// records are there when the spool opens again.
func TestEachStepOfUpkeepMayFail(t *testing.T) {
	master, opts := used(t)
	work := func(fail string) (report string, steps []string) {
		dir := filepath.Join(t.TempDir(), "spool")
		require.NoError(t, os.CopyFS(dir, os.DirFS(master)))
		disk := &faultFS{FS: osFS{}}
		s := newSpool(dir, DefaultConfig(), append(opts, WithFS(disk)))
		require.NoError(t, s.open())
		times := map[string]int{}
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
		say := func(what string, err error) {
			if err == nil && s.problem != "" {
				err = errors.New("problem: " + s.problem)
			}
			s.problem = ""
			if err != nil {
				report += what + ": " + strings.NewReplacer(dir, "DIR", "\n", "; ").Replace(err.Error()) + ". "
			}
		}
		s.Done([]uint64{7, 9, 11, 13, 15, 17, 19, 21, 4, 6, 8, 10})
		say("indexes", s.writeIndexes())
		say("checkpoint", s.Checkpoint())
		say("checkpoint", s.Checkpoint())
		s.Drop([]uint64{12, 16}, ReasonExpired)
		s.house.Lock()
		freed, err := s.rewriteSparsest()
		s.house.Unlock()
		say(fmt.Sprint("rewrite ", freed), err)
		say("sweep", s.sweep())
		s.house.Lock()
		room := s.relieve(s.limits.quota / 2)
		s.house.Unlock()
		say(fmt.Sprint("room ", room), nil)
		s.house.Lock()
		room = s.relieve(s.limits.quota)
		s.house.Unlock()
		say(fmt.Sprint("no room ", room), nil)
		say("prefill", s.prefill())
		st := balanced(t, s)
		for l := range s.lanes {
			for _, g := range s.lanes[l].segs {
				if g.rev > 0 {
					report += fmt.Sprintf("segment %s rewritten %d times. ", g.name(), g.rev)
				}
			}
		}
		report += fmt.Sprintf("held %d, done %d, dropped %v, segments %d, spares %d, disk %d. ", st.Held, st.Done, st.Dropped, len(s.lanes[0].segs)+len(s.lanes[1].segs),
			len(s.spares), s.disk)
		say("end", s.shut())
		disk.set(nil)
		again, err := Open(dir, DefaultConfig(), opts...)
		require.NoError(t, err, fail)
		after := balanced(t, again)
		require.Equal(t, st.Held, after.Held, fail)
		require.Len(t, again.Take(0, "c", Backlog, 100, 1<<20, nil), int(after.Classes["c"].Held)-len(again.Take(1, "c", Backlog, 100, 1<<20, nil)), fail) //nolint:gosec // small
		require.NoError(t, again.Close())
		return report, steps
	}
	clean, steps := work("")
	var out strings.Builder
	fmt.Fprintf(&out, "nothing fails: %s\n", clean)
	for _, step := range steps {
		report, _ := work(step)
		fmt.Fprintf(&out, "%s: %s\n", step, report)
	}
	requireGolden(t, "upkeepfaults.golden", out.String())
}

// openFiles returns the number of open files of this process.
func openFiles(t *testing.T) int {
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(names)
}
