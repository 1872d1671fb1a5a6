package functions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
	"app-offload/functions/decision"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// overloaded returns a service whose local worker and link both stand still, and whose tasks are 10 ms of work.
func overloaded(t *testing.T, policy string, edit func(*config.Config)) *narrow {
	cfg := lateConfig(t)
	cfg.Writable.Policy.Default = policy
	edit(&cfg)
	n := openNarrow(t, cfg)
	return n
}

// balances checks the account.
func (n *narrow) balances() {
	n.t.Helper()
	c := n.Counts()
	require.Zero(n.t, c.Balance, "%+v", c)
}

// flood submits events of as many devices, and checks the account after each.
func (n *narrow) flood(events int) {
	n.t.Helper()
	for range events {
		n.put(event(fmt.Sprint("flood-", n.seen), n.seen))
		n.balances()
	}
}

func byClass(cfg *config.Config, edit func(*task.ClassConfig)) {
	class := cfg.Writable.Classes["default"]
	edit(&class)
	cfg.Writable.Classes["default"] = class
}

// Only tasks that stay make local work late: the governor does not raise the frequency for a task that leaves.
func TestOnlyTasksThatStayMakeLocalWorkLate(t *testing.T) {
	for policy, late := range map[string]bool{"cloud": false, "edge": true} {
		n := overloaded(t, policy, func(c *config.Config) {
			byClass(c, func(k *task.ClassConfig) { k.Deadline = "1ms" })
		})
		n.put(event("one", 1))
		require.Equal(t, late, n.feedback.Lateness() > 0, policy)
	}
}

// Under every policy, tasks for which both paths lack time are dropped, counted with a reason and shown, and the account balances at each look and
// after a restart.
func TestOverloadIsDroppedAndCounted(t *testing.T) {
	for _, policy := range []string{"cost", "bandit", "deadline", "defer"} {
		t.Run(policy, func(t *testing.T) {
			var cfg config.Config
			n := overloaded(t, policy, func(c *config.Config) {
				byClass(c, func(k *task.ClassConfig) { k.Overload, k.Deadline = task.OverloadDrop, "1s" })
				cfg = *c
			})
			n.flood(60)
			dropped := n.Counts().Dropped["overload"]
			require.Positive(t, dropped)
			require.Less(t, dropped, int64(60), "what there is time for is done")
			found := n.Decisions(1, func(e *decision.Entry) bool { return e.Decision.Reason == decision.Overload })
			require.Len(t, found, 1)
			require.True(t, found[0].Outcome.Known)
			require.Contains(t, decision.Explain(found[0]), `Dropped: both paths are overloaded, and class "default" gives way; predicted local`)

			n.bus.tokens <- nil
			n.balances()
			require.NoError(t, n.bus.stop(n.Service))
			st := n.Status()
			dropped = st.Counts.Dropped["overload"] // with parked ones that were late
			require.EqualValues(t, dropped, st.Overload.Flows[0].Dropped)
			require.Equal(t, task.DefaultClass, st.Overload.Flows[0].Class)
			require.EqualValues(t, dropped, st.Drops.Unacknowledged)
			again := open(t, cfg, &bin{})
			require.Zero(t, again.Counts().Balance)
			require.Equal(t, dropped, again.Counts().Dropped["overload"])
		})
	}
}

// stop ends the service while its bus accepts all results.
func (b *bottleneck) stop(s *Service) error {
	ctx, cancel := context.WithCancel(context.Background())
	var giving sync.WaitGroup
	giving.Go(func() {
		for ctx.Err() == nil {
			select {
			case b.tokens <- nil:
			case <-ctx.Done():
			}
		}
	})
	defer giving.Wait()
	defer cancel()
	return s.Stop()
}

// By default no task is dropped, however long it takes.
func TestNothingIsShedByDefault(t *testing.T) {
	n := overloaded(t, "bandit", func(c *config.Config) { byClass(c, func(k *task.ClassConfig) { k.Deadline = "1s" }) })
	n.flood(60)
	require.Empty(t, n.Counts().Dropped)
	require.Empty(t, n.Status().Overload.Flows)
}

// A reduced task belongs to the class that defines the reduced work, and counts as local.
func TestOverloadIsReduced(t *testing.T) {
	n := overloaded(t, "edge", func(c *config.Config) {
		byClass(c, func(k *task.ClassConfig) { k.Overload, k.Deadline, k.ReducedClass = task.OverloadReduce, "1s", "small" })
		c.Writable.Classes["small"] = task.ClassConfig{Operators: "deadband band=0.1", Complexity: -1}
	})
	n.flood(40)
	for range 40 {
		n.bus.tokens <- nil
	}
	n.eventually("all is done", func() bool { return n.Counts().InFlight == 0 })
	found := n.Decisions(1, func(e *decision.Entry) bool { return e.Decision.Reason == decision.Reduced })
	require.Len(t, found, 1)
	require.Equal(t, "small", found[0].Class)
	require.Contains(t, decision.Explain(found[0]), `Local: both paths are overloaded, so it is processed in the reduced form, class "small"`)
	require.Positive(t, n.Status().Overload.Flows[0].Reduced)
}

// Parked tasks that no path can finish in time are dropped, and so are their records.
func TestParkedTasksExpireEarly(t *testing.T) {
	n := overloaded(t, "defer", func(c *config.Config) {
		byClass(c, func(k *task.ClassConfig) { k.Overload, k.Deadline = task.OverloadExpire, "2s" })
	})
	n.flood(6)
	require.Positive(t, n.Status().Undecided.Tasks, "%+v", n.Counts())
	eventually(t, 20*time.Second, "the parked tasks expire", func() bool {
		n.balances()
		return n.Status().Undecided.Tasks == 0
	})
	require.Positive(t, n.Counts().Dropped["tooLate"], "%+v", n.Counts())
	found := n.Decisions(10, func(e *decision.Entry) bool { return e.Decision.Reason == decision.TooLate })
	require.NotEmpty(t, found)
	require.Contains(t, decision.Explain(found[0]), "Dropped: neither path can finish it while its result is of use")
}

// Parked tasks of a class that drops are dropped once they are late, while more tasks arrive than can be done.
func TestLateParkedTasksMakeRoom(t *testing.T) {
	n := overloaded(t, "defer", func(c *config.Config) {
		byClass(c, func(k *task.ClassConfig) { k.Overload, k.Deadline = task.OverloadDrop, "100ms" })
	})
	most := int64(0)
	eventually(t, 20*time.Second, "parked tasks are dropped", func() bool {
		n.flood(1)
		parked := n.Status().Undecided.Tasks
		most = max(most, parked)
		return parked < most // none is served
	})
	dropped := n.Counts().Dropped
	require.Positive(t, dropped["overload"])
	require.Len(t, dropped, 1)
}

// The setting Overload of a class is live: a reload enables and disables it, without a restart.
func TestOverloadIsLive(t *testing.T) {
	n := overloaded(t, "cost", func(c *config.Config) { byClass(c, func(k *task.ClassConfig) { k.Deadline = "1s" }) })
	n.flood(30)
	require.Empty(t, n.Counts().Dropped)
	say := func(overload string) {
		cfg := n.Config()
		cfg.Writable.Classes = maps.Clone(cfg.Writable.Classes)
		byClass(&cfg, func(k *task.ClassConfig) { k.Overload = overload })
		require.NoError(t, n.Reload(cfg.Writable))
	}
	say(task.OverloadDrop)
	n.flood(10)
	dropped := n.Counts().Dropped["overload"]
	require.Positive(t, dropped)
	say(task.OverloadKeep)
	n.flood(10)
	require.Equal(t, dropped, n.Counts().Dropped["overload"])
	require.EqualValues(t, dropped, n.Status().Overload.Flows[0].Dropped, "what was counted stays")
}

// A split event is dropped as a whole or not at all: a part of it is useless to the cloud.
func TestAnEventIsGivenUpAsAWhole(t *testing.T) {
	n := overloaded(t, "cost", func(c *config.Config) {
		byClass(c, func(k *task.ClassConfig) { k.Overload, k.Deadline, k.ChunkSize = task.OverloadDrop, "600ms", 4 })
	})
	for i := range 30 {
		value := "[1.5" + strings.Repeat(",1.5", 31) + "]"
		ev := event(fmt.Sprint("cut-", i), i)
		ev.Raw = bytes.Replace(ev.Raw, []byte(`"value":"1.5"`), []byte(`"value":"`+value+`"`), 1)
		at := bytes.Index(ev.Raw, []byte(value))
		r := &ev.Readings[0]
		r.Type, r.Value, r.Start, r.End = task.Float64Array, ev.Raw[at:at+len(value)], at, at+len(value)
		var concluded atomic.Bool
		n.Submit([]*task.Event{ev}, func(_ int, err error) {
			if err != nil {
				t.Errorf("an event is refused: %v", err)
			}
			concluded.Store(true)
		})
		eventually(t, time.Minute, "it is durable or at work", func() bool {
			// The last chunk may be for the cloud, and queued behind an earlier one being processed locally.
			return concluded.Load() || slices.ContainsFunc(n.Decisions(9, nil), func(e decision.Entry) bool { return e.Decision.Target == decision.Local })
		})
	}
	n.balances()
	gone, all := map[string]int{}, map[string]int{}
	for _, e := range n.Decisions(1000, nil) {
		require.Equal(t, 9, e.Of)
		all[e.EventID]++
		if e.Decision.Reason.IsDrop() {
			gone[e.EventID]++
		}
	}
	require.Len(t, all, 30)
	require.NotEmpty(t, gone)
	require.Less(t, len(gone), 30)
	for id, tasks := range gone {
		require.Equal(t, 9, tasks, "of event %s", id)
	}
}

// reducing returns a service whose tasks are reduced, and wait for tokens of the bus.
func reducing(t *testing.T, more ...func(*config.Config)) *narrow {
	n := overloaded(t, "edge", func(c *config.Config) {
		byClass(c, func(k *task.ClassConfig) { k.Overload, k.Deadline, k.ReducedClass = task.OverloadReduce, "1s", "small" })
		c.Writable.Classes["small"] = task.ClassConfig{Operators: "deadband band=0.1", Complexity: -1, Priority: 1}
		for _, f := range more {
			f(c)
		}
	})
	for i := range 40 {
		n.Submit([]*task.Event{event(fmt.Sprint("flood-", i), i)}, func(int, error) {})
	}
	n.seen = 40
	return n
}

// A reduced task whose local work fails is sent with all of its data, so as a task of its own class, and in that class's order.
func TestAReducedTaskThatFailsLeavesUnderItsOwnClass(t *testing.T) {
	n := reducing(t)
	for range 40 {
		n.bus.tokens <- errors.New("the bus takes nothing")
	}
	var sent []spool.Record
	n.eventually("all of them leave", func() bool {
		sent = append(sent, n.sent()...)
		return len(sent) == 40
	})
	for _, r := range sent {
		one, err := task.Decode(r.Payload)
		require.NoError(t, err)
		require.Equal(t, []string{task.DefaultClass, task.DefaultClass}, []string{r.Class, one.Class.Name})
	}
	for _, e := range n.Decisions(40, nil) {
		require.Equal(t, decision.LocalFailed, e.Decision.Reason)
		require.Equal(t, task.DefaultClass, e.Class)
	}
	require.Zero(t, n.Status().Overload.Flows[0].Reduced, "none was processed in its reduced form")
}

// A task that must not leave is dropped if its reduced form fails; a reduced form that must not leave does not hold back data that may.
func TestTheOwnClassOfAReducedTaskSaysWhetherItMayLeave(t *testing.T) {
	n := reducing(t, func(c *config.Config) {
		small := c.Writable.Classes["small"]
		small.NeverLeave = true
		c.Writable.Classes["small"] = small
	})
	for range 40 {
		n.bus.tokens <- errors.New("the bus takes nothing")
	}
	sent := 0
	n.eventually("all of them leave", func() bool {
		sent += len(n.sent())
		return sent == 40
	})
	require.Empty(t, n.Counts().Dropped)
}

// Overload counts the final fate of tasks, so a task that is refused and retried counts once.
func TestATaskThatIsRefusedCountsForOverloadOnceItIsAccepted(t *testing.T) {
	n := reducing(t)
	require.NoError(t, n.Service.spool.Close())
	before := n.Counts().Accepted
	var refused atomic.Int32
	for i := range 41 {
		n.Submit([]*task.Event{event(fmt.Sprint("again-", i), n.seen+i)}, func(_ int, err error) {
			if errors.Is(err, ErrRefused) {
				refused.Add(1)
			}
		})
	}
	require.NotEmpty(t, n.Decisions(1, func(e *decision.Entry) bool { return e.Decision.Reason == decision.Reduced }))
	for range 81 {
		n.bus.tokens <- errors.New("the bus takes nothing")
	}
	n.eventually("they are refused", func() bool { return refused.Load() == 41 && n.Counts().InFlight == 0 })
	require.Equal(t, before, n.Counts().Accepted)
	require.Zero(t, n.Status().Overload.Flows[0].Effects)
}
