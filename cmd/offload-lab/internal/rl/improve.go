package rl

import (
	"encoding/gob"
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

// ImproveConfig is a training by branches: rounds of labelling with the present policy, each followed by a fit to all labels
// that are kept.
type ImproveConfig struct {
	Seed      uint64
	Steps     int     `within:"1 1000000000"` // labels to learn from, of all rounds together
	Labels    int     `within:"1 1000000000"` // made in a round, at least
	Share     float64 `within:"1e-9 1"`       // of an episode's steps that become labels
	Keep      int     `within:"1 1000000000"` // labels at most; those by the oldest policies go first
	Horizon   int     `within:"1 1000000000"` // steps for which a branch is followed
	Epochs    int     `within:"1 1000000000"` // over the labels in a round
	Minibatch int     `within:"1 1000000000"`
	Hidden    []int
	Power     float64 `within:"1e-9 1"` // of a gain that its label weighs; 1 is the gain itself, less keeps a few extreme ones from drowning the rest
	Rate      float64 `within:"1e-9 1"` // of Adam; it falls within each round to a tenth, and over all rounds to a fifth
}

// DefaultImprove learns from two dozen inputs within minutes.
func DefaultImprove() ImproveConfig {
	return ImproveConfig{
		Seed: 1, Steps: 300_000, Labels: 40_000, Share: 0.07, Keep: 400_000, Horizon: 150, Epochs: 2, Minibatch: 256,
		Hidden: []int{64, 64}, Power: 0.4, Rate: 2e-3,
	}
}

// Validate reports every problem at once.
func (c ImproveConfig) Validate() error {
	p := check.Fields("", c)
	if p.Fine("Labels") && c.Minibatch > c.Labels {
		p.Addf("Minibatch", c.Minibatch, "must be at most Labels, %d", c.Labels)
	}
	checkLayers(p, c.Hidden)
	return p.Err()
}

// Improver makes a policy better by what its own decisions turn out to be worth: policy iteration, with a classifier that
// weighs mistakes by their cost in the place of a table.
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

// Actor is the policy as it stands.
func (im *Improver) Actor() *Actor { return im.actor }

// Update is one round.
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

// waveEpisodes are labelled beside each other before they are counted: a fixed number, so that the result does not depend on how
// many processors there are.
const waveEpisodes = 16

// wave labels some episodes on all processors, and adds their labels in the order of the episodes. It gives the sum of their
// returns.
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

// Save writes everything that the training needs to go on as if nothing had happened.
func (im *Improver) Save(w io.Writer) error {
	random, err := im.source.MarshalBinary()
	if err != nil {
		return fmt.Errorf("saving the random state: %w", err)
	}
	h := halfway{checkpointVersion, im.config, random, im.net, im.norm, im.fitter.opt, im.labels, im.steps}
	if err := gob.NewEncoder(w).Encode(h); err != nil {
		return fmt.Errorf("saving a checkpoint: %w", err)
	}
	return nil
}

// Resume goes on from what Save wrote, under the same configuration.
func (im *Improver) Resume(r io.Reader) error {
	var h halfway
	if err := gob.NewDecoder(r).Decode(&h); err != nil {
		return fmt.Errorf("reading a checkpoint: %w", err)
	}
	switch {
	case h.Version != checkpointVersion:
		return fmt.Errorf("reading a checkpoint: version %d; this program reads version %d", h.Version, checkpointVersion)
	case !reflect.DeepEqual(h.Config, im.config):
		return fmt.Errorf("reading a checkpoint: it was made with %+v; this training has %+v", h.Config, im.config)
	case h.Net == nil || h.Norm == nil || h.Opt == nil || !reflect.DeepEqual(h.Net.Sizes, im.net.Sizes):
		return errors.New("reading a checkpoint: its network does not fit")
	}
	if err := errors.Join(h.Net.Valid(), im.source.UnmarshalBinary(h.Random)); err != nil {
		return fmt.Errorf("reading a checkpoint: %w", err)
	}
	im.net, im.norm, im.labels, im.steps = h.Net, h.Norm, h.Labels, h.Steps
	im.fitter = NewFitter(im.net, im.config.Minibatch, im.config.Power)
	im.fitter.opt = h.Opt
	im.actor = NewActor(im.net, im.norm)
	return nil
}

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
