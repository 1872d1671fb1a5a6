package twin

import (
	"io"
	"math"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// system is a link and a node that behave exactly as the simulator's model: the experiment must find them.
func system(c *Config, here, first, after, wire Line) []lived {
	rng := rand.New(rand.NewPCG(9, 9))
	var all []lived
	now, edge, link := 0.0, 0.0, 0.0
	for _, t := range draw(c) {
		now += t.after.Seconds()
		l := lived{round: t.round, probe: t.profile != bothProfile, bytes: float64(t.values * 12)}
		if l.probe {
			now = max(now, edge, link) // nothing is on its way
		}
		l.at = now
		l.cloud = t.profile == cloudProfile || (!l.probe && rng.Float64() < c.Cloud)
		if l.cloud {
			l.wire = wire.at(l.bytes)
			l.before = first.at(l.bytes)
			link = max(link, now+l.before) + l.wire/c.Rate
			l.took = link - now + after.at(l.bytes)
		} else {
			edge = max(edge, now) + l.bytes*here.PerByte
			l.took = edge - now + here.Fixed
		}
		if l.probe {
			now += l.took
		} else {
			l.wire, l.before = 0, 0 // cannot be measured
		}
		all = append(all, l)
	}
	return all
}

var (
	aNode  = Line{0.001, 1 / 5e7}
	aStart = Line{0.03, 1 / 2e7}
	anEnd  = Line{0.06, 1 / 9e6}
	aWire  = Line{500, 0.33}
)

func TestTheSimulatorFindsItself(t *testing.T) {
	c := DefaultConfig()
	r, err := weigh(&c, system(&c, aNode, aStart, anEnd, aWire))
	require.NoError(t, err)
	for _, one := range [][2]Line{{aNode, r.Here}, {aStart, r.Before}, {anEnd, r.After}, {aWire, r.Wire}} {
		require.InEpsilon(t, one[0].Fixed, one[1].Fixed, 1e-6)
		require.InEpsilon(t, one[0].PerByte, one[1].PerByte, 1e-6)
	}
	require.Equal(t, c.Rounds*c.Tasks, r.Ways[0].Tasks)
	for _, w := range r.Ways {
		require.InDelta(t, 0, w.Off, 1e-6, w.Way)
		require.Len(t, w.Rounds, c.Rounds)
		require.InDelta(t, 0, w.OffCI95[1]-w.OffCI95[0], 1e-6)
	}
	alone := aStart.at(132e3) + anEnd.at(132e3) + aWire.at(132e3)/c.Rate
	require.Greater(t, r.Ways[2].Measured, alone*1.2, "tasks must have waited, or nothing was tested")
}

// A link that is slower than configured must be detected.
func TestTheSimulatorIsFoundOut(t *testing.T) {
	c := DefaultConfig()
	tasks := system(&c, aNode, aStart, anEnd, aWire)
	for i := range tasks {
		if !tasks[i].probe && tasks[i].cloud {
			tasks[i].took *= 1.2
		}
	}
	r, err := weigh(&c, tasks)
	require.NoError(t, err)
	require.InDelta(t, 1/1.2-1, r.Ways[2].Off, 0.01)
}

// A round on a slower machine, for single and other tasks alike, is not an error of the simulator.
func TestARoundHasItsOwnMachine(t *testing.T) {
	c := DefaultConfig()
	tasks := system(&c, aNode, aStart, anEnd, aWire)
	for i := range tasks {
		if tasks[i].round == 2 {
			tasks[i].took += 0.3
		}
	}
	r, err := weigh(&c, tasks)
	require.NoError(t, err)
	require.InDelta(t, 0, r.Ways[0].Off, 0.001)
}

// A few delayed tasks do not change the slope.
func TestFitBearsHoldUps(t *testing.T) {
	var tasks []lived
	for i := range 20 {
		l := lived{bytes: float64(10_000 * (i + 1))}
		l.took = 0.05 + l.bytes/1e5
		if i%7 == 3 {
			l.took++
		}
		tasks = append(tasks, l)
	}
	line, err := fit(tasks, took)
	require.NoError(t, err)
	require.InEpsilon(t, 1e-5, line.PerByte, 0.05)
	line, err = fit([]lived{{bytes: 1, took: 6}, {bytes: 2, took: 3}, {bytes: 3, took: 1.5}, {bytes: 4, took: 1.5}}, took)
	require.NoError(t, err)
	require.Equal(t, Line{Fixed: 3}, line, "more bytes never take less")
	_, err = fit(tasks[:2], took)
	require.ErrorContains(t, err, "needs 3")
	_, err = fit([]lived{{bytes: 1}, {bytes: 1}, {bytes: 1}}, took)
	require.ErrorContains(t, err, "the same size")
}

func TestIntervalByHand(t *testing.T) {
	got := interval([]float64{0.01, 0.03, 0.02}) // mean 0.02, deviation 0.01, t 4.30 with two degrees of freedom
	require.InDelta(t, 0.02-0.02483, got[0], 1e-4)
	require.InDelta(t, 0.02+0.02483, got[1], 1e-4)
	require.Equal(t, [2]float64{0.5, 0.5}, interval([]float64{0.5}))
}

// The link carries at its rate, adds its round trip, and counts the entering bytes.
func TestTheLinkKeepsItsRate(t *testing.T) {
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer broker.Close()
	l, err := newLink(broker.Addr().String(), 50e3, 100*time.Millisecond)
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr)
	require.NoError(t, err)
	defer client.Close()
	server, err := broker.Accept()
	require.NoError(t, err)
	defer server.Close()

	seen, start := l.watch(), time.Now()
	publish := append([]byte{0x30, 0xff, 0xff, 0x01}, make([]byte, 32767)...) // MQTT: a header and its length
	_, err = client.Write(publish)
	require.NoError(t, err)
	_, err = io.ReadFull(server, make([]byte, len(publish)))
	require.NoError(t, err)
	took := time.Since(start)
	due := time.Duration(float64(len(publish))/50e3*1e9) + 50*time.Millisecond
	require.GreaterOrEqual(t, took, due-10*time.Millisecond)
	require.EqualValues(t, len(publish), seen().bytes)
	require.WithinRange(t, time.Unix(0, seen().entered), start.Add(-time.Second), start.Add(took))

	require.NoError(t, server.SetDeadline(time.Now().Add(20*time.Second)))
	start = time.Now()
	_, err = server.Write([]byte{0xd0, 0}) // PINGRESP
	require.NoError(t, err)
	_, err = io.ReadFull(client, make([]byte, 2))
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
}

func TestDrawnTasksLoadTheLink(t *testing.T) {
	c := DefaultConfig()
	c.Tasks = 20_000
	var busy, span float64
	c.Rounds = 1
	for _, s := range draw(&c)[2*c.Probes:] {
		busy += float64(s.values*valueBytes) / c.Rate * c.Cloud
		span += s.after.Seconds()
	}
	require.InDelta(t, c.Load, busy/span, 0.02)
	require.Equal(t, draw(&c), draw(&c))
}

func TestProblemsAreNamedTogether(t *testing.T) {
	c := DefaultConfig()
	c.Tasks, c.Load, c.Rate = 1, math.NaN(), 0
	err := c.Validate()
	for _, flag := range []string{"-tasks", "-load", "-link"} {
		require.ErrorContains(t, err, flag)
	}
}
