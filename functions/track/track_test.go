package track

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

type item struct {
	n      int
	device string
	cloud  bool
	free   bool
}

func (i item) Track() Key   { return Key{i.device, "c"} }
func (i item) Leaves() bool { return i.cloud }
func (i item) Free() bool   { return i.free }

// Whatever the mix of paths, and whatever happens between two calls of Next, the tasks of a track start in order of arrival, none leaves while an
// earlier one is processed locally, and one caller moves them at a time. In the end none is left.
func TestTheOrderOfATrackHolds(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := &walk{T: t, seed: seed, local: map[Key]int{}, last: map[Key]int{}, parked: map[Key][]item{}, moving: map[Key][]item{}}
		for n := range 150 {
			k := Key{string(rune('a' + rng.IntN(2))), "c"}
			switch rng.IntN(5) {
			case 0, 1:
				w.come(item{n + 1, k.Device, rng.IntN(2) == 0, false}, rng.IntN(4) == 0)
			default:
				w.advance(k, rng.IntN(3))
			}
		}
		for _, k := range []Key{{"a", "c"}, {"b", "c"}} {
			for i := 0; w.local[k] > 0 || len(w.parked[k]) > 0 || w.moving[k] != nil; i++ {
				w.advance(k, i%3)
			}
		}
		require.Empty(t, w.all, "seed %d", seed)
	}
}

// walk is a walk over tracks, with the tasks in flight on each.
type walk struct {
	*testing.T
	Tracks[item]
	seed   uint64
	local  map[Key]int    // tasks at work
	last   map[Key]int    // the latest that started
	parked map[Key][]item // whose way is open
	moving map[Key][]item // taken from Next, and not handed on yet; nil where no one moves
}

// come adds a task, to be parked if no earlier one forbids that.
func (w *walk) come(i item, park bool) {
	k := i.Track()
	if _, waits, here := w.Ahead(k); park && !waits && !here {
		w.Park(k, true)
		w.parked[k] = append(w.parked[k], i)
	} else if w.Admit(i) == Goes {
		w.start(i)
	}
}

func (w *walk) start(i item) {
	k := i.Track()
	require.Greater(w, i.n, w.last[k], "seed %d", w.seed)
	if w.last[k] = i.n; !i.cloud {
		w.local[k]++
		return
	}
	require.Zero(w, w.local[k], "seed %d: task %d leaves before an earlier one is done", w.seed, i.n)
}

// advance ends local work, dispatches a parked task, or continues a move.
func (w *walk) advance(k Key, what int) {
	move := false
	switch {
	case what == 0 && w.local[k] > 0:
		w.local[k]--
		move = w.Leave(k)
	case what == 1 && len(w.parked[k]) > 0:
		w.last[k] = max(w.last[k], w.parked[k][0].n)
		w.parked[k] = w.parked[k][1:]
		move = w.Unpark(k)
	case what == 2 && w.moving[k] != nil:
		for _, i := range w.moving[k] {
			w.start(i)
		}
		if w.moving[k] = w.Next(k); len(w.moving[k]) == 0 {
			w.moving[k] = nil
		}
	}
	if move {
		require.Nil(w, w.moving[k], "seed %d: two callers move one track", w.seed)
		w.moving[k] = []item{}
	}
}

// A track waits for the event of its first refused task, and for no other.
func TestATrackIsBlockedUntilItsEventComesAgain(t *testing.T) {
	var tracks Tracks[item]
	one := item{1, "a", true, false}
	tracks.Unblock(func(string) bool { return true })
	tracks.Block(one.Track(), "first")
	tracks.Block(one.Track(), "second")
	require.Equal(t, Blocked, tracks.Admit(one))
	require.Equal(t, Goes, tracks.Admit(item{1, "b", true, false}), "another device")
	tracks.Unblock(func(id string) bool { return id == "second" })
	require.Equal(t, Blocked, tracks.Admit(one))
	tracks.Unblock(func(id string) bool { return id == "first" })
	require.Equal(t, Goes, tracks.Admit(one))
}

// Unplanned local work also holds up tasks that leave, and emptied tasks do not start.
func TestEnterAndEmpty(t *testing.T) {
	var tracks Tracks[item]
	here, first, second := item{1, "a", false, false}, item{2, "a", true, false}, item{3, "a", false, false}
	require.Equal(t, Goes, tracks.Admit(here))
	tracks.Enter([]item{here})
	require.Equal(t, Waits, tracks.Admit(first))
	require.Equal(t, Waits, tracks.Admit(second), "behind one that waits")
	require.False(t, tracks.Leave(here.Track()), "one more is at work")
	require.Equal(t, []item{first, second}, tracks.Empty(here.Track()))
	require.False(t, tracks.Leave(here.Track()), "nothing is held any more")
	require.Empty(t, tracks.all)
}

// A task after a parked one that keeps its order waits until all parked ones are dispatched; without order it goes.
func TestATrackWaitsForParkedTasks(t *testing.T) {
	var tracks Tracks[item]
	one, two := item{1, "a", true, false}, item{2, "a", false, false}
	k := one.Track()
	tracks.Park(k, false)
	parked, waits, _ := tracks.Ahead(k)
	require.True(t, parked)
	require.False(t, waits)
	require.Equal(t, Goes, tracks.Admit(one), "no order is kept")
	require.False(t, tracks.Unpark(k), "nothing waited")
	require.Empty(t, tracks.all)

	tracks.Park(k, true)
	tracks.Park(k, true)
	require.Equal(t, Waits, tracks.Admit(one))
	require.Equal(t, Waits, tracks.Admit(two))
	_, waits, _ = tracks.Ahead(k)
	require.True(t, waits)
	require.Equal(t, Goes, tracks.Admit(item{1, "b", true, false}), "another device")
	require.False(t, tracks.Unpark(k), "one is parked still")
	require.Empty(t, tracks.Next(k))
	require.True(t, tracks.Unpark(k))
	require.Equal(t, Waits, tracks.Admit(item{3, "a", true, false}), "they are being moved")
	require.Equal(t, []item{one}, tracks.Next(k))
	require.Equal(t, []item{two}, tracks.Next(k))
	require.Empty(t, tracks.Next(k), "it leaves after local work")
	require.True(t, tracks.Leave(k))
	require.Len(t, tracks.Next(k), 1)
	require.Empty(t, tracks.Next(k))
	require.Empty(t, tracks.all)
	parked, waits, here := tracks.Ahead(k)
	require.False(t, parked || waits || here)
}

// If parked tasks keep no order, tasks queued behind local work do not wait for them, nor do they if the parked ones stopped keeping one.
func TestParkedTasksWithoutOrderHoldNothingUp(t *testing.T) {
	var tracks Tracks[item]
	here, away := item{1, "a", false, false}, item{2, "a", true, false}
	k := here.Track()
	require.Equal(t, Goes, tracks.Admit(here))
	tracks.Park(k, false)
	require.Equal(t, Waits, tracks.Admit(away))
	require.True(t, tracks.Leave(k))
	require.Equal(t, []item{away}, tracks.Next(k))
	require.Empty(t, tracks.Next(k))
	require.False(t, tracks.Unpark(k))

	tracks.Park(k, true)
	require.Equal(t, Waits, tracks.Admit(away))
	tracks.Park(k, false)
	tracks.Park(k, false)
	require.True(t, tracks.Unpark(k), "two are parked still, and keep no order")
	require.Equal(t, []item{away}, tracks.Next(k))
	require.Empty(t, tracks.Next(k))
	require.False(t, tracks.Unpark(k))
	require.False(t, tracks.Unpark(k))
	require.Empty(t, tracks.all)
}

// A task that could not be parked is held in its place, before later ones.
func TestATaskThatIsNotParkedAfterAllKeepsItsPlace(t *testing.T) {
	var tracks Tracks[item]
	one, two, three := item{1, "a", true, false}, item{2, "a", true, false}, item{3, "a", true, false}
	k := one.Track()
	later := func(than item) func(item) bool { return func(i item) bool { return i.n > than.n } }
	tracks.Park(k, true)
	tracks.Park(k, true)
	require.Equal(t, Waits, tracks.Admit(three))
	require.True(t, tracks.Hold(one, later(one)), "none moves it")
	require.False(t, tracks.Hold(two, later(two)), "the first caller does")
	require.False(t, tracks.Unpark(k))
	require.False(t, tracks.Unpark(k))
	require.Equal(t, []item{one, two, three}, tracks.Next(k))
	require.Empty(t, tracks.Next(k))
	require.Empty(t, tracks.all)
}

// A task after a refused one waits for its retry, so it is not parked either.
func TestNothingIsParkedOnABlockedTrack(t *testing.T) {
	var tracks Tracks[item]
	k := item{1, "a", true, false}.Track()
	tracks.Block(k, "first")
	_, waits, _ := tracks.Ahead(k)
	require.True(t, waits)
	tracks.Unblock(func(string) bool { return true })
	require.Equal(t, Goes, tracks.Admit(item{1, "a", false, false}))
	_, waits, here := tracks.Ahead(k)
	require.False(t, waits)
	require.True(t, here)
}

// A task that may be processed locally before parked ones goes; for the cloud it waits.
func TestAFreeTaskIsProcessedBeforeParkedOnes(t *testing.T) {
	var tracks Tracks[item]
	k := item{device: "a"}.Track()
	tracks.Park(k, true)
	require.Equal(t, Goes, tracks.Admit(item{1, "a", false, true}))
	require.Equal(t, Waits, tracks.Admit(item{2, "a", true, true}))
	require.Equal(t, Waits, tracks.Admit(item{3, "a", false, true}), "one before it waits")
	require.True(t, tracks.Unpark(k))
	require.Empty(t, tracks.Next(k), "local work is in progress")
	require.True(t, tracks.Leave(k))
	require.Len(t, tracks.Next(k), 1)
	require.Len(t, tracks.Next(k), 1)
}

// The caller told to move a track is the only one until Next returns no more, from that moment on.
func TestOneCallerMovesATrack(t *testing.T) {
	later := func(item) bool { return false }
	for _, how := range []string{"leave", "unpark", "hold"} {
		var tracks Tracks[item]
		k := item{device: "a"}.Track()
		switch how {
		case "leave":
			tracks.Admit(item{1, "a", false, false})
			tracks.Admit(item{2, "a", true, false})
			require.True(t, tracks.Leave(k))
		case "unpark":
			tracks.Park(k, true)
			tracks.Admit(item{2, "a", true, false})
			require.True(t, tracks.Unpark(k))
		default:
			require.True(t, tracks.Hold(item{2, "a", true, false}, later))
		}
		require.False(t, tracks.Hold(item{3, "a", true, false}, later), how)
		tracks.Park(k, true)
		require.False(t, tracks.Unpark(k), how)
		require.Len(t, tracks.Next(k), 2)
		require.Empty(t, tracks.Next(k))
		require.True(t, tracks.Hold(item{4, "a", true, false}, later), "it moves no more")
	}
}

// Tasks for the node that arrive while their track moves follow those at work: only one that leaves waits for the end of that.
func TestTasksForTheNodeFollowEachOther(t *testing.T) {
	var tracks Tracks[item]
	a, b, c := item{n: 1, device: "d"}, item{n: 2, device: "d"}, item{n: 3, device: "d", cloud: true}
	k := a.Track()
	tracks.Park(k, true)
	require.Equal(t, Waits, tracks.Admit(a))
	require.True(t, tracks.Unpark(k))
	require.Equal(t, []item{a}, tracks.Next(k))
	require.Equal(t, Waits, tracks.Admit(b))
	require.Equal(t, Waits, tracks.Admit(c))
	require.Equal(t, []item{b}, tracks.Next(k))
	require.Empty(t, tracks.Next(k))
	require.False(t, tracks.Leave(k))
	require.True(t, tracks.Leave(k))
	require.Equal(t, []item{c}, tracks.Next(k))
	require.Empty(t, tracks.Next(k))
	require.Empty(t, tracks.all)
}
