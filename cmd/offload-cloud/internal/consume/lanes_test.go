package consume

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

// While the transaction of one node is slow, other lanes store their messages; the messages of a node keep their order.
func TestLanesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{Lanes: 4})
		b.shelf.failing(func(g *store.Group) error {
			if touches(g, "gateway-7") {
				time.Sleep(time.Minute)
			}
			return nil
		})
		for round := range uint64(5) {
			for i := 6; i < 10; i++ {
				node := fmt.Sprint("gateway-", i)
				b.pipe.send(fmt.Sprintf("%d-%d", i, round), seal.BatchTopic(node, "default"), edgeOf(t, node).Batch(t, 1, round+1))
			}
		}
		time.Sleep(time.Second)
		require.Len(t, b.pipe.acks(), 15)
		time.Sleep(10 * time.Minute)
		require.Equal(t, []string{"7-0", "7-1", "7-2", "7-3", "7-4"}, b.pipe.acks())
		require.NoError(t, b.stop())
	})
}

// A node whose transaction hangs uses its share of the queue, and delays other nodes no longer than the patience.
func TestALaneThatHangsLeavesRoomForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{Lanes: 4, QueueMessages: 8, CommitTimeout: 10 * time.Minute})
		b.shelf.failing(func(g *store.Group) error {
			if touches(g, "gateway-7") {
				time.Sleep(5 * time.Minute)
			}
			return nil
		})
		send := func(node string, n uint64) {
			b.pipe.send(fmt.Sprint(node, "-", n), seal.BatchTopic(node, "default"), edgeOf(t, node).Batch(t, 1, n))
			synctest.Wait()
		}
		began := time.Now()
		for n := range uint64(20) {
			send("gateway-7", n+1)
			send("gateway-8", n+1)
		}
		require.Less(t, time.Since(began), 6*time.Second)
		require.Len(t, b.pipe.acks(), 20, "all of the other node")
		require.EqualValues(t, 14, b.Counts.Refused.Load())
		require.Zero(t, b.pipe.asked(), "it would be refused again")
		time.Sleep(20 * time.Minute)
		require.Len(t, b.pipe.acks(), 6)
		require.Equal(t, 1, b.pipe.asked())
		require.NoError(t, b.stop())
	})
}

// While one lane hangs and fills its share, refused messages of other nodes are requested once there is room for them.
func TestALaneThatHangsDelaysNoRedelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{Lanes: 4, QueueMessages: 16, GroupRecords: 1, CommitTimeout: 10 * time.Minute})
		b.shelf.failing(func(g *store.Group) error {
			switch {
			case touches(g, "gateway-7"):
				time.Sleep(5 * time.Minute)
			case touches(g, "gateway-9"):
				time.Sleep(10 * time.Second)
			}
			return nil
		})
		send := func(node string, n uint64) {
			b.pipe.send(fmt.Sprint(node, "-", n), seal.BatchTopic(node, "default"), edgeOf(t, node).Batch(t, 1, n))
			synctest.Wait()
		}
		for n := range uint64(12) {
			send("gateway-7", n+1)
		}
		for n := range uint64(4) {
			send("gateway-9", n+1)
		}
		send("gateway-8", 1)
		require.EqualValues(t, 1, b.Counts.Refused.Load())
		time.Sleep(time.Minute)
		require.Equal(t, 1, b.pipe.asked())
		require.NoError(t, b.stop())
	})
}

// A lane that hung flags the messages left with the broker before its last group is confirmed: later events might not request them.
func TestALaneSaysWhatItOwesBeforeItsGroupIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := &shelf{}
		c := &Consumer{Log: slog.New(slog.DiscardHandler), Store: db, Opener: seal.NewOpener(nil, seal.Limits{}), Limits: Limits{QueueMessages: 1}}
		c.prepare()
		db.failing(func(*store.Group) error { time.Sleep(time.Minute); return nil })
		m := &Message{Topic: topic, Payload: edgeOf(t, "n1").Batch(t, 1, 1)}
		require.True(t, c.deliver(m))
		out := make(chan *stored)
		go c.storeItems(t.Context(), []*item{open(c.Opener, <-c.lanes[0].queue)}, false, newWaiting(c, 0), out)
		time.Sleep(30 * time.Second)
		require.False(t, c.deliver(m))
		require.False(t, c.refused.Load(), "it would be refused again")
		time.Sleep(time.Minute)
		<-out
		require.True(t, c.refused.Load())
	})
}

// The blocked messages of all lanes together use half of the queue, and all lanes report why they are blocked.
func TestLanesShareTheRoomForBlockedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{Lanes: 4, QueueMessages: 8})
		b.shelf.failing(func(g *store.Group) error {
			if touches(g, "n6") || touches(g, "n7") {
				return errLocked
			}
			return nil
		})
		for i := range uint64(20) {
			for _, node := range []string{"n6", "n7", "n8"} {
				b.pipe.send(fmt.Sprint(node, i), seal.BatchTopic(node, "default"), edgeOf(t, node).Batch(t, 1, i+1))
				synctest.Wait()
			}
		}
		require.Len(t, b.pipe.acks(), 20)
		require.Equal(t, int64(4), b.Counts.Waiting.Load())
		require.Contains(t, b.HeldUp(), "node n6")
		require.Contains(t, b.HeldUp(), "node n7")
		b.shelf.failing(nil)
		time.Sleep(time.Minute)
		require.Len(t, b.pipe.acks(), 4)
		require.Zero(t, b.Counts.Waiting.Load())
		require.Empty(t, b.HeldUp())
		require.NoError(t, b.stop())
	})
}

// Names that end in consecutive numbers use all lanes, and a message without a node also has a lane.
func TestLaneOf(t *testing.T) {
	used := map[int]bool{}
	for i := 96; i < 100; i++ {
		used[laneOf(seal.BatchTopic(fmt.Sprint("gateway-", i), "default"), 4)] = true
	}
	require.Len(t, used, 4)
	require.Equal(t, laneOf("offload/v1/n/batch/a", 16), laneOf("offload/v1/n/gone", 16))
	require.Less(t, laneOf("elsewhere", 3), 3)
}

// Blocked messages use at most half of the queue's bytes: those of one lane before they are noted, and those of all lanes afterwards.
func TestLanesShareTheBytesForBlockedMessages(t *testing.T) {
	c := &Consumer{Log: slog.New(slog.DiscardHandler), Limits: Limits{QueueMiB: 1, Lanes: 2}}
	c.prepare()
	push := func(w *waiting, size int) {
		m := &Message{Payload: make([]byte, size)}
		require.True(t, c.room(&c.lanes[c.laneOf(m)], m))
		w.push(&item{message: m, batch: &store.Batch{Node: "n1"}})
	}
	first, second := newWaiting(c, 0), newWaiting(c, 1)
	push(first, 200<<10)
	push(first, 200<<10)
	require.Len(t, first.items, 2)
	push(first, 200<<10)
	require.Len(t, first.items, 2)
	require.True(t, c.owed.Load())
	first.note()
	push(second, 200<<10)
	require.Empty(t, second.items)
	push(second, 100<<10)
	require.Len(t, second.items, 1)
	second.note()
	first.take()
	first.note()
	push(second, 200<<10)
	require.Len(t, second.items, 2)
	second.note()
	push(second, 50<<10)
	require.Len(t, second.items, 3, "what is noted counts once")
}

// The bytes of a group are divided among the lanes, which store concurrently.
func TestAGroupOfALaneHasItsShareOfTheBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Consumer{Limits: Limits{GroupMiB: 1, Lanes: 4}}
		c.prepare()
		queue, out := make(chan *Message, 10), make(chan *group)
		for range cap(queue) {
			queue <- &Message{Payload: make([]byte, 100<<10)}
		}
		go c.gather(queue, out)
		for _, want := range []int{3, 3, 3, 1} {
			synctest.Wait()
			require.Len(t, (<-out).items, want)
		}
		close(c.stopping)
	})
}

// Messages left with the broker because others fill the room for blocked messages are requested once there is room: not before, since the broker
// would otherwise be asked again and again.
func TestALaneAsksForNothingWhileOthersFillTheRoom(t *testing.T) {
	c := &Consumer{Log: slog.New(slog.DiscardHandler), Limits: Limits{QueueMessages: 2, Lanes: 2}}
	c.prepare()
	blocked := func(w *waiting, node string) {
		m := &Message{}
		require.True(t, c.room(&c.lanes[c.laneOf(m)], m))
		w.add(&outcome{blocked: []*item{{message: m, batch: &store.Batch{Node: node}}}, why: errLocked})
	}
	first, second := newWaiting(c, 0), newWaiting(c, 1)
	blocked(first, "n1")
	blocked(second, "n2")
	require.Empty(t, second.items)
	second.add(&outcome{})
	require.False(t, c.refused.Load())
	first.take()
	first.add(&outcome{})
	require.True(t, c.refused.Load())
}

// A lane's share of a queue of more than 2 GiB is right even if int has 32 bits.
func TestShareOfALargeQueue(t *testing.T) {
	c := &Consumer{Limits: Limits{QueueMiB: 4096, Lanes: 2}}
	c.prepare()
	require.True(t, c.lanes[0].bytes.TryAcquire(3<<30))
	require.False(t, c.lanes[0].bytes.TryAcquire(1))
}
