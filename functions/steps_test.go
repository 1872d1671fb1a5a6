package functions

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// durations lists every duration of the service that outlives a call, each with a begin that returns the look at it 8 s later, by a wall clock that
// stepped meanwhile. Durations of a single package are tested there.
var durations = map[string]func(t *testing.T, s *onFake) (look func()){
	"from a decision to its receipt": func(t *testing.T, s *onFake) func() {
		e := s.decided(t)
		return func() {
			s.receipted([]spool.Record{{Tag: e.ID}})
			s.requireOutcome(t, e.ID)
		}
	},
	"from a decision to its result": func(t *testing.T, s *onFake) func() {
		e := s.decided(t)
		return func() {
			s.feedback.Resulted(seal.Result{EventID: e.EventID, Chunk: e.Chunk, OK: true})
			s.requireOutcome(t, e.ID)
		}
	},
	"from a decision to the end of local work": func(t *testing.T, s *onFake) func() {
		e := s.decided(t)
		return func() {
			s.feedback.Done(&decide.Case{ID: e.ID})
			s.requireOutcome(t, e.ID)
		}
	},
	"from reception to a decision": func(t *testing.T, s *onFake) func() {
		one := s.task()
		return func() {
			state := s.state()
			e := decision.NewEntry(one, &score.Estimate{}, &state, decision.Decision{}, "cloud", "")
			require.InDelta(t, took, e.Waited, float64(10*time.Millisecond))
		}
	},
	"from reception to a deadline": func(t *testing.T, s *onFake) func() {
		one := s.task()
		return func() {
			state := s.state()
			require.InDelta(t, (one.Deadline - took).Seconds(), score.Slack(one, &state), 0.01)
			j := &job{Case: decide.Case{Task: one}}
			j.Estimate.LocalTime = one.Deadline.Seconds() // 8 s too much
			s.feedback.Stays([]*decide.Case{&j.Case}, &state)
			require.InDelta(t, took.Seconds(), s.feedback.Lateness(), 0.01)
		}
	},
	"of the prediction that work here is late": func(t *testing.T, s *onFake) func() {
		state := s.state()
		late := &job{Case: decide.Case{Task: s.task()}}
		late.Estimate.LocalTime = late.Task.Deadline.Seconds() + 5
		s.feedback.Stays([]*decide.Case{&late.Case}, &state)
		return func() {
			require.InDelta(t, 5, s.feedback.Lateness(), 0.01, "8 s are not 10 s")
			s.fake.Advance(10*time.Second - took + time.Second)
			require.Zero(t, s.feedback.Lateness())
		}
	},
	"of the wait of a parked task": func(t *testing.T, s *onFake) func() {
		binder := s.rules.Load().Binder()
		longest := binder.Room().Longest
		var parked policy.Waiting
		require.True(t, parked.Add(policy.Held{Task: s.task()}, binder.Room()))
		return func() {
			state := s.state()
			state.QueueCycles, state.Link.Up = 1e12, false // no server is free
			_, _, _, ok := parked.Next(binder, s.rules.Load().Model, &state)
			require.False(t, ok, "8 s are not %v", longest)
			s.fake.Advance(longest - took)
			state.Time = s.clock.Now()
			_, d, _, ok := parked.Next(binder, s.rules.Load().Model, &state)
			require.True(t, ok)
			require.Equal(t, decision.LongestWait, d.Reason)
		}
	},
	"of an outage": func(t *testing.T, s *onFake) func() {
		s.feedback.Link(true, s.clock.Time())
		s.feedback.Link(false, s.clock.Time())
		during := s.decided(t)
		return func() {
			s.feedback.Link(false, s.clock.Time())
			s.feedback.Link(true, s.clock.Time())
			s.fake.Advance(time.Millisecond)
			after := s.decided(t)
			latest := s.feedback.LastOutage()
			before, _ := s.feedback.Ring().Get(during.ID)
			next, _ := s.feedback.Ring().Get(after.ID)
			require.Less(t, before.Time, latest, "no policy learns from a task that waited out the outage")
			require.Greater(t, next.Time, latest, "and everybody from what came after it")
		}
	},
	"until a decision without an outcome is overdue": func(t *testing.T, s *onFake) func() {
		e := s.decided(t)
		require.True(t, s.feedback.Ring().Edit(e.ID, func(e *decision.Entry) { e.Arm = decision.Arm(1) }))
		overdue := func(age time.Duration) (n int) {
			s.feedback.Ring().Sweep(s.clock.Now()-int64(age), func(*decision.Entry) { n++ })
			return n
		}
		return func() {
			require.Zero(t, overdue(took+time.Second))
			require.Equal(t, 1, overdue(took-time.Second))
		}
	},
	"of the time to live": func(t *testing.T, s *onFake) func() {
		class := *s.rules.Load().Class("default")
		class.TTL = time.Minute
		one := s.task()
		one.Class = &class
		r := record(&job{Case: decide.Case{Task: one}}, one, []byte("x"))
		stored := make(chan error, 1)
		records := []spool.Record{r}
		s.spool.Append(records, func(err error) { stored <- err })
		require.NoError(t, <-stored)
		return func() {
			require.Equal(t, spool.FateHeld, s.spool.Fate(records[0].Seq))
			require.InDelta(t, took.Seconds(), s.Status().Spool.OldestAge, 0.2)
			s.fake.Advance(time.Minute)
			eventually(t, 10*time.Second, "it expires", func() bool { return s.spool.Fate(records[0].Seq) == spool.ReasonExpired })
		}
	},
	"between two log lines about dropped tasks": func(t *testing.T, s *onFake) func() {
		j := &job{Case: decide.Case{Task: s.task()}}
		s.logDropped(j.Task, errors.New("x"))
		said := s.dropLogged.Load()
		return func() {
			s.logDropped(j.Task, errors.New("x"))
			require.Equal(t, said, s.dropLogged.Load(), "8 s are not a minute")
			s.fake.Advance(dropLogEvery)
			s.logDropped(j.Task, errors.New("x"))
			require.Greater(t, s.dropLogged.Load(), said)
		}
	},
}

func TestNoStepOfTheClockFalsifiesADuration(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, step := range []time.Duration{0, time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, 30 * year, -30 * year} {
		for name, begin := range durations {
			t.Run(fmt.Sprintf("%s, step of %v", name, step), func(t *testing.T) {
				t.Parallel()
				s := openStepped(t)
				look := begin(t, s)
				s.fake.Advance(took / 2)
				s.fake.Step(step)
				s.fake.Advance(took / 2)
				look()
			})
		}
	}
}

// The API shows the time of day: a decision from before the clock was set shows its true age.
func TestAfterAStepTheTimesOfDecisionsAreTrue(t *testing.T) {
	s := openStepped(t)
	e := s.decided(t)
	s.fake.Advance(took)
	s.fake.Step(30 * 365 * 24 * time.Hour)
	shown, ok := s.Decision(e.ID)
	require.True(t, ok)
	require.Equal(t, s.fake.Wall().Add(-took).UnixNano(), shown.Time)
	require.Equal(t, shown.Time, s.Decisions(1, nil)[0].Time)
	s.decided(t)
	held := s.spool.Take(s.rules.Load().Class("default").Priority, "", spool.Live, 9, 1<<20, nil)
	last := held[len(held)-1]
	one, err := task.Decode(last.Payload)
	require.NoError(t, err)
	require.Equal(t, s.fake.Wall().UnixNano(), one.Received)
	require.Equal(t, one.Received, last.Time)
}

// onFake is a service whose clock the test controls; its link is down.
type onFake struct {
	*Service
	fake *clock.Fake
	sent int
}

// took is the duration of things in these tests.
const took = 8 * time.Second

func openStepped(t *testing.T) *onFake {
	t.Helper()
	fake := clock.NewFake(time.Date(1996, 1, 1, 0, 0, 0, 0, time.UTC)) // a gateway without a battery
	cfg := testConfig(t, nil, "cloud")
	cfg.Spool.QuotaMiB = 16
	s, err := New(cfg, Deps{Name: "app-offload", Log: testLog{t}, Secrets: noSecrets{}, Publisher: &bin{}, Clock: clock.New(fake)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop() })
	return &onFake{Service: s, fake: fake}
}

func (s *onFake) task() *task.Task {
	return &task.Task{EventID: "e", Of: 1, Received: s.clock.Now(), Deadline: time.Minute, Class: s.rules.Load().Class("default")}
}

func (s *onFake) state() (state host.State) {
	s.look(&state)
	return state
}

// decided makes a decision for the cloud, now.
func (s *onFake) decided(t *testing.T) decision.Entry {
	t.Helper()
	s.sent++
	ev := event("d", s.sent)
	ev.Received = s.clock.Now()
	stored := make(chan error, 1)
	s.Submit([]*task.Event{ev}, func(_ int, err error) { stored <- err })
	require.NoError(t, <-stored)
	return s.Decisions(1, nil)[0]
}

func (s *onFake) requireOutcome(t *testing.T, id uint64) {
	t.Helper()
	e, ok := s.feedback.Ring().Get(id)
	require.True(t, ok)
	require.True(t, e.Outcome.Known)
	require.InDelta(t, took.Seconds(), e.Outcome.Time, 0.01)
}
