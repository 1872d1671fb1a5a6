package rl

import (
	"math"
	"math/rand/v2"
)

// Marker is an Env that can come back to a place without going all the way from the beginning again.
type Marker interface {
	// Mark remembers the present place. What it gives comes back to it, as often as it is called before the next Reset.
	Mark() (back func())
}

// Labels say of observations how much better action 1 is than action 0.
type Labels struct {
	Obs  []float64
	Gain []float64 // return after action 1 less return after action 0
}

// keep drops the oldest labels beyond the newest n.
func (l *Labels) keep(n, size int) {
	if over := len(l.Gain) - n; over > 0 {
		l.Gain = append(l.Gain[:0], l.Gain[over:]...)
		l.Obs = append(l.Obs[:0], l.Obs[over*size:]...)
	}
}

// Brancher learns what a decision is worth by taking both ways. As an environment is deterministic, the episode in which
// one decision was another one can be played from there on, with the same policy and the same chance, and the difference of
// the returns is due to that decision alone. No critic and no estimate has a part in it.
type Brancher struct {
	Env     Env     // of two actions
	Horizon int     // steps for which a branch is followed at most
	Same    float64 // a branch is over when no observation differs by more than this, three times in a row

	obs     []float64
	actions []byte
	rewards []float64
	forks   []fork
}

// fork is a step at which to branch off.
type fork struct {
	step int
	back func()
}

// play goes through the episode of a seed with the actor's best actions and gives its return. It marks the steps that fork
// says yes to.
func (b *Brancher) play(a *Actor, seed uint64, forks func() bool) float64 {
	b.obs, b.actions, b.rewards, b.forks = b.obs[:0], b.actions[:0], b.rewards[:0], b.forks[:0]
	total := 0.0
	for obs, over := b.Env.Reset(seed), false; !over; {
		b.obs = append(b.obs, obs...)
		if forks() {
			b.forks = append(b.forks, fork{len(b.actions), b.mark(seed, len(b.actions))})
		}
		action := a.Best(obs)
		var reward float64
		var terminated, truncated bool
		obs, reward, terminated, truncated = b.Env.Step(action)
		b.actions, b.rewards = append(b.actions, byte(action)), append(b.rewards, reward) // one of two
		total += reward
		over = terminated || truncated
	}
	return total
}

// Label plays the episode of a seed and branches off at that share of its steps. It gives the return of the episode.
func (b *Brancher) Label(a *Actor, seed uint64, share float64, rng *rand.Rand, to *Labels) float64 {
	total := b.play(a, seed, func() bool { return rng.Float64() < share })
	size := len(b.obs) / len(b.actions)
	for _, f := range b.forks {
		f.back()
		gain := b.branch(a, f.step, size)
		if b.actions[f.step] == 1 {
			gain = -gain
		}
		to.Obs, to.Gain = append(to.Obs, b.obs[f.step*size:(f.step+1)*size]...), append(to.Gain, gain)
	}
	return total
}

// branch is how much more the other action at step i would have brought. The environment stands there.
func (b *Brancher) branch(a *Actor, i, size int) float64 {
	obs, reward, terminated, truncated := b.Env.Step(1 - int(b.actions[i]))
	gain, same := reward-b.rewards[i], 0
	for k := i + 1; k < len(b.actions) && k <= i+b.Horizon && !terminated && !truncated && same < 3; k++ {
		if same++; !alike(obs, b.obs[k*size:(k+1)*size], b.Same) {
			same = 0
		}
		obs, reward, terminated, truncated = b.Env.Step(a.Best(obs))
		gain += reward - b.rewards[k]
	}
	return gain
}

// mark is the way back to a step of the episode that is being played: the environment's own, or from the beginning.
func (b *Brancher) mark(seed uint64, step int) func() {
	if m, ok := b.Env.(Marker); ok {
		return m.Mark()
	}
	return func() {
		b.Env.Reset(seed)
		for _, action := range b.actions[:step] {
			b.Env.Step(int(action))
		}
	}
}

func alike(a, b []float64, within float64) bool {
	for k, v := range a {
		if math.Abs(v-b[k]) > within {
			return false
		}
	}
	return true
}
