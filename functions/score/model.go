// Package score predicts what a task costs here and what it costs in the cloud, and turns a task with its node into the
// features that policies look at.
//
// The prediction is that of two servers, first in, first out, and an elastic cloud:
//
//	here:  (work waiting + own work) / (EdgeMcycles · share of the CPU that others leave)
//	cloud: bytes ahead / goodput + (own bytes + header) / goodput + RTT + Overhead + own work / CloudMcycles
//
// times a correction per class that follows what is really measured. A Model is safe for concurrent use; Estimate
// takes no lock, allocates nothing and returns neither NaN nor a negative number, whatever it is given.
//
// Which file holds which state:
//
//	model.go                  the Model: its configuration is immutable, what it learned is shared by all models made from it (With)
//	correct.go, regress.go    what it learned: factors by class. One writer at a time behind locks, read without
//	saved.go                  the same on disk, as bytes; the caller writes them
//	estimate.go, features.go  what is predicted of one task, and what policies see; no state
//	tariff.go, run.go         prices by the hour; the time of a class's model, which package infer measures
package score

import (
	"math"
	"sync/atomic"
	"time"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

// KB is the unit in which the size of data is weighed, bytes.
const KB = 1024

// Model predicts.
type Model struct {
	c             Config
	rtt, overhead float64 // s
	goodput       float64 // bytes/s, before the first measurement
	tariff        *tariff // nil costs nothing
	*learned
}

// learned is what measurements have taught. It outlives a change of the configuration.
type learned struct {
	corrections corrections
	seen        conditions
	prices      atomic.Pointer[Prices] // as published
	runs        Runs
}

// New checks the configuration and starts with no correction.
func New(c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return build(c, &learned{}), nil
}

func build(c Config, l *learned) *Model {
	prices, _ := parseTariff(c.MoneyPerMB) // validated
	if prices != nil {
		prices.zone, _ = time.LoadLocation(c.MoneyZone)
	}
	return &Model{c: c, tariff: prices, rtt: seconds(c.RTT), overhead: seconds(c.Overhead), goodput: c.LinkMbit * 1e6 / 8, learned: l}
}

// With is a model under another configuration that shares what this one has learned and goes on learning.
func (m *Model) With(c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return build(c, m.learned), nil
}

// seconds converts a duration that Validate has accepted.
func seconds(duration string) float64 {
	d, _ := time.ParseDuration(duration)
	return d.Seconds()
}

// Cycles is the work in Mcycles of computing on so many bytes at the given complexity (0–100).
func (m *Model) Cycles(size int, complexity float64) float64 {
	return float64(max(size, 0)) / KB * m.c.McyclesPerKB * between(complexity, 0, 100)
}

// Estimate predicts both ways for the task on a node in state s.
func (m *Model) Estimate(t *task.Task, s *host.State) Estimate {
	if t.Class != nil && t.Class.Model != "" {
		return m.estimateRun(t, s)
	}
	return m.EstimateWork(t.Class, t.Size(), m.Cycles(t.Size(), t.Complexity), s)
}

// EstimateWork predicts both ways for work that is known in Mcycles. The class may be nil.
func (m *Model) EstimateWork(class *task.Class, size int, cycles float64, s *host.State) Estimate {
	cycles = between(cycles, 0, math.MaxFloat64)
	bytes := m.wireBytes(size, s.Link.Growth)
	here, there := m.conditionsOf(s)
	m.seen.note(here, there)
	factor := m.corrections.of(class, cycles, m.c.CorrectionLimit)
	own := cycles * factor.local / here.rate

	e := Estimate{
		LocalTime:   between(s.QueueCycles, 0, math.MaxFloat64)*factor.queue/here.rate + own,
		CloudTime:   math.Inf(1),
		LocalEnergy: cycles * m.c.EdgeJoules,
		CloudEnergy: bytes * m.c.RadioJoules,
		Cycles:      cycles,
		Bytes:       bytes,
		Money:       bytes / 1e6 * between(s.Link.Price, 0, math.MaxFloat64),
	}
	if watts := s.CoreWatts(); watts > 0 {
		e.LocalEnergy = own * watts // measured here and now, rather than configured
	}
	e.Money += m.credits(class, bytes)
	if s.Link.Up {
		e.CloudTime = m.bytesAhead(&s.Link)/there.goodput + m.cloudTime(bytes, cycles, there)*factor.cloud
	}
	return e
}

// EdgeRate is the rate in Mcycle/s that the node has left for tasks. The CPU time of this process is not taken off: what
// it computes for tasks is in the queue already, and counting it twice would make a busy node look useless and then, once
// everything has gone to the cloud, idle.
func (m *Model) EdgeRate(s *host.State) float64 {
	others := (between(s.CPU, 0, 100) - between(s.OwnCPU, 0, 100)) / 100
	return m.c.EdgeMcycles * between(1-others, m.c.MinEdgeShare, 1)
}

// wireBytes is what a task takes on the wire. A growth that is measured is that of whole records, header included; 0 is not measured.
func (m *Model) wireBytes(size int, growth float64) float64 {
	if growth > 0 {
		return (float64(max(size, 0)) + float64(m.c.HeaderBytes)) * growth
	}
	return float64(max(size, 0))*m.c.WireShare + float64(m.c.HeaderBytes)
}

// bytesAhead is what the link has to carry before a fresh task.
func (m *Model) bytesAhead(l *host.Link) float64 {
	return l.BytesAhead(m.c.BacklogAhead, m.c.WireShare)
}

// cloudTime is the uncorrected time in seconds of one task on an idle link.
func (m *Model) cloudTime(bytes, cycles float64, there way) float64 {
	return bytes/there.goodput + there.rtt + m.overhead + cycles/m.c.CloudMcycles
}

// conditionsOf takes from the state what predictions depend on, with the configured values where nothing was measured.
func (m *Model) conditionsOf(s *host.State) (here edge, there way) {
	here = edge{rate: m.EdgeRate(s)}
	there = way{goodput: m.goodput, rtt: m.rtt, growth: s.Link.Growth}
	if s.Link.Goodput > 0 {
		// A stalled link is slow, not infinitely slow: below one byte a second nothing can be told from it.
		there.goodput = max(s.Link.Goodput, 1)
	}
	if s.Link.AtLeast {
		there.goodput = max(there.goodput, m.goodput)
	}
	if s.Link.RTT > 0 {
		there.rtt = min(s.Link.RTT, math.MaxFloat32)
	}
	return here, there
}

// Assume fills in what was not measured of the link yet: what predictions are made with until then.
func (m *Model) Assume(l *host.Link) {
	if l.Goodput == 0 || l.AtLeast {
		l.Goodput = max(l.Goodput, m.goodput)
	}
	if l.RTT == 0 {
		l.RTT = m.rtt
	}
}

// Slack is the time in seconds until the task's deadline: negative when it has passed, +Inf without one.
func Slack(t *task.Task, s *host.State) float64 {
	if t.Deadline <= 0 {
		return math.Inf(1)
	}
	// The state may be older than the task, and a task that an API asked about was never received.
	var waited int64
	if t.Received > 0 {
		waited = max(s.Time-t.Received, 0)
	}
	return (t.Deadline - time.Duration(waited)).Seconds()
}

// between holds v within [low, high]; NaN becomes low.
func between(v, low, high float64) float64 {
	if math.IsNaN(v) {
		return low
	}
	return max(low, min(v, high))
}
