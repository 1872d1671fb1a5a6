package score

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
)

// What was measured of the link counts, within what makes a finite prediction; before that the configuration does.
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
