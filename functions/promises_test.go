package functions

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// A canary counts the outcomes of decisions as the service stamps them.
func TestTheCanaryCountsWhatTheServiceDecides(t *testing.T) {
	cfg := testConfig(t, nil, "edge")
	cfg.Writable.Policy.Canary, cfg.Writable.Policy.CanaryShare = "weighted", 0.9
	cfg.Writable.Policy.LinkDown = "deadline"
	s := open(t, cfg, &bin{})
	require.NoError(t, s.Reload(cfg.Writable))
	for n := range 20 {
		takeIn(t, s, fmt.Sprint("d", n), n)
	}
	eventually(t, 10*time.Second, "local outcomes count", func() bool {
		c, _ := s.rules.Load().Canary()
		return c.Canary.Outcomes+c.Incumbent.Outcomes > 0
	})
}

// Failed local work goes to the cloud once; if that fails as well, it is not tried locally again, however its class treats a full spool.
func TestAFailedTaskIsTriedEachWayOnce(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Spool.QuotaMiB = 16
	class := cfg.Writable.Classes["default"]
	class.OnFull = spool.Local
	cfg.Writable.Classes["default"] = class
	s := open(t, cfg, &bin{})
	ev := event("d", 1)
	concluded := make(chan error, 1)
	r := &run{events: []*task.Event{ev}, rules: s.rules.Load(), open: make([]countdown, 1), done: func(_ int, err error) { concluded <- err }, over: func() {}}
	r.open[0].run = r
	r.open[0].left.Store(1)
	tasks := task.Split(ev, func(string) *task.Class { return r.rules.Class("default") }, nil)
	j := &job{Case: decide.Case{Task: tasks[0]}, event: &r.open[0], state: resending}
	s.ledger.Enter(1)
	s.divert([]*job{j}, spool.ErrFull)
	require.ErrorIs(t, <-concluded, ErrRefused, "it was tried locally before")
	require.Zero(t, s.Counts().InFlight)
	require.Zero(t, s.local.Counts().Failed)
}

// Only a full spool drops for lack of room: a failing one refuses, and the events stay with their owners.
func TestABrokenSpoolRefusesAndDropsNothing(t *testing.T) {
	for _, how := range []string{spool.DropOldest, spool.DropLowestScore, spool.Refuse} {
		cfg := testConfig(t, nil, "cloud")
		class := cfg.Writable.Classes["default"]
		class.OnFull = how
		cfg.Writable.Classes["default"] = class
		s := open(t, cfg, &bin{})
		concluded := make(chan error, 1)
		r := &run{rules: s.rules.Load(), open: make([]countdown, 1), done: func(_ int, err error) { concluded <- err }, over: func() {}}
		r.open[0].run = r
		r.open[0].left.Store(1)
		s.ledger.Enter(1)
		s.divert([]*job{{Case: decide.Case{Task: &task.Task{Class: r.rules.Class("default"), Of: 1}}, event: &r.open[0], state: sending}}, errors.New("input/output error"))
		require.ErrorIs(t, <-concluded, ErrRefused, how)
		require.Empty(t, s.Counts().Dropped, how)
		require.Zero(t, s.Counts().Balance)
	}
}

// A dropped task has an outcome: no result.
func TestADroppedTaskHasAnOutcome(t *testing.T) {
	s := open(t, testConfig(t, nil, "cloud"), &bin{})
	takeIn(t, s, "d", 1)
	e := s.Decisions(1, nil)[0]
	concluded := make(chan error, 1)
	r := &run{rules: s.rules.Load(), open: make([]countdown, 1), done: func(_ int, err error) { concluded <- err }, over: func() {}}
	r.open[0].run = r
	r.open[0].left.Store(1)
	s.ledger.Enter(1)
	s.drop(&job{Case: decide.Case{ID: e.ID, Task: &task.Task{Class: r.rules.Class("default"), Of: 1}}, event: &r.open[0]}, ReasonTooLarge)
	require.NoError(t, <-concluded)
	e, _ = s.Decision(e.ID)
	require.True(t, e.Outcome.Known && e.Outcome.Failed)
}
