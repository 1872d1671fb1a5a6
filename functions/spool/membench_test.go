package spool

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkBacklogMemory grows a backlog as in an outage and reports its memory: the growth of resident memory, and the heap for each record after a
// collection. Each case needs a process of its own, since memory is returned slowly: -bench 'BacklogMemory/records=10000' and so on, with -benchtime
// 1x.
func BenchmarkBacklogMemory(b *testing.B) {
	for _, c := range []struct{ records, size, group int }{{10_000, 20 << 10, 1}, {1_200_000, 300, 64}} {
		b.Run(fmt.Sprintf("records=%d/size=%d", c.records, c.size), func(b *testing.B) {
			for range b.N {
				benchMemory(b, c.records, c.size, c.group)
			}
		})
	}
}

func benchMemory(b *testing.B, records, size, group int) {
	cfg := DefaultConfig()
	cfg.Sync = SyncNone
	cfg.QuotaMiB = 2048
	s := open(b, benchDir(b), cfg)
	ring := int(cfg.RingMiB) << 20 / (size + ringCost)
	store(b, s, min(2*ring, records/10), size, group) // the ring is full, so new records are only backlog
	runtime.GC()
	before, rss := inUse(), residentMiB(b)
	most := rss
	for range 10 {
		store(b, s, records/10, size, group)
		most = max(most, residentMiB(b))
	}
	time.Sleep(2 * sweepEvery) // the last segments are paged out
	runtime.GC()
	b.ReportMetric(float64(most-rss), "rss-MiB")
	b.ReportMetric(float64(inUse()-before)/float64(records), "heap-B/record")
	b.ReportMetric(0, "ns/op")
	begun := time.Now()
	require.NotEmpty(b, s.Take(0, "", Backlog, 100, 1<<20, nil))
	b.ReportMetric(float64(time.Since(begun).Microseconds()), "first-take-µs")
}

func store(b *testing.B, s *Spool, n, size, group int) {
	for i := 0; i < n; i += group {
		recs := make([]Record, group)
		for k := range recs {
			recs[k] = rec(i%3, "c", size, i)
		}
		require.NoError(b, put(s, recs...))
	}
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkFetch reads the entries of one segment back, which happens under the lock when its records are first needed.
func BenchmarkFetch(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Sync, cfg.RingMiB = SyncNone, 0
	s := open(b, benchDir(b), cfg)
	store(b, s, 200_000, 300, 64)
	for pageAll(b, s) == 0 {
		time.Sleep(time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.lanes[0].segs[0]
	require.NotNil(b, g.paged)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		require.True(b, s.fetch(g))
		b.StopTimer()
		g.pageOut()
		b.StartTimer()
	}
	b.ReportMetric(float64(g.records()), "records")
}
