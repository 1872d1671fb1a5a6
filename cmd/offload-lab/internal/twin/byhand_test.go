package twin

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/functions/config"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func TestTheEpisodeOfARunByHand(t *testing.T) {
	g := gateway{here: Line{0.1, 2e-4}, first: Line{0.02, 1e-5}, after: Line{0.05, 3e-5}, wire: Line{100, 0.3}}
	s := Settings()[0]
	e, w, err := g.episode(&s, []lived{{at: 1, bytes: 10_000}, {at: 2, bytes: 20_000}}, [2]float64{})
	require.NoError(t, err)
	require.Len(t, e.Jobs, 2)
	for i, want := range []struct{ at, bytes, mcycles, away float64 }{
		{1, 3000, 2100, 0.04 + 0.03 + 0.4}, // round trip, what single tasks take beyond it, and 40 µs a byte
		{2, 6000, 4100, 0.04 + 0.03 + 0.8},
	} {
		j := &e.Jobs[i]
		require.InDelta(t, want.at, j.At, 0)
		require.InDelta(t, want.bytes, j.Bytes, 1e-9)
		require.InDelta(t, want.mcycles, j.Mcycles, 1e-9)
		require.InDelta(t, want.away, e.Away(i), 1e-9)
		require.InDelta(t, s.Deadline.Seconds(), j.Deadline, 0)
	}
	require.InDeltaSlice(t, []float64{10_165, 20_165}, w.Config.Mix[0].Bytes[:], 1e-9)
	require.InDelta(t, 100, w.Config.HeaderBytes, 0)
	require.InDeltaSlice(t, []float64{2100, 4100}, w.Config.Mix[0].Mcycles[:], 1e-9)

	g.here, g.after.Fixed = Line{}, 0 // no work at all would divide by nothing, and single tasks that were sooner than a round trip add nothing
	e, w, err = g.episode(&s, []lived{{at: 1, bytes: 10_000}}, [2]float64{})
	require.NoError(t, err)
	require.InDelta(t, 1e-3, e.Jobs[0].Mcycles, 0)
	require.Zero(t, w.Config.Overhead)
	require.InDelta(t, 0.04+0.4, e.Away(0), 1e-9)
}

func TestWhatTasksTakeBeyondTheirBytes(t *testing.T) {
	tasks := []lived{{bytes: 10, took: 3}, {bytes: 20, took: 6}}
	require.InDelta(t, 1.5, beyond(tasks, 0.2, took), 1e-12)
	require.Zero(t, beyond(tasks, 1, took), "never less than nothing")
}

func TestTheTasksOfAWayByHand(t *testing.T) {
	one := func(cloud bool, took, simulated float64) pair {
		return pair{lived{cloud: cloud, took: took}, simulated}
	}
	rounds := [][]pair{{one(true, 2, 3), one(false, 1, 9), one(true, 4, 6)}, {one(false, 1, 9)}, {one(true, 2, 1)}}
	w := way("cloud", rounds, func(t *lived) bool { return t.cloud })
	require.Equal(t, 3, w.Tasks)
	require.InDelta(t, 8.0/3, w.Measured, 1e-12)
	require.InDelta(t, 10.0/3, w.Simulated, 1e-12)
	require.InDelta(t, 0.25, w.Off, 1e-12)
	require.InDeltaSlice(t, []float64{0.5, -0.5}, w.Rounds, 1e-12, "a round without such tasks says nothing")
	require.InDelta(t, 0, (w.OffCI95[0]+w.OffCI95[1])/2, 1e-12)
	require.Equal(t, Way{Way: "none"}, way("none", rounds, func(*lived) bool { return false }))
}

func TestTheStandingOfAPolicyByHand(t *testing.T) {
	out := func(took float64, cloud, late bool, joules float64) outcome {
		return outcome{took: took, cloud: cloud, late: late, joules: joules}
	}
	st := standing(&Setting{Name: "s", About: "a"}, "p", []run{
		{measured: []outcome{out(3, true, true, 2), out(1, false, false, 4)}, simulated: []outcome{out(5, true, true, 0), out(1, false, true, 0)}, parts: [2]part{{1, 1, 2}, {1, 3, 6}}},
		{measured: []outcome{out(2, false, false, 0)}, simulated: []outcome{out(3, false, false, 0)}, parts: [2]part{{1, 2, 4}, {}}},
	})
	require.Equal(t, []any{"s", "a", "p", 3, []float64{2, 2}}, []any{st.Setting, st.About, st.Policy, st.Tasks, st.Rounds})
	require.InDeltaSlice(t, []float64{2, 3, 1.0 / 3, 2.0 / 3, 2, 0.5}, []float64{st.Mean, st.P99, st.Late, st.Local, st.Joules, st.Off}, 1e-12)
	require.InDeltaSlice(t, []float64{3, 5, 2.0 / 3, 2.0 / 3}, []float64{st.Simulated.Mean, st.Simulated.P99, st.Simulated.Late, st.Simulated.Local}, 1e-12)
	require.Equal(t, []Part{{Path: "local", Share: 2.0 / 3, Measured: 1.5, Simulated: 3, Off: 1}, {Path: "cloud", Share: 1.0 / 3, Measured: 3, Simulated: 6, Off: 1}}, st.Parts)
	all := []outcome{{took: 4}, {took: 1}, {took: 3}, {took: 2}}
	for q, want := range map[float64]float64{0.01: 1, 0.25: 1, 0.26: 2, 0.5: 2, 0.75: 3, 0.99: 4, 1: 4} {
		require.InDelta(t, want, quantile(all, q), 0, q)
	}
	require.Zero(t, mean(nil))
	require.Zero(t, share(nil, func(*outcome) bool { return true }))
	require.Equal(t, [2]float64{3, 3}, widen([2]float64{}, 3))
	require.Equal(t, [2]float64{2, 3}, widen([2]float64{3, 3}, 2))
	require.Equal(t, [2]float64{3, 4}, widen([2]float64{3, 3}, 4))
}

// The tasks of a round are single ones in turn and then the dense series, the same for every policy; the link is cut and restored before two of them.
func TestTheTasksOfALiveRound(t *testing.T) {
	c := LiveConfig{Tasks: 2000, Probes: 4, Devices: 3, Seed: 7}
	s := &Setting{Gap: 100 * time.Millisecond, Outage: [2]float64{0.25, 0.5}}
	all := c.draw(s, &link{}, 1)
	require.Len(t, all, 2008)
	ids, sum := map[string]bool{}, time.Duration(0)
	for i, one := range all {
		kb := float64(one.values) * valueBytes / 1e3
		require.True(t, kb >= liveLeastKB-0.004 && kb <= liveMostKB, kb)
		ids[one.id], sum = true, sum+one.after
		if i < 8 {
			require.Equal(t, []any{[]string{hereProfile, cloudProfile}[i%2], "single", time.Duration(0)}, []any{one.profile, one.device, one.after})
		} else {
			require.Equal(t, []string{bothProfile, fmt.Sprintf("device-%d", (i-8)%3)}, []string{one.profile, one.device})
		}
		require.Equal(t, i == 8+500 || i == 8+1000, one.link != nil, i)
	}
	require.Len(t, ids, len(all))
	require.InEpsilon(t, 2000*s.Gap.Seconds(), sum.Seconds(), 0.1)
	s.Outage = [2]float64{}
	again := c.draw(s, nil, 1)
	require.Equal(t, all[2007].id, again[2007].id)
	require.NotEqual(t, all[2007].id, c.draw(s, nil, 2)[2007].id)
	require.False(t, slices.ContainsFunc(again, func(t sent) bool { return t.link != nil }))
}

// A contestant decides alike in the service, which is configured by the environment, and in the simulator.
func TestContestantsAreTheSameInBoth(t *testing.T) {
	for _, name := range []string{"greedy", "article", "random", "cost", "defer"} {
		env, err := configured(name)
		require.NoError(t, err)
		c := config.Default()
		_, err = config.ApplyEnv(&c, func(key string) (string, bool) {
			for _, one := range env {
				if value, ok := strings.CutPrefix(one, key+"="); ok {
					return value, true
				}
			}
			return "", false
		})
		require.NoError(t, err)
		c.Writable.Policy.RandomSeed = 7
		want, err := policy.New(c.Writable.Policy.Default, c.Writable.Policy)
		require.NoError(t, err)
		got, err := simulated(name, 3_000_000_007)
		require.NoError(t, err)
		require.Equal(t, want.String(), got.String(), name)
		if name == "random" {
			for range 100 {
				require.Equal(t, want.Decide(&task.Task{}, &score.Estimate{}, &host.State{}), got.Decide(&task.Task{}, &score.Estimate{}, &host.State{}))
			}
		}
	}
	_, err := configured("luck")
	require.Error(t, err)
	_, err = simulated("luck", 1)
	require.Error(t, err)
}

// A run of the service is simulated as always: with earlier single tasks, decisions in any order, and an outage, under each kind of policy.
func TestARunIsSimulatedAsItAlwaysWas(t *testing.T) {
	g := gateway{here: Line{0.1, 2e-5}, first: Line{0.02, 1e-5}, after: Line{0.03, 2e-6}, wire: Line{150, 0.4}, trail: 120, devices: 2}
	var b strings.Builder
	for k, s := range Settings() {
		rng := rand.New(rand.NewPCG(uint64(k), 1))
		var all []lived
		at := 0.0
		for i := range 86 {
			one := lived{place: i, probe: i < 6, at: at, cloud: i%2 == 1, bytes: 2000 + 20_000*rng.Float64(), took: 0.3 + rng.Float64(), parked: i%3 == 0, joules: rng.Float64()}
			if one.probe && one.cloud {
				one.wire, one.before = 0.4*one.bytes, 0.02
			}
			if !one.probe {
				one.waited = 0.9 * rng.Float64() // the order of decisions is not that of arrivals
				one.down = i > 40 && i < 50
			}
			at += 1.5 * s.Gap.Seconds() * rng.ExpFloat64()
			all = append(all, one)
		}
		rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
		for _, name := range []string{"defer", "cost", "random"} {
			r, err := g.run(&s, name, 3, slices.Clone(all))
			require.NoError(t, err)
			fmt.Fprintf(&b, "%s, %s:", s.Name, name)
			for _, side := range [][]outcome{r.measured, r.simulated} {
				joules := 0.0
				for _, o := range side {
					joules += o.joules
				}
				cloud, late := share(side, func(o *outcome) bool { return o.cloud }), share(side, func(o *outcome) bool { return o.late })
				fmt.Fprintf(&b, " %d took %.6g, cloud %.4g late %.4g joules %.6g;", len(side), mean(side), cloud, late, joules)
			}
			for _, p := range r.parts {
				fmt.Fprintf(&b, " part %d %.6g %.6g", p.n, p.measured, p.simulated)
			}
			b.WriteByte('\n')
		}
		_, err := g.run(&s, "luck", 3, slices.Clone(all))
		require.Error(t, err)
	}
	golden.Require(t, "runs.golden", b.String())
}

// A run of loads becomes tasks of the simulator: by hand.
func TestTheTasksOfALoadByHand(t *testing.T) {
	begin := time.Now().Add(-time.Minute)
	after := func(s float64) time.Time { return begin.Add(time.Duration(s * 1e9)) }
	r := &runner{
		all: []string{"a", "b", "c", "d"}, bytes: map[string]float64{"a": 10, "b": 20, "c": 30, "d": 40},
		tasks: map[string]*answered{"a": {sent: begin, done: after(0.5), right: true}, "b": {sent: after(1), done: after(3), cloud: true}, "c": {sent: after(4), done: after(5), cloud: true, right: true}, "d": {sent: after(6)}},
	}
	p := r.lived(2, map[string]passed{"a": {7, after(0.1).UnixNano()}, "b": {8, after(1.25).UnixNano()}, "c": {9, after(3.5).UnixNano()}, "d": {}})
	require.Equal(t, []any{3, 2, 1}, []any{p.answered, p.right, p.not})
	require.InDelta(t, 54, p.all[3].took, 1, "until now")
	p.all[3].took = 0
	require.Equal(t, []lived{
		{place: 0, probe: true, bytes: 10, took: 0.5},
		{place: 1, probe: true, at: 1, cloud: true, bytes: 20, took: 2, wire: 8, before: 0.25},
		{place: 2, at: 4, cloud: true, bytes: 30, took: 1, wire: 9},
		{place: 3, at: 6, bytes: 40},
	}, p.all, "on the link before it was sent is a clock's rounding")
	p.all[3].took = 9
	require.InDelta(t, 0.5, p.late(time.Second), 1e-12)
}

// Every bound of the settings is accepted, and what is beyond it is not.
func TestTheBoundsOfTheSettings(t *testing.T) {
	for _, c := range []struct {
		flag   string
		bounds [4]float64 // below, lowest, highest, above
		check  func(v float64) error
	}{
		{"-rounds", [4]float64{0, 1, 100, 101}, func(v float64) error { c := DefaultConfig(); c.Rounds = int(v); return c.Validate() }},
		{"-tasks", [4]float64{9, 10, 100_000, 100_001}, func(v float64) error { c := DefaultConfig(); c.Tasks = int(v); return c.Validate() }},
		{"-link", [4]float64{4999, 5e3, 1e8, 1.01e8}, func(v float64) error { c := DefaultConfig(); c.Rate = v; return c.Validate() }},
		{"-load", [4]float64{0.04, 0.05, 0.95, 0.96}, func(v float64) error { c := DefaultConfig(); c.Load = v; return c.Validate() }},
		{"-loads", [4]float64{0.04, 0.05, 20, 21}, func(v float64) error { c := DefaultLoadConfig(); c.Loads = []float64{v}; return c.Validate() }},
		{"-duration", [4]float64{0.9, 1, 86400, 86401}, func(v float64) error {
			c := DefaultLoadConfig()
			c.Duration = time.Duration(v * 1e9)
			return c.Validate()
		}},
		{"-work", [4]float64{0.0009, 0.001, 1, 1.1}, func(v float64) error {
			c := DefaultLoadConfig()
			c.Work = time.Duration(v * 1e9)
			return c.Validate()
		}},
		{"-deadline", [4]float64{0.0009, 0.001, 60, 61}, func(v float64) error {
			c := DefaultLoadConfig()
			c.Deadline = time.Duration(v * 1e9)
			return c.Validate()
		}},
		{"-probes", [4]float64{2, 3, 1000, 1001}, func(v float64) error { c := DefaultLoadConfig(); c.Probes = int(v); return c.Validate() }},
		{"-devices", [4]float64{0, 1, 10_000, 10_001}, func(v float64) error {
			c := LiveConfig{Settings: Settings(), Policies: []string{"cost"}, Rounds: 1, Tasks: 10, Probes: 3, Devices: int(v)}
			return c.Validate()
		}},
	} {
		for i, v := range c.bounds {
			if err := c.check(v); i == 0 || i == 3 {
				require.ErrorContains(t, err, c.flag+" ", "%v", v)
			} else {
				require.NoError(t, err, "%s %v", c.flag, v)
			}
		}
	}
}

// The service's decision log becomes tasks of the simulator, by hand. Other events, and tasks without an outcome, are no tasks of the run.
func TestTheDecisionLogOfARunByHand(t *testing.T) {
	entry := func(id string, at float64, change func(*decision.Entry)) []byte {
		e := decision.Entry{
			ID: 1, Policy: "random", EventID: id, Time: int64(at * 1e9), Waited: 500 * time.Millisecond, Size: 1000, Deadline: 2 * time.Second,
			Decision: decision.Decision{Target: decision.Cloud, Propensity: 1, Reason: decision.BoundCloud}, Outcome: decision.Outcome{Known: true, Time: 1.5, Energy: 3, Met: true},
		}
		change(&e)
		line, err := decision.AppendRecord(nil, &e)
		require.NoError(t, err)
		return line
	}
	log := slices.Concat(
		entry("foreign", 1, func(*decision.Entry) {}),
		entry("a", 10, func(e *decision.Entry) { e.State.Link.Up = true }),
		entry("b", 12, func(e *decision.Entry) {
			e.Decision.Target, e.Decision.Reason, e.Waited = decision.Local, decision.Drawn, 0
		}),
		entry("b", 12, func(e *decision.Entry) { e.Outcome.Known = false }),
		entry("c", 13, func(e *decision.Entry) { e.Outcome.Failed = true }),
	)
	name := filepath.Join(t.TempDir(), "decisions.jsonl")
	require.NoError(t, os.WriteFile(name, log, 0o600))
	tasks := []sent{{id: "b", profile: bothProfile, round: 1}, {id: "a", profile: cloudProfile}}
	got, err := readLog(name, tasks, map[string]passed{"a": {bytes: 700, entered: 9_750_000_000}, "b": {bytes: 1, entered: 12_500_000_000}})
	require.NoError(t, err)
	require.Equal(t, []lived{
		{place: 1, probe: true, cloud: true, bytes: 1000, wire: 700, before: 0.25, took: 2, waited: 0.5, parked: true, joules: 3, deadline: 2},
		{place: 0, round: 1, at: 2.5, bytes: 1000, took: 1.5, down: true, joules: 3, deadline: 2},
	}, got)
	_, err = readLog(name, append(tasks, sent{id: "c"}), nil)
	require.ErrorContains(t, err, "returned 2 tasks; 3 were sent")
	require.NoError(t, os.WriteFile(name, []byte("{\n"), 0o600))
	_, err = readLog(name, tasks, nil)
	require.ErrorContains(t, err, name)
	_, err = readLog(name+"x", tasks, nil)
	require.ErrorContains(t, err, "reading the decision log")
}

// A task is an event of its device and profile with that many numbers.
func TestATaskIsAnEvent(t *testing.T) {
	for device, want := range map[string]string{"": "twin", "d7": "d7"} {
		envelope, topic, err := event(sent{id: "5d2a9a4e-9c0b-4c55-8d7a-6f6f3f9a1c2b", profile: cloudProfile, values: 3, device: device}, rand.New(rand.NewPCG(1, 2)))
		require.NoError(t, err)
		require.Equal(t, "events/device/device-twin/"+cloudProfile+"/"+want+"/wave", topic)
		var e struct{ Payload []byte }
		require.NoError(t, json.Unmarshal(envelope, &e))
		var request struct{ Event feed.Event }
		require.NoError(t, json.Unmarshal(e.Payload, &request))
		require.Equal(t, []string{"5d2a9a4e-9c0b-4c55-8d7a-6f6f3f9a1c2b", want, cloudProfile, "wave"}, []string{request.Event.ID, request.Event.Device, request.Event.Profile, request.Event.Source})
		var values []float64
		require.NoError(t, json.Unmarshal([]byte(request.Event.Readings[0].Value), &values))
		require.Len(t, values, 3)
	}
}
