package spool

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// residentMiB returns the resident memory of the process.
func residentMiB(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	for _, line := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			require.NoError(t, err)
			return n >> 10
		}
	}
	return 0
}

// A backlog of 200 MiB uses at most 64 MiB of memory, with the default ring.
func TestBacklogDoesNotLiveInMemory(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("the race detector needs memory of its own")
	}
	cfg := DefaultConfig()
	cfg.Sync = SyncNone
	s := open(t, t.TempDir(), cfg)
	before := residentMiB(t)
	for i := range 10_000 {
		require.NoError(t, put(s, rec(i%3, "c", 20<<10, i)))
	}
	grown := residentMiB(t) - before
	t.Logf("grown by %d MiB", grown)
	require.LessOrEqual(t, grown, 64)
	require.EqualValues(t, 10_000, balanced(t, s).Held)
}

// A spool with a million records opens in less than two seconds. The test writes 160 MiB, so it runs only with SPOOL_MILLION=1.
func TestMillionRecordsStartInTwoSeconds(t *testing.T) {
	if os.Getenv("SPOOL_MILLION") == "" {
		t.Skip("set SPOOL_MILLION=1")
	}
	dir, cfg := t.TempDir(), DefaultConfig()
	cfg.Sync, cfg.RingMiB = SyncNone, 0
	fill(t, dir, cfg, 1_000_000, 100)
	begun := time.Now()
	s := open(t, dir, cfg)
	took := time.Since(begun)
	t.Logf("ready after %v with %d MiB", took, residentMiB(t))
	require.Less(t, took, 2*time.Second)
	require.EqualValues(t, 1_000_000, balanced(t, s).Backlog)
	require.Len(t, s.Take(1, "", Backlog, 1000, 1<<20, nil), 1000)
}
