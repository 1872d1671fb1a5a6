package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func isSegment(name string) bool { return strings.HasSuffix(name, ".seg") }

// A disk filled by other files refuses records cleanly, accepts Done, and drains; then it stores records again.
func TestFullDiskDrains(t *testing.T) {
	dir, disk := t.TempDir(), &faultFS{FS: osFS{}}
	s := open(t, dir, DefaultConfig(), WithFS(disk), small(8<<20, 64<<10, 0))
	for s.Stats().Segments < 5 {
		require.NoError(t, put(s, rec(3, "c", 5000, 1)))
	}
	disk.set(full)
	var err error
	for err == nil {
		err = put(s, rec(3, "c", 5000, 2))
	}
	require.ErrorIs(t, err, ErrFull)
	held := balanced(t, s).Held
	require.NoError(t, s.Checkpoint())

	drained := 0
	for got := s.Take(3, "", Backlog, 7, 1<<20, nil); len(got) > 0; got = s.Take(3, "", Backlog, 7, 1<<20, nil) {
		s.Done(seqs(got))
		drained += len(got)
	}
	require.EqualValues(t, held, drained)
	require.NoError(t, s.Checkpoint(), "what is done needs no space")
	require.NoError(t, s.Checkpoint())
	require.NoError(t, put(s, rec(3, "c", 5000, 3)), "the segments drained are written over")
	require.Zero(t, s.Stats().Problem)
	require.NotZero(t, s.Stats().DiskFull)
}

// An Append larger than the disk's free space leaves the limit at what the disk took of it: once that is drained, as much is accepted again.
func TestABurstLargerThanTheDiskLeavesTheLimit(t *testing.T) {
	disk := &faultFS{FS: osFS{}}
	s := open(t, t.TempDir(), DefaultConfig(), WithFS(disk), small(8<<20, 64<<10, 0))
	fill := func() (n int) {
		for n < 200 && put(s, rec(3, "c", 5000, n)) == nil {
			n++
		}
		for got := s.Take(3, "", Backlog, 300, 2<<20, nil); len(got) > 0; got = s.Take(3, "", Backlog, 300, 2<<20, nil) {
			s.Done(seqs(got))
		}
		require.NoError(t, s.Checkpoint())
		require.NoError(t, s.Checkpoint())
		return n
	}
	require.Equal(t, 200, fill())
	disk.set(full)
	burst := make([]Record, 300)
	for i := range burst {
		burst[i] = rec(3, "c", 5000, i)
	}
	require.ErrorIs(t, put(s, burst...), ErrFull)
	require.NoError(t, s.Checkpoint())
	require.NoError(t, s.Checkpoint())
	require.GreaterOrEqual(t, fill(), 180)
	require.Zero(t, balanced(t, s).Held)
}

// On a full disk the strategies make room in existing segments.
func TestFullDiskDropsOldest(t *testing.T) {
	cfg := DefaultConfig()
	cfg.OnFull = DropOldest
	disk := &faultFS{FS: osFS{}}
	s := open(t, t.TempDir(), cfg, WithFS(disk), small(8<<20, 64<<10, 0))
	for s.Stats().Segments < 5 {
		require.NoError(t, put(s, rec(3, "c", 5000, 1)))
	}
	disk.set(full)
	refused := 0
	for range 200 {
		if put(s, rec(3, "c", 5000, 2)) != nil {
			refused++
		}
	}
	st := balanced(t, s)
	require.Less(t, refused, 5, "one that meets the full disk, and then the oldest go")
	require.NotZero(t, st.Dropped[ReasonFull])
}

// A failed write or sync is reported to the calls it affects, and the next commit begins a new segment.
func TestFailedCommitHarmsOnlyItself(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			dir, disk := t.TempDir(), &faultFS{FS: osFS{}}
			s, err := Open(dir, DefaultConfig(), WithFS(disk))
			require.NoError(t, err)
			require.NoError(t, put(s, rec(1, "c", 3000, 1)))
			disk.set(func(o, name string, n int) (int, error) {
				if o == op && isSegment(name) {
					return n / 2, syscall.EIO
				}
				return 0, nil
			})
			bad := []Record{rec(1, "c", 3000, 2)}
			require.ErrorIs(t, put(s, bad...), syscall.EIO)
			require.Equal(t, FateSkipped, s.Fate(bad[0].Seq))
			disk.set(nil)
			require.NoError(t, put(s, rec(1, "c", 3000, 3)))
			st := balanced(t, s)
			require.EqualValues(t, 2, st.Held)
			require.EqualValues(t, 1, st.Failed)
			require.Len(t, s.Take(1, "", Live, 10, 1<<20, nil), 2)
			require.NoError(t, s.Close())

			s = open(t, dir, DefaultConfig())
			require.EqualValues(t, 2, balanced(t, s).Held)
			require.Empty(t, s.Damages())
		})
	}
}

// A disk that turned read-only fails Append, and the backlog can still be sent.
func TestDiskTurnsReadOnly(t *testing.T) {
	disk := &faultFS{FS: osFS{}}
	s := open(t, t.TempDir(), DefaultConfig(), WithFS(disk), small(16<<20, 1<<20, 0))
	require.NoError(t, put(s, rec(1, "c", 3000, 1), rec(1, "c", 3000, 2)))
	disk.set(func(op, _ string, _ int) (int, error) {
		if op == "open" || op == "read" {
			return 0, nil
		}
		return 0, syscall.EROFS
	})
	require.ErrorIs(t, put(s, rec(1, "c", 3000, 3)), syscall.EROFS)
	got := s.Take(1, "", Backlog, 10, 1<<20, nil)
	require.Len(t, got, 2)
	s.Done(seqs(got))
	require.ErrorIs(t, s.Checkpoint(), syscall.EROFS)
	balanced(t, s)
	disk.set(nil)
	require.NoError(t, s.Checkpoint())
}

func TestOpenOnReadOnlyDisk(t *testing.T) {
	disk := &faultFS{FS: osFS{}}
	disk.set(func(op, _ string, _ int) (int, error) {
		if op == "open" {
			return 0, nil
		}
		return 0, syscall.EROFS
	})
	dir := t.TempDir()
	_, err := Open(dir, DefaultConfig(), WithFS(disk))
	require.ErrorIs(t, err, syscall.EROFS)
	require.ErrorContains(t, err, dir)
}

// An unreadable sector costs its record; the other records of the same read are returned.
func TestUnreadableSectorCostsOneRecord(t *testing.T) {
	disk := &faultFS{FS: osFS{}}
	s := open(t, t.TempDir(), DefaultConfig(), WithFS(disk), small(16<<20, 1<<20, 0))
	for i := range 5 {
		require.NoError(t, put(s, rec(1, "c", 3000+i, i)))
	}
	disk.set(func(op, name string, n int) (int, error) {
		if op == "read" && isSegment(name) && (n > 5000 || n == headerSize+1+3002) {
			return 0, syscall.EIO
		}
		return 0, nil
	})
	require.Len(t, s.Take(1, "", Backlog, 10, 1<<20, nil), 4)
	st := balanced(t, s)
	require.EqualValues(t, 1, st.Dropped[ReasonQuarantined])
	require.EqualValues(t, 3, s.Damages()[0].Seq)
	require.Equal(t, ReasonQuarantined, s.Fate(3))
}

// One process holds a directory, also after the lock file was removed, and releases it.
func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, DefaultConfig())
	require.NoError(t, err)
	for range 2 {
		_, err = Open(dir, DefaultConfig())
		require.ErrorIs(t, err, ErrLocked)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "lock")))
	}
	require.NoError(t, s.Close())
	open(t, dir, DefaultConfig())
}

// At most one record is lost by one flipped bit in a segment, it is named, and the counts stay correct. A bit in a record's header costs nothing,
// since the checksum identifies it.
func TestFlippedBitCostsAtMostOneRecord(t *testing.T) {
	const n = 40
	for _, indexed := range []bool{true, false} {
		master := t.TempDir()
		s, err := Open(master, DefaultConfig(), small(16<<20, 1<<20, 0))
		require.NoError(t, err)
		for i := range n {
			require.NoError(t, put(s, rec(1, "c", 200+i, i)))
		}
		require.NoError(t, s.Close())
		seg := filepath.Join(master, segmentName(1, 1))
		whole, err := os.ReadFile(seg)
		require.NoError(t, err)
		if !indexed {
			removeAll(t, master, "*.idx")
		}
		step := 97 // a prime, so that every field and every bit of it is met
		if raceEnabled || testing.Short() {
			step = 997
		}
		for bit := 0; bit < len(whole)*8; bit += step {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(master)))
			bad := append([]byte(nil), whole...)
			bad[bit/8] ^= 1 << (bit % 8)
			require.NoError(t, os.WriteFile(filepath.Join(dir, segmentName(1, 1)), bad, 0o600))
			flipped(t, dir, n, bit)
			require.NoError(t, os.RemoveAll(dir))
		}
	}
}

func flipped(t *testing.T, dir string, n, bit int) {
	t.Helper()
	s, err := Open(dir, DefaultConfig(), small(16<<20, 1<<20, 0))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	got := s.Take(1, "", Backlog, 1000, 1<<30, nil)
	st := balanced(t, s)
	require.GreaterOrEqual(t, len(got), n-1, "bit %d", bit)
	require.EqualValues(t, n, st.Appended)
	if len(got) == n {
		return
	}
	require.EqualValues(t, 1, st.Dropped[ReasonQuarantined])
	lost := s.Damages()[0]
	require.Equal(t, ReasonQuarantined, s.Fate(lost.Seq))
	require.Equal(t, "c", lost.Class)
	require.NotContains(t, seqs(got), lost.Seq)
	require.FileExists(t, filepath.Join(dir, lost.Kept))
}

// Areas of garbage cost the records they cover, and the log continues behind them.
func TestGarbageInTheMiddleIsSetAside(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, DefaultConfig(), small(16<<20, 1<<20, 0))
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, put(s, rec(1, "c", 1000, i)))
	}
	require.NoError(t, s.Close())
	removeAll(t, dir, "*.idx")
	f, err := os.OpenFile(filepath.Join(dir, segmentName(1, 1)), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(strings.Repeat("garbage!", 300)), dataStart+3*1057+10)
	require.NoError(t, errors.Join(err, f.Close()))
	for range 2 { // the second time it is known
		s = open(t, dir, DefaultConfig(), small(16<<20, 1<<20, 0))
		st := balanced(t, s)
		require.EqualValues(t, 17, st.Held)
		require.EqualValues(t, 3, st.Dropped[ReasonQuarantined])
		require.Len(t, s.Take(1, "", Backlog, 100, 1<<20, nil), 17)
		require.NoError(t, s.Close())
		removeAll(t, dir, "*.idx")
	}
}

// Either slot alone is sufficient; without both the records are still there, and no sequence is assigned twice.
func TestDamagedState(t *testing.T) {
	for _, slots := range [][]string{{"state-a"}, {"state-b"}, {"state-a", "state-b"}} {
		dir := t.TempDir()
		s, err := Open(dir, DefaultConfig())
		require.NoError(t, err)
		require.NoError(t, put(s, rec(1, "c", 1000, 1), rec(1, "c", 1000, 2), rec(1, "c", 1000, 3)))
		s.Done([]uint64{2})
		epoch := s.Epoch()
		require.NoError(t, s.Close())
		for _, name := range slots {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("rubbish"), 0o600))
		}
		s = open(t, dir, DefaultConfig())
		st := balanced(t, s)
		require.Equal(t, epoch, st.Epoch)
		next := []Record{rec(1, "c", 10, 4)}
		require.NoError(t, put(s, next...))
		if len(slots) == 1 {
			require.EqualValues(t, 2, st.Held)
			require.EqualValues(t, 4, next[0].Seq)
			continue
		}
		require.EqualValues(t, 3, st.Held, "what was done is forgotten")
		require.Greater(t, next[0].Seq, uint64(afterLoss))
		require.Equal(t, FateSkipped, s.Fate(4))
	}
}

func TestUnreadableSegmentIsMovedAside(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, DefaultConfig())
	require.NoError(t, err)
	require.NoError(t, put(s, rec(1, "c", 1000, 1), rec(2, "d", 1000, 2)))
	require.NoError(t, s.Close())
	f, err := os.OpenFile(filepath.Join(dir, segmentName(1, 1)), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte(strings.Repeat("x", 1024)), 0)
	require.NoError(t, errors.Join(err, f.Close()))
	var told []string
	s = open(t, dir, DefaultConfig(), WithProblems(func(err error) { told = append(told, err.Error()) }))
	st := balanced(t, s)
	require.EqualValues(t, 1, st.Held)
	require.EqualValues(t, 1, st.Classes["c"].Dropped[ReasonQuarantined])
	require.NotEmpty(t, told)
	require.FileExists(t, filepath.Join(dir, quarantineDir, segmentName(1, 1)))
}

// A crash between a checkpoint with the next sequence and the commit that was to use it: those sequences were never used, and a query returns that.
func TestSequencesThatACrashBurnsAreSkipped(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, DefaultConfig())
	require.NoError(t, put(s, rec(5, "c", 100, 1)))
	s.mu.Lock()
	last := s.next - 1
	s.next += 3
	s.dirty = true
	s.mu.Unlock()
	require.NoError(t, s.Close())

	s = open(t, dir, DefaultConfig())
	require.Equal(t, FateHeld, s.Fate(last))
	for seq := last + 1; seq <= last+3; seq++ {
		require.Equal(t, FateSkipped, s.Fate(seq), "sequence %d", seq)
	}
	require.Equal(t, last+4, s.Stats().Next)
}

// A disk that rejects the state is a problem until it accepts one, whatever else succeeds meanwhile. The problem is told once.
func TestAProblemLastsUntilItsOwnWorkSucceeds(t *testing.T) {
	fs, told := &faultFS{FS: osFS{}}, atomic.Int32{}
	s := open(t, t.TempDir(), DefaultConfig(), WithFS(fs), WithProblems(func(error) { told.Add(1) }))
	require.NoError(t, put(s, rec(3, "c", 100, 1)))
	fs.set(func(op, name string, _ int) (int, error) {
		if op == "write" && strings.HasPrefix(name, "state-") {
			return 0, syscall.EROFS
		}
		return 0, nil
	})
	s.Drop(seqs(s.Take(3, "c", Live, 1, 1<<20, nil)), "test")
	problem := func() bool { return s.Stats().Problem != "" }
	require.Eventually(t, problem, 30*time.Second, time.Millisecond)
	for range 4 {
		s.nudge()
		time.Sleep(20 * time.Millisecond)
		require.True(t, problem(), "nothing that wrote the state succeeded")
	}
	require.EqualValues(t, 1, told.Load())
	fs.set(func(string, string, int) (int, error) { return 0, nil })
	require.Eventually(t, func() bool { return !problem() }, 30*time.Second, time.Millisecond)
}

// A failing disk does not flood the log: some damages are reported one by one, the others as a number, and all are counted.
func TestManyDamagesAreToldAsANumber(t *testing.T) {
	var told []string
	s := open(t, t.TempDir(), quiet(64), WithProblems(func(err error) { told = append(told, err.Error()) }))
	for i := range 100 {
		s.note(Damage{File: "segment", Offset: int64(i)})
	}
	require.Len(t, told, reportMost)
	s.reportRest(time.Now())
	require.Len(t, told, reportMost)
	s.reportRest(time.Now().Add(reportEvery))
	require.Len(t, told, reportMost+1)
	require.Contains(t, told[reportMost], "84 more damaged places")
	s.reportRest(time.Now().Add(reportEvery))
	require.Len(t, told, reportMost+1)
	require.EqualValues(t, 100, s.Stats().Quarantined)
}

// An Append larger than one write is stored in order, or not at all if any of its writes fails, and later ones are stored.
func TestALargeAppendIsWrittenInPieces(t *testing.T) {
	for fails := range 4 { // the number of the write that fails, or 0
		dir, disk := t.TempDir(), &faultFS{FS: osFS{}}
		s, err := Open(dir, DefaultConfig(), WithFS(disk))
		require.NoError(t, err)
		var large []Record
		for n := range 6 {
			large = append(large, rec(1, "c", groupBytes/2+100, 1+n))
		}
		writes, most := 0, 0
		disk.set(func(op, name string, n int) (int, error) {
			if op != "write" || !isSegment(name) || n < groupBytes/2 {
				return 0, nil
			}
			most = max(most, n)
			if writes++; writes == fails {
				return n / 2, syscall.EIO
			}
			return 0, nil
		})
		err = put(s, large...)
		disk.set(nil)
		require.Equal(t, 3, writes)
		require.Less(t, most, groupBytes+groupBytes/2)
		require.NoError(t, put(s, rec(1, "c", 100, 9)))
		want := []byte("9")
		if fails > 0 {
			require.ErrorIs(t, err, syscall.EIO)
		} else {
			require.NoError(t, err)
			want = []byte("1234569")
		}
		require.EqualValues(t, len(want), balanced(t, s).Held)
		require.NoError(t, s.Close())

		s, err = Open(dir, DefaultConfig())
		require.NoError(t, err)
		var have []byte
		for _, r := range s.Take(1, "c", Backlog, 100, 1<<30, nil) {
			have = append(have, r.Payload[0])
		}
		require.Equal(t, string(want), string(have), "after a failure of write %d", fails)
		require.NoError(t, s.Close())
	}
}

// A folder written by a later version is rejected and stays unchanged, whether the state or one segment has another format. A slot with a flipped bit
// does not count as a later format.
func TestALaterFormatIsRefusedAndKept(t *testing.T) {
	raise := func(b []byte, at, sum int) {
		b[at]++
		binary.LittleEndian.PutUint32(b[sum:], crc32.Checksum(b[:sum], castagnoli))
	}
	slot := func(b []byte) { raise(b, 8, slotHeader+int(binary.LittleEndian.Uint32(b[12:]))) }
	for name, c := range map[string]struct {
		file  string
		later func(b []byte)
		lost  bool // the state
		opens bool
	}{
		"a slot":           {"state-a", slot, false, false},
		"the other slot":   {"state-b", slot, false, false},
		"a segment":        {segmentName(1, 1), func(b []byte) { raise(b, 8, copySize-4); copy(b[copySize:], b[:copySize]) }, false, false},
		"with a lost copy": {segmentName(1, 1), func(b []byte) { raise(b, 8, copySize-4); clear(b[copySize:dataStart]) }, true, false},
		"a flipped bit":    {"state-a", func(b []byte) { b[8]++ }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := Open(dir, DefaultConfig())
			require.NoError(t, err)
			require.NoError(t, put(s, rec(1, "c", 100, 1)))
			require.NoError(t, s.Close())
			if c.lost {
				for _, slot := range slotNames {
					require.NoError(t, os.Remove(filepath.Join(dir, slot)))
				}
			}
			path := filepath.Join(dir, c.file)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			c.later(b)
			require.NoError(t, os.WriteFile(path, b, 0o600))
			s, err = Open(dir, DefaultConfig())
			if c.opens {
				require.NoError(t, err)
				require.NoError(t, s.Close())
				return
			}
			require.ErrorContains(t, err, c.file)
			require.ErrorContains(t, err, "written by a later version of this program: format 2, this version reads 1")
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, b, after)
		})
	}
}

// A segment without a header is quarantined as a whole and reported as that; an absent one is reported as missing.
func TestASegmentSetAsideIsNotMissing(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(path string) error
		want string
		kept bool
	}{
		"header lost": {func(path string) error { return overwrite(path, 0, make([]byte, dataStart)) }, `its bytes are in "quarantine/1-0000000000000001.seg"`, true},
		"gone":        {os.Remove, "segment 1-0000000000000001.seg is missing", false},
	} {
		dir := t.TempDir()
		s, err := Open(dir, DefaultConfig(), small(4<<20, 64<<10, 0))
		require.NoError(t, err)
		require.NoError(t, put(s, rec(1, "c", 100, 1), rec(1, "c", 100, 2)))
		require.NoError(t, s.Close())
		require.NoError(t, c.harm(filepath.Join(dir, segmentName(1, 1))))
		var told []string
		s = open(t, dir, DefaultConfig(), small(4<<20, 64<<10, 0), WithProblems(func(err error) { told = append(told, err.Error()) }))
		require.EqualValues(t, 2, balanced(t, s).Dropped[ReasonQuarantined], name)
		require.Len(t, told, 1, name)
		require.Contains(t, told[0], c.want)
		_, err = os.Stat(filepath.Join(dir, quarantineDir, segmentName(1, 1)))
		require.Equal(t, c.kept, err == nil, name)
		now := s.Stats().DiskBytes
		require.NoError(t, s.Close())
		require.Equal(t, open(t, dir, DefaultConfig(), small(4<<20, 64<<10, 0)).Stats().DiskBytes, now, "%s: what is quarantined counts immediately", name)
	}
}

func overwrite(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Close())
}

// A file that is not a segment of this spool does not affect the numbering: with the highest number in its name the next segments would start at 0
// again and overwrite existing ones.
func TestAStrayFileNumbersNoSegment(t *testing.T) {
	for _, stray := range []string{"9-fffffffffffffffe.seg", "0-ffffffffffffffff.seg"} {
		for _, content := range []string{"", "no segment"} {
			dir := t.TempDir()
			s, err := Open(dir, DefaultConfig(), small(4<<20, 16<<10, 0))
			require.NoError(t, err)
			n := 0
			more := func() {
				for range 60 {
					n++
					require.NoError(t, put(s, rec(n%2, "c", 1000, n)))
				}
			}
			more()
			require.NoError(t, s.Close())
			require.NoError(t, os.WriteFile(filepath.Join(dir, stray), []byte(content), 0o600))
			for range 2 {
				s, err = Open(dir, DefaultConfig(), small(4<<20, 16<<10, 0))
				require.NoError(t, err)
				more()
				require.NoError(t, s.Close())
			}
			s = open(t, dir, DefaultConfig(), small(4<<20, 16<<10, 0))
			require.EqualValues(t, n, balanced(t, s).Held)
			for lane := range 2 {
				got := seqs(s.Take(lane, "c", Backlog, n, 1<<30, nil))
				require.Len(t, got, n/2, "%s %q lane %d", stray, content, lane)
				require.True(t, slices.IsSorted(got), "%s %q lane %d", stray, content, lane)
			}
		}
	}
}

// badSector is a disk on which some bytes of the segments are unreadable.
type badSector struct {
	FS
	from, to int64
}

type badFile struct {
	File
	disk *badSector
}

func (d *badSector) Open(name string, write bool) (File, error) {
	f, err := d.FS.Open(name, write)
	if err != nil || !isSegment(name) {
		return f, err
	}
	return badFile{f, d}, nil
}

func (f badFile) ReadAt(b []byte, at int64) (int, error) {
	if at < f.disk.to && at+int64(len(b)) > f.disk.from {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(b, at)
}

// A start after a crash reads around an unreadable sector: that costs the records in it, which are named and counted, and no others. An unreadable
// part is not a torn end of the log.
func TestAStartReadsAroundABadSector(t *testing.T) {
	cfg := DefaultConfig()
	cfg.AckInterval = "1h"
	dir := t.TempDir()
	s := open(t, dir, cfg, small(4<<20, 256<<10, 0))
	for i := range 30 {
		require.NoError(t, put(s, rec(1, "c", 1000, i)))
	}
	require.NoError(t, put(s, rec(1, "c", 12_000, 31))) // from 32734 to 44791
	for what, c := range map[string]struct {
		from, to   int64
		held, lost int // one is counted for each damaged place: how many there were is unknown
	}{
		"in the middle":                   {8 << 10, 12 << 10, 26, 2}, // the first has its header
		"two, one behind the other":       {8 << 10, 16 << 10, 22, 2},
		"the last payload":                {36 << 10, 40 << 10, 30, 1},
		"the last header, but for a part": {32 << 10, 36 << 10, 30, 1},
		"the last records":                {28 << 10, 48 << 10, 26, 2},
		"behind the last":                 {44 << 10, 48 << 10, 31, 0},
		"far behind":                      {64 << 10, 68 << 10, 31, 0},
	} {
		crashed := crash(t, dir)
		after := open(t, crashed, cfg, WithFS(&badSector{osFS{}, c.from, c.to}), small(4<<20, 256<<10, 0))
		st := balanced(t, after)
		require.Equal(t, [3]int{c.held, c.lost, c.lost}, [3]int{int(st.Held), int(st.Dropped[ReasonQuarantined]), len(after.Damages())}, what)
		got := after.Take(1, "c", Backlog, 100, 1<<20, nil)
		require.Len(t, got, c.held, what)
		require.NoError(t, after.Close())
		removeAll(t, crashed, "*.idx")
		again := balanced(t, open(t, crashed, cfg, WithFS(&badSector{osFS{}, c.from, c.to}), small(4<<20, 256<<10, 0)))
		require.Equal(t, [2]int{c.held, c.lost}, [2]int{int(again.Held), int(again.Dropped[ReasonQuarantined])}, "%s: counted once", what)
	}
}

// A segment under the name of another one is quarantined, and not removed as empty: a user may have renamed it.
func TestARenamedSegmentIsKept(t *testing.T) {
	for _, c := range []struct {
		lost bool
		to   uint64
	}{{false, 77}, {true, 77}, {false, 0}} { // 0 is a number that the state has forgotten
		dir := t.TempDir()
		s, err := Open(dir, DefaultConfig(), small(4<<20, 16<<10, 0))
		require.NoError(t, err)
		for i := range 40 {
			require.NoError(t, put(s, rec(1, "c", 1000, i)))
		}
		require.NoError(t, s.Close())
		to := segmentName(1, c.to)
		content, err := os.ReadFile(filepath.Join(dir, segmentName(1, 1)))
		require.NoError(t, err)
		require.NoError(t, os.Rename(filepath.Join(dir, segmentName(1, 1)), filepath.Join(dir, to)))
		empty := filepath.Join(dir, segmentName(1, 78))
		require.NoError(t, os.WriteFile(empty, make([]byte, 16<<10), 0o600))
		if c.lost {
			removeAll(t, dir, "state-*")
		}
		s = open(t, dir, DefaultConfig(), small(4<<20, 16<<10, 0))
		require.Less(t, balanced(t, s).Held, uint64(40))
		require.Len(t, s.Damages(), 1)
		require.Contains(t, s.Damages()[0].Reason, segmentName(1, 1))
		require.NoFileExists(t, empty, "it never was a segment")
		kept, err := os.ReadFile(filepath.Join(dir, quarantineDir, to))
		require.NoError(t, err)
		require.Equal(t, content, kept)
	}
}

// A segment with an unreadable header is quarantined as a whole, and none of its sequences is assigned again, since they may have been exported. If
// no state can be read either, the disk is unreadable, and the start fails.
func TestAStartSetsASegmentWithoutAReadableHeaderAside(t *testing.T) {
	cfg := DefaultConfig()
	cfg.AckInterval = "1h"
	dir := t.TempDir()
	s, err := Open(dir, cfg, small(4<<20, 256<<10, 0))
	require.NoError(t, err)
	for i := range 30 {
		require.NoError(t, put(s, rec(1, "c", 1000, i)))
	}
	crashed := crash(t, dir)
	require.NoError(t, s.Close())
	for what, c := range map[string]struct {
		dir  string
		lost int
	}{"the state counts its records": {dir, 30}, "the state does not know it": {crashed, 0}} {
		names, err := filepath.Glob(filepath.Join(c.dir, "*.seg"))
		require.NoError(t, err)
		require.Len(t, names, 1)
		s := open(t, c.dir, cfg, WithFS(&badSector{osFS{}, 0, 4 << 10}), small(4<<20, 256<<10, 0))
		st := balanced(t, s)
		require.Equal(t, [3]int{0, c.lost, 1}, [3]int{int(st.Held), int(st.Dropped[ReasonQuarantined]), len(s.Damages())}, what)
		require.FileExists(t, filepath.Join(c.dir, quarantineDir, filepath.Base(names[0])), what)
		require.Greater(t, st.Next, uint64(30), what)
	}
	dir = t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(crashed)))
	require.NoError(t, os.Rename(filepath.Join(dir, quarantineDir, segmentName(1, 1)), filepath.Join(dir, segmentName(1, 1))))
	removeAll(t, dir, "state-*")
	_, err = Open(dir, cfg, WithFS(&badSector{osFS{}, 0, 4 << 10}), small(4<<20, 256<<10, 0))
	require.ErrorIs(t, err, syscall.EIO)
}

// A folder with the name of a leftover file does not belong to the spool: it is reported and stays.
func TestForeignFoldersStay(t *testing.T) {
	dir := t.TempDir()
	foreign := []string{"notes.tmp", "spare-parts"}
	for _, name := range foreign {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name, "content"), 0o700))
	}
	said := make(chan string, 100)
	s := open(t, dir, DefaultConfig(), small(4<<20, 256<<10, 0), WithProblems(func(err error) { said <- err.Error() }))
	require.NoError(t, put(s, rec(1, "c", 1000, 1)))
	first := <-said
	for _, name := range foreign {
		require.Contains(t, first, name)
		require.DirExists(t, filepath.Join(dir, name, "content"))
	}
}

// A segment with a damaged header is quarantined also if no state knows its records, and its sequences are not assigned again. Only a header of zeros
// shows that its first commit was incomplete.
func TestAFreshSegmentWithADamagedHeaderIsSetAside(t *testing.T) {
	for what, c := range map[string]struct {
		header []byte
		lost   bool // the state
		kept   bool
	}{
		"damaged": {bytes.Repeat([]byte{7}, dataStart), false, true}, "one byte is left": {append(make([]byte, dataStart-1), 1), false, true},
		"never written": {make([]byte, dataStart), false, false}, "zeros, and the state is lost": {make([]byte, dataStart), true, true},
	} {
		cfg := DefaultConfig()
		cfg.AckInterval = "1h"
		live := t.TempDir()
		s := open(t, live, cfg, small(4<<20, 64<<10, 0))
		require.NoError(t, put(s, rec(1, "c", 1000, 1)))
		dir := crash(t, live)
		require.NoError(t, overwrite(filepath.Join(dir, segmentName(1, 1)), 0, c.header))
		content, err := os.ReadFile(filepath.Join(dir, segmentName(1, 1)))
		require.NoError(t, err)
		if c.lost {
			require.NoError(t, os.Remove(filepath.Join(dir, "state-a")))
			require.NoError(t, os.Remove(filepath.Join(dir, "state-b")))
		}
		s = open(t, dir, cfg, small(4<<20, 64<<10, 0))
		balanced(t, s)
		if !c.kept {
			require.Empty(t, s.Damages(), what)
			require.NoFileExists(t, filepath.Join(dir, segmentName(1, 1)), what)
			continue
		}
		require.Len(t, s.Damages(), 1, what)
		kept, err := os.ReadFile(filepath.Join(dir, s.Damages()[0].Kept))
		require.NoError(t, err, what)
		require.Equal(t, content, kept, what)
		require.Greater(t, s.Stats().Next, uint64(afterLoss), what)
	}
}

// A segment's number may be used again if the state is lost. Quarantined files stay; the same damage found again creates no second file.
func TestTheQuarantineKeepsWhatHasTheSameName(t *testing.T) {
	dir := t.TempDir()
	s := newSpool(dir, DefaultConfig(), []Option{small(4<<20, 64<<10, 0)})
	kept := map[string]string{}
	for _, content := range []string{"one", "two", "three", "two", "thr"} {
		name := s.keep(Damage{File: segmentName(1, 1), Offset: 1024}, []byte(content))
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		kept[name] = string(b[bytes.IndexByte(b, '\n')+1:])
	}
	require.Equal(t, map[string]string{
		"quarantine/1-0000000000000001.seg-1024.bad": "one", "quarantine/1-0000000000000001.seg-1024-2.bad": "two", "quarantine/1-0000000000000001.seg-1024-3.bad": "three",
		"quarantine/1-0000000000000001.seg-1024-4.bad": "thr",
	}, kept)
	var size int64
	for name := range kept {
		st, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		size += st.Size()
	}
	require.Equal(t, size, s.kept, "counted once")
	st, err := os.Stat(filepath.Join(dir, "quarantine/1-0000000000000001.seg-1024.bad"))
	require.NoError(t, err)
	for _, lacking := range []int64{1, 0} { // bytes, for a file of the same size
		s.limits.quarantine = s.kept + st.Size() - lacking
		require.Equal(t, lacking == 0, s.keep(Damage{File: segmentName(1, 1), Offset: 1024}, []byte("six")) != "", lacking)
	}
	for n := range 3 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, segmentName(1, 1)), bytes.Repeat([]byte{byte(n + 1)}, 2048), 0o600))
		s := open(t, dir, DefaultConfig(), small(4<<20, 64<<10, 0))
		require.Len(t, s.Damages(), 1)
		require.Equal(t, []string{"quarantine/1-0000000000000001.seg", "quarantine/1-0000000000000001-2.seg", "quarantine/1-0000000000000001-3.seg"}[n], s.Damages()[0].Kept)
		require.NoError(t, s.Close())
		require.NoError(t, os.Remove(filepath.Join(dir, "state-a")))
		require.NoError(t, os.Remove(filepath.Join(dir, "state-b")))
	}
	for n, name := range []string{"1-0000000000000001.seg", "1-0000000000000001-2.seg", "1-0000000000000001-3.seg"} {
		b, err := os.ReadFile(filepath.Join(dir, quarantineDir, name))
		require.NoError(t, err)
		require.Equal(t, bytes.Repeat([]byte{byte(n + 1)}, 2048), b)
	}
}
