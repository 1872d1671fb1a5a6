package twin

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"app-offload/cmd/offload-lab/internal/judge"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/functions/batch"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
)

// Standing is the result of one policy in one setting: in the service, and in the simulator with the same arrivals and sizes.
type Standing struct {
	Setting string     `json:"setting"`
	About   string     `json:"about"`
	Policy  string     `json:"policy"`
	Tasks   int        `json:"tasks"`
	Mean    float64    `json:"mean"`     // s from arrival to result, over all rounds
	CI95    [2]float64 `json:"meanCI95"` // over the rounds
	P99     float64    `json:"p99"`      // s, over all rounds
	Late    float64    `json:"late"`     // share of tasks that missed their deadline
	Local   float64    `json:"local"`    // share of tasks computed locally
	Joules  float64    `json:"joules"`   // per task, as estimated by the service
	// Simulated are the same figures of the simulator, and Off is the relative error of its mean.
	Simulated Simulated `json:"simulated"`
	Off       float64   `json:"off"`
	// Parts compare the means of local and of cloud tasks with the simulator on the service's own decisions, so that it only predicts the waiting.
	Parts []Part `json:"parts"`
	// Rounds are the means of each round.
	Rounds []float64 `json:"rounds"`
}

// Simulated are the simulator's figures.
type Simulated struct {
	Mean  float64 `json:"mean"`
	P99   float64 `json:"p99"`
	Late  float64 `json:"late"`
	Local float64 `json:"local"`
}

// Part is the tasks of one path.
type Part struct {
	Path      string  `json:"path"`
	Share     float64 `json:"share"` // of all tasks
	Measured  float64 `json:"measured"`
	Simulated float64 `json:"simulated"`
	Off       float64 `json:"off"`
}

// standing summarizes the rounds of one policy.
func standing(s *Setting, name string, rounds []run) Standing {
	var measured, simulated []outcome
	st := Standing{Setting: s.Name, About: s.About, Policy: name}
	parts := [2]Part{{Path: "local"}, {Path: "cloud"}}
	for _, r := range rounds {
		measured, simulated = append(measured, r.measured...), append(simulated, r.simulated...)
		st.Rounds = append(st.Rounds, mean(r.measured))
		for i := range parts {
			parts[i].Share += float64(r.parts[i].n)
			parts[i].Measured += r.parts[i].measured
			parts[i].Simulated += r.parts[i].simulated
		}
	}
	cloud, late := func(o *outcome) bool { return o.cloud }, func(o *outcome) bool { return o.late }
	st.Tasks, st.Mean, st.CI95, st.P99 = len(measured), mean(measured), interval(st.Rounds), quantile(measured, 0.99)
	st.Late, st.Local = share(measured, late), 1-share(measured, cloud)
	for i := range measured {
		st.Joules += measured[i].joules / float64(len(measured))
	}
	st.Simulated = Simulated{mean(simulated), quantile(simulated, 0.99), share(simulated, late), 1 - share(simulated, cloud)}
	st.Off = st.Simulated.Mean/st.Mean - 1
	for _, p := range parts {
		if n := p.Share; n > 0 {
			p.Off = p.Simulated/p.Measured - 1
			p.Share, p.Measured, p.Simulated = n/float64(len(measured)), p.Measured/n, p.Simulated/n
			st.Parts = append(st.Parts, p)
		}
	}
	return st
}

func quantile(all []outcome, q float64) float64 {
	took := make([]float64, len(all))
	for i := range all {
		took[i] = all[i].took
	}
	slices.SortFunc(took, cmp.Compare)
	return took[min(int(math.Ceil(q*float64(len(took))))-1, len(took)-1)]
}

func share(all []outcome, of func(*outcome) bool) float64 {
	n := 0
	for i := range all {
		if of(&all[i]) {
			n++
		}
	}
	return float64(n) / float64(max(len(all), 1))
}

func mean(all []outcome) float64 {
	sum := 0.0
	for i := range all {
		sum += all[i].took
	}
	return sum / float64(max(len(all), 1))
}

// part sums the tasks of one path.
type part struct {
	n                   int
	measured, simulated float64
}

// gateway is the calibration of a setting on this machine by single tasks.
type gateway struct {
	here, first, after, wire Line
	trail                    float64 // bytes sent after a task of a dense series
	serve                    float64 // s of here in which the node computes, 0 means all of it
	devices                  int     // number of devices that send the tasks in turn
}

// run simulates the tasks of one run.
func (g *gateway) run(s *Setting, name string, seed uint64, all []lived) (run, error) {
	slices.SortFunc(all, func(a, b lived) int { return cmp.Compare(a.place, b.place) })
	tasks, outage := crowd(s, all)
	e, world, err := g.episode(s, tasks, outage)
	if err != nil {
		return run{}, err
	}
	for i := range all {
		if t := &all[i]; t.probe && t.wire > 0 {
			e.Before = append(e.Before, sim.Message{Bytes: t.wire, Records: t.bytes + recordBytes})
		}
	}
	r := run{}
	for i := range tasks {
		t := &tasks[i]
		r.measured = append(r.measured, outcome{t.took, t.joules, t.cloud, t.took > s.Deadline.Seconds()})
	}
	p, err := simulated(name, seed)
	if err != nil {
		return run{}, err
	}
	env, err := sim.NewEnv(world)
	if err != nil {
		return run{}, err
	}
	r.parts = given(env, e, tasks)
	sim.Play(env, e, p, func(_ *sim.Situation, _ decision.Decision, i sim.Info) {
		r.simulated = append(r.simulated, outcome{i.Took, i.Joules, i.Cloud, i.Missed})
	})
	return r, nil
}

// measure fits the lines of single tasks.
func (c *Config) measure(all []lived) (g gateway, err error) {
	here, cloud := pick(all, func(t *lived) bool { return t.probe && !t.cloud }), pick(all, func(t *lived) bool { return t.probe && t.wire > 0 })
	for _, one := range []struct {
		into  *Line
		tasks []lived
		of    func(*lived) float64
	}{{&g.here, here, took}, {&g.wire, cloud, onWire}, {&g.first, cloud, before}, {&g.after, cloud, c.after}} {
		if *one.into, err = fit(one.tasks, one.of); err != nil {
			return g, err
		}
	}
	return g, nil
}

// shippedBatch is the service's batching.
var shippedBatch = batch.DefaultConfig()

// recordBytes is the size of a record without its data.
const recordBytes = 165

// together subtracts the wait for a larger batch from the time of small single tasks: in a dense series it depends on the other tasks.
func together(all []lived) []lived {
	age, _ := time.ParseDuration(shippedBatch.MaxAge) // as shipped
	all = slices.Clone(all)
	for i := range all {
		if t := &all[i]; t.probe && t.cloud && t.bytes+recordBytes < batch.LargeRecord {
			t.before, t.took = t.before-age.Seconds(), t.took-age.Seconds()
		}
	}
	return all
}

// carried adds the bytes that the link carried for the tasks of a run beyond those of single tasks, such as confirmations of results. They are sent
// after their tasks, so they delay only other tasks. If the link carried less, messages of several records compress better. The median of the runs
// counts: a run with a reconnect sent messages twice.
func (g *gateway) carried(runs [][]lived) {
	var ratios []float64
	sum, n := 0.0, 0.0
	for _, run := range runs {
		expected, carried := 0.0, 0.0
		for i := range run {
			if t := &run[i]; t.cloud && !t.probe {
				expected, carried = expected+g.wire.at(t.bytes), carried+t.wire
				n++
			}
		}
		if carried > 0 {
			ratios = append(ratios, carried/expected)
		}
		sum += expected
	}
	if len(ratios) == 0 {
		return
	}
	slices.Sort(ratios)
	if r := ratios[len(ratios)/2]; r > 1 {
		g.trail = (r - 1) * sum / n
	} else {
		g.wire.Fixed *= r
		g.wire.PerByte *= r
	}
}

// crowd returns the tasks of the dense series in the order of sending, on a clock that begins a second before the first of them, and the outage: it
// lasts beyond the repair of the link until the service's next connection attempt, which comes at random.
func crowd(s *Setting, all []lived) (tasks []lived, outage [2]float64) {
	tasks = pick(all, func(t *lived) bool { return !t.probe })
	begin := tasks[0].at - 1
	for i := range tasks {
		tasks[i].at -= begin
	}
	if s.Outage[1] > s.Outage[0] {
		for i := range outage {
			outage[i] = tasks[int(s.Outage[i]*float64(len(tasks)))].at
		}
		for i := range tasks {
			if t := &tasks[i]; t.down {
				outage[1] = max(outage[1], t.at+t.waited)
			}
		}
	}
	return tasks, outage
}

// perSecond is the rate of the simulated node: a Mcycle is a millisecond.
const perSecond = 1000.0

// cloudPerSecond is the rate of the cloud, high enough for zero work in the gateway's belief: after single tasks it knows that there is next to none.
const cloudPerSecond = 1e6

// episode builds the run for the simulator.
func (g *gateway) episode(s *Setting, tasks []lived, outage [2]float64) (*sim.Episode, *sim.World, error) {
	c := sim.DefaultConfig()
	believed := score.DefaultConfig()
	c.EdgeMcycles, c.CloudMcycles, c.HeaderBytes = perSecond, cloudPerSecond, g.wire.Fixed
	c.Batch, c.TrailBytes = &shippedBatch, g.trail
	if c.EdgeJoules = believed.EdgeJoules * believed.EdgeMcycles / perSecond; s.PerKB > 0 { // a model's work is its run time, an operator's is set by its class
		c.EdgeJoules = believed.EdgeJoules * believed.McyclesPerKB * classComplexity / (s.PerKB.Seconds() * perSecond)
	}
	c.Devices = g.devices
	c.Overhead = max(g.first.Fixed+g.after.Fixed-s.RTT.Seconds(), 0)
	jobs := make([]sim.Job, len(tasks))
	kind := sim.Kind{Name: "crowd", Share: 1}
	for i := range tasks {
		t := &tasks[i]
		here := g.here.at(t.bytes)
		serve := here
		if g.serve > 0 {
			serve = min(here, g.serve)
		}
		work := max(serve*perSecond, 1e-3)
		away := (g.first.PerByte + g.after.PerByte) * t.bytes
		jobs[i] = sim.Job{
			At: t.at, Bytes: g.wire.PerByte * t.bytes, Record: t.bytes + recordBytes, Mcycles: work, Deadline: s.Deadline.Seconds(), RTT: s.RTT.Seconds(), Slowness: away * cloudPerSecond / work,
			Answer: here - serve,
		}
		kind.Bytes = widen(kind.Bytes, jobs[i].Record)
		kind.Mcycles = widen(kind.Mcycles, work)
	}
	c.Mix = []sim.Kind{kind}
	e, err := sim.Bench(&c, jobs, perSecond, s.Rate, s.RTT.Seconds(), outage)
	return e, &sim.World{Config: c}, err
}

const classComplexity = 20 // of the shipped class default

// widen extends the bounds to include a value.
func widen(between [2]float64, v float64) [2]float64 {
	if between == [2]float64{} {
		return [2]float64{v, v}
	}
	return [2]float64{min(between[0], v), max(between[1], v)}
}

// given simulates the tasks with the service's own decisions and their times.
func given(env *sim.Env, e *sim.Episode, tasks []lived) (parts [2]part) {
	all := make([]sim.Given, len(tasks))
	for i := range tasks {
		t := &tasks[i]
		all[i] = sim.Given{Job: i, At: t.at + t.waited, Cloud: t.cloud, Waits: t.parked}
	}
	slices.SortStableFunc(all, func(a, b sim.Given) int { return cmp.Compare(a.At, b.At) })
	sim.Replay(env, e, all, func(i sim.Info) {
		at := 0
		if i.Cloud {
			at = 1
		}
		parts[at].n++
		parts[at].measured += tasks[i.Job].took
		parts[at].simulated += i.Took
	})
	return parts
}

// coin is the share of cloud decisions of policy random in Live.
const coin = 0.45

// settingsOf are the service's settings for contestants that are not just a policy.
var settingsOf = map[string][]string{
	"greedy":  {"OFFLOAD_WRITABLE_POLICY_DEFAULT=cost", "OFFLOAD_WRITABLE_POLICY_COSTSHADOW=false"},
	"article": {"OFFLOAD_WRITABLE_POLICY_DEFAULT=weighted", "OFFLOAD_WRITABLE_POLICY_WEIGHTEDPRESET=article"},
}

// configured returns the service's settings for a contestant.
func configured(name string) ([]string, error) {
	env := []string{fmt.Sprintf("OFFLOAD_WRITABLE_POLICY_RANDOMSHARE=%g", coin)}
	if set, ok := settingsOf[name]; ok {
		return append(env, set...), nil
	}
	return append(env, "OFFLOAD_WRITABLE_POLICY_DEFAULT="+name), policy.Known(name)
}

// simulated returns the same contestant for the simulator.
func simulated(name string, seed uint64) (policy.Policy, error) {
	c := policy.DefaultConfig()
	c.RandomShare, c.RandomSeed = coin, int(seed%1e9) //nolint:gosec // no overflow below 1e9
	field, err := judge.Field(name, c)
	if err != nil {
		return nil, err
	}
	return field[0].Make(0)
}
