package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var banditInfo = Info{
	Name:    "bandit",
	Summary: "Is cost, on predictions that outcomes correct for each target. It is optimistic about a target that it knows little of, and tries it now and then.",
	WhenNot: "Each decision must be explainable by its inputs alone. Without outcomes it is no better than cost.",
}

// bandit is LinUCB below the cost: per way, a linear regression from the parts of the predicted time to the real time. Costs
// are computed from the optimistic end of its confidence, as in LinUCB, so that an untried way gets its chance. Outcomes may
// come late; decisions in between use what is known.
type bandit struct {
	cost    *cost
	alpha   float64 // of the optimism
	forget  float64 // weight that the past keeps with each outcome
	explore float64 // share of the close decisions that is forced to a way of which nothing is known
	seed    uint64
	draws   atomic.Uint64
	*memory
}

// memory is what a bandit has learned. It outlives a change of the configuration, and a shadow has that of the one that
// learns.
type memory struct {
	known    atomic.Pointer[knowledge] // as published; readers need no lock
	learning sync.Mutex                // guards newest
	newest   knowledge
}

// Every outcome is published while each one matters, and later every few: a copy for each would cost more than learning.
const (
	eachMatters = 1000
	publishEach = 8
)

func (m *memory) publish() {
	k := m.newest
	m.known.Store(&k)
}

// knowledge is what was learned, by Target.
type knowledge struct {
	Arms [2]arm
}

const (
	closeBy   = 0.35 // no decision with a score further off than this share is forced: trying must not be ruinous
	floorTime = 0.1  // s: below it, errors are absolute rather than relative
)

// ridges are how many outcomes, of a weight of 1 each at most, it takes to believe them rather than the prediction, by Target.
// The times of a link scatter far more than those of the node, so a few of them say less.
var ridges = [2]float64{decision.Local: 0.1, decision.Cloud: 1}

func newBandit(c Config) Policy {
	b := &bandit{cost: pricedBy(c), alpha: c.BanditOptimism, forget: c.BanditForgetting, explore: c.BanditExplore, seed: uint64(c.RandomSeed), memory: &memory{}} // any seed is as good
	b.newest = knowledge{[2]arm{newArm(ridges[decision.Local]), newArm(ridges[decision.Cloud])}}
	b.publish()
	return b
}

func (b *bandit) Name() string { return banditInfo.Name }

// Decide is cost on corrected predictions, but for the draws of forced sampling.
func (b *bandit) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	b.cost.tempo.decided(t, s, b.cost.patience)
	return b.DecideAgain(t, e, s)
}

// Arrived counts a task that another policy decides.
func (b *bandit) Arrived(t *task.Task, s *host.State) { b.cost.Arrived(t, s) }

// DecideAgain decides a task whose arrival is counted already.
func (b *bandit) DecideAgain(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	known := b.known.Load()
	local, cloud := waysOf(e, s)
	plain := [2]passage{local, cloud}
	local = known.Arms[decision.Local].correct(local, b.alpha)
	if !math.IsInf(e.CloudTime, 1) {
		cloud = known.Arms[decision.Cloud].correct(cloud, b.alpha)
	}
	d := known.terms(b.cost.predicted(e, s), plain).settle(b.cost.choose(t, e, s, local, cloud, b.cost.tempo.beat(s.Time)))
	other := decision.Cloud - d.Target
	if !harmless(t, s, &d, [2]float64{local.time(), cloud.time()}) {
		return d
	}
	share := b.explore * known.Arms[other].ignorance(plain[other])
	d.Propensity = 1 - share
	if decision.Uniform(b.seed, b.draws.Add(1)) < share {
		d.Propensity, d.Reason = share, decision.Explored
		d.Target, d.Score = other, 1-d.Score
		if d.Target == decision.Local {
			d.Score = min(d.Score, math.Nextafter(half, 0))
		}
	}
	return d
}

// terms are estimates from the outcomes so far, without the optimism.
func (k *knowledge) terms(m terms, plain [2]passage) terms {
	m.local = k.Arms[decision.Local].correct(plain[decision.Local], 0).time()
	if !math.IsInf(m.cloud, 1) {
		m.cloud = k.Arms[decision.Cloud].correct(plain[decision.Cloud], 0).time()
	}
	return m
}

// harmless reports whether the other way may be tried: the costs of both are close, the task is not critical, and the other
// way is not predicted to miss a deadline that this one meets.
func harmless(t *task.Task, s *host.State, d *decision.Decision, times [2]float64) bool {
	if t.Critical || math.Abs(d.Score-half) > closeBy/2 {
		return false
	}
	left := score.Slack(t, s)
	return times[decision.Cloud-d.Target] <= left || times[d.Target] > left
}

// ignorance is 1 where nothing is known of a way, and less the more outcomes have told of such passages, and the more lately.
func (a *arm) ignorance(p passage) float64 {
	x, _ := p.context()
	return min(a.width(&x), 1)
}

// context is the parts of a predicted time as shares of it, so that an error of a tenth weighs alike on short and long
// ones.
func (p passage) context() (x vector, scale float64) {
	scale = p.time() + floorTime
	return vector{p.wait / scale, p.own / scale, p.after / scale, floorTime / scale}, scale
}

// correct applies what was learned to each part, and takes the uncertainty off.
func (a *arm) correct(p passage, alpha float64) passage {
	x, scale := p.context()
	w := &a.weights
	unsure := alpha * a.width(&x) * scale
	fixed := p.after*factor(w[2]) + w[3]*floorTime - unsure
	return passage{wait: p.wait * factor(w[0]), own: p.own * factor(w[1]), after: max(fixed, 0)}
}

// factor turns a learned relative error into a factor on the prediction. A passage never takes less than a tenth of it.
func factor(w float64) float64 { return max(1+w, 0.1) }

// Observe learns by how much the prediction was off, relative to itself. What failed has no time to learn from.
func (b *bandit) Observe(e *decision.Entry) {
	if !e.Outcome.Known || e.Outcome.Failed || !isNumber(e.Outcome.Time) || e.Outcome.Time < 0 {
		return
	}
	local, cloud := waysOf(&e.Estimate, &e.State)
	predicted := local
	if e.Decision.Target == decision.Cloud {
		if math.IsInf(e.Estimate.CloudTime, 1) {
			return // it was not predicted at all
		}
		predicted = cloud
	}
	x, scale := predicted.context()
	off := min((e.Outcome.Time-predicted.time())/scale, maxError) // and above -1

	b.learning.Lock()
	defer b.learning.Unlock()
	way := e.Decision.Target
	arm, other := &b.newest.Arms[way], &b.newest.Arms[decision.Cloud-way]
	other.fade(1-(1-b.forget)/unused, ridges[decision.Cloud-way])
	arm.observe(&x, off, b.forget, ridges[way])
	if arm.Count < eachMatters || arm.Count%publishEach == 0 {
		b.publish()
	}
}

// A way that is not taken any more is forgotten too, so many times more slowly: whatever made it look bad, a clock that jumped
// or an hour of trouble, it is unknown again some day, and tried.
const unused = 4

// maxError bounds the relative error that one outcome can teach: an hour in a queue that the state did not show is not to be
// expected of the next task.
const maxError = 20

// saved is the form on disk.
type saved struct {
	Policy  string    `json:"policy"`
	Version int       `json:"version"`
	Known   knowledge `json:"known"`
}

const savedVersion = 2

// Save gives the learned state as JSON.
func (b *bandit) Save() ([]byte, error) {
	b.learning.Lock()
	newest := b.newest
	b.learning.Unlock()
	return json.Marshal(saved{banditInfo.Name, savedVersion, newest})
}

// Restore takes what Save gave.
func (b *bandit) Restore(data []byte) error {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("restoring policy bandit: %w", err)
	}
	if s.Policy != banditInfo.Name || s.Version != savedVersion {
		return fmt.Errorf("restoring policy bandit: the state is of policy %q, version %d; needs version %d", s.Policy, s.Version, savedVersion)
	}
	for i := range s.Known.Arms {
		if !s.Known.Arms[i].restored() {
			return errors.New("restoring policy bandit: the state holds numbers that no learning leads to")
		}
	}
	b.learning.Lock()
	defer b.learning.Unlock()
	for i := range s.Known.Arms {
		arm := &s.Known.Arms[i]
		arm.prior = b.newest.Arms[i].prior
		arm.solve()
	}
	b.newest = s.Known
	b.publish()
	return nil
}

// String leaves out learned state: it serves to compare configurations.
func (b *bandit) String() string {
	return fmt.Sprintf("bandit: %s, on times corrected by outcomes; optimism %.4g, up to %.3g of the close ones tried the other way",
		b.cost.formula(), b.alpha, b.explore)
}

// Outcomes is how many of each way have taught it.
func (b *bandit) Outcomes() (local, cloud int64) {
	k := b.known.Load()
	return k.Arms[decision.Local].Count, k.Arms[decision.Cloud].Count
}

// inherit goes on with the memory of the bandit before it, and from the arrivals that it has counted: a shadow and the acting one share what
// outcomes teach, and each counts every task itself.
func (b *bandit) inherit(from Policy) {
	if old, ok := from.(*bandit); ok {
		b.memory, b.cost.tempo = old.memory, old.cost.tempo.copy()
	}
}

var (
	_ Learner = (*bandit)(nil)
	_ heir    = (*bandit)(nil)
	_ Pacer   = (*bandit)(nil)
)

// Learner is a policy that learns from what came of its decisions. Observe and Save are safe for concurrent use, with each
// other and with Decide.
type Learner interface {
	Policy
	// Observe takes in one decision with its outcome, however late and in whatever order, by whichever policy.
	Observe(e *decision.Entry)
	// Outcomes is how many of each way have taught it so far.
	Outcomes() (local, cloud int64)
	// Save is what has been learned so far, for Restore after a restart. Writing it to disk is the caller's.
	Save() ([]byte, error)
	// Restore goes on from what Save gave, or reports why it cannot and then changes nothing.
	Restore(saved []byte) error
}

// heir is a policy that goes on with what another one of its kind has learned, as the two share one memory from then on.
// It is called before the heir decides.
type heir interface{ inherit(from Policy) }

// Inherit lets p go on with what from has learned, where the two are of a kind that learns.
func Inherit(p, from Policy) {
	if h, ok := p.(heir); ok && from != nil {
		h.inherit(from)
	}
}

// dims is how many parts a prediction is corrected in.
const dims = 4

type vector [dims]float64

func (v *vector) dot(w *vector) (sum float64) {
	for i := range v {
		sum += v[i] * w[i]
	}
	return sum
}

// arm is a linear regression with forgetting. It keeps the matrix of its normal equations, to which an outcome is a rank-one
// update, and inverts it anew each time: the inverse itself, updated with forgetting, multiplies its rounding errors by
// 1/forget with each outcome, and is worth nothing after some thousand. It is immutable once published.
type arm struct {
	Matrix  [dims]vector // Σ x·xᵀ with forgetting, and ridge on the diagonal
	Moments vector       // Σ x·y with forgetting
	Count   int64
	Before  sums `json:",omitzero"` // what statistics leave out

	prior   prior
	inverse [dims]vector // of Matrix, with the prior's
	weights vector       // inverse·Moments, with the prior's
}

func newArm(ridge float64) arm {
	var a arm
	for i := range a.Matrix {
		a.Matrix[i][i] = ridge
	}
	a.solve()
	return a
}

// width is √(xᵀ A⁻¹ x), by how much the regression may be off at x.
func (a *arm) width(x *vector) float64 {
	sum := 0.0
	for i := range a.inverse {
		sum += x[i] * a.inverse[i].dot(x)
	}
	return math.Sqrt(max(sum, 0))
}

// observe discounts the past by forget and takes one outcome in.
func (a *arm) observe(x *vector, y, forget, ridge float64) {
	a.discount(forget, ridge)
	for i := range x {
		for k := range x {
			a.Matrix[i][k] += x[i] * x[k]
		}
		a.Moments[i] += x[i] * y
	}
	a.solve()
	a.Count++
}

// fade only forgets.
func (a *arm) fade(forget, ridge float64) {
	a.discount(forget, ridge)
	a.solve()
}

// discount takes weight off the past. What is forgotten goes back to the prior: a direction that no outcome has told of for
// long is unknown again, and not less known than at first.
func (a *arm) discount(forget, ridge float64) {
	for i := range a.Matrix {
		for k := range a.Matrix[i] {
			a.Matrix[i][k] *= forget
		}
		a.Matrix[i][i] += (1 - forget) * ridge
		a.Moments[i] *= forget
		for k := range a.Matrix[i] {
			a.Before.Matrix[i][k] *= forget
		}
		a.Before.Moments[i] *= forget
	}
}

// solve finds inverse and weights, and reports whether the matrix has an inverse: always, if it came of outcomes.
func (a *arm) solve() bool {
	matrix, moments := a.withPrior()
	root, ok := cholesky(&matrix)
	if !ok {
		return false
	}
	for k := range root { // column k of the inverse solves root·rootᵀ·column = unit
		var column vector
		for i := k; i < dims; i++ {
			rest := 0.0
			if i == k {
				rest = 1
			}
			for j := k; j < i; j++ {
				rest -= root[i][j] * column[j]
			}
			column[i] = rest / root[i][i]
		}
		for i := dims - 1; i >= 0; i-- {
			rest := column[i]
			for j := i + 1; j < dims; j++ {
				rest -= root[j][i] * column[j]
			}
			column[i] = rest / root[i][i]
		}
		a.inverse[k] = column // the inverse is symmetric
	}
	for i := range a.weights {
		a.weights[i] = a.inverse[i].dot(&moments)
	}
	return true
}

// cholesky is the lower triangle L of L·Lᵀ = m, of which it looks at the lower triangle alone. Only a positive definite
// matrix has one.
func cholesky(m *[dims]vector) (root [dims]vector, ok bool) {
	for i := range m {
		for j := 0; j <= i; j++ {
			rest := m[i][j]
			for k := range j {
				rest -= root[i][k] * root[j][k]
			}
			if i != j {
				root[i][j] = rest / root[j][j]
				continue
			}
			if !(rest > 0) || math.IsInf(rest, 1) {
				return root, false
			}
			root[i][i] = math.Sqrt(rest)
		}
	}
	return root, true
}

// restored completes an arm that was saved, and reports whether outcomes can have led to it.
func (a *arm) restored() bool {
	if a.Count < 0 || !a.solve() {
		return false
	}
	for i := range a.weights {
		if !isNumber(a.weights[i]) {
			return false
		}
		for k := range a.inverse[i] {
			if !isNumber(a.inverse[i][k]) || a.Matrix[i][k] != a.Matrix[k][i] {
				return false
			}
		}
	}
	return true
}

func isNumber(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
