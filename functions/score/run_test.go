package score

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

// A model's work is what the idle node computes in the measured time of a run; without a measurement it is unknown.
func TestTheWorkOfAModel(t *testing.T) {
	m := model(t)
	class := &task.Class{Name: "a", Model: "fault"}
	_, ok := m.RunCycles(class)
	require.False(t, ok, "nothing measures runs")
	m.SetRuns(func(class *task.Class) (float64, bool) { return 2, class.Name == "a" })
	for _, row := range []struct {
		class *task.Class
		ok    bool
	}{{nil, false}, {&task.Class{Name: "a"}, false}, {&task.Class{Name: "b", Model: "fault"}, false}, {class, true}} {
		cycles, ok := m.RunCycles(row.class)
		require.Equal(t, row.ok, ok)
		if ok {
			require.Equal(t, 2*m.c.EdgeMcycles, cycles)
		}
	}

	s := up()
	s.QueueTasks, s.QueueCycles, s.ModelTasks, s.ModelSeconds, s.CPU = 9, 1e6, 3, 1.5, 50
	before := *s
	v := m.ForModels(s)
	require.Equal(t, before, *s)
	require.Equal(t, 3, v.QueueTasks)
	require.Equal(t, 1.5*m.c.EdgeMcycles, v.QueueCycles)
	require.Zero(t, v.ModelTasks)
	require.Zero(t, v.ModelSeconds)
	s.ModelSeconds = 0.25
	short := m.ForModels(s)
	require.Equal(t, 0.25*m.c.EdgeMcycles, short.QueueCycles)
	run := &task.Task{Data: make([]byte, KB), Complexity: 50, Class: class}
	e := m.Estimate(run, &v)
	require.InDelta(t, 3.5, e.LocalTime, 1e-9, "a time measured under load is not corrected for it")
	require.InDelta(t, 2*m.c.EdgeMcycles, e.Cycles, 1e-9)
	unknown := &task.Task{Data: make([]byte, KB), Complexity: 50, Class: &task.Class{Name: "b", Model: "fault"}}
	e = m.Estimate(unknown, &v)
	require.InDelta(t, m.Cycles(KB, 50), e.Cycles, 1e-9)
	require.InDelta(t, 1.5+e.Cycles/m.c.EdgeMcycles, e.LocalTime, 1e-9)
}

// A complexity gives the work that it was computed from, within its bounds.
func TestTheComplexityOfWork(t *testing.T) {
	m := model(t)
	for _, complexity := range []float64{0, 0.5, 20, 100} {
		require.InDelta(t, complexity, m.ComplexityOf(3000, m.Cycles(3000, complexity)), 1e-9)
	}
	require.Equal(t, 100.0, m.ComplexityOf(1, 1e9))
	require.Equal(t, m.ComplexityOf(1, 1e-6), m.ComplexityOf(0, 1e-6))
	require.Equal(t, 0.0, m.ComplexityOf(1, -1))
}

// A model under a new configuration keeps the learned state, and a rejected configuration changes nothing.
func TestAModelUnderAnotherConfiguration(t *testing.T) {
	m := model(t)
	class := &task.Class{Name: "a"}
	c := m.c
	c.EdgeMcycles = -1
	_, err := m.With(c)
	require.ErrorContains(t, err, "EdgeMcycles")
	c.EdgeMcycles = 2 * m.c.EdgeMcycles
	other, err := m.With(c)
	require.NoError(t, err)
	require.Equal(t, 2*m.EdgeRate(&host.State{}), other.EdgeRate(&host.State{}))
	for range 50 {
		other.ObserveLocal(class, KB, 50, 1)
		other.ObserveCloud(nil, KB, 50, 9)
	}
	local, cloud := m.Correction(class)
	require.Greater(t, local, 1.1)
	require.Greater(t, cloud, 1.1, "by measurements without a class")
	sameLocal, sameCloud := other.Correction(class)
	require.Equal(t, [2]float64{local, cloud}, [2]float64{sameLocal, sameCloud})
	local, cloud = m.Correction(nil)
	require.Equal(t, [2]float64{1, 1}, [2]float64{local, cloud}, "work without a class has no correction")
}

// Classes without room in the table are skipped when a state is restored, and the others are not.
func TestRestoreIntoAFullTable(t *testing.T) {
	m, full := model(t), map[string]*correction{}
	for i := range maxClasses - 1 {
		full[string(rune('一'+i))] = &correction{}
	}
	m.corrections.byName.Store(&full)
	const line = `{"local":{"base":1,"slope":2,"a":[4,1,3],"b":[1,2],"mean":5,"count":6},"cloud":{"value":3,"count":4}}`
	require.NoError(t, m.Restore([]byte(`{"local":{"value":2,"count":5},"cloud":{"value":3,"count":6},"classes":{"a":`+line+`,"b":`+line+`}}`)))
	require.Len(t, *m.corrections.byName.Load(), maxClasses)
	kept := m.corrections.find(&task.Class{Name: "a"})
	if kept == nil {
		kept = m.corrections.find(&task.Class{Name: "b"})
	}
	require.Equal(t, savedRatio{3, 4}, kept.cloud.save())
	require.EqualValues(t, 6, kept.local.latest.Load().Count)
	require.Equal(t, savedRatio{2, 5}, m.corrections.all.local.save())
	require.Equal(t, savedRatio{3, 6}, m.corrections.all.cloud.save())
}

func TestRatiosThatMeasurementsLeadTo(t *testing.T) {
	for _, s := range []savedRatio{{0, 0}, {math.NaN(), 0}, {1e-9, 1}, {maxCorrection, 1}} {
		require.True(t, s.valid(), s)
	}
	for _, s := range []savedRatio{{0, 1}, {-1, 1}, {math.NaN(), 1}, {1, -1}, {math.Nextafter(maxCorrection, math.Inf(1)), 1}} {
		require.False(t, s.valid(), s)
	}
}

// As many classes as there is room for are restored, and a state with more is rejected.
func TestAFullTableIsRestored(t *testing.T) {
	for classes, good := range map[int]bool{maxClasses: true, maxClasses + 1: false} {
		state := saved{Local: savedRatio{1, 1}, Cloud: savedRatio{1, 1}, Classes: map[string]savedClass{}}
		for i := range classes {
			state.Classes[fmt.Sprint(i)] = savedClass{Cloud: savedRatio{3, 4}}
		}
		raw, err := json.Marshal(state)
		require.NoError(t, err)
		m := model(t)
		require.Equal(t, good, m.Restore(raw) == nil, "%d classes", classes)
		if good {
			require.Len(t, *m.corrections.byName.Load(), classes)
		}
	}
}

func TestAnEstimateThatIsNoneIsRefused(t *testing.T) {
	var e Estimate
	require.Error(t, json.Unmarshal([]byte(`{"cycles":"many"}`), &e))
}
