package rl

// Env is a sequence of episodes with the contract of Gymnasium. It must be deterministic in the seed and the actions since Reset. The observation
// belongs to the environment and is overwritten by the next call.
type Env interface {
	Reset(seed uint64) (obs []float64)
	// Step takes an action. A terminated episode has no future; a truncated one is only cut off.
	Step(action int) (obs []float64, reward float64, terminated, truncated bool)
	// Spaces returns the length of an observation and the number of actions.
	Spaces() (observation, actions int)
}

// lane is one of the parallel environments.
type lane struct {
	env      Env
	obs      []float64
	seed     uint64 // of the current episode
	episodes uint64 // number of episodes begun
	actions  []byte // since the reset; with the seed they restore the environment
	total    float64
	carried  float64 // discounted return, used to scale rewards
}

// begin resets the environment to its next episode.
func (l *lane) begin(seed, number uint64) {
	l.seed = mix(mix(seed)^mix(number+1)) + l.episodes
	l.episodes++
	l.actions, l.total, l.carried = l.actions[:0], 0, 0
	l.obs = l.env.Reset(l.seed)
}

func (l *lane) step(action int) (reward float64, terminated, truncated bool) {
	l.actions = append(l.actions, byte(action))
	l.obs, reward, terminated, truncated = l.env.Step(action)
	l.total += reward
	return reward, terminated, truncated
}

// replay restores the state of a checkpoint.
func (l *lane) replay() {
	l.obs = l.env.Reset(l.seed)
	for _, a := range l.actions {
		l.obs, _, _, _ = l.env.Step(int(a))
	}
}

// mix is a bijection that maps neighbouring seeds far apart (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Actor is a policy: a network over normalised observations, with one output per action.
type Actor struct {
	Net  *Net
	Norm *Norm
	pass *Pass
	x    []float64
}

// NewActor creates a policy for single observations. The norm may be nil.
func NewActor(net *Net, norm *Norm) *Actor {
	return &Actor{Net: net, Norm: norm, pass: NewPass(net, 1), x: make([]float64, net.Sizes[0])}
}

// Logits returns the outputs for an observation, valid until the next call.
func (a *Actor) Logits(obs []float64) []float64 {
	if a.Norm == nil {
		return a.pass.Forward(obs, 1)
	}
	a.Norm.Apply(a.x, obs)
	return a.pass.Forward(a.x, 1)
}

// Best returns the action with the largest output.
func (a *Actor) Best(obs []float64) int {
	logits, best := a.Logits(obs), 0
	for k, v := range logits {
		if v > logits[best] {
			best = k
		}
	}
	return best
}

// Evaluate plays whole episodes without exploration and returns their returns.
func Evaluate(a *Actor, env Env, episodes int, seed uint64) []float64 {
	returns := make([]float64, 0, episodes)
	for i := range episodes {
		l := lane{env: env}
		for l.begin(seed, uint64(i)); ; {
			if _, terminated, truncated := l.step(a.Best(l.obs)); terminated || truncated {
				break
			}
		}
		returns = append(returns, l.total)
	}
	return returns
}
