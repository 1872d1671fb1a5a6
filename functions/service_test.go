package functions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/local"
	"app-offload/functions/receive"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// 64 callers submit 200,000 tasks concurrently, a tenth of that under the race detector. Every task reaches the consumer once, and those of a device
// in order.
func TestEveryTaskArrivesOnceAndInOrder(t *testing.T) {
	const callers, slice = 64, 25
	each := 3125
	if raceEnabled || testing.Short() {
		each = 300
	}
	b := startBroker(t)
	c := startCloud(t, b, "n1", nil)
	cfg := testConfig(t, b, "cloud")
	cfg.Spool.QuotaMiB, cfg.Spool.RingMiB = 512, 256 // what leaves the ring becomes backlog, which fresh data may pass
	cfg.Writable.Policy.LinkDown, cfg.Writable.Policy.BacklogLimit = "deadline", 1
	s := open(t, cfg, &bin{})
	s.Start()

	var taken, refused atomic.Int64
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			device := fmt.Sprintf("device-%d", caller)
			for n := 0; n < each; n += slice {
				events := make([]*task.Event, slice)
				var open sync.WaitGroup
				open.Add(slice)
				for i := range events {
					events[i] = event(device, caller*each+n+i)
				}
				s.Submit(events, func(_ int, err error) {
					defer open.Done()
					if err != nil {
						refused.Add(1)
						return
					}
					taken.Add(1)
				})
				open.Wait()
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, callers*each, taken.Load())
	eventually(t, 4*time.Minute, "all is receipted", func() bool { return s.Counts().Receipted == int64(callers*each) })

	last := map[string]int64{}
	tasks := c.tasks()
	require.Len(t, tasks, callers*each)
	for _, one := range tasks {
		require.Greater(t, one.Origin, last[one.Device], "device %s is out of order", one.Device)
		last[one.Device] = one.Origin
	}
	require.Zero(t, c.doubled, "nothing is sent twice over a good link")
	all := int64(callers * each)
	require.Equal(t, status.Counts{Accepted: all, Receipted: all, Dropped: map[string]int64{}}, s.Counts())
}

// A stop goes from the source to the sink: producers stop before consumers.
func TestStopOrder(t *testing.T) {
	cfg := testConfig(t, nil, "weighted")
	cfg.DecisionLog = t.TempDir()
	s := open(t, cfg, &bin{})
	s.Start()
	s.life.onStop("intake", func(context.Context) error { return nil })
	require.NoError(t, s.Stop())
	require.Equal(t, []string{
		"intake", "gate", "orderer", "models", "waiting room", "work in flight", "local processing", "exporter", "answers", "decision log", "learned state", "ledger", "spool", "quarantine", "samplers",
	}, s.life.stopped)
	require.NoError(t, s.Stop(), "a second stop does nothing")
}

// A part that uses up the grace period leaves the later ones the time to close what they have open.
func TestLaterStopsHaveTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l lifecycle
		began := time.Now()
		l.onStop("stuck", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		l.onStop("log", func(ctx context.Context) error { return ctx.Err() })
		l.onStop("exporter", func(ctx context.Context) error { <-ctx.Done(); return nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.EqualError(t, l.stop(ctx), "stopping stuck: context deadline exceeded")
		require.Equal(t, time.Second+afterGrace, time.Since(began))
	})
}

// A stop does not spend its time on tasks that must stay local while the bus is away: the intake, which stops first, would wait for them.
func TestAStopEndsTheWaitForTheBus(t *testing.T) {
	cfg := testConfig(t, nil, "edge")
	class := cfg.Writable.Classes["default"]
	class.NeverLeave, class.Operators = true, "deadband"
	cfg.Writable.Classes["default"] = class
	s := open(t, cfg, &bin{err: fmt.Errorf("connecting: %w", local.ErrAway)})
	s.Start()
	returned := make(chan error, 1)
	s.Submit([]*task.Event{event("pump", 1)}, func(_ int, err error) { returned <- err })
	var first error
	s.life.onStop("intake", func(ctx context.Context) error {
		select {
		case first = <-returned:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	require.NoError(t, s.Stop())
	require.ErrorIs(t, first, local.ErrAway)
	require.Empty(t, s.Counts().Dropped)
}

// The service stops under load, and starts again on the same spool. Every accepted event is there.
func TestStopUnderLoadLosesNothing(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	s := open(t, cfg, &bin{})
	s.Start()
	var taken atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := s.Receive(receive.Message{ContentType: "application/json", Payload: event(fmt.Sprint("d", caller), caller*1_000_000+n).Raw})
				if err == nil {
					taken.Add(1)
				}
			}
		})
	}
	eventually(t, time.Minute, "some hundred events are in", func() bool { return taken.Load() > 300 })
	start := time.Now()
	require.NoError(t, s.Stop())
	require.Less(t, time.Since(start), 8*time.Second)
	cancel()
	wg.Wait()

	again := open(t, cfg, &bin{})
	counts := again.Counts()
	require.Zero(t, counts.Balance)
	require.Equal(t, taken.Load(), counts.Spooled, "accepted before the stop, in the spool after the start")
	require.Equal(t, taken.Load(), counts.Accepted)
}

// A full spool: the class decides what happens, and the account shows it.
func TestFullSpool(t *testing.T) {
	for _, c := range []struct {
		onFull string
		check  func(*testing.T, status.Counts, int64)
	}{
		{"local", func(t *testing.T, c status.Counts, refused int64) { // done here, nothing refused
			require.Positive(t, c.Local)
			require.Zero(t, refused)
		}},
		{"refuse", func(t *testing.T, c status.Counts, refused int64) { // returned to the sender
			require.Positive(t, refused)
			require.Zero(t, c.Local)
			require.Empty(t, c.Dropped)
		}},
		{"dropOldest", func(t *testing.T, c status.Counts, refused int64) { // the oldest make room
			require.Positive(t, c.Dropped["full"])
			require.Zero(t, refused)
		}},
		{"dropLowestScore", func(t *testing.T, c status.Counts, refused int64) {
			require.Positive(t, c.Dropped["full"])
			require.Zero(t, refused)
		}},
	} {
		t.Run(c.onFull, func(t *testing.T) {
			cfg := testConfig(t, nil, "cloud")
			cfg.Spool.QuotaMiB = 16
			cfg.Writable.Policy.LinkDown, cfg.Writable.Policy.BacklogLimit = "deadline", 1
			class := cfg.Writable.Classes["default"]
			class.OnFull = c.onFull
			cfg.Writable.Classes["default"] = class
			s := open(t, cfg, &bin{})
			var refused atomic.Int64
			const events = 600
			var open sync.WaitGroup
			open.Add(events)
			for n := range events {
				ev := event("d", n)
				ev.Raw = append(ev.Raw, make([]byte, 32<<10)...)
				s.Submit([]*task.Event{ev}, func(_ int, err error) {
					defer open.Done()
					if err != nil {
						refused.Add(1)
						if !errors.Is(err, ErrRefused) {
							t.Errorf("refused with %v", err)
						}
					}
				})
			}
			open.Wait()
			counts := s.Counts()
			require.Zero(t, counts.Balance)
			require.Zero(t, counts.InFlight)
			require.EqualValues(t, events, counts.Accepted+refused.Load())
			c.check(t, counts, refused.Load())
			if by := s.Status().Spool.Dropped["default"]["full"]; c.onFull == "dropOldest" {
				require.EqualValues(t, counts.Dropped["full"], by, "by class as well")
			}
		})
	}
}

// A task that may drop others but finds only records that go before it is dropped itself. If it were refused, its event and all behind it would wait
// for room.
func TestTheLowestMakesRoomForAll(t *testing.T) {
	for _, how := range []string{"dropOldest", "dropLowestScore"} {
		cfg := testConfig(t, nil, "cloud")
		cfg.Spool.QuotaMiB = 16
		cfg.Writable.Policy.BacklogLimit = 1
		high := cfg.Writable.Classes["default"]
		high.OnFull = "refuse"
		low := high
		low.MatchDevice, low.Priority, low.OnFull = "low", 1, how
		cfg.Writable.Classes["default"], cfg.Writable.Classes["low"] = high, low
		s := open(t, cfg, &bin{})
		submit := func(device string, n int) (err error) {
			ev := event(device, n)
			ev.Raw = append(ev.Raw, make([]byte, 64<<10)...)
			var concluded sync.WaitGroup
			concluded.Add(1)
			s.Submit([]*task.Event{ev}, func(_ int, e error) { err = e; concluded.Done() })
			concluded.Wait()
			return err
		}
		n := 0
		for submit("high", n) == nil {
			n++
		}
		require.NoError(t, submit("low", n+1))
		c := s.Counts()
		require.EqualValues(t, 1, c.Dropped["full"])
		require.EqualValues(t, n, c.Spooled)
		require.Zero(t, c.Balance)
	}
}

// A task too large for any spool costs only itself, not the tasks that came with it, nor other parts of its event.
func TestTheTooLargeHarmsOnlyItself(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Spool.QuotaMiB = 16
	class := cfg.Writable.Classes["default"]
	class.Operators, class.ChunkSize = "none", 2000
	cfg.Writable.Classes["default"] = class
	s := open(t, cfg, &bin{})
	large, cut := event("d", 1), event("d", 3)
	value := "[1.5" + strings.Repeat(",1.5", 3*2000-1) + "]"
	cut.Raw = bytes.Replace(cut.Raw, []byte(`"value":"1.5"`), []byte(`"value":"`+value+`"`), 1)
	at, r := bytes.Index(cut.Raw, []byte(value)), &cut.Readings[0]
	r.Type, r.Value, r.Start, r.End = task.Float64Array, cut.Raw[at:at+len(value)], at, at+len(value)
	for _, ev := range []*task.Event{large, cut} { // the frame of a cut event has what no reading has
		ev.Raw = append(ev.Raw, make([]byte, 8<<20)...)
	}
	var concluded sync.WaitGroup
	concluded.Add(4)
	s.Submit([]*task.Event{event("d", 0), large, event("d", 2), cut}, func(_ int, err error) {
		defer concluded.Done()
		if err != nil {
			t.Errorf("refused: %v", err)
		}
	})
	concluded.Wait()
	require.Equal(t, status.Counts{Accepted: 7, Spooled: 5, Dropped: map[string]int64{ReasonTooLarge: 2}}, s.Counts())
}

// A change of the configuration is applied as a whole or not at all.
func TestReload(t *testing.T) {
	s := open(t, testConfig(t, nil, "edge"), &bin{})
	before := s.Status().Configuration.Version

	w := s.Config().Writable
	w.Policy.Default, w.Batch.MaxCount = "cloud", 0
	err := s.Reload(w)
	require.ErrorContains(t, err, "Batch.MaxCount")
	require.Equal(t, before, s.Status().Configuration.Version)
	require.Contains(t, s.Status().Configuration.Problem, "Batch.MaxCount")
	for key, q := range map[string]decide.Question{"dataSize": {SizeKB: -1}, "complexity": {Complexity: 101}, "deadline": {DeadlineMS: -1}, "oracle": {Policy: "oracle"}} {
		e, err := s.Advise(q)
		require.ErrorContains(t, err, key)
		require.Zero(t, e)
	}
	e, err := s.Advise(decide.Question{SizeKB: 1, Complexity: 1})
	require.NoError(t, err)
	require.Equal(t, "edge", e.Policy)

	w.Batch.MaxCount = 10
	require.NoError(t, s.Reload(w))
	require.NotEqual(t, before, s.Status().Configuration.Version)
	require.Empty(t, s.Status().Configuration.Problem)
	e, err = s.Advise(decide.Question{SizeKB: 1, Complexity: 1})
	require.NoError(t, err)
	require.Equal(t, "cloud", e.Policy)
}

// A message that cannot be parsed affects only itself: it is quarantined with its reason, and the next event is processed.
func TestRubbishIsSetAside(t *testing.T) {
	s := open(t, testConfig(t, nil, "edge"), &bin{})
	require.Error(t, s.Receive(receive.Message{Topic: "t", ContentType: "application/json", Payload: []byte(`{"event":`)}))
	require.Error(t, s.Receive(receive.Message{Topic: "t", ContentType: "image/png", Payload: []byte("x")}))
	require.NoError(t, s.Receive(receive.Message{Topic: "t", ContentType: "application/json", Payload: event("d", 1).Raw}))
	set := s.Quarantined()
	require.Len(t, set, 2)
	require.Equal(t, "unsupported_content_type", set[0].Reason)
	require.EqualValues(t, 1, s.Counts().Local)
}

// The service's own results that core-data's topic brings back are not processed again.
func TestOwnResultsAreNotEvents(t *testing.T) {
	s := open(t, testConfig(t, nil, "edge"), &bin{})
	require.NoError(t, s.Receive(receive.Message{Topic: "edgex/events/device/app-offload/P/d/S", ContentType: "application/json", Payload: event("d", 1).Raw}))
	require.Zero(t, s.Counts().Accepted)
}

// With the link down, work with a deadline is done locally, and the rest waits for the link in the spool.
func TestLinkDown(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	hurry := task.DefaultClassConfig()
	hurry.MatchDevice, hurry.Deadline = "hurry", "1s"
	cfg.Writable.Classes["hurry"] = hurry
	s := open(t, cfg, &bin{})
	for n, device := range []string{"hurry", "patience"} {
		require.NoError(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event(device, n).Raw}))
	}
	c := s.Counts()
	require.EqualValues(t, 1, c.Local)
	require.EqualValues(t, 1, c.Spooled)
	reasons := map[string]decision.Reason{}
	for _, e := range s.Decisions(10, nil) {
		reasons[e.Device] = e.Decision.Reason
	}
	require.Equal(t, decision.GuardLinkDown, reasons["hurry"])
	require.Equal(t, decision.Fixed, reasons["patience"])
}

// Failed local work is sent instead; if that is not possible it is dropped, counted, and not redelivered forever.
func TestLocalFailure(t *testing.T) {
	for name, neverLeave := range map[string]bool{"to the cloud": false, "dropped": true} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, nil, "edge")
			cfg.Local.Retries = 0
			class := cfg.Writable.Classes["default"]
			class.Operators, class.NeverLeave = "deadband band=0.1", neverLeave
			cfg.Writable.Classes["default"] = class
			s := open(t, cfg, &bin{err: errors.New("the bus is gone")})
			require.NoError(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event("d", 1).Raw}))
			c := s.Counts()
			require.Zero(t, c.Balance)
			if neverLeave {
				require.EqualValues(t, 1, c.Dropped[ReasonFailed])
			} else {
				require.EqualValues(t, 1, c.Spooled)
			}
		})
	}
}

// A crash loses nothing that was in the spool, and the account balances whatever its saved part contains.
func TestAccountSurvivesDamage(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	s := open(t, cfg, &bin{})
	require.NoError(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event("d", 1).Raw}))
	require.NoError(t, s.Stop())
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Spool.Directory, "ledger.json"), []byte("{torn"), 0o600))
	c := open(t, cfg, &bin{}).Counts()
	require.Zero(t, c.Balance)
	require.EqualValues(t, 1, c.Spooled)
}

// Data that no operator can compute on does not vanish as "processed locally": it is sent, unless its class forbids that.
func TestWhatNobodyComputesOnLeaves(t *testing.T) {
	text := event("d", 1)
	text.Readings[0].Type = task.String
	image := event("d", 2)
	image.Readings[0].Type = task.Blob
	for name, c := range map[string]struct {
		event *task.Event
		class task.ClassConfig
		local int64
	}{
		"a number":                      {event("d", 3), task.ClassConfig{}, 1},
		"a string":                      {text, task.ClassConfig{}, 0},
		"an image":                      {image, task.ClassConfig{}, 0},
		"an image whose size is wanted": {image, task.ClassConfig{Operators: "summary"}, 1},
		"without operators":             {event("d", 4), task.ClassConfig{Operators: "none"}, 0},
		"a string that must not leave":  {text, task.ClassConfig{NeverLeave: true}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, nil, "edge")
			cfg.Writable.Classes = map[string]task.ClassConfig{"default": c.class}
			s := open(t, cfg, &bin{})
			done := make(chan error, 1)
			s.Submit([]*task.Event{c.event}, func(_ int, err error) { done <- err })
			require.NoError(t, <-done)
			counts := s.Counts()
			require.Equal(t, [2]int64{c.local, 1 - c.local}, [2]int64{counts.Local, counts.Spooled})
		})
	}
}
