package score

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/pool"
	"app-offload/functions/task"
)

// measure shows a model tasks of a class with twice the predicted work and three times the predicted time of the cloud.
func measure(m *Model, rng *rand.Rand, class *task.Class, times int) {
	s := &host.State{Cores: 1, Link: host.Link{Up: true, Goodput: 1e6, RTT: 0.05}}
	for range times {
		bytes := 1000 + rng.IntN(100_000)
		e := m.EstimateWork(nil, bytes, m.Cycles(bytes, 50), s)
		m.ObserveLocal(class, bytes, 50, 2*e.LocalTime)
		m.ObserveCloud(class, bytes, 50, 3*e.CloudTime)
	}
}

// A model without own measurements predicts as the fleet of its prior, and passes nothing of it on.
func TestAPriorPredictsAsThoseWhoGaveIt(t *testing.T) {
	rng, class := rand.New(rand.NewPCG(1, 2)), &task.Class{Name: "camera"}
	fleet := pool.Parts{}
	for range 3 {
		m := model(t)
		measure(m, rng, class, 60)
		own := m.Statistics(50)
		require.NoError(t, own.Check())
		require.Len(t, own, 4)
		require.Empty(t, m.Statistics(61))
		fleet.Add(own)
	}
	m := model(t)
	require.Empty(t, m.Statistics(1))
	m.Prior(fleet.Weigh(20))
	local, cloud := m.Correction(class)
	require.InDelta(t, 2, local, 0.05)
	require.InDelta(t, 3, cloud, 0.05)
	local, cloud = m.Correction(&task.Class{Name: "another"})
	require.InDelta(t, 2, local, 0.05, "of all")
	require.InDelta(t, 3, cloud, 0.05, "of all")
	require.Empty(t, m.Statistics(1))
	saved, err := m.Save()
	require.NoError(t, err)
	require.NoError(t, model(t).Restore(saved), "a prior alone leaves a state that can be restored")
	require.NoError(t, m.Restore(saved))
	local, cloud = m.Correction(class)
	require.InDelta(t, 2, local, 0.05, "a prior outlives a restored state")
	require.InDelta(t, 3, cloud, 0.05, "a prior outlives a restored state")
	m.Prior(nil)
	local, cloud = m.Correction(class)
	require.InDelta(t, 1, local, 0)
	require.InDelta(t, 1, cloud, 0)
}

// Own measurements outweigh a wrong prior, and a node passes on only its own.
func TestOwnMeasurementsOutweighAPrior(t *testing.T) {
	rng, class := rand.New(rand.NewPCG(1, 2)), &task.Class{Name: "camera"}
	m := model(t)
	m.Prior(pool.Parts{
		pool.Local + "camera": {Matrix: []float64{0, 0, 20}, Moments: []float64{0, 60}}, pool.Cloud + "camera": {Matrix: []float64{20}, Moments: []float64{-40}},
		allLocal: {Matrix: []float64{20}, Moments: []float64{40}}, allCloud: {Matrix: []float64{20}, Moments: []float64{-40}},
	})
	local, cloud := m.Correction(class)
	require.InDelta(t, 3, local, 0.15)
	require.InDelta(t, math.Exp(-2), cloud, 0.01)
	measure(m, rng, class, 200)
	local, cloud = m.Correction(class)
	require.InDelta(t, 2, local, 0.15)
	require.InDelta(t, 3, cloud, 0.15)
	own, alone := m.Statistics(50), model(t)
	measure(alone, rand.New(rand.NewPCG(1, 2)), class, 200)
	require.Equal(t, alone.Statistics(50), own)
}

// After StatisticsAnew the statistics are those of a model with only the measurements since.
func TestStatisticsBeginAnew(t *testing.T) {
	class := &task.Class{Name: "camera"}
	m, alone := model(t), model(t)
	measure(m, rand.New(rand.NewPCG(3, 4)), class, 200)
	m.StatisticsAnew()
	require.Empty(t, m.Statistics(1))
	measure(m, rand.New(rand.NewPCG(1, 2)), class, 60)
	measure(alone, rand.New(rand.NewPCG(1, 2)), class, 60)
	require.Empty(t, m.Statistics(61))
	own, want := m.Statistics(60), alone.Statistics(60)
	require.Contains(t, want, pool.Local+"camera")
	smoothing := DefaultConfig().Smoothing
	for _, name := range []string{pool.Cloud + "camera", allLocal, allCloud} {
		require.InEpsilon(t, (1-math.Pow(1-smoothing, 60))/smoothing, want[name].Matrix[0], 1e-9, "the latest count most in %s", name)
	}
	require.Len(t, own, len(want))
	for name, p := range want {
		require.InDeltaSlice(t, p.Matrix, own[name].Matrix, 1e-9, name)
		require.InDeltaSlice(t, p.Moments, own[name].Moments, 1e-9, name)
	}
	require.NoError(t, own.Check())
	local, _ := m.Correction(class)
	require.InDelta(t, 2, local, 0.05, "own measurements still correct predictions")
}

func TestModelsThatPredictDifferentlyDoNotMix(t *testing.T) {
	c := DefaultConfig()
	one, err := New(c)
	require.NoError(t, err)
	c.EdgeMcycles *= 2
	same, err := New(c)
	require.NoError(t, err)
	require.Equal(t, one.PoolLayout(), same.PoolLayout())
	c.CloudMcycles *= 2
	other, err := New(c)
	require.NoError(t, err)
	require.NotEqual(t, one.PoolLayout(), other.PoolLayout())
}

// A fleet's statistics of a class correct predictions by no more than measurements may, and statistics of almost no weight make neither infinity nor
// NaN, which the learned state would keep.
func TestAPriorCorrectsWithinTheLimit(t *testing.T) {
	for _, limit := range []float64{1, 4, 1000} {
		for _, part := range []pool.Part{
			{Matrix: []float64{1e-300}, Moments: []float64{1e-154}},
			{Matrix: []float64{1e-300}, Moments: []float64{-1e-154}},
			{Matrix: []float64{20}, Moments: []float64{60}},
			{Matrix: []float64{5e-324}, Moments: []float64{1}},
		} {
			c := DefaultConfig()
			c.CorrectionLimit = limit
			m, err := New(c)
			require.NoError(t, err)
			class := &task.Class{Name: "camera"}
			m.Prior(pool.Parts{pool.Cloud + "camera": part, allLocal: part, allCloud: part}.Weigh(20))
			for range 3 {
				for _, factor := range []float64{m.corrections.all.local.factor(), m.corrections.of(class, 1, limit).cloud} {
					require.True(t, factor >= 1/limit*(1-1e-9) && factor <= limit*(1+1e-9), "%g with limit %g and %v", factor, limit, part)
				}
				measure(m, rand.New(rand.NewPCG(1, 2)), class, 1)
			}
			_, err = m.Save()
			require.NoError(t, err)
		}
	}
}

// Classes known from other nodes only never fill the table.
func TestAPriorLeavesRoomForOwnClasses(t *testing.T) {
	m := model(t)
	for i := range maxClasses / pool.MaxParts {
		parts := pool.Parts{}
		for k := range pool.MaxParts {
			parts[fmt.Sprint(pool.Cloud, i, "/", k)] = pool.Part{Matrix: []float64{20}, Moments: []float64{1}}
		}
		m.Prior(parts)
	}
	require.NotNil(t, m.corrections.own(&task.Class{Name: "camera"}))
}
