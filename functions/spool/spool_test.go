package spool

import (
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// small sets small segments and limits, so that tests reach them with few records.
func small(quota, segment, ring int64) Option {
	return func(o *options) {
		o.resize = func(l *limits) {
			l.quota, l.segment, l.ring, l.slot, l.quarantine = quota, segment, ring, 16<<10, quota/16
			l.commitEvery = 0
		}
	}
}

// crash copies the folder of an open spool, as a crash would leave it. It copies again if a file of unfinished work disappears meanwhile.
func crash(t testing.TB, dir string) string {
	t.Helper()
	for {
		to := t.TempDir()
		err := os.CopyFS(to, os.DirFS(dir))
		if err == nil {
			return to
		}
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
}

func open(t testing.TB, dir string, cfg Config, opts ...Option) *Spool {
	t.Helper()
	s, err := Open(dir, cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// put appends records and waits until they are stored.
func put(s *Spool, recs ...Record) error {
	c := make(chan error, 1)
	s.Append(recs, func(err error) { c <- err })
	return <-c
}

func rec(lane int, class string, size int, mark int) Record {
	p := make([]byte, size)
	copy(p, fmt.Sprintf("%d/", mark))
	for i := range p[min(size, 12):] {
		p[12+i] = byte(i * mark)
	}
	return Record{Lane: lane, Class: class, Payload: p, Score: float32(mark)}
}

func seqs(recs []Record) []uint64 {
	var out []uint64
	for i := range recs {
		out = append(out, recs[i].Seq)
	}
	return out
}

func balanced(t testing.TB, s *Spool) Stats {
	t.Helper()
	st := s.Stats()
	sum := st.Done + st.Held
	for _, n := range st.Dropped {
		sum += n
	}
	require.Equal(t, st.Appended, sum, "appended = done + dropped + held: %+v", st)
	for name, c := range st.Classes {
		sum := c.Done + c.Held
		for _, n := range c.Dropped {
			sum += n
		}
		require.Equal(t, c.Appended, sum, "class %q: %+v", name, c)
	}
	return st
}

func TestWhatIsStoredComesBackInOrderAfterRestart(t *testing.T) {
	dir := t.TempDir() + "/new/spool"
	s, err := Open(dir, DefaultConfig(), small(4<<20, 64<<10, 1<<20))
	require.NoError(t, err)
	for i := range 100 {
		require.NoError(t, put(s, rec(i%3, "c", 1000+i, i)))
	}
	s.mu.Lock()
	require.Zero(t, s.records, "nothing waits for its commit")
	s.mu.Unlock()
	epoch := s.Epoch()
	got := s.Take(0, "", Live, 1000, 1<<30, nil)
	require.Len(t, got, 34)
	require.Empty(t, s.Take(0, "", Live, 1000, 1<<30, nil), "leased")
	s.Done(seqs(got[:10]))
	balanced(t, s)
	require.NoError(t, s.Close())

	s = open(t, dir, DefaultConfig(), small(4<<20, 64<<10, 1<<20))
	require.Equal(t, epoch, s.Epoch())
	st := balanced(t, s)
	require.EqualValues(t, 100, st.Appended)
	require.EqualValues(t, 10, st.Done)
	require.EqualValues(t, 90, st.Backlog)
	require.Empty(t, s.Take(0, "", Live, 10, 1<<20, nil))
	again := s.Take(0, "c", Backlog, 1000, 1<<30, nil)
	require.Len(t, again, 24)
	for i := range again {
		require.Equal(t, got[10+i], again[i])
	}
	newest := s.TakeNewest(1, "", 5, 1<<30, nil)
	require.Equal(t, []uint64{98, 95, 92, 89, 86}, seqs(newest))
	for _, r := range newest {
		require.Equal(t, rec(1, "c", len(r.Payload), int(r.Seq)-1).Payload, r.Payload)
	}
	require.Equal(t, FateDone, s.Fate(1))
	require.Equal(t, FateHeld, s.Fate(2))
	require.Equal(t, FateUnknown, s.Fate(101))
	require.EqualValues(t, 2, s.Floor())
}
