package feedback

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/config"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// jot records log lines.
type jot struct {
	mu    sync.Mutex
	lines []string
}

func (j *jot) add(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, a...))
}
func (j *jot) Debugf(string, ...any)          {}
func (j *jot) Infof(format string, a ...any)  { j.add(format, a...) }
func (j *jot) Warnf(format string, a ...any)  { j.add(format, a...) }
func (j *jot) Errorf(format string, a ...any) { j.add(format, a...) }

// open returns a Feedback under rules that default to policy cloud.
func open(t *testing.T, edits ...func(*policy.Config)) *Feedback {
	t.Helper()
	c := config.Default()
	c.Writable.Policy.Default = "cloud"
	for _, edit := range edits {
		edit(&c.Writable.Policy)
	}
	model, err := score.New(c.Writable.Score)
	require.NoError(t, err)
	rules, err := c.Rules(c.Writable, model, decide.Local{Reads: func(*task.Task) bool { return true }}, nil)
	require.NoError(t, err)
	f := New(Config{Decisions: 100, Rules: func() *decide.Rules { return rules }, Clock: (*clock.Clock)(nil).Or(), Log: &jot{}, Watts: func() float64 { return 0 }})
	require.NoError(t, f.OpenLearned(t.TempDir(), time.Hour))
	return f
}

// decided adds a current decision for the cloud.
func (f *Feedback) decided(edits ...func(*decision.Entry)) decision.Entry {
	e := decision.Entry{
		Time: f.clock.Now(), EventID: "e", Of: 1, Class: "default", Size: 100, Policy: "cloud", Version: f.rules().Version(),
		Decision: decision.Decision{Target: decision.Cloud, Propensity: 1, Reason: decision.CheaperCloud}, Estimate: score.Estimate{LocalTime: 1, CloudTime: 1},
	}
	for _, edit := range edits {
		edit(&e)
	}
	e.ID = f.Add(&e)
	return e
}

// A decision counted as overdue is not counted again, neither by a later sweep nor when the ring forgets it or its outcome arrives.
func TestAnOverdueDecisionCountsOnce(t *testing.T) {
	f := open(t, func(c *policy.Config) { c.Canary, c.CanaryShare = "edge", 0.9 })
	e := f.decided(func(e *decision.Entry) { e.Arm = decision.Incumbent })
	counted := func() uint64 {
		c, on := f.rules().Canary()
		require.True(t, on)
		return c.Canary.Outcomes + c.Incumbent.Outcomes
	}
	before := counted()
	now := f.clock.Now()
	require.True(t, f.ring.Edit(e.ID, func(e *decision.Entry) { f.overdue(e, now); f.overdue(e, now+1) }))
	require.Equal(t, before+1, counted())
	f.Sweep(f.clock.Time().Add(24 * time.Hour))
	f.Receipted([]spool.Record{{Tag: e.ID}})
	require.Equal(t, before+1, counted())
	require.NotNil(t, f.Status().Canary)
	require.Equal(t, f.Canary(), f.Status().Canary)
}

// The first outcome of a decision is written to the log, and a canary that it rolls back is reported.
func TestTheFirstOutcomeIsWritten(t *testing.T) {
	f, dir := open(t, func(c *policy.Config) { c.Canary, c.CanaryShare = "edge", 0.9 }), t.TempDir()
	_, err := f.OpenLog(dir, 1, 1)
	require.NoError(t, err)
	e := f.decided()
	f.Failed(e.ID)
	f.Failed(e.ID)
	f.Failed(e.ID + 1)
	require.NoError(t, f.CloseLog(t.Context()))
	require.EqualValues(t, 1, f.Status().DecisionLog.Written)
	log := f.logger.(*jot)
	require.Empty(t, log.lines)
	f.logRolledBack(f.rules(), "too slow")
	require.Len(t, log.lines, 1)
	require.Contains(t, log.lines[0], `policy=edge reason="too slow"`)
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
		f := open(t)
		r := f.rules()
		end := f.clock.Now()
		f.outage.latest.Store(end)
		e := decision.Entry{
			Time: end + int64(row.after), Class: "default", Size: 1000, Decision: decision.Decision{Target: row.target, Propensity: 1},
			Estimate: score.Estimate{CloudTime: 1, LocalTime: 1}, Outcome: decision.Outcome{Known: true, Time: 100},
		}
		e.State.Link.Up, e.State.Link.Goodput = true, 1e6
		_, was := r.Model.Correction(r.Class("default"))
		f.learn(r, &e)
		_, is := r.Model.Correction(r.Class("default"))
		require.Equal(t, row.learns, was != is, row.name)
	}
}

// The time of a task that was processed locally before it left is not that of its path to the cloud, and teaches nothing about it.
func TestWhatWasLocalFirstTeachesNothingOfTheCloud(t *testing.T) {
	for _, row := range []struct {
		why    decision.Reason
		learns bool
	}{{decision.HardExample, false}, {decision.LocalFailed, false}, {decision.JudgedHard, true}, {decision.CheaperCloud, true}} {
		f := open(t)
		r := f.rules()
		e := decision.Entry{
			Time: f.clock.Now(), Class: "default", Size: 1000, Decision: decision.Decision{Target: decision.Cloud, Propensity: 1, Reason: row.why},
			Estimate: score.Estimate{CloudTime: 1, LocalTime: 1}, Outcome: decision.Outcome{Known: true, Time: 100},
		}
		e.State.Link.Up, e.State.Link.Goodput = true, 1e6
		_, was := r.Model.Correction(r.Class("default"))
		f.learn(r, &e)
		_, is := r.Model.Correction(r.Class("default"))
		require.Equal(t, row.learns, was != is, row.why)
		require.Equal(t, row.learns, len(f.tally.prediction) > 0, row.why)
	}
}

// Tasks that waited out an outage say nothing about the next task.
func TestOutagesTeachNothing(t *testing.T) {
	f := open(t)
	before := f.decided()
	now := time.Now()
	for second := range 4 {
		f.Link(false, now.Add(time.Duration(second)*time.Second))
	}
	require.Zero(t, f.LastOutage(), "a short gap is of the link's nature")
	f.Link(true, now.Add(4*time.Second))
	for second := 5; second <= 10; second++ {
		f.Link(false, now.Add(time.Duration(second)*time.Second))
	}
	require.Equal(t, now.Add(10*time.Second).UnixNano(), f.LastOutage())
	model := f.rules().Model
	class := f.rules().Class("default")
	f.Receipted([]spool.Record{{Tag: before.ID}})
	e, _ := f.Get(before.ID)
	require.True(t, e.Outcome.Known)
	_, cloud := model.Correction(class)
	require.InDelta(t, 1, cloud, 0)
}

// Regret is the predicted extra cost of a decision, never negative: a good decision does not make up for a bad one.
func TestRegretIsNeverNegative(t *testing.T) {
	r, state := open(t).rules(), &host.State{Cores: 2}
	judge := r.Judge()
	one := &task.Task{Class: r.Class("default"), Of: 1, Deadline: time.Second}
	good := &decide.Case{Task: one, Estimate: score.Estimate{LocalTime: 0.001, CloudTime: 5}, Counted: decision.Local}
	bad := &decide.Case{Task: one, Estimate: good.Estimate, Counted: decision.Cloud}
	require.Zero(t, regretOf(judge, good, state))
	require.Positive(t, regretOf(judge, bad, state))
	require.False(t, math.IsInf(regretOf(judge, bad, state), 0))
}

// The times of a decision are shown as times of day, by the current wall clock.
func TestStampsAreShownByTheWallClock(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))
	f := open(t)
	f.clock = clock.New(fake)
	e := f.decided(func(e *decision.Entry) { e.State.Time = e.Time - 5 })
	at := fake.Wall().UnixNano()
	look := func() decision.Entry {
		one, ok := f.Get(e.ID)
		require.True(t, ok)
		list := f.Decisions(1, func(*decision.Entry) bool { return true })
		require.Equal(t, one.Time, list[0].Time)
		return one
	}
	require.InDelta(t, at, look().Time, 1e6)
	fake.Step(time.Hour)
	_ = f.clock.Now()
	require.InDelta(t, at+int64(time.Hour), look().Time, 1e6)
	require.EqualValues(t, 5, look().Time-look().State.Time)
}

// Only decisions of a trial can be overdue for it.
func TestDecisionsOutsideOfATrialAreNotOverdue(t *testing.T) {
	f := open(t, func(c *policy.Config) { c.Canary, c.CanaryShare = "edge", 0.9 })
	for arm, want := range map[decision.Arm]bool{decision.NoArm: false, decision.Incumbent: true, decision.Canary: true} {
		e := decision.Entry{Time: f.clock.Now(), Arm: arm, Class: "default"}
		f.overdue(&e, f.clock.Now())
		require.Equal(t, want, e.Overdue, "%v", arm)
	}
}
