package local

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// Eight callers, each with its own devices, during reloads of the configuration: every task is reported once, and the results of each device have
// ascending times.
func TestOrderHoldsPerDeviceUnderLoad(t *testing.T) {
	const callers, devices, each = 8, 5, 400
	bus := &recorder{}
	cfg := DefaultConfig()
	cfg.Workers, cfg.QueueTasks = 4, 16
	p := start(t, cfg, class("rate; summary window=1s"), bus)

	var reported [callers][each]atomic.Int32
	var wg, done sync.WaitGroup
	done.Add(callers * each)
	for c := range callers {
		wg.Go(func() {
			for from := 0; from < each; from += 20 {
				items := make([]Item, 20)
				for i := range items {
					at := time.Duration(from+i+1) * time.Millisecond
					items[i] = Item{Task: scalar(fmt.Sprintf("d%d-%d", c, (from+i)%devices), "x", at, 1), Cycles: 0.25}
				}
				p.Process(context.Background(), items, func(i int, err error) {
					if err != nil {
						t.Errorf("task %d of caller %d: %v", from+i, c, err)
					}
					reported[c][from+i].Add(1)
					done.Done()
				})
			}
		})
	}
	for i := range 20 {
		require.NoError(t, p.Reload(cfg, class([]string{"rate; summary window=1s", "rate; range high=3"}[i%2])))
	}
	wg.Wait()
	done.Wait()
	tasks, cycles := p.Queue()
	require.Zero(t, tasks)
	require.Zero(t, cycles)
	require.NoError(t, p.Close(t.Context()))
	for c := range reported {
		for i := range reported[c] {
			require.EqualValues(t, 1, reported[c][i].Load())
		}
	}
	last := map[string]int64{}
	rates := 0
	for _, r := range bus.all() {
		if r.Operator != "rate" {
			continue
		}
		rates++
		require.Greater(t, r.Event.Origin, last[r.Device])
		last[r.Device] = r.Event.Origin
	}
	require.Equal(t, callers*(each-devices), rates, "the state of rate survived every reload")
	require.EqualValues(t, callers*each, p.Counts().Tasks)
}

// blocking is a publisher that blocks until it is released.
type blocking struct {
	recorder
	gate chan struct{}
}

func (b *blocking) Publish(r Result) error {
	<-b.gate
	return b.recorder.Publish(r)
}

func TestAFullQueueWaitsNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &blocking{gate: make(chan struct{})}
		cfg := DefaultConfig()
		cfg.Workers, cfg.QueueTasks = 1, 2
		p := start(t, cfg, class("deadband"), bus)
		items := make([]Item, 5)
		for i := range items {
			items[i] = Item{Task: scalar("d", "x", time.Duration(i+1)*time.Second, float64(i)), Cycles: 2}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var mu sync.Mutex
		errs := map[int]error{}
		p.Process(ctx, items, func(i int, err error) {
			mu.Lock()
			defer mu.Unlock()
			errs[i] = err
		})
		require.Len(t, errs, 2, "one at work, two waiting, two refused")
		require.ErrorIs(t, errs[3], ErrFull)
		require.ErrorIs(t, errs[4], context.DeadlineExceeded)
		tasks, cycles := p.Queue()
		require.Equal(t, 3, tasks)
		require.InDelta(t, 6, cycles, 1e-9)
		close(bus.gate)
		require.NoError(t, p.Close(t.Context()))
		require.Len(t, errs, 5)
		require.NoError(t, errs[2])
	})
}

// Work is shared by the workers, so the work before another task is a worker's share of it.
func TestTheQueueIsAWorkersShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &blocking{gate: make(chan struct{})}
		cfg := DefaultConfig()
		cfg.Workers, cfg.QueueTasks = 4, 400
		p := start(t, cfg, class("deadband"), bus)
		require.Equal(t, 4, p.Operators())
		for i := range 12 {
			require.True(t, p.Offer(Item{Task: scalar("d", "x", time.Duration(i+1)*time.Second, float64(i)), Cycles: 2}, func(int, error) {}))
		}
		synctest.Wait()
		tasks, cycles := p.Queue()
		require.Equal(t, 12, tasks)
		require.InDelta(t, 6, cycles, 1e-9)
		close(bus.gate)
		require.NoError(t, p.Close(t.Context()))
	})
}

// An offer never waits: it is accepted, or has no effect, or comes after the stop.
func TestAnOfferDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &blocking{gate: make(chan struct{})}
		cfg := DefaultConfig()
		cfg.Workers, cfg.QueueTasks = 1, 1
		p := start(t, cfg, class("deadband"), bus)
		var ends []error
		offer := func(n int) bool {
			return p.Offer(Item{Task: scalar("d", "x", time.Duration(n)*time.Second, float64(n)), Cycles: 2}, func(i int, err error) {
				require.Zero(t, i)
				ends = append(ends, err)
			})
		}
		require.True(t, offer(1))
		synctest.Wait() // it is running
		require.False(t, p.Full())
		require.True(t, offer(2))
		require.True(t, p.Full())
		require.False(t, offer(3))
		tasks, cycles := p.Queue()
		require.Equal(t, 2, tasks)
		require.InDelta(t, 4, cycles, 1e-9)
		close(bus.gate)
		require.NoError(t, p.Close(t.Context()))
		require.True(t, offer(4))
		require.Equal(t, []error{nil, nil, ErrClosed}, ends)
	})
}

func TestCloseGivesUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &blocking{gate: make(chan struct{})}
		cfg := DefaultConfig()
		cfg.Workers = 1
		p := start(t, cfg, class("deadband; summary window=1h"), bus)
		var errs [3]error
		items := make([]Item, 3)
		for i := range items {
			items[i] = Item{Task: scalar("d", "x", time.Duration(i+1)*time.Second, float64(i))}
		}
		p.Process(t.Context(), items, func(i int, err error) { errs[i] = err })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, p.Close(ctx), "with 3 tasks left")
		close(bus.gate)
		require.NoError(t, p.Close(t.Context()))
		require.NoError(t, errs[0])
		require.ErrorIs(t, errs[1], ErrClosed)
		require.ErrorIs(t, errs[2], ErrClosed)
	})
}

func TestNothingIsTakenAfterClose(t *testing.T) {
	p := start(t, DefaultConfig(), class("deadband"), &recorder{})
	require.NoError(t, p.Close(t.Context()))
	require.NoError(t, p.Close(t.Context()))
	require.ErrorIs(t, feed(p, scalar("d", "x", 1, 1))[0], ErrClosed)
}

func TestCloseWhileCallersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &blocking{gate: make(chan struct{})}
		cfg := DefaultConfig()
		cfg.Workers, cfg.QueueTasks = 1, 1
		p := start(t, cfg, class("deadband"), bus)
		var reported atomic.Int32
		go p.Process(t.Context(), make5("d"), func(int, error) { reported.Add(1) })
		synctest.Wait()
		time.AfterFunc(time.Second, func() { close(bus.gate) })
		require.NoError(t, p.Close(t.Context()))
		require.EqualValues(t, 5, reported.Load())
	})
}

func make5(device string) []Item {
	items := make([]Item, 5)
	for i := range items {
		items[i] = Item{Task: scalar(device, "x", time.Duration(i+1)*time.Second, float64(i))}
	}
	return items
}

func TestAFailedResultIsRetriedThenReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{failing: true}
		p := start(t, DefaultConfig(), class("deadband"), bus)
		began := time.Now()
		err := feed(p, scalar("d", "x", 1, 1))[0]
		var failed *PublishError
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, errBus)
		require.Equal(t, "x_deadband", failed.Source)
		require.Equal(t, 3, bus.tries)
		require.Equal(t, 200*time.Millisecond, time.Since(began))

		require.Error(t, feed(p, scalar("d", "x", 2, 2))[0])
		require.Equal(t, 4, bus.tries, "a bus known to be gone is asked once")
		require.EqualValues(t, 2, p.Counts().Dropped[dropPublish])
		bus.fail(false)
		require.NoError(t, feed(p, scalar("d", "x", 3, 3))[0])
		require.NoError(t, p.Close(t.Context()))
	})
}

// While the bus is unavailable, the result of a task that must stay waits for it without limit. A failure of that result alone does not wait. The
// result of a task that may leave fails, so that the task can leave.
func TestAResultThatMustStayWaitsForTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{failing: true, why: fmt.Errorf("connecting: %w", ErrAway)}
		p := start(t, DefaultConfig(), class("deadband"), bus)
		require.ErrorIs(t, feed(p, scalar("d", "x", 1, 1))[0], ErrAway)
		time.AfterFunc(time.Hour, func() { bus.fail(false) })
		began, errs := time.Now(), make(chan error, 1)
		feedOne := func(v float64) {
			p.Process(t.Context(), []Item{{Task: scalar("d", "x", time.Duration(v), v), Stay: true}}, func(_ int, err error) { errs <- err })
		}
		feedOne(2)
		require.NoError(t, <-errs)
		require.InDelta(t, time.Hour, time.Since(began), float64(time.Second))
		require.Len(t, bus.all(), 1)

		bus.why = nil
		bus.fail(true)
		feedOne(3)
		require.ErrorIs(t, <-errs, errBus)

		bus.why = ErrAway
		feedOne(4)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = p.Close(ctx)
		require.ErrorIs(t, <-errs, ErrClosed, "its sender keeps it")
	})
}

// Only the task that must stay waits: what its device's operators publish later, as their time has come, fails at once.
func TestNothingElseWaitsForTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{}
		cfg := DefaultConfig()
		cfg.Workers = 1
		p := start(t, cfg, class("deadband band=10 max=1m"), bus)
		for v := range 2 {
			p.Process(t.Context(), []Item{{Task: scalar("d", "x", time.Duration(v+1), float64(v)), Stay: true}}, func(_ int, err error) { require.NoError(t, err) })
		}
		synctest.Wait()
		bus.why = ErrAway
		bus.fail(true)
		time.Sleep(2 * time.Minute)
		began := time.Now()
		require.ErrorIs(t, feed(p, scalar("other", "x", 1, 1))[0], ErrAway)
		require.Less(t, time.Since(began), time.Second)
		require.NoError(t, p.Close(t.Context()))
	})
}

// A bus that returns may fail again at once: attempts while it was away do not count as retries.
func TestABusThatComesAndGoesFailsNoTaskThatMustStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := fmt.Errorf("connecting: %w", ErrAway)
		cfg := DefaultConfig()
		cfg.Retries = 2
		bus := &scripted{script: []error{away, away, away, away, errBus, errBus, away, errBus, nil}}
		p := start(t, cfg, class("deadband"), bus)
		p.Process(t.Context(), []Item{{Task: scalar("d", "x", 2, 2), Stay: true}}, func(_ int, err error) { require.NoError(t, err) })
		require.NoError(t, p.Close(t.Context()))
		require.Empty(t, bus.script)
	})
}

// scripted publishes with these errors, one for each attempt.
type scripted struct{ script []error }

func (s *scripted) Publish(Result) (err error) {
	err, s.script = s.script[0], s.script[1:]
	return err
}

// Once waiting has been ended, tasks that must stay return to their sender, without an end of the processor.
func TestWaitingForTheBusCanBeEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{failing: true, why: ErrAway}
		p := start(t, DefaultConfig(), class("deadband"), bus)
		var errs []error
		items := make5("d")
		for i := range items {
			items[i].Stay = true
		}
		p.Process(t.Context(), items, func(_ int, err error) { errs = append(errs, err) })
		time.Sleep(time.Hour)
		require.Empty(t, errs)
		p.StopWaiting()
		p.StopWaiting()
		synctest.Wait()
		require.Len(t, errs, 5)
		for _, err := range errs {
			require.ErrorIs(t, err, ErrClosed)
		}
		require.NoError(t, p.Close(t.Context()))
	})
}

func TestWindowsWaitForTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{failing: true}
		cfg := DefaultConfig()
		cfg.Workers, cfg.PendingResults = 1, 3
		p := start(t, cfg, class("summary window=1s late=0s"), bus)
		for i := range 6 {
			require.NoError(t, feed(p, scalar("d", "x", time.Duration(i)*time.Second, float64(i)))[0], "the window is not this task's")
		}
		counts := p.Counts()
		require.EqualValues(t, 3, counts.Pending)
		require.EqualValues(t, 2, counts.Dropped[dropFull])
		bus.fail(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		var means []float64
		for _, r := range bus.all() {
			means = append(means, float(t, r, "x_mean"))
		}
		require.Equal(t, []float64{2, 3, 4, 5}, means[:4], "the oldest were dropped, the others are in order")
		require.Zero(t, p.Counts().Pending)
		require.NoError(t, p.Close(t.Context()))
	})
}

func TestWhatABusNeverTakesIsCountedAtTheStop(t *testing.T) {
	bus := &recorder{failing: true}
	p := start(t, DefaultConfig(), class("summary window=1h"), bus)
	feed(p, scalar("d", "x", 1, 1), scalar("e", "x", 1, 1))
	require.NoError(t, p.Close(t.Context()))
	require.EqualValues(t, 2, p.Counts().Dropped[dropStop])
	require.Zero(t, p.Counts().Pending)
	require.Zero(t, p.Counts().Keys)
}

// bomb panics on the number 13.
type bomb struct {
	timeless
	seen int
}

func (b *bomb) feed(in *sample, out *outlet) {
	if in.values[0] == 13 {
		panic("unlucky")
	}
	b.seen++
	counted := sample{at: in.at, now: in.now, typ: task.Float64}
	out.pass(&counted, []float64{float64(b.seen)})
}

func TestAPanicHarmsOnlyItsTask(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("summary; deadband"), bus)
	w.rules.plans["default"][1].builders[0] = func() stage { return &bomb{} }
	var errs []error
	for i, v := range []float64{1, 13, 2} {
		errs = append(errs, w.process(scalar("d", "x", time.Duration(i), v)))
	}
	var panicked *PanicError
	require.ErrorAs(t, errs[1], &panicked)
	require.Equal(t, `operator "deadband" on d/x panicked: unlucky`, panicked.Error())
	require.NoError(t, errs[0])
	require.NoError(t, errs[2])
	require.Equal(t, decimal(1), value(bus.results[1], "x_deadband"), "its state began anew")
	require.EqualValues(t, 1, w.p.counts.snapshot().Panics["deadband"])
	w.finish()
	require.Equal(t, "3", value(bus.results[len(bus.results)-1], "x_count"), "the summary beside it saw all three")
}

type panicking struct{}

func (panicking) Publish(Result) error { panic("broken bus") }

func TestAPanickingPublisherIsAFailure(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Retries = 0
	p := start(t, cfg, class("deadband"), panicking{})
	require.ErrorContains(t, feed(p, scalar("d", "x", 1, 1))[0], "the publisher panicked: broken bus")
	require.NoError(t, p.Close(t.Context()))
}

func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	bus := &recorder{}
	cfg := DefaultConfig()
	p := start(t, cfg, class("summary window=60s; summary window=1h name=hour; deadband band=5"), bus)
	feed(p, scalar("d", "x", time.Second, 1))
	require.NoError(t, p.Reload(cfg, class("deadband band=5; summary window=1m")))
	feed(p, scalar("d", "x", 2*time.Second, 2))
	require.Error(t, p.Reload(cfg, class("summary window=x")), "a bad one changes nothing")
	require.NoError(t, p.Close(t.Context()))
	var got []string
	for _, r := range bus.all() {
		got = append(got, fmt.Sprint(r.Source, " ", r.Event.Tags["closed"]))
	}
	require.Equal(t, []string{"x_deadband <nil>", "x_hour reload", "x_summary stop"}, got)
	require.Equal(t, "2", value(bus.all()[2], "x_count"), "60s and 1m are the same window")
}

// A reload without operators for a resource releases its place for another one.
func TestAReloadGivesPlacesBack(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxKeys = 1
	p := start(t, cfg, class("deadband resource=x"), &recorder{})
	require.Equal(t, []error{nil}, feed(p, scalar("d", "x", 1, 1)))
	require.NoError(t, p.Reload(cfg, class("deadband resource=y")))
	require.Equal(t, []error{nil}, feed(p, scalar("d", "y", 2, 1)))
	require.EqualValues(t, 1, p.Counts().Keys)
	require.EqualValues(t, 2, p.Counts().Results["deadband"])
	require.NoError(t, p.Close(t.Context()))
	require.Zero(t, p.Counts().Keys)
	require.Zero(t, p.places.Load())
}

// A resource with regular readings is not forgotten.
func TestAResourceThatSpeaksIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, DefaultConfig(), class("deadband"), &recorder{})
		for range 5 {
			feed(p, scalar("d", "x", 1, 1))
			time.Sleep(40 * time.Minute)
		}
		synctest.Wait()
		require.EqualValues(t, 1, p.Counts().Keys)
		require.Zero(t, p.Counts().Evicted[evictTTL])
		require.EqualValues(t, 1, p.Counts().Results["deadband"], "and the repetitions are held back")
		require.NoError(t, p.Close(t.Context()))
	})
}

// A shorter KeyTTL applies immediately to resources that have been silent for longer.
func TestAShorterTTLHoldsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Workers = 1
		p := start(t, cfg, class("deadband"), &recorder{})
		feed(p, scalar("d", "x", 1, 1))
		time.Sleep(10 * time.Minute)
		cfg.KeyTTL = "1m"
		require.NoError(t, p.Reload(cfg, class("deadband")))
		feed(p, scalar("e", "x", 1, 1))
		time.Sleep(time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, p.Counts().Keys)
		require.NoError(t, p.Close(t.Context()))
	})
}

// Names of a task may point into the memory of its event, which is reused: state and results have copies.
func TestNamesOutliveTheirEvent(t *testing.T) {
	memory := []byte("press-1Force")
	bus := &recorder{}
	w := still(t, class("summary"), bus)
	one := scalar(unsafe.String(&memory[0], 7), unsafe.String(&memory[7], 5), 0, 1)
	require.NoError(t, w.process(one))
	copy(memory, "############")
	w.finish()
	require.Equal(t, [2]string{"press-1", "Force_summary"}, [2]string{bus.results[0].Device, bus.results[0].Source})
	require.Empty(t, w.table.entries)
}

// A panic names its operator in the chain.
func TestAPanicNamesItsOperator(t *testing.T) {
	for at, name := range []string{"deadband", "deadtime", "rate"} {
		w := still(t, class("deadband | deadtime time=1ms | rate"), &recorder{})
		w.rules.plans["default"][0].builders[at] = func() stage { return unlucky{} }
		var panicked *PanicError
		require.ErrorAs(t, w.process(scalar("d", "x", 0, 1)), &panicked)
		require.Equal(t, name, panicked.Operator)
		require.EqualValues(t, 1, w.p.Counts().Panics[name])
	}
}

// unlucky always panics.
type unlucky struct{ timeless }

func (unlucky) feed(*sample, *outlet) { panic("unlucky") }

// A result names the origin of its data, and has one hop more than any of them.
func TestResultsNameTheirOrigin(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("deadband; summary window=1s"), bus)
	for i, hop := range []int{0, 2, 1} {
		one := scalar("d", "x", time.Duration(i), float64(i))
		one.CorrelationID, one.Lineage.Hop = fmt.Sprint("c", i), hop
		require.NoError(t, w.process(one))
	}
	w.finish()
	var hops []int
	for i, r := range bus.results {
		hops = append(hops, r.Hop)
		require.Equal(t, Result{Event: r.Event, Profile: "Sensor", Device: "d", Source: "x_" + r.Operator, Class: "default", Operator: r.Operator, CorrelationID: fmt.Sprint("c", min(i, 2)), Hop: r.Hop, Ending: r.Ending}, r)
		require.NotNil(t, r.Ending)
	}
	require.Equal(t, []int{1, 3, 3, 3}, hops)
	require.Equal(t, "summary", bus.results[3].Operator)
}

func TestASilentResourceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, DefaultConfig(), class("deadband"), &recorder{})
		feed(p, scalar("d", "x", 1, 1))
		time.Sleep(time.Hour - time.Second)
		feed(p, scalar("d", "y", 1, 1))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, p.Counts().Keys)
		require.EqualValues(t, 1, p.Counts().Evicted[evictTTL])
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Zero(t, p.Counts().Keys)
		require.NoError(t, p.Close(t.Context()))
	})
}

func TestWhatNoOperatorCanReadIsCounted(t *testing.T) {
	p := start(t, DefaultConfig(), class("deadband resource=x*"), &recorder{})
	reading := func(name string, typ task.ValueType, text string) task.Reading {
		return task.Reading{Resource: name, Type: typ, Value: []byte(text)}
	}
	errs := feed(p, taskOf("d", 1,
		reading("x1", task.String, "hello"), reading("x2", task.Object, "{}"), reading("y", task.Int8, "1"),
		reading("x3", task.Int8, "one"), reading("x4", task.Float64, "NaN"), reading("x5", task.Float64Array, "[1, +Inf, 2]"),
		reading("x6", task.Int8Array, "[]")), taskOf("d", 2))
	require.Equal(t, []error{nil, nil}, errs)
	counts := p.Counts()
	require.Equal(t, map[string]int64{"notNumeric": 2, "noOperator": 1, "unreadable": 1, "notFinite": 2, "noReadings": 1}, counts.Skipped)
	require.EqualValues(t, 1, counts.Readings)
	require.EqualValues(t, 2, counts.Values)
	require.NoError(t, p.Close(t.Context()))
}

func TestObserveIsToldWhatOperatorsTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seconds []float64
		slow := &sleeping{pause: time.Second}
		p, err := New(DefaultConfig(), class("deadband"), slow, func(_ *task.Task, s float64) { seconds = append(seconds, s) })
		require.NoError(t, err)
		feed(p, scalar("d", "x", 1, 1))
		require.Equal(t, []float64{0}, seconds, "the second belongs to the bus")
		require.NoError(t, p.Close(t.Context()))
	})
}

type sleeping struct{ pause time.Duration }

func (s *sleeping) Publish(Result) error {
	time.Sleep(s.pause)
	return nil
}

func TestReadingsFollowTheirOwnClass(t *testing.T) {
	classes, err := task.NewClasses(map[string]task.ClassConfig{
		"vibration": {MatchResource: "Vib*", Operators: "range high=3"},
		"rest":      {MatchDevice: "d*", Operators: "deadband"},
	})
	require.NoError(t, err)
	bus := &recorder{}
	p := start(t, DefaultConfig(), classes, bus)
	feed(p, taskOf("d", 1,
		task.Reading{Resource: "Vib1", Type: task.Int8, Value: []byte("7")},
		task.Reading{Resource: "Temp", Type: task.Int8, Value: []byte("7")}))
	require.NoError(t, p.Close(t.Context()))
	require.Len(t, bus.all(), 2)
	require.Equal(t, "Vib1_range", bus.all()[0].Source)
	require.Equal(t, "vibration", bus.all()[0].Class)
	require.Equal(t, "Temp_deadband", bus.all()[1].Source)
}

func TestTopics(t *testing.T) {
	r := Result{Profile: "Press", Device: "press-1", Source: "Temp_summary"}
	require.Equal(t, "events/device/app-offload/Press/press-1/Temp_summary", r.Topic("app-offload"))
	r.Device = "hall 3/press+1"
	require.Equal(t, "events/device/app-offload/Press/hall%203%2Fpress%2B1/Temp_summary", r.Topic("app-offload"))

	require.True(t, OwnTopic("edgex/events/device/app-offload/Press/press-1/Temp_summary", "app-offload"))
	require.True(t, OwnTopic(r.Topic("app-offload"), "app-offload"))
	require.True(t, OwnTopic("plant/7/events/device/app-offload/P/d/s", "app-offload"))
	require.False(t, OwnTopic("edgex/events/device/device-modbus/app-offload/press-1/Temp", "app-offload"))
	for topic, own := range map[string]bool{
		"events/device/app-offload/P/d/s": true, "edgexevents/device/app-offload/P/d/s": false, "edgex/events/app-offload/P/d/s": false, "app-offload/P/d/s": false,
		"P/d/s": false, "d/s": false, "": false, "edgex/events/device/app%2Doffload/P/d/s": true, "edgex/events/device/app%offload/P/d/s": false,
		"edgex/events/device/app-offload/x/P/d/s": false,
	} {
		require.Equal(t, own, OwnTopic(topic, "app-offload"), topic)
	}
	require.False(t, OwnTopic("edgex/events/core/app-offload/P/d/s", "app-offload"))
	require.False(t, OwnTopic("events/app-offload", "app-offload"))
}

// Whatever comes in, core-data accepts each result.
func TestEveryResultIsAccepted(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	bus := &recorder{}
	w := still(t, class("summary window=1s slide=500ms; deadband; deadtime time=1ms; range low=-1 high=1; rate; rate name=fast limit=1"), bus)
	texts := map[task.ValueType][]string{
		task.Bool: {"true", "false", "1", "T"}, task.Uint8: {"0", "255", "999", "007"}, task.Int64: {"-9223372036854775808", "5", " 6 "},
		task.Float32: {"1e38", "-0.0", "3.4e+39", "1.5"}, task.Float64: {"1.7e308", "-1.7e308", "5e-324"},
		task.Int16Array: {"[]", "[1]", "[3,-4, 5]"}, task.Float64Array: {"[1e308, -1e308]", "[NaN, 1]"}, task.Blob: {"", "aGk=", "!!"},
	}
	for i := range 120 {
		var readings []task.Reading
		for typ, list := range texts {
			readings = append(readings, task.Reading{Resource: "r" + typ.String(), Type: typ, Value: []byte(list[rnd.IntN(len(list))])})
		}
		require.NoError(t, w.process(taskOf("d", time.Duration(i*37)*time.Millisecond, readings...)))
	}
	w.finish()
	require.Greater(t, len(bus.results), 300)
	for _, r := range bus.results {
		accepted(t, r)
	}
}
