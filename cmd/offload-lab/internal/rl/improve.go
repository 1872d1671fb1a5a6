package rl

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"app-offload/functions/check"
)

// ImproveConfig configures a training by branches: rounds of labelling with the current policy, each followed by a fit to all kept labels.
type ImproveConfig struct {
	Seed      uint64
	Steps     int     `within:"1 1000000000"` // labels to learn from, in all rounds together
	Labels    int     `within:"1 1000000000"` // minimum number per round
	Share     float64 `within:"1e-9 1"`       // of an episode's steps that become labels
	Keep      int     `within:"1 1000000000"` // maximum number of labels; those of the oldest policies are dropped first
	Horizon   int     `within:"1 1000000000"` // maximum length of a branch in steps
	Epochs    int     `within:"1 1000000000"` // passes over the labels per round
	Minibatch int     `within:"1 1000000000"`
	Hidden    []int
	Power     float64 `within:"1e-9 1"` // exponent of a gain for the weight of its label; less than 1 keeps a few extreme gains from dominating
	Rate      float64 `within:"1e-9 1"` // of Adam; it falls to a tenth within each round, and to a fifth over all rounds
}

// DefaultImprove learns from two dozen inputs within minutes.
func DefaultImprove() ImproveConfig {
	return ImproveConfig{
		Seed: 1, Steps: 300_000, Labels: 40_000, Share: 0.07, Keep: 400_000, Horizon: 150, Epochs: 2, Minibatch: 256,
		Hidden: []int{64, 64}, Power: 0.4, Rate: 2e-3,
	}
}

// Validate reports every problem.
func (c ImproveConfig) Validate() error {
	p := check.Fields("", c)
	if p.Fine("Labels") && c.Minibatch > c.Labels {
		p.Addf("Minibatch", c.Minibatch, "must be at most Labels, %d", c.Labels)
	}
	checkLayers(p, c.Hidden)
	return p.Err()
}

// Improver improves a policy by the measured values of its own decisions: policy iteration, with a classifier that weights mistakes by their cost
// instead of a table.
type Improver struct {
	config   ImproveConfig
	teachers []Brancher
	source   *rand.PCG
	rng      *rand.Rand
	net      *Net
	norm     *Norm
	fitter   *Fitter
	labels   Labels
	actor    *Actor
	steps    int
}

// NewImprover begins with the decisions of start.
func NewImprover(c ImproveConfig, newEnv func() (Env, error), start *Actor) (*Improver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	im := &Improver{config: c, source: rand.NewPCG(mix(c.Seed), 0x6272616e6368), actor: start}
	for range runtime.GOMAXPROCS(0) {
		env, err := newEnv()
		if err != nil {
			return nil, err
		}
		im.teachers = append(im.teachers, Brancher{Env: env, Horizon: c.Horizon, Same: 1e-3})
	}
	observation, actions := im.teachers[0].Env.Spaces()
	if actions != 2 {
		return nil, fmt.Errorf("learning by branches needs 2 actions; the environment has %d", actions)
	}
	im.rng = rand.New(im.source)
	im.net = NewNet(im.rng, 0.1, sizes(observation, c.Hidden, 2)...)
	im.norm = NewNorm(observation)
	im.fitter = NewFitter(im.net, c.Minibatch, c.Power)
	return im, nil
}

// Finished reports whether all labels have been made.
func (im *Improver) Finished() bool { return im.steps >= im.config.Steps }

// Taken is the number of labels made so far.
func (im *Improver) Taken() int { return im.steps }

// Actor is the current policy.
func (im *Improver) Actor() *Actor { return im.actor }

// Update runs one round.
func (im *Improver) Update() Progress {
	p, before := Progress{}, len(im.labels.Gain)
	for len(im.labels.Gain)-before < im.config.Labels {
		p.Return += im.wave()
		p.Episodes += waveEpisodes
	}
	p.Return /= float64(p.Episodes)
	left := 1 - 0.8*float64(im.steps)/float64(im.config.Steps)
	im.steps += len(im.labels.Gain) - before
	size := im.net.Sizes[0]
	im.norm.Add(im.labels.Obs[before*size:])
	im.labels.keep(im.config.Keep, size)
	for epoch := range im.config.Epochs {
		p.Policy = im.fitter.Epoch(&im.labels, im.norm, im.rng, func(done float64) float64 {
			return im.config.Rate * left * (1 - 0.9*(float64(epoch)+done)/float64(im.config.Epochs))
		})
	}
	im.actor, p.Steps = NewActor(im.net, im.norm), im.steps
	return p
}

// waveEpisodes is the number of episodes labelled in parallel before they are counted: constant, so that the result does not depend on the number of
// processors.
const waveEpisodes = 16

// wave labels some episodes on all processors, and appends their labels in the order of the episodes. It returns the sum of their returns.
func (im *Improver) wave() float64 {
	var seeds [waveEpisodes]uint64
	for i := range seeds {
		seeds[i] = im.rng.Uint64()
	}
	var parts [waveEpisodes]Labels
	var returns [waveEpisodes]float64
	var next atomic.Int64
	var wg sync.WaitGroup
	for k := range im.teachers {
		wg.Go(func() {
			mine := NewActor(im.actor.Net, im.actor.Norm)
			for i := next.Add(1) - 1; i < waveEpisodes; i = next.Add(1) - 1 {
				rng := rand.New(rand.NewPCG(seeds[i], 0x77617665))
				returns[i] = im.teachers[k].Label(mine, seeds[i], im.config.Share, rng, &parts[i])
			}
		})
	}
	wg.Wait()
	total := 0.0
	for i := range parts {
		im.labels.Obs = append(im.labels.Obs, parts[i].Obs...)
		im.labels.Gain = append(im.labels.Gain, parts[i].Gain...)
		total += returns[i]
	}
	return total
}

// halfway is a training by branches between two rounds.
type halfway struct {
	Version int
	Config  ImproveConfig
	Random  []byte
	Net     *Net
	Norm    *Norm
	Opt     *Adam
	Labels  Labels
	Steps   int
}

// Save writes the complete state of the training.
func (im *Improver) Save(w io.Writer) error {
	random, _ := im.source.MarshalBinary() // never fails
	return save(w, halfway{checkpointVersion, im.config, random, im.net, im.norm, im.fitter.opt, im.labels, im.steps})
}

// Resume continues a saved training under the same configuration.
func (im *Improver) Resume(r io.Reader) error {
	var h halfway
	if err := load(r, &h, func() error { return h.fits(im) }); err != nil {
		return err
	}
	im.net, im.norm, im.labels, im.steps = h.Net, h.Norm, h.Labels, h.Steps
	im.fitter = NewFitter(im.net, im.config.Minibatch, im.config.Power)
	im.fitter.opt = h.Opt
	im.actor = NewActor(im.net, im.norm)
	return nil
}

// fits checks a checkpoint, and restores the random state.
func (h *halfway) fits(im *Improver) error {
	switch {
	case h.Version != checkpointVersion:
		return fmt.Errorf("version %d; this program reads version %d", h.Version, checkpointVersion)
	case !reflect.DeepEqual(h.Config, im.config):
		return fmt.Errorf("it was made with %+v; this training has %+v", h.Config, im.config)
	case h.Net == nil || h.Norm == nil || h.Opt == nil || !reflect.DeepEqual(h.Net.Sizes, im.net.Sizes):
		return errors.New("its network does not fit")
	}
	return errors.Join(h.Net.Valid(), im.source.UnmarshalBinary(h.Random))
}

// Marker is an Env that can restore a state without replaying from the start.
type Marker interface {
	// Mark saves the current state. back restores it, any number of times before the next Reset.
	Mark() (back func())
}

// Labels are observations with the gain of action 1 over action 0.
type Labels struct {
	Obs  []float64
	Gain []float64 // return after action 1 minus return after action 0
}

// keep drops all but the newest n labels.
func (l *Labels) keep(n, size int) {
	if over := len(l.Gain) - n; over > 0 {
		l.Gain = append(l.Gain[:0], l.Gain[over:]...)
		l.Obs = append(l.Obs[:0], l.Obs[over*size:]...)
	}
}

// Brancher measures the value of a decision by trying both actions. Since an environment is deterministic, the episode with one changed decision can
// be replayed from there with the same policy and the same randomness, and the difference of the returns is due to that decision alone, without a
// critic or an estimate.
type Brancher struct {
	Env     Env     // with two actions
	Horizon int     // maximum length of a branch in steps
	Same    float64 // a branch ends when no observation differs by more than this, three times in a row

	obs     []float64
	actions []byte
	rewards []float64
	forks   []fork
}

// fork is a step at which to branch.
type fork struct {
	step int
	back func()
}

// play runs the episode of a seed with the actor's best actions and returns its return. It marks the steps selected by forks.
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
		b.actions, b.rewards = append(b.actions, byte(action)), append(b.rewards, reward) // 0 or 1
		total += reward
		over = terminated || truncated
	}
	return total
}

// Label plays the episode of a seed, branches at that share of its steps, and returns the return of the episode.
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

// branch returns the gain of the other action at step i, the current state of the environment.
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

// mark returns a function that restores a step of the current episode: the environment's own, or a replay from the start.
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
