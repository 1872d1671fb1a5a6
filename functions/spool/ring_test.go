package spool

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The ring holds little while no record is taken, and its full size as soon as one is.
func TestARestingRingHoldsLittle(t *testing.T) {
	r := ring{max: 8 << 20, recs: map[uint64]ringRecord{}}
	now := time.Now()
	seq := uint64(0)
	add := func(n int) {
		for range n {
			seq++
			r.add(nil, &Record{Seq: seq, Payload: make([]byte, 1<<10)}, now)
		}
		for ok := true; ok; {
			_, _, ok = r.oldest(r.bound(now))
		}
		r.trim(r.max)
	}
	add(4000)
	require.Greater(t, r.bytes, int64(4<<20), "it is new: somebody may come any moment")
	now = now.Add(pauseAfter + 1)
	add(1)
	require.LessOrEqual(t, r.bytes, r.max/pausePart)
	require.Greater(t, r.bytes, r.max/restPart)
	now = now.Add(restAfter)
	add(1)
	require.LessOrEqual(t, r.bytes, r.max/restPart)
	require.Contains(t, r.recs, seq, "what goes is the oldest")
	r.taken = now
	add(4000)
	require.Greater(t, r.bytes, int64(4<<20))
	for s := range r.recs {
		r.drop(s)
	}
	now = now.Add(time.Hour)
	add(4000)
	require.Greater(t, r.bytes, int64(4<<20), "it was empty: there was nothing to be taken")
}

// The ring does not rest while the link works, even if no record is taken; after the link stops, a pause passes before it rests.
func TestARingRestsOnlyWithoutALink(t *testing.T) {
	r := ring{max: 8 << 20, recs: map[uint64]ringRecord{}}
	now := time.Now()
	r.flows = true
	r.add(nil, &Record{Seq: 1}, now)
	now = now.Add(time.Hour)
	require.Equal(t, r.max, r.bound(now))
	r.flows, r.ceased = false, now
	require.Equal(t, r.max, r.bound(now))
	require.Equal(t, r.max/pausePart, r.bound(now.Add(pauseAfter+1)))
	require.Equal(t, r.max/restPart, r.bound(now.Add(restAfter+1)))
}

// Held records wait for their owner, not for the link: a ring with only held records does not rest, however long none is taken.
func TestWhatIsHeldDoesNotMakeARingRest(t *testing.T) {
	r := ring{max: 8 << 20, recs: map[uint64]ringRecord{}}
	now := time.Now()
	for seq := range uint64(10) {
		r.add(nil, &Record{Seq: seq, Payload: make([]byte, 1<<10), Hold: true}, now)
	}
	now = now.Add(time.Hour)
	require.Equal(t, r.max, r.bound(now))
	r.drop(0)
	r.release(1, now)
	r.release(1, now)
	require.Equal(t, 8, r.held)
	now = now.Add(time.Hour)
	require.Equal(t, r.max/restPart, r.bound(now))
	r.drop(1)
}

// A resting ring frees the memory it took when full, and loses no record by that.
func TestARestingRingShrinks(t *testing.T) {
	r := ring{max: 8 << 20, recs: map[uint64]ringRecord{}}
	now := time.Now()
	for seq := range uint64(4000) {
		r.add(nil, &Record{Seq: seq, Payload: make([]byte, 1<<10)}, now)
	}
	r.trim(r.max / restPart)
	require.Equal(t, 4000, r.grown, "all of it is in use")
	for ok := true; ok; {
		_, _, ok = r.oldest(r.max / restPart)
	}
	kept := len(r.recs)
	r.trim(r.max)
	require.Equal(t, 4000, r.grown, "it does not rest")
	r.trim(r.max / restPart)
	require.Equal(t, kept, r.grown)
	require.Len(t, r.recs, kept)
	require.Contains(t, r.recs, uint64(3999))
}

// Records appended together may share an allocation. A record that stays, because its class cannot leave, does not keep the others' bytes in memory.
func TestWhatStaysInTheRingKeepsNoNeighboursInMemory(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Sync = SyncNone
	s := open(t, t.TempDir(), cfg, small(64<<20, 1<<20, 16<<20))
	const commits, each, size = 1000, 64, 256
	runtime.GC()
	before := inUse()
	for range commits {
		shared, recs := make([]byte, each*size), make([]Record, each)
		for i := range recs {
			recs[i] = Record{Lane: 1, Class: "leaves", Payload: shared[i*size : (i+1)*size : (i+1)*size]}
		}
		recs[0].Class = "stays"
		require.NoError(t, put(s, recs...))
		s.Done(seqs(s.Take(1, "leaves", Live, each, 1<<20, nil)))
	}
	require.EqualValues(t, commits, s.Stats().Live)
	runtime.GC()
	require.Less(t, inUse()-before, int64(commits*each*size/3), "of %d bytes in the ring", s.Stats().LiveBytes)
}
