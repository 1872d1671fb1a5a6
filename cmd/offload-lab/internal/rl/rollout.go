package rl

import (
	"math"
	"math/rand/v2"
)

// batch is what the environments lived through between two updates. Sample i of lane l is at i·lanes + l.
type batch struct {
	obs       []float64 // normalised as they were when the action was chosen
	actions   []int
	logProbs  []float64
	rewards   []float64 // scaled
	values    []float64
	ended     []bool // the episode ended with this step
	advantage []float64
	returns   []float64

	cutObs []float64 // last observations of episodes that were truncated
	cutAt  []int     // and their samples
}

func newBatch(size, obs int) *batch {
	return &batch{
		obs: make([]float64, size*obs), actions: make([]int, size), logProbs: make([]float64, size), rewards: make([]float64, size),
		values: make([]float64, size), ended: make([]bool, size), advantage: make([]float64, size), returns: make([]float64, size),
	}
}

// collect lets every environment take Horizon steps.
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

// look writes the normalised observations of all lanes to dst, after the norm has taken them in.
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

// scaled divides a reward by the deviation of the discounted return, without moving its zero.
func (t *Trainer) scaled(l *lane, reward float64) float64 {
	if !t.config.NormReturn {
		return reward
	}
	l.carried = l.carried*t.config.Gamma + reward
	t.one[0] = l.carried
	t.returnNorm.Add(t.one[:])
	return min(max(reward/math.Sqrt(t.returnNorm.Var[0]+tiny), -clipAt), clipAt)
}

// judge has the critic value everything that was collected and estimates advantages from it.
func (t *Trainer) judge() {
	b, lanes, size := t.batch, len(t.lanes), t.obsSize
	for at := 0; at < len(b.actions); at += lanes {
		copy(b.values[at:], t.value.Forward(b.obs[at*size:(at+lanes)*size], lanes))
	}
	// What a truncated episode would still have brought belongs to its last reward.
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

// sample draws an action from the distribution of the logits and gives its log probability.
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
