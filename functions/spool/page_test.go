package spool

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/clock"
)

// pageAll pages out every idle segment, as two quiet sweeps would, and returns the number of segments paged out.
func pageAll(t require.TestingT, s *Spool) (out int) {
	require.NoError(t, s.writeIndexes())
	s.pageIdle()
	s.pageIdle()
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			if g.paged != nil {
				out++
			}
		}
	}
	return out
}

// backlogOf fills a spool without a ring, so that all records are backlog in several segments.
func backlogOf(t testing.TB, dir string, n int, opts ...Option) *Spool {
	s := open(t, dir, DefaultConfig(), append(opts, small(16<<20, 64<<10, 0))...)
	for i := range n {
		require.NoError(t, put(s, rec(i%2, "c", 1000, i)))
	}
	return s
}

// A spool that pages out at every opportunity gives the same answers as one that never does.
func TestPagingChangesNoAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := DefaultConfig()
		cfg.Sync, cfg.AckInterval = SyncNone, "1h"
		fake := clock.NewFake(time.Unix(1, 0)) // shared by both, so that their records have equal ages
		var two [2]*Spool
		for i := range two {
			s, err := Open("/spool", cfg, WithFS(crashFS{vfs.NewCrashableMem(), func() {}}), WithClock(clock.New(fake)), small(200<<10, 8<<10, 4<<10))
			require.NoError(t, err)
			defer func() { require.NoError(t, s.Close()) }()
			two[i] = s
		}
		paging, plain := two[0], two[1]
		var leases []uint64
		for step := range rapid.IntRange(20, 120).Draw(t, "steps") {
			fake.Advance(time.Second)
			lane, class := rapid.IntRange(0, 2).Draw(t, "lane"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "class")
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			default:
				r := rec(lane, class+"x", rapid.IntRange(10, 3000).Draw(t, "size"), step)
				r.OnFull = rapid.SampledFrom([]string{Refuse, DropOldest, DropLowestScore}).Draw(t, "strategy")
				r.Time, r.Score = int64(step+1)*1e9, float32(rapid.IntRange(0, 20).Draw(t, "score"))
				require.Equal(t, put(paging, r), put(plain, r))
			case 4, 5:
				got := paging.Take(lane, class, Backlog, 3, 4000, nil)
				require.Equal(t, got, plain.Take(lane, class, Backlog, 3, 4000, nil))
				leases = append(leases, seqs(got)...)
			case 6:
				got := paging.TakeNewest(lane, class, 3, 4000, nil)
				require.Equal(t, got, plain.TakeNewest(lane, class, 3, 4000, nil))
				leases = append(leases, seqs(got)...)
			case 7:
				some := []uint64{rapid.Uint64Range(1, 100).Draw(t, "seq"), rapid.Uint64Range(1, 100).Draw(t, "seq")}
				paging.Done(some)
				plain.Done(some)
			case 8:
				paging.Release(leases)
				plain.Release(leases)
				leases = nil
			case 9:
				var freed [2]bool
				for i, s := range two {
					s.house.Lock()
					var err error
					freed[i], err = s.rewriteSparsest()
					s.house.Unlock()
					require.NoError(t, err)
				}
				require.Equal(t, freed[1], freed[0])
			}
			pageAll(t, paging)
			sameAnswers(t, paging, plain)
		}
	})
}

func sameAnswers(t *rapid.T, a, b *Spool) {
	x, y := a.Stats(), b.Stats()
	x.Epoch, x.DiskBytes, x.Written, x.Syncs, x.Segments = y.Epoch, y.DiskBytes, y.Written, y.Syncs, y.Segments
	require.Equal(t, y, x)
	require.Equal(t, b.Queues(nil), a.Queues(nil))
	require.Equal(t, b.Floor(), a.Floor())
	for seq := uint64(1); seq < y.Next+2; seq += 7 {
		require.Equal(t, b.Fate(seq), a.Fate(seq), "sequence %d", seq)
	}
}

// After a restart all segments are paged out, and read when needed.
func TestStartReadsNoEntriesIntoMemory(t *testing.T) {
	dir := t.TempDir()
	s := backlogOf(t, dir, 400)
	require.NotZero(t, pageAll(t, s))
	s.Done([]uint64{5, 6, 300})
	require.NoError(t, s.Close())
	s = open(t, dir, DefaultConfig(), small(16<<20, 64<<10, 0))
	s.mu.Lock()
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			require.NotNil(t, g.paged, g.name())
		}
	}
	s.mu.Unlock()
	require.Equal(t, FateDone, s.Fate(300))
	require.Equal(t, FateHeld, s.Fate(301))
	require.EqualValues(t, 1, s.Floor())
	require.EqualValues(t, 397, balanced(t, s).Held)
	require.Len(t, s.Take(0, "", Backlog, 1000, 1<<30, nil), 199)
	require.Len(t, s.TakeNewest(1, "", 1000, 1<<30, nil), 198)
}

// A missing or damaged index is rebuilt from the segment when needed, and no record is lost.
func TestLostIndexIsMadeAnew(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir string){
		"removed": func(t *testing.T, dir string) { removeAll(t, dir, "*.idx") },
		"damaged": func(t *testing.T, dir string) { flipAll(t, dir, "*.idx", 40) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := backlogOf(t, dir, 400)
			s.Done([]uint64{3, 4})
			require.NotZero(t, pageAll(t, s))
			harm(t, dir)
			require.Equal(t, FateDone, s.Fate(3))
			got := s.Take(0, "", Backlog, 1000, 1<<30, nil)
			require.Len(t, got, 199)
			require.EqualValues(t, 398, balanced(t, s).Held)
			require.Empty(t, s.Damages())
			s.Release(seqs(got))
			require.NotZero(t, pageAll(t, s), "the index is there again")
		})
	}
}

func flipAll(t *testing.T, dir, glob string, at int) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, glob))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, n := range names {
		b, err := os.ReadFile(n)
		require.NoError(t, err)
		b[at] ^= 4
		require.NoError(t, os.WriteFile(n, b, 0o600))
	}
}

// If the segment was damaged too, one record is lost, counted and named, and its bytes are quarantined.
func TestDamageFoundWithoutIndexCostsOneRecord(t *testing.T) {
	dir := t.TempDir()
	s := backlogOf(t, dir, 200)
	require.NotZero(t, pageAll(t, s))
	removeAll(t, dir, "*.idx")
	f, err := os.OpenFile(filepath.Join(dir, segmentName(0, 1)), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("x"), dataStart+5*1057+500) // the sixth record of lane 0: sequence 11
	require.NoError(t, errors.Join(err, f.Close()))

	require.Len(t, s.Take(0, "", Backlog, 1000, 1<<30, nil), 99)
	st := balanced(t, s)
	require.EqualValues(t, 1, st.Dropped[ReasonQuarantined])
	require.Equal(t, ReasonQuarantined, s.Fate(11))
	told := func() bool { return len(s.Damages()) > 0 } // the keeper reports it later
	require.Eventually(t, told, 30*time.Second, time.Millisecond)
	require.Len(t, s.Damages(), 1)
	require.EqualValues(t, 11, s.Damages()[0].Seq)
	require.FileExists(t, filepath.Join(dir, s.Damages()[0].Kept))
}

// A disk that is unreadable for a while returns no records meanwhile, and loses none.
func TestUnreadableForAWhile(t *testing.T) {
	disk := &faultFS{FS: osFS{}}
	s := backlogOf(t, t.TempDir(), 200, WithFS(disk))
	require.NotZero(t, pageAll(t, s))
	disk.set(func(op, _ string, _ int) (int, error) {
		if op == "open" || op == "read" {
			return 0, syscall.EIO
		}
		return 0, nil
	})
	for range 3 {
		s.Take(0, "", Backlog, 1, 1<<20, nil)
	}
	told := func() bool { return strings.Contains(s.Stats().Problem, segmentName(0, 1)) }
	require.Eventually(t, told, 30*time.Second, time.Millisecond)
	require.EqualValues(t, 200, balanced(t, s).Held)
	disk.set(nil)
	require.Len(t, s.Take(0, "", Backlog, 1000, 1<<30, nil), 100)
	require.Eventually(t, func() bool { return !told() }, 30*time.Second, time.Millisecond, "the problem is over")
}

// Without its index, a segment without intact records is retired as a whole.
func TestSegmentThatTurnsOutEmptyIsRetired(t *testing.T) {
	dir := t.TempDir()
	s := backlogOf(t, dir, 200)
	require.NotZero(t, pageAll(t, s))
	before := s.Stats()
	removeAll(t, dir, "*.idx")
	name := filepath.Join(dir, segmentName(0, 1))
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(make([]byte, len(b)-dataStart), dataStart)
	require.NoError(t, errors.Join(err, f.Close()))
	s.Take(0, "", Backlog, 1, 1<<20, nil)
	require.NoError(t, s.afterFetch())
	st := balanced(t, s)
	require.Equal(t, before.Segments-1, st.Segments)
	require.NotZero(t, st.Dropped[ReasonQuarantined], strconv.Itoa(int(before.Held-st.Held)))
}

// The cloud receipts a segment's last records during its rewrite, at each step: the segment is buried and nothing else is lost. The rewrite used to
// panic without entries.
func TestASegmentMayGoWhileItIsRewritten(t *testing.T) {
	for _, step := range []string{"create", "write", "sync", "rename", "syncdir"} {
		t.Run(step, func(t *testing.T) {
			dir, disk := t.TempDir(), &faultFS{FS: osFS{}}
			cfg := DefaultConfig()
			cfg.AckInterval = "1h"
			s := open(t, dir, cfg, WithFS(disk), small(16<<20, 64<<10, 0))
			for i := range 200 {
				require.NoError(t, put(s, rec(0, "c", 1000, i)))
			}
			var most, rest []uint64
			s.mu.Lock()
			last := uint64(s.lanes[0].segs[0].records())
			s.mu.Unlock()
			for seq := uint64(1); seq <= last; seq++ {
				if seq%8 == 0 {
					rest = append(rest, seq)
				} else {
					most = append(most, seq)
				}
			}
			s.Done(most)
			require.NoError(t, s.checkpoint())
			segment, begun, gone := segmentName(0, 1), false, false
			disk.set(func(op, name string, _ int) (int, error) {
				begun = begun || strings.HasPrefix(name, segment)
				if begun && !gone && op == step {
					gone = true
					s.Done(rest)
				}
				return 0, nil
			})
			func() {
				s.house.Lock()
				defer s.house.Unlock()
				freed, err := s.rewriteSparsest()
				require.NoError(t, err)
				require.True(t, freed)
			}()
			require.True(t, gone, "no such step in a rewrite")
			disk.set(nil)
			held := balanced(t, s).Held
			require.EqualValues(t, 200-last, held)
			require.NoError(t, s.Close())
			s = open(t, dir, cfg, small(16<<20, 64<<10, 0))
			require.EqualValues(t, held, balanced(t, s).Held)
			require.NoError(t, s.Close())
		})
	}
}

// A segment that cannot be read or copied during its rewrite stays unchanged: the error is reported, and no record is lost.
func TestARewriteThatFailsLosesNothing(t *testing.T) {
	temp := segmentName(0, 1) + ".tmp"
	for name, fails := range map[string]struct {
		op    string
		after int // how many of them pass
	}{
		"reading the records": {"read", 0},
		"writing the header":  {"write", 0},
		"writing the records": {"write", 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir, disk, cfg := t.TempDir(), &faultFS{FS: osFS{}}, quiet(64)
			s := open(t, dir, cfg, WithFS(disk), small(16<<20, 64<<10, 0))
			for i := range 200 {
				require.NoError(t, put(s, rec(0, "c", 1000, i)))
			}
			var gone []uint64
			for seq := uint64(1); seq <= 50; seq++ { // all of them are in the first segment
				if seq%8 != 0 {
					gone = append(gone, seq)
				}
			}
			s.Done(gone)
			require.NoError(t, s.checkpoint())
			held, begun, passed := balanced(t, s).Held, false, 0
			disk.set(func(op, file string, _ int) (int, error) {
				begun = begun || op == "create" && file == temp
				if !begun || op != fails.op || op == "write" && file != temp { // a file read may have been created under another name
					return 0, nil
				}
				if passed++; passed > fails.after {
					return 0, syscall.EIO
				}
				return 0, nil
			})
			func() {
				s.house.Lock()
				defer s.house.Unlock()
				freed, err := s.rewriteSparsest()
				require.True(t, freed)
				require.ErrorIs(t, err, syscall.EIO)
			}()
			disk.set(nil)
			require.NoFileExists(t, s.path(temp))
			require.Equal(t, held, balanced(t, s).Held)
			require.NoError(t, s.Close())
			s = open(t, dir, cfg, small(16<<20, 64<<10, 0))
			have := map[uint64]bool{}
			for _, r := range s.Take(0, "c", Backlog, 1000, 1<<20, nil) {
				require.Equal(t, rec(0, "c", 1000, int(r.Seq-1)).Payload, r.Payload, "record %d", r.Seq)
				have[r.Seq] = true
			}
			require.Len(t, have, int(held))
			for _, seq := range gone {
				require.False(t, have[seq])
			}
		})
	}
}
