package models

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func canaries(c *Config) { c.Canary = true }

func ask(t *testing.T, s *Store, name string) float64 {
	t.Helper()
	a, err := s.RunCanary(t.Context(), name, numbers("[1,2,3,4]"))
	require.NoError(t, err)
	return a.Values[0]
}

// A new version computes only the tasks of the trial, and then replaces the version in force, also after a restart.
func TestANewVersionIsACanaryFirst(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	s := open(t, dir, canaries)
	_, on := s.Canary("m")
	require.False(t, on, "the first version has nothing to be compared with")
	require.EqualValues(t, 1, value(t, s, "m"))

	put(t, dir, describe(t, "m", "2", made(t, 4, 2)), made(t, 4, 2))
	require.NoError(t, s.Scan(t.Context()))
	loads := s.Counts().Loads
	require.NoError(t, s.Scan(t.Context()), "it is the same canary")
	require.Equal(t, loads, s.Counts().Loads)
	v, on := s.Canary("m")
	require.True(t, on)
	require.EqualValues(t, "2", v)
	require.EqualValues(t, "2", status(t, s, "m").Canary)
	require.EqualValues(t, 1, value(t, s, "m"))
	require.EqualValues(t, 2, ask(t, s, "m"))
	require.ErrorIs(t, s.Settle("m", "3", true), ErrUnknown)
	require.ErrorIs(t, s.Settle("none", "1", true), ErrUnknown)
	_, err := s.RunCanary(t.Context(), "none", numbers("[1,2,3,4]"))
	require.ErrorIs(t, err, ErrUnknown)
	_, on = s.Canary("none")
	require.False(t, on)

	require.NoError(t, s.Close(t.Context()))
	s = open(t, dir, canaries)
	require.EqualValues(t, 1, value(t, s, "m"), "what was not settled is a canary again")
	require.NoError(t, s.Settle("m", "2", true))
	require.EqualValues(t, 2, value(t, s, "m"))
	_, err = s.RunCanary(t.Context(), "m", numbers("[1,2,3,4]"))
	require.ErrorIs(t, err, ErrUnknown)
	require.ErrorIs(t, s.Settle("m", "2", true), ErrUnknown, "it is no canary any more")
	require.NoError(t, s.Close(t.Context()))
	require.EqualValues(t, 2, value(t, open(t, dir, canaries), "m"))
}

// A rejected canary stays out across restarts until it is requested; a newer version becomes a canary again.
func TestACanaryThatIsTurnedDownStaysOut(t *testing.T) {
	dir := t.TempDir()
	for v, x := range map[Version]float32{"1": 1} {
		put(t, dir, describe(t, "m", v, made(t, 4, x)), made(t, 4, x))
	}
	s := open(t, dir, canaries)
	put(t, dir, describe(t, "m", "2", made(t, 4, 2)), made(t, 4, 2))
	require.NoError(t, s.Scan(t.Context()))
	used := s.Counts().Used
	require.NoError(t, s.Settle("m", "2", false))
	require.Less(t, s.Counts().Used, used)
	require.NoError(t, s.Scan(t.Context()))
	_, on := s.Canary("m")
	require.False(t, on)
	require.NoError(t, s.Close(t.Context()))
	s = open(t, dir, canaries)
	_, on = s.Canary("m")
	require.False(t, on)
	require.EqualValues(t, 1, value(t, s, "m"))
	require.ErrorIs(t, use(t, s, "m", "2", false), ErrOlder)
	put(t, dir, describe(t, "m", "3", made(t, 4, 3)), made(t, 4, 3))
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 3, ask(t, s, "m"))
	require.NoError(t, use(t, s, "m", "2", true))
	require.EqualValues(t, 2, value(t, s, "m"))
}

// If memory is short, a canary is evicted instead of blocking a model in use.
func TestACanaryMakesRoom(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	put(t, dir, describe(t, "a", "1", file), file)
	s := open(t, dir, canaries)
	put(t, dir, describe(t, "a", "2", file), file)
	require.NoError(t, s.Scan(t.Context()))
	lease, err := s.Acquire(t.Context(), "a")
	require.NoError(t, err)
	b := describe(t, "b", "1", file)
	s.limit = s.Counts().Used + b.Memory - 1
	put(t, dir, b, file)
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 1, value(t, s, "b"))
	lease.Close()
	_, on := s.Canary("a")
	require.False(t, on)

	loads := s.Counts().Loads
	for range 3 {
		require.NoError(t, s.Scan(t.Context()))
	}
	require.Equal(t, loads, s.Counts().Loads, "it is not loaded only to be evicted again")
	_, err = s.Accepts(text(t, describe(t, "a", "2", file)), nil, false)
	require.ErrorIs(t, err, ErrInstalled, "nor delivered again")
	idle := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.models["b"].loaded.left -= idleFor
	}
	lease, err = s.Acquire(t.Context(), "b")
	require.NoError(t, err)
	idle()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.Scan(ctx))
	require.Equal(t, loads, s.Counts().Loads, "a model in use makes no room")
	lease.Close()
	idle()
	require.NoError(t, s.Scan(t.Context()))
	_, on = s.Canary("a")
	require.True(t, on, "nothing has used the other model for long")
	require.EqualValues(t, 1, value(t, s, "b"))
	require.NoError(t, s.Close(context.Background()))
}

// A model whose folders are removed loses its canary as well, even if the version in force is not in memory.
func TestACanaryLeavesWithItsModel(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	first, second := describe(t, "a", "1", file), describe(t, "a", "2", file)
	put(t, dir, first, file)
	s := open(t, dir, canaries)
	put(t, dir, second, file)
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 1, value(t, s, "a"))
	b := describe(t, "b", "1", file)
	s.limit = s.Counts().Used + b.Memory - 1
	put(t, dir, b, file)
	require.NoError(t, s.Scan(t.Context()))
	require.False(t, status(t, s, "a").Loaded)
	require.EqualValues(t, "2", status(t, s, "a").Canary)

	require.NoError(t, os.RemoveAll(dir+"/"+first.Folder()))
	require.NoError(t, os.RemoveAll(dir+"/"+second.Folder()))
	require.NoError(t, s.Scan(t.Context()))
	require.Equal(t, status(t, s, "b").Bytes, s.Counts().Used)
}

// A canary whose trial is being settled is not evicted: once its promotion is on disk, nothing would load it before the next start.
func TestACanaryThatIsBeingSettledStaysInMemory(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	s := open(t, dir, canaries)
	put(t, dir, describe(t, "m", "2", made(t, 4, 2)), made(t, 4, 2))
	require.NoError(t, s.Scan(t.Context()))
	idle := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.idleCanary() != nil
	}
	require.True(t, idle())
	slow := dir + "/" + stateFile + ".new"
	require.NoError(t, syscall.Mkfifo(slow, 0o600))
	settled := make(chan error, 1)
	go func() { settled <- s.Settle("m", "2", true) }()
	require.Eventually(t, func() bool { return !idle() }, 5*time.Second, time.Millisecond, "it could be taken out while the disk is awaited")
	reader, err := os.Open(slow) // lets Settle continue, whose Sync of a pipe fails
	require.NoError(t, err)
	require.Error(t, <-settled)
	require.NoError(t, reader.Close())
	require.True(t, idle(), "it is a canary still")
	require.NoError(t, os.Remove(slow))
	require.NoError(t, s.Settle("m", "2", true))
	require.EqualValues(t, 2, value(t, s, "m"))
}

// A canary that was evicted before the end of its trial is not loaded again, and stays in the folder when old versions are removed.
func TestACanaryThatMadeRoomStaysInTheFolder(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	put(t, dir, describe(t, "m", "1", file), file)
	s := open(t, dir, canaries)
	second := made(t, 4, 2)
	require.NoError(t, os.WriteFile(dir+"/.in", second, 0o600))
	manifest := text(t, describe(t, "m", "2", second))
	require.NoError(t, s.Install(t.Context(), manifest, nil, ".in", false))
	s.mu.Lock()
	s.retire(s.models["m"])
	s.mu.Unlock()
	s.prune("m", "1", "2")
	_, err := s.Accepts(manifest, nil, false)
	require.ErrorIs(t, err, ErrInstalled)
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 2, ask(t, s, "m"), "its trial continues")
}

// The measurements of a canary become those of its model when it is promoted.
func TestAPromotedCanaryIsMeasured(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	s := open(t, dir, canaries)
	require.EqualValues(t, 1, value(t, s, "m"))
	before := status(t, s, "m").Bytes
	put(t, dir, describe(t, "m", "2", made(t, 4000, 2)), made(t, 4000, 2))
	require.NoError(t, s.Scan(t.Context()))
	v, macs, _ := s.Measured("m")
	require.Equal(t, [2]any{Version("1"), int64(4)}, [2]any{v, macs})
	require.NoError(t, s.Settle("m", "2", true))
	v, macs, took := s.Measured("m")
	require.Equal(t, [2]any{Version("2"), int64(4000)}, [2]any{v, macs})
	require.Positive(t, took)
	require.Greater(t, status(t, s, "m").Bytes, before)
}

// Models to load at the start are loaded, models that cannot be loaded are no error, and none of them is in use afterwards.
func TestModelsAreLoadedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"pinned", "preloaded", "neither"} {
		put(t, dir, describe(t, name, "1", made(t, 4, 1)), made(t, 4, 1))
	}
	s := open(t, dir) // chooses their versions, and loads them for that
	require.NoError(t, s.Close(t.Context()))
	s = open(t, dir, func(c *Config) { c.Pin, c.Preload = []string{"pinned", "none"}, []string{"preloaded", "missing"} })
	for name, loaded := range map[string]bool{"pinned": true, "preloaded": true, "neither": false} {
		_, macs, _ := s.Measured(name)
		require.Equal(t, loaded, macs > 0, name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.Close(ctx), "nothing is in use")
}

// A closed store holds no memory, including that of a canary.
func TestAClosedStoreHoldsNoCanary(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	s := open(t, dir, canaries)
	put(t, dir, describe(t, "m", "2", made(t, 4, 2)), made(t, 4, 2))
	require.NoError(t, s.Scan(t.Context()))
	require.EqualValues(t, 2, ask(t, s, "m"))
	require.NoError(t, s.Close(t.Context()))
	require.Zero(t, s.Counts().Used)
	_, on := s.Canary("m")
	require.False(t, on)
}
