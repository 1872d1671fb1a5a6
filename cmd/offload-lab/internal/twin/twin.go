// Package twin runs the same tasks through the running system and through the simulator, to check whether results of the simulator hold in the
// system.
//
// The system is the real one: service, broker and consumer on loopback, with a proxy between them that gives the link its rate and its delay. Single
// tasks measure the properties of this machine: the bytes of a task on the link, and its other times to the cloud and locally without waiting. The
// simulator gets these, the rate of the link, and the arrivals, sizes and decisions of the dense series of tasks, but none of their outcomes. It must
// predict their waiting times.
//
// Machines vary, so there are several rounds, each with its own single tasks, and the result has an interval.
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
	Bin, Res, Dir string // as in package stack
	Log           io.Writer

	Rounds int           // rounds of single tasks and a dense series
	Tasks  int           // of the dense series per round
	Probes int           // single tasks before, per path and round
	Seed   uint64        // of sizes, arrivals and decisions
	Rate   float64       // of the link, bytes/s
	RTT    time.Duration // of the link
	Load   float64       // share of the link's time used by the tasks
	Cloud  float64       // share of cloud tasks
}

// DefaultConfig takes about seven minutes. Its link is slow enough that a busy machine matters little: a task takes seconds on it, and delays are
// tenths of a second.
func DefaultConfig() Config {
	return Config{Rounds: 4, Tasks: 40, Probes: 6, Seed: 1, Rate: 20e3, RTT: 40 * time.Millisecond, Load: 0.7, Cloud: 0.6}
}

// Validate reports every problem.
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

// Way is the tasks of one path, or of both.
type Way struct {
	Way       string  `json:"way"`
	Tasks     int     `json:"tasks"`
	Measured  float64 `json:"measured"`  // mean completion time in the system, s
	Simulated float64 `json:"simulated"` // the same in the simulator
	Off       float64 `json:"off"`       // relative error of the simulator
	// Rounds is Off of each round, and OffCI95 the interval of its mean; its width is zero for a single round.
	Rounds  []float64  `json:"rounds"`
	OffCI95 [2]float64 `json:"offCI95"`
}

// Line is a number that grows with the size of a task: Fixed + PerByte·bytes.
type Line struct {
	Fixed   float64 `json:"fixed"`
	PerByte float64 `json:"perByte"`
}

func (l Line) at(bytes float64) float64 { return l.Fixed + l.PerByte*bytes }

// Result is one experiment. The first element of its ways is both paths together.
type Result struct {
	Ways   []Way `json:"ways"`
	Here   Line  `json:"here"`   // s of a single task; over all rounds, like the others
	Before Line  `json:"before"` // s of a single task until it is on the link
	After  Line  `json:"after"`  // s after the link has carried it
	Wire   Line  `json:"wire"`   // bytes of a task on the link
}

// lived is a completed task of the system.
type lived struct {
	place  int // among the sent tasks
	round  int
	probe  bool
	cloud  bool
	at     float64 // s from the first
	bytes  float64
	wire   float64 // bytes on the link
	before float64 // s until it was on the link, for a single task
	took   float64 // s
	waited float64 // s of took until the decision
	parked bool    // was parked until then
	down   bool    // the link was down then
	joules float64

	deadline float64 // s, 0 for none
}

// Run runs the experiment.
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

// after is the time of a single task after the link has carried it.
func (c *Config) after(t *lived) float64 { return t.took - t.before - t.wire/c.Rate }

func took(t *lived) float64   { return t.took }
func before(t *lived) float64 { return t.before }
func onWire(t *lived) float64 { return t.wire }

// weigh compares the simulator with the system.
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

// fit fits a line to single tasks: the slope is the median over all pairs (Theil and Sen), which is robust to a few delayed tasks, and the constant
// is the mean of the residuals, delays included.
func fit(tasks []lived, of func(*lived) float64) (Line, error) {
	if len(tasks) < 3 {
		return Line{}, fmt.Errorf("%d single tasks completed on one of the paths: needs 3", len(tasks))
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
		return Line{}, errors.New("all single tasks have the same size: cannot estimate the time per byte")
	}
	slices.Sort(slopes)
	slope := max(slopes[len(slopes)/2], 0)
	return Line{beyond(tasks, slope, of), slope}, nil
}

// beyond is the mean time of tasks beyond that of their bytes.
func beyond(tasks []lived, slope float64, of func(*lived) float64) float64 {
	rest := 0.0
	for _, t := range tasks {
		rest += (of(&t) - slope*t.bytes) / float64(len(tasks))
	}
	return max(rest, 0)
}

// pair is a completed task with its simulated time.
type pair struct {
	lived
	simulated float64
}

// simulate simulates the tasks of one round. Times beyond waiting come from the round's own single tasks, as the machine may have been busier than in
// other rounds; times per byte come from all rounds.
func simulate(c *Config, r *Result, round []lived) ([]pair, error) {
	here, first, after := r.Here, r.Before, r.After
	if single := pick(round, func(t *lived) bool { return t.probe && !t.cloud }); len(single) > 0 {
		here.Fixed = beyond(single, here.PerByte, took)
	}
	if single := pick(round, func(t *lived) bool { return t.probe && t.cloud }); len(single) > 0 {
		first.Fixed, after.Fixed = beyond(single, first.PerByte, before), beyond(single, after.PerByte, c.after)
	}
	tasks := pick(round, func(t *lived) bool { return !t.probe })
	slices.SortStableFunc(tasks, func(a, b lived) int { return cmp.Compare(a.at, b.at) })

	world := sim.DefaultConfig()
	world.HeaderBytes, world.Overhead, world.CloudMcycles = 0, after.Fixed, 1
	jobs := make([]sim.Job, len(tasks))
	for i, t := range tasks { // work is counted in bytes: the node's rate is the inverse of its time per byte
		jobs[i] = sim.Job{At: t.at, Bytes: r.Wire.at(t.bytes), Mcycles: t.bytes, Deadline: 1, Slowness: after.PerByte}
		if t.cloud {
			jobs[i].At += first.at(t.bytes) // while other tasks are still on the link
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

// student95 is the 97.5 % quantile of Student's t, starting at one degree of freedom.
var student95 = [...]float64{12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23}

// interval is the 95 % interval of the mean.
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
