package functions

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/score"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// A decision that was counted as overdue is not counted again, neither by a later sweep nor when the ring forgets it or its outcome comes.
func TestAnOverdueDecisionCountsOnce(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Writable.Policy.Canary, cfg.Writable.Policy.CanaryShare = "edge", 0.9
	s := open(t, cfg, &bin{})
	receive(t, s, "d", 1)
	e := s.Decisions(1, nil)[0]
	require.True(t, s.ring.Edit(e.ID, func(e *decision.Entry) {
		e.Arm, e.Outcome, e.Decision.Reason = decision.Arm(1), decision.Outcome{}, decision.CheaperCloud
	}))
	counted := func() uint64 {
		c, on := s.rules.Load().Canary()
		require.True(t, on)
		return uint64(c.Canary.Outcomes + c.Incumbent.Outcomes)
	}
	before := counted()
	now := s.clock.Now()
	require.True(t, s.ring.Edit(e.ID, func(e *decision.Entry) { s.overdue(e, now); s.overdue(e, now+1) }))
	require.Equal(t, before+1, counted())
	s.sweep(s.clock.Time().Add(24 * time.Hour))
	s.receipted([]spool.Record{{Tag: e.ID}})
	require.Equal(t, before+1, counted())
}

// A canary counts the outcomes of decisions as the service stamps them.
func TestTheCanaryCountsWhatTheServiceDecides(t *testing.T) {
	cfg := testConfig(t, nil, "edge")
	cfg.Writable.Policy.Canary, cfg.Writable.Policy.CanaryShare = "weighted", 0.9
	cfg.Writable.Policy.LinkDown = "deadline"
	s := open(t, cfg, &bin{})
	require.NoError(t, s.Reload(cfg.Writable))
	for n := range 20 {
		receive(t, s, fmt.Sprint("d", n), n)
	}
	eventually(t, 10*time.Second, "local outcomes count", func() bool {
		c, _ := s.rules.Load().Canary()
		return c.Canary.Outcomes+c.Incumbent.Outcomes > 0
	})
}

// No policy learns from tasks decided for the cloud before an outage ended; all learn from those decided after it or locally.
func TestWhatWaitedOutAnOutageTeachesNothing(t *testing.T) {
	for _, row := range []struct {
		name   string
		target decision.Target
		after  time.Duration // the decision, from the end of the outage on
		learns bool
	}{
		{"cloud, before", decision.Cloud, -time.Nanosecond, false},
		{"cloud, after", decision.Cloud, time.Nanosecond, true},
		{"cloud, at that moment", decision.Cloud, 0, true},
	} {
		s := open(t, testConfig(t, nil, "cloud"), &bin{})
		r := s.rules.Load()
		end := s.clock.Now()
		s.outage.latest.Store(end)
		e := decision.Entry{
			Time: end + int64(row.after), Class: "default", Size: 1000, Decision: decision.Decision{Target: row.target, Propensity: 1},
			Estimate: score.Estimate{CloudTime: 1, LocalTime: 1}, Outcome: decision.Outcome{Known: true, Time: 100},
		}
		e.State.Link.Up, e.State.Link.Goodput = true, 1e6
		_, was := r.Model.Correction(r.Class("default"))
		s.learn(r, &e)
		_, is := r.Model.Correction(r.Class("default"))
		require.Equal(t, row.learns, was != is, row.name)
	}
}

// Work that failed locally goes to the cloud once; where that fails as well, it is not tried locally again, however its class treats a full spool.
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

// Only a full spool drops for want of room: a broken one refuses, and the events stay with their owners.
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

// A task that is given up has an outcome: that no result will come.
func TestADroppedTaskHasAnOutcome(t *testing.T) {
	s := open(t, testConfig(t, nil, "cloud"), &bin{})
	receive(t, s, "d", 1)
	e := s.Decisions(1, nil)[0]
	concluded := make(chan error, 1)
	r := &run{rules: s.rules.Load(), open: make([]countdown, 1), done: func(_ int, err error) { concluded <- err }, over: func() {}}
	r.open[0].run = r
	r.open[0].left.Store(1)
	s.ledger.Enter(1)
	s.drop(&job{Case: decide.Case{Task: &task.Task{Class: r.rules.Class("default"), Of: 1}}, id: e.ID, event: &r.open[0]}, ReasonTooLarge)
	require.NoError(t, <-concluded)
	e, _ = s.Decision(e.ID)
	require.True(t, e.Outcome.Known && e.Outcome.Failed)
}

// Regret is what the decision is predicted to cost more, never less than nothing: a good decision makes up for no bad one.
func TestRegretIsNeverNegative(t *testing.T) {
	s := open(t, testConfig(t, nil, "cloud"), &bin{})
	judge, state := s.rules.Load().Judge(), s.host.State()
	one := &task.Task{Class: s.rules.Load().Class("default"), Of: 1, Deadline: time.Second}
	good := &job{Case: decide.Case{Task: one, Estimate: score.Estimate{LocalTime: 0.001, CloudTime: 5}}, counted: decision.Local}
	bad := &job{Case: decide.Case{Task: one, Estimate: good.Estimate}, counted: decision.Cloud}
	require.Zero(t, regretOf(judge, good, state))
	require.Positive(t, regretOf(judge, bad, state))
	require.False(t, math.IsInf(regretOf(judge, bad, state), 0))
}
