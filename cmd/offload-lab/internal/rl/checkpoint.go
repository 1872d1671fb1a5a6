package rl

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// checkpoint is a training between two updates. Environments are restored from their seed and actions.
type checkpoint struct {
	Version          int
	Config           Config
	Steps            int
	Random           []byte
	Actor, Critic    *Net
	ActorOpt         *Adam
	CriticOpt        *Adam
	Norm, ReturnNorm *Norm
	Best             *chosen
	Lanes            []place
}

// place is the state of one environment.
type place struct {
	Seed, Episodes uint64
	Actions        []byte
	Total, Carried float64
}

const checkpointVersion = 1

// Save writes the complete state of a training.
func (t *Trainer) Save(w io.Writer) error {
	random, _ := t.source.MarshalBinary() // never fails
	c := checkpoint{
		Version: checkpointVersion, Config: t.config, Steps: t.Steps, Random: random, Actor: t.actor, Critic: t.critic,
		ActorOpt: t.actorOpt, CriticOpt: t.criticOpt, Norm: t.norm, ReturnNorm: t.returnNorm, Best: t.best,
	}
	for _, l := range t.lanes {
		c.Lanes = append(c.Lanes, place{l.seed, l.episodes, l.actions, l.total, l.carried})
	}
	return save(w, c)
}

// save writes a checkpoint of any method.
func save(w io.Writer, state any) error {
	if err := gob.NewEncoder(w).Encode(state); err != nil {
		return fmt.Errorf("saving a checkpoint: %w", err)
	}
	return nil
}

// load reads a checkpoint. fits reports why it does not fit this training.
func load(r io.Reader, state any, fits func() error) error {
	err := gob.NewDecoder(r).Decode(state)
	if err == nil {
		err = fits()
	}
	if err != nil {
		return fmt.Errorf("reading a checkpoint: %w", err)
	}
	return nil
}

// Resume continues a saved training under the same configuration; only Steps may differ.
func Resume(r io.Reader, c Config, newEnv func() (Env, error)) (*Trainer, error) {
	t, err := NewTrainer(c, newEnv)
	if err != nil {
		return nil, err
	}
	var saved checkpoint
	if err := load(r, &saved, func() error { return saved.fits(t) }); err != nil {
		return nil, err
	}
	t.Steps, t.actorOpt, t.criticOpt, t.norm, t.returnNorm = saved.Steps, saved.ActorOpt, saved.CriticOpt, saved.Norm, saved.ReturnNorm
	t.actor, t.critic, t.best = saved.Actor, saved.Critic, saved.Best
	t.prepare()
	for k, l := range t.lanes {
		p := saved.Lanes[k]
		l.seed, l.episodes, l.actions = p.Seed, p.Episodes, append(l.actions[:0], p.Actions...)
		l.total, l.carried = p.Total, p.Carried
		l.replay()
	}
	return t, nil
}

// fits checks a checkpoint, and restores the random state.
func (c *checkpoint) fits(t *Trainer) error {
	was := c.Config
	was.Steps = t.config.Steps
	switch {
	case c.Version != checkpointVersion:
		return fmt.Errorf("version %d; this program reads version %d", c.Version, checkpointVersion)
	case !reflect.DeepEqual(was, t.config):
		return fmt.Errorf("it was made with %+v; this training has %+v", c.Config, t.config)
	case c.Actor == nil || c.Critic == nil || len(c.Lanes) != len(t.lanes):
		return errors.New("it is incomplete")
	case !reflect.DeepEqual(c.Actor.Sizes, t.actor.Sizes):
		return fmt.Errorf("its network is %v; this environment needs %v", c.Actor.Sizes, t.actor.Sizes)
	}
	return errors.Join(c.Actor.Valid(), c.Critic.Valid(), t.source.UnmarshalBinary(c.Random))
}
