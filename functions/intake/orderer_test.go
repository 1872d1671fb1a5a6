package intake

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

func orderer(sink Sink, window string) *Orderer {
	cfg := DefaultConfig()
	cfg.ReorderWindow, cfg.MaxEvents = window, 100
	return NewOrderer(cfg, sink)
}

func event(device string, origin int64) *task.Event {
	return &task.Event{Device: device, Origin: origin}
}

func ignore(int, error) {}

func TestOrdererRestoresTheOrderOfADevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &testSink{}
		o := orderer(sink, "20ms")
		for _, origin := range []int64{3, 1, 2, 2, 5} {
			o.Submit([]*task.Event{event("a", origin)}, ignore)
			time.Sleep(time.Millisecond)
		}
		require.Empty(t, sink.got(), "held for the window")
		time.Sleep(14 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, sink.got(), "19 ms")
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []int64{1, 2, 2, 3}, sink.got(), "the first is due, and takes those before it along")
		o.Submit([]*task.Event{event("a", 4), event("b", 1)}, ignore)
		time.Sleep(time.Second)
		require.Equal(t, []int64{1, 2, 2, 3, 4, 5, 1}, sink.got(), "4 overtakes 5, which is not due yet")
		require.Zero(t, o.Late(), "each came in time")
		o.Submit([]*task.Event{event("a", 4)}, ignore)
		require.Equal(t, uint64(1), o.Late())
		require.NoError(t, o.Close(t.Context()))
		require.Len(t, sink.got(), 8)
	})
}

func TestOrdererOffHandsOnAtOnce(t *testing.T) {
	sink := &testSink{}
	o := orderer(sink, "0s")
	o.Submit([]*task.Event{event("a", 2), event("a", 1)}, ignore)
	require.Equal(t, []int64{2, 1}, sink.got())
	require.NoError(t, o.Close(context.Background()))
}

func TestOrdererCloseHandsOnEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &testSink{}
		o := orderer(sink, "10s")
		var answers []error
		done := func(_ int, err error) { answers = append(answers, err) }
		o.Submit([]*task.Event{event("a", 2), event("a", 1)}, done)
		require.NoError(t, o.Close(t.Context()))
		require.NoError(t, o.Close(t.Context()), "twice is fine")
		require.Equal(t, []int64{1, 2}, sink.got())
		o.Submit([]*task.Event{event("a", 3)}, done)
		require.Equal(t, []error{nil, nil, ErrClosed}, answers)
	})
}

func TestOrdererIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &testSink{block: make(chan struct{})}
		o := orderer(sink, "10ms")
		var submitted sync.WaitGroup
		for n := range 250 {
			submitted.Go(func() { o.Submit([]*task.Event{event("a", int64(n))}, ignore) })
		}
		time.Sleep(time.Second)
		o.mu.Lock()
		held := len(o.waiting)
		o.mu.Unlock()
		require.Equal(t, 100, held)
		close(sink.block)
		submitted.Wait()
		require.NoError(t, o.Close(t.Context()))
		require.Len(t, sink.got(), 250)
	})
}

// TestOrdererWithManyGoroutines: events that overtake each other by less than the window arrive in order, all of them, each answered once.
func TestOrdererWithManyGoroutines(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 0))
		sink := &orderSink{last: map[string]int64{}}
		o := orderer(sink, "20ms")
		var mu sync.Mutex
		answered := 0
		var messages sync.WaitGroup
		for n := range 2000 {
			ev := event(fmt.Sprint("device-", random.IntN(5)), int64(n))
			delay := time.Duration(random.IntN(15)) * time.Millisecond
			messages.Go(func() {
				time.Sleep(delay)
				o.Submit([]*task.Event{ev}, func(int, error) { mu.Lock(); answered++; mu.Unlock() })
			})
			time.Sleep(time.Duration(random.IntN(2)) * time.Millisecond)
		}
		messages.Wait()
		require.NoError(t, o.Close(t.Context()))
		require.Equal(t, 2000, answered)
		require.Zero(t, sink.overtaken)
	})
}

// orderSink counts the events that arrive after a later one of their device.
type orderSink struct {
	last      map[string]int64
	overtaken int
}

func (s *orderSink) Submit(events []*task.Event, done func(int, error)) {
	for i, ev := range events {
		if ev.Origin < s.last[ev.Device] {
			s.overtaken++
		}
		s.last[ev.Device] = ev.Origin
		done(i, nil)
	}
}

func TestOrdererForgetsDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := orderer(&testSink{}, "1ms")
		for n := range 3 * maxIdleDevices {
			o.Submit([]*task.Event{event(fmt.Sprint(n), 1)}, ignore)
		}
		require.NoError(t, o.Close(t.Context()))
		require.LessOrEqual(t, len(o.devices), maxIdleDevices+100)
	})
}

func TestDeviceQueueIsStable(t *testing.T) {
	d := &deviceQueue{}
	var all []*held
	for n := range 50 {
		h := &held{event: event("a", int64(n%3)), arrival: uint64(n)}
		all = append(all, h)
		d.Push(h)
	}
	slices.SortFunc(d.events, func(a, b *held) int { // a sorted slice is a heap
		return cmp.Or(cmp.Compare(a.event.Origin, b.event.Origin), cmp.Compare(a.arrival, b.arrival))
	})
	ready := d.upTo(all[47], nil) // origin 2, the last but one of its origin
	require.Len(t, ready, 50)
	for i := 1; i < len(ready); i++ {
		a, b := ready[i-1], ready[i]
		require.True(t, a.event.Origin < b.event.Origin || a.event.Origin == b.event.Origin && a.arrival < b.arrival)
	}
}

// An event is late if a later one of its device was released; one of the same time is not, and a late one makes no other one punctual.
func TestOrdererCountsWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := orderer(&testSink{}, "20ms")
		for _, row := range []struct {
			origin int64
			late   uint64
		}{{5, 0}, {5, 0}, {3, 1}, {4, 2}, {5, 2}, {6, 2}} {
			o.Submit([]*task.Event{event("a", row.origin)}, ignore)
			require.Equal(t, row.late, o.Late(), "origin %d", row.origin)
			time.Sleep(time.Second)
		}
		require.NoError(t, o.Close(t.Context()))
	})
}
