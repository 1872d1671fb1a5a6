package models

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
)

// Four goroutines run three models while their versions are swapped 150 times (45 with -short), and the memory holds two of the models: no inference
// fails, each answer is that of a version that was in force, and memory does not grow.
func TestHotSwapUnderLoad(t *testing.T) {
	dir := t.TempDir()
	names := []string{"a", "b", "c"}
	const n = 1000 // values of input
	install := func(s *Store, name string, v int) error {
		file := made(t, n, float32(v))
		at := filepath.Join(dir, ".in-"+name)
		if err := os.WriteFile(at, file, 0o600); err != nil {
			return err
		}
		return s.Install(t.Context(), text(t, describe(t, name, Version(fmt.Sprint(v)), file)), nil, ".in-"+name, false)
	}
	one := describe(t, "a", "1", made(t, n, 1))
	s := open(t, dir, func(c *Config) { c.Sessions = 2 })
	s.limit = 5 * one.Memory / 2 // too small for all three
	for _, name := range names {
		require.NoError(t, install(s, name, 1))
	}
	input := numbers("[" + strings.Repeat("1,", n-1) + "1]")
	var newest [3]atomic.Int64
	for i := range newest {
		newest[i].Store(1)
	}
	var runs, failed atomic.Int64
	var wg sync.WaitGroup
	var run sync.RWMutex // excludes runs from a measurement of the heap: their present and uncollected memory is not growth
	ctx, stop := context.WithCancel(t.Context())
	for g := range 4 {
		wg.Go(func() {
			for i := g; ctx.Err() == nil; i++ {
				at := i % len(names)
				run.RLock()
				before := newest[at].Load()
				a, err := s.Model(names[at]).Run(t.Context(), input)
				run.RUnlock()
				if err != nil || a.Values[0] < float64(before) {
					t.Errorf("%v %v at version %d", err, a.Values, before)
					failed.Add(1)
				}
				runs.Add(1)
			}
		})
	}
	var low, high uint64
	swaps := 150
	if testing.Short() {
		swaps = 45
	}
	for i := range swaps {
		at, v := i%len(names), i/len(names)+2
		require.NoError(t, install(s, names[at], v))
		newest[at].Store(int64(v))
		require.LessOrEqual(t, s.Counts().Used, s.limit)
		run.Lock()
		heap := heapInUse()
		run.Unlock()
		if i > 20 {
			low, high = min(low, heap), max(high, heap)
		} else {
			low, high = heap, heap
		}
	}
	stop()
	wg.Wait()
	require.Zero(t, failed.Load())
	c := s.Counts()
	t.Logf("%d runs, %d loads, %d evictions, heap %d to %d KiB", runs.Load(), c.Loads, c.Evictions, low>>10, high>>10)
	require.NotZero(t, c.Evictions)
	require.Less(t, high-low, uint64(256<<10), "memory grows") // 150 leaked versions would use 600 KiB for weights alone
	require.NoError(t, s.Close(t.Context()))
	require.Zero(t, s.Counts().Used)
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // memory of pools is garbage now
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// An unusable version leaves the previous one in force, and the status reports why.
func TestABadVersionKeepsTheOldOne(t *testing.T) {
	for name, spoil := range map[string]struct {
		change func(folder string, m *Manifest)
		want   string
	}{
		"another content":  {func(f string, m *Manifest) { overwrite(t, f+"/"+m.File, int(m.Size)) }, "has the SHA-256"},
		"a shorter file":   {func(f string, m *Manifest) { overwrite(t, f+"/"+m.File, int(m.Size)-1) }, "the manifest specifies"},
		"no file":          {func(f string, m *Manifest) { _ = os.Remove(f + "/" + m.File) }, "no such file"},
		"a folder instead": {func(f string, m *Manifest) { _ = os.Remove(f + "/" + m.File); _ = os.Mkdir(f+"/"+m.File, 0o700) }, "not a regular file"},
		"a way out": {func(f string, m *Manifest) {
			_ = os.Rename(f+"/"+m.File, filepath.Dir(filepath.Dir(f))+"/out")
			require.NoError(t, os.Symlink("../../out", f+"/"+m.File))
		}, "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/store"
			put(t, dir, describe(t, "m", "1.9", made(t, 4, 1)), made(t, 4, 1))
			s := open(t, dir)
			require.InDelta(t, 1, value(t, s, "m"), 0)
			m := describe(t, "m", "1.10", made(t, 4, 2))
			spoil.change(put(t, dir, m, made(t, 4, 2)), m)
			require.NoError(t, s.Scan(t.Context()))
			require.InDelta(t, 1, value(t, s, "m"), 0)
			require.Equal(t, Version("1.9"), status(t, s, "m").Version)
			require.Contains(t, status(t, s, "m").Problem, spoil.want)
			require.ErrorContains(t, use(t, s, "m", "1.10", false), "keeping version 1.9")
		})
	}
}

func overwrite(t *testing.T, path string, n int) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, make([]byte, n), 0o600))
}

// A manifest's declarations are compared with the file, and its memory is a limit.
func TestAManifestThatDoesNotFitItsFile(t *testing.T) {
	file := made(t, 4, 1)
	for want, change := range map[string]func(*Manifest){
		"is float32[1 5] in the manifest":        func(m *Manifest) { m.Inputs[0].Shape = []int{1, 5} },
		"the manifest has 2 outputs, the file 1": func(m *Manifest) { m.Outputs = append(m.Outputs, m.Outputs[0]) },
		"bytes":                                  func(m *Manifest) { m.Memory = m.Size + 8 },
		"the model has 1":                        func(m *Manifest) { m.Output.Tensor = 1 },
		"does not fit the kind reconstruction":   func(m *Manifest) { m.Output = Output{Kind: Reconstruction, Threshold: 1} },
		"pictures need the shape":                func(m *Manifest) { m.Input.Kind = Image },
	} {
		dir := t.TempDir()
		put(t, dir, describe(t, "m", "1", file, change), file)
		s := open(t, dir)
		require.Contains(t, status(t, s, "m").Problem, want)
		_, err := s.Model("m").Run(t.Context(), numbers("[1,2,3,4]"))
		require.ErrorContains(t, err, want)
	}
	for less := range int64(2) { // the least memory that it runs in
		dir := t.TempDir()
		put(t, dir, describe(t, "m", "1", file, func(m *Manifest) { m.Memory = 0 }), file)
		s := open(t, dir)
		_, err := s.Model("m").Run(t.Context(), numbers("[1,2,3,4]"))
		require.NoError(t, err)
		least := status(t, s, "m").Bytes
		dir = t.TempDir()
		put(t, dir, describe(t, "m", "1", file, func(m *Manifest) { m.Memory = least - less }), file)
		require.Equal(t, less > 0, status(t, open(t, dir), "m").Problem != "", "%d of %d bytes", least-less, least)
	}
}

// A foreign, a hostile and a truncated file with fitting manifests cause errors that name the file, the byte and what was expected.
func TestABadFileIsNamedWithItsByte(t *testing.T) {
	file := made(t, 4, 1)
	hostile := bytes.Clone(file)
	copy(hostile, []byte{0xff, 0xff, 0xff, 0x7f}) // the root table is far outside
	for name, c := range map[string]struct {
		engine string
		file   []byte
		want   string
	}{
		"hostile":     {TFLite, hostile, "byte "},
		"truncated":   {TFLite, file[:len(file)/2], "byte "},
		"empty":       {TFLite, file[:8], "byte "},
		"text":        {TFLite, []byte("this is no model"), "TFL3"},
		"not ONNX":    {ONNX, file, "byte "},
		"no protobuf": {ONNX, bytes.Repeat([]byte{0xff}, 100), "byte "},
	} {
		dir := t.TempDir()
		put(t, dir, describe(t, "m", "1", file, func(m *Manifest) {
			digest := sha256.Sum256(c.file)
			m.Engine, m.Size, m.SHA256, m.Memory = c.engine, int64(len(c.file)), hex.EncodeToString(digest[:]), 1<<20
		}), c.file)
		s := open(t, dir)
		_, err := s.Model("m").Run(t.Context(), numbers("[1,2,3,4]"))
		require.ErrorContains(t, err, c.want, name)
		require.Contains(t, status(t, s, "m").Problem, "m.edge.1/model", name)
		t.Log(status(t, s, "m").Problem)
	}
}

// A rollback must be requested, persists across a restart and a scan, and ends with a version newer than all.
func TestRollback(t *testing.T) {
	dir := t.TempDir()
	for v := range 3 {
		put(t, dir, describe(t, "m", Version(fmt.Sprint(v+1)), made(t, 4, float32(v+1))), made(t, 4, float32(v+1)))
	}
	s := open(t, dir)
	require.InDelta(t, 3, value(t, s, "m"), 0)
	require.ErrorIs(t, use(t, s, "m", "2", false), ErrOlder)
	require.ErrorIs(t, use(t, s, "m", "7", true), ErrUnknown)
	require.NoError(t, use(t, s, "m", "2", true))
	require.InDelta(t, 2, value(t, s, "m"), 0)
	require.NoError(t, s.Scan(t.Context()))
	require.NoError(t, s.Close(t.Context()))
	s = open(t, dir)
	require.InDelta(t, 2, value(t, s, "m"), 0)
	require.ErrorIs(t, use(t, s, "m", "3", false), ErrOlder, "version 3 was left for a reason")
	require.NoError(t, use(t, s, "m", "2", false), "the version in force may be requested again")
	put(t, dir, describe(t, "m", "3.1", made(t, 4, 31)), made(t, 4, 31))
	require.NoError(t, s.Scan(t.Context()))
	require.InDelta(t, 31, value(t, s, "m"), 0)
}

// An install of an older version is refused, one of the same content changes nothing, and two versions are kept.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	install := func(v string, value float32, rollback bool) error {
		file := made(t, 4, value)
		require.NoError(t, os.WriteFile(dir+"/.in", file, 0o600))
		return s.Install(t.Context(), text(t, describe(t, "m", Version(v), file)), nil, ".in", rollback)
	}
	for v := 1; v <= 4; v++ {
		require.NoError(t, install(fmt.Sprint(v), float32(v), false))
		require.InDelta(t, float64(v), value(t, s, "m"), 0)
	}
	require.Equal(t, []Version{"3", "4"}, status(t, s, "m").Versions)
	require.NoError(t, install("4", 4, false))
	require.NoFileExists(t, dir+"/.in")
	require.ErrorContains(t, install("4", 5, false), "with another manifest")
	require.ErrorIs(t, install("2", 2, false), ErrOlder)
	require.NoError(t, install("2", 2, true))
	require.InDelta(t, 2, value(t, s, "m"), 0)
	file := made(t, 4, 9)
	require.NoError(t, os.WriteFile(dir+"/.in", []byte("x"), 0o600))
	err := s.Install(t.Context(), text(t, describe(t, "m", "9", file)), nil, ".in", false)
	require.ErrorContains(t, err, "keeping version 2")
	require.InDelta(t, 2, value(t, s, "m"), 0)
	require.NoDirExists(t, dir+"/m.edge.9", "a version that failed is not kept")
	require.Equal(t, Version("4"), status(t, s, "m").Newest)
}

// Pinned models stay, others are evicted by age, and a model that never fits is refused immediately.
func TestPinsAndAge(t *testing.T) {
	dir := t.TempDir()
	const n = 30_000
	for i, name := range []string{"a", "b", "c"} {
		put(t, dir, describe(t, name, "1", made(t, n, float32(i))), made(t, n, float32(i)))
	}
	put(t, dir, describe(t, "huge", "1", made(t, n, 1), func(m *Manifest) { m.Memory = 2 << 20 }), made(t, n, 1))
	s := open(t, dir, func(c *Config) { c.MemoryMiB = 1; c.Pin = []string{"a"}; c.Sessions = 1 })
	hold := func(name string) error {
		l, err := s.Acquire(t.Context(), name)
		if err == nil {
			l.Close()
		}
		return err
	}
	for range 3 {
		require.NoError(t, hold("b"))
		require.NoError(t, hold("c"))
	}
	require.True(t, status(t, s, "a").Loaded)
	require.Equal(t, 1, status(t, s, "a").Sessions)
	require.ErrorIs(t, hold("huge"), ErrTooBig)
	s.limit = s.models["a"].loaded.reserved + 2<<20
	require.NoError(t, s.Scan(t.Context()))
	require.NoError(t, hold("huge"), "all others but the pinned one leave for a model that just fits")
	s.limit--
	s.drop(s.models["huge"].loaded)
	s.models["huge"].loaded = nil
	require.ErrorIs(t, hold("huge"), ErrTooBig)
	s.limit = 1 << 20
	s.models["found"] = &model{name: "found"} // and no version of it is in force yet
	for _, name := range []string{"nothing", "found"} {
		require.ErrorIs(t, hold(name), ErrUnknown)
		_, err := s.usable(name)
		require.ErrorIs(t, err, ErrUnknown)
	}
	delete(s.models, "found")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	l, err := s.Acquire(t.Context(), "b")
	require.NoError(t, err)
	_, err = s.Acquire(ctx, "b")
	require.ErrorIs(t, err, context.DeadlineExceeded, "one session, which is in use")
	l.Close()
	l.Close()
	require.NoError(t, hold("b"))
}

// Close waits for the users of a model.
func TestCloseWaitsForUsers(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	s := open(t, dir)
	l, err := s.Acquire(t.Context(), "m")
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- s.Close(context.Background()) }()
	time.AfterFunc(10*time.Millisecond, l.Close)
	require.NoError(t, <-done)
	require.Nil(t, l.Session)
	_, err = s.Acquire(t.Context(), "m")
	require.ErrorIs(t, err, ErrClosed)
	require.Zero(t, s.Counts().Used)
}

// Folders that are not models are reported, and do not affect others.
func TestStrangeFolders(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "good", "1", made(t, 4, 1)), made(t, 4, 1))
	put(t, dir, describe(t, "cloudy", "1", made(t, 4, 1), func(m *Manifest) { m.Variant = Cloud }), made(t, 4, 1))
	twice := put(t, dir, describe(t, "twin", "1", made(t, 4, 1)), made(t, 4, 1))
	require.NoError(t, os.CopyFS(dir+"/twin-again", os.DirFS(twice)))
	for name, content := range map[string]string{"empty": "", "text": "hello", "typo": `{"format":1,"nmae":"x"}`, "more": `{"format":1}{}`, "large": strings.Repeat(" ", maxManifest+1)} {
		require.NoError(t, os.Mkdir(dir+"/"+name, 0o700))
		require.NoError(t, os.WriteFile(dir+"/"+name+"/"+ManifestFile, []byte(content), 0o600))
	}
	s := open(t, dir)
	list, problems := s.Status()
	require.Len(t, list, 2)
	require.Len(t, problems, 6, "%q", problems)
	require.InDelta(t, 1, value(t, s, "good"), 0)
	require.NoError(t, os.WriteFile(dir+"/"+stateFile, []byte("{"), 0o600))
	_, err := Open(t.Context(), s.cfg, nil)
	require.ErrorContains(t, err, stateFile)
	require.False(t, errors.Is(err, os.ErrNotExist))
}

// A file that cannot be loaded is read again after a while, not for every task.
func TestABrokenFileIsTriedAgainLater(t *testing.T) {
	dir := t.TempDir()
	fake := clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))
	m := describe(t, "m", "1", made(t, 4, 1))
	path := put(t, dir, m, made(t, 4, 1)) + "/" + m.File
	s := open(t, dir)
	require.NoError(t, s.Close(t.Context()))
	overwrite(t, path, 10)
	s, err := Open(t.Context(), s.cfg, clock.New(fake))
	require.NoError(t, err)
	defer func() { _ = s.Close(t.Context()) }()
	_, err = s.Model("m").Run(t.Context(), numbers("[1,2,3,4]"))
	require.ErrorContains(t, err, "has 10 bytes")
	require.NoError(t, os.WriteFile(path, made(t, 4, 1), 0o600))
	_, err = s.Model("m").Run(t.Context(), numbers("[1,2,3,4]"))
	require.ErrorContains(t, err, "has 10 bytes")
	require.Equal(t, uint64(1), s.Counts().Failures)
	fake.Advance(retryAfter)
	require.InDelta(t, 1, value(t, s, "m"), 0)
	require.Empty(t, status(t, s, "m").Problem)
}

// A version is installed beside one that cannot be loaded, and then put in force.
func TestAnInstallBesideABrokenVersion(t *testing.T) {
	dir := t.TempDir()
	bad := describe(t, "m", "1", made(t, 4, 1))
	overwrite(t, put(t, dir, bad, made(t, 4, 1))+"/"+bad.File, 10)
	s := open(t, dir)
	v, _, _ := s.Measured("m")
	require.Empty(t, v, "no version is in force")
	file := made(t, 4, 2)
	require.NoError(t, os.WriteFile(dir+"/.in", file, 0o600))
	require.NoError(t, s.Install(t.Context(), text(t, describe(t, "m", "2", file)), nil, ".in", false))
	require.InDelta(t, 2, value(t, s, "m"), 0)
}

// An install does not replace the folder of another model.
func TestAnInstallKeepsAForeignFolder(t *testing.T) {
	dir := t.TempDir()
	other := put(t, dir, describe(t, "other", "1", made(t, 4, 7)), made(t, 4, 7))
	require.NoError(t, os.Rename(other, dir+"/m.edge.1"))
	s := open(t, dir)
	file := made(t, 4, 1)
	require.NoError(t, os.WriteFile(dir+"/.in", file, 0o600))
	require.ErrorContains(t, s.Install(t.Context(), text(t, describe(t, "m", "1", file)), nil, ".in", false), "used by model other")
	require.InDelta(t, 7, value(t, s, "other"), 0)
}

// The counted bytes are the bytes that a model uses on the heap.
func TestBytesAreMeasured(t *testing.T) {
	dir := t.TempDir()
	const n = 30_000
	put(t, dir, describe(t, "m", "1", made(t, n, 1)), made(t, n, 1))
	s := open(t, dir)
	require.NoError(t, s.Close(t.Context())) // the choice is saved, so that opening loads nothing
	s = open(t, dir)
	before := heapInUse()
	l, err := s.Acquire(t.Context(), "m")
	require.NoError(t, err)
	took := float64(heapInUse() - before)
	t.Logf("%.0f bytes taken, %d counted", took, s.Counts().Used)
	require.InEpsilon(t, took, float64(s.Counts().Used), 0.2)
	l.Close()
}

func BenchmarkRun(b *testing.B) {
	dir := b.TempDir()
	put(b, dir, describe(b, "m", "1", made(b, 4, 1)), made(b, 4, 1))
	s := open(b, dir)
	m, input := s.Model("m"), numbers("[1,2,3,4]")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Run(b.Context(), input); err != nil {
			b.Fatal(err)
		}
	}
}

// A Close that times out leaves models in use to their users, and removes each from memory after its last user.
func TestACloseThatGivesUpLeavesModelsToTheirUsers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"idle", "used"} {
		put(t, dir, describe(t, name, "1", made(t, 4, 1)), made(t, 4, 1))
	}
	s := open(t, dir)
	require.InDelta(t, 1, value(t, s, "idle"), 0)
	first, err := s.Acquire(t.Context(), "used")
	require.NoError(t, err)
	l, err := s.Acquire(t.Context(), "used")
	require.NoError(t, err)
	own := status(t, s, "used").Bytes
	require.Positive(t, own)
	require.Greater(t, s.Counts().Used, own, "both are in memory")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Close(over), context.Canceled)
	require.Equal(t, own, s.Counts().Used, "only the idle model left memory")
	first.Close()
	require.Equal(t, own, s.Counts().Used, "one of two users has left")
	require.NoError(t, l.Session.Run())
	require.NotNil(t, l.l.p.Program, "its user still has it")
	l.Close()
	require.Zero(t, s.Counts().Used)
	require.Nil(t, l.l.p.Program)
}

// A version that cannot be installed leaves nothing behind, and the error is reported.
func TestAVersionThatCannotBePlacedLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	s := &Store{root: root}
	m := &Manifest{Name: "m", Version: "1", File: "model.tflite"}
	require.ErrorContains(t, s.place(m, []byte("{}"), []byte("signature"), "missing"), "missing")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	for _, signature := range [][]byte{nil, []byte("signature")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "upload"), []byte("model"), 0o600))
		require.NoError(t, s.place(m, []byte("{}"), signature, "upload"))
		left, err = os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.Equal(t, m.Folder(), left[0].Name())
		names, err := os.ReadDir(filepath.Join(dir, m.Folder()))
		require.NoError(t, err)
		require.Len(t, names, 2+min(len(signature), 1))
		model, err := os.ReadFile(filepath.Join(dir, m.Folder(), m.File))
		require.NoError(t, err)
		require.Equal(t, "model", string(model))
	}
}

// A caller that waits for its turn stops with its context, and the next one is served.
func TestWaitingForATurnEndsWithTheContext(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	s := open(t, dir)
	s.turn <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Acquire(ctx, "m")
	require.ErrorIs(t, err, context.Canceled)
	s.exit()
	require.EqualValues(t, 1, value(t, s, "m"))
}

// A problem ends with its cause, also if the folder was scanned in between.
func TestAProblemEndsWithItsCause(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))
	file := made(t, 4, 1)
	for name, c := range map[string]struct {
		spoil, mend func(s *Store, folder string, m *Manifest)
	}{
		"a file that is restored": {
			func(s *Store, folder string, m *Manifest) {
				overwrite(t, folder+"/"+m.File, 10)
				_, err := s.Model("m").Run(t.Context(), numbers("[1,2,3,4]"))
				require.ErrorContains(t, err, "has 10 bytes")
			},
			func(_ *Store, folder string, m *Manifest) {
				require.NoError(t, os.WriteFile(folder+"/"+m.File, file, 0o600))
			},
		},
		"a bad version that is removed": {
			func(_ *Store, folder string, m *Manifest) {
				bad := describe(t, "m", "2", file)
				overwrite(t, put(t, filepath.Dir(folder), bad, file)+"/"+bad.File, 10)
			},
			func(_ *Store, folder string, m *Manifest) {
				require.NoError(t, os.RemoveAll(filepath.Dir(folder)+"/m.edge.2"))
			},
		},
		"a changed manifest that is restored": {
			func(_ *Store, folder string, m *Manifest) {
				changed := *m
				changed.Output.Threshold = 3
				put(t, filepath.Dir(folder), &changed, file)
			},
			func(_ *Store, folder string, m *Manifest) { put(t, filepath.Dir(folder), m, file) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := describe(t, "m", "1", file)
			folder := put(t, dir, m, file)
			s := open(t, dir) // records the choice
			require.NoError(t, s.Close(t.Context()))
			s, err := Open(t.Context(), s.cfg, clock.New(fake))
			require.NoError(t, err)
			defer func() { _ = s.Close(t.Context()) }()
			c.spoil(s, folder, m)
			require.NoError(t, s.Scan(t.Context()))
			require.NotEmpty(t, status(t, s, "m").Problem)
			c.mend(s, folder, m)
			require.NoError(t, s.Scan(t.Context()))
			fake.Advance(retryAfter)
			require.InDelta(t, 1, value(t, s, "m"), 0)
			require.Empty(t, status(t, s, "m").Problem)
		})
	}
}

// A changed manifest of the version in force changes only the status.
func TestAManifestThatIsChangedInItsFolder(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	m := describe(t, "m", "1", file)
	put(t, dir, m, file)
	s := open(t, dir)
	m.Output.Threshold = 3
	put(t, dir, m, file)
	require.NoError(t, s.Scan(t.Context()))
	require.Contains(t, status(t, s, "m").Problem, "was changed in its folder")
	lease, err := s.Acquire(t.Context(), "m")
	require.NoError(t, err)
	defer lease.Close()
	require.Zero(t, lease.Manifest.Output.Threshold)
}

// What is in memory works on, whatever happens to its file or folder.
func TestALoadedModelOutlivesItsFolder(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	m := describe(t, "m", "1", file)
	folder := put(t, dir, m, file)
	s := open(t, dir)
	require.InDelta(t, 1, value(t, s, "m"), 0)
	overwrite(t, folder+"/"+m.File, 10)
	require.ErrorContains(t, use(t, s, "m", "1", true), "has 10 bytes")
	require.NoError(t, s.Usable("m"))
	require.InDelta(t, 1, value(t, s, "m"), 0)
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, s.Scan(t.Context()))
	require.NoError(t, s.Usable("m"))
	require.InDelta(t, 1, value(t, s, "m"), 0)
}

// A model takes less memory than its manifest allows: a load that waits for memory continues once the other one is measured, or has failed.
func TestTheEndOfALoadMakesRoom(t *testing.T) {
	for name, size := range map[string]int{"a load": 0, "a load that fails": 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				file := made(t, 4, 1)
				m := describe(t, "m", "1", file)
				folder := put(t, dir, m, file)
				put(t, dir, describe(t, "other", "1", file), file)
				s := open(t, dir)
				for _, one := range s.models {
					s.drop(one.loaded)
					one.loaded = nil
				}
				s.limit = m.memory() + m.memory()*9/10
				if size > 0 {
					overwrite(t, folder+"/"+m.File, size)
				}
				l, mine, err := s.take(t.Context(), "m")
				require.NoError(t, err)
				require.True(t, mine)
				waited := make(chan error)
				go func() {
					lease, err := s.Acquire(t.Context(), "other")
					if err == nil {
						lease.Close()
					}
					waited <- err
				}()
				synctest.Wait()
				require.Equal(t, 1, s.waiting)
				s.load(l)
				synctest.Wait()
				select {
				case err := <-waited:
					require.NoError(t, err)
				default:
					require.Fail(t, "it still waits")
				}
				s.leave(l)
			})
		})
	}
}

// An old version that cannot be removed is reported.
func TestAVersionThatCannotBeRemovedIsReported(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	put(t, dir, describe(t, "m", "1", file), file)
	put(t, dir, describe(t, "m", "2", file), file)
	s := open(t, dir)
	require.NoError(t, s.root.Close())
	s.remove("m", "1")
	list, problems := s.Status()
	require.Equal(t, []Version{"2"}, list[0].Versions)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0], "m.edge.1: removing an old version: ")
}

// A version whose choice cannot be recorded is not put in force, and leaves memory.
func TestAChoiceThatCannotBeRecorded(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, describe(t, "m", "1", made(t, 4, 1)), made(t, 4, 1))
	s := open(t, dir)
	used := s.Counts().Used
	require.NoError(t, os.Remove(dir+"/"+stateFile))
	require.NoError(t, os.MkdirAll(dir+"/"+stateFile+"/in the way", 0o700))
	put(t, dir, describe(t, "m", "2", made(t, 4, 2)), made(t, 4, 2))
	require.NoError(t, s.Scan(t.Context()))
	require.Contains(t, status(t, s, "m").Problem, "saving the state of the models")
	require.Equal(t, used, s.Counts().Used)
	require.InDelta(t, 1, value(t, s, "m"), 0)
}
