package rl

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Trainer is proximal policy optimisation with the clipped objective (Schulman et al., 2017).
type Trainer struct {
	config           Config
	obsSize, actions int
	lanes            []*lane
	source           *rand.PCG
	rng              *rand.Rand

	actor, critic *Net
	actorOpt      *Adam
	criticOpt     *Adam
	norm          *Norm // of observations
	returnNorm    *Norm
	finished      []float64 // returns of the episodes finished since the last update

	Steps int // taken so far

	trial Env // for trying policies for selection
	best  *chosen

	batch      *batch
	act, value *Pass // for collection
	learn      *learner
	order      []int
	lastObs    []float64
	oneObs     []float64
	one        [1]float64
}

// Progress describes one update.
type Progress struct {
	Steps    int     `json:"steps"`
	Episodes int     `json:"episodes"` // finished since the last update
	Return   float64 `json:"return"`   // their mean; 0 without episodes
	Losses
}

// NewTrainer creates environments and networks from the seed.
func NewTrainer(c Config, newEnv func() (Env, error)) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	t := &Trainer{config: c, source: rand.NewPCG(mix(c.Seed), 0x70706f)}
	t.rng = rand.New(t.source)
	for range c.Envs {
		env, err := newEnv()
		if err != nil {
			return nil, err
		}
		t.lanes = append(t.lanes, &lane{env: env})
	}
	var err error
	if t.trial, err = newEnv(); err != nil {
		return nil, err
	}
	t.obsSize, t.actions = t.lanes[0].env.Spaces()
	t.actor = NewNet(t.rng, 0.01, sizes(t.obsSize, c.Hidden, t.actions)...)
	t.critic = NewNet(t.rng, 1, sizes(t.obsSize, c.Hidden, 1)...)
	t.actorOpt, t.criticOpt = NewAdam(len(t.actor.Params)), NewAdam(len(t.critic.Params))
	t.norm, t.returnNorm = NewNorm(t.obsSize), NewNorm(1)
	t.prepare()
	for k, l := range t.lanes {
		l.begin(c.Seed, uint64(k))
	}
	return t, nil
}

func sizes(in int, hidden []int, out int) []int {
	return append(append([]int{in}, hidden...), out)
}

// prepare allocates the working memory, so that training allocates almost nothing.
func (t *Trainer) prepare() {
	size := t.config.Horizon * len(t.lanes)
	t.batch = newBatch(size, t.obsSize)
	t.act, t.value = NewPass(t.actor, len(t.lanes)), NewPass(t.critic, len(t.lanes))
	t.learn = newLearner(&t.config, t.actor, t.critic)
	t.lastObs, t.oneObs = make([]float64, len(t.lanes)*t.obsSize), make([]float64, t.obsSize)
	t.order = make([]int, size)
	for i := range t.order {
		t.order[i] = i
	}
}

// Finished reports whether another update would exceed the configured number of steps.
func (t *Trainer) Finished() bool { return t.Steps+t.config.Envs*t.config.Horizon > t.config.Steps }

// Taken is the number of steps taken so far.
func (t *Trainer) Taken() int { return t.Steps }

// Update collects steps and learns from them.
func (t *Trainer) Update() Progress {
	left := 1.0
	if t.config.Anneal {
		left = max(1-float64(t.Steps)/float64(t.config.Steps), 0)
	}
	t.finished = t.finished[:0]
	t.collect()
	t.judge()
	t.learn.losses = Losses{}
	for range t.config.Epochs {
		t.epoch(left)
	}
	p := Progress{Steps: t.Steps, Episodes: len(t.finished), Losses: t.learn.losses.mean()}
	for _, r := range t.finished {
		p.Return += r / float64(len(t.finished))
	}
	if t.config.Select > 0 && 2*t.Steps >= t.config.Steps {
		t.selectBest()
	}
	return p
}

// chosen is the best policy so far.
type chosen struct {
	Return float64
	Params []float64
	Norm   *Norm
}

// selectBest tries the current policy on the same episodes as the earlier ones. They are not used in training, so that selection is not biased by it.
func (t *Trainer) selectBest() {
	total := 0.0
	for _, r := range Evaluate(t.latest(), t.trial, t.config.Select, mix(t.config.Seed)+1) {
		total += r
	}
	if mean := total / float64(t.config.Select); t.best == nil || mean > t.best.Return {
		t.best = &chosen{mean, slices.Clone(t.actor.Params), t.norm.clone()}
	}
}

// epoch passes once over the samples in a new order. It leaves a remainder that is too small to the next epoch.
func (t *Trainer) epoch(left float64) {
	for i := range t.order {
		t.order[i] = i
	}
	t.rng.Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
	size := min(t.config.Minibatch, len(t.order))
	for at := 0; at+size <= len(t.order); at += size {
		t.learn.gather(t.batch, t.order[at:at+size])
		t.learn.gradient(t.config.Clip * left)
		clipNorm(t.config.MaxGradient, t.learn.actorGrad, t.learn.criticGrad)
		t.actorOpt.Step(t.actor.Params, t.learn.actorGrad, t.config.Rate*left)
		t.criticOpt.Step(t.critic.Params, t.learn.criticGrad, t.config.Rate*left)
	}
}

// Actor is the best policy if policies are selected, otherwise the current policy, which continues to learn.
func (t *Trainer) Actor() *Actor {
	if t.best == nil {
		return t.latest()
	}
	return t.actorOf(&Net{Sizes: t.actor.Sizes, Params: t.best.Params}, t.best.Norm)
}

func (t *Trainer) latest() *Actor { return t.actorOf(t.actor, t.norm) }

func (t *Trainer) actorOf(net *Net, norm *Norm) *Actor {
	if !t.config.NormObs {
		norm = nil
	}
	return NewActor(net, norm)
}

// Losses describe an update.
type Losses struct {
	Policy    float64 `json:"policyLoss"`
	Value     float64 `json:"valueLoss"`
	Entropy   float64 `json:"entropy"`
	KL        float64 `json:"kl"`      // from the collecting policy
	Clipped   float64 `json:"clipped"` // share of samples
	gradients float64
}

func (l Losses) mean() Losses {
	n := max(l.gradients, 1)
	return Losses{Policy: l.Policy / n, Value: l.Value / n, Entropy: l.Entropy / n, KL: l.KL / n, Clipped: l.Clipped / n}
}

// learner computes gradients over one minibatch.
type learner struct {
	config        *Config
	actor, critic *Pass
	batch
	rows                  int
	dLogits, dValues      []float64
	actorGrad, criticGrad []float64
	logP                  []float64
	losses                Losses
}

func newLearner(c *Config, actor, critic *Net) *learner {
	size, actions := min(c.Minibatch, c.Horizon*c.Envs), actor.Sizes[len(actor.Sizes)-1]
	return &learner{
		config: c, actor: NewPass(actor, size), critic: NewPass(critic, size), batch: *newBatch(size, actor.Sizes[0]),
		dLogits: make([]float64, size*actions), dValues: make([]float64, size), logP: make([]float64, actions),
		actorGrad: make([]float64, len(actor.Params)), criticGrad: make([]float64, len(critic.Params)),
	}
}

// gather copies the samples and normalises their advantages to mean 0 and deviation 1.
func (l *learner) gather(from *batch, samples []int) {
	l.rows = len(samples)
	size := len(l.obs) / len(l.actions)
	mean, squares := 0.0, 0.0
	for k, i := range samples {
		copy(l.obs[k*size:(k+1)*size], from.obs[i*size:(i+1)*size])
		l.actions[k], l.logProbs[k], l.returns[k], l.advantage[k] = from.actions[i], from.logProbs[i], from.returns[i], from.advantage[i]
		mean += from.advantage[i] / float64(len(samples))
	}
	for _, a := range l.advantage[:l.rows] {
		squares += (a - mean) * (a - mean)
	}
	factor := 1 / (math.Sqrt(squares/float64(l.rows)) + 1e-8)
	for k := range l.rows {
		l.advantage[k] = (l.advantage[k] - mean) * factor
	}
}

// gradient computes the gradients of the total loss by both networks' parameters and returns the loss: the clipped objective and the entropy bonus,
// both negative, plus the critic's squared error.
func (l *learner) gradient(clip float64) float64 {
	clear(l.actorGrad)
	clear(l.criticGrad)
	size := len(l.obs) / len(l.actions)
	x := l.obs[:l.rows*size]
	loss := l.policyLoss(l.actor.Forward(x, l.rows), clip)
	l.actor.Backward(l.dLogits[:l.rows*len(l.logP)], l.actorGrad)
	loss += l.config.ValueWeight * l.valueLoss(l.critic.Forward(x, l.rows))
	l.critic.Backward(l.dValues[:l.rows], l.criticGrad)
	l.losses.gradients++
	return loss
}

func (l *learner) policyLoss(logits []float64, clip float64) float64 {
	n, actions := float64(l.rows), len(l.logP)
	var objective, entropies, kl, clipped float64
	for i := range l.rows {
		row := logits[i*actions : (i+1)*actions]
		norm, entropy := logSumExp(row), 0.0
		for a, v := range row {
			l.logP[a] = v - norm
			entropy -= math.Exp(l.logP[a]) * l.logP[a]
		}
		change := l.logP[l.actions[i]] - l.logProbs[i]
		ratio, adv := math.Exp(change), l.advantage[i]
		held := min(max(ratio, 1-clip), 1+clip)
		objective += min(ratio*adv, held*adv)
		push := ratio * adv
		// If the clipped term is smaller, it does not depend on the parameters.
		if held*adv < ratio*adv {
			push = 0
			clipped++
		}
		for a, lp := range l.logP {
			p := math.Exp(lp)
			d := p*push + l.config.Entropy*p*(lp+entropy)
			if a == l.actions[i] {
				d -= push
			}
			l.dLogits[i*actions+a] = d / n
		}
		entropies += entropy
		kl += ratio - 1 - change
	}
	l.losses.Policy -= objective / n
	l.losses.Entropy += entropies / n
	l.losses.KL += kl / n
	l.losses.Clipped += clipped / n
	return -(objective + l.config.Entropy*entropies) / n
}

func (l *learner) valueLoss(values []float64) float64 {
	n, loss := float64(l.rows), 0.0
	for i, v := range values {
		miss := v - l.returns[i]
		loss += miss * miss / n
		l.dValues[i] = l.config.ValueWeight * 2 * miss / n
	}
	l.losses.Value += loss
	return loss
}

// batch is the steps collected between two updates. Sample i of lane l is at i·lanes + l.
type batch struct {
	obs       []float64 // as normalised when the action was chosen
	actions   []int
	logProbs  []float64
	rewards   []float64 // scaled
	values    []float64
	ended     []bool // the episode ended with this step
	advantage []float64
	returns   []float64

	cutObs []float64 // last observations of truncated episodes
	cutAt  []int     // and their samples
}

func newBatch(size, obs int) *batch {
	return &batch{
		obs: make([]float64, size*obs), actions: make([]int, size), logProbs: make([]float64, size), rewards: make([]float64, size),
		values: make([]float64, size), ended: make([]bool, size), advantage: make([]float64, size), returns: make([]float64, size),
	}
}

// collect takes Horizon steps in every environment.
func (t *Trainer) collect() {
	b, lanes, size := t.batch, len(t.lanes), t.obsSize
	b.cutObs, b.cutAt = b.cutObs[:0], b.cutAt[:0]
	for step := range t.config.Horizon {
		t.look(b.obs[step*lanes*size : (step+1)*lanes*size])
		logits := t.act.Forward(b.obs[step*lanes*size:(step+1)*lanes*size], lanes)
		for k, l := range t.lanes {
			i := step*lanes + k
			b.actions[i], b.logProbs[i] = sample(t.rng, logits[k*t.actions:(k+1)*t.actions])
			reward, terminated, truncated := l.step(b.actions[i])
			b.rewards[i], b.ended[i] = t.scaled(l, reward), terminated || truncated
			if !b.ended[i] {
				continue
			}
			if !terminated {
				b.cutAt = append(b.cutAt, i)
				b.cutObs = append(b.cutObs, t.normalised(l.obs)...)
			}
			t.finished = append(t.finished, l.total)
			l.begin(t.config.Seed, uint64(k))
		}
	}
	t.look(t.lastObs)
	t.Steps += t.config.Horizon * lanes
}

// look writes the normalised observations of all lanes to dst, after adding them to the norm.
func (t *Trainer) look(dst []float64) {
	for k, l := range t.lanes {
		copy(dst[k*t.obsSize:], l.obs)
	}
	if t.config.NormObs {
		t.norm.Add(dst)
		t.norm.Apply(dst, dst)
	}
}

func (t *Trainer) normalised(obs []float64) []float64 {
	if !t.config.NormObs {
		return obs
	}
	t.norm.Apply(t.oneObs, obs)
	return t.oneObs
}

// scaled divides a reward by the deviation of the discounted return, without shifting its zero.
func (t *Trainer) scaled(l *lane, reward float64) float64 {
	if !t.config.NormReturn {
		return reward
	}
	l.carried = l.carried*t.config.Gamma + reward
	t.one[0] = l.carried
	t.returnNorm.Add(t.one[:])
	return min(max(reward/math.Sqrt(t.returnNorm.Var[0]+tiny), -clipAt), clipAt)
}

// judge values all collected steps with the critic and estimates advantages.
func (t *Trainer) judge() {
	b, lanes, size := t.batch, len(t.lanes), t.obsSize
	for at := 0; at < len(b.actions); at += lanes {
		copy(b.values[at:], t.value.Forward(b.obs[at*size:(at+lanes)*size], lanes))
	}
	// The expected return after the end of a truncated episode is added to its last reward.
	for k, i := range b.cutAt {
		b.rewards[i] += t.config.Gamma * t.value.Forward(b.cutObs[k*size:(k+1)*size], 1)[0]
	}
	b.estimate(t.value.Forward(t.lastObs, lanes), t.config.Gamma, t.config.Lambda)
}

// estimate is generalised advantage estimation, backwards in time; next holds each lane's value after the last step.
func (b *batch) estimate(next []float64, gamma, lambda float64) {
	lanes := len(next)
	for k := range lanes {
		follows, carried := next[k], 0.0
		for i := len(b.actions) - lanes + k; i >= 0; i -= lanes {
			if b.ended[i] {
				follows, carried = 0, 0
			}
			carried = b.rewards[i] + gamma*follows - b.values[i] + gamma*lambda*carried
			b.advantage[i], b.returns[i] = carried, carried+b.values[i]
			follows = b.values[i]
		}
	}
}

// sample draws an action from the distribution of the logits and returns its log probability.
func sample(rng *rand.Rand, logits []float64) (action int, logProb float64) {
	norm := logSumExp(logits)
	u := rng.Float64()
	for action = range logits {
		p := math.Exp(logits[action] - norm)
		if u -= p; u < 0 {
			break
		}
	}
	return action, logits[action] - norm
}

func logSumExp(v []float64) float64 {
	top := v[0]
	for _, x := range v[1:] {
		top = max(top, x)
	}
	sum := 0.0
	for _, x := range v {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}
