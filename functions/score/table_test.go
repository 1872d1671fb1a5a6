package score

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

// Link measurements apply, within the limits of a finite prediction; before them the configuration does.
func TestTheConditionsOfALink(t *testing.T) {
	c := DefaultConfig()
	c.LinkMbit, c.RTT = 8, "50ms" // 1e6 bytes/s
	m, err := New(c)
	require.NoError(t, err)
	for _, row := range []struct {
		link               host.Link
		goodput, rtt, grow float64
	}{
		{host.Link{}, 1e6, 0.05, 0},
		{host.Link{Goodput: 5e5, RTT: 0.2, Growth: 1.5}, 5e5, 0.2, 1.5},
		{host.Link{Goodput: 1}, 1, 0.05, 0},
		{host.Link{Goodput: 0.25}, 1, 0.05, 0},
		{host.Link{Goodput: 5e5, AtLeast: true}, 1e6, 0.05, 0},
		{host.Link{Goodput: 5e6, AtLeast: true}, 5e6, 0.05, 0},
		{host.Link{Goodput: -1, RTT: -1}, 1e6, 0.05, 0},
		{host.Link{RTT: math.Inf(1)}, 1e6, math.MaxFloat32, 0},
		{host.Link{RTT: math.NaN(), Goodput: math.NaN()}, 1e6, 0.05, 0},
	} {
		_, there := m.conditionsOf(&host.State{Link: row.link})
		require.InDelta(t, row.goodput, there.goodput, 1e-6, "%+v", row.link)
		require.InEpsilon(t, row.rtt, there.rtt, 1e-9, "%+v", row.link)
		require.InDelta(t, row.grow, there.growth, 0)
	}
	for _, row := range []struct{ link, want host.Link }{
		{host.Link{}, host.Link{Goodput: 1e6, RTT: 0.05}},
		{host.Link{Goodput: 7, RTT: 0.1}, host.Link{Goodput: 7, RTT: 0.1}},
		{host.Link{Goodput: 7, AtLeast: true, RTT: 0.1}, host.Link{Goodput: 1e6, AtLeast: true, RTT: 0.1}},
		{host.Link{Goodput: 9e6, AtLeast: true}, host.Link{Goodput: 9e6, AtLeast: true, RTT: 0.05}},
	} {
		m.Assume(&row.link)
		require.Equal(t, row.want, row.link)
	}
}

// A measurement before any prediction counts: it is compared with the configured link.
func TestTheFirstMeasurementCounts(t *testing.T) {
	c := DefaultConfig()
	m, err := New(c)
	require.NoError(t, err)
	other, err := New(c)
	require.NoError(t, err)
	other.EstimateWork(nil, 1000, 1, &host.State{}) // notes the conditions, which are those of the configuration
	class := &task.Class{Name: "c"}
	for _, one := range []*Model{m, other} {
		one.ObserveCloud(class, 1000, 20, 9)
		one.ObserveLocal(class, 1000, 20, 9)
	}
	local, cloud := m.Correction(class)
	require.Greater(t, cloud, 1.0)
	require.Greater(t, local, 1.0)
	wantLocal, want := other.Correction(class)
	require.InDelta(t, want, cloud, 1e-12)
	require.InDelta(t, wantLocal, local, 1e-12)
}

// A ratio of times stays within the limit on both sides, and a ratio that is not a number teaches nothing.
func TestRatiosAreHeldWithinTheLimit(t *testing.T) {
	for measured, want := range map[float64]float64{1e-9: 0.1, 0.1: 0.1, 0.5: 0.5, 2: 2, 10: 10, 1e9: 10} {
		var r ratio
		r.observeLog(measured, 1, 10)
		require.InEpsilon(t, want, r.factor(), 1e-9, "%g", measured)
	}
	m, err := New(DefaultConfig())
	require.NoError(t, err)
	for _, c := range []struct {
		seconds, predicted float64
		want               bool
	}{
		{1, 1, true},
		{1e-9, 1, true},
		{0, 1, false},
		{-1, 1, false},
		{1, 0, false},
		{1, -1, false},
		{math.NaN(), 1, false},
		{1, math.NaN(), false},
		{math.Inf(1), 1, false},
		{1, 1e-320, false},
		{1e-320, 1e-3, true},
		{1e300, 1e-300, false},
		{1e300, 1e300, true},
	} {
		require.Equal(t, c.want, m.measures(c.seconds, c.predicted), "%+v", c)
	}
}
