package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// shelf is a spool in memory: records by source, and what was leased and dropped.
type shelf struct {
	mu      sync.Mutex
	held    map[spool.Source][]spool.Record
	dropped map[string]int
	wake    chan struct{}
	seq     uint64
	liar    bool // offers records it cannot return
}

func newShelf() *shelf {
	return &shelf{held: map[spool.Source][]spool.Record{}, dropped: map[string]int{}, wake: make(chan struct{}, 1)}
}

func (s *shelf) put(from spool.Source, lane int, class string, n, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.seq++
		r := spool.Record{Seq: s.seq, Lane: lane, Class: class, Payload: make([]byte, size)}
		s.held[from] = append(s.held[from], r)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shelf) Queues(dst []spool.Queue) []spool.Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	for from, records := range s.held {
		for _, r := range records {
			i := slices.IndexFunc(dst, func(q spool.Queue) bool { return q.Lane == r.Lane && q.Class == r.Class })
			if i < 0 {
				i = len(dst)
				dst = append(dst, spool.Queue{Lane: r.Lane, Class: r.Class})
			}
			if from == spool.Live {
				dst[i].Live++
				dst[i].LiveBytes += int64(len(r.Payload))
			} else {
				dst[i].Backlog++
				dst[i].BacklogBytes += int64(len(r.Payload))
			}
		}
	}
	slices.SortFunc(dst, func(a, b spool.Queue) int { return b.Lane - a.Lane })
	return dst
}

func (s *shelf) take(lane int, class string, from spool.Source, most, bytes int, newest bool) (out []spool.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.liar {
		return nil
	}
	records := slices.Clone(s.held[from])
	if newest {
		slices.Reverse(records)
	}
	for _, r := range records {
		if r.Lane != lane || r.Class != class {
			continue
		}
		if len(out) == most || (len(out) > 0 && bytes < len(r.Payload)) {
			break
		}
		bytes -= len(r.Payload)
		out = append(out, r)
	}
	s.held[from] = slices.DeleteFunc(s.held[from], func(r spool.Record) bool {
		return slices.ContainsFunc(out, func(o spool.Record) bool { return o.Seq == r.Seq })
	})
	return out
}

func (s *shelf) Take(lane int, class string, from spool.Source, most, bytes int, dst []spool.Record) []spool.Record {
	return append(dst, s.take(lane, class, from, most, bytes, false)...)
}

func (s *shelf) TakeNewest(lane int, class string, most, bytes int, dst []spool.Record) []spool.Record {
	return append(dst, s.take(lane, class, spool.Backlog, most, bytes, true)...)
}

func (s *shelf) Drop(seqs []uint64, reason string) { s.dropped[reason] += len(seqs) }
func (s *shelf) Wait() <-chan struct{}             { return s.wake }

type classes []*task.Class

func (c classes) All() []*task.Class { return c }

func newScheduler(t *testing.T, s *shelf, change func(*Config), cs ...*task.Class) *Scheduler {
	t.Helper()
	cfg := DefaultConfig()
	cfg.MaxCount, cfg.MaxKiB = 10, 1
	if change != nil {
		change(&cfg)
	}
	sched, err := New(cfg, s, classes(cs))
	require.NoError(t, err)
	return sched
}

// most waits a virtual day: long enough for any event.
func most(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	t.Cleanup(cancel)
	return ctx
}

func TestNextWaitsForCountBytesOrAge(t *testing.T) {
	for name, tc := range map[string]struct {
		from    spool.Source
		n, size int
		after   time.Duration
		records int
	}{
		"one fresh record waits for its age":  {spool.Live, 1, 10, 200 * time.Millisecond, 1},
		"as many as a batch holds go at once": {spool.Live, 10, 10, 0, 10},
		"as many bytes as a batch holds, too": {spool.Live, 2, 512, 0, 2},
		"more than a batch holds is cut":      {spool.Live, 25, 10, 0, 10},
		"a large record travels alone":        {spool.Live, 2, 5000, 0, 1},
		"bytes cut before count does":         {spool.Live, 9, 200, 0, 5},
		"a backlog never waits for its age":   {spool.Backlog, 1, 10, 0, 1},
		"a backlog fills batches":             {spool.Backlog, 30, 10, 0, 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				sched := newScheduler(t, s, nil)
				s.put(tc.from, 5, "a", tc.n, tc.size)
				began := time.Now()
				b, err := sched.Next(most(t))
				require.NoError(t, err)
				require.Equal(t, tc.after, time.Since(began))
				require.Len(t, b.Records, tc.records)
				require.Equal(t, tc.records*tc.size, b.Bytes)
				require.Equal(t, tc.from == spool.Live, b.Live)
			})
		})
	}
}

// Large records gain nothing from a larger batch, and do not wait.
func TestLargeRecordsWaitForNoCompany(t *testing.T) {
	for name, tc := range map[string]struct {
		sizes   []int
		after   time.Duration
		records int
	}{
		"a large one":                      {[]int{8 << 10}, 0, 1},
		"a record below that":              {[]int{8<<10 - 1}, 200 * time.Millisecond, 1},
		"a small one goes along":           {[]int{100, 20 << 10}, 0, 2},
		"small ones keep a large one here": {[]int{100, 100, 100, 8 << 10}, 200 * time.Millisecond, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				sched := newScheduler(t, s, func(c *Config) { c.MaxKiB = 256 })
				for _, size := range tc.sizes {
					s.put(spool.Live, 5, "a", 1, size)
				}
				began := time.Now()
				b, err := sched.Next(most(t))
				require.NoError(t, err)
				require.Equal(t, tc.after, time.Since(began))
				require.Len(t, b.Records, tc.records)
			})
		})
	}
}

// Hastened records do not wait for a full batch; later ones do.
func TestHastenMakesWhatWaitsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		s.put(spool.Live, 5, "a", 2, 10)
		sched.Hasten()
		began := time.Now()
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		require.Len(t, b.Records, 2)
		require.Zero(t, time.Since(began))
		s.put(spool.Live, 5, "a", 1, 10)
		_, err = sched.Next(most(t))
		require.NoError(t, err)
		require.Equal(t, 200*time.Millisecond, time.Since(began))
	})
}

func TestAgeCountsFromTheFirstRecordThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		began := time.Now()
		go func() {
			for range 3 {
				s.put(spool.Live, 5, "a", 1, 10)
				time.Sleep(80 * time.Millisecond)
			}
		}()
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		require.Equal(t, 200*time.Millisecond, time.Since(began))
		require.Len(t, b.Records, 3)

		// Records after the batch wait anew.
		time.Sleep(time.Second)
		began = time.Now()
		s.put(spool.Live, 5, "a", 1, 10)
		_, err = sched.Next(most(t))
		require.NoError(t, err)
		require.Equal(t, 200*time.Millisecond, time.Since(began))
	})
}

func TestBatchHoldsOneClassInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		for range 10 {
			s.put(spool.Live, 5, "a", 1, 10)
			s.put(spool.Live, 5, "b", 1, 10)
		}
		last := map[string]uint64{}
		for range 2 {
			b, err := sched.Next(most(t))
			require.NoError(t, err)
			for _, r := range b.Records {
				require.Equal(t, b.Class, r.Class)
				require.Greater(t, r.Seq, last[b.Class])
				last[b.Class] = r.Seq
			}
		}
		require.Len(t, last, 2)
	})
}

// drain takes n batches and sums their bytes by a key.
func drain(t *testing.T, sched *Scheduler, n int, refill func(), by func(*Batch) string) map[string]int {
	t.Helper()
	sum := map[string]int{}
	for range n {
		refill()
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		sum[by(b)] += b.Bytes
	}
	return sum
}

func TestSharesOfTheLink(t *testing.T) {
	source := func(b *Batch) string { return fmt.Sprint("live ", b.Live) }
	lane := func(b *Batch) string { return fmt.Sprint("lane ", b.Lane) }
	class := func(b *Batch) string { return b.Class }
	for name, tc := range map[string]struct {
		change func(*Config)
		put    func(s *shelf) // called before every batch, so that everyone always has something due
		by     func(*Batch) string
		want   map[string]float64
	}{
		"the backlog keeps its share beside fresh records": {
			nil,
			func(s *shelf) { s.put(spool.Live, 5, "a", 10, 100); s.put(spool.Backlog, 5, "a", 10, 100) },
			source,
			map[string]float64{"live true": 0.7, "live false": 0.3},
		},
		"also when its batches are larger": {
			nil,
			func(s *shelf) { s.put(spool.Live, 5, "a", 10, 10); s.put(spool.Backlog, 5, "a", 10, 100) },
			source,
			map[string]float64{"live true": 0.7, "live false": 0.3},
		},
		"also when it is of a lower lane": {
			nil,
			func(s *shelf) { s.put(spool.Live, 9, "a", 10, 100); s.put(spool.Backlog, 0, "b", 10, 100) },
			source,
			map[string]float64{"live true": 0.7, "live false": 0.3},
		},
		"without a share it waits": {
			func(c *Config) { c.BacklogShare = 0 },
			func(s *shelf) { s.put(spool.Live, 5, "a", 10, 100); s.put(spool.Backlog, 5, "a", 10, 100) },
			source,
			map[string]float64{"live true": 1},
		},
		"a higher lane goes first, but the lower one does not starve": {
			nil,
			func(s *shelf) { s.put(spool.Live, 7, "a", 10, 100); s.put(spool.Live, 3, "b", 10, 100) },
			lane,
			map[string]float64{"lane 7": 0.9, "lane 3": 0.1},
		},
		"the lowest of three lanes has its part of the lower share": {
			nil,
			func(s *shelf) {
				s.put(spool.Live, 7, "a", 10, 100)
				s.put(spool.Live, 3, "b", 10, 100)
				s.put(spool.Live, 1, "c", 10, 100)
			},
			lane,
			map[string]float64{"lane 7": 0.9, "lane 3": 0.09, "lane 1": 0.01},
		},
		"strict priority where so configured": {
			func(c *Config) { c.LowerShare = 0 },
			func(s *shelf) { s.put(spool.Backlog, 7, "a", 10, 100); s.put(spool.Backlog, 3, "b", 10, 100) },
			lane,
			map[string]float64{"lane 7": 1},
		},
		"classes of one lane share by weight, in bytes": {
			nil,
			func(s *shelf) { s.put(spool.Backlog, 5, "a", 10, 100); s.put(spool.Backlog, 5, "heavy", 10, 20) },
			class,
			map[string]float64{"a": 0.25, "heavy": 0.75},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				sched := newScheduler(t, s, tc.change, &task.Class{Name: "a", Weight: 1}, &task.Class{Name: "heavy", Weight: 3})
				refill := func() {
					clear(s.held) // the size of the backlog is of no interest here
					tc.put(s)
				}
				sum := drain(t, sched, 1000, refill, tc.by)
				total := 0
				for _, n := range sum {
					total += n
				}
				require.Len(t, sum, len(tc.want))
				for k, want := range tc.want {
					require.InDelta(t, want, float64(sum[k])/float64(total), 0.02, "%s of %v", k, sum)
				}
			})
		})
	}
}

func TestFreshRecordsGoBeforeTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		s.put(spool.Backlog, 9, "old", 1000, 100)
		for range 50 { // occasional fresh data, never above its share: it leaves immediately each time
			_, err := sched.Next(most(t))
			require.NoError(t, err)
			s.put(spool.Live, 1, "new", 10, 10)
			b, err := sched.Next(most(t))
			require.NoError(t, err)
			require.True(t, b.Live)
		}
	})
}

func TestIdlingEarnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		busy := func() { clear(s.held); s.put(spool.Backlog, 5, "a", 10, 100) }
		class := func(b *Batch) string { return b.Class }
		drain(t, sched, 500, busy, class)
		both := func() { busy(); s.put(spool.Backlog, 5, "b", 10, 100) }
		sum := drain(t, sched, 20, both, class)
		require.InDelta(t, sum["a"], sum["b"], 1000, "the newcomer must not catch up for the time it was idle")
	})
}

// Records that the spool returns are not expired: its clock knows a record's age, and a wall clock that stepped does not.
func TestNoWallClockExpiresARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		s.put(spool.Backlog, 5, "a", 10, 10)
		for i := range s.held[spool.Backlog] {
			r := &s.held[spool.Backlog][i] // taken in while the clock was 50 years behind
			r.Time = time.Now().Add(-50 * 365 * 24 * time.Hour).UnixNano()
			r.Expires = r.Time + int64(72*time.Hour)
		}
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		require.Len(t, b.Records, 10)
		require.Empty(t, s.dropped)
	})
}

// A backlog leaves oldest first, or newest first if the class says so; fresh records leave in order in any case. Sequences may be further apart than
// a 32-bit int, as after a loss of the state.
func TestTheOrderOfAClass(t *testing.T) {
	const leap = 3 << 31
	for _, row := range []struct {
		from   spool.Source
		newest bool
		want   []uint64 // the first of each batch
	}{
		{spool.Backlog, false, []uint64{1, 11, 21}},
		{spool.Backlog, true, []uint64{16, 6, 1}},
		{spool.Live, false, []uint64{1, 11, 21}},
		{spool.Live, true, []uint64{1, 11, 21}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newShelf()
			sched := newScheduler(t, s, nil, &task.Class{Name: "a", Newest: row.newest})
			s.put(row.from, 5, "a", 23, 10)
			s.seq += leap
			s.put(row.from, 5, "a", 2, 10)
			var first []uint64
			for range 3 {
				b, err := sched.Next(most(t))
				require.NoError(t, err)
				first = append(first, b.Records[0].Seq)
				require.True(t, slices.IsSortedFunc(b.Records, func(a, b spool.Record) int { return cmp.Compare(a.Seq, b.Seq) }))
			}
			require.Equal(t, row.want, first, "%+v", row)
		})
	}
}

func TestLimitFollowsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		s.put(spool.Backlog, 5, "a", 100, 100)
		for _, tc := range []struct{ limit, want int }{{250, 2}, {0, 10}, {1 << 30, 10}, {1, 1}} {
			sched.SetLimit(tc.limit)
			b, err := sched.Next(most(t))
			require.NoError(t, err)
			require.Len(t, b.Records, tc.want, "limit %d", tc.limit)
		}
	})
}

func TestDrainSendsWhatIsFreshAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		s.put(spool.Live, 5, "a", 3, 10)
		s.put(spool.Backlog, 5, "a", 100, 10)
		sched.Drain()
		began := time.Now()
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		require.Len(t, b.Records, 3)
		_, err = sched.Next(most(t))
		require.ErrorIs(t, err, ErrDrained)
		require.Zero(t, time.Since(began))
	})
}

func TestNextEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := sched.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestASpoolThatCannotGiveWhatItOffersIsNotAskedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.liar = true
		s.put(spool.Backlog, 5, "a", 1, 10)
		sched := newScheduler(t, s, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := sched.Next(ctx) // ends, because virtual time passes only while everyone sleeps
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		bad := DefaultConfig()
		bad.MaxCount, bad.MaxAge = 0, "soon"
		err := sched.Reload(bad, classes{})
		require.ErrorContains(t, err, "Batch.MaxCount")
		require.ErrorContains(t, err, "Batch.MaxAge")

		got := make(chan *Batch)
		go func() {
			b, err := sched.Next(most(t))
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			got <- b
		}()
		s.put(spool.Live, 5, "a", 3, 10)
		synctest.Wait()
		good := DefaultConfig()
		good.MaxCount = 2
		require.NoError(t, sched.Reload(good, classes{}))
		require.Len(t, (<-got).Records, 2, "the new terms hold for a Next that was waiting")
	})
}

func TestDefaultConfigIsValid(t *testing.T) { require.NoError(t, DefaultConfig().Validate()) }
