package sim

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
)

// The presumed progress of a task is its time at the speed of earlier tasks, and never complete.
func TestWhatIsDoneOfATaskByHand(t *testing.T) {
	var p pace
	k := keeping{began: 2, until: 4, mcycles: 100}
	require.Zero(t, p.done(&k, 3), "nothing has been measured")
	p.end(&keeping{began: 0, until: 2, mcycles: 60}) // 30 Mcycle/s
	require.InDelta(t, 45, p.done(&k, 3.5), 1e-9)
	require.InDelta(t, 90, p.done(&k, 30), 1e-9)
	require.Zero(t, p.done(&k, 1), "it has not begun")
}

// An outage that ends beyond the range of trouble is still simulated.
func TestTroubleBeyondTheHorizon(t *testing.T) {
	curve, err := trace.NewCurve([]float64{0}, []float64{8}, day)
	require.NoError(t, err)
	r := Rate{curve: curve}
	require.NoError(t, r.hold([]span{{20, 30}}, 0.25, 10))
	require.InDelta(t, 8, r.At(19.9), 0)
	require.InDelta(t, 2, r.At(25), 0)
	require.InDelta(t, 8, r.At(30.5), 0)
}

// Outages and load steps are both applied to the recordings: without them the same draw has another link, and twice the node during the steps.
func TestTroubleIsLaidOverLinkAndNode(t *testing.T) {
	draw := func(trouble Trouble) *Episode { return world(t, func(c *Config) { c.Trouble = trouble }).Draw(5) }
	calm := draw(Trouble{})
	for _, trouble := range []Trouble{{Outages: 3, Outage: [2]float64{20, 60}, CPUSteps: 2}, {CPUSteps: 2}, {Outages: 3, Outage: [2]float64{20, 60}}} {
		e := draw(trouble)
		require.Len(t, e.outages, trouble.Outages)
		length, slowed, cut := e.Jobs[len(e.Jobs)-1].At, 0, 0
		for at := 0.05; at < length*1.1; at += length / 1000 {
			if within(e.outages, at) {
				cut++
				require.Zero(t, e.Link.At(at))
			} else {
				require.InDelta(t, calm.Link.At(at), e.Link.At(at), 1e-9)
			}
			if calm.Edge.At(at) != e.Edge.At(at) {
				slowed++
				require.InDelta(t, calm.Edge.At(at)/2, e.Edge.At(at), 1e-9)
			}
		}
		require.Equal(t, trouble.Outages > 0, cut > 0)
		require.InDelta(t, 100*trouble.CPUSteps, slowed, float64(60*trouble.CPUSteps), "a tenth of the episode each, which may overlap")
	}
}

// The gateway's beliefs about node, link and cloud are wrong by Beliefs, and possible tasks are bounded by the draws.
func TestTheGatewaysModelByHand(t *testing.T) {
	c := DefaultConfig()
	c.EdgeMcycles, c.CloudMcycles, c.Scale, c.Overhead, c.HeaderBytes = 600, 3000, 5, 0.25, 321
	c.Beliefs = Beliefs{Edge: 2, Link: 4, Cloud: 8}
	s := c.Score()
	require.InDelta(t, 1200, s.EdgeMcycles, 1e-9)
	require.InDelta(t, 24000, s.CloudMcycles, 1e-9)
	require.InDelta(t, 1.3/5*4, s.LinkMbit, 1e-9)
	require.InDelta(t, 0.01, s.MinEdgeShare, 1e-9)
	require.Equal(t, "0.25s", s.Overhead)
	require.Equal(t, 321, s.HeaderBytes)
	c.Mix = []Kind{{Bytes: [2]float64{2048, 9000}, Mcycles: [2]float64{1, 30}}, {Bytes: [2]float64{1024, 5000}, Mcycles: [2]float64{1, 20}}, {Bytes: [2]float64{4096, 4100}, Mcycles: [2]float64{1, 4}}}
	require.InDelta(t, 20, c.maxDensity(), 0)
	require.InDelta(t, 0.2, c.Score().McyclesPerKB, 1e-12)
	require.Equal(t, 9001, c.maxBytes())
	unknown := c
	unknown.Unknown.Task = 1
	require.InDelta(t, 600, unknown.maxDensity(), 0)
	require.Equal(t, 9001, unknown.maxBytes())
	c.Trouble.Pareto = 1.5
	require.InDelta(t, 600, c.maxDensity(), 0)
	require.Equal(t, 90001, c.maxBytes())
}

// A Pareto draw is at least the range's minimum, above twice that with the probability of the shape, and never more than ten times the maximum.
func TestParetoByItsShape(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const draws = 20_000
	above, most := 0, 0.0
	for range draws {
		v := pareto(rng, [2]float64{3, 5}, 1)
		require.GreaterOrEqual(t, v, 3.0)
		if v > 6 {
			above++
		}
		most = max(most, v)
	}
	require.InDelta(t, draws/2, above, 500)
	require.InDelta(t, 50, most, 0)
}

// A cut link closes its connections: the service notices it immediately, and again when the link is back.
func TestACutIsNoticedAtOnce(t *testing.T) {
	c := DefaultConfig()
	e, err := Bench(&c, []Job{{At: 1, Bytes: 1, Mcycles: 1}}, 1000, 1000, 0.04, [2]float64{20, 30})
	require.NoError(t, err)
	require.Equal(t, []span{{20, 30}}, e.noticed())
	e, err = Bench(&c, []Job{{At: 1, Bytes: 1, Mcycles: 1}}, 1000, 1000, 0.04, [2]float64{})
	require.NoError(t, err)
	require.Empty(t, e.noticed())
}
