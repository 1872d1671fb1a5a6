package forward

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"testing/synctest"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/stretchr/testify/require"

	"app-offload/functions/local"
	"app-offload/functions/task"
)

type bin struct {
	results []local.Result
	err     error
}

func (b *bin) Publish(r local.Result) error {
	b.results = append(b.results, r)
	return b.err
}

func summary(value string) local.Result {
	e := dtos.NewEvent("P", "pump-1", "R_summary")
	e.Origin = 1750000000000000001
	e.Tags = dtos.Tags{"class": "c", "originEventId": "e-1"}
	e.Readings = []dtos.BaseReading{{Id: "random", ResourceName: "R_summary_mean", ValueType: "Float64", SimpleReading: dtos.SimpleReading{Value: value}}}
	return local.Result{Event: e, Profile: "P", Device: "pump-1", Source: "R_summary", Class: "c", CorrelationID: "c-1", Hop: 1}
}

// publish returns once the result is durable.
func publish(t *testing.T, p local.Publisher, r local.Result) error {
	ended := make(chan error, 1)
	r.Ending = local.NewEnding(func(err error) { ended <- err })
	err := p.Publish(r)
	r.Ending.Done(nil)
	require.NoError(t, <-ended)
	return err
}

func forwarder(results string, stored *[]*task.Task, full error) (*Forwarder, local.Publisher, *bin) {
	b := &bin{}
	classes := map[string]*task.Class{"c": {Name: "c", Priority: 7, OnFull: "local", Results: results, Largest: 2000}}
	f := &Forwarder{Bus: b, Class: func(name string) *task.Class { return classes[name] }, Now: func() int64 { return 5 }, Store: func(t *task.Task, done func(error)) error {
		if full == nil {
			*stored = append(*stored, t)
			done(nil)
		}
		return full
	}}
	return f, f.Named(f), b
}

// A result goes where its class says; a result that the spool rejects goes to the bus in any case.
func TestResultsGoWhereTheirClassSays(t *testing.T) {
	for _, c := range []struct {
		results     string
		full        error
		sent, onBus int
	}{
		{"", nil, 0, 1},
		{task.ResultsBus, nil, 0, 1},
		{task.ResultsCloud, nil, 1, 0},
		{task.ResultsBoth, nil, 1, 1},
		{task.ResultsCloud, errors.New("full"), 0, 1},
		{task.ResultsBoth, errors.New("full"), 0, 1},
	} {
		var stored []*task.Task
		f, p, b := forwarder(c.results, &stored, c.full)
		require.NoError(t, publish(t, p, summary("1.5")))
		require.Len(t, stored, c.sent, c.results)
		require.Len(t, b.results, c.onBus, c.results)
		require.EqualValues(t, c.sent, f.Counts().Sent)
		if c.full != nil {
			require.Equal(t, map[string]int64{"refused": 1, "large": 0, "lost": 0}, f.Counts().Unsent)
		}
	}
	f, p, b := forwarder(task.ResultsBoth, new([]*task.Task), nil)
	b.err = errors.New("no bus")
	require.ErrorIs(t, publish(t, p, summary("1.5")), b.err, "so that it is tried again")
	other := summary("1.5")
	other.Class = "gone"
	b.err = nil
	require.NoError(t, publish(t, p, other))
	require.EqualValues(t, 1, f.Counts().Sent)
	large := summary(string(make([]byte, 3000)))
	require.NoError(t, publish(t, p, large))
	require.Equal(t, map[string]int64{"large": 1, "refused": 0, "lost": 0}, f.Counts().Unsent)
}

// A result of a task does not wait for the disk, its task does. If the disk fails, a result that only the cloud should have goes to the bus.
func TestTheTaskWaitsForTheDisk(t *testing.T) {
	for _, c := range []struct {
		results             string
		full, disk, bus     error
		onBus, sent         int
		reported, published error
	}{
		{results: task.ResultsBoth, onBus: 1, sent: 1},
		{results: task.ResultsCloud, sent: 1},
		{results: task.ResultsBoth, disk: errors.New("disk"), onBus: 1},
		{results: task.ResultsCloud, disk: errors.New("disk"), onBus: 1},
		{results: task.ResultsCloud, disk: errors.New("disk"), bus: errAway, onBus: 1, reported: errAway},
		{results: task.ResultsCloud, full: errors.New("full"), onBus: 1},
		{results: task.ResultsCloud, full: errors.New("full"), bus: errAway, onBus: 1, published: errAway},
		{results: task.ResultsBoth, bus: errAway, onBus: 1, sent: 1, published: errAway},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, p, b := forwarder(c.results, nil, nil)
			b.err = c.bus
			var durable func(error)
			f.Store = func(_ *task.Task, done func(error)) error {
				durable = done
				return c.full
			}
			reports := 0
			r := summary("1.5")
			r.Ending = local.NewEnding(func(err error) {
				reports++
				require.Equal(t, c.reported, err)
			})
			require.Equal(t, c.published, p.Publish(r))
			require.Zero(t, reports)
			r.Ending.Done(nil) // the worker is done with the task
			if c.full == nil {
				require.Zero(t, reports, "the result is not durable yet")
				durable(c.disk)
			}
			synctest.Wait()
			require.Equal(t, 1, reports)
			require.Len(t, b.results, c.onBus)
			require.EqualValues(t, c.sent, f.Counts().Sent)
			lost := 0
			if c.reported != nil {
				lost = 1
			}
			require.Equal(t, map[string]int64{"refused": int64(1 - c.sent - lost), "lost": int64(lost), "large": 0}, f.Counts().Unsent)
		})
	}
}

var errAway = errors.New("no bus")

// A result that the bus did not accept is tried again there, not stored again: the bus may be away for hours, and each copy would go to the cloud.
func TestARetryIsForTheBusOnly(t *testing.T) {
	for _, c := range []struct {
		results string
		full    error
		stored  int
	}{{task.ResultsBoth, nil, 1}, {task.ResultsBoth, errors.New("full"), 0}, {task.ResultsCloud, errors.New("full"), 0}} {
		synctest.Test(t, func(t *testing.T) {
			var stored []*task.Task
			f, p, b := forwarder(c.results, &stored, c.full)
			b.err = errAway
			r := summary("1.5")
			r.Ending = local.NewEnding(func(err error) { require.NoError(t, err) })
			for range 3 {
				require.Equal(t, errAway, p.Publish(r))
			}
			b.err = nil
			require.NoError(t, p.Publish(r))
			r.Ending.Done(nil)
			synctest.Wait()
			require.Len(t, stored, c.stored)
			require.Len(t, b.results, 4)
			require.EqualValues(t, c.stored, f.Counts().Sent)
			require.EqualValues(t, 1-c.stored, f.Counts().Unsent["refused"])
		})
	}
}

// The task has a class of its own, names its source event, and is the same when it is created again.
func TestAResultMadeAgainIsTheSameTask(t *testing.T) {
	var stored []*task.Task
	_, p, b := forwarder(task.ResultsBoth, &stored, nil)
	for range 2 {
		require.NoError(t, publish(t, p, summary("1.5"))) // with other random ids each time
	}
	require.NoError(t, publish(t, p, summary("1.6")))
	require.Equal(t, stored[0], stored[1])
	require.NotEqual(t, stored[0].EventID, stored[2].EventID)
	require.Equal(t, b.results[0].Event.Id, stored[0].EventID, "as on the bus")
	provisional := summary("1.5")
	provisional.Event.Tags["provisional"] = "true"
	require.NoError(t, publish(t, p, provisional))
	require.NotEqual(t, stored[0].EventID, stored[3].EventID)
	one := stored[0]
	require.Equal(t, []any{"c-results", 7, "refuse", "c-1", Policy, "pump-1", "R_summary"},
		[]any{one.Class.Name, one.Class.Priority, one.Class.OnFull, one.CorrelationID, one.Policy, one.Device, one.Source})
	var e dtos.Event
	require.NoError(t, json.Unmarshal(one.Data, &e))
	require.Equal(t, "e-1", e.Tags["originEventId"])
	_, err := task.Decode(one.Append(nil))
	require.NoError(t, err)
}

// A result that cannot be encoded goes to the bus, and is counted as refused.
func TestAResultThatCannotBeEncoded(t *testing.T) {
	var stored []*task.Task
	f, p, b := forwarder(task.ResultsCloud, &stored, nil)
	r := summary("1")
	r.Event.Tags["nan"] = math.NaN()
	require.NoError(t, publish(t, p, r))
	require.Empty(t, stored)
	require.Len(t, b.results, 1)
	require.EqualValues(t, 1, f.Counts().Unsent["refused"])
}
