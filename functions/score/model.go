// Package score predicts the cost of a task at both targets, and turns a task with its node state into the features that policies use.
//
// The prediction is that of two servers, first in, first out, and an elastic cloud:
//
//	local: (work waiting + own work) / (EdgeMcycles · share of the CPU that other processes leave)
//	cloud: bytes ahead / goodput + (own bytes + header) / goodput + RTT + Overhead + own work / CloudMcycles
//
// times a correction per class that follows the measurements. A Model is safe for concurrent use; Estimate takes no lock, allocates nothing and never
// returns NaN or a negative number.
//
// The state by file:
//
//	model.go                  the Model: its configuration is immutable; all models made from it (With) share the learned state:
//	                          factors by class. One writer at a time behind locks, read without
//	regress.go                the regression behind a factor; pooled.go statistics shared with other gateways
//	saved.go                  the learned state as bytes; the caller writes them to disk
//	estimate.go, features.go  the prediction for one task, and the inputs of policies; no state
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

// KB is the unit of data sizes, bytes.
const KB = 1024

// Model predicts costs.
type Model struct {
	c             Config
	rtt, overhead float64 // s
	goodput       float64 // bytes/s, before the first measurement
	tariff        *tariff // nil is free
	*learned
}

// learned is the state learned from measurements. It outlives a change of the configuration.
type learned struct {
	corrections corrections
	seen        conditions
	prices      atomic.Pointer[Prices] // as published
	runs        Runs
}

// New checks the configuration and returns a model without corrections.
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

// With returns a model of another configuration that shares the learned state.
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

// Estimate predicts both targets for the task on a node in state s.
func (m *Model) Estimate(t *task.Task, s *host.State) Estimate {
	if t.Class != nil && t.Class.Model != "" {
		return m.estimateRun(t, s)
	}
	return m.EstimateWork(t.Class, t.Size(), m.Cycles(t.Size(), t.Complexity), s)
}

// estimateRun predicts both targets for a task that a model computes, in a state made by ForModels. The time of the model and of the runs before it
// is measured under the node's actual load, so no correction applies.
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

// EstimateWork predicts both targets for work in Mcycles. The class may be nil.
func (m *Model) EstimateWork(class *task.Class, size int, cycles float64, s *host.State) Estimate {
	cycles = between(cycles, 0, math.MaxFloat64)
	bytes := m.wireBytes(size, s.Link.Growth)
	local, cloud := m.conditionsOf(s)
	m.seen.note(local, cloud)
	factor := m.corrections.of(class, cycles, m.c.CorrectionLimit)
	own := cycles * factor.local / local.rate

	e := Estimate{
		LocalTime:   between(s.QueueCycles, 0, math.MaxFloat64)*factor.queue/local.rate + own,
		CloudTime:   math.Inf(1),
		LocalEnergy: cycles * m.c.EdgeJoules,
		CloudEnergy: bytes * m.c.RadioJoules,
		Cycles:      cycles,
		Bytes:       bytes,
		Money:       bytes / 1e6 * between(s.Link.Price, 0, math.MaxFloat64),
	}
	if watts := s.CoreWatts(); watts > 0 {
		e.LocalEnergy = own * watts // measured, rather than configured
	}
	e.Money += m.credits(class, bytes)
	if s.Link.Up {
		e.CloudTime = m.bytesAhead(&s.Link)/cloud.goodput + m.cloudTime(bytes, cycles, cloud)*factor.cloud
	}
	return e
}

// credits returns the cost of sending a task in credits: the price paid, and the credits not earned.
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

// EdgeRate is the rate in Mcycle/s that the node has left for tasks. The CPU time of this process is not subtracted: its work on tasks is in the
// queue already. Counting it twice would make a busy node look useless and then, once everything has gone to the cloud, idle.
func (m *Model) EdgeRate(s *host.State) float64 {
	others := (between(s.CPU, 0, 100) - between(s.OwnCPU, 0, 100)) / 100
	return m.c.EdgeMcycles * between(1-others, m.c.MinEdgeShare, 1)
}

// wireBytes returns the bytes of a task on the wire. A measured growth is that of whole records, header included; 0 is not measured.
func (m *Model) wireBytes(size int, growth float64) float64 {
	if growth > 0 {
		return (float64(max(size, 0)) + float64(m.c.HeaderBytes)) * growth
	}
	return float64(max(size, 0))*m.c.WireShare + float64(m.c.HeaderBytes)
}

// bytesAhead returns the bytes that the link carries before a new task.
func (m *Model) bytesAhead(l *host.Link) float64 {
	return l.BytesAhead(m.c.BacklogAhead, m.c.WireShare)
}

// cloudTime is the uncorrected time in seconds of one task on an idle link.
func (m *Model) cloudTime(bytes, cycles float64, cloud path) float64 {
	return bytes/cloud.goodput + cloud.rtt + m.overhead + cycles/m.c.CloudMcycles
}

// conditionsOf returns the conditions that predictions depend on, with the configured values in place of missing measurements.
func (m *Model) conditionsOf(s *host.State) (local edge, cloud path) {
	local = edge{rate: m.EdgeRate(s)}
	cloud = path{goodput: m.goodput, rtt: m.rtt, growth: s.Link.Growth}
	if s.Link.Goodput > 0 {
		// A stalled link is slow, not infinitely slow: below one byte a second the measurement has no meaning.
		cloud.goodput = max(s.Link.Goodput, 1)
	}
	if s.Link.AtLeast {
		cloud.goodput = max(cloud.goodput, m.goodput)
	}
	if s.Link.RTT > 0 {
		cloud.rtt = min(s.Link.RTT, math.MaxFloat32)
	}
	return local, cloud
}

// Assume fills in link values that are not yet measured with those that predictions assume.
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
	// The state may be older than the task, and a task from an API request was never received.
	var waited int64
	if t.Received > 0 {
		waited = max(s.Time-t.Received, 0)
	}
	return (t.Deadline - time.Duration(waited)).Seconds()
}

// between limits v to [low, high]; NaN becomes low.
func between(v, low, high float64) float64 {
	if math.IsNaN(v) {
		return low
	}
	return max(low, min(v, high))
}

// maxClasses bounds the table of corrections. Classes come from the configuration, so only repeated renaming of classes reaches it; further classes
// share the overall correction.
const maxClasses = 4096

// number is a float64 that is read without a lock.
type number struct{ bits atomic.Uint64 }

func (n *number) load() float64   { return math.Float64frombits(n.bits.Load()) }
func (n *number) store(v float64) { n.bits.Store(math.Float64bits(v)) }

// ratio is the smoothed factor between measured and predicted time.
type ratio struct {
	value number
	count atomic.Int64 // measurements so far

	mu     sync.Mutex // held by the one writer; readers need none
	own    logs       // guarded by mu, like before
	before int64      // of count, the measurements excluded from own, as they were of other predictions

	prior number // logarithm of the factor that other nodes have measured
	faith number // number of measurements that prior counts for
}

// factor returns 1 before the first measurement, or the factor of other nodes.
func (r *ratio) factor() float64 {
	if r.count.Load() == 0 {
		return math.Exp(r.prior.load())
	}
	return r.value.load()
}

// known reports whether this or another node has measured anything.
func (r *ratio) known() bool { return r.count.Load() > 0 || r.faith.load() > 0 }

// weight is the weight of the next measurement.
func (r *ratio) weight(smoothing float64) float64 {
	return max(smoothing, 1/(float64(r.count.Load()+2)+r.faith.load()))
}

// observe adds one measurement. The first ones have a higher weight, so that a wrong calibration does not take a hundred tasks to correct. The
// configured value counts as one measurement, so that a single outlier does not replace it.
func (r *ratio) observe(measured, smoothing, limit float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, measured := r.factor(), between(measured, 1/limit, limit)
	r.value.store(before + r.weight(smoothing)*(measured-before))
	r.count.Add(1)
	r.own.take(measured, 1-smoothing)
}

// observeLog is observe on logarithms, for measurements with outliers by orders of magnitude: a task that waited an hour without a link must not make
// the link look a hundred times slower than it is.
func (r *ratio) observeLog(measured, smoothing, limit float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, measured := r.factor(), between(measured, 1/limit, limit)
	r.value.store(before * math.Pow(measured/before, r.weight(smoothing)))
	r.count.Add(1)
	r.own.take(measured, 1-smoothing)
}

// correction is the correction of one class's predictions.
type correction struct {
	local regression
	cloud ratio
}

// overall is the correction over all classes: for the queue, and for a class without measurements.
type overall struct{ local, cloud ratio }

// corrections finds the correction of a class by its name, so that it outlives a change of the configuration. A write, which is rare, copies the map,
// so that reads need no lock.
type corrections struct {
	all    overall
	mu     sync.Mutex
	byName atomic.Pointer[map[string]*correction]
}

// factors are the corrections of one task.
type factors struct {
	local, cloud float64 // on its own work
	queue        float64 // on the work before it
}

// of returns the factors for work of that many Mcycles. Work without a class is not done by this node's operators, so their measurements do not apply
// to it.
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

// own returns the correction of the class, made on first use; nil without a class or beyond maxClasses.
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

// edge and path are the conditions of a prediction apart from the task and the backlog ahead of it.
type (
	edge struct{ rate float64 }                 // Mcycle/s
	path struct{ goodput, rtt, growth float64 } // bytes/s, s, message bytes for each byte of records
)

// conditions are those of the latest prediction. A measurement arrives without the state in which its task was decided. It is compared with the
// prediction under the latest conditions, which are at most a sample older or newer.
type conditions struct{ rate, goodput, rtt, growth number }

// note writes changed values only, about once a second, so that deciding cores do not contend for the cache line.
func (c *conditions) note(local edge, cloud path) {
	for _, one := range [...]struct {
		at    *number
		value float64
	}{{&c.rate, local.rate}, {&c.goodput, cloud.goodput}, {&c.rtt, cloud.rtt}, {&c.growth, cloud.growth}} {
		if one.at.load() != one.value {
			one.at.store(one.value)
		}
	}
}

// ObserveLocal corrects the prediction for the class: a task of that size and complexity took so many seconds of a local worker, without the time it
// waited for one.
func (m *Model) ObserveLocal(class *task.Class, bytes int, complexity float64, seconds float64) {
	rate := m.seen.rate.load()
	if rate == 0 {
		rate = m.c.EdgeMcycles // there was no prediction yet
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

// ObserveCloud corrects the prediction for the class: the result of a task of that size and complexity (or, without a result, the receipt) arrived so
// many seconds after its bytes were next on the link.
func (m *Model) ObserveCloud(class *task.Class, bytes int, complexity float64, seconds float64) {
	cloud := path{goodput: m.seen.goodput.load(), rtt: m.seen.rtt.load(), growth: m.seen.growth.load()}
	if cloud.goodput == 0 {
		cloud = path{goodput: m.goodput, rtt: m.rtt}
	}
	predicted := m.cloudTime(m.wireBytes(bytes, cloud.growth), m.Cycles(bytes, complexity), cloud)
	if !m.measures(seconds, predicted) {
		return
	}
	m.corrections.all.cloud.observeLog(seconds/predicted, m.c.Smoothing, m.c.CorrectionLimit)
	if own := m.corrections.own(class); own != nil {
		own.cloud.observeLog(seconds/predicted, m.c.Smoothing, m.c.CorrectionLimit)
	}
}

// ObserveTrip is ObserveCloud for a task whose outcome arrived so many seconds after the decision. The time of the bytes ahead, as in the state of
// the decision, is subtracted. If that was most of the time, the measurement is discarded.
func (m *Model) ObserveTrip(class *task.Class, bytes int, complexity float64, s *host.State, seconds float64) {
	if !s.Link.Up {
		return // it waited for the link
	}
	_, cloud := m.conditionsOf(s)
	ahead := m.bytesAhead(&s.Link) / cloud.goodput
	if own := seconds - ahead; own > ahead {
		m.ObserveCloud(class, bytes, complexity, own)
	}
}

// measures excludes measurements without a valid ratio: tasks without work, clocks that went backwards.
func (m *Model) measures(seconds, predicted float64) bool {
	return m.c.Smoothing > 0 && seconds > 0 && predicted > 0 && !math.IsInf(seconds/predicted, 0)
}

// Correction returns the factors by which predictions for the class are currently multiplied, the local one at the mean work of its tasks, for
// metrics and the status page.
func (m *Model) Correction(class *task.Class) (local, cloud float64) {
	cycles := 1.0
	if own := m.corrections.find(class); own != nil {
		cycles = own.local.mean()
	}
	f := m.corrections.of(class, cycles, m.c.CorrectionLimit)
	return f.local, f.cloud
}
