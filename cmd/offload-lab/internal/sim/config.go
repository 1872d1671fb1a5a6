// Package sim simulates a gateway: tasks arrive, and each is computed locally or sent to an elastic cloud. The node and its link are FIFO servers
// whose rates follow recordings.
//
// An Episode contains all random draws, made in advance from a seed: a policy's decisions affect only its own results. So policies are compared on
// the same tasks, and the optimum of an episode is well defined. Env presents the episode to a decision maker with Gymnasium's contract of reset and
// step. Equal seeds give equal bits.
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
	Value    int        // of the class, 1–9: lower values are shed first
}

// Cost is the cost of an outcome: J = Time·min(T/D, Kappa) + Miss·[T > D] + Energy·e/Joules + Money·m, with m = 1 for a task computed in the cloud,
// plus the tail.
type Cost struct {
	Time, Miss, Energy, Money float64
	Kappa                     float64
	Joules                    float64 // e₀
	Tail                      Tail
}

// Tail is the extra cost of each second of completion time between From and To, in s. The cost itself ignores how late a late task is, while its user
// waits. Policies are judged without the tail.
type Tail struct{ PerSecond, From, To float64 }

func (t Tail) of(took float64) float64 { return t.PerSecond * max(min(took, t.To)-t.From, 0) }

// Config is a world to draw episodes from.
type Config struct {
	Tasks int // per episode

	EdgeMcycles  float64    // Mcycle/s of an idle node
	CloudMcycles float64    // Mcycle/s for each task
	Overhead     float64    // s added by the cloud per task
	HeaderBytes  float64    // added per task on the link
	EdgeJoules   float64    // per Mcycle
	RadioJoules  float64    // per byte
	Jitter       [2]float64 // µ and σ of the log-normal factor on the cloud's computing time

	Rates   [2]float64 // arrivals per second in the calm and in the busy phase
	Sojourn float64    // mean length of a phase, s

	Mix  []Kind
	Cost Cost

	// Batch makes the simulator form messages of tasks for the cloud as the service does, with HeaderBytes per message. Without it each task enters
	// the link immediately and alone. Only Play and Replay support it.
	Batch *batch.Config
	// TrailBytes is the size of the separate message that the gateway sends for each received record.
	TrailBytes float64
	// Devices is the number of devices that send the tasks in turn; parked tasks of a device and class keep their order. With 0 each task has its own
	// device, and there is no order.
	Devices int
	// Overload is the action of the classes while both paths are overloaded, as in task.Class; "" means keep. The bound of a class is its longest
	// deadline.
	Overload string
	// NoDeadlines hides all deadlines from the gateway. They still count in the cost.
	NoDeadlines bool
	// Scale multiplies all times of the world: recordings, arrivals, deadlines, and the times in rates. 1 is the world as described here.
	Scale   float64
	Beliefs Beliefs
	Unknown Unknown
	Trouble Trouble
	View    View
}

// DefaultConfig returns the world in which policies are judged.
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

// Of returns J of a task with deadline d that took t seconds and e joules.
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

// maxLoad is the maximum share of the node used by other processes: an operating system starves no process, and at full load no task would ever end.
const maxLoad = 0.99

// Score returns the gateway's own model of this world: correct, except for Beliefs.
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

// maxDensity is the maximum number of Mcycles per KB: the complexity of 100.
func (c *Config) maxDensity() float64 {
	most := 0.0
	for _, k := range c.Mix {
		most = max(most, k.Mcycles[1]/(k.Bytes[0]/score.KB))
	}
	if c.Unknown != (Unknown{}) || c.Trouble.Pareto > 0 {
		most *= 30 // for believed work, and for draws without bounds
	}
	return math.Ceil(most)
}

// maxBytes is the size of the largest possible task.
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
