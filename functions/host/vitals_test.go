package host

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/stretchr/testify/require"
)

// The vitals are the kernel's own figures, between two readings of procfs.
func TestVitalsAreWhatTheKernelReports(t *testing.T) {
	_, err := ReadVitals() // its processor load is since the call before
	require.NoError(t, err)
	for start := ownTime(); ownTime()-start < 50_000_000; {
		_ = math.Sqrt(float64(start)) // keep the processor busy
	}
	before := kernel(t)
	v, err := ReadVitals()
	require.NoError(t, err)
	after := kernel(t)
	require.Greater(t, v.CPU, 0.0)
	require.LessOrEqual(t, v.CPU, 100.0)
	between := func(i int, have uint64) {
		require.GreaterOrEqual(t, have, before[i])
		require.LessOrEqual(t, have, after[i])
	}
	between(0, v.NetReceived)
	between(1, v.NetSent)
	between(2, v.DiskRead)
	between(3, v.DiskWritten)
	var load [2]float64
	for i := range load {
		text, err := os.ReadFile("/proc/loadavg")
		require.NoError(t, err)
		_, err = fmt.Sscan(string(text), &load[i])
		require.NoError(t, err)
	}
	require.InDelta(t, load[0], v.Load1, 0.2*load[0]+1)
	require.Greater(t, v.MemoryUsed, uint64(1<<20))
	require.Greater(t, v.Memory, 0.0)
	require.Less(t, v.Memory, 100.0)
	require.Greater(t, v.Disk, 0.0)
	require.LessOrEqual(t, v.Disk, 100.0)
}

// Counters that cannot be read are named.
func TestVitalsNameWhatCannotBeRead(t *testing.T) {
	t.Setenv("HOST_PROC", t.TempDir())
	_, err := ReadVitals()
	for _, file := range []string{"/diskstats", "/net/dev"} {
		require.ErrorContains(t, err, file)
	}
}

// Guests are contained in user and nice already, and waiting for a disk is idle time.
func TestWhatCountsAsBusy(t *testing.T) {
	busy, total := sum(cpu.TimesStat{User: 1, System: 2, Nice: 4, Idle: 8, Iowait: 16, Irq: 32, Softirq: 64, Steal: 128, Guest: 256, GuestNice: 512})
	require.Equal(t, []float64{231, 255}, []float64{busy, total})
}

// kernel reads bytes received and sent, read and written.
func kernel(t *testing.T) (sum [4]uint64) {
	t.Helper()
	lines := func(file string) []string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return strings.Split(string(text), "\n")
	}
	number := func(text string) (n uint64) {
		_, err := fmt.Sscan(text, &n)
		require.NoError(t, err)
		return n
	}
	for _, l := range lines("/proc/net/dev") {
		if _, counters, ok := strings.Cut(l, ":"); ok {
			f := strings.Fields(counters)
			sum[0] += number(f[0])
			sum[1] += number(f[8])
		}
	}
	for _, l := range lines("/proc/diskstats") {
		if f := strings.Fields(l); len(f) > 9 {
			sum[2] += 512 * number(f[5])
			sum[3] += 512 * number(f[9])
		}
	}
	return sum
}

// The power of a core is that of the package, divided by the busy cores, at least one.
func TestTheWattsOfACore(t *testing.T) {
	for _, row := range []struct{ watts, cpu, want float64 }{
		{math.NaN(), 50, 0}, {0, 50, 0}, {-1, 50, 0}, {12, 50, 6}, {12, 100, 3}, {12, 1, 12}, {12, 0, 12}, {0.5, 25, 0.5},
	} {
		s := State{Watts: row.watts, CPU: row.cpu, Cores: 4}
		require.InDelta(t, row.want, s.CoreWatts(), 1e-12, "%+v", row)
	}
}

// The bytes ahead on the link are the share of the backlog, as it grows on the wire, and the bytes in flight. Counts below 0, as between two updates,
// count as 0.
func TestBytesAhead(t *testing.T) {
	for _, row := range []struct {
		backlog, flying   int64
		growth, share     float64
		unmeasured, ahead float64
	}{
		{1000, 300, 0, 0.5, 1.5, 1050},
		{1000, 300, 2, 0.5, 1.5, 1300},
		{1000, 0, 0.5, 1, 9, 500},
		{-5, 300, 2, 1, 1, 300},
		{1000, -7, 2, 1, 1, 2000},
		{1, 1, 1, 1, 3, 2},
		{0, 1, 1, 1, 3, 1},
	} {
		l := Link{BacklogBytes: row.backlog, InflightBytes: row.flying, Growth: row.growth}
		require.InDelta(t, row.ahead, l.BytesAhead(row.share, row.unmeasured), 1e-9, "%+v", row)
	}
}
