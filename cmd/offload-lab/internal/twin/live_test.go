package twin

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A system that equals the simulator's model: one worker and one link, both FIFO.
func fifo(s *Setting, cloud bool) []lived {
	rng := rand.New(rand.NewPCG(1, 2))
	var all []lived
	add := func(t lived) { t.place = len(all); all = append(all, t) }
	work := func(bytes float64) float64 { return 0.01 + bytes/1024*s.PerKB.Seconds() }
	wire := func(bytes float64) float64 { return 200 + bytes/3 }
	for i := range 5 {
		bytes := float64(9000 + 10_000*i)
		add(lived{probe: true, bytes: bytes, took: work(bytes)})
		add(lived{probe: true, cloud: true, bytes: bytes, wire: wire(bytes), before: 0.002, took: 0.002 + wire(bytes)/s.Rate + s.RTT.Seconds()})
	}
	at, free := 100.0, 0.0
	add(lived{probe: true, cloud: true, bytes: 20_000, took: 9}) // the link saw nothing of it, so it says nothing of the link
	for range 60 {
		at += s.Gap.Seconds() * rng.ExpFloat64()
		bytes := 9000 + 51_000*rng.Float64() // none waits for company
		each, beyond := work(bytes), 0.0
		if cloud {
			each, beyond = wire(bytes)/s.Rate, 0.002+s.RTT.Seconds()
		}
		free = max(free, at) + each
		add(lived{cloud: cloud, at: at, bytes: bytes, took: free - at + beyond, joules: 1})
	}
	return all
}

func TestASystemLikeTheSimulatorIsSimulatedRight(t *testing.T) {
	s := Settings()[0]
	c := LiveConfig{Settings: []Setting{s}, Policies: []string{"edge", "cloud"}, Rounds: 1}
	played := map[[2]string][][]lived{{s.Name, "edge"}: {fifo(&s, false)}, {s.Name, "cloud"}: {fifo(&s, true)}}
	all, err := c.judge(&s, played)
	require.NoError(t, err)
	require.Len(t, all, 2)
	for i, st := range all {
		require.Equal(t, 60, st.Tasks)
		require.InDelta(t, 0, st.Off, 1e-3, st.Policy)
		require.InEpsilon(t, st.P99, st.Simulated.P99, 1e-3, st.Policy)
		require.InDelta(t, st.Late, st.Simulated.Late, 1e-9, st.Policy)
		require.InDelta(t, float64(1-i), st.Local, 1e-9)
		require.Len(t, st.Parts, 1, "all went one way")
		require.InDelta(t, 0, st.Parts[0].Off, 1e-3, st.Policy)
	}
}

// An outage begins and ends with the tasks before which the link is cut and restored.
func TestAnOutageIsThatOfItsTasks(t *testing.T) {
	s := Settings()[3]
	require.Equal(t, "outage", s.Name)
	tasks, outage := crowd(&s, fifo(&s, true))
	require.InDelta(t, 1, tasks[0].at, 1e-9)
	require.InDelta(t, tasks[21].at, outage[0], 1e-9)
	require.InDelta(t, tasks[33].at, outage[1], 1e-9)

	late := fifo(&s, true)
	late[11+40].down, late[11+40].waited = true, 0.5
	tasks, outage = crowd(&s, late)
	require.InDelta(t, tasks[21].at, outage[0], 1e-9)
	require.InDelta(t, tasks[40].at+0.5, outage[1], 1e-9, "the service had not connected again")
}

func TestContestantsAreTheSameOnBothSides(t *testing.T) {
	for name, want := range map[string]string{
		"greedy": "OFFLOAD_WRITABLE_POLICY_COSTSHADOW=false", "random": "OFFLOAD_WRITABLE_POLICY_RANDOMSHARE=0.45", "defer": "OFFLOAD_WRITABLE_POLICY_DEFAULT=defer",
	} {
		env, err := configured(name)
		require.NoError(t, err)
		require.Contains(t, env, want)
		_, err = simulated(name, 1)
		require.NoError(t, err)
	}
	_, err := configured("lottery")
	require.ErrorContains(t, err, "lottery")
}

func TestLiveRefusesWhatItCannotPlay(t *testing.T) {
	c := LiveConfig{Rounds: 0, Tasks: 5, Probes: 1, Devices: 0}
	err := c.Validate()
	for _, part := range []string{"-rounds 0", "-tasks 5", "-probes 1", "-devices 0", "at least one setting"} {
		require.ErrorContains(t, err, part)
	}
	require.Positive(t, Settings()[0].RTT, time.Duration(0))
}

// The bytes of a dense series on the link are measured on the series itself: single tasks come first, when compression has less history.
func TestACrowdsBytesAreThoseThatTheLinkCarried(t *testing.T) {
	all := []lived{
		{probe: true, cloud: true, bytes: 1000, wire: 400}, {cloud: true, bytes: 1000}, {bytes: 5000}, {cloud: true, bytes: 3000},
	}
	divide(all, 1200)
	wires := []float64{}
	for i := range all {
		wires = append(wires, all[i].wire)
	}
	require.Equal(t, []float64{400, 300, 0, 900}, wires)

	runs := [][]lived{all, {{cloud: true, bytes: 1000, wire: 1}}, {{cloud: true, bytes: 1000, wire: 1e6}}}
	g := gateway{wire: Line{Fixed: 100, PerByte: 0.35}}
	g.carried(runs)
	require.InDelta(t, 1200, g.wire.at(1000)+g.wire.at(3000), 1e-9, "less than single tasks take")
	require.InDelta(t, 0.35/100, g.wire.PerByte/g.wire.Fixed, 1e-9)
	require.Zero(t, g.trail)
	before := g
	g.carried(nil)
	require.Equal(t, before, g, "no task of a crowd went to the cloud")

	g = gateway{wire: Line{Fixed: 100, PerByte: 0.2}}
	g.carried(runs)
	require.Equal(t, Line{Fixed: 100, PerByte: 0.2}, g.wire)
	require.InDelta(t, 80, g.trail, 1e-9, "1,200 bytes for 1,000, of tasks of 400 on average")
}
