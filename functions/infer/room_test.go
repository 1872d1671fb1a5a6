package infer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/infer/modeltest"
	"app-offload/functions/local"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

// bus records the published results, unless it is set to refuse.
type bus struct {
	mu      sync.Mutex
	results []local.Result
	tries   int
	err     error
}

func (b *bus) Publish(r local.Result) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries++
	if b.err == nil {
		b.results = append(b.results, r)
	}
	return b.err
}

func (b *bus) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *bus) tried() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tries
}

type noLog struct{}

func (noLog) Debugf(string, ...any) {}
func (noLog) Infof(string, ...any)  {}
func (noLog) Warnf(string, ...any)  {}
func (noLog) Errorf(string, ...any) {}

// bench is a room with a two-label model and a class for it.
type bench struct {
	*Room
	bus    *bus
	class  *task.Class
	linkUp bool
}

func classesOf(t *testing.T, cfg map[string]task.ClassConfig) *task.Classes {
	classes, err := task.NewClasses(cfg)
	require.NoError(t, err)
	return classes
}

func openRoom(t *testing.T, change func(*Config, *task.ClassConfig)) *bench {
	t.Helper()
	cfg, class := DefaultConfig(), task.DefaultClassConfig()
	cfg.Directory, cfg.Pool.Workers = t.TempDir(), 1
	modeltest.Put(t, cfg.Directory, "bearing", "1", modeltest.Two(t, 0))
	class.MatchProfile, class.Model, class.Operators, class.Deadline = "Bearing", "bearing", "none", "2s"
	if change != nil {
		change(&cfg, &class)
	}
	classes := classesOf(t, map[string]task.ClassConfig{"bearing": class})
	b := &bench{bus: &bus{}, linkUp: true}
	p, err := local.New(local.DefaultConfig(), classes, b.bus, nil)
	require.NoError(t, err)
	b.Room, err = Open(t.Context(), cfg, classes, Deps{Processor: p, Publisher: b.bus, Log: noLog{}, LinkUp: func() bool { return b.linkUp }})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	for _, c := range classes.All() {
		if c.Name == "bearing" {
			b.class = c
		}
	}
	return b
}

const (
	sure, unsure, bad = "[5, 0, 0, 0]", "[1, 1, 0, 0]", "[1, 2]"
)

func (b *bench) task(device, values string) *task.Task {
	return &task.Task{
		EventID: "00000001-0000-4000-8000-000000000001", Device: device, Profile: "Bearing", Source: "Vibration", Class: b.class,
		Received: time.Now().UnixNano(), Deadline: 2 * time.Second,
		Readings: []task.Reading{{Resource: "Vibration", Type: task.Float32Array, Value: []byte(values), Origin: 1}},
	}
}

// process processes items and returns their errors.
func (b *bench) process(t *testing.T, items ...local.Item) []error {
	t.Helper()
	type end struct {
		i   int
		err error
	}
	ends := make(chan end, len(items))
	b.Process(t.Context(), items, func(i int, err error) { ends <- end{i, err} })
	errs := make([]error, len(items))
	for range items {
		select {
		case e := <-ends:
			errs[e.i] = e.err
		case <-time.After(time.Minute):
			require.Fail(t, "not concluded")
		}
	}
	return errs
}

// The handling of a task of a class with a model, and its counts.
func TestWhatIsCountedOfAModel(t *testing.T) {
	for name, c := range map[string]struct {
		hard   string
		linkUp bool
		bus    error
		items  []string // values; a leading ! marks a task that must stay
		errs   []string
		want   ClassStats
		tags   []string // provisional, of each answer
	}{
		"sure":                     {"", true, nil, []string{sure, sure}, []string{"", ""}, ClassStats{Final: 2}, []string{"false", "false"}},
		"no rule":                  {"", true, nil, []string{unsure}, []string{""}, ClassStats{Final: 1}, []string{"false"}},
		"hard":                     {"margin threshold=0.2", true, nil, []string{sure, unsure}, []string{"", "is hard"}, ClassStats{Final: 1, Provisional: 1, HardHour: 1, HardDay: 1}, []string{"false", "true"}},
		"hard by its label":        {"threshold threshold=0.6", true, nil, []string{sure, unsure}, []string{"", "is hard"}, ClassStats{Final: 1, Provisional: 1, HardHour: 1, HardDay: 1}, []string{"false", "true"}},
		"over the budget":          {"margin threshold=0.2 hourly=1", true, nil, []string{unsure, unsure}, []string{"is hard", ""}, ClassStats{Final: 1, Provisional: 1, OverBudget: 1, HardHour: 1, HardDay: 1}, []string{"true", "false"}},
		"no link":                  {"margin threshold=0.2", false, nil, []string{unsure}, []string{""}, ClassStats{Final: 1}, []string{"false"}},
		"it must stay":             {"margin threshold=0.2", true, nil, []string{"!" + unsure}, []string{""}, ClassStats{Final: 1}, []string{"false"}},
		"unreadable":               {"", true, nil, []string{bad, sure}, []string{"bearing", ""}, ClassStats{Failed: 1, Final: 1, BadInput: "-"}, []string{"false"}},
		"no bus, and it must stay": {"", true, errors.New("the bus is broken"), []string{"!" + sure}, []string{"the bus is broken"}, ClassStats{Failed: 1, Problem: "-"}, nil},
		"no bus":                   {"", true, errors.New("the bus is away"), []string{sure}, []string{"the bus is away"}, ClassStats{Failed: 1, Problem: "-"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := openRoom(t, func(_ *Config, class *task.ClassConfig) { class.Hard = c.hard })
			b.linkUp, b.bus.err = c.linkUp, c.bus
			for i, values := range c.items {
				values, stay := strings.CutPrefix(values, "!")
				sureness, took := -1., time.Duration(0)
				err := b.process(t, local.Item{Task: b.task("pump", values), Stay: stay, Sure: &sureness, Took: &took})[0]
				if c.errs[i] == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, c.errs[i])
				}
				if values != bad {
					require.Greater(t, sureness, 0.49, "the confidence of the answer")
					require.Positive(t, took, "and what it took")
				}
			}
			require.Len(t, b.bus.results, len(c.tags))
			for i, provisional := range c.tags {
				require.Equal(t, provisional, b.bus.results[i].Event.Tags["provisional"])
			}
			if c.bus != nil {
				require.Equal(t, publishTries, b.bus.tries)
			}
			s := b.Stats()
			require.Len(t, s.Classes, 1)
			have := s.Classes[0]
			require.Equal(t, []any{"bearing", "bearing", models.Version("1"), int64(8), c.hard != ""}, []any{have.Class, have.Model, have.Version, have.MACs, have.Hard != ""})
			require.Positive(t, have.Run, "measured")
			require.Equal(t, len(c.tags) > 0, have.Latency > 0, "from reception to answer")
			for text, want := range map[string]string{have.Problem: c.want.Problem, have.BadInput: c.want.BadInput} {
				require.Equal(t, want != "", text != "", text)
			}
			counted := func(s ClassStats) []uint64 {
				return []uint64{s.Final, s.Provisional, s.Judged, s.Failed, s.Unread, s.Busy, s.OverBudget, s.Late, uint64(s.HardHour), uint64(s.HardDay)}
			}
			require.Equal(t, counted(c.want), counted(have))
			require.Eventually(t, func() bool { tasks, _ := b.Models(); return tasks == 0 }, time.Minute, time.Millisecond, "all places are released")
			require.Equal(t, 1, b.Workers())
		})
	}
}

// A problem is no longer shown after an answer; the problem of an unreadable event remains.
func TestAProblemEndsWithAnAnswer(t *testing.T) {
	b := openRoom(t, nil)
	b.bus.err = errors.New("the bus is away")
	require.Error(t, b.process(t, local.Item{Task: b.task("pump", sure)})[0])
	require.Error(t, b.process(t, local.Item{Task: b.task("pump", bad)})[0])
	require.Contains(t, b.Stats().Classes[0].Problem, "the bus is away")
	b.bus.err = nil
	require.NoError(t, b.process(t, local.Item{Task: b.task("pump", sure)})[0])
	require.Empty(t, b.Stats().Classes[0].Problem)
	require.NotEmpty(t, b.Stats().Classes[0].BadInput)
}

// An answer after the deadline of its task counts as late.
func TestLateAnswersAreCounted(t *testing.T) {
	w := &work{}
	for _, took := range []time.Duration{time.Second, 2 * time.Second, 2*time.Second + 1, time.Hour} {
		w.answered(&task.Task{Deadline: 2 * time.Second}, took)
		w.answered(&task.Task{}, took)
	}
	require.EqualValues(t, 2, w.counts.late.Load())
}

// Events of a class that the model cannot serve go to the cloud, and the status reports why.
func TestWhatAModelReads(t *testing.T) {
	b := openRoom(t, nil)
	whole := b.task("pump", sure)
	for whole.Of = range 2 {
		require.True(t, b.ReadsAll(whole))
	}
	piece := b.task("pump", sure)
	piece.Of = 2
	require.False(t, b.ReadsAll(piece))
	require.Contains(t, b.Stats().Classes[0].BadInput, "the event is cut")
	require.EqualValues(t, 1, b.Stats().Classes[0].Unread)

	off := openRoom(t, func(c *Config, _ *task.ClassConfig) { c.Directory = "" })
	require.Nil(t, off.Store())
	require.False(t, off.ReadsAll(off.task("pump", sure)))
	require.ErrorIs(t, off.process(t, local.Item{Task: off.task("pump", sure)})[0], errOff)
	require.Equal(t, errOff.Error(), off.Stats().Classes[0].Problem)
	require.EqualValues(t, 1, off.Stats().Classes[0].Failed)
	require.Zero(t, off.Workers())
	tasks, seconds := off.Models()
	require.Zero(t, float64(tasks)+seconds)
	other := openRoom(t, func(_ *Config, c *task.ClassConfig) { c.Model = "none" })
	require.False(t, other.ReadsAll(other.task("pump", sure)))
	require.Contains(t, other.Stats().Classes[0].Problem, "unknown model")
	plain := openRoom(t, func(c *Config, class *task.ClassConfig) { c.Directory, class.Model = "", "" })
	require.Nil(t, plain.Stats(), "neither models nor a folder")
	require.False(t, plain.ModelsFull())
	unused := openRoom(t, func(_ *Config, class *task.ClassConfig) { class.Model = "" })
	require.Equal(t, "bearing", unused.Stats().Models[0].Name, "a folder without a class for it")

	var names, sorted []string
	works := map[string]*work{}
	for i := range 20 {
		name := fmt.Sprintf("class %02d", i)
		works[name] = &work{class: name, known: &known{}, drift: &drift{}}
		sorted = append(sorted, name)
	}
	off.works.Store(&works)
	for _, c := range off.Stats().Classes {
		names = append(names, c.Class)
	}
	require.Equal(t, sorted, names)
}

// A rule that judges before a run lets every eighth task run: otherwise nothing would show that the device has become easy.
func TestADeviceIsJudgedByItsLatestAnswers(t *testing.T) {
	j := &judge{}
	require.False(t, j.hard("new"))
	j.see("a", true)
	j.see("a", true)
	require.False(t, j.hard("a"), "two of the latest are 44 %")
	j.see("a", true)
	for n := 1; n <= 3*judgeAgain; n++ {
		require.Equal(t, n%judgeAgain != 0, j.hard("a"), n)
	}
	require.False(t, j.hard("b"), "each device by itself")
	j.hard("a")
	j.see("a", true)
	for n := 1; n < judgeAgain; n++ {
		require.True(t, j.hard("a"), "a run begins the count anew")
	}
	for range 3 {
		j.see("a", false)
	}
	require.False(t, j.hard("a"), "it has become easy")
	for n := range judgeDevices {
		j.see(fmt.Sprint(n), true)
	}
	require.LessOrEqual(t, len(j.devices), judgeDevices)
}

func TestSpeedIsAMeanOfRecentRuns(t *testing.T) {
	s := &speed{}
	_, known := s.seconds()
	require.False(t, known)
	s.start(4)
	s.start(8)
	mean, known := s.seconds()
	require.True(t, known)
	require.EqualValues(t, 4, mean, "what is measured at the start holds once")
	s.add(2)
	mean, _ = s.seconds()
	require.InDelta(t, 3, mean, 1e-9)
	for range 50 * recentRuns {
		s.add(1)
	}
	mean, _ = s.seconds()
	require.InDelta(t, 1, mean, 0.001)
}

// Classes with the same model and rule keep their state across a reload, others begin anew; a rule without a model is rejected.
func TestAReloadKeepsWhatDidNotChange(t *testing.T) {
	with := func(hard, model string) *task.Classes {
		class := task.DefaultClassConfig()
		class.MatchProfile, class.Model, class.Hard, class.Operators = "Bearing", model, hard, "none"
		return classesOf(t, map[string]task.ClassConfig{"bearing": class})
	}
	b := openRoom(t, func(_ *Config, c *task.ClassConfig) { c.Hard = "margin threshold=0.2" })
	for _, c := range []struct {
		hard, model string
		same        bool
	}{
		{"margin threshold=0.2", "bearing", true}, {"margin threshold=0.3", "bearing", false}, {"margin threshold=0.3", "other", false}, {"", "other", false}, {"", "other", true},
	} {
		before := (*b.works.Load())["bearing"]
		commit, err := b.Prepare(local.DefaultConfig(), with(c.hard, c.model))
		require.NoError(t, err)
		require.Same(t, before, (*b.works.Load())["bearing"], "nothing changes before commit")
		commit()
		require.Equal(t, c.same, before == (*b.works.Load())["bearing"], "%v", c)
	}
	commit, err := b.Prepare(local.DefaultConfig(), with("", ""))
	require.NoError(t, err)
	commit()
	require.Empty(t, *b.works.Load())
	require.NoError(t, b.process(t, local.Item{Task: b.task("pump", sure)})[0], "a task that was decided before")
	require.Len(t, b.bus.results, 1)
}

// A full pool sends tasks to the cloud; a task that must stay waits for a place. An offered task is accepted only with a place.
func TestAFullPool(t *testing.T) {
	b := openRoom(t, func(c *Config, _ *task.ClassConfig) { c.Pool.QueueTasks = 1 })
	gate := make(chan struct{})
	for b.take(t.Context(), visit{}, false) == nil {
		b.pool.Submit(local.Heavy{Run: func() { <-gate }, Refuse: func(error) {}})
	}
	require.ErrorIs(t, b.process(t, local.Item{Task: b.task("pump", sure)})[0], local.ErrBusy)
	require.False(t, b.Offer(local.Item{Task: b.task("pump", sure)}, func(int, error) { t.Error("it was not taken") }))
	require.EqualValues(t, 1, b.Stats().Classes[0].Busy)
	require.True(t, b.ModelsFull())
	require.Equal(t, 2, b.Stats().Tasks)
	waited := make(chan error, 1)
	go func() { waited <- b.process(t, local.Item{Task: b.task("pump", sure), Stay: true})[0] }()
	close(gate)
	select {
	case err := <-waited:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.Fail(t, "it waits for ever")
	}
	end := make(chan error, 1)
	require.Eventually(t, func() bool {
		return b.Offer(local.Item{Task: b.task("pump", sure)}, func(_ int, err error) { end <- err })
	}, time.Minute, time.Millisecond)
	require.NoError(t, <-end)
}

// A task that the operators do not take releases its place in the pool, which is for the model's run time.
func TestAPlaceIsReleasedIfTheOperatorsAreFull(t *testing.T) {
	b := openRoom(t, func(_ *Config, class *task.ClassConfig) { class.Operators = "deadtime time=1ms" })
	b.work(b.class).speed.add(1000)
	one := local.Item{Task: b.task("pump", sure)}
	run, _ := b.work(b.class).speed.seconds()
	require.Equal(t, run, b.visit(one.Task, 0).expect)
	b.bus.mu.Lock() // the operators wait for it
	for b.Processor.Offer(one, func(int, error) {}) {
	}
	taken := b.Offer(one, func(int, error) { t.Error("it was not taken") })
	tasks, _ := b.Models()
	b.bus.mu.Unlock()
	require.False(t, taken)
	require.Zero(t, tasks)
}

// The models of the classes are in memory before the first task.
func TestTheModelsOfClassesAreLoadedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // the first start loads every model to choose its version
		b := openRoom(t, func(c *Config, _ *task.ClassConfig) {
			c.Directory = dir
			modeltest.Put(t, dir, "bearing", "1", modeltest.Two(t, 0))
		})
		require.True(t, b.Stats().Models[0].Loaded)
		require.NoError(t, b.Close(context.Background()))
	}
}

// A score beyond all numbers, which JSON cannot hold, is not shown.
func TestADriftBeyondAllNumbers(t *testing.T) {
	for score, want := range map[float64]float64{2.5: 2.5, math.Inf(1): 0, math.Inf(-1): 0, math.NaN(): 0} {
		have, is := (&drift{score: score, is: true}).status()
		require.Equal(t, want, have)
		require.True(t, is)
	}
}

// After the shutdown, a task ends with the pool's error, and a task that must stay with the processor's: its sender keeps it.
func TestAShutRoomKeepsNothing(t *testing.T) {
	b := openRoom(t, nil)
	require.NoError(t, b.Shut(context.Background()))
	errs := b.process(t, local.Item{Task: b.task("pump", sure)}, local.Item{Task: b.task("pump", sure), Stay: true})
	require.ErrorIs(t, errs[0], local.ErrShut)
	require.NotErrorIs(t, errs[0], local.ErrClosed)
	require.ErrorIs(t, errs[1], local.ErrClosed)
	end := make(chan error, 1)
	require.True(t, b.Offer(local.Item{Task: b.task("pump", sure)}, func(_ int, err error) { end <- err }))
	require.ErrorIs(t, <-end, local.ErrShut)
	require.EqualValues(t, 3, b.Stats().Classes[0].Busy)
}

// A restart keeps the budget, unless its file is damaged; then only the budget is reset.
func TestARestartKeepsTheBudget(t *testing.T) {
	dir := t.TempDir()
	again := func(hard string) *bench {
		return openRoom(t, func(c *Config, class *task.ClassConfig) {
			if c.Directory = dir; class.Hard == "" {
				class.Hard = hard
			}
			modeltest.Put(t, dir, "bearing", "1", modeltest.Two(t, 0))
		})
	}
	const rule = "margin threshold=0.2 hourly=1"
	b := again(rule)
	require.Error(t, b.process(t, local.Item{Task: b.task("pump", unsure)})[0], "it is hard")
	require.NoError(t, b.Close(context.Background()))
	b = again(rule)
	require.Equal(t, 1, b.Stats().Classes[0].HardHour)
	require.NoError(t, b.process(t, local.Item{Task: b.task("pump", unsure)})[0], "nothing is left")
	require.NoError(t, b.Close(context.Background()))
	b = again("")
	require.Zero(t, b.Stats().Classes[0].HardHour, "a class without a rule has no budget")
	require.NoError(t, b.Close(context.Background()))
	require.NoError(t, os.WriteFile(filepath.Join(dir, budgetsFile), []byte("{damaged"), 0o600))
	b = again(rule)
	require.Zero(t, b.Stats().Classes[0].HardHour)
	require.Error(t, b.process(t, local.Item{Task: b.task("pump", unsure)})[0])
}

// Without a link state, the cloud counts as reachable.
func TestWithoutALinkToAskTheCloudCanBeAsked(t *testing.T) {
	b := openRoom(t, nil)
	r, err := Open(t.Context(), DefaultConfig(), classes{b.class}, Deps{Processor: b.Processor, Publisher: b.bus, Log: noLog{}})
	require.NoError(t, err)
	require.True(t, r.deps.LinkUp())
}
