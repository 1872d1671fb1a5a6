package functions

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// The results of a class that sends them reach the cloud, each once for its source event, also if a crash causes that to be computed again; the
// account balances, and the results are not processed further.
func TestResultsLeaveAsTasksOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	c := testConfig(t, b, "edge")
	c.Local.Operators = "deadband band=0.01"
	class := c.Writable.Classes["default"]
	class.Results = task.ResultsBoth
	c.Writable.Classes = map[string]task.ClassConfig{"default": class, "default-results": {MatchDevice: "no-such-device", Priority: 8}}
	far := startCloud(t, b, "n1", nil)
	pub := &bin{}
	submit := func(s *Service) {
		done := make(chan error, 1)
		ev := event("pump-1", 1)
		ev.CorrelationID, ev.Origin = "c-1", 1750000000000000001
		ev.Readings[0].Origin = ev.Origin
		s.Submit([]*task.Event{ev}, func(_ int, err error) { done <- err })
		require.NoError(t, <-done)
		require.EqualValues(t, 1, s.Status().Results.Sent, "durable before the event is done")
	}
	for life := range 2 {
		s := open(t, c, pub)
		s.Start()
		submit(s)
		eventually(t, 10*time.Second, "the result is in the cloud", func() bool { return len(far.tasks()) == life+1 })
		eventually(t, 10*time.Second, "all is receipted", func() bool { return s.Status().Counts.Spooled == 0 })
		counts := s.Status().Counts
		require.Zero(t, counts.Balance)
		require.Zero(t, s.ledger.InFlight())
		require.EqualValues(t, []int64{int64(2 * (life + 1)), int64(life + 1), int64(life + 1)}, []int64{counts.Accepted, counts.Local, counts.Receipted})
		require.NoError(t, s.Stop())
	}
	got := far.tasks()
	require.Equal(t, "default-results", got[0].Class.Name)
	require.Equal(t, 8, got[0].Class.Priority)
	require.Equal(t, "c-1", got[0].CorrelationID)
	require.Equal(t, "R_deadband", got[0].Source)
	require.Contains(t, string(got[0].Data), "00000001-0000-4000-8000-00000000000")
	require.Equal(t, []any{got[0].EventID, string(got[0].Data)}, []any{got[1].EventID, string(got[1].Data)}, "the consumer stores one task")
	require.Len(t, pub.results, 2, "on the bus as well")
	require.Equal(t, got[0].EventID, pub.results[0].Event.Id)
}

// Results of different events share commits: neither a worker nor a model waits for the disk before it computes the next event.
func TestResultsShareCommits(t *testing.T) {
	t.Parallel()
	for name, model := range map[string]bool{"operators": false, "model": true} {
		t.Run(name, func(t *testing.T) {
			c := modelConfig(t, nil, "edge")
			c.Models.Pool.Workers, c.Models.Pool.QueueTasks, c.Local.Workers = 1, 1000, 1
			class := c.Writable.Classes["bearing"]
			class.Results = task.ResultsCloud
			if !model {
				class.Model, class.Operators = "", "burn each=0s"
			}
			c.Writable.Classes["bearing"] = class
			s := open(t, c, &bin{})
			s.Start()
			const events = 200
			all := make([]*task.Event, events)
			for i := range all {
				all[i] = event("pump-1", i+1)
				if all[i].Profile = "Bearing"; model {
					all[i] = bearing("pump-1", i+1, sure)
				}
			}
			done := make(chan error, events)
			s.Submit(all, func(_ int, err error) { done <- err })
			for range events {
				require.NoError(t, <-done)
			}
			require.EqualValues(t, events, s.Status().Results.Sent, "durable before their events are done")
			require.Less(t, s.spool.Stats().Commits, uint64(events/4))
			require.NoError(t, s.Stop())
			require.Zero(t, s.Status().Counts.Balance)
		})
	}
}

// A result that the bus rejects leaves for the cloud once, not once per attempt at the bus.
func TestARejectedResultIsSentOnce(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*task.ClassConfig){
		"model":     func(*task.ClassConfig) {},
		"operators": func(c *task.ClassConfig) { c.Model, c.Operators = "", "deadband band=0.01" },
	} {
		t.Run(name, func(t *testing.T) {
			c := modelConfig(t, nil, "edge")
			class := c.Writable.Classes["bearing"]
			class.Results = task.ResultsBoth
			change(&class)
			c.Writable.Classes["bearing"] = class
			bus := &bin{err: errors.New("broken pipe")}
			s := open(t, c, bus)
			require.NoError(t, submitOne(t, s, bearing("pump", 1, sure)))
			require.Greater(t, len(bus.all()), 1, "it is tried again")
			st := s.Status()
			require.EqualValues(t, 1, st.Results.Sent)
			require.EqualValues(t, 2, st.Counts.Spooled, "the result, and the event, which is not done locally")
		})
	}
}
