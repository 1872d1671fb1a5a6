package spool

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
)

// A ring holds three records of five: the older ones are read from disk and still leave first, also released ones.
func TestAnOverflowOfTheRingKeepsTheOrder(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig(), small(16<<20, 1<<20, 3*(1000+ringCost)))
	for i := range 5 {
		require.NoError(t, put(s, rec(1, "c", 1000, i)))
	}
	require.Equal(t, []Queue{{Lane: 1, Class: "c", Live: 5, LiveBytes: 5 * 1057}}, s.Queues(nil))
	require.Equal(t, []uint64{1}, seqs(s.Take(1, "c", Live, 1, 1<<20, nil)))
	require.Equal(t, []uint64{2}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)))
	s.Release([]uint64{1})
	require.Equal(t, []uint64{1}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)))
	require.Equal(t, []uint64{3, 4, 5}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)))
	require.Empty(t, s.Queues(nil))
	require.NoError(t, put(s, rec(1, "c", 1000, 5))) // pushes a leased one out
	s.Release([]uint64{2, 3, 4, 5})
	require.Equal(t, []uint64{2, 3}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)))
	require.Equal(t, []uint64{4, 5, 6}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)))
}

// Once a record that left the ring has waited for outageAfter, fresh records overtake the backlog until it is empty.
func TestFreshRecordsPassABacklogThatIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open("/spool", DefaultConfig(), WithFS(crashFS{vfs.NewCrashableMem(), func() {}}), small(16<<20, 1<<20, 3*(1000+ringCost)))
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		s.Flows(true) // the ring does not shrink
		for i := range 4 {
			require.NoError(t, put(s, rec(1, "c", 1000, i)))
		}
		time.Sleep(outageAfter + time.Second)
		require.Equal(t, []Queue{{Lane: 1, Class: "c", Live: 3, Backlog: 1, LiveBytes: 3 * 1057, BacklogBytes: 1057}}, s.Queues(nil))
		require.Equal(t, []uint64{2, 3, 4}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)))
		require.Equal(t, []uint64{1}, seqs(s.Take(1, "c", Backlog, 9, 1<<20, nil)))
		s.Done([]uint64{1, 2, 3, 4})
		for i := range 4 {
			require.NoError(t, put(s, rec(1, "c", 1000, i)))
		}
		require.Equal(t, []uint64{5}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)), "the outage is over")
	})
}

// A record that was parked for long waits only since its release: it makes no outage, in which other records of its class would be overtaken.
func TestAReleasedRecordMakesNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open("/spool", DefaultConfig(), WithFS(crashFS{vfs.NewCrashableMem(), func() {}}), small(16<<20, 1<<20, 3*(1000+ringCost)))
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		s.Flows(true) // the ring does not shrink
		require.NoError(t, put(s, held(rec(1, "c", 1000, 0))))
		time.Sleep(outageAfter + time.Second)
		for i := range 5 {
			require.NoError(t, put(s, rec(1, "c", 1000, i)))
		}
		s.Release([]uint64{1})
		require.Equal(t, []uint64{1, 2, 3}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)))
		require.Equal(t, []uint64{4, 5, 6}, seqs(s.Take(1, "c", Live, 9, 1<<20, nil)))
		s.Release([]uint64{1})
		time.Sleep(outageAfter + time.Second)
		require.Equal(t, []Queue{{Lane: 1, Class: "c", Backlog: 1, BacklogBytes: 1057}}, s.Queues(nil))
	})
}

// Records present at a start leave before fresh ones, however long the service was off, unless they exceed the ring or do not leave for outageAfter.
func TestAStartKeepsTheOrderOfAFewRecords(t *testing.T) {
	for _, c := range []struct {
		ring    int64
		off, on time.Duration
		first   uint64
	}{
		{3 * (1000 + ringCost), 0, 0, 1},
		{3 * (1000 + ringCost), time.Hour, 0, 1},
		{3 * (1000 + ringCost), time.Hour, outageAfter + time.Second, 4},
		{1000 + ringCost, 0, 0, 4},
	} {
		dir, fake := t.TempDir(), clock.NewFake(time.Now())
		s, err := Open(dir, DefaultConfig(), small(16<<20, 1<<20, c.ring), WithClock(clock.New(fake)))
		require.NoError(t, err)
		for i := range 3 {
			require.NoError(t, put(s, rec(1, "c", 1000, i)))
		}
		require.NoError(t, s.Close())
		fake.Advance(c.off)
		s = open(t, dir, DefaultConfig(), small(16<<20, 1<<20, c.ring), WithClock(clock.New(fake)))
		fake.Advance(c.on)
		require.NoError(t, put(s, rec(1, "c", 1000, 3)))
		require.Equal(t, c.first, s.Take(1, "c", Live, 9, 1<<20, nil)[0].Seq, "%+v", c)
	}
}

// A released lease returns the record to its place, unless the ring evicted it meanwhile.
func TestReleaseRestoresPlaceAndOrder(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig(), small(16<<20, 1<<20, 4*(1000+ringCost)))
	for i := range 4 {
		r := rec(1, "c", 1000, i)
		r.Tag = uint64(i)
		require.NoError(t, put(s, r))
	}
	got := s.Take(1, "", Live, 2, 1<<20, nil)
	require.EqualValues(t, 0, got[0].Tag)
	s.Release(seqs(got))
	require.Equal(t, []uint64{1, 2, 3, 4}, seqs(s.Take(1, "", Live, 9, 1<<20, nil)))
	s.Release([]uint64{3, 1, 77})
	require.Equal(t, []uint64{1, 3}, seqs(s.Take(1, "", Live, 9, 1<<20, nil)))
	require.NoError(t, put(s, rec(1, "c", 1000, 5))) // pushes 1 out
	s.Release([]uint64{1, 2, 3, 4})
	require.Equal(t, []uint64{1}, seqs(s.Take(1, "", Backlog, 9, 1<<20, nil)))
	require.Equal(t, []uint64{2, 3, 4, 5}, seqs(s.Take(1, "", Live, 9, 1<<20, nil)))
	require.EqualValues(t, 5, balanced(t, s).Leased)
}

func TestTakeByClassCountAndBytes(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	for i := range 6 {
		require.NoError(t, put(s, rec(4, string(rune('a'+i%2)), 1000, i)))
	}
	require.Equal(t, []uint64{2, 4}, seqs(s.Take(4, "b", Live, 2, 1<<20, nil)))
	require.Equal(t, []uint64{1}, seqs(s.Take(4, "", Live, 9, 1, nil)), "always one")
	require.Equal(t, []uint64{3, 5}, seqs(s.Take(4, "a", Live, 9, 2*1057, nil)))
	require.Empty(t, s.Take(4, "zzz", Live, 9, 1<<20, nil))
	require.Empty(t, s.Take(11, "", Live, 9, 1<<20, nil))
	require.Empty(t, s.Take(4, "", 7, 9, 1<<20, nil))
	s.Drop([]uint64{6, 1}, "because")
	st := balanced(t, s)
	require.EqualValues(t, 2, st.Dropped["because"])
	require.Equal(t, "dropped:because", s.Fate(6))
	s.Done([]uint64{6, 99})
	require.EqualValues(t, 0, balanced(t, s).Done)
	require.EqualValues(t, 2, st.Floor)
}

func TestWaitSignals(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	require.NoError(t, put(s, rec(1, "c", 10, 1)))
	<-s.Wait()
	got := s.Take(1, "", Live, 1, 1, nil)
	s.Release(seqs(got))
	<-s.Wait()
	require.NoError(t, s.Close())
	require.ErrorIs(t, put(s, rec(1, "c", 10, 1)), ErrClosed)
	require.NoError(t, s.Close(), "twice is once")
}

// Time to live runs by the spool's clock: expired records are dropped, whether live, leased or backlog, each at its time.
func TestTimeToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := crashFS{vfs.NewCrashableMem(), func() {}}
		s, err := Open("/spool", DefaultConfig(), WithFS(disk), small(16<<20, 1<<20, 1<<20))
		require.NoError(t, err)
		wall := time.Now().Add(-50 * 365 * 24 * time.Hour).UnixNano() // the caller's clock may be anything
		for i, ttl := range []time.Duration{time.Second, 5 * time.Second, 0, time.Hour} {
			r := rec(1, "c", 100, i)
			r.Time = wall
			if ttl > 0 {
				r.Expires = wall + int64(ttl)
			}
			require.NoError(t, put(s, r))
		}
		leased := s.Take(1, "", Live, 1, 1, nil)
		require.EqualValues(t, 1, leased[0].Seq)
		time.Sleep(2500 * time.Millisecond) // between two sweeps: at the same instant either may come first
		s.Release(seqs(leased))
		require.EqualValues(t, 0, balanced(t, s).Dropped[ReasonExpired], "not while it was leased")
		require.Equal(t, []uint64{2}, seqs(s.Take(1, "", Live, 1, 1, nil)), "the first expired when it came back")
		require.Equal(t, ReasonExpired, s.Fate(1))
		s.Release([]uint64{2})
		time.Sleep(3 * time.Second)
		require.EqualValues(t, 2, balanced(t, s).Dropped[ReasonExpired], "the sweep found the second")
		require.NoError(t, s.Close())

		time.Sleep(2 * time.Hour) // the node is off
		s, err = Open("/spool", DefaultConfig(), WithFS(disk), small(16<<20, 1<<20, 1<<20))
		require.NoError(t, err)
		require.Equal(t, []uint64{3}, seqs(s.Take(1, "", Backlog, 9, 1<<20, nil)))
		require.EqualValues(t, 3, balanced(t, s).Dropped[ReasonExpired])
		require.NoError(t, s.Close())
	})
}

// steps are steps of a wall clock by NTP, a dead battery and an operator.
var steps = []time.Duration{
	time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, 30 * 365 * 24 * time.Hour, -30 * 365 * 24 * time.Hour,
}

// No step of the wall clock ages a record: neither while the spool is open, nor across a restart, a crash or a reboot. Time that really passes does,
// as far as it is certain.
func TestNoStepOfTheClockExpiresARecord(t *testing.T) {
	const ttl = 30 * time.Minute
	for _, step := range steps {
		for _, row := range []struct {
			name string
			do   func(*clock.Fake)
		}{
			{"open", nil},
			{"restart", func(*clock.Fake) {}},
			{"reboot, not synchronised", func(f *clock.Fake) { f.Synchronise(false); f.Reboot(time.Second) }},
			{"reboot, synchronised after", func(f *clock.Fake) { f.Reboot(time.Second); f.Synchronise(true) }},
		} {
			dir, fake := t.TempDir(), clock.NewFake(time.Date(1970, 1, 1, 0, 0, 8, 0, time.UTC))
			fake.Synchronise(false)
			s, err := Open(dir, DefaultConfig(), WithClock(clock.New(fake)))
			require.NoError(t, err)
			r := rec(1, "c", 100, 1)
			r.Time = fake.Wall().UnixNano()
			r.Expires = r.Time + int64(ttl)
			require.NoError(t, put(s, r))
			fake.Advance(20 * time.Minute)
			fake.Step(step)
			if row.do != nil {
				require.NoError(t, s.Close())
				row.do(fake)
				s, err = Open(dir, DefaultConfig(), WithClock(clock.New(fake)))
				require.NoError(t, err)
			}
			require.NoError(t, s.sweep())
			require.Equal(t, FateHeld, s.Fate(1), "%s, step of %v", row.name, step)
			require.InDelta(t, (20 * time.Minute).Seconds(), s.Stats().OldestAge.Seconds(), 1.1, "%s, step of %v", row.name, step)
			fake.Advance(10*time.Minute + time.Second)
			require.NoError(t, s.sweep())
			require.Equal(t, ReasonExpired, s.Fate(1), "%s, step of %v: its time is over", row.name, step)
			require.NoError(t, s.Close())
		}
	}
}

// A state from before boots were recorded, or from another machine, says nothing about the time since.
func TestAStateWithoutABootAgesNothing(t *testing.T) {
	dir, fake := t.TempDir(), clock.NewFake(time.Now())
	s, err := Open(dir, DefaultConfig(), WithClock(clock.New(fake)))
	require.NoError(t, err)
	r := rec(1, "c", 100, 1)
	r.Expires = int64(time.Minute)
	r.Time = 1
	require.NoError(t, put(s, r))
	require.NoError(t, s.Close())
	st, _, err := readState(osFS{}, dir)
	require.NoError(t, err)
	st.at = clock.Moment{Wall: st.at.Wall - int64(24*time.Hour)}
	for i := range slotNames {
		st.gen++
		old := st.encode()
		require.NoError(t, os.WriteFile(dir+"/"+slotNames[st.gen&1], old, 0o600), i)
	}
	s = open(t, dir, DefaultConfig(), WithClock(clock.New(fake)))
	require.Len(t, s.Take(1, "", Backlog, 1, 1, nil), 1)
}

// With the weaker policies a crash may lose records, and still no sequence is assigned twice.
func TestWeakSyncNeverReusesSequences(t *testing.T) {
	for _, policy := range []string{SyncInterval, SyncNone} {
		cfg := DefaultConfig()
		cfg.Sync, cfg.SyncInterval = policy, "1h"
		disk := crashFS{vfs.NewCrashableMem(), func() {}}
		s, err := Open("/spool", cfg, WithFS(disk), small(16<<20, 64<<10, 1<<20))
		require.NoError(t, err)
		last := uint64(0)
		for i := range 50 {
			r := []Record{rec(1, "c", 100, i)}
			require.NoError(t, put(s, r...))
			last = r[0].Seq
		}
		after := crashFS{disk.CrashClone(vfs.CrashCloneCfg{}), func() {}}
		require.NoError(t, s.Close())
		s, err = Open("/spool", cfg, WithFS(after), small(16<<20, 64<<10, 1<<20))
		require.NoError(t, err)
		r := []Record{rec(1, "c", 100, 0)}
		require.NoError(t, put(s, r...))
		require.Greater(t, r[0].Seq, last)
		require.Equal(t, FateSkipped, s.Fate(last))
		balanced(t, s)
		require.NoError(t, s.Close())
	}
}

// A missing segment is reported if it had records. After a crash with the weaker policies, an interrupted start may have removed a segment that no
// commit had reached.
func TestAMissingSegmentIsReported(t *testing.T) {
	missing := "spool segment " + segmentName(1, 1) + " is missing; its records are counted as quarantined"
	for policy, want := range map[string][]string{SyncAlways: {missing}, SyncInterval: nil, SyncNone: nil} {
		cfg := DefaultConfig()
		cfg.Sync, cfg.SyncInterval = policy, "1h"
		disk := crashFS{vfs.NewCrashableMem(), func() {}}
		s, err := Open("/spool", cfg, WithFS(disk), small(16<<20, 64<<10, 1<<20))
		require.NoError(t, err)
		require.NoError(t, put(s, rec(1, "c", 100, 1)))
		_, err = s.roll(&Record{Lane: 2, Seq: 2}, 100)
		require.NoError(t, err)
		require.NoError(t, s.Checkpoint())
		after := crashFS{disk.CrashClone(vfs.CrashCloneCfg{}), func() {}}
		require.NoError(t, s.Close())
		require.NoError(t, after.Remove("/spool/"+segmentName(1, 1)))
		require.NoError(t, after.Remove("/spool/"+segmentName(2, 2)))
		var told []string
		s, err = Open("/spool", cfg, WithFS(after), small(16<<20, 64<<10, 1<<20), WithProblems(func(err error) { told = append(told, err.Error()) }))
		require.NoError(t, err)
		require.Equal(t, want, told, policy)
		balanced(t, s)
		require.NoError(t, s.Close())
	}
}

// A take does not search the taken part of a segment again: its cost does not depend on earlier takes.
func TestATakeBeginsWhereTheLastOneEnded(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig(), small(64<<20, 16<<20, 16<<20))
	for i := range 100 {
		require.NoError(t, put(s, rec(1, "c", 100, i)))
	}
	require.Len(t, s.Take(1, "c", Live, 40, 1<<20, nil), 40)
	g := s.lanes[1].segs[0]
	low, high := g.bounds(s.classes[0], g.entries[99].state.kind())
	require.GreaterOrEqual(t, low, 39)
	require.Equal(t, 99, high)
	s.Release([]uint64{5})
	require.Equal(t, []uint64{5}, seqs(s.Take(1, "c", Live, 1, 1<<20, nil)), "returned records come first")
}
