package spool

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
)

// absence ends n records as during a long absence of the consumer: records of three classes alternate, and each ends in its own way, long after its
// neighbours, so that few ranges merge. It returns the fate of each sequence. After each round it calls then.
func absence(t testing.TB, s *Spool, n int, rng *rand.Rand, then ...func(map[uint64]string)) map[uint64]string {
	t.Helper()
	words := map[string]string{"a": ReasonExpired, "b": ReasonFull, "c": "tooOld"}
	fates := map[uint64]string{}
	var waiting []Record
	for len(fates) < n {
		recs := make([]Record, 64)
		for i := range recs {
			recs[i] = rec(0, string(rune('a'+rng.IntN(3))), 20, i)
		}
		require.NoError(t, put(s, recs...))
		waiting = append(waiting, recs...)
		for _, class := range []string{"a", "b", "c"} {
			var seqs []uint64
			kept := waiting[:0]
			for _, r := range waiting {
				if r.Class == class && rng.IntN(3) > 0 {
					seqs = append(seqs, r.Seq)
					fates[r.Seq] = fateOf(words[class])
				} else {
					kept = append(kept, r)
				}
			}
			waiting = kept
			s.Drop(seqs, words[class])
		}
		require.NoError(t, s.remember())
		for _, f := range then {
			f(fates)
		}
	}
	return fates
}

func explained(t testing.TB, s *Spool, fates map[uint64]string) {
	t.Helper()
	for seq, why := range fates {
		require.Equal(t, why, s.Fate(seq), "record %d", seq)
	}
	for seq := uint64(1); seq < s.next; { // and runs of sequences say the same
		why, last := s.FateRun(seq)
		require.GreaterOrEqual(t, last, seq)
		for last = min(last, s.next-1); seq <= last; seq++ {
			require.Equal(t, s.Fate(seq), why, "record %d", seq)
		}
	}
}

// quiet configures a keeper that leaves the work to the test.
func quiet(history int) Config {
	cfg := DefaultConfig()
	cfg.History, cfg.AckInterval = history, "1h"
	return cfg
}

// However many ranges there are, each gap has its reason, and memory holds few of them.
func TestTheHistoryExplainsALongAbsence(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, quiet(128), small(16<<20, 64<<10, 0))
	require.NoError(t, err)
	fates := absence(t, s, 6_000, rand.New(rand.NewPCG(1, 1)))
	require.LessOrEqual(t, len(s.fates.ranges), 128)
	require.Greater(t, s.history.gen, uint64(10))
	explained(t, s, fates)
	require.Equal(t, FateUnknown, s.Fate(s.next), "not given yet")
	disk := s.Stats().DiskBytes
	require.NoError(t, s.Close())
	info, err := os.Stat(dir + "/" + historyName)
	require.NoError(t, err)
	require.EqualValues(t, s.limits.history(), info.Size())
	require.Greater(t, disk, info.Size(), "it counts")

	s = open(t, dir, quiet(128), small(16<<20, 64<<10, 0))
	explained(t, s, fates)
	more := absence(t, s, 6_000, rand.New(rand.NewPCG(2, 2)))
	explained(t, s, more)
	explained(t, s, fates)
}

// Only ranges too old for the file are forgotten.
func TestTheHistoryIsBounded(t *testing.T) {
	s := open(t, t.TempDir(), quiet(64), small(1<<20, 32<<10, 0))
	fates := absence(t, s, 3000, rand.New(rand.NewPCG(3, 3)))
	require.Len(t, s.history.slots, 8)
	unknown, lowest := uint64(0), s.next
	for seq, why := range fates {
		switch have := s.Fate(seq); have {
		case FateUnknown:
			unknown = max(unknown, seq)
		default:
			require.Equal(t, why, have)
			lowest = min(lowest, seq)
		}
	}
	require.Greater(t, unknown, uint64(1000))
	require.Less(t, s.next-lowest, uint64(1000))
}

// A later fate overrides an earlier one, wherever the earlier one is stored.
func TestALaterWordCounts(t *testing.T) {
	s := open(t, t.TempDir(), quiet(16), small(16<<20, 64<<10, 0))
	for round := range 3 {
		for seq := uint64(1); seq < 200; seq += 2 {
			s.mu.Lock()
			s.fates.add(seq, seq, fmt.Sprint("round ", round))
			s.next = 1000
			s.mu.Unlock()
			require.NoError(t, s.remember())
		}
	}
	for seq := uint64(1); seq < 200; seq += 2 {
		require.Equal(t, "round 2", s.Fate(seq))
		require.Equal(t, FateUnknown, s.Fate(seq+1))
	}
}

// Damaged blocks explain nothing, and affect nothing else.
func TestADamagedHistoryHarmsOnlyItself(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, quiet(64), small(16<<20, 64<<10, 0))
	require.NoError(t, err)
	fates := absence(t, s, 5000, rand.New(rand.NewPCG(4, 4)))
	require.NoError(t, s.Close())
	b, err := os.ReadFile(dir + "/" + historyName)
	require.NoError(t, err)
	b[historySlot+20] ^= 1                   // the header of one block
	b[2*historySlot+historyHeader+10] ^= 1   // the body of another
	copy(b[3*historySlot:], make([]byte, 8)) // one that was never written
	require.NoError(t, os.WriteFile(dir+"/"+historyName, b, 0o600))

	s = open(t, dir, quiet(64), small(16<<20, 64<<10, 0))
	unknown := 0
	for seq, why := range fates {
		if have := s.Fate(seq); have == FateUnknown {
			unknown++
		} else {
			require.Equal(t, why, have)
		}
	}
	require.Greater(t, unknown, 0)
	require.Less(t, unknown, len(fates)/4)
	balanced(t, s)
}

// The spool works on a full or failing disk; memory then holds what it can.
func TestTheHistoryNeedsNoDisk(t *testing.T) {
	for name, fault := range map[string]error{"full": syscall.ENOSPC, "broken": errors.New("input/output error")} {
		t.Run(name, func(t *testing.T) {
			fs := &faultFS{FS: osFS{}}
			s := open(t, t.TempDir(), quiet(64), small(16<<20, 64<<10, 0), WithFS(fs))
			fs.set(func(op, file string, _ int) (int, error) {
				if file == historyName && op != "open" {
					return 0, fault
				}
				return 0, nil
			})
			for seq := uint64(1); seq < 2000; seq += 2 {
				s.mu.Lock()
				s.fates.add(seq, seq, FateDone)
				s.next = seq + 1
				s.mu.Unlock()
				if seq%50 == 1 {
					err := s.remember()
					require.Equal(t, name == "broken" && len(s.fates.ranges) > 64, err != nil, "%v", err)
				}
			}
			require.Equal(t, FateDone, s.Fate(1999))
			require.Equal(t, FateUnknown, s.Fate(1))
			_ = s.remember() // which fails, or not, as above
			require.Equal(t, 2*64, len(s.fates.ranges))
			require.NoError(t, put(s, rec(0, "c", 10, 1)))
			fs.set(nil)
			require.NoError(t, s.remember())
			require.LessOrEqual(t, len(s.fates.ranges), 64)
			require.Equal(t, FateDone, s.Fate(1999-200))
		})
	}
}

// A power cut at any moment loses no fate from before a checkpoint, whichever unsynced bytes are lost. Without either sync it would.
func TestTheHistorySurvivesPowerCuts(t *testing.T) {
	cut := func(without syncPoint, seed uint64) (lost int) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var left atomic.Int64
		var disk atomic.Pointer[crashFS]
		var settled, known atomic.Pointer[map[uint64]string] // at the latest checkpoint, and when the power was cut
		left.Store(20 + rng.Int64N(400))
		mem := vfs.NewCrashableMem()
		s, err := Open("/spool", quiet(64), WithFS(crashFS{mem, func() {
			if left.Add(-1) == 0 {
				known.Store(settled.Load())
				clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 6))})
				disk.Store(&crashFS{clone, func() {}})
			}
		}}), small(16<<20, 64<<10, 0), func(o *options) { o.without = without })
		require.NoError(t, err)
		for disk.Load() == nil {
			absence(t, s, 500, rng, func(fates map[uint64]string) {
				require.NoError(t, s.Checkpoint())
				now := maps.Clone(fates)
				if before := settled.Load(); before != nil {
					maps.Copy(now, *before)
				}
				settled.Store(&now)
			})
		}
		require.NoError(t, s.Close())
		s, err = Open("/spool", quiet(64), WithFS(disk.Load()), small(16<<20, 64<<10, 0))
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		if known.Load() == nil {
			return 0
		}
		for seq, why := range *known.Load() {
			if s.Fate(seq) != why {
				lost++
			}
		}
		return lost
	}
	seeds := uint64(24)
	if raceEnabled {
		seeds = 8
	}
	for seed := range seeds {
		require.Zero(t, cut("", seed), "seed %d", seed)
	}
	for _, without := range []syncPoint{syncHistory, syncHistoryName} {
		seed := uint64(0)
		for cut(without, seed) == 0 {
			seed++
			require.Less(t, seed, uint64(500), "power cuts without the sync of %s broke nothing", without)
		}
		t.Logf("without the sync of %s power cut %d broke something", without, seed)
	}
}

// A new spool in the same folder knows nothing of the previous one's sequences.
func TestTheHistoryOfAnotherEpochCountsForNothing(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, quiet(64), small(16<<20, 64<<10, 0))
	require.NoError(t, err)
	absence(t, s, 3000, rand.New(rand.NewPCG(7, 7)))
	require.NoError(t, s.Close())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.Name() != historyName {
			require.NoError(t, os.RemoveAll(dir+"/"+e.Name()))
		}
	}
	s = open(t, dir, quiet(64), small(16<<20, 64<<10, 0))
	s.mu.Lock()
	s.next = 1000
	s.mu.Unlock()
	for seq := range uint64(1000) {
		require.Equal(t, FateUnknown, s.Fate(seq))
	}
}

// The worst pattern still fits: a block takes as many ranges as its slot has room for, and at least one.
func TestABlockTakesWhatFits(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	var ranges []fateRange
	for at := uint64(0); len(ranges) < 3000; {
		lo := at + 1 + rng.Uint64N(1<<20)
		at = lo + rng.Uint64N(1<<20)
		ranges = append(ranges, fateRange{lo, at, fmt.Sprint("reason ", rng.IntN(60))})
	}
	body, n := packBlock(ranges)
	require.Greater(t, n, 100)
	got, err := openBlock(sealBlock(block{1, ranges[0].lo, ranges[n-1].hi}, "0123456789abcdef", body))
	require.NoError(t, err)
	require.Equal(t, ranges[:n], got)

	alternate := make([]fateRange, 3000)
	for i := range alternate {
		alternate[i] = fateRange{uint64(2*i + 1), uint64(2*i + 1), []string{ReasonExpired, "dropped:full"}[rng.IntN(2)]}
	}
	_, n = packBlock(alternate)
	require.Equal(t, 3000, n, "what a long absence leaves is packed small")

	var word strings.Builder
	for word.Len() < 3*historySlot {
		fmt.Fprint(&word, rng.Uint64())
	}
	body, _ = packBlock([]fateRange{{1, 1, word.String()}})
	require.Nil(t, body)
}

// A lookup reads only the blocks with sequences of its window, however high the sequences are.
func TestALookTakesTheBlocksOfItsWindow(t *testing.T) {
	s := open(t, t.TempDir(), quiet(16), small(16<<20, 64<<10, 0))
	const first, step = 5000 * historyWindow, 100
	s.mu.Lock()
	s.next = first + 10*historyWindow
	s.mu.Unlock()
	for seq := uint64(first); seq < first+4*historyWindow; seq += step {
		s.mu.Lock()
		s.fates.add(seq, seq, "expired")
		s.mu.Unlock()
		require.NoError(t, s.remember())
	}
	require.Greater(t, s.history.gen, uint64(8), "several blocks for each window")
	last := s.fates.ranges[0].lo // lower ones are in blocks
	for seq := uint64(first); seq < last; seq += step {
		require.Equal(t, "expired", s.Fate(seq), "record %d", seq)
		require.Equal(t, FateUnknown, s.Fate(seq+1), "record %d", seq+1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.history
	for w := uint64(first) / historyWindow; w < last/historyWindow; w++ {
		h.window = 0
		h.of(w * historyWindow)
		require.NotEmpty(t, h.near)
		require.Less(t, len(h.near), int(h.gen), "not all")
		for _, gen := range h.near {
			x := h.slots[gen%uint64(len(h.slots))]
			require.True(t, x.lo < (w+1)*historyWindow && x.hi >= w*historyWindow, "window %d and block %d to %d", w, x.lo, x.hi)
		}
	}
}
