// Package sim simulates a gateway: tasks arrive, and each is computed here or sent to an elastic cloud. The node and its
// link are servers, first in, first out, whose rates follow recordings.
//
// An Episode holds everything that chance decides, drawn beforehand from a seed: what a policy does changes its own lot and
// nothing else, so policies are compared on the same tasks, and the optimum of an episode is well defined. The Env is the
// episode as one who decides sees it, with Gymnasium's contract of reset and step. Equal seeds give equal bits.
package sim

import (
	"fmt"
	"math"

	"app-offload/functions/batch"
	"app-offload/functions/score"
)

// Kind is one kind of task in the mix.
type Kind struct {
	Name     string
	Share    float64
	Bytes    [2]float64 // drawn log-uniformly
	Mcycles  [2]float64 // drawn log-uniformly
	Deadline [2]float64 // s, drawn uniformly
	Value    int        // of the class, 1–9: the least gives way first
}

// Cost is what an outcome costs: J = Time·min(T/D, Kappa) + Miss·[T > D] + Energy·e/Joules + Money·m, with m = 1 for a task
// that the cloud computes, and the tail.
type Cost struct {
	Time, Miss, Energy, Money float64
	Kappa                     float64
	Joules                    float64 // e₀
	Tail                      Tail
}

// Tail is what a completion time costs on top for each second between From and To, s. The cost itself gives up on a task that
// is late anyway; its user would wait without an end. Policies are judged without it.
type Tail struct{ PerSecond, From, To float64 }

func (t Tail) of(took float64) float64 { return t.PerSecond * max(min(took, t.To)-t.From, 0) }

// Config is one world to draw episodes from.
type Config struct {
	Tasks int // an episode

	EdgeMcycles  float64    // Mcycle/s of an idle node
	CloudMcycles float64    // Mcycle/s for each task
	Overhead     float64    // s that the cloud adds to a task
	HeaderBytes  float64    // that a task adds to its data on the link
	EdgeJoules   float64    // per Mcycle
	RadioJoules  float64    // per byte
	Jitter       [2]float64 // µ and σ of the log-normal factor on the cloud's computing time

	Rates   [2]float64 // arrivals a second in the calm and in the busy phase
	Sojourn float64    // mean length of a phase, s

	Mix  []Kind
	Cost Cost

	// Batch makes messages of tasks for the cloud as the service does, with HeaderBytes a message. Without it each task goes to the link at once
	// and alone. Only Play and Replay know it.
	Batch *batch.Config
	// TrailBytes leave for each record once it is received, as a message of their own.
	TrailBytes float64
	// Devices is from how many devices the tasks come, in turn; parked tasks of a device and class leave in their order. With 0 each task has
	// one of its own, so that no order is kept.
	Devices int
	// Overload is what classes do while both paths are overloaded, as task.Class has it; "" is keep. The bound of a class is its longest deadline.
	Overload string
	// NoDeadlines hides all deadlines from the gateway. They still count.
	NoDeadlines bool
	// Scale multiplies all times of the world: recordings, arrivals, deadlines, and what rates are of. 1 is as it is described here.
	Scale   float64
	Beliefs Beliefs
	Unknown Unknown
	Trouble Trouble
	View    View
}

// DefaultConfig is the world in which policies are judged.
func DefaultConfig() Config {
	return Config{
		Tasks:       600,
		EdgeMcycles: 3000, CloudMcycles: 24000, Overhead: 0.02, HeaderBytes: 400,
		EdgeJoules: 1.2e-3, RadioJoules: 8e-6, Jitter: [2]float64{-0.045, 0.3},
		Rates: [2]float64{1, 3.2}, Sojourn: 30,
		Mix: []Kind{
			{"telemetry", 0.45, [2]float64{2e3, 20e3}, [2]float64{20, 200}, [2]float64{0.5, 1.5}, 8},
			{"fft", 0.30, [2]float64{20e3, 120e3}, [2]float64{300, 1800}, [2]float64{1, 3}, 5},
			{"image", 0.25, [2]float64{40e3, 300e3}, [2]float64{1500, 9000}, [2]float64{2, 6}, 2},
		},
		Cost:  Cost{Time: 1, Miss: 1, Energy: 0.1, Money: 0.05, Kappa: 3, Joules: 2},
		Scale: 1, Beliefs: Beliefs{1, 1, 1},
	}
}

// Of is J of a task with deadline d that took t seconds and e joules.
func (c *Cost) Of(t, d, e float64, cloud bool) float64 {
	j := c.Time*min(t/d, c.Kappa) + c.Energy*e/c.Joules
	if t > d {
		j += c.Miss
	}
	if cloud {
		j += c.Money
	}
	return j + c.Tail.of(t)
}

// maxLoad is the most that others take of the node: an operating system starves no process, and at full load no work
// would ever end.
const maxLoad = 0.99

// Score is the gateway's own model of this world: right, apart from Beliefs.
func (c *Config) Score() score.Config {
	s := score.DefaultConfig()
	s.EdgeMcycles, s.CloudMcycles, s.MinEdgeShare = c.EdgeMcycles*c.Beliefs.Edge, c.CloudMcycles*c.Beliefs.Cloud, 1-maxLoad
	s.LinkMbit = believedMbit / c.Scale * c.Beliefs.Link
	s.Overhead, s.HeaderBytes = fmt.Sprintf("%gs", c.Overhead), int(c.HeaderBytes)
	s.EdgeJoules, s.RadioJoules = c.EdgeJoules, c.RadioJoules
	s.McyclesPerKB = c.maxDensity() / 100
	return s
}

// believedMbit is about the mean of recorded mobile links.
const believedMbit = 1.3

// maxDensity is the most Mcycles a KB can have: the complexity of 100.
func (c *Config) maxDensity() float64 {
	most := 0.0
	for _, k := range c.Mix {
		most = max(most, k.Mcycles[1]/(k.Bytes[0]/score.KB))
	}
	if c.Unknown != (Unknown{}) || c.Trouble.Pareto > 0 {
		most *= 30 // of what is believed, and of what is drawn without bounds
	}
	return math.Ceil(most)
}

// maxBytes is the largest task there can be.
func (c *Config) maxBytes() int {
	most := 0.0
	for _, k := range c.Mix {
		most = max(most, k.Bytes[1])
	}
	if c.Trouble.Pareto > 0 {
		most *= 10
	}
	return int(most) + 1
}
