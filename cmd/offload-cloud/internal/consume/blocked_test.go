package consume

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/task"
)

// touches reports whether a group needs the rows of a node.
func touches(g *store.Group, node string) bool {
	return slices.ContainsFunc(g.Batches, func(b *store.Batch) bool { return b.Node == node })
}

func edgeOf(t *testing.T, node string) *edgetest.Edge {
	return (&edgetest.Edge{Node: node, Epoch: "e1", Records: 100, Rand: rand.New(rand.NewPCG(1, 1))}).Prepare(t)
}

// While the row of one of twenty nodes is locked, the messages of the other nineteen are stored, and those of the one as soon as its row is free.
func TestOnlyWhatIsBlockedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		b.shelf.failing(func(g *store.Group) error {
			time.Sleep(200 * time.Millisecond)
			if touches(g, "n7") {
				return errLocked
			}
			return nil
		})
		for round := range uint64(3) {
			for i := range 20 {
				node := fmt.Sprint("n", i)
				b.pipe.send(fmt.Sprintf("%s-%d", node, round), "offload/v1/"+node+"/batch/default", edgeOf(t, node).Batch(t, 1, round+1))
			}
		}
		time.Sleep(30 * time.Second)
		acked := b.pipe.acks()
		require.Len(t, acked, 57)
		require.NotContains(t, strings.Join(acked, " "), "n7-")
		require.Contains(t, b.HeldUp(), "node n7")
		require.Equal(t, int64(3), b.Counts.Waiting.Load())
		require.True(t, b.Counts.StoreUp.Load())
		b.shelf.failing(nil)
		time.Sleep(15 * time.Second)
		require.Equal(t, []string{"n7-0", "n7-1", "n7-2"}, b.pipe.acks(), "in the order of arrival")
		require.Empty(t, b.HeldUp())
		require.NoError(t, b.stop())
		require.Equal(t, 1, strings.Count(b.log.String(), "rows are locked"), b.log.String())
		require.Contains(t, b.log.String(), "no messages are blocked")
	})
}

// Blocked messages use at most half of the queue; the other half is for other nodes. Messages left with the broker are requested again.
func TestBlockedMessagesLeaveRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{QueueMessages: 8})
		b.shelf.failing(func(g *store.Group) error {
			if touches(g, "n7") {
				return errLocked
			}
			return nil
		})
		edge := edgeOf(t, "n7")
		for i := range uint64(20) {
			b.pipe.send(fmt.Sprint("n7-", i), "offload/v1/n7/batch/default", edge.Batch(t, 1, i+1))
			b.pipe.send(fmt.Sprint("n1-", i), topic, b.edge.Batch(t, 1, i+1))
			synctest.Wait()
		}
		require.Len(t, b.pipe.acks(), 20)
		require.Equal(t, int64(4), b.Counts.Waiting.Load())
		require.Zero(t, b.pipe.redelivered, "it would only come again")
		b.shelf.failing(nil)
		time.Sleep(time.Minute)
		require.Len(t, b.pipe.acks(), 4)
		require.Equal(t, 1, b.pipe.redelivered)
		require.NoError(t, b.stop())
	})
}

// As many blocked messages as mosquitto's default window would stop all nodes, without a hint from the broker: the consumer logs it.
func TestAWindowThatWaitingMessagesMayFillIsNamed(t *testing.T) {
	for waiting, named := range map[int]int{windowMin - 1: 0, windowMin + 5: 1} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, Limits{})
			b.shelf.failing(func(*store.Group) error { return errLocked })
			for i := range uint64(waiting) {
				b.pipe.send(fmt.Sprint(i), topic, b.edge.Batch(t, 1, i+1))
			}
			time.Sleep(time.Minute)
			require.EqualValues(t, waiting, b.Counts.Waiting.Load())
			b.shelf.failing(nil)
			time.Sleep(time.Minute)
			require.NoError(t, b.stop())
			require.Equal(t, named, strings.Count(b.log.String(), "max_inflight_messages"))
		})
	}
}

// If the database's time limit is too short for a group, or for one message, transactions become smaller.
func TestWhatTakesTooLongIsCutSmaller(t *testing.T) {
	for name, records := range map[string]int{"half a message at a time": 50, "one record at a time": 1, "many messages": 300} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Limits{})
				var attempts atomic.Int64
				b.shelf.failing(func(g *store.Group) error {
					attempts.Add(1)
					time.Sleep(time.Second)
					if g.Records() > records {
						return errSlow
					}
					return nil
				})
				for m := range uint64(10) {
					var seqs []uint64
					for i := range uint64(99) {
						seqs = append(seqs, i+1)
					}
					b.pipe.send(fmt.Sprint(m), topic, b.edge.Batch(t, 1, seqs...))
				}
				time.Sleep(time.Hour)
				require.Len(t, b.pipe.acks(), 10)
				require.Equal(t, int64(990), b.Counts.Tasks.Load())
				require.Less(t, attempts.Load(), int64(990+100), "each message is probed a few times")
				require.Zero(t, b.Counts.Waiting.Load())
				require.NoError(t, b.stop())
			})
		})
	}
}

// After a lock on the whole table, all blocked messages are stored and acknowledged.
func TestAfterALockOnEverythingAllIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		b.shelf.failing(func(*store.Group) error { time.Sleep(200 * time.Millisecond); return errLocked })
		for i := range uint64(500) {
			node := fmt.Sprint("n", i)
			b.pipe.send(node, "offload/v1/"+node+"/batch/default", edgeOf(t, node).Batch(t, 1, 1))
		}
		time.Sleep(15 * time.Second)
		require.Empty(t, b.pipe.acks())
		b.shelf.failing(nil)
		time.Sleep(2 * time.Minute)
		require.Len(t, b.pipe.acks(), 500)
		require.NoError(t, b.stop())
	})
}

// textTask returns a task of about the given size.
func textTask(size int) *task.Task {
	return &task.Task{EventID: "e", Device: "d", Of: 1, Class: &task.Class{Name: "default"}, Encoding: task.Text, Data: bytes.Repeat([]byte{'1'}, size)}
}

// A group that was too slow halves the limit of records of the next one. Groups at the limit increase it again, up to the maximum; smaller groups do not.
func TestGroupsShrinkAndGrowByTheirRecords(t *testing.T) {
	c := &Consumer{Limits: Limits{GroupRecords: 60}}
	group := []*item{{records: 70}, {records: 30}}
	require.Equal(t, 100, records(group))
	c.tooSlow(group)
	require.EqualValues(t, 50, c.groupMax.Load())
	c.fits([]*item{{records: 20}, {records: 29}})
	require.EqualValues(t, 50, c.groupMax.Load(), "a smaller group shows nothing")
	c.fits([]*item{{records: 20}, {records: 30}})
	require.EqualValues(t, 57, c.groupMax.Load())
	c.fits(group)
	require.EqualValues(t, 60, c.groupMax.Load())
	c.fits(group)
	require.EqualValues(t, 60, c.groupMax.Load())
	c.tooSlow([]*item{{records: 1}})
	require.EqualValues(t, 1, c.groupMax.Load(), "one record at least")
}
