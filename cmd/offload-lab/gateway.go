package main

import (
	"fmt"
	"io"
	"math"
	"time"

	"app-offload/cmd/offload-lab/internal/rl"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/task"
)

// gatewayFlags are the flags for the gateway of a training.
type gatewayFlags struct {
	data string
	part string
	tail sim.Tail

	world *sim.World
}

const (
	variants = 2   // of each recording: the original, and one at another level and speed
	lessTask = 300 // per episode: half of the length for judging, so that branches begin soon
	patience = 10  // s, for tasks without a deadline, of which training has none
)

// gateway adapts the simulator to a learner, with the same inputs that the service computes.
type gateway struct {
	env    *sim.Env
	world  *sim.World
	inputs [policy.NumInputs]float64
	at     int               // the current task
	pace   []policy.Arrivals // by task: no decision changes the arrivals
}

// newGateway creates an environment of the flags' world. The world is prepared once and shared by parallel learners.
func (f *gatewayFlags) newGateway() (rl.Env, error) {
	w, err := f.prepared()
	if err != nil {
		return nil, err
	}
	learn := *w
	learn.Config.View.Uncorrected = true // branches go back in time, but corrections by outcomes do not
	env, err := sim.NewEnv(&learn)
	if err != nil {
		return nil, err
	}
	return &gateway{env: env, world: &learn}, nil
}

// prepared returns the world, creating it on first use.
func (f *gatewayFlags) prepared() (*sim.World, error) {
	if f.world != nil {
		return f.world, nil
	}
	w, err := f.prepare()
	f.world = w
	return w, err
}

// prepare joins the recordings of the folder, if any, with synthetic ones, and varies them all.
func (f *gatewayFlags) prepare() (*sim.World, error) {
	set, err := recordings("", "")
	if err != nil {
		return nil, err
	}
	if f.data != "" {
		recorded, err := recordings(f.data, f.part)
		if err != nil {
			return nil, err
		}
		recorded.Add(set)
		set = recorded
	}
	c := sim.DefaultConfig()
	c.Tasks, c.Cost.Tail = lessTask, f.tail
	return sim.NewWorld(c, trace.Vary(set, 1, variants))
}

// greedyStart is the initial policy of training: it decides by predicted cost only.
func greedyStart() *rl.Actor {
	net := &rl.Net{Sizes: []int{policy.NumInputs, sim.NumActions}, Params: make([]float64, (policy.NumInputs+1)*sim.NumActions)}
	w, _ := net.Layer(0)
	w[sim.Cloud*policy.NumInputs+policy.SavingInput] = 1
	return rl.NewActor(net, nil)
}

// Spaces returns the number of inputs of a learned policy, and the two actions local and cloud.
func (*gateway) Spaces() (observation, actions int) { return policy.NumInputs, sim.NumActions }

// Reset begins the episode of the seed.
func (g *gateway) Reset(seed uint64) []float64 {
	episode := g.world.Draw(seed)
	g.pace = paceOf(g.pace[:0], episode)
	g.env.Begin(episode)
	g.at = 0
	return g.look()
}

// paceOf returns the arrival statistics of that episode as the service's policy computes them.
func paceOf(pace []policy.Arrivals, e *sim.Episode) []policy.Arrivals {
	var p policy.Pace
	var s host.State
	for i := range e.Jobs {
		j := &e.Jobs[i]
		t := task.Task{Received: int64(time.Hour) + int64(j.At*1e9), Deadline: time.Duration(j.Deadline * 1e9)}
		pace = append(pace, p.Note(&t, &s, patience))
	}
	return pace
}

// Mark saves the current state of the episode; back restores it.
func (g *gateway) Mark() (back func()) {
	at, there := g.at, g.env.Mark()
	return func() {
		there()
		g.at = at
	}
}

// Step returns the negative cost of the task, tail included, as reward.
func (g *gateway) Step(action int) (obs []float64, reward float64, terminated, truncated bool) {
	_, reward, terminated, truncated, _ = g.env.Step(action)
	if !truncated {
		g.at++
	}
	return g.look(), reward, terminated, truncated
}

func (g *gateway) look() []float64 {
	s := g.env.Situation()
	policy.Inputs(&s.Task, &s.Estimate, &s.State, g.pace[g.at], &g.inputs)
	return g.inputs[:]
}

// numbersOf returns the rule in the coordinates of the search: logarithms, as each number is a positive price, weight or time.
func numbersOf(r policy.Rule) []float64 {
	var x []float64
	for _, f := range r.Fields() {
		x = append(x, math.Log(max(*f.At, f.Low)))
	}
	return x
}

// ruleOf converts coordinates back to a rule, each number clamped to its bounds.
func ruleOf(x []float64) (r policy.Rule) {
	for i, f := range r.Fields() {
		*f.At = min(max(math.Exp(x[i]), f.Low), f.High)
	}
	return r
}

// newRulePlayer plays episodes of the flags' world with a rule of policy defer. Its result is the cost per task, tail included.
func (f *gatewayFlags) newRulePlayer() (rl.Player, error) {
	w, err := f.prepared()
	if err != nil {
		return nil, err
	}
	env, err := sim.NewEnv(w)
	if err != nil {
		return nil, err
	}
	return func(x []float64, seed uint64) float64 { return playRule(env, w.Draw(seed), ruleOf(x)) }, nil
}

// playRule returns the mean cost per task.
func playRule(env *sim.Env, e *sim.Episode, r policy.Rule) (cost float64) {
	p, err := policy.DeferBy(r, policy.DefaultConfig())
	if err != nil {
		panic(fmt.Sprintf("a rule within the bounds of the search was rejected: %v", err))
	}
	sim.Play(env, e, p, func(_ *sim.Situation, _ decision.Decision, info sim.Info) { cost += info.Cost })
	return cost / float64(len(e.Jobs))
}

// ruleSearch is the training of policy defer's rule.
type ruleSearch struct {
	*rl.Search
	gateway *gatewayFlags
}

func (s ruleSearch) Learned() learned { return learnedRule{ruleOf(s.Found()), s.gateway} }

// learnedRule is a rule to write or to judge.
type learnedRule struct {
	rule    policy.Rule
	gateway *gatewayFlags
}

func (l learnedRule) Write(to io.Writer, made string) error {
	return policy.WriteRule(to, l.rule, made)
}

// Returns returns the negative mean costs per task.
func (l learnedRule) Returns(episodes int, seed uint64) ([]float64, error) {
	play, err := l.gateway.newRulePlayer()
	if err != nil {
		return nil, err
	}
	returns := make([]float64, episodes)
	for i := range returns {
		returns[i] = -play(numbersOf(l.rule), seed+uint64(i)) // counts up from 0
	}
	return returns, nil
}

// readRule reads a rule to judge.
func (f *gatewayFlags) readRule(from io.Reader) (learned, error) {
	r, err := policy.ReadRule(from)
	return learnedRule{r, f}, err
}
