package spool

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fillUp appends records of a lane until one is refused, and returns their number.
func fillUp(t *testing.T, s *Spool, lane int) int {
	t.Helper()
	for i := 1; ; i++ {
		r := rec(lane, "old", 4000, i)
		r.OnFull = Refuse
		if err := put(s, r); err != nil {
			require.ErrorIs(t, err, ErrFull)
			return i - 1
		}
	}
}

func TestStrategiesForAFullSpool(t *testing.T) {
	for _, c := range []struct {
		name     string
		how      string
		fill     int     // lane that fills the spool
		lane     int     // of the newcomer
		score    float32 // of the newcomer
		stored   bool
		dropped  uint64 // how many of the old ones
		firstOut uint64 // sequence of the first to go
	}{
		{"refuse leaves everything as it is", Refuse, 0, 9, 0, false, 0, 0},
		{"local leaves everything as it is", Local, 0, 9, 0, false, 0, 0},
		{"the oldest of a lower lane goes", DropOldest, 0, 9, 0, true, 1, 1},
		{"the oldest of the same lane goes", DropOldest, 5, 5, 0, true, 1, 1},
		{"nothing of a higher lane goes", DropOldest, 6, 5, 0, false, 0, 0},
		{"the lowest score of a lower lane goes", DropLowestScore, 2, 5, 0, true, 1, 1},
		{"a higher score than the lowest of the same lane", DropLowestScore, 5, 5, 9, true, 1, 1},
		{"a lower score than all of the same lane", DropLowestScore, 5, 5, 0.5, false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.OnFull = c.how
			s := open(t, t.TempDir(), cfg, small(2<<20, 64<<10, 100<<10))
			n := fillUp(t, s, c.fill)
			refused := s.Stats().Refused
			err := put(s, Record{Lane: c.lane, Class: "new", Score: c.score, Payload: make([]byte, 4000)})
			st := balanced(t, s)
			require.Equal(t, !c.stored, st.Refused == refused+1)
			require.Equal(t, c.dropped, st.Dropped[ReasonFull])
			require.EqualValues(t, n, st.Classes["old"].Appended)
			if !c.stored {
				require.ErrorIs(t, err, ErrFull)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "dropped:full", s.Fate(c.firstOut))
			require.EqualValues(t, c.dropped, st.Classes["old"].Dropped[ReasonFull])
			require.EqualValues(t, 1, st.Classes["new"].Held)
		})
	}
}

// However records end, at random places and for long, the bytes on disk stay within the quota, and held records stay readable.
func TestQuotaHoldsOverAnyPatternOfDrops(t *testing.T) {
	cfg := DefaultConfig()
	cfg.OnFull = DropLowestScore
	const quota = 3 << 20
	s := open(t, t.TempDir(), cfg, small(quota, 64<<10, 64<<10))
	highest := int64(0)
	rounds := 6000
	if raceEnabled || testing.Short() {
		rounds = 2500
	}
	for i := range rounds {
		r := rec(i%10, "c", 500+i*37%3000, i)
		r.Score = float32(i * 7919 % 1000)
		if err := put(s, r); err != nil {
			require.ErrorIs(t, err, ErrFull)
		}
		st := s.Stats()
		highest = max(highest, st.DiskBytes)
		require.LessOrEqual(t, st.HeldBytes, st.Limit)
	}
	require.LessOrEqual(t, highest, int64(quota))
	st := balanced(t, s)
	require.Zero(t, st.Failed, "none was admitted that the disk then had no room for")
	for lane := range Lanes {
		for from := Live; from <= Backlog; from++ {
			for _, r := range s.Take(lane, "", from, 1<<20, 1<<30, nil) {
				require.Equal(t, lane, r.Lane)
			}
		}
	}
	require.EqualValues(t, st.Held, s.Stats().Leased)
	require.Empty(t, s.Damages())
}

func TestTooLargeAndOddRecordsAreRefused(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig(), small(2<<20, 64<<10, 100<<10))
	require.ErrorIs(t, put(s, rec(0, "c", 1<<20, 1)), ErrTooLarge)
	require.ErrorContains(t, put(s, rec(10, "c", 1, 1)), "lane 10")
	require.ErrorContains(t, put(s, rec(-1, "c", 1, 1)), "lane -1")
	require.ErrorContains(t, put(s, rec(0, string(make([]byte, 256)), 1, 1)), "255 bytes")
	require.NoError(t, put(s), "nothing is stored at once")
	big := rec(0, "c", 200<<10, 1)
	require.NoError(t, put(s, big), "a record larger than a segment gets one of its own")
	require.Equal(t, big.Payload, s.Take(0, "c", Backlog, 1, 1, nil)[0].Payload)
	balanced(t, s)
}

// No record is dropped for a new one that finds no room anyway: neither a lower one, nor for one of several records of an Append.
func TestNothingGoesForARecordThatFindsNoRoom(t *testing.T) {
	for _, how := range []string{DropOldest, DropLowestScore} {
		cfg := DefaultConfig()
		cfg.OnFull = how
		s := open(t, t.TempDir(), cfg, small(2<<20, 64<<10, 100<<10))
		for i := range 3 {
			require.NoError(t, put(s, rec(0, "low", 1000, i)))
		}
		fillUp(t, s, 9)
		for put(s, Record{Lane: 9, Class: "old", OnFull: Refuse}) == nil { // to the last byte
		}
		for lane := range 6 {
			require.ErrorIs(t, put(s, Record{Lane: lane, Class: "new", Score: 1e9, Payload: make([]byte, 20_000)}), ErrFull)
			require.Empty(t, balanced(t, s).Dropped, "%s, lane %d", how, lane)
		}
		several := []Record{rec(5, "new", 700, 1), rec(5, "new", 900, 2), rec(5, "new", 20_000, 3)}
		require.ErrorIs(t, put(s, several...), ErrFull)
		require.Empty(t, balanced(t, s).Dropped, how)
		require.Equal(t, []uint64{1, 2, 3}, seqs(append(s.Take(0, "", Live, 9, 1<<20, nil), s.Take(0, "", Backlog, 9, 1<<20, nil)...)), "and all can be taken")
		s.Release([]uint64{1, 2, 3})
		require.NoError(t, put(s, several[:2]...), "what suffices goes")
		require.Equal(t, map[string]uint64{ReasonFull: 2}, balanced(t, s).Dropped, how)
	}
}

// A spool that refuses records shows as full, whatever the sizes of its records and however many lanes share it; a spool sized by the guide's formula
// holds what it must hold.
func TestASpoolThatRefusesShowsFull(t *testing.T) {
	for _, sizes := range [][]int{{2000}, {60_000}, {90_000}, {150_000}, {200, 150_000}, {70_000, 3000}} {
		for _, lanes := range []int{1, 10} {
			const quota = 4 << 20
			s := open(t, t.TempDir(), DefaultConfig(), small(quota, 64<<10, 64<<10))
			var err error
			for i := 0; err == nil; i++ {
				err = put(s, rec(i%lanes, "c", sizes[i%len(sizes)], i))
			}
			require.ErrorIs(t, err, ErrFull)
			st := balanced(t, s)
			records, bytes, share := s.Fill()
			require.EqualValues(t, 1, share, "%v bytes over %d lanes: %d of %d", sizes, lanes, st.HeldBytes, st.Limit)
			require.EqualValues(t, 1, st.Fill)
			require.LessOrEqual(t, bytes, st.Limit)
			t.Logf("%v over %d lanes: %d records, %.1f %% of the quota", sizes, lanes, records, 100*float64(bytes)/quota)
			var all []uint64
			for seq := range st.Next {
				all = append(all, seq)
			}
			s.Done(all)
			_, _, share = s.Fill()
			require.Zero(t, share, "and empty again")
		}
	}
}

// The formula of res/OPERATING.md: a quota of 1.42 times the data plus 3 MiB holds the data, for every allowed quota.
func TestTheGuidesFormulaForTheQuotaHolds(t *testing.T) {
	for held := 1.0; held < 1<<23; held *= 1.07 {
		cfg := DefaultConfig()
		cfg.QuotaMiB = max(int(math.Ceil(held*1.42+3)), 16)
		require.NoError(t, cfg.Validate())
		l := cfg.limits()
		require.GreaterOrEqual(t, float64(l.limit())/(1<<20), held, "Spool.QuotaMiB = %d", cfg.QuotaMiB)
	}
}

// A new class above the limit is refused, an existing one is not; a name may be as long as a length of one byte allows.
func TestClassesAreBounded(t *testing.T) {
	s := open(t, t.TempDir(), DefaultConfig(), small(2<<20, 64<<10, 100<<10))
	s.mu.Lock()
	for i := range maxClasses - 1 {
		s.class(fmt.Sprint("c", i))
	}
	s.mu.Unlock()
	long := strings.Repeat("x", maxClass)
	require.NoError(t, put(s, rec(0, long, 10, 1)), "the last one")
	require.NoError(t, put(s, rec(0, long, 10, 2)))
	require.NoError(t, put(s, rec(0, "c0", 10, 3)))
	for _, c := range s.classes {
		c.used = s.encoded // by a record that the state on disk still has
	}
	require.ErrorContains(t, put(s, rec(0, "new", 10, 4)), `class "new": the maximum of 4096 classes have records or drops`)
	require.EqualValues(t, 3, balanced(t, s).Held)
}

// A class without records makes room for a new one, once no state on disk contains it. Its counts stay in the sums. A class with records in any
// state, or with drops, stays, also across a restart.
func TestClassesWithoutRecordsAreForgotten(t *testing.T) {
	dir := t.TempDir()
	opts := small(16<<20, 512<<10, 100<<10)
	cfg := DefaultConfig()
	cfg.AckInterval = "1h"
	s, err := Open(dir, cfg, opts)
	require.NoError(t, err)
	require.NoError(t, put(s, rec(0, "dropped", 10, 1), rec(0, "waiting", 10, 2), held(rec(0, "parked", 10, 3)), rec(0, "leased", 10, 4), rec(1, "here", 10, 5), rec(1, "dropped", 10, 6)))
	s.Drop([]uint64{1}, "why")
	s.Drop([]uint64{5, 6}, ReasonHere)
	require.Len(t, s.Take(0, "leased", Live, 1, 1000, nil), 1)
	pass := func(from, to int) error {
		var many []Record
		for i := from; i < to; i++ {
			many = append(many, rec(1, fmt.Sprint("c", i), 10, i))
		}
		err := put(s, many...)
		s.Done(seqs(many))
		return err
	}
	require.NoError(t, pass(5, maxClasses))
	require.ErrorContains(t, pass(maxClasses, maxClasses+1), "maximum of 4096 classes", "the state on disk still has records of all of them")
	for i := 1; i < 4; i++ {
		require.NoError(t, s.Checkpoint())
		require.NoError(t, pass(i*4000+100, i*4000+4100))
	}
	check := func(s *Spool) {
		st := balanced(t, s)
		require.LessOrEqual(t, len(st.Classes), maxClasses+1)
		require.EqualValues(t, maxClasses+12001, st.Appended)
		require.EqualValues(t, maxClasses+12000-5, st.Done)
		require.EqualValues(t, 3, st.Held)
		require.Equal(t, map[string]uint64{"why": 1, ReasonHere: 2}, st.Dropped)
		require.EqualValues(t, 1, st.Classes["dropped"].Dropped["why"])
		for _, class := range []string{"waiting", "parked", "leased"} {
			require.EqualValues(t, 1, st.Classes[class].Held, class)
		}
	}
	check(s)
	require.NoError(t, s.Close())
	s = open(t, dir, cfg, opts)
	check(s)
	for _, class := range []string{"waiting", "parked", "leased"} {
		require.Equal(t, class, s.Take(0, class, Backlog, 1, 1000, nil)[0].Class)
	}
}

// Offer returns the errors that Append would pass to its callback immediately: then the callback is never called, and no record is held.
func TestOfferReturnsWhatFindsNoRoom(t *testing.T) {
	s, err := Open(t.TempDir(), DefaultConfig(), small(4<<20, 256<<10, 0))
	require.NoError(t, err)
	never := func(error) { t.Error("called although the result was returned") }
	require.ErrorIs(t, s.Offer([]Record{rec(1, "c", int(s.limits.segmentMax()), 1)}, never), ErrTooLarge)
	require.ErrorContains(t, s.Offer([]Record{rec(Lanes, "c", 1, 1)}, never), "from 0 to 9")
	require.ErrorContains(t, s.Offer([]Record{rec(-1, "c", 1, 1)}, never), "from 0 to 9")
	stored := make(chan error)
	size := int(s.limits.limit() / 8)
	held, refused := 0, false
	for n := 0; n < 20 && !refused; n++ {
		r := rec(1, "c", size, n)
		r.OnFull = Refuse
		err := s.Offer([]Record{r}, func(err error) { stored <- err })
		if refused = err != nil; refused {
			require.ErrorIs(t, err, ErrFull)
			break
		}
		require.NoError(t, <-stored)
		held++
	}
	require.True(t, refused)
	require.EqualValues(t, held, s.Stats().Held)
	newer := rec(2, "c", size, 99)
	newer.OnFull = DropOldest
	require.NoError(t, s.Offer([]Record{newer}, func(err error) { stored <- err }))
	require.NoError(t, <-stored)
	require.EqualValues(t, 1, balanced(t, s).Dropped[ReasonFull])
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Offer([]Record{newer}, never), ErrClosed)
}

// The largest payload that the configuration promises is accepted, whatever its class and whether it is encrypted.
func TestTheLargestRecordIsTaken(t *testing.T) {
	cfg := encrypted()
	cfg.QuotaMiB = 16
	s := open(t, t.TempDir(), cfg, WithKeys(new(testKeys).set("a", "a")))
	require.NoError(t, put(s, Record{Class: strings.Repeat("n", maxClass), Payload: make([]byte, cfg.LargestRecord())}))
	require.ErrorContains(t, put(s, Record{Class: strings.Repeat("n", maxClass+1)}), "at most 255 bytes")
	require.ErrorIs(t, put(s, Record{Class: "c", Payload: make([]byte, cfg.LargestRecord()+recordRoom)}), ErrTooLarge)
	s.Flows(true)
	require.True(t, s.ring.flows)
	s.Flows(false)
	require.WithinDuration(t, time.Now(), s.ring.ceased, time.Minute)
	ceased := s.ring.ceased
	s.Flows(false)
	require.Equal(t, ceased, s.ring.ceased, "it had ceased before")
}

// After the disk or the quota had no room, the limit rises by two segments at a time, from the bytes held up to the configured limit.
func TestASqueezedLimitRelaxes(t *testing.T) {
	const quota, segment = 64 << 20, 1 << 20
	s := open(t, t.TempDir(), DefaultConfig(), small(quota, segment, 1<<20))
	whole := s.limit()
	s.relax()
	require.Equal(t, whole, s.limit())
	for _, held := range []int64{0, 20 << 20} {
		s.bytes = held
		s.noSegment()
		require.Equal(t, max(held, 1), s.limit())
		last := s.limit()
		for n := 0; s.squeeze != 0; n++ {
			require.Less(t, n, int(quota/segment))
			s.relax()
			if s.squeeze != 0 {
				require.Equal(t, last+2*segment, s.limit())
			}
			last = s.limit()
		}
		require.Equal(t, whole, last)
	}
	s.bytes = 0
}

// Without a new segment, a squeezed limit rises with every tenth sweep.
func TestASqueezedLimitRelaxesWithTime(t *testing.T) {
	s := newSpool(t.TempDir(), DefaultConfig(), []Option{small(64<<20, 1<<20, 1<<20)}) // without its keeper
	require.NoError(t, s.open())
	sweeps := func() (n int) {
		for before := s.limit(); s.limit() == before; n++ {
			require.NoError(t, s.sweep())
		}
		return n
	}
	s.noSegment()
	sweeps()
	require.Equal(t, 10, sweeps())
	require.NoError(t, s.closeFiles())
}
