package functions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/receive"
	"app-offload/functions/spool"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// bottleneck is a MessageBus that takes one result for each token, so that the test controls the speed of local workers.
type bottleneck struct {
	tokens chan error
	bin
}

func (b *bottleneck) Publish(r local.Result) error {
	if err := <-b.tokens; err != nil {
		return err
	}
	return b.bin.Publish(r)
}

// narrow is a service whose node and link are two equally slow servers; the test controls them, and is the exporter as well.
type narrow struct {
	*Service
	t    *testing.T
	bus  *bottleneck
	up   atomic.Bool
	full atomic.Bool // the spool, as the guard sees it
	seen int         // events submitted
}

func lateConfig(t *testing.T) config.Config {
	cfg := testConfig(t, nil, "defer")
	cfg.Local.Workers, cfg.Local.Retries = 1, 0
	p, sc := &cfg.Writable.Policy, &cfg.Writable.Score
	p.DeferAhead, p.CostMoney, p.LinkDown = "0s", 0, "deadline"
	sc.EdgeMcycles, sc.CloudMcycles, sc.MinEdgeShare, sc.RTT, sc.Overhead, sc.HeaderBytes = 1, 1e9, 1, "0s", "0s", 0
	sc.McyclesPerKB = 0.024
	p.DeferRule = filepath.Join(t.TempDir(), "rule.json")
	f, err := os.Create(p.DeferRule)
	require.NoError(t, err)
	rule := policy.Rule{
		EdgePrice: 0.001, EdgeSquare: 0.001, LinkPrice: 0.001, LinkSquare: 0.001, Tail: 1, Postpone: 100, Doubt: 0.1, Caution: 1,
	}
	require.NoError(t, errors.Join(policy.WriteRule(f, rule, "test"), f.Close()))
	class := cfg.Writable.Classes["default"]
	class.Operators = "deadband band=0.1" // a result for each device
	cfg.Writable.Classes["default"] = class
	return cfg
}

func openNarrow(t *testing.T, cfg config.Config) *narrow {
	t.Helper()
	n := &narrow{t: t, bus: &bottleneck{tokens: make(chan error, 100)}}
	n.up.Store(true)
	n.Service = open(t, cfg, n.bus)
	n.link = func() host.Link {
		l := host.Link{Up: n.up.Load(), Goodput: 2000}
		if n.full.Load() {
			l.BacklogShare = 1
		}
		return l
	}
	t.Cleanup(func() { close(n.bus.tokens) }) // comes before the stop
	return n
}

// submit submits events of as many devices, each as a run of its own, and waits until the tasks to be sent or parked are durable.
func (n *narrow) submit(events int) {
	n.t.Helper()
	for range events {
		n.put(event(fmt.Sprint("late-", n.seen), n.seen))
	}
}

func (n *narrow) put(ev *task.Event) {
	n.t.Helper()
	var concluded atomic.Bool
	n.Submit([]*task.Event{ev}, func(_ int, err error) {
		if err != nil {
			n.t.Errorf("an event is refused: %v", err)
		}
		concluded.Store(true)
	})
	n.seen++
	eventually(n.t, time.Minute, "it is durable or at work", func() bool {
		d := n.Decisions(1, nil)[0].Decision
		return concluded.Load() || (d.Target == decision.Local && d.Reason != decision.Undecided)
	})
}

// sent takes the records to be sent, as the exporter does, and receipts them.
func (n *narrow) sent() (records []spool.Record) {
	for _, from := range []spool.Source{spool.Live, spool.Backlog} {
		records = n.Service.spool.Take(5, "", from, 100, 1<<20, records)
	}
	for i := range records {
		n.Service.spool.Done([]uint64{records[i].Seq})
	}
	n.receipted(records)
	return records
}

func (n *narrow) eventually(what string, ok func() bool) {
	n.t.Helper()
	eventually(n.t, time.Minute, what, func() bool {
		if c := n.Counts(); c.Balance != 0 {
			n.t.Errorf("the account is off by %d: %+v", c.Balance, c)
			return true
		}
		return ok()
	})
}

// waiting checks that finally that many tasks are parked.
func (n *narrow) waiting(tasks int64) {
	n.t.Helper()
	n.eventually(fmt.Sprint(tasks, " tasks wait undecided"), func() bool { return n.undecided() == tasks })
}

func (n *narrow) undecided() int64 { return n.Status().Undecided.Tasks }

// held returns how much of the spool the pool occupies.
func (n *narrow) held() int64 {
	return n.parker.(parking).Reserved()
}

// reasons counts all decisions by reason.
func (n *narrow) reasons() map[decision.Reason]int {
	count := map[decision.Reason]int{}
	for _, e := range n.Decisions(100, nil) {
		count[e.Decision.Reason]++
	}
	return count
}

// With node and link busy, tasks are parked, and their events are concluded. Each server that becomes free gets one of them, and in the end every
// task is done in one place and counted once.
func TestWhatWaitsIsBoundToWhoeverIsFree(t *testing.T) {
	n := openNarrow(t, lateConfig(t))
	n.submit(2)
	n.eventually("both servers are at work", func() bool {
		tasks, _ := n.local.Queue()
		records, _ := n.Service.spool.Ready()
		return tasks == 1 && records == 1 && n.undecided() == 0
	})
	n.submit(6)
	n.waiting(6)
	require.Positive(t, n.Status().Undecided.Bytes)
	c := n.Counts()
	require.EqualValues(t, 7, c.Spooled, "parked tasks are accepted and durable")
	require.EqualValues(t, 1, c.InFlight, "what is at work here and had not to wait for that is not accepted yet")
	before := n.reasons()
	records, bytes, _ := backlogView{n.Service.spool, n.parker.Held}.Fill()
	require.EqualValues(t, 1, records, "parked tasks do not count as ahead on the link")
	require.Less(t, bytes, int64(1000))
	waits := n.Decisions(1, nil)[0]
	require.Equal(t, decision.Undecided, waits.Decision.Reason)
	require.Contains(t, decision.Explain(waits), "Parked: ")

	require.Len(t, n.sent(), 1)
	n.eventually("one is bound for the link", func() bool { return n.reasons()[decision.BoundCloud] == before[decision.BoundCloud]+1 })
	n.waiting(5)
	n.bus.tokens <- nil
	n.eventually("one is bound for the node", func() bool { return n.reasons()[decision.BoundLocal] == before[decision.BoundLocal]+1 })
	n.waiting(4)
	n.bus.tokens <- nil
	n.eventually("it is done here", func() bool { return n.Counts().Local == 2 && n.undecided() == 3 })
	for range 10 {
		n.sent()
		n.bus.tokens <- nil
	}
	n.eventually("all is done", func() bool { n.sent(); c := n.Counts(); return c.Local+c.Receipted == 8 })
	require.Equal(t, status.Counts{Accepted: 8, Local: n.Counts().Local, Receipted: 8 - n.Counts().Local, Dropped: map[string]int64{}}, n.Counts())
	require.Empty(t, n.Status().Spool.Dropped)
	require.Zero(t, n.held()+n.Status().Undecided.Bytes)
	records, bytes = n.parker.Held()
	require.Zero(t, records+bytes)
	total := uint64(0)
	for _, d := range n.Status().Policies.Decided {
		total += d.Count
	}
	require.EqualValues(t, 8, total, "each decision counts once")
	for _, e := range n.Decisions(6, nil) {
		require.Contains(t, []decision.Reason{decision.BoundLocal, decision.BoundCloud}, e.Decision.Reason)
		require.True(t, e.Outcome.Known)
		require.Positive(t, e.Waited)
		require.Equal(t, e.Time, e.State.Time, "judged from when it was bound")
		require.Contains(t, decision.Explain(e), "parked for ")
		require.Equal(t, "defer", e.Policy)
	}
}

// The chunks of one burst do not all take the free path: each decision sees the earlier ones.
func TestABurstSeesItself(t *testing.T) {
	n := openNarrow(t, lateConfig(t))
	var events []*task.Event
	for i := range 10 {
		events = append(events, event(fmt.Sprint("burst-", i), i))
	}
	n.Submit(events, func(int, error) {})
	n.eventually("one is to be sent, one is at work here", func() bool {
		records, _ := n.Service.spool.Ready()
		tasks, _ := n.local.Queue()
		return records == 1 && tasks == 1
	})
	n.waiting(8)
	for range 10 {
		n.bus.tokens <- nil
	}
	n.eventually("all is done", func() bool { n.sent(); c := n.Counts(); return c.Local+c.Receipted == 10 })
}

// A full pool refuses: the task then continues as decided.
func TestAFullRoomDecidesAtOnce(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Writable.Policy.DeferTasks = 2
	n := openNarrow(t, cfg)
	n.submit(7)
	n.waiting(2)
	count := n.reasons()
	require.Equal(t, 2, count[decision.Undecided])
	require.Equal(t, 5, count[decision.CheaperCloud]+count[decision.CheaperLocal])
}

// Tasks for which the policy leaves no choice are not parked.
func TestWhoNeverWaits(t *testing.T) {
	cfg := lateConfig(t)
	own := cfg.Writable.Classes["default"]
	own.MatchDevice, own.NeverLeave = "late-2", true
	other := cfg.Writable.Classes["default"]
	other.MatchDevice, other.Policy = "late-3", "edge"
	none := cfg.Writable.Classes["default"]
	none.MatchDevice, none.Operators = "late-4", "none"
	cfg.Writable.Classes["own"], cfg.Writable.Classes["other"], cfg.Writable.Classes["none"] = own, other, none
	n := openNarrow(t, cfg)
	n.submit(5)
	n.waiting(0)
	n.submit(1)
	n.waiting(1)
}

// A parked task pins only its own memory: neither the other records of its commit, nor the event that it was cut from.
func TestWhatWaitsKeepsOnlyItself(t *testing.T) {
	cfg := lateConfig(t)
	bulk := cfg.Writable.Classes["default"]
	bulk.MatchDevice, bulk.Policy = "bulk-*", "cloud"
	cfg.Writable.Classes["bulk"] = bulk
	n := openNarrow(t, cfg)
	n.submit(2)
	before := heap()
	const runs = 200
	for i := range runs {
		events := []*task.Event{event(fmt.Sprint("late-", n.seen+i), n.seen+i)}
		for k := range 10 {
			events = append(events, padded(event(fmt.Sprint("bulk-", k), 1000*i+k)))
		}
		var concluded sync.WaitGroup
		concluded.Add(len(events))
		n.Submit(events, func(int, error) { concluded.Done() })
		concluded.Wait()
		for _, r := range n.Service.spool.Take(5, "bulk", spool.Live, 100, 10<<20, nil) {
			n.Service.spool.Done([]uint64{r.Seq})
		}
	}
	n.waiting(runs)
	require.Less(t, heap()-before, int64(20<<20))
}

func padded(ev *task.Event) *task.Event {
	ev.Raw = append(ev.Raw, make([]byte, 100<<10)...)
	return ev
}

// heap returns the heap in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A class may choose the policy for itself.
func TestAClassMayBindLate(t *testing.T) {
	cfg := lateConfig(t)
	class := cfg.Writable.Classes["default"]
	class.MatchDevice, class.Policy = "late-*", "defer"
	cfg.Writable.Policy.Default, cfg.Writable.Classes["own"] = "edge", class
	n := openNarrow(t, cfg)
	n.submit(4)
	n.waiting(2)
}

// A canary binds late for its share of the devices; the outcomes count for its arm.
func TestACanaryMayBindLate(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Writable.Policy.Default, cfg.Writable.Policy.Canary, cfg.Writable.Policy.CanaryShare = "cloud", "defer", 0.5
	n := openNarrow(t, cfg)
	n.submit(20)
	require.Positive(t, n.undecided())
	n.eventually("all is done", func() bool {
		n.sent()
		select {
		case n.bus.tokens <- nil:
		default:
		}
		c := n.Counts()
		return c.Local+c.Receipted == 20
	})
	c := n.Status().Policies.Canary
	require.EqualValues(t, 20, c.Canary.Outcomes+c.Incumbent.Outcomes)
	require.Positive(t, c.Canary.Outcomes)
}

// If local work fails on a task that was parked, the task is sent, unless its class now forbids that: then it is dropped and counted.
func TestABoundTaskThatFailsHereIsSent(t *testing.T) {
	for _, neverLeave := range []bool{false, true} {
		n := openNarrow(t, lateConfig(t))
		n.submit(3)
		n.waiting(1)
		n.bus.tokens <- nil
		n.waiting(0)
		n.stay(neverLeave)
		n.bus.tokens <- errors.New("the bus is gone")
		if neverLeave {
			n.eventually("it is dropped", func() bool { return n.Counts().Dropped[ReasonFailed] == 1 })
			require.Len(t, n.sent(), 1)
			require.Equal(t, status.Counts{Accepted: 3, Local: 1, Receipted: 1, Dropped: map[string]int64{ReasonFailed: 1}}, n.Counts())
		} else {
			n.eventually("it is sent", func() bool { return n.reasons()[decision.LocalFailed] == 1 })
			require.Len(t, n.sent(), 2)
			require.Equal(t, status.Counts{Accepted: 3, Local: 1, Receipted: 2, Dropped: map[string]int64{}}, n.Counts())
		}
		require.Zero(t, n.held())
	}
}

// stay makes the default class one that never leaves, or one without a choice of policy.
func (n *narrow) stay(neverLeave bool) {
	n.t.Helper()
	w := n.Config().Writable
	w.Classes = maps.Clone(w.Classes)
	class := w.Classes["default"]
	class.NeverLeave = neverLeave
	w.Classes["default"], w.Policy.Default = class, "edge"
	require.NoError(n.t, n.Reload(w))
}

// Workers that stop release the tasks bound to them, as the pool releases parked tasks. Tasks that must not leave stay in the spool.
func TestAStopOfTheWorkersSendsWhatIsBound(t *testing.T) {
	for _, neverLeave := range []bool{false, true} {
		cfg := lateConfig(t)
		n := openNarrow(t, cfg)
		n.submit(5)
		n.waiting(3)
		n.stay(neverLeave)
		n.eventually("all are bound", func() bool { tasks, _ := n.local.Queue(); return tasks == 4 && n.undecided() == 0 })
		ended, end := context.WithCancel(t.Context())
		end()
		require.Error(t, n.local.Close(ended))
		n.bus.tokens <- nil
		n.eventually("the workers have stopped", func() bool { tasks, _ := n.local.Queue(); return tasks == 0 })
		kept := int64(0)
		if neverLeave {
			kept = 3
		} else {
			n.eventually("they are let go", func() bool { return n.reasons()[decision.LetGo] == 3 })
		}
		require.Len(t, n.sent(), int(4-kept))
		require.Equal(t, status.Counts{Accepted: 5, Local: 1, Receipted: 4 - kept, Spooled: kept, Dropped: map[string]int64{}}, n.Counts())
		require.NoError(t, n.Stop())
		require.Equal(t, kept, open(t, cfg, &bin{}).Counts().Spooled, "it is held no longer than that")
	}
}

// A stop does not wait for room in the workers' queue either.
func TestAStopLetsGoOfWhatWaitsForTheQueue(t *testing.T) {
	for _, neverLeave := range []bool{false, true} {
		cfg := lateConfig(t)
		cfg.Local.QueueTasks = 1
		n := openNarrow(t, cfg)
		n.submit(6)
		n.waiting(4)
		n.stay(neverLeave)
		n.eventually("all are bound", func() bool { return n.reasons()[decision.Undecided] == 0 })
		n.bus.tokens <- nil
		n.eventually("only such as waited are at work", func() bool { return n.Counts().Local == 1 })
		n.waiting(2) // for room in the queue
		stopped := make(chan error)
		go func() { stopped <- n.Stop() }()
		if !neverLeave {
			n.eventually("they are let go", func() bool { return n.reasons()[decision.LetGo] == 2 })
		}
		n.waiting(0)
		for range 2 {
			n.bus.tokens <- nil
		}
		require.NoError(t, <-stopped)
		if neverLeave {
			require.Zero(t, n.reasons()[decision.LetGo])
		}
		require.Equal(t, status.Counts{Accepted: 6, Local: 3, Spooled: 3, Dropped: map[string]int64{}}, open(t, cfg, &bin{}).Counts())
	}
}

// A full local queue does not delay tasks that wait for the link, or that have waited long enough.
func TestAFullQueueHoldsUpNobodyElse(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Local.QueueTasks, cfg.Writable.Policy.DeferLongest = 1, "2s"
	own := cfg.Writable.Classes["default"]
	own.MatchDevice, own.Policy = "late-9", "defer"
	cfg.Writable.Classes["own"] = own
	n := openNarrow(t, cfg)
	n.submit(10)
	n.waiting(8)
	w := n.Config().Writable
	w.Policy.Default = "edge"
	require.NoError(t, n.Reload(w))
	n.eventually("who has waited longest leaves", func() bool { return n.reasons()[decision.LongestWait] == 1 })
	require.EqualValues(t, 6, n.undecided(), "of those for the node one has room")
	for range 10 {
		n.bus.tokens <- nil
	}
	n.eventually("all is done", func() bool { n.sent(); c := n.Counts(); return c.Local+c.Receipted == 10 })
	require.EqualValues(t, 8, n.Counts().Local)
}

// The guards override waiting: a task that the guards would keep local if it arrived after the link went down does not wait for the link.
func TestWhoWaitsIsGuardedWhenTheLinkFalls(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Writable.Policy.DeferLongest = "1h"
	class := cfg.Writable.Classes["default"]
	class.Deadline = "30s"
	cfg.Writable.Classes["default"] = class
	n := openNarrow(t, cfg)
	n.submit(6)
	n.waiting(4)
	n.up.Store(false)
	n.submit(1)
	n.waiting(5) // for the node: in its queue they would have to stay even when the link is back
	for done := range int64(6) {
		n.bus.tokens <- nil
		n.eventually("the node does one after the other", func() bool { return n.Counts().Local == done+1 })
		n.waiting(max(4-done, 0))
	}
}

// Age does not override the guards either.
func TestWhoHasWaitedLongestIsGuarded(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Writable.Policy.DeferLongest = "1s"
	n := openNarrow(t, cfg)
	n.submit(6)
	n.full.Store(true)
	n.waiting(0)
	count := n.reasons()
	require.Zero(t, count[decision.LongestWait])
	require.Equal(t, 4, count[decision.GuardBacklog])
}

// After a reload each parked task sees where earlier ones have gone.
func TestAReloadDoesNotSendAllOneWay(t *testing.T) {
	n := openNarrow(t, lateConfig(t))
	n.submit(22)
	n.waiting(20)
	before := n.reasons()
	w := n.Config().Writable
	w.Policy.Default = "cost"
	require.NoError(t, n.Reload(w))
	n.eventually("no task is parked", func() bool { return n.undecided() == 0 })
	after := n.reasons()
	here := after[decision.CheaperLocal] - before[decision.CheaperLocal] + after[decision.Dominated] - before[decision.Dominated]
	there := after[decision.CheaperCloud] - before[decision.CheaperCloud]
	require.Equal(t, 20, here+there)
	require.Greater(t, min(here, there), 4)
}

// Parked tasks cannot be dropped, so they may fill only a part of the spool; a task that finds no room is decided on arrival.
func TestWhatWaitsFillsAPartOfTheSpool(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Spool.QuotaMiB, cfg.Writable.Policy.BacklogLimit = 16, 1
	n := openNarrow(t, cfg)
	for range 60 {
		n.put(padded(event(fmt.Sprint("late-", n.seen), n.seen)))
	}
	st := n.Service.spool.Stats()
	_, recorded := n.parker.Held()
	require.LessOrEqual(t, recorded, st.Limit/parkedShare)
	require.Greater(t, recorded, st.Limit/parkedShare-(200<<10))
	require.Less(t, n.undecided(), int64(50))
	w := n.Config().Writable
	w.Policy.Default = "cloud"
	require.NoError(t, n.Reload(w))
	n.waiting(0)
	require.Zero(t, n.held())
}

// fill leaves no room in the spool.
func (n *narrow) fill() {
	for size := 1 << 20; size > 0; size /= 4 {
		for err := error(nil); err == nil; {
			stored := make(chan error, 1)
			n.Service.spool.Append([]spool.Record{{Lane: 9, Class: "filler", OnFull: spool.Refuse, Payload: make([]byte, size)}}, func(err error) { stored <- err })
			err = <-stored
		}
	}
}

// A task that was to be parked behind a refused one is refused with it, and takes no place.
func TestWhatFollowsARefusedTaskIsNotParked(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Spool.QuotaMiB, cfg.Writable.Policy.DeferOrder = 16, true
	class := cfg.Writable.Classes["default"]
	class.OnFull = spool.Refuse
	cfg.Writable.Classes["default"] = class
	n := openNarrow(t, cfg)
	n.submit(2)
	n.waiting(0)
	n.fill()
	errs := make(chan error, 2)
	n.Submit([]*task.Event{large("a", 10, 5000), event("a", 11)}, func(_ int, err error) { errs <- err })
	require.ErrorIs(t, <-errs, ErrRefused)
	require.ErrorIs(t, <-errs, ErrRefused)
	require.Zero(t, n.undecided())
	require.Zero(t, n.held())
	total := uint64(0)
	for _, d := range n.Status().Policies.Decided {
		total += d.Count
	}
	require.EqualValues(t, 2, total)
}

// Tasks that were to be parked, and for which the full spool has no room, go where their policy would have sent them, each decided and counted once.
func TestWhatAFullSpoolCannotParkGoesOn(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Spool.QuotaMiB = 16
	n := openNarrow(t, cfg)
	n.submit(2)
	n.waiting(0)
	n.fill()
	for i := range 6 { // two of each device, which keep their order
		n.Submit([]*task.Event{event(fmt.Sprint("more-", i/2), 10+i)}, func(_ int, err error) { require.NoError(t, err) })
	}
	require.Zero(t, n.undecided())
	require.Zero(t, n.held())
	for range 7 {
		n.bus.tokens <- nil
	}
	eventually(t, time.Minute, "they are done here", func() bool { return n.Service.ledger.Saved().Local == 7 })
	require.Zero(t, n.reasons()[decision.Undecided], "%v", n.reasons())
	total := uint64(0)
	for _, d := range n.Status().Policies.Decided {
		total += d.Count
	}
	require.EqualValues(t, 8, total)
}

// When no policy of a new configuration binds late, parked tasks are decided by that configuration.
func TestReloadLeavesNobodyWaiting(t *testing.T) {
	for _, name := range []string{"cloud", "edge"} {
		n := openNarrow(t, lateConfig(t))
		n.submit(5)
		n.waiting(3)
		w := n.Config().Writable
		w.Policy.Default = name
		require.NoError(t, n.Reload(w))
		n.eventually("no task is parked", func() bool { return n.undecided() == 0 })
		for range 5 {
			n.bus.tokens <- nil
		}
		n.eventually("all is done", func() bool { n.sent(); c := n.Counts(); return c.Local+c.Receipted == 5 })
		want := map[string]int64{"cloud": 1, "edge": 4}[name]
		require.Equal(t, want, n.Counts().Local)
	}
}

// A reload that does not change late binding leaves tasks parked, and a smaller room does not lose the tasks that no longer fit.
func TestReloadMayShrinkTheRoom(t *testing.T) {
	n := openNarrow(t, lateConfig(t))
	n.submit(7)
	n.waiting(5)
	w := n.Config().Writable
	w.Policy.DeferTasks = 3
	require.NoError(t, n.Reload(w))
	n.eventually("three wait on", func() bool { return n.undecided() == 3 })
	require.EqualValues(t, 7, n.Counts().Accepted+n.Counts().InFlight)
}

// No task stays parked forever, even without a link.
func TestWithoutALinkTheLongestWaitEnds(t *testing.T) {
	cfg := lateConfig(t)
	cfg.Writable.Policy.DeferLongest = "1s"
	n := openNarrow(t, cfg)
	n.submit(2)
	n.up.Store(false)
	n.submit(2)
	n.waiting(2)
	n.eventually("they are in the spool like all else", func() bool { return n.undecided() == 0 })
	require.Equal(t, 2, n.reasons()[decision.LongestWait])
	require.Len(t, n.sent(), 3)
}

// A stop releases parked tasks, which are durable; the next start sends them. So does a start after a crash, which releases none.
func TestWhatWaitsSurvivesStopAndCrash(t *testing.T) {
	cfg := lateConfig(t)
	n := openNarrow(t, cfg)
	n.submit(6)
	n.waiting(4)
	crashed := filepath.Join(t.TempDir(), "spool")
	require.NoError(t, os.CopyFS(crashed, os.DirFS(cfg.Spool.Directory))) // as kill -9 leaves it
	n.bus.tokens <- nil
	n.bus.tokens <- nil
	n.eventually("one that waited is done here", func() bool { return n.Counts().Local == 2 })
	n.waiting(2)
	stopped := make(chan error)
	go func() { stopped <- n.Stop() }()
	n.eventually("parked tasks are released while the workers still work", func() bool { return n.reasons()[decision.LetGo] == 2 })
	n.bus.tokens <- nil
	require.NoError(t, <-stopped)
	records, _ := n.parker.Held()
	require.Zero(t, records)

	for dir, want := range map[string]status.Counts{
		cfg.Spool.Directory: {Accepted: 6, Local: n.Counts().Local, Spooled: 6 - n.Counts().Local},
		crashed:             {Accepted: 5, Spooled: 5}, // the one at work here was not accepted yet
	} {
		cfg.Spool.Directory = dir
		b := startBroker(t)
		c := startCloud(t, b, "n1", nil)
		cfg.Export.Broker = "tcp://" + b.addr
		again := open(t, cfg, &bin{})
		want.Dropped = map[string]int64{}
		require.Equal(t, want, again.Counts())
		again.Start()
		eventually(t, time.Minute, "all of it is sent", func() bool { return again.Counts().Receipted == want.Spooled })
		require.Len(t, c.tasks(), int(want.Spooled))
		require.Zero(t, again.Counts().Balance)
		require.NoError(t, again.Stop())
	}
}

// Late binding end to end over a broker, with many callers: the consumer receives each task that was not done locally, once.
func TestLateBindingLosesNothing(t *testing.T) {
	const callers, each = 8, 150
	b := startBroker(t)
	c := startCloud(t, b, "n1", nil)
	cfg := lateConfig(t)
	cfg.Export.Broker, cfg.Local.Workers = "tcp://"+b.addr, 2
	cfg.Writable.Score.EdgeMcycles, cfg.Writable.Policy.DeferTasks, cfg.Writable.Policy.Decisions = 100, 300, 10_000
	s := open(t, cfg, &bin{})
	s.Start()
	eventually(t, time.Minute, "the link is up", func() bool { return s.host.State().Link.Up })
	var flow sync.WaitGroup
	for caller := range callers {
		flow.Go(func() {
			for i := range each {
				id := caller*each + i
				if err := s.Receive(receive.Message{ContentType: "application/json", Payload: event(fmt.Sprint("many-", id), id).Raw}); err != nil {
					t.Errorf("event refused: %v", err)
				}
			}
		})
	}
	eventually(t, 2*time.Minute, "all is done", func() bool {
		n := s.Counts()
		if n.Balance != 0 {
			t.Errorf("the account is off: %+v", n)
		}
		return n.Local+n.Receipted == callers*each
	})
	flow.Wait()
	n := s.Counts()
	require.Len(t, c.tasks(), int(n.Receipted))
	require.Zero(t, c.doubled)
	require.Zero(t, s.Status().Undecided.Tasks)
	st := s.spool.Stats()
	t.Logf("%+v; of those here %d had waited", n, st.Dropped[spool.ReasonHere])
	require.Positive(t, st.Dropped[spool.ReasonHere])
	require.Zero(t, st.Leased)
}

// Every policy sees the spool's current backlog for the link, whether tasks may be parked or not: neither the records that await a receipt, nor the
// link's count of half a second ago.
func TestEveryPolicySeesTheSameFreshLink(t *testing.T) {
	n := openNarrow(t, lateConfig(t))
	n.link = func() host.Link {
		return host.Link{Up: true, Goodput: 2000, RTT: 0.5, InflightBytes: 3000, BacklogTasks: 7, BacklogBytes: 7000, BacklogShare: 0.1}
	}
	stored := make(chan error)
	n.Service.spool.Append([]spool.Record{{Payload: make([]byte, 100)}, {Payload: make([]byte, 100)}}, func(err error) { stored <- err })
	require.NoError(t, <-stored)
	require.Len(t, n.Service.spool.Take(0, "", spool.Live, 1, 1<<20, nil), 1)
	var s host.State
	n.look(&s)
	require.Equal(t, host.Link{
		Up: true, Goodput: 2000, RTT: 0.5, InflightBytes: 3000, BacklogTasks: 1, BacklogBytes: 156, BacklogShare: 0.1,
	}, s.Link)
}
