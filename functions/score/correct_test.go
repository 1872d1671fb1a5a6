package score

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

func TestMeasurementsCorrectTheLocalPrediction(t *testing.T) {
	m := model(t)
	tk, s := work(200*KB, 50), up()
	s.CPU = 50
	before := m.Estimate(tk, s)
	for range 300 {
		// On a half busy node the task is predicted at 160 ms, but actually takes 640.
		m.ObserveLocal(tk.Class, tk.Size(), tk.Complexity, 0.64)
	}
	after := m.Estimate(tk, s)
	require.InEpsilon(t, 4*before.LocalTime, after.LocalTime, 0.01)
	require.InDelta(t, before.CloudTime, after.CloudTime, 1e-12, "the other target is unchanged")

	other := *tk
	other.Class = &task.Class{Name: "unknown so far"}
	require.InEpsilon(t, after.LocalTime, m.Estimate(&other, s).LocalTime, 0.001, "a new class starts from what the others showed")

	s.QueueCycles = 3000
	require.InEpsilon(t, after.LocalTime+3000/1500.0*4, m.Estimate(tk, s).LocalTime, 0.01, "the queue is corrected by the mean of all")
}

func TestMeasurementsCorrectTheCloudPrediction(t *testing.T) {
	m := model(t)
	tk, s := work(200*KB, 50), up()
	s.Link.Goodput, s.Link.RTT = 5e5, 0.3
	before := m.Estimate(tk, s)
	for range 300 {
		m.ObserveCloud(tk.Class, tk.Size(), tk.Complexity, before.CloudTime/2)
	}
	require.InEpsilon(t, before.CloudTime/2, m.Estimate(tk, s).CloudTime, 0.01)
	local, cloud := m.Correction(tk.Class)
	require.InDelta(t, 1, local, 0)
	require.InEpsilon(t, 0.5, cloud, 0.01)
}

func TestClassesAreCorrectedApart(t *testing.T) {
	m := model(t)
	slow, quick := &task.Class{Name: "slow"}, &task.Class{Name: "quick"}
	for range 300 {
		m.ObserveLocal(slow, KB, 50, 10*0.0004)
		m.ObserveLocal(quick, KB, 50, 0.1*0.0004)
	}
	local, _ := m.Correction(slow)
	require.InEpsilon(t, 10, local, 0.01)
	local, _ = m.Correction(&task.Class{Name: "quick"})
	require.InEpsilon(t, 0.1, local, 0.01, "found by name, so that a reload keeps the correction")
}

func TestCorrectionsAreClampedAndIgnoreNonsense(t *testing.T) {
	m := model(t, func(c *Config) { c.CorrectionLimit = 3 })
	class := &task.Class{Name: "a"}
	for _, took := range []float64{0, -1} {
		m.ObserveLocal(class, KB, 50, took)
	}
	m.ObserveLocal(class, 0, 50, 1) // no work: no ratio
	local, _ := m.Correction(class)
	require.InDelta(t, 1, local, 0)
	for range 500 {
		m.ObserveLocal(class, KB, 50, 1e9)
	}
	local, _ = m.Correction(class)
	require.InEpsilon(t, 3, local, 0.03)
}

func TestSmoothingZeroNeverCorrects(t *testing.T) {
	m := model(t, func(c *Config) { c.Smoothing = 0 })
	class := &task.Class{Name: "a"}
	m.ObserveLocal(class, KB, 50, 1)
	local, _ := m.Correction(class)
	require.InDelta(t, 1, local, 0)
}

func TestOneOddMeasurementDoesNotOverthrowTheCalibration(t *testing.T) {
	m := model(t)
	class := &task.Class{Name: "a"}
	m.ObserveLocal(class, KB, 50, 3*0.0004)
	local, _ := m.Correction(class)
	require.InEpsilon(t, 2, local, 0.05, "the configured value counts as one measurement")
}

func TestClassesAreBounded(t *testing.T) {
	var c corrections
	full := map[string]*correction{}
	for i := range maxClasses {
		full[fmt.Sprint(i)] = &correction{}
	}
	c.byName.Store(&full)
	require.Nil(t, c.own(&task.Class{Name: "one more"}))
	require.NotNil(t, c.own(&task.Class{Name: "7"}))
}

func TestManyObserveWhileManyEstimate(t *testing.T) {
	m, tk, s := model(t), work(10*KB, 50), up()
	var wg sync.WaitGroup
	for i := range 4 {
		class := &task.Class{Name: fmt.Sprint("class ", i%2)}
		wg.Go(func() {
			for range 500 {
				m.ObserveLocal(class, KB, 50, 0.001)
				m.ObserveCloud(class, KB, 50, 0.2)
				if e := m.Estimate(tk, s); !(e.LocalTime > 0) {
					t.Errorf("estimate %+v", e)
				}
			}
		})
	}
	wg.Wait()
}

func TestEstimateAllocatesNothing(t *testing.T) {
	m, tk, s := model(t), work(10*KB, 50), up()
	m.ObserveLocal(tk.Class, KB, 50, 0.001)
	var f Features
	require.Zero(t, testing.AllocsPerRun(100, func() {
		e := m.Estimate(tk, s)
		m.Features(tk, &e, s, &f)
	}))
}

// The configured value counts as one measurement, each further one as one more until smoothing weighs more, and none beyond the limit: computed by
// hand.
func TestTheWeightsOfMeasurementsByHand(t *testing.T) {
	var r ratio
	for i, step := range []struct{ measured, want float64 }{{3, 2}, {5, 3}, {7, 4}, {100, 5.2}, {0, 4.375}} { // weights 1/2, 1/3, 1/4, 1/5, 1/6; the limit is 10
		r.observe(step.measured, 0.01, 10)
		want := step.want
		if i == 4 {
			want = 5.2 + (0.1-5.2)/6
		}
		require.InDelta(t, want, r.factor(), 1e-12, "after %d", i+1)
	}
	r.observe(10, 0.5, 10)
	require.InDelta(t, (5.2+(0.1-5.2)/6+10)/2, r.factor(), 1e-12, "smoothing weighs more than an average")

	var l ratio
	for i, step := range []struct{ measured, want float64 }{{4, 2}, {16, 4}, {1e9, 4 * 1.5}} { // 1·4^½, 2·8^⅓, and 4·(81/16)^¼ by the limit
		l.observeLog(step.measured, 0.01, 20.25)
		require.InDelta(t, step.want, l.factor(), 1e-9, "after %d", i+1)
	}
	var low ratio
	low.observeLog(1e-9, 0.01, 16)
	require.InDelta(t, 0.25, low.factor(), 1e-12)
}

// A class with measurements of one target only has the overall correction for the other.
func TestAWayThatWasNotMeasuredIsThatOfAll(t *testing.T) {
	m := model(t)
	tk, s := work(200*KB, 50), up()
	s.Link.Goodput, s.Link.RTT = 5e5, 0.3
	plain := m.Estimate(tk, s)
	for range 300 {
		m.ObserveCloud(&task.Class{Name: "a"}, tk.Size(), tk.Complexity, plain.CloudTime/2)
		m.ObserveLocal(&task.Class{Name: "b"}, tk.Size(), tk.Complexity, 1)
	}
	b := *tk
	b.Class = &task.Class{Name: "b"}
	require.InEpsilon(t, plain.CloudTime/2, m.Estimate(&b, s).CloudTime, 0.02)
}
