package functions

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/answer"
	"app-offload/functions/config"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/infer"
	"app-offload/functions/infer/modeltest"
	"app-offload/functions/local"
	"app-offload/functions/task"
)

// modelConfig is a node with version 1 of model bearing, and a class that names it.
func modelConfig(t *testing.T, b *broker, policy string) config.Config {
	c := testConfig(t, b, policy)
	c.Models.Directory = t.TempDir()
	modeltest.Put(t, c.Models.Directory, "bearing", "1", modeltest.Two(t, 0))
	class := task.DefaultClassConfig()
	class.MatchProfile, class.Model, class.Operators, class.Deadline = "Bearing", "bearing", "none", "2s"
	c.Writable.Classes = map[string]task.ClassConfig{"bearing": class}
	return c
}

// bearing is an event of one array.
func bearing(device string, n int, values string) *task.Event {
	head := fmt.Sprintf(`{"apiVersion":"v3","id":"%08d-0000-4000-8000-%012d","deviceName":%q,"profileName":"Bearing","sourceName":"Vibration",`+
		`"origin":%d,"readings":[{"id":"x","origin":%d,"deviceName":%q,"resourceName":"Vibration","profileName":"Bearing","valueType":"Float32Array","value":"`,
		n, n, device, n+1, n+1, device)
	raw := []byte(head + values + `"}]}`)
	i, end := len(head), len(head)+len(values)
	return &task.Event{
		ID: string(raw[24:60]), Device: device, Profile: "Bearing", Source: "Vibration", Origin: int64(n + 1), CorrelationID: fmt.Sprint("c-", n),
		Received: time.Now().UnixNano(), Encoding: task.JSON, Raw: raw,
		Readings: []task.Reading{{Resource: "Vibration", Type: task.Float32Array, Origin: int64(n + 1), Value: raw[i:end], Start: i, End: end}},
	}
}

// submitOne processes an event to its end.
func submitOne(t *testing.T, s *Service, ev *task.Event) error {
	t.Helper()
	end := make(chan error, 1)
	s.Submit([]*task.Event{ev}, func(_ int, err error) { end <- err })
	select {
	case err := <-end:
		return err
	case <-time.After(20 * time.Second):
		require.Fail(t, "the event was not concluded")
		return nil
	}
}

func (b *bin) all() []local.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]local.Result(nil), b.results...)
}

const (
	sure, unsure = "[5, 0, 0, 0]", "[1, 1, 0, 0]"
)

// The answer of a local model is an event on the bus: with its tags, the label, and the correlation id of the event it is about.
func TestAClassIsComputedByItsModel(t *testing.T) {
	bus := &bin{}
	s := open(t, modelConfig(t, nil, "edge"), bus)
	require.NoError(t, submitOne(t, s, bearing("pump", 1, sure)))
	results := bus.all()
	require.Len(t, results, 1)
	r := results[0]
	require.Equal(t, "Vibration_bearing", r.Source)
	require.Equal(t, "c-1", r.CorrelationID)
	for tag, want := range map[string]string{"computedBy": "local", "modelVersion": "1", "provisional": "false", "class": "bearing", task.TagHop: "1"} {
		require.Equal(t, want, r.Event.Tags[tag], tag)
	}
	require.Contains(t, r.Event.Tags["confidence"], "0.99")
	require.Equal(t, "ok", r.Event.Readings[0].Value)
	c := s.Counts()
	require.EqualValues(t, 1, c.Local)
	require.Zero(t, c.Balance)

	e := s.Decisions(1, func(*decision.Entry) bool { return true })[0]
	require.InDelta(t, 0.99, e.Decision.Confidence, 0.01)
	require.Contains(t, decision.Explain(e), "with a confidence of 99 %")
	require.Positive(t, e.Estimate.Cycles, "the work is what the model was measured to take")
	require.Less(t, e.Estimate.LocalTime, 1.)
	require.NotEqual(t, 20., e.Complexity)

	st := s.Status().Models
	require.NotNil(t, st)
	require.Len(t, st.Classes, 1)
	one := st.Classes[0]
	require.EqualValues(t, 1, one.Final)
	require.Equal(t, "bearing", one.Model)
	require.EqualValues(t, "1", one.Version)
	require.Positive(t, one.Run)
	require.EqualValues(t, 8, one.MACs)
	require.Empty(t, one.Problem)
}

// Tasks that the model cannot read, and all tasks while there is no model, go to the cloud, and the status says why.
func TestWhatTheModelCannotComputeGoesToTheCloud(t *testing.T) {
	for name, c := range map[string]struct {
		values string
		change func(*config.Config)
		reason decision.Reason
		status string
	}{
		"no reading fits":   {`abc`, func(*config.Config) {}, decision.LocalFailed, ""},
		"of another length": {`[1, 2]`, func(*config.Config) {}, decision.LocalFailed, ""},
		"unknown model": {sure, func(c *config.Config) {
			class := c.Writable.Classes["bearing"]
			class.Model = "bearings"
			c.Writable.Classes["bearing"] = class
		}, decision.NoOperator, "unknown model"},
		"no folder": {sure, func(c *config.Config) { c.Models.Directory = "" }, decision.NoOperator, "Offload.Models.Directory"},
		"bad file": {sure, func(c *config.Config) {
			at := c.Models.Directory + "/bearing.edge.1/model.tflite"
			require.NoError(t, os.WriteFile(at, []byte("not a model, but as long as it may"), 0o600))
		}, decision.NoOperator, "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			bus := &bin{}
			cfg := modelConfig(t, nil, "edge")
			c.change(&cfg)
			s := open(t, cfg, bus)
			require.NoError(t, submitOne(t, s, bearing("pump", 1, c.values)))
			require.Empty(t, bus.all())
			require.EqualValues(t, 1, s.Counts().Spooled)
			e := s.Decisions(1, func(*decision.Entry) bool { return true })[0]
			require.Equal(t, decision.Cloud, e.Decision.Target)
			require.Equal(t, c.reason, e.Decision.Reason)
			st := s.Status()
			require.Len(t, st.Models.Classes, 1)
			if c.status == "" {
				require.Empty(t, st.Models.Classes[0].Problem)
				require.NotEmpty(t, st.Models.Classes[0].BadInput)
				return
			}
			require.Contains(t, st.Models.Classes[0].Problem, c.status)
			codes := map[string]string{}
			for _, r := range st.Health.Reasons {
				codes[r.Code] = r.Text
			}
			require.Contains(t, codes["models"], "bearing")
			require.Contains(t, codes["models"], c.status)
		})
	}
}

// linkedTo returns a service whose link to a broker is up.
func linkedTo(t *testing.T, c config.Config, bus local.Publisher) *Service {
	t.Helper()
	s := open(t, c, bus)
	s.Start()
	eventually(t, 10*time.Second, "the link is up", func() bool { return s.exporter.Link().Up })
	return s
}

// A hard answer is published immediately as provisional, and the task goes to the cloud; a sure answer is final, and so is a hard one above the
// budget.
func TestHardExamplesAreOffloadedAfterTheirAnswer(t *testing.T) {
	b := startBroker(t)
	cloud := startCloud(t, b, "n1", nil)
	c := modelConfig(t, b, "edge")
	class := c.Writable.Classes["bearing"]
	class.Hard = "margin threshold=0.2 hourly=1"
	c.Writable.Classes["bearing"] = class
	bus := &bin{}
	s := linkedTo(t, c, bus)
	for i, values := range []string{sure, unsure, unsure} {
		require.NoError(t, submitOne(t, s, bearing("pump", i, values)))
	}
	results := bus.all()
	require.Len(t, results, 3)
	for i, provisional := range []string{"false", "true", "false"} {
		require.Equal(t, provisional, results[i].Event.Tags["provisional"], i)
	}
	require.NotEqual(t, results[1].Event.Id, results[2].Event.Id)
	eventually(t, 10*time.Second, "the cloud has the hard one", func() bool { return len(cloud.tasks()) == 1 })
	require.Contains(t, cloud.tasks()[0].EventID, "00000001-")
	st := s.Status()
	require.EqualValues(t, 2, st.Models.Classes[0].Final)
	require.EqualValues(t, 1, st.Models.Classes[0].Provisional)
	require.EqualValues(t, 1, st.Models.Classes[0].OverBudget)
	require.Equal(t, 1, st.Models.Classes[0].HardHour)
	require.EqualValues(t, 2, st.Counts.Local)
	require.Zero(t, st.Counts.Balance)
	hard := s.Decisions(9, func(e *decision.Entry) bool { return e.Decision.Reason == decision.HardExample })
	require.Len(t, hard, 1)
	require.Contains(t, decision.Explain(hard[0]), "confidence of 50 %")
}

// Without a link the cloud cannot be asked: the local answer is final.
func TestHardExamplesStayWithoutALink(t *testing.T) {
	c := modelConfig(t, nil, "edge")
	class := c.Writable.Classes["bearing"]
	class.Hard = "margin threshold=0.2"
	c.Writable.Classes["bearing"] = class
	bus := &bin{}
	s := open(t, c, bus)
	require.NoError(t, submitOne(t, s, bearing("pump", 1, unsure)))
	require.Equal(t, "false", bus.all()[0].Event.Tags["provisional"])
	require.EqualValues(t, 1, s.Counts().Local)
}

// A provisional answer becomes final if the spool does not take the task. If the bus is down as well, the sender keeps the task: it is neither done nor
// dropped.
func TestAProvisionalAnswerBecomesFinalWhereTheSpoolIsFull(t *testing.T) {
	for name, row := range map[string]struct {
		onFull string
		event  jobEvent
		bus    error
	}{
		"local": {"local", fullLocal, nil}, "drop": {"dropOldest", fullDrop, nil}, "refuse": {"refuse", unstored, nil},
		"no bus": {"refuse", unstored, fmt.Errorf("connecting: %w", local.ErrAway)},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			startCloud(t, b, "n1", nil)
			c := modelConfig(t, b, "edge")
			class := c.Writable.Classes["bearing"]
			class.Hard, class.OnFull = "margin threshold=0.2", row.onFull
			c.Writable.Classes["bearing"] = class
			bus := &bin{}
			s := linkedTo(t, c, bus)
			var refused error
			j := &job{Case: decide.Case{Task: taskOfClass(t, s, bearing("pump", 1, unsure), "bearing")}, state: asking}
			j.event = &countdown{run: &run{rules: s.rules.Load(), done: func(_ int, err error) { refused = err }, over: func() {}}}
			j.event.left.Store(1)
			s.ledger.Enter(1)
			j.first = s.firstAnswer(t, j.Task)
			bus.err = row.bus
			require.Equal(t, finished, s.dispatch(j, row.event, nil))
			last := bus.all()[len(bus.all())-1]
			require.Equal(t, "false", last.Event.Tags["provisional"])
			require.ErrorIs(t, refused, row.bus)
			counts := s.Counts()
			require.Equal(t, row.bus == nil, counts.Local == 1)
			require.Zero(t, counts.InFlight)
			require.Empty(t, counts.Dropped)
		})
	}
}

func taskOfClass(t *testing.T, s *Service, ev *task.Event, class string) *task.Task {
	t.Helper()
	tasks := task.Split(ev, func(string) *task.Class { return s.rules.Load().Class(class) }, nil)
	require.Len(t, tasks, 1)
	return tasks[0]
}

// firstAnswer has the model answer a task, provisionally.
func (s *Service) firstAnswer(t *testing.T, of *task.Task) *answer.Answer {
	t.Helper()
	end := make(chan error, 1)
	s.local.Process(t.Context(), []local.Item{{Task: of}}, func(_ int, err error) { end <- err })
	first := firstOf(<-end)
	require.NotNil(t, first)
	return first
}

// A class that judges in advance sends the tasks of a device with hard answers without a run, and tries a run now and then.
func TestHardExamplesAreJudgedBeforeTheirRun(t *testing.T) {
	b := startBroker(t)
	startCloud(t, b, "n1", nil)
	c := modelConfig(t, b, "edge")
	class := c.Writable.Classes["bearing"]
	class.Hard = "margin threshold=0.2 mode=judge"
	c.Writable.Classes["bearing"] = class
	bus := &bin{}
	s := linkedTo(t, c, bus)
	for i := range 40 {
		require.NoError(t, submitOne(t, s, bearing("pump", i, unsure)))
		require.NoError(t, submitOne(t, s, bearing("fan", 100+i, sure)))
	}
	st := s.Status().Models.Classes[0]
	require.EqualValues(t, 40, st.Final, "those of the other device")
	require.EqualValues(t, 40, st.Judged+st.Provisional)
	require.Greater(t, st.Judged, uint64(25))
	require.Greater(t, st.Provisional, uint64(5))
	judged := s.Decisions(99, func(e *decision.Entry) bool { return e.Decision.Reason == decision.JudgedHard })
	require.EqualValues(t, st.Judged, len(judged))
	require.Contains(t, decision.Explain(judged[0]), "were hard")
}

// slowConfig is a node with a slow model, and a class of summaries beside it.
func slowConfig(t *testing.T, queue int) config.Config {
	c := modelConfig(t, nil, "edge")
	modeltest.Put(t, c.Models.Directory, "slow", "1", modeltest.Slow(t, 512, 200))
	class := c.Writable.Classes["bearing"]
	class.Model = "slow"
	c.Writable.Classes["bearing"] = class
	c.Models.Pool.Workers, c.Models.Pool.QueueTasks = 1, queue
	return c
}

func slowValues() string { return "[" + strings.Repeat("1, ", 511) + "1]" }

// While a model computes and its queue is full, no summary waits for the inference, further tasks go to the cloud, and the state of their decisions
// contains the queue of the models.
func TestNoSummaryWaitsBehindAnInference(t *testing.T) {
	c := slowConfig(t, 8)
	c.Writable.Classes["sum"] = func() task.ClassConfig {
		d := task.DefaultClassConfig()
		d.MatchProfile, d.Operators = "P", "range low=-1 high=1"
		return d
	}()
	s := open(t, c, &bin{})
	const many = 20
	left := make(chan error, many)
	for i := range many {
		s.Submit([]*task.Event{bearing("pump", i, slowValues())}, func(_ int, err error) { left <- err })
	}
	tasks, seconds := s.local.Models()
	require.Greater(t, tasks, 2)
	require.Positive(t, seconds)
	start := time.Now()
	require.NoError(t, submitOne(t, s, event("d", 999)))
	took, run := time.Since(start).Seconds(), s.Status().Models.Classes[0].Run
	tasks, _ = s.local.Models()
	require.Positive(t, tasks, "the models are still at work")
	require.Less(t, took, 3*run, "the summary waited for the models: %v s, a run takes %v s", took, run)
	for range many {
		require.NoError(t, <-left)
	}
	st := s.Status()
	require.Positive(t, st.Models.Classes[0].Busy)
	require.EqualValues(t, many-int(st.Models.Classes[0].Busy)+1, st.Counts.Local)
	require.Zero(t, st.Counts.Balance)
	busy := s.Decisions(99, func(e *decision.Entry) bool { return e.Decision.Reason == decision.ModelBusy })
	require.NotEmpty(t, busy)
	require.Positive(t, busy[0].State.QueueTasks)
	require.Positive(t, busy[0].State.QueueCycles)
	require.Greater(t, busy[0].Estimate.LocalTime, run)
}

// A stop waits for the current run and sends the waiting tasks to the spool.
func TestAStopWaitsForOneInferenceOnly(t *testing.T) {
	s := open(t, slowConfig(t, 30), &bin{})
	const many = 20
	left := make(chan error, many)
	for i := range many {
		s.Submit([]*task.Event{bearing("pump", i, slowValues())}, func(_ int, err error) { left <- err })
	}
	eventually(t, 10*time.Second, "one is done", func() bool { return s.ledger.Saved().Local > 0 })
	run, _ := s.local.Seconds(s.rules.Load().Class("bearing"))
	start := time.Now()
	require.NoError(t, s.Stop())
	require.Less(t, time.Since(start).Seconds(), 6*run+2, "20 runs take %v s", 20*run)
	require.Less(t, s.ledger.Saved().Local, int64(many))
	for range many {
		require.NoError(t, <-left)
	}
	require.Positive(t, s.ledger.Saved().Local)
	require.Zero(t, s.ledger.InFlight())
}

// Data that must not leave waits for a place in the pool instead of going to the cloud.
func TestDataThatMustNotLeaveWaitsForItsModel(t *testing.T) {
	c := slowConfig(t, 1)
	class := c.Writable.Classes["bearing"]
	class.NeverLeave, class.Hard = true, "cloud"
	c.Writable.Classes["bearing"] = class
	bus := &bin{}
	s := open(t, c, bus)
	const many = 6
	events := make([]*task.Event, many)
	for i := range events {
		events[i] = bearing("pump", i, slowValues())
	}
	left := make(chan error, many)
	s.Submit(events, func(_ int, err error) { left <- err })
	for range many {
		require.NoError(t, <-left)
	}
	require.Len(t, bus.all(), many)
	require.EqualValues(t, many, s.Counts().Local)
}

// A class takes another model, and another rule, while the service runs.
func TestModelsOfClassesAreReloaded(t *testing.T) {
	c := modelConfig(t, nil, "edge")
	modeltest.Put(t, c.Models.Directory, "other", "7", modeltest.Two(t, 100))
	bus := &bin{}
	s := open(t, c, bus)
	require.NoError(t, submitOne(t, s, bearing("pump", 1, sure)))
	w := c.Writable
	w.Classes = map[string]task.ClassConfig{"bearing": w.Classes["bearing"]}
	class := w.Classes["bearing"]
	class.Hard = "no such filter"
	w.Classes["bearing"] = class
	require.ErrorContains(t, s.Reload(w), "Writable.Classes.bearing.Hard")
	class.Model, class.Hard = "other", ""
	w.Classes["bearing"] = class
	require.NoError(t, s.Reload(w))
	require.NoError(t, submitOne(t, s, bearing("pump", 2, sure)))
	require.Equal(t, "ok", bus.all()[0].Event.Readings[0].Value)
	require.Equal(t, "Vibration_other", bus.all()[1].Source)
	require.Equal(t, "worn", bus.all()[1].Event.Readings[0].Value)
}

// A new version is a canary first: if its answers differ it is rolled back automatically, otherwise it takes over.
func TestANewVersionOfAModelIsTriedFirst(t *testing.T) {
	c := modelConfig(t, nil, "edge")
	c.Models.Canary.Tasks = 20
	bus := &bin{}
	s := open(t, c, bus)
	feed := func(n int) {
		for i := range n {
			require.NoError(t, submitOne(t, s, bearing("pump", i, sure)))
			eventually(t, 10*time.Second, "the canary is done, too", func() bool { tasks, _ := s.local.Models(); return tasks == 0 })
		}
	}
	canary := func() infer.CanaryStats {
		st := s.Status().Models
		require.Len(t, st.Canaries, 1)
		return st.Canaries[0]
	}
	modeltest.Put(t, c.Models.Directory, "bearing", "2", modeltest.Two(t, 100))
	require.NoError(t, s.local.Store().Scan(t.Context()))
	feed(30)
	bad := canary()
	require.Equal(t, infer.TrialRolledBack, bad.State)
	require.Contains(t, bad.Reason, "answers differ")
	codes := map[string]string{}
	for _, r := range s.Health().Reasons {
		codes[r.Code] = r.Text
	}
	require.Contains(t, codes["modelCanary"], "version 2 of model bearing was rolled back, keeping 1")
	modeltest.Put(t, c.Models.Directory, "bearing", "3", modeltest.Two(t, 0.5))
	require.NoError(t, s.local.Store().Scan(t.Context()))
	feed(10)
	require.Equal(t, infer.TrialRuns, canary().State)
	feed(30)
	good := canary()
	require.Equal(t, infer.TrialPromoted, good.State, "%+v", good)
	require.Zero(t, good.Different)
	for i, r := range bus.all() {
		require.Equal(t, "ok", r.Event.Readings[0].Value, i)
	}
	last := bus.all()[len(bus.all())-1]
	require.Equal(t, "3", last.Event.Tags["modelVersion"])
}

// The spent budget for hard examples survives a restart.
func TestARestartIsNoNewBudget(t *testing.T) {
	b := startBroker(t)
	startCloud(t, b, "n1", nil)
	c := modelConfig(t, b, "edge")
	class := c.Writable.Classes["bearing"]
	class.Hard = "margin threshold=0.2 daily=2"
	c.Writable.Classes["bearing"] = class
	for life, want := range []uint64{2, 0} {
		s := linkedTo(t, c, &bin{})
		for i := range 4 {
			require.NoError(t, submitOne(t, s, bearing("pump", 10*life+i, unsure)))
		}
		st := s.Status().Models.Classes[0]
		require.Equal(t, want, st.Provisional, life)
		require.Equal(t, 2, st.HardDay)
		require.NoError(t, s.Stop())
	}
}

// With a policy that binds late, each task for a model ends once.
func TestModelsUnderAPolicyThatBindsLate(t *testing.T) {
	b := startBroker(t)
	cloud := startCloud(t, b, "n1", nil)
	c := modelConfig(t, b, "defer")
	modeltest.Put(t, c.Models.Directory, "slow", "1", modeltest.Slow(t, 512, 200))
	class := c.Writable.Classes["bearing"]
	class.Model, class.Hard, class.Deadline = "slow", "random threshold=0.3 seed=3", "50ms"
	c.Writable.Classes["bearing"] = class
	c.Models.Pool.Workers = 1
	c.Writable.Policy.CostMoney = 100 // or a busy machine sends all of them
	bus := &bin{}
	s := linkedTo(t, c, bus)
	const many = 80
	left := make(chan error, many)
	for i := range many {
		s.Submit([]*task.Event{bearing(fmt.Sprint("pump-", i%7), i, slowValues())}, func(_ int, err error) { left <- err })
	}
	for range many {
		require.NoError(t, <-left)
	}
	eventually(t, 5*time.Minute, "all tasks have ended", func() bool {
		n := s.Counts()
		return n.InFlight == 0 && n.Spooled == 0 && n.Local+n.Receipted == many
	})
	final, provisional := 0, 0
	for _, r := range bus.all() {
		if r.Event.Tags["provisional"] == "true" {
			provisional++
		} else {
			final++
		}
	}
	st := s.Status()
	require.Zero(t, st.Counts.Balance)
	require.EqualValues(t, final, st.Counts.Local, "each task that ends here has one final answer")
	require.Len(t, cloud.tasks(), many-final)
	require.Positive(t, final)
	require.EqualValues(t, provisional, st.Models.Classes[0].Provisional)
	t.Logf("final %d, provisional %d, receipted %d", final, provisional, st.Counts.Receipted)
}

// A trial whose outcome cannot be saved on disk begins again, and takes effect once it can.
func TestATrialThatCannotBeSettledBeginsAnew(t *testing.T) {
	c := modelConfig(t, nil, "edge")
	c.Models.Canary.Tasks, c.Models.Canary.Slower = 20, 100 // a machine that is busy makes either version slow
	s := open(t, c, &bin{})
	feed := func(from, to int) {
		for i := from; i < to; i++ {
			require.NoError(t, submitOne(t, s, bearing("pump", i, sure)))
			eventually(t, 10*time.Second, "the canary is done, too", func() bool { tasks, _ := s.local.Models(); return tasks == 0 })
		}
	}
	modeltest.Put(t, c.Models.Directory, "bearing", "2", modeltest.Two(t, 0.5))
	require.NoError(t, s.local.Store().Scan(t.Context()))
	block := filepath.Join(c.Models.Directory, "state.json.new")
	require.NoError(t, os.Mkdir(block, 0o750))
	feed(0, 25)
	require.Equal(t, infer.TrialRuns, s.Status().Models.Canaries[0].State, "it did not take over")
	require.EqualValues(t, "1", s.Status().Models.Classes[0].Version)
	require.NoError(t, os.Remove(block))
	feed(25, 50)
	require.Equal(t, infer.TrialPromoted, s.Status().Models.Canaries[0].State)
	require.EqualValues(t, "2", s.Status().Models.Classes[0].Version)
}

// A task that was decided while its class had a model is computed by it, even if a reload has removed the class or model since.
func TestATaskOfAModelThatWasTakenAwayIsComputed(t *testing.T) {
	c := modelConfig(t, nil, "edge")
	for name, classes := range map[string]func(old task.ClassConfig) map[string]task.ClassConfig{
		"no class": func(task.ClassConfig) map[string]task.ClassConfig { return map[string]task.ClassConfig{} },
		"no model": func(old task.ClassConfig) map[string]task.ClassConfig {
			old.Model = ""
			return map[string]task.ClassConfig{"bearing": old}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.Spool.Directory = t.TempDir()
			bus := &bin{}
			s := open(t, c, bus)
			one := taskOfClass(t, s, bearing("pump", 1, sure), "bearing")
			w := c.Writable
			w.Classes = classes(w.Classes["bearing"])
			require.NoError(t, s.Reload(w))
			end := make(chan error, 1)
			s.local.Process(t.Context(), []local.Item{{Task: one}}, func(_ int, err error) { end <- err })
			require.NoError(t, <-end)
			require.Len(t, bus.all(), 1, "it is done with its answer")
			require.True(t, s.local.Offer(local.Item{Task: one}, func(_ int, err error) { end <- err }))
			require.NoError(t, <-end)
			require.Len(t, bus.all(), 2)
		})
	}
}
