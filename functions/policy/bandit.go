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
	Summary: "Decides as cost does, on predictions corrected by the outcomes of each target. It is optimistic about a target with few outcomes, and tries it occasionally.",
	WhenNot: "Each decision must be explainable by its inputs alone. Without outcomes it is no better than cost.",
}

// bandit is LinUCB on top of policy cost: for each target, a linear regression from the parts of the predicted time to the real time. Costs are
// computed from the optimistic end of the regression's confidence interval, as in LinUCB, so that an untried target gets its chance. Outcomes may
// arrive late; the decisions before that use what is known.
type bandit struct {
	cost    *cost
	alpha   float64 // degree of optimism
	forget  float64 // weight that past outcomes keep with each new one
	explore float64 // share of the close decisions that is forced to a target without outcomes
	seed    uint64
	draws   atomic.Uint64
	*memory
}

// memory is the learned state of a bandit. It outlives a change of the configuration, and a shadow shares it with the acting bandit.
type memory struct {
	known    atomic.Pointer[knowledge] // the published copy; readers need no lock
	learning sync.Mutex                // guards newest
	newest   knowledge
}

// The first outcomes are each published, since each one matters; later only every few, as a copy costs more than learning does.
const (
	eachMatters = 1000
	publishEach = 8
)

func (m *memory) publish() {
	k := m.newest
	m.known.Store(&k)
}

// knowledge is the learned state, by Target.
type knowledge struct {
	Arms [2]arm
}

const (
	closeBy   = 0.35 // largest distance of a score from a half at which a decision is forced, as a share: exploring must not be ruinous
	floorTime = 0.1  // s: below it, errors are absolute rather than relative
)

// ridges are the numbers of outcomes, of weight 1 at most each, that it takes to believe them rather than the prediction, by Target. Link times
// scatter far more than times of the node, so a few of them mean less.
var ridges = [2]float64{decision.Local: 0.1, decision.Cloud: 1}

func newBandit(c Config) Policy {
	b := &bandit{cost: pricedBy(c), alpha: c.BanditOptimism, forget: c.BanditForgetting, explore: c.BanditExplore, seed: uint64(c.RandomSeed), memory: &memory{}} // any seed is as good
	b.newest = knowledge{[2]arm{newArm(ridges[decision.Local]), newArm(ridges[decision.Cloud])}}
	b.publish()
	return b
}

func (b *bandit) Name() string { return banditInfo.Name }

// Decide decides as cost does on corrected predictions, except for the draws of forced exploration.
func (b *bandit) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	b.cost.tempo.note(t, s, b.cost.patience)
	return b.DecideAgain(t, e, s)
}

// Arrived counts a task that another policy decides.
func (b *bandit) Arrived(t *task.Task, s *host.State) { b.cost.Arrived(t, s) }

// DecideAgain decides a task whose arrival is already counted.
func (b *bandit) DecideAgain(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	known := b.known.Load()
	local, cloud := timings(e, s)
	plain := [2]timing{local, cloud}
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

// terms returns the estimates corrected by the outcomes so far, without the optimism.
func (k *knowledge) terms(m terms, plain [2]timing) terms {
	m.local = k.Arms[decision.Local].correct(plain[decision.Local], 0).time()
	if !math.IsInf(m.cloud, 1) {
		m.cloud = k.Arms[decision.Cloud].correct(plain[decision.Cloud], 0).time()
	}
	return m
}

// harmless reports whether the other target may be tried: the costs of both are close, the task is not critical, and the other target is not
// predicted to miss a deadline that the chosen one meets.
func harmless(t *task.Task, s *host.State, d *decision.Decision, times [2]float64) bool {
	if t.Critical || math.Abs(d.Score-half) > closeBy/2 {
		return false
	}
	left := score.Slack(t, s)
	return times[decision.Cloud-d.Target] <= left || times[d.Target] > left
}

// ignorance returns 1 for a target without outcomes, and less the more outcomes similar tasks had, and the more recently.
func (a *arm) ignorance(p timing) float64 {
	x, _ := p.context()
	return min(a.width(&x), 1)
}

// context returns the parts of a predicted time as shares of it, so that an error of a tenth weighs the same on short and long times.
func (p timing) context() (x vector, scale float64) {
	scale = p.time() + floorTime
	return vector{p.wait / scale, p.own / scale, p.after / scale, floorTime / scale}, scale
}

// correct applies the learned factor to each part and subtracts the uncertainty.
func (a *arm) correct(p timing, alpha float64) timing {
	x, scale := p.context()
	w := &a.weights
	unsure := alpha * a.width(&x) * scale
	fixed := p.after*factor(w[2]) + w[3]*floorTime - unsure
	return timing{wait: p.wait * factor(w[0]), own: p.own * factor(w[1]), after: max(fixed, 0)}
}

// factor turns a learned relative error into a factor on the prediction. It is at least a tenth.
func factor(w float64) float64 { return max(1+w, 0.1) }

// Observe learns the error of the prediction, relative to the prediction. A failed task has no time to learn from.
func (b *bandit) Observe(e *decision.Entry) {
	if !e.Outcome.Known || e.Outcome.Failed || !isNumber(e.Outcome.Time) || e.Outcome.Time < 0 {
		return
	}
	local, cloud := timings(&e.Estimate, &e.State)
	predicted := local
	if e.Decision.Target == decision.Cloud {
		if math.IsInf(e.Estimate.CloudTime, 1) {
			return // there was no prediction
		}
		predicted = cloud
	}
	x, scale := predicted.context()
	off := min((e.Outcome.Time-predicted.time())/scale, maxError) // and above -1

	b.learning.Lock()
	defer b.learning.Unlock()
	target := e.Decision.Target
	arm, other := &b.newest.Arms[target], &b.newest.Arms[decision.Cloud-target]
	other.fade(1-(1-b.forget)/unused, ridges[decision.Cloud-target])
	arm.observe(&x, off, b.forget, ridges[target])
	if arm.Count < eachMatters || arm.Count%publishEach == 0 {
		b.publish()
	}
}

// Outcomes of a target that is no longer chosen are forgotten too, this many times more slowly. Whatever made the target look bad, such as a clock
// that jumped or an hour of trouble, it becomes unknown again eventually, and is tried.
const unused = 4

// maxError bounds the relative error that one outcome can teach: an hour in a queue that the state did not show must not be expected of the next
// task.
const maxError = 20

// saved is the format on disk.
type saved struct {
	Policy  string    `json:"policy"`
	Version int       `json:"version"`
	Known   knowledge `json:"known"`
}

const savedVersion = 2

// Save returns the learned state as JSON.
func (b *bandit) Save() ([]byte, error) {
	b.learning.Lock()
	newest := b.newest
	b.learning.Unlock()
	return json.Marshal(saved{banditInfo.Name, savedVersion, newest})
}

// Restore restores a state that Save returned.
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
			return errors.New("restoring policy bandit: the state contains invalid numbers")
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

// String omits the learned state: it serves to compare configurations.
func (b *bandit) String() string {
	return fmt.Sprintf("bandit: %s, with times corrected by outcomes; optimism %.4g; up to %.3g of the close decisions reversed, to explore",
		b.cost.formula(), b.alpha, b.explore)
}

// Outcomes returns the number of outcomes learned from, by target.
func (b *bandit) Outcomes() (local, cloud int64) {
	k := b.known.Load()
	return k.Arms[decision.Local].Count, k.Arms[decision.Cloud].Count
}

// inherit continues with the memory of the previous bandit, and with a copy of its arrival statistics: a shadow and the acting bandit share the
// learned state, and each counts every task itself.
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

// Learner is a policy that learns from the outcomes of decisions. Observe and Save are safe for concurrent use, with each other and with Decide.
type Learner interface {
	Policy
	// Observe learns from one decision with its outcome, however late, in any order, and of any policy.
	Observe(e *decision.Entry)
	// Outcomes returns the number of outcomes learned from so far, by target.
	Outcomes() (local, cloud int64)
	// Save returns the learned state, for Restore after a restart. The caller writes it to disk.
	Save() ([]byte, error)
	// Restore restores a state that Save returned. On error it changes nothing.
	Restore(saved []byte) error
}

// heir is a policy that continues with the learned state of a previous policy of its kind; from then on the two share one memory. inherit is called
// before the heir decides.
type heir interface{ inherit(from Policy) }

// Inherit lets p continue with the learned state of from, if both are of the same learning kind.
func Inherit(p, from Policy) {
	if h, ok := p.(heir); ok && from != nil {
		h.inherit(from)
	}
}

// dims is the number of parts in which a prediction is corrected.
const dims = 4

type vector [dims]float64

func (v *vector) dot(w *vector) (sum float64) {
	for i := range v {
		sum += v[i] * w[i]
	}
	return sum
}

// arm is a linear regression with forgetting. It keeps the matrix of its normal equations, to which an outcome is a rank-one update, and inverts it
// anew each time. An inverse that is itself updated with forgetting multiplies its rounding errors by 1/forget with each outcome, and is useless
// after some thousand. An arm is immutable once published.
type arm struct {
	Matrix  [dims]vector // Σ x·xᵀ with forgetting, and ridge on the diagonal
	Moments vector       // Σ x·y with forgetting
	Count   int64
	Before  sums `json:",omitzero"` // sums that statistics leave out

	prior   prior
	inverse [dims]vector // of Matrix, with the prior
	weights vector       // inverse·Moments, with the prior
}

func newArm(ridge float64) arm {
	var a arm
	for i := range a.Matrix {
		a.Matrix[i][i] = ridge
	}
	a.solve()
	return a
}

// width returns √(xᵀ A⁻¹ x), the uncertainty of the regression at x.
func (a *arm) width(x *vector) float64 {
	sum := 0.0
	for i := range a.inverse {
		sum += x[i] * a.inverse[i].dot(x)
	}
	return math.Sqrt(max(sum, 0))
}

// observe discounts the past by forget and adds one outcome.
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

// fade forgets without a new outcome.
func (a *arm) fade(forget, ridge float64) {
	a.discount(forget, ridge)
	a.solve()
}

// discount takes weight off the past. What is forgotten returns to the ridge: a direction without recent outcomes becomes as unknown as it was at
// first, and not less known.
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

// solve computes inverse and weights, and reports whether the matrix has an inverse. A matrix made from outcomes always has one.
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

// cholesky returns the lower triangle L of L·Lᵀ = m. It reads the lower triangle of m only. Only a positive definite matrix has one.
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
