package spool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
)

func held(r Record) Record {
	r.Hold = true
	return r
}

// A record appended with Hold cannot be taken until it is released; then it is as fresh as before.
func TestHeldFromTheCommitOn(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig(), small(16<<20, 1<<20, 1<<20))
	tagged := held(rec(1, "c", 1000, 1))
	tagged.Tag = 42
	require.NoError(t, put(s, tagged, rec(1, "c", 1000, 2), held(rec(1, "c", 1000, 3))))
	st := balanced(t, s)
	require.Equal(t, [3]int{1, 0, 2}, [3]int{st.Live, st.Backlog, st.Leased})
	records, bytes := s.Ready()
	require.Equal(t, [2]int64{1, 1057}, [2]int64{records, bytes})
	require.Equal(t, []Queue{{Lane: 1, Class: "c", Live: 1, LiveBytes: 1057}}, s.Queues(nil))
	require.Equal(t, []uint64{2}, seqs(s.Take(1, "", Live, 9, 1<<20, nil)))
	require.Empty(t, s.TakeNewest(1, "", 9, 1<<20, nil))
	require.Equal(t, FateHeld, s.Fate(1))
	require.EqualValues(t, 1, s.Floor())

	s.Release([]uint64{1})
	got := s.Take(1, "", Live, 9, 1<<20, nil)
	require.Equal(t, []uint64{1}, seqs(got))
	require.EqualValues(t, 42, got[0].Tag)
	s.Drop([]uint64{3}, ReasonHere)
	st = balanced(t, s)
	require.Equal(t, map[string]uint64{ReasonHere: 1}, st.Dropped)
	require.Equal(t, ReasonHere, s.Fate(3), "nothing is lost by it")
	s.Done([]uint64{1, 2})
	require.Zero(t, balanced(t, s).Held)
}

// After a crash the holder of a record is gone: the record is backlog. A record done locally before a checkpoint does not reappear.
func TestHeldIsBacklogAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig(), small(16<<20, 1<<20, 1<<20))
	for i := range 4 {
		require.NoError(t, put(s, held(rec(1, "c", 1000, i))))
	}
	s.Drop([]uint64{2}, ReasonHere)
	require.NoError(t, s.Checkpoint())
	s.Drop([]uint64{3}, ReasonHere)
	s = open(t, crash(t, dir), DefaultConfig(), small(16<<20, 1<<20, 1<<20))
	st := balanced(t, s)
	require.Equal(t, [2]int{3, 0}, [2]int{st.Backlog, st.Leased})
	require.EqualValues(t, 1, st.Dropped[ReasonHere])
	require.Equal(t, ReasonHere, s.Fate(2))
	require.Equal(t, []uint64{1, 3, 4}, seqs(s.Take(1, "", Backlog, 9, 1<<20, nil)))
}

// Held records make no room for others, and leave memory when the ring is full of newer ones.
func TestHeldStaysInAFullSpool(t *testing.T) {
	cfg := DefaultConfig()
	cfg.OnFull = DropOldest
	s := open(t, t.TempDir(), cfg, small(512<<10, 32<<10, 8<<10))
	require.NoError(t, put(s, held(rec(0, "c", 4000, 1))))
	for i := range 200 {
		require.NoError(t, put(s, rec(5, "c", 4000, i)))
	}
	st := balanced(t, s)
	require.Positive(t, st.Dropped[ReasonFull])
	require.Equal(t, FateHeld, s.Fate(1))
	s.Release([]uint64{1})
	got := s.Take(0, "", Backlog, 9, 1<<20, nil)
	require.Equal(t, rec(0, "c", 4000, 1).Payload, got[0].Payload, "read from disk")
}

// However many reasons there are, the one that is not a loss keeps its name.
func TestDoneHereIsNeverAnOtherReason(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig())
	for i := range maxReasons + 2 {
		require.NoError(t, put(s, rec(1, "c", 10, i)))
		s.Drop([]uint64{uint64(i) + 1}, string(rune('a'+i)))
	}
	require.NoError(t, put(s, rec(1, "c", 10, 1)))
	s.Drop([]uint64{maxReasons + 3}, ReasonHere)
	st := balanced(t, s)
	require.EqualValues(t, 2, st.Dropped["other"])
	require.EqualValues(t, 1, st.Dropped[ReasonHere])
}

// The wait of a released record counts from its release, also if its entry was read again from the index or its segment was rewritten meanwhile: it
// makes no outage.
func TestAReleaseIsRemembered(t *testing.T) {
	for name, meanwhile := range map[string]func(*Spool, *faultFS){
		"paged out": func(s *Spool, _ *faultFS) {
			s.Release([]uint64{1})
			s.pageIdle()
			s.pageIdle()
			require.NotNil(t, s.lanes[1].segs[0].paged)
			require.Equal(t, FateHeld, s.Fate(1))
			require.Nil(t, s.lanes[1].segs[0].paged)
		},
		"rewritten": func(s *Spool, disk *faultFS) {
			disk.set(func(op, _ string, _ int) (int, error) {
				if op == "rename" {
					s.Release([]uint64{1})
				}
				return 0, nil
			})
			s.house.Lock()
			require.NoError(t, s.rewrite(s.lanes[1].segs[0]))
			s.house.Unlock()
			disk.set(nil)
			require.EqualValues(t, 1, s.lanes[1].segs[0].rev)
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk, fake := &faultFS{FS: osFS{}}, clock.NewFake(time.Now())
			s := newSpool(t.TempDir(), DefaultConfig(), []Option{small(4<<20, 8<<10, 0), WithFS(disk), WithClock(clock.New(fake))})
			require.NoError(t, s.open())
			s.comm.Add(1)
			go s.committer()
			require.NoError(t, put(s, held(rec(1, "c", 1000, 0))))
			for i := range 10 {
				require.NoError(t, put(s, rec(1, "d", 1000, i)))
			}
			require.NoError(t, s.writeIndexes())
			fake.Advance(outageAfter + time.Second)
			meanwhile(s, disk)
			require.Equal(t, Queue{Lane: 1, Class: "c", Live: 1, LiveBytes: 1057}, s.Queues(nil)[0])
			fake.Advance(outageAfter + time.Second)
			require.Equal(t, Queue{Lane: 1, Class: "c", Backlog: 1, BacklogBytes: 1057}, s.Queues(nil)[0])
			require.NoError(t, s.Close())
		})
	}
}
