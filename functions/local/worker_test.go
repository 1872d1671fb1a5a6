package local

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/task"
)

// leaking is a summary that panics on the number 13 after it has added it.
type leaking struct{ stage }

func (l leaking) feed(in *sample, out *outlet) {
	l.stage.feed(in, out)
	if in.values[0] == 13 {
		panic("unlucky")
	}
}

func (l leaking) release(b *budget) { l.stage.(*summary).release(b) }

func TestAPanicGivesSampleMemoryBack(t *testing.T) {
	w := still(t, class("summary"), &recorder{})
	build := w.rules.plans["default"][0].builders[0]
	w.rules.plans["default"][0].builders[0] = func() stage { return leaking{build()} }
	all := w.budget.free
	values := make([]float64, 500)
	for range 10 {
		values[0] = 0
		require.NoError(t, w.process(arrayTask("d", "x", 0, values...)))
		require.Less(t, w.budget.free, all)
		values[0] = 13
		require.Error(t, w.process(arrayTask("d", "x", 0, values...)))
		require.Equal(t, all, w.budget.free)
	}
}

// Limits are shared among the running workers, whatever number a reload has.
func TestAReloadSharesAmongTheWorkersThatRun(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Workers, cfg.PendingResults = 2, 10
	p := start(t, cfg, class("deadband"), &recorder{})
	for _, n := range []int{0, 1, 2, 7} {
		cfg.Workers, cfg.PendingResults = n, 20
		require.NoError(t, p.Reload(cfg, class("deadband")))
		require.Equal(t, 10, p.rules.Load().limits.pending, "%d workers in the file", n)
		require.Equal(t, 2, p.rules.Load().limits.workers)
	}
	require.NoError(t, p.Close(t.Context()))
}

// A task counts as one without readings only if it has neither readings nor a hole for one.
func TestOnlyATaskWithoutReadingsIsCountedAsOne(t *testing.T) {
	hole := []task.Hole{{Resource: "Image", Length: 300_000, Encoding: task.Binary}}
	reading := []task.Reading{{Resource: "x", Type: task.Int8, Value: []byte("1")}}
	for _, c := range []struct {
		readings []task.Reading
		holes    []task.Hole
		want     int64
	}{{nil, nil, 1}, {nil, hole, 0}, {reading, nil, 0}, {reading, hole, 0}} {
		w := still(t, class("deadband"), &recorder{})
		one := taskOf("d", 0)
		one.Of, one.Readings, one.Holes = 3, c.readings, c.holes
		require.NoError(t, w.process(one))
		require.Equal(t, c.want, w.p.Counts().Skipped[skipNoReadings], "%d readings, %d holes", len(c.readings), len(c.holes))
	}
}

// After a scan for due work, a worker sleeps until something is due.
func TestAWorkerSleepsUntilSomethingIsDue(t *testing.T) {
	fake := clock.NewFake(time.Unix(0, epoch))
	w := still(t, class("deadband"), &recorder{})
	w.p.clock = clock.New(fake)
	require.NoError(t, w.process(scalar("d", "x", 0, 1)))
	due := w.p.now() + int64(time.Hour)
	require.Equal(t, due, w.next)
	w.next = w.p.now() // as after a reload
	w.wake()
	require.Equal(t, due, w.next)
	fake.Advance(time.Hour)
	w.wake()
	require.Zero(t, w.next, "nothing is left")
	require.Zero(t, w.p.Counts().Keys)
}

// Of several failures of a task the first is reported, whatever operators or readings come after it.
func TestTheFirstFailureIsReported(t *testing.T) {
	bus := &recorder{failing: true}
	cfg := DefaultConfig()
	cfg.Retries = 0
	p := start(t, cfg, class("deadband resource=y; rate; deadtime time=1s"), bus)
	reading := func(name string) task.Reading {
		return task.Reading{Resource: name, Type: task.Int8, Value: []byte("1")}
	}
	for want, readings := range map[string][]task.Reading{
		"x_deadtime": {reading("x"), reading("y")}, "y_deadband": {reading("y"), reading("x")}, "z_deadtime": {{Resource: "s", Type: task.String}, reading("z")},
	} {
		var failed *PublishError
		require.ErrorAs(t, feed(p, taskOf(want, time.Second, readings...))[0], &failed)
		require.Equal(t, want, failed.Source)
	}
}

// A task that must not leave fails if one of its values is unreadable; for other tasks, and for one without a class, that is counted.
func TestAnUnreadableValueOfATaskThatMustNotLeave(t *testing.T) {
	for _, c := range []*task.Class{nil, {Name: "default"}, {Name: "default", NeverLeave: true}} {
		w := still(t, class("summary"), &recorder{})
		one := taskOf("d", 0, task.Reading{Resource: "x", Type: task.Float64, Value: []byte("21,5")})
		one.Class = c
		err := w.process(one)
		require.EqualValues(t, 1, w.p.Counts().Skipped[skipUnreadable])
		if c == nil || !c.NeverLeave {
			require.NoError(t, err)
			continue
		}
		var unread *UnreadError
		require.ErrorAs(t, err, &unread)
		require.Equal(t, UnreadError{Device: "d", Resource: "x", Problem: `"21,5" is no Float64`}, *unread)
		one.Readings[0].Value = bytes.Repeat([]byte("x"), 100)
		require.ErrorAs(t, w.process(one), &unread)
		require.Equal(t, fmt.Sprintf("%q is no Float64", one.Readings[0].Value[:maxShown]), unread.Problem)
	}
}

// A reload also applies to work that time alone makes due, without a task in between.
func TestAReloadWithoutATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{}
		p := start(t, DefaultConfig(), class("summary window=10s"), bus)
		require.NoError(t, feed(p, scalar("d", "x", 0, 1))[0])
		require.NoError(t, p.Reload(DefaultConfig(), class("deadband")))
		time.Sleep(time.Hour)
		require.Len(t, bus.all(), 1)
		require.Equal(t, "reload", bus.all()[0].Event.Tags["closed"])
		require.NoError(t, p.Close(t.Context()))
	})
}
