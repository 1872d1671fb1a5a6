package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"app-offload/cmd/offload-lab/internal/classic"
	"app-offload/cmd/offload-lab/internal/rl"
	"app-offload/functions/policy"
)

// lesson is something that can be learned, with the settings by which it is learned well.
type lesson struct {
	name     string
	about    string
	settings any // *rl.Config or *rl.ImproveConfig: how it is learned
	env      func() (rl.Env, error)
	inputs   []string // their names, where they have any
}

// student is a training, whichever way it learns.
type student interface {
	Update() rl.Progress
	Finished() bool
	Taken() int
	Actor() *rl.Actor
	Save(w io.Writer) error
}

// lessons lists them all.
func lessons(g *gatewayFlags) []lesson {
	cartPoles := func() (rl.Env, error) { return &classic.CartPole{}, nil }
	acrobots := func() (rl.Env, error) { return &classic.Acrobot{}, nil }
	offloading := rl.DefaultImprove()
	return []lesson{
		{"offload", "here or cloud, by taking both ways and counting what each costs in the end", &offloading, g.newGateway, policy.InputNames[:]},
		{"offload-ppo", "here or cloud, by proximal policy optimisation", offloadPPO(), g.newGateway, policy.InputNames[:]},
		{"cartpole", "CartPole-v1: keep a pole upright, at most 500", cartPole(), cartPoles, nil},
		{"acrobot", "Acrobot-v1: swing two links up in few steps", acrobot(), acrobots, nil},
	}
}

// cartPole learns long from few steps at a time, as steps are what is scarce.
func cartPole() *rl.Config {
	c := rl.DefaultConfig()
	c.Steps, c.Envs, c.Horizon, c.Epochs, c.Minibatch = 100_000, 8, 64, 20, 256
	c.Hidden, c.Rate, c.Gamma, c.Lambda, c.NormObs = []int{32, 32}, 1e-3, 0.98, 0.8, false
	return &c
}

// acrobot learns in many small steps, first large and then small ones. Larger minibatches, more epochs or a lower rate settle
// for swings that take about four steps longer.
func acrobot() *rl.Config {
	c := rl.DefaultConfig()
	c.Steps, c.Envs, c.Horizon, c.Epochs, c.Minibatch = 1_000_000, 16, 256, 4, 64
	c.Hidden, c.Rate, c.Gamma, c.Lambda, c.Select = []int{64, 64}, 1e-3, 0.99, 0.94, 200
	return &c
}

func offloadPPO() *rl.Config {
	c := rl.DefaultConfig()
	c.Steps, c.Horizon, c.Hidden, c.Gamma, c.Minibatch = 2_000_000, 300, []int{32, 32}, 0.97, 400
	return &c
}

func lessonNamed(name string, g *gatewayFlags) (lesson, error) {
	var names []string
	for _, l := range lessons(g) {
		if l.name == name {
			return l, nil
		}
		names = append(names, l.name)
	}
	return lesson{}, fmt.Errorf("-env %q: there is no such lesson; use one of %s", name, strings.Join(names, ", "))
}

// set changes the named settings, and seed and steps where they are not 0.
func (l *lesson) set(settings string, seed uint64, steps int) error {
	if settings != "" {
		d := json.NewDecoder(strings.NewReader(settings))
		d.DisallowUnknownFields()
		if err := d.Decode(l.settings); err != nil {
			return fmt.Errorf("-set %s: %w", settings, err)
		}
	}
	switch c := l.settings.(type) {
	case *rl.Config:
		c.Seed = seed
		if steps > 0 {
			c.Steps = steps
		}
	case *rl.ImproveConfig:
		c.Seed = seed
		if steps > 0 {
			c.Steps = steps
		}
	}
	return nil
}

// steps is how many there are to take.
func (l *lesson) steps() int {
	if c, ok := l.settings.(*rl.Config); ok {
		return c.Steps
	}
	return l.settings.(*rl.ImproveConfig).Steps
}

// begin makes a student; with a checkpoint to read it goes on from there.
func (l *lesson) begin(from io.Reader) (student, error) {
	if c, ok := l.settings.(*rl.Config); ok {
		if from != nil {
			return rl.Resume(from, *c, l.env)
		}
		return rl.NewTrainer(*c, l.env)
	}
	s, err := rl.NewImprover(*l.settings.(*rl.ImproveConfig), l.env, greedyStart())
	if err != nil || from == nil {
		return s, err
	}
	return s, s.Resume(from)
}
