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
	settings any // *rl.Config, *rl.ImproveConfig or *rl.SearchConfig: how it is learned
	env      func() (rl.Env, error)
	inputs   []string      // their names, where they have any
	rule     *gatewayFlags // of a lesson that learns no network but the rule of policy defer
}

// student is a training, whichever way it learns.
type student interface {
	Update() rl.Progress
	Finished() bool
	Taken() int
	Learned() learned
	Save(w io.Writer) error
}

// learned is what a student has learned.
type learned interface {
	// Write writes it as the service and the lab read it, with the command that made it.
	Write(to io.Writer, made string) error
	// Returns plays episodes from that seed on, without exploring.
	Returns(episodes int, seed uint64) ([]float64, error)
}

// lessons lists them all.
func lessons(g *gatewayFlags) []lesson {
	cartPoles := func() (rl.Env, error) { return &classic.CartPole{}, nil }
	acrobots := func() (rl.Env, error) { return &classic.Acrobot{}, nil }
	offloading, deferring := rl.DefaultImprove(), rl.DefaultSearch()
	return []lesson{
		{"offload", "here or cloud, by taking both ways and counting what each costs in the end", &offloading, g.newGateway, policy.InputNames[:], nil},
		{"offload-ppo", "here or cloud, by proximal policy optimisation", offloadPPO(), g.newGateway, policy.InputNames[:], nil},
		{"defer", "which task a free server takes, by searching for the prices and weights that cost least", &deferring, nil, nil, g},
		{"cartpole", "CartPole-v1: keep a pole upright, at most 500", cartPole(), cartPoles, nil, nil},
		{"acrobot", "Acrobot-v1: swing two links up in few steps", acrobot(), acrobots, nil, nil},
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
	case *rl.SearchConfig:
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
	switch c := l.settings.(type) {
	case *rl.Config:
		return c.Steps
	case *rl.SearchConfig:
		return c.Steps
	}
	return l.settings.(*rl.ImproveConfig).Steps
}

// begin makes a student; with a checkpoint to read it goes on from there.
func (l *lesson) begin(from io.Reader) (student, error) {
	switch c := l.settings.(type) {
	case *rl.Config:
		return l.beginPPO(c, from)
	case *rl.SearchConfig:
		s, err := rl.NewSearch(*c, numbersOf(policy.DefaultRule()), l.rule.newRulePlayer)
		if err != nil || from == nil {
			return ruleSearch{s, l.rule}, err
		}
		return ruleSearch{s, l.rule}, s.Resume(from)
	}
	s, err := rl.NewImprover(*l.settings.(*rl.ImproveConfig), l.env, greedyStart())
	if err != nil || from == nil {
		return ofNetwork{s, l}, err
	}
	return ofNetwork{s, l}, s.Resume(from)
}

func (l *lesson) beginPPO(c *rl.Config, from io.Reader) (student, error) {
	if from == nil {
		t, err := rl.NewTrainer(*c, l.env)
		return ofNetwork{t, l}, err
	}
	t, err := rl.Resume(from, *c, l.env)
	return ofNetwork{t, l}, err
}

// read reads what an earlier training has written.
func (l *lesson) read(from io.Reader) (learned, error) {
	if l.rule != nil {
		return l.rule.readRule(from)
	}
	n, err := policy.ReadNetwork(from)
	if err != nil {
		return nil, err
	}
	env, err := l.env()
	if err != nil {
		return nil, err
	}
	observation, actions := env.Spaces()
	actor, err := rl.Load(n, observation, actions)
	return network{actor, l}, err
}

// ofNetwork is a student of a network.
type ofNetwork struct {
	networker
	lesson *lesson
}

type networker interface {
	Update() rl.Progress
	Finished() bool
	Taken() int
	Actor() *rl.Actor
	Save(w io.Writer) error
}

func (s ofNetwork) Learned() learned { return network{s.Actor(), s.lesson} }

// network is a network to be written or judged.
type network struct {
	actor  *rl.Actor
	lesson *lesson
}

func (n network) Write(to io.Writer, made string) error {
	return n.actor.Network(made, n.lesson.inputs...).Write(to)
}

func (n network) Returns(episodes int, seed uint64) ([]float64, error) {
	env, err := n.lesson.env()
	if err != nil {
		return nil, err
	}
	return rl.Evaluate(n.actor, env, episodes, seed), nil
}
