package quarantine

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The folder keeps the latest files within its limit: existing files count, foreign files do not, and a missing file is not an error.
func TestTheFolderKeepsTheLatest(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "00000-notes.txt")
	require.NoError(t, os.WriteFile(foreign, make([]byte, 1<<20), 0o600))
	kept := filepath.Join(dir, strings.Repeat("0", 20)+"-kept"+folderSuffix)
	require.NoError(t, os.MkdirAll(filepath.Join(kept, "by a person"), 0o700))
	entry := func(n int) Rejected {
		return Rejected{ID: uint64(n), Time: time.Unix(int64(n), 0), Reason: "malformed", Payload: []byte(strings.Repeat("x", 300))}
	}
	f := &folder{dir: dir, maxBytes: 1 << 20}
	require.NoError(t, f.write(entry(1)))
	one := f.bytes
	require.NoError(t, f.write(entry(2)))
	require.Equal(t, 2*one, f.bytes)

	again, err := openFolder(dir, 3*one, 1<<20)
	require.NoError(t, err)
	require.Equal(t, 2*one, again.bytes)
	require.NoError(t, again.close())
	require.NoError(t, again.close(), "twice is fine")
	require.NoError(t, again.write(entry(3)))
	require.Len(t, again.files, 3, "just full")
	require.NoError(t, os.Remove(filepath.Join(dir, again.files[0].name)))
	require.NoError(t, again.write(entry(4)))
	require.NoError(t, again.write(entry(5)))
	require.Len(t, again.files, 3)
	require.Equal(t, 3*one, again.bytes)
	left, err := filepath.Glob(filepath.Join(dir, "*"+folderSuffix))
	require.NoError(t, err)
	require.Equal(t, kept, left[0], "a folder is nothing of the quarantine's")
	for i, path := range left[1:] {
		require.Equal(t, again.files[i].name, filepath.Base(path))
		require.Contains(t, path, []string{"000003", "000004", "000005"}[i])
	}
	require.FileExists(t, foreign)

	again.maxBytes = one
	require.NoError(t, again.write(entry(6)))
	require.Len(t, again.files, 1, "room for one alone")

	huge := entry(7)
	huge.Payload = make([]byte, 4*one)
	require.ErrorContains(t, again.write(huge), "QuarantineDirMiB")
	require.Len(t, again.files, 1, "nothing made room for what cannot be kept")
	again.files[0].name = filepath.Base(kept)
	require.Error(t, again.write(entry(8)), "what cannot be removed makes no room")
	require.Len(t, again.files, 1)
	_, err = openFolder(filepath.Join(dir, "none"), 1, 1)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Payloads wait for the disk within a limit of bytes and number; rejected ones are counted and take no room.
func TestWhatWaitsForTheDiskIsBooked(t *testing.T) {
	f := &folder{maxBytes: 1 << 20, maxQueued: 0, queue: make(chan Rejected, 2)}
	entry := Rejected{Payload: []byte("x")}
	f.offer(entry)
	size := f.queued.Load()
	require.Positive(t, size, "one may wait, whatever its size")
	f.offer(entry)
	require.Equal(t, []int64{size, 1}, []int64{f.queued.Load(), int64(f.unwritten.Load())})
	f.maxQueued = 10 * size
	f.offer(entry)
	require.Equal(t, []int64{2 * size, 1}, []int64{f.queued.Load(), int64(f.unwritten.Load())})
	f.offer(entry)
	require.Equal(t, []int64{2 * size, 2}, []int64{f.queued.Load(), int64(f.unwritten.Load())}, "the queue is full")
	f.maxBytes = 1
	f.try(<-f.queue)
	require.Equal(t, []int64{size, 3}, []int64{f.queued.Load(), int64(f.unwritten.Load())}, "it failed and waits no more")
	require.Error(t, f.err)
}

// A full disk keeps no part of a payload, which would neither be counted nor removed.
func TestAFullDiskKeepsNoPartOfAPayload(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	f := &folder{dir: dir, maxBytes: 1 << 20}
	entry := Rejected{Payload: make([]byte, 20<<10), Reason: "malformed"}
	require.NoError(t, f.write(entry))
	for n := range 3 {
		entry.ID = uint64(n + 1)
		_ = f.write(entry)
	}
	require.ErrorIs(t, f.write(Rejected{ID: 9, Payload: make([]byte, 40<<10)}), syscall.ENOSPC)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, len(f.files))
}

// As many bytes may wait for the disk as memory keeps, and at least a default.
func TestWhatMayWaitForTheDisk(t *testing.T) {
	for kib, want := range map[int]int64{1: folderBytes, folderBytes >> 10: folderBytes, 2 * folderBytes >> 10: 2 * folderBytes} {
		q, err := New(Bounds{Entries: 1, KiB: kib, Dir: t.TempDir(), DirMiB: 1})
		require.NoError(t, err)
		require.Equal(t, want, q.folder.maxQueued, "KiB %d", kib)
		require.NoError(t, q.Close())
	}
}
