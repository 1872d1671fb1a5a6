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
//	model.go                  the Model: its configuration is immutable, what it learned is shared by all models made from it (With):
//	                          factors by class. One writer at a time behind locks, read without
//	regress.go                the regression behind a factor; pooled.go statistics shared with other gateways
//	saved.go                  the same on disk, as bytes; the caller writes them
//	estimate.go, features.go  what is predicted of one task, and what policies see; no state
//	tariff.go, run.go         prices by the hour; the time of a class's model, which package infer measures
package score

import (
	"math"
	"sync"
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

// estimateRun predicts both ways for a task that a model computes, in a state made by ForModels. The model's time and that of the runs
// before it are measured under the node's load as it is, so nothing corrects them.
func (m *Model) estimateRun(t *task.Task, s *host.State) Estimate {
	cycles, ok := m.RunCycles(t.Class)
	if !ok {
		cycles = m.Cycles(t.Size(), t.Complexity)
	}
	e := m.EstimateWork(t.Class, t.Size(), cycles, s)
	own := cycles / m.c.EdgeMcycles
	e.LocalTime = between(s.QueueCycles, 0, 1e12)/m.c.EdgeMcycles + own
	if watts := s.CoreWatts(); watts > 0 {
		e.LocalEnergy = own * watts
	}
	return e
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

// credits is what sending a task costs: what is paid for it, and what is not earned.
func (m *Model) credits(class *task.Class, bytes float64) float64 {
	p := m.prices.Load()
	if !m.c.Credits || p == nil || len(*p) == 0 {
		return 0
	}
	name := ""
	if class != nil {
		name = class.Name
	}
	one := p.Of(name)
	return bytes/1e6*one.MB + one.Compute + one.Earn
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

// maxClasses bounds the table of corrections. Classes come from the configuration, so only a configuration that renames
// its classes over and over gets there; the classes beyond share the correction of all.
const maxClasses = 4096

// number is a float64 that is read without a lock.
type number struct{ bits atomic.Uint64 }

func (n *number) load() float64   { return math.Float64frombits(n.bits.Load()) }
func (n *number) store(v float64) { n.bits.Store(math.Float64bits(v)) }

// ratio is the smoothed factor between measured and predicted time.
type ratio struct {
	value number
	count atomic.Int64 // measurements so far

	mu     sync.Mutex // one writer at a time; readers need none
	own    logs       // guarded by mu, like before
	before int64      // of count, the measurements that are not in own as they were of other predictions

	prior number // what others have measured, its logarithm
	faith number // how many measurements that counts for
}

// factor is 1 before the first measurement, or what others have measured.
func (r *ratio) factor() float64 {
	if r.count.Load() == 0 {
		return math.Exp(r.prior.load())
	}
	return r.value.load()
}

// known reports whether anything was measured, here or by others.
func (r *ratio) known() bool { return r.count.Load() > 0 || r.faith.load() > 0 }

// weight is that of the next measurement.
func (r *ratio) weight(smoothing float64) float64 {
	return max(smoothing, 1/(float64(r.count.Load()+2)+r.faith.load()))
}

// observe takes one measurement in. The first ones weigh more, so that a wrong calibration does not take a hundred tasks
// to mend; the configured value counts as one measurement, so that a single odd one does not overthrow it.
func (r *ratio) observe(measured, smoothing, limit float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, measured := r.factor(), between(measured, 1/limit, limit)
	r.value.store(before + r.weight(smoothing)*(measured-before))
	r.count.Add(1)
	r.own.take(measured, 1-smoothing)
}

// observeLog is observe on logarithms, for measurements of which a few are off by orders of magnitude: a task that waited out
// an hour without a link must not make the link look a hundred times slower than it is.
func (r *ratio) observeLog(measured, smoothing, limit float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, measured := r.factor(), between(measured, 1/limit, limit)
	r.value.store(before * math.Pow(measured/before, r.weight(smoothing)))
	r.count.Add(1)
	r.own.take(measured, 1-smoothing)
}

// correction is what measurements say about the predictions for one class.
type correction struct {
	local regression
	cloud ratio
}

// overall is the same for all classes together: for the queue, and for a class that nothing is known about.
type overall struct{ local, cloud ratio }

// corrections finds the correction of a class by its name, so that it outlives a change of the configuration. The map is
// copied on the rare write, which keeps reads free of locks.
type corrections struct {
	all    overall
	mu     sync.Mutex
	byName atomic.Pointer[map[string]*correction]
}

// factors are what applies to one task.
type factors struct {
	local, cloud float64 // on its own work
	queue        float64 // on the work before it
}

// of gives what applies to work of that many Mcycles. Work without a class is not done by this node's operators, so what was
// measured of them says nothing about it.
func (c *corrections) of(class *task.Class, cycles, limit float64) factors {
	f := factors{local: 1, cloud: 1, queue: c.all.local.factor()}
	if class == nil {
		return f
	}
	f.local, f.cloud = f.queue, c.all.cloud.factor()
	if own := c.find(class); own != nil {
		f.local = own.local.factor(cycles, limit, f.local)
		if own.cloud.known() {
			f.cloud = own.cloud.factor()
		}
	}
	return f
}

func (c *corrections) find(class *task.Class) *correction {
	known := c.byName.Load()
	if known == nil || class == nil {
		return nil
	}
	return (*known)[class.Name]
}

// own is the correction of the class, made on first use; nil without a class or beyond maxClasses.
func (c *corrections) own(class *task.Class) *correction {
	if class == nil {
		return nil
	}
	if found := c.find(class); found != nil {
		return found
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.find(class); found != nil {
		return found
	}
	next := map[string]*correction{}
	if known := c.byName.Load(); known != nil {
		if len(*known) >= maxClasses {
			return nil
		}
		for name, one := range *known {
			next[name] = one
		}
	}
	made := &correction{}
	next[class.Name] = made
	c.byName.Store(&next)
	return made
}

// edge and way are what a prediction depends on besides the task and the backlog before it.
type (
	edge struct{ rate float64 }                 // Mcycle/s
	way  struct{ goodput, rtt, growth float64 } // bytes/s, s, message bytes for each byte of records
)

// conditions are those of the latest prediction. A measurement arrives without the state in which its task was decided;
// it is compared with what would be predicted under the latest conditions, which are at most a sample older or newer.
type conditions struct{ rate, goodput, rtt, growth number }

// note writes only what has changed, which happens about once a second, so that deciding cores do not fight for the
// cache line.
func (c *conditions) note(here edge, there way) {
	for _, one := range [...]struct {
		at    *number
		value float64
	}{{&c.rate, here.rate}, {&c.goodput, there.goodput}, {&c.rtt, there.rtt}, {&c.growth, there.growth}} {
		if one.at.load() != one.value {
			one.at.store(one.value)
		}
	}
}

// ObserveLocal corrects the prediction for the class: a task of that size and complexity took so many seconds of a local
// worker, not counting the time it waited for one.
func (m *Model) ObserveLocal(class *task.Class, bytes int, complexity float64, seconds float64) {
	rate := m.seen.rate.load()
	if rate == 0 {
		rate = m.c.EdgeMcycles // nothing was ever predicted
	}
	cycles := m.Cycles(bytes, complexity)
	if !m.measures(seconds, cycles/rate) {
		return
	}
	m.corrections.all.local.observe(seconds*rate/cycles, m.c.Smoothing, m.c.CorrectionLimit)
	if own := m.corrections.own(class); own != nil {
		own.local.observe(cycles, seconds*rate, m.c.Smoothing, m.c.CorrectionLimit)
	}
}

// ObserveCloud corrects the prediction for the class: of a task of that size and complexity the result (or, without
// a result, the receipt) came so many seconds after its bytes were the next on the link.
func (m *Model) ObserveCloud(class *task.Class, bytes int, complexity float64, seconds float64) {
	there := way{goodput: m.seen.goodput.load(), rtt: m.seen.rtt.load(), growth: m.seen.growth.load()}
	if there.goodput == 0 {
		there = way{goodput: m.goodput, rtt: m.rtt}
	}
	predicted := m.cloudTime(m.wireBytes(bytes, there.growth), m.Cycles(bytes, complexity), there)
	if !m.measures(seconds, predicted) {
		return
	}
	m.corrections.all.cloud.observeLog(seconds/predicted, m.c.Smoothing, m.c.CorrectionLimit)
	if own := m.corrections.own(class); own != nil {
		own.cloud.observeLog(seconds/predicted, m.c.Smoothing, m.c.CorrectionLimit)
	}
}

// ObserveTrip is ObserveCloud for a task whose outcome came so many seconds after the decision: what the link had to carry
// before it, as in the state of the decision, is taken off. Where most of the time was such waiting nothing can be told.
func (m *Model) ObserveTrip(class *task.Class, bytes int, complexity float64, s *host.State, seconds float64) {
	if !s.Link.Up {
		return // it waited for the link itself
	}
	_, there := m.conditionsOf(s)
	ahead := m.bytesAhead(&s.Link) / there.goodput
	if own := seconds - ahead; own > ahead {
		m.ObserveCloud(class, bytes, complexity, own)
	}
}

// measures leaves out what no ratio can be made of: tasks without work, clocks that went backwards.
func (m *Model) measures(seconds, predicted float64) bool {
	return m.c.Smoothing > 0 && seconds > 0 && predicted > 0 && !math.IsInf(seconds/predicted, 0)
}

// Correction is the factor by which predictions for the class are multiplied at present, on the local side at the mean of
// its tasks' work, for metrics and the status page.
func (m *Model) Correction(class *task.Class) (local, cloud float64) {
	cycles := 1.0
	if own := m.corrections.find(class); own != nil {
		cycles = own.local.mean()
	}
	f := m.corrections.of(class, cycles, m.c.CorrectionLimit)
	return f.local, f.cloud
}
