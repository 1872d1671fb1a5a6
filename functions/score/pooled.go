package score

import (
	"fmt"
	"math"
	"strings"

	"app-offload/functions/pool"
	"app-offload/functions/task"
)

// allLocal and allCloud are the names of the overall ratios in statistics.
const (
	allLocal = pool.All + "local"
	allCloud = pool.All + "cloud"
)

// PoolLayout names the layout of Statistics: measured over predicted. Models that predict differently have different layouts. The layout does not
// contain the rate of the node, as local measurements are work rather than time.
func (m *Model) PoolLayout() string {
	c := m.c
	return fmt.Sprintf("score-1:%g:%g:%s:%d:%g", c.McyclesPerKB, c.CloudMcycles, c.Overhead, c.HeaderBytes, c.WireShare)
}

// Statistics returns the statistics of own measurements, without any prior, of the classes and targets with at least that many. It is safe for
// concurrent use.
func (m *Model) Statistics(atLeast int64) pool.Parts {
	parts, atLeast, keep := pool.Parts{}, max(atLeast, 1), 1-m.c.Smoothing
	m.corrections.all.local.statistics(parts, allLocal, atLeast)
	m.corrections.all.cloud.statistics(parts, allCloud, atLeast)
	if known := m.corrections.byName.Load(); known != nil {
		for name, c := range *known {
			c.cloud.statistics(parts, pool.Cloud+name, atLeast)
			c.local.statistics(parts, pool.Local+name, atLeast, keep)
		}
	}
	return parts
}

// StatisticsAnew excludes the measurements so far from the statistics, as they were compared with other predictions. It is safe for concurrent use.
func (m *Model) StatisticsAnew() {
	m.corrections.all.local.anew()
	m.corrections.all.cloud.anew()
	if known := m.corrections.byName.Load(); known != nil {
		for _, c := range *known {
			c.cloud.anew()
			c.local.anew()
		}
	}
}

// Prior sets statistics of other nodes as the start of predictions; own measurements outweigh them. It replaces the previous prior; an empty one
// removes it. The parts are valid; parts of other learners are ignored. It is safe for concurrent use.
func (m *Model) Prior(parts pool.Parts) {
	for name := range parts {
		kind, class, _ := strings.Cut(name, "/")
		if known := m.corrections.byName.Load(); known != nil && len(*known) >= maxClasses/2 {
			break // the other half is for the node's own classes
		}
		if kind += "/"; kind == pool.Local || kind == pool.Cloud {
			m.corrections.own(&task.Class{Name: class})
		}
	}
	m.corrections.all.local.believe(parts[allLocal], m.c.CorrectionLimit)
	m.corrections.all.cloud.believe(parts[allCloud], m.c.CorrectionLimit)
	if known := m.corrections.byName.Load(); known != nil {
		for name, c := range *known {
			c.cloud.believe(parts[pool.Cloud+name], m.c.CorrectionLimit)
			c.local.believe(parts[pool.Local+name])
		}
	}
}

// logs sums logarithms of own measurements with forgetting, for the statistics.
type logs struct{ weight, sum float64 }

func (l *logs) take(measured, keep float64) {
	l.weight, l.sum = l.weight*keep+1, l.sum*keep+math.Log(measured)
}

func (r *ratio) statistics(into pool.Parts, name string, atLeast int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count.Load()-r.before >= atLeast && r.own.weight > 0 { // false after a restart
		into[name] = pool.Part{Matrix: []float64{r.own.weight}, Moments: []float64{r.own.sum}}
	}
}

func (r *ratio) anew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own, r.before = logs{}, r.count.Load()
}

// believe sets the prior from a part of one number, or clears it. The limit bounds it as it bounds measurements.
func (r *ratio) believe(p pool.Part, limit float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mean, weight := 0.0, 0.0
	if len(p.Moments) == 1 && p.Weight() > 0 {
		weight = p.Weight()
		mean = between(p.Moments[0]/weight, -math.Log(limit), math.Log(limit))
	}
	r.prior.store(mean)
	r.faith.store(weight)
}

// statistics subtracts the remaining contribution of the configuration, or of the measurements before anew, from the sums.
func (r *regression) statistics(into pool.Parts, name string, atLeast int64, keep float64) {
	r.mu.Lock()
	l := r.newest
	r.mu.Unlock()
	before := l.Before
	if before == nil {
		start := fresh()
		before = &start
	}
	count := l.Count - before.Count
	if count < atLeast {
		return
	}
	left := math.Pow(keep, float64(count))
	p := pool.Part{
		Matrix:  []float64{l.A[0] - left*before.A[0], l.A[1] - left*before.A[1], l.A[2] - left*before.A[2]},
		Moments: []float64{l.B[0] - left*before.B[0], l.B[1] - left*before.B[1]},
	}
	if (pool.Parts{name: p}).Check() == nil { // invalid for a while after a change of Smoothing
		into[name] = p
	}
}

func (r *regression) anew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newest.Count > 0 {
		before := r.newest
		before.Before = nil
		r.newest.Before = &before
	}
}

// believe sets the prior from a part of two numbers, or clears it.
func (r *regression) believe(p pool.Part) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.newest.prior
	r.newest.prior = prior{}
	if len(p.Moments) == 2 {
		r.newest.prior = prior{[3]float64{p.At(0, 0), p.At(1, 0), p.At(1, 1)}, [2]float64(p.Moments), p.Weight()}
	}
	if r.newest.prior == before {
		return
	}
	if r.begin(); r.newest.Count == 0 && r.newest.prior.weight == 0 {
		r.latest.Store(nil)
		return
	}
	r.newest.solve()
	r.publish()
}

// prior is the contribution of other nodes' measurements to the sums of a line.
type prior struct {
	a      [3]float64
	b      [2]float64
	weight float64
}

// share returns the weight of the prior beside so many own measurements: 1 until there are as many, forgotten ones included, then ever less.
func (p *prior) share(own int64) float64 { return min(1, p.weight/float64(max(own, 1))) }
