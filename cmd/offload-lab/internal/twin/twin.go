// Package twin plays the same tasks through the running system and through the simulator, to see whether what is learned and
// judged in the one holds in the other.
//
// The system is the real one: service, broker and consumer on loopback, with a proxy in between that gives the link its rate and
// its delay. Lone tasks measure what the simulator cannot know of this machine: how many bytes a task is on the link,
// and what it takes beyond the link, or here, when nothing waits. The simulator gets that, the rate that the link was given, and
// the arrivals, sizes and decisions of the tasks that follow close upon each other, and nothing of what became of them. What it
// must get right by itself is the waiting.
//
// A machine has its moods, so there are several rounds, each with lone tasks of its own, and the result comes with an interval.
package twin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"app-offload/cmd/offload-lab/internal/sim"
)

// Config is one experiment.
type Config struct {
	Bin, Res, Dir string // as of package stack
	Log           io.Writer

	Rounds int           // of lone tasks and tasks
	Tasks  int           // that follow close upon each other, a round
	Probes int           // lone ones before, a way and round
	Seed   uint64        // of sizes, arrivals and decisions
	Rate   float64       // of the link, bytes/s
	RTT    time.Duration // of the link
	Load   float64       // share of the link's time that the tasks will take
	Cloud  float64       // share of the tasks that goes to the cloud
}

// DefaultConfig takes about seven minutes. Its link is slow enough for a busy machine not to matter much: a task takes seconds on it,
// and is held up for tenths.
func DefaultConfig() Config {
	return Config{Rounds: 4, Tasks: 40, Probes: 6, Seed: 1, Rate: 20e3, RTT: 40 * time.Millisecond, Load: 0.7, Cloud: 0.6}
}

// Validate reports every problem at once.
func (c *Config) Validate() error {
	var problems []error
	for _, k := range []struct {
		name             string
		value, low, high float64
	}{
		{"-rounds", float64(c.Rounds), 1, 100},
		{"-tasks", float64(c.Tasks), 10, 100_000},
		{"-probes", float64(c.Probes), 3, 1000},
		{"-link", c.Rate / 1e3, 5, 1e5},
		{"-rtt", c.RTT.Seconds(), 0, 5},
		{"-load", c.Load, 0.05, 0.95},
		{"-cloud", c.Cloud, 0.01, 0.99},
	} {
		if !(k.value >= k.low && k.value <= k.high) {
			problems = append(problems, fmt.Errorf("%s %g: must be within %g–%g", k.name, k.value, k.low, k.high))
		}
	}
	return errors.Join(problems...)
}

// Way is the tasks of one way, or of both.
type Way struct {
	Way       string  `json:"way"`
	Tasks     int     `json:"tasks"`
	Measured  float64 `json:"measured"`  // mean completion time in the system, s
	Simulated float64 `json:"simulated"` // the same in the simulator
	Off       float64 `json:"off"`       // by how much the simulator is off, as a share of what was measured
	// Rounds is Off of each round, and OffCI95 the interval that they give for their mean; without a width for a single round.
	Rounds  []float64  `json:"rounds"`
	OffCI95 [2]float64 `json:"offCI95"`
}

// Line is a number that grows with the size of a task: Fixed + PerByte·bytes.
type Line struct {
	Fixed   float64 `json:"fixed"`
	PerByte float64 `json:"perByte"`
}

func (l Line) at(bytes float64) float64 { return l.Fixed + l.PerByte*bytes }

// Result is one experiment. The first of its ways is both.
type Result struct {
	Ways   []Way `json:"ways"`
	Here   Line  `json:"here"`   // s of a lone task; of all rounds, as are the others
	Before Line  `json:"before"` // s of a lone task until the link has it
	After  Line  `json:"after"`  // s from when the link has carried it
	Wire   Line  `json:"wire"`   // bytes of a task on the link
}

// lived is one task as the system knows it.
type lived struct {
	place  int // among those that were sent
	round  int
	probe  bool
	cloud  bool
	at     float64 // s from the first
	bytes  float64
	wire   float64 // bytes on the link
	before float64 // s until the link had it, of a lone task
	took   float64 // s
	waited float64 // s of took, until it was decided
	parked bool    // until then
	down   bool    // there was no link then
	joules float64

	deadline float64 // s, 0 for none
}

// Run plays the experiment.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	tasks, err := play(ctx, &c)
	if err != nil {
		return nil, err
	}
	return weigh(&c, tasks)
}

// after is how long a lone task took from when the link had carried it.
func (c *Config) after(t *lived) float64 { return t.took - t.before - t.wire/c.Rate }

func took(t *lived) float64   { return t.took }
func before(t *lived) float64 { return t.before }
func onWire(t *lived) float64 { return t.wire }

// weigh holds the simulator against what was lived.
func weigh(c *Config, tasks []lived) (*Result, error) {
	here, cloud := pick(tasks, func(t *lived) bool { return t.probe && !t.cloud }), pick(tasks, func(t *lived) bool { return t.probe && t.cloud })
	r := &Result{}
	for _, one := range []struct {
		into  *Line
		tasks []lived
		of    func(*lived) float64
	}{
		{&r.Here, here, took}, {&r.Wire, cloud, onWire}, {&r.Before, cloud, before}, {&r.After, cloud, c.after},
	} {
		var err error
		if *one.into, err = fit(one.tasks, one.of); err != nil {
			return nil, err
		}
	}
	rounds := make([][]pair, c.Rounds)
	for i := range rounds {
		var err error
		if rounds[i], err = simulate(c, r, pick(tasks, func(t *lived) bool { return t.round == i })); err != nil {
			return nil, err
		}
	}
	r.Ways = []Way{
		way("both", rounds, func(*lived) bool { return true }),
		way("here", rounds, func(t *lived) bool { return !t.cloud }),
		way("cloud", rounds, func(t *lived) bool { return t.cloud }),
	}
	return r, nil
}

func pick(tasks []lived, of func(*lived) bool) []lived {
	return slices.DeleteFunc(slices.Clone(tasks), func(t lived) bool { return !of(&t) })
}

// fit finds the line through lone tasks: the slope is the median of those between all pairs (Theil and Sen), which a few tasks
// that something else held up cannot turn, and the constant is the mean of what the slope leaves, hold-ups included.
func fit(tasks []lived, of func(*lived) float64) (Line, error) {
	if len(tasks) < 3 {
		return Line{}, fmt.Errorf("%d lone tasks came back on one of the ways: needs 3", len(tasks))
	}
	var slopes []float64
	for i, a := range tasks {
		for _, b := range tasks[:i] {
			if a.bytes != b.bytes {
				slopes = append(slopes, (of(&a)-of(&b))/(a.bytes-b.bytes))
			}
		}
	}
	if len(slopes) == 0 {
		return Line{}, errors.New("all lone tasks are of one size: nothing can be told of what a byte takes")
	}
	slices.Sort(slopes)
	slope := max(slopes[len(slopes)/2], 0)
	return Line{beyond(tasks, slope, of), slope}, nil
}

// beyond is what tasks take on average beyond what their bytes take.
func beyond(tasks []lived, slope float64, of func(*lived) float64) float64 {
	rest := 0.0
	for _, t := range tasks {
		rest += (of(&t) - slope*t.bytes) / float64(len(tasks))
	}
	return max(rest, 0)
}

// pair is a task as it was lived, and how long it took in the simulator.
type pair struct {
	lived
	simulated float64
}

// simulate plays the tasks of one round. What a task takes beyond waiting is that of the round's own lone tasks, as the machine
// may have been busier than in other rounds; what a byte takes is that of all rounds.
func simulate(c *Config, r *Result, round []lived) ([]pair, error) {
	here, first, after := r.Here, r.Before, r.After
	if lone := pick(round, func(t *lived) bool { return t.probe && !t.cloud }); len(lone) > 0 {
		here.Fixed = beyond(lone, here.PerByte, took)
	}
	if lone := pick(round, func(t *lived) bool { return t.probe && t.cloud }); len(lone) > 0 {
		first.Fixed, after.Fixed = beyond(lone, first.PerByte, before), beyond(lone, after.PerByte, c.after)
	}
	tasks := pick(round, func(t *lived) bool { return !t.probe })
	slices.SortStableFunc(tasks, func(a, b lived) int { return cmp.Compare(a.at, b.at) })

	world := sim.DefaultConfig()
	world.HeaderBytes, world.Overhead, world.CloudMcycles = 0, after.Fixed, 1
	jobs := make([]sim.Job, len(tasks))
	for i, t := range tasks { // work is counted in bytes: the node's rate is one over what a byte takes
		jobs[i] = sim.Job{At: t.at, Bytes: r.Wire.at(t.bytes), Mcycles: t.bytes, Deadline: 1, Slowness: after.PerByte}
		if t.cloud {
			jobs[i].At += first.at(t.bytes) // while others are still on the link
		}
	}
	e, err := sim.Steady(&world, jobs, 1/max(here.PerByte, 1e-12), c.Rate)
	if err != nil {
		return nil, err
	}
	pairs, servers := make([]pair, len(tasks)), e.Idle()
	for i, t := range tasks {
		took := 0.0
		if t.cloud {
			servers.Link, took = e.Cloud(i, servers.Link)
			took += first.at(t.bytes)
		} else {
			servers.Edge, took = e.Local(i, servers.Edge)
			took += here.Fixed
		}
		pairs[i] = pair{t, took}
	}
	return pairs, nil
}

func way(name string, rounds [][]pair, of func(*lived) bool) Way {
	w := Way{Way: name}
	for _, round := range rounds {
		n, measured, simulated := 0, 0.0, 0.0
		for i := range round {
			if of(&round[i].lived) {
				n++
				measured += round[i].took
				simulated += round[i].simulated
			}
		}
		if n > 0 {
			w.Rounds = append(w.Rounds, simulated/measured-1)
		}
		w.Tasks, w.Measured, w.Simulated = w.Tasks+n, w.Measured+measured, w.Simulated+simulated
	}
	if w.Tasks > 0 {
		w.Off = w.Simulated/w.Measured - 1
		w.Measured /= float64(w.Tasks)
		w.Simulated /= float64(w.Tasks)
	}
	w.OffCI95 = interval(w.Rounds)
	return w
}

// student95 is the 97.5 % quantile of Student's t from one degree of freedom on.
var student95 = [...]float64{12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23}

// interval is that of the mean at 95 %.
func interval(values []float64) [2]float64 {
	n, mean, squares := float64(len(values)), 0.0, 0.0
	for _, v := range values {
		mean += v / n
	}
	if len(values) < 2 {
		return [2]float64{mean, mean}
	}
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	half := student95[min(len(values)-2, len(student95)-1)] * math.Sqrt(squares/(n-1)/n)
	return [2]float64{mean - half, mean + half}
}
