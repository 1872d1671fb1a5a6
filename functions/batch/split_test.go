package batch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// However long the second party waited, its credit is bounded: it never has more than two of its largest batches in a row.
func TestABurstIsBounded(t *testing.T) {
	s := newSplit(0.5, 1000)
	for range 1000 {
		s.served(false, 1000)
	}
	burst := 0
	for s.second(1000) {
		s.served(true, 1000)
		burst++
		require.LessOrEqual(t, burst, 2)
	}
	require.Equal(t, 2, burst)
}

// A batch larger than the cap is paid for by a full credit, so that it gets a turn.
func TestAHugeBatchHasItsTurn(t *testing.T) {
	s := newSplit(0.1, 1000)
	for range 100 {
		s.served(false, 1000)
	}
	require.True(t, s.second(1<<30))
	s.served(true, 1<<30)
	require.False(t, s.second(1))
}

// Over any period in which both parties have records the second gets its share, less a batch, also if their batches differ.
func TestTheSecondGetsItsShare(t *testing.T) {
	for _, share := range []float64{0.1, 0.3, 0.5, 0.9} {
		for _, size := range [][2]int{{700, 700}, {1000, 700}, {700, 1000}, {1000, 1000}, {1, 1000}, {1000, 1}} {
			s := newSplit(share, 1000)
			sent := [2]float64{}
			for sent[0]+sent[1] < 1e7 {
				second := s.second(size[1])
				who := 0
				if second {
					who = 1
				}
				s.served(second, size[who])
				sent[who] += float64(size[who])
			}
			require.InDelta(t, share, sent[1]/(sent[0]+sent[1]), 0.001, "%v", size)
		}
	}
}

// MaxKiB limits a batch whatever the link could carry.
func TestTheLinkNeverMakesBatchesLargerThanMaxKiB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, func(c *Config) { c.MaxKiB, c.MaxCount = 1, 1000 })
		s.put(spool.Backlog, 5, "a", 100, 100)
		sched.SetLimit(1 << 30)
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		require.LessOrEqual(t, b.Bytes, 1024)
	})
}

// wakes calls Next, lets it fall asleep, changes its settings, and returns how long it then slept.
func wakes(t *testing.T, sched *Scheduler, change func()) (b *Batch, slept time.Duration, err error) {
	t.Helper()
	done := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		b, err = sched.Next(context.Background())
		slept = time.Since(began)
	}()
	synctest.Wait()
	change()
	<-done
	return b, slept, err
}

// A change of Next's settings wakes it: a drain, haste, and a class that is no longer excluded.
func TestASleepingNextHearsOfNewTerms(t *testing.T) {
	for name, change := range map[string]func(*Scheduler){
		"a drain": (*Scheduler).Drain, "haste": (*Scheduler).Hasten,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				sched := newScheduler(t, s, func(c *Config) { c.MaxAge = "1h" })
				s.put(spool.Live, 5, "a", 1, 10)
				b, slept, err := wakes(t, sched, func() { change(sched) })
				require.NoError(t, err)
				require.NotNil(t, b)
				require.Zero(t, slept)
			})
		})
	}
}

func TestAnExcludedClassWaitsAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, func(c *Config) { c.MaxAge = "0s" })
		s.put(spool.Live, 5, "a", 3, 10)
		s.put(spool.Live, 5, "b", 3, 10)
		s.put(spool.Backlog, 5, "a", 3, 10)
		sched.Exclude(map[string]bool{"a": true})
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		require.Equal(t, "b", b.Class)
		b, slept, err := wakes(t, sched, func() { time.Sleep(time.Minute); sched.Exclude(nil) })
		require.NoError(t, err)
		require.Equal(t, "a", b.Class)
		require.Equal(t, time.Minute, slept)
	})
}

// A drain is not over while fresh records of an excluded class wait.
func TestADrainWaitsForAnExcludedClass(t *testing.T) {
	for _, lanes := range [][]int{nil, {9}, {1}, {9, 1}} { // a backlog in any lane does not wait
		aDrainWaits(t, lanes)
	}
}

func aDrainWaits(t *testing.T, lanes []int) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		s.put(spool.Live, 5, "a", 1, 10)
		for _, lane := range lanes {
			s.put(spool.Backlog, lane, map[int]string{9: "above", 1: "below"}[lane], 1, 10)
		}
		sched.Exclude(map[string]bool{"a": true, "above": true, "below": true})
		sched.Drain()
		b, _, err := wakes(t, sched, func() { time.Sleep(time.Second); sched.Exclude(nil) })
		require.NoError(t, err)
		require.Equal(t, "a", b.Class)
		sched.Exclude(map[string]bool{"above": true, "below": true})
		_, err = sched.Next(most(t))
		require.ErrorIs(t, err, ErrDrained)
	})
}

// A class earns no credit while it is excluded, but its fresh records age.
func TestAnExcludedClassEarnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		both := func() { clear(s.held); s.put(spool.Backlog, 5, "a", 10, 100); s.put(spool.Backlog, 5, "b", 10, 100) }
		class := func(b *Batch) string { return b.Class }
		drain(t, sched, 10, both, class)
		sched.Exclude(map[string]bool{"a": true})
		require.Equal(t, []string{"b"}, slices.Collect(maps.Keys(drain(t, sched, 100, both, class))))
		sched.Exclude(nil)
		sum := drain(t, sched, 20, both, class)
		require.InDelta(t, sum["a"], sum["b"], 3000)

		clear(s.held)
		s.put(spool.Live, 5, "a", 1, 10)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := sched.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		sched.Exclude(map[string]bool{"a": true})
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = sched.Next(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		sched.Exclude(nil)
		_, err = sched.Next(most(t))
		require.NoError(t, err)
		require.Equal(t, 200*time.Millisecond, time.Since(began))
	})
}

// A cancelled Next leases nothing, even if a batch is due.
func TestACancelledNextTakesNothing(t *testing.T) {
	s := newShelf()
	sched := newScheduler(t, s, nil)
	s.put(spool.Backlog, 5, "a", 3, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := sched.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, s.held[spool.Backlog], 3)
}

// Classes that left the configuration come and go without end, and those with records are remembered meanwhile.
func TestWhatIsRememberedOfClassesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, func(c *Config) { c.MaxAge = "1h" })
		s.put(spool.Live, 5, "keeps", 1, 10)
		began := time.Now()
		for i := range maxQueues + 100 {
			s.put(spool.Backlog, 5, fmt.Sprint("c", i), 1, 10)
			time.Sleep(time.Second)
			b, err := sched.Next(most(t))
			require.NoError(t, err)
			require.False(t, b.Live)
			require.LessOrEqual(t, len(sched.queues), maxQueues)
			require.Len(t, sched.lanes[5], 2, "what is offered now")
		}
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		require.Equal(t, "keeps", b.Class)
		require.Equal(t, time.Hour, time.Since(began)-time.Second, "seen first after a second")
	})
}

// An invalid configuration creates no scheduler.
func TestNewRefusesWhatReloadRefuses(t *testing.T) {
	_, err := New(Config{}, newShelf(), classes{})
	require.ErrorContains(t, err, "batch configuration: ")
	require.ErrorContains(t, err, "Batch.MaxKiB")
}

// order takes n batches and returns their classes.
func order(t *testing.T, sched *Scheduler, n int, refill func()) (who string) {
	t.Helper()
	for range n {
		refill()
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		if who += b.Class; b.Live {
			who += "*"
		}
	}
	return who
}

// The credit pays for the batch that would leave: all records, or as many as a batch holds.
func TestADebtIsPaidByTheBatchThatWaits(t *testing.T) {
	for name, row := range map[string]struct {
		backlog int // records of 100 bytes
		want    string
	}{
		"a small one":    {1, "a*b"},
		"more than fits": {1000, "a*a*ba*b"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				sched := newScheduler(t, s, func(c *Config) { c.BacklogShare = 0.5 })
				s.put(spool.Backlog, 5, "b", row.backlog, 100)
				require.Equal(t, row.want, order(t, sched, strings.Count(row.want, "a")+strings.Count(row.want, "b"), func() {
					delete(s.held, spool.Live)
					s.put(spool.Live, 5, "a", 10, 100)
				}))
			})
		})
	}
}

// A class that has sent more than its share owes it to the others also after a pause. A class without a weight has weight 1.
func TestADebtOutlastsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil, &task.Class{Name: "a"}, &task.Class{Name: "b", Weight: 1})
		s.put(spool.Backlog, 5, "a", 1, 5000)
		require.Equal(t, "a", order(t, sched, 1, func() {}))
		s.put(spool.Backlog, 5, "b", 10, 100)
		require.Equal(t, "b", order(t, sched, 1, func() {}))
		s.put(spool.Backlog, 9, "c", 1, 100) // seen for the first time, which is no reason to forget the others
		require.Equal(t, "c", order(t, sched, 1, func() {}))
		require.Equal(t, "bbbb", order(t, sched, 4, func() {
			clear(s.held)
			s.put(spool.Backlog, 5, "a", 10, 100)
			s.put(spool.Backlog, 5, "b", 10, 100)
		}))
		sum := drain(t, sched, 20, func() {
			clear(s.held)
			s.put(spool.Backlog, 5, "a", 10, 100)
			s.put(spool.Backlog, 5, "b", 10, 100)
		}, func(b *Batch) string { return b.Class })
		require.InDelta(t, sum["a"], sum["b"], 1000)
	})
}

// The oldest fresh records of all lanes determine when the next batch is due.
func TestTheOldestRecordsOfAllLanesAreDueFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, nil)
		began := time.Now()
		go func() {
			for _, lane := range []int{5, 2, 8} {
				s.put(spool.Live, lane, fmt.Sprint("c", lane), 1, 10)
				time.Sleep(50 * time.Millisecond)
			}
		}()
		for n, want := range []string{"c5", "c2", "c8"} {
			b, err := sched.Next(most(t))
			require.NoError(t, err)
			require.Equal(t, want, b.Class)
			require.Equal(t, time.Duration(200+50*n)*time.Millisecond, time.Since(began))
		}
	})
}

// Records for which a batch had no room, or which a batch of the backlog left behind, do not wait anew.
func TestWhatIsLeftBehindDoesNotWaitAnew(t *testing.T) {
	for name, put := range map[string]func(s *shelf){
		"by a full batch":           func(s *shelf) { s.put(spool.Live, 5, "a", 15, 10) },
		"by a batch of the backlog": func(s *shelf) { s.put(spool.Live, 5, "a", 5, 10); s.put(spool.Backlog, 5, "a", 5, 10) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				sched := newScheduler(t, s, nil)
				put(s)
				began := time.Now()
				_, err := sched.Next(most(t))
				require.NoError(t, err)
				require.Zero(t, time.Since(began))
				time.Sleep(100 * time.Millisecond)
				b, err := sched.Next(most(t))
				require.NoError(t, err)
				require.True(t, b.Live)
				require.Len(t, b.Records, 5)
				require.Equal(t, 200*time.Millisecond, time.Since(began))
			})
		})
	}
}

// hastening changes the settings when Next is about to sleep.
type hastening struct {
	*shelf
	change func()
}

func (h *hastening) Wait() <-chan struct{} {
	if change := h.change; change != nil {
		h.change = nil
		change()
	}
	return nil
}

// A change just before Next sleeps wakes it as well.
func TestNoChangeOfTermsIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &hastening{shelf: newShelf()}
		cfg := DefaultConfig()
		cfg.MaxAge = "1h"
		sched, err := New(cfg, s, classes{})
		require.NoError(t, err)
		<-sched.nudge // of the configuration
		s.change = sched.Hasten
		s.put(spool.Live, 5, "a", 1, 10)
		began := time.Now()
		_, err = sched.Next(most(t))
		require.NoError(t, err)
		require.Zero(t, time.Since(began))
	})
}

// A lower lane earns its turn only while it waits.
func TestALaneEarnsNothingBeforeItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, func(c *Config) { c.LowerShare = 0.5 })
		high := func() {
			clear(s.held)
			s.put(spool.Backlog, 5, "h", 10, 100)
		}
		require.Equal(t, "hhhhh", order(t, sched, 5, high))
		require.Equal(t, "hlhl", order(t, sched, 4, func() {
			high()
			s.put(spool.Backlog, 2, "l", 10, 100)
		}))
	})
}

// One waiting record is enough for its lane to earn a turn, and a class immediately has the order of a new configuration.
func TestOneRecordEarnsItsTurnAndNewTermsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		sched := newScheduler(t, s, func(c *Config) { c.LowerShare = 0.5 })
		require.Equal(t, "hl", order(t, sched, 2, func() {
			clear(s.held)
			s.put(spool.Backlog, 5, "h", 10, 100)
			s.put(spool.Backlog, 2, "l", 1, 1000)
		}))
		clear(s.held)
		s.put(spool.Backlog, 5, "h", 25, 10)
		first := s.held[spool.Backlog][0].Seq
		require.NoError(t, sched.Reload(sched.cfg, classes{{Name: "h", Newest: true}}))
		b, err := sched.Next(most(t))
		require.NoError(t, err)
		require.Equal(t, first+15, b.Records[0].Seq)
	})
}

// Credit is never negative: bytes that the second party sends while the first has none are free.
func TestWhatTheSecondSendsAloneIsFree(t *testing.T) {
	s := newSplit(0.5, 100)
	s.served(true, 1000)
	require.Zero(t, s.credit)
	s.served(false, 60)
	require.InDelta(t, 60, s.credit, 1e-9)
	s.served(true, 100)
	require.Zero(t, s.credit)
	for share, batches := range map[float64]float64{0.1: 2, 0.5: 2, 0.9: 10} {
		require.InDelta(t, batches*100, newSplit(share, 100).cap, 1e-9, "share %v", share)
	}
}

// The age of a class's records counts anew after there were none.
func TestAgeCountsAnewAfterNothingWaited(t *testing.T) {
	q, clocks := &queue{}, &[sourceCount][spool.Lanes]float64{}
	for second, live := range []int{1, 2, 0, 0, 3, 1} {
		q.offer(&spool.Queue{Live: live}, clocks, time.Unix(int64(second), 0))
		want := [...]time.Time{time.Unix(0, 0), time.Unix(0, 0), {}, {}, time.Unix(4, 0), time.Unix(4, 0)}[second]
		require.Equal(t, want, q.since, "second %d", second)
	}
}
