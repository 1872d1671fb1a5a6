package local

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// crowded returns a processor with room for fewer resources than there are, and its notices.
func crowded(t *testing.T, room int, bus Publisher) (*Processor, func() []string) {
	cfg := DefaultConfig()
	cfg.Workers, cfg.MaxKeys = 2, room
	p := start(t, cfg, class("summary window=10s late=0s"), bus)
	var mu sync.Mutex
	var said []string
	p.OnNotice(func(text string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, text)
	})
	return p, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return said
	}
}

// With more resources than places, resources with a window keep it until it is full, tasks of the others leave, and one log line names the number to set.
func TestWhoHasAWindowKeepsIt(t *testing.T) {
	const devices, room, rounds = 120, 100, 4
	bus := &recorder{}
	p, said := crowded(t, room, bus)
	for round := range rounds {
		for d := range devices {
			one := scalar(fmt.Sprintf("device-%d", d), "x", time.Duration(round)*time.Second, 1)
			if reads := p.ReadsAll(one); reads != (d < room) {
				t.Fatalf("device %d in round %d: ReadsAll is %v", d, round, reads)
			} else if reads {
				require.Equal(t, []error{nil}, feed(p, one))
			}
		}
	}
	counts := p.Counts()
	require.EqualValues(t, room, counts.Keys)
	require.EqualValues(t, rounds*(devices-room), counts.Full)
	require.NoError(t, p.Close(t.Context()))
	require.Len(t, bus.all(), room)
	for _, r := range bus.all() {
		require.Equal(t, fmt.Sprint(rounds), value(r, "x_count"))
	}
	require.Len(t, said(), 1)
	require.Contains(t, said()[0], "set Local.MaxKeys to at least 1000 max=100")
}

// Tasks in the queue when the room becomes full go to the cloud instead of counting as processed.
func TestANewcomerOnItsWayComesBack(t *testing.T) {
	p, _ := crowded(t, 1, &recorder{})
	errs := feed(p, scalar("a", "x", 0, 1), scalar("a", "y", 0, 1), scalar("a", "x", time.Second, 1))
	require.NoError(t, errs[0])
	require.NoError(t, errs[2])
	var unread *UnreadError
	require.True(t, errors.As(errs[1], &unread))
	require.Equal(t, `reading y of a: Local.MaxKeys is reached`, unread.Error())
	require.EqualValues(t, 1, p.Counts().Failed)
	require.NoError(t, p.Close(t.Context()))
}

func TestASilentResourceMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := crowded(t, 1, &recorder{})
		feed(p, scalar("a", "x", 0, 1))
		newcomer := scalar("b", "x", 0, 1)
		require.False(t, p.ReadsAll(newcomer))
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		require.True(t, p.ReadsAll(newcomer))
		require.Equal(t, []error{nil}, feed(p, newcomer))
		require.NoError(t, p.Close(t.Context()))
	})
}

// Places taken when a task was decided, and never used since the task went to the cloud, are released.
func TestPlacesThatNobodyUsesAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := crowded(t, 2, &recorder{})
		require.True(t, p.ReadsAll(scalar("used", "x", 0, 1)))
		feed(p, scalar("used", "x", 0, 1))
		require.True(t, p.ReadsAll(scalar("sent", "x", 0, 1)))
		newcomer := scalar("new", "x", 0, 1)
		for range 10 {
			require.False(t, p.ReadsAll(newcomer))
			time.Sleep(time.Minute)
		}
		require.True(t, p.ReadsAll(newcomer))
		require.False(t, p.sweep(p.now()), "a sweep visits every resource, so it has its interval")
		require.True(t, p.ReadsAll(scalar("used", "x", 0, 1)), "what has state keeps it")
		require.EqualValues(t, 2, p.places.Load())
		require.NoError(t, p.Close(t.Context()))
		require.EqualValues(t, 1, p.places.Load(), "of the one without state")
	})
}

// A class that drops unread values does not drop for lack of room.
func TestDropUnreadIsNoWordOnRoom(t *testing.T) {
	p, _ := crowded(t, 1, &recorder{})
	feed(p, scalar("a", "x", 0, 1))
	classes := oneClass{&task.Class{Name: "default", Operators: "summary", DropUnread: true}}
	cfg := DefaultConfig()
	cfg.MaxKeys = 1
	require.NoError(t, p.Reload(cfg, classes))
	newcomer := scalar("b", "x", 0, 1)
	newcomer.Class = classes.Class
	require.False(t, p.ReadsAll(newcomer))
	require.NoError(t, p.Close(t.Context()))
}

func TestTheNumberToSetCoversAll(t *testing.T) {
	for _, all := range []int{101, 150, 12_000, 40_000, 300_000} {
		var c crowd
		const room = 100
		answers := 0
		for range 3 {
			for i := range all - room {
				if need := c.reject(uint64(i), room); need > 0 {
					answers++
					require.GreaterOrEqual(t, need, min(all, maxCrowd), "of %d", all)
					require.LessOrEqual(t, need, 2*all+1000)
				}
			}
		}
		require.Equal(t, 1, answers)
		require.Nil(t, c.seen, "its memory is released")
	}
}

func TestTheDefaultRoomGrowsWithMemory(t *testing.T) {
	for memory, want := range map[int64]int{0: 10_000, 256 << 20: 10_000, 1 << 30: 32_768, 8 << 30: 262_144, 1 << 40: 1_000_000} {
		require.Equal(t, want, DefaultConfig().Sized(memory).MaxKeys)
	}
	cfg := DefaultConfig()
	cfg.MaxKeys = 7
	require.Equal(t, 7, cfg.Sized(1<<40).MaxKeys)
}

// A resource with state keeps its place during any silence within KeyTTL; a resource that only reserved a place loses it.
func TestStateKeepsItsPlace(t *testing.T) {
	for _, processed := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.MaxKeys = 1
			one := class("deadband")
			p := start(t, cfg, one, &recorder{})
			x, y := scalar("d", "x", 1, 1), scalar("d", "y", 1, 1)
			x.Class, y.Class = one.Class, one.Class
			require.True(t, p.ReadsAll(x))
			if processed {
				feed(p, x)
			}
			require.False(t, p.ReadsAll(y))
			time.Sleep(11 * time.Minute)
			require.Equal(t, !processed, p.ReadsAll(y))
			require.NoError(t, p.Close(t.Context()))
		})
	}
}

// Names do not run into each other.
func TestKeysAreToldApart(t *testing.T) {
	seen := map[uint64]key{}
	for _, k := range []key{{"a", "b", "c"}, {"ab", "", "c"}, {"", "ab", "c"}, {"a", "", "bc"}, {"a", "bc", ""}, {"", "", "abc"}, {"abc", "", ""}, {}} {
		require.NotContains(t, seen, k.hash(), "%v", k)
		seen[k.hash()] = k
	}
}
