package spool

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// paced returns a spool on a disk with slow syncs, in a bubble of synctest.
func paced(t *testing.T, interval string, sync time.Duration) *Spool {
	t.Helper()
	cfg := DefaultConfig()
	cfg.CommitInterval = interval
	disk := &faultFS{FS: crashFS{vfs.NewCrashableMem(), func() {}}}
	disk.set(func(op, _ string, _ int) (int, error) {
		if op == "sync" {
			time.Sleep(sync)
		}
		return 0, nil
	})
	s, err := Open("/spool", cfg, WithFS(disk))
	require.NoError(t, err)
	time.Sleep(time.Second) // until its first spares are there
	return s
}

// Under load commits begin an interval apart, which limits the writes to the disk; no record waits longer than that.
func TestCommitsUnderLoadAreAnIntervalApart(t *testing.T) {
	for _, c := range []struct {
		interval  string
		sync      time.Duration
		most      uint64        // commits in a second of 1,000 records
		wait      time.Duration // the longest
		leastWait time.Duration // of the one that waits longest
	}{
		{"5ms", 100 * time.Microsecond, 201, 5200 * time.Microsecond, 4 * time.Millisecond},
		{"2ms", 100 * time.Microsecond, 501, 2200 * time.Microsecond, time.Millisecond},
		{"5ms", 8 * time.Millisecond, 80, 25 * time.Millisecond, 10 * time.Millisecond}, // a slow disk is at most half busy
		{"5ms", 50 * time.Millisecond, 21, 101 * time.Millisecond, 50 * time.Millisecond},
		{"0s", 0, 1000, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := paced(t, c.interval, c.sync)
			before := s.Stats().Commits
			var longest time.Duration
			var mu sync.Mutex
			var stored sync.WaitGroup
			for i := range 1000 {
				stored.Add(1)
				arrived := time.Now()
				s.Append([]Record{rec(1, "c", 200, i)}, func(err error) {
					defer stored.Done()
					mu.Lock()
					defer mu.Unlock()
					require.NoError(t, err)
					longest = max(longest, time.Since(arrived))
				})
				time.Sleep(time.Millisecond)
			}
			stored.Wait()
			t.Logf("%s, syncs of %v: %d commits, the longest wait %v", c.interval, c.sync, s.Stats().Commits-before, longest)
			require.LessOrEqual(t, s.Stats().Commits-before, c.most, c.interval)
			require.LessOrEqual(t, longest, c.wait, c.interval)
			require.GreaterOrEqual(t, longest, c.leastWait, c.interval)
			require.NoError(t, s.Close())
		})
	}
}

// A commit is not delayed after a pause, nor if it is full, nor before a close.
func TestNothingWaitsForCompanyInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := paced(t, "1s", 0)
		at := func(wait time.Duration, what string, do func()) {
			t.Helper()
			began := time.Now()
			do()
			require.Equal(t, wait, time.Since(began), what)
		}
		lone := func() { require.NoError(t, put(s, rec(1, "c", 200, 1))) }
		time.Sleep(time.Minute)
		at(0, "after a pause", lone)
		time.Sleep(400 * time.Millisecond)
		at(600*time.Millisecond, "the second waits", lone)
		at(time.Second, "and the third", lone)
		at(0, "a full commit", func() { require.NoError(t, put(s, rec(1, "c", groupBytes, 1))) })
		at(0, "many records", func() {
			recs := make([]Record, groupRecords)
			for i := range recs {
				recs[i] = rec(1, "c", 20, i)
			}
			require.NoError(t, put(s, recs...))
		})
		at(0, "a close", func() {
			stored := make(chan error, 1)
			s.Append([]Record{rec(1, "c", 200, 1)}, func(err error) { stored <- err })
			require.NoError(t, s.Close())
			require.NoError(t, <-stored)
		})
	})
}
