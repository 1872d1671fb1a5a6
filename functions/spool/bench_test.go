package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// benchDir returns a directory on a disk, even if the temporary directory is in memory: SPOOL_BENCH_DIR sets it.
func benchDir(b *testing.B) string {
	if d := os.Getenv("SPOOL_BENCH_DIR"); d != "" {
		dir, err := os.MkdirTemp(d, "spool")
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, os.RemoveAll(dir)) })
		return dir
	}
	return b.TempDir()
}

// BenchmarkRawFdatasync is the ceiling: 20 KiB written over existing blocks, one fdatasync each.
func BenchmarkRawFdatasync(b *testing.B) {
	f, err := os.Create(filepath.Join(benchDir(b), "raw"))
	require.NoError(b, err)
	const size = 16 << 20
	_, err = f.Write(make([]byte, size))
	require.NoError(b, err)
	require.NoError(b, f.Sync())
	buf := rec(0, "", 20<<10, 1).Payload
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		_, err := f.WriteAt(buf, int64(i*len(buf))%(size-int64(len(buf))))
		require.NoError(b, err)
		require.NoError(b, osFile{f}.SyncData())
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	require.NoError(b, f.Close())
}

// BenchmarkAppend measures a flow: records are stored, taken from the ring, and done, as with a link that keeps up. "growing" is an outage: no record
// is taken, and every block but the first 32 MiB is fresh. "again" is the next outage, which overwrites the blocks of the previous one.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		size, group, writers int
		how                  string
	}{
		{20 << 10, 1, 1, "flow"},
		{20 << 10, 1, 8, "flow"},
		{20 << 10, 1, 1, "growing"},
		{20 << 10, 1, 8, "growing"},
		{20 << 10, 1, 1, "again"},
		{20 << 10, 1, 8, "again"},
		{200, 64, 1, "flow"},
		{200, 64, 8, "flow"},
	} {
		name := fmt.Sprintf("size=%d/group=%d/writers=%d/%s", c.size, c.group, c.writers, c.how)
		b.Run(name, func(b *testing.B) { benchAppend(b, c.size, c.group, c.writers, c.how) })
	}
}

func benchAppend(b *testing.B, size, group, writers int, how string) {
	cfg := DefaultConfig()
	cfg.QuotaMiB = 16 << 10
	cfg.SegmentMiB = 16
	s := open(b, benchDir(b), cfg)
	waitForSpares(s)
	if how == "again" {
		write(b, s, size, group, writers, b.N+(32<<20)/size/group) // the last segments are still open
		empty(b, s)
	}
	stop := drain(s, how != "flow")
	before, given := s.Stats(), deviceWrites(s.dir)
	b.ReportAllocs()
	b.ResetTimer()
	write(b, s, size, group, writers, b.N)
	b.StopTimer()
	stop()
	payload := float64(b.N) * float64(group) * float64(size)
	b.ReportMetric(float64(b.N*group)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(s.Stats().Written-before.Written)/payload, "written/payload")
	b.ReportMetric(float64(deviceWrites(s.dir)-given)/payload, "device/payload")
	b.ReportMetric(float64(s.Stats().Syncs-before.Syncs)/float64(b.N), "syncs/op")
}

// write appends n groups of records.
func write(b *testing.B, s *Spool, size, group, writers, n int) {
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n; i += writers {
				recs := make([]Record, group)
				for k := range recs {
					recs[k] = rec(5, "vibration", size, i)
				}
				if err := put(s, recs...); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// empty ends the outage: all records are taken and done, and their segments are ready to be overwritten.
func empty(b *testing.B, s *Spool) {
	for _, from := range []Source{Live, Backlog} {
		for got := s.Take(5, "", from, 256, 4<<20, nil); len(got) > 0; got = s.Take(5, "", from, 256, 4<<20, nil) {
			s.Done(seqs(got))
		}
	}
	for range 2 {
		s.mu.Lock()
		s.dirty = true // a spool at rest writes no state, and one has to be written twice before a segment is free
		s.mu.Unlock()
		require.NoError(b, s.Checkpoint())
	}
}

// drain takes and ends records as they arrive, until stopped.
func drain(s *Spool, no bool) (stop func()) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for !no {
			select {
			case <-quit:
				return
			case <-s.Wait():
			}
			for got := s.Take(5, "vibration", Live, 256, 4<<20, nil); len(got) > 0; got = s.Take(5, "vibration", Live, 256, 4<<20, nil) {
				s.Done(seqs(got))
			}
		}
	})
	return func() { close(quit); wg.Wait() }
}

// deviceWrites returns the bytes written to the disk under dir by all processes. The kernel's count for the process is useless where a page cache of
// large folios counts each folio as a whole.
func deviceWrites(dir string) int64 {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))))
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 7 {
		return 0
	}
	sectors, _ := strconv.ParseInt(fields[6], 10, 64)
	return sectors * 512
}

// BenchmarkAppendToRaw runs the raw ceiling and the spool in turns, so that other work on the machine slows both alike.
func BenchmarkAppendToRaw(b *testing.B) {
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprintf("size=20480/writers=%d", writers), func(b *testing.B) { benchRatio(b, writers) })
	}
}

func benchRatio(b *testing.B, writers int) {
	dir := benchDir(b)
	cfg := DefaultConfig()
	cfg.QuotaMiB, cfg.SegmentMiB = 16<<10, 16
	s := open(b, dir, cfg)
	waitForSpares(s)
	stop := drain(s, false)
	f, err := os.Create(filepath.Join(dir, "raw"))
	require.NoError(b, err)
	zeros := make([]byte, 16<<20)
	_, err = f.Write(zeros)
	require.NoError(b, err)
	require.NoError(b, f.Sync())
	buf := rec(0, "", 20<<10, 1).Payload
	at := int64(0)
	raw := func(n int) {
		for range n {
			_, err := f.WriteAt(buf, at%(16<<20-20<<10))
			require.NoError(b, err)
			require.NoError(b, osFile{f}.SyncData())
			at += int64(len(buf))
		}
	}
	const turn = 50
	var inRaw, inSpool time.Duration
	var given [2]int64
	b.ResetTimer()
	for range (b.N + turn - 1) / turn {
		t, d := time.Now(), deviceWrites(dir)
		raw(turn)
		inRaw += time.Since(t)
		given[0] += deviceWrites(dir) - d
		t, d = time.Now(), deviceWrites(dir)
		appendAll(b, s, writers, turn*writers)
		inSpool += time.Since(t)
		given[1] += deviceWrites(dir) - d
	}
	b.StopTimer()
	stop()
	turns := float64((b.N + turn - 1) / turn * turn)
	b.ReportMetric(turns/inRaw.Seconds(), "raw/s")
	b.ReportMetric(turns*float64(writers)/inSpool.Seconds(), "records/s")
	b.ReportMetric(inRaw.Seconds()*float64(writers)/inSpool.Seconds(), "records/raw")
	b.ReportMetric(float64(given[0])/turns/(20<<10), "device-raw/payload")
	b.ReportMetric(float64(given[1])/turns/float64(writers)/(20<<10), "device/payload")
	require.NoError(b, f.Close())
}

func appendAll(b *testing.B, s *Spool, writers, n int) {
	var wg sync.WaitGroup
	payload := rec(0, "", 20<<10, 1).Payload
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n; i += writers {
				if err := put(s, Record{Lane: 5, Class: "vibration", Payload: payload}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// waitForSpares waits until a new spool has prepared its first files.
func waitForSpares(s *Spool) {
	for ready := false; !ready; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		ready = len(s.spares) == 2
		s.mu.Unlock()
	}
}

// BenchmarkStart opens a spool with a million records of backlog.
func BenchmarkStart(b *testing.B) {
	for _, indexed := range []bool{true, false} {
		b.Run(fmt.Sprintf("records=1000000/indexed=%v", indexed), func(b *testing.B) {
			dir := benchDir(b)
			cfg := DefaultConfig()
			cfg.Sync, cfg.RingMiB = SyncNone, 0
			fill(b, dir, cfg, 1_000_000, 200)
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				if !indexed {
					removeAll(b, dir, "*.idx")
				}
				b.StartTimer()
				s, err := Open(dir, cfg)
				b.StopTimer()
				require.NoError(b, err)
				require.EqualValues(b, 1_000_000, s.Stats().Backlog)
				require.NoError(b, s.Close())
			}
		})
	}
}

func removeAll(t testing.TB, dir, glob string) {
	names, err := filepath.Glob(filepath.Join(dir, glob))
	require.NoError(t, err)
	for _, n := range names {
		require.NoError(t, os.Remove(n))
	}
}

func fill(t testing.TB, dir string, cfg Config, n, size int) {
	s, err := Open(dir, cfg)
	require.NoError(t, err)
	for i := 0; i < n; {
		group := make([]Record, 0, 500)
		for range min(500, n-i) {
			group = append(group, rec(i%2, "class"+strconv.Itoa(i%5), size, i))
			i++
		}
		require.NoError(t, put(s, group...))
	}
	require.NoError(t, s.Close())
}

// BenchmarkDrain reads a backlog from disk and ends it.
func BenchmarkDrain(b *testing.B) {
	dir := benchDir(b)
	cfg := DefaultConfig()
	cfg.Sync, cfg.QuotaMiB = SyncNone, 8192
	n := min(b.N, 20_000)
	b.SetBytes(20 << 10)
	for done := 0; done < b.N; {
		b.StopTimer()
		fill(b, dir, cfg, n, 20<<10)
		s, err := Open(dir, cfg)
		require.NoError(b, err)
		b.StartTimer()
		for lane := range 2 {
			for got := s.Take(lane, "", Backlog, 100, 1<<20, nil); len(got) > 0; got = s.Take(lane, "", Backlog, 100, 1<<20, nil) {
				s.Done(seqs(got))
				done += len(got)
			}
		}
		b.StopTimer()
		require.NoError(b, s.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
