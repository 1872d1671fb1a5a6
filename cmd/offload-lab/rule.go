package main

import (
	"fmt"
	"io"
	"math"

	"app-offload/cmd/offload-lab/internal/rl"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// numbersOf is a rule as the search sees it: logarithms, as each number is a price, a weight or a time, above 0.
func numbersOf(r policy.Rule) []float64 {
	var x []float64
	for _, f := range r.Fields() {
		x = append(x, math.Log(max(*f.At, f.Low)))
	}
	return x
}

// ruleOf is the rule of such numbers, each held within its bounds.
func ruleOf(x []float64) (r policy.Rule) {
	for i, f := range r.Fields() {
		*f.At = min(max(math.Exp(x[i]), f.Low), f.High)
	}
	return r
}

// newRulePlayer plays episodes of the flags' world by a rule of policy defer. What it counts is the cost of a task, tail included.
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

// playRule gives the mean cost of a task.
func playRule(env *sim.Env, e *sim.Episode, r policy.Rule) (cost float64) {
	p, err := policy.DeferBy(r, policy.DefaultConfig())
	if err != nil {
		panic(fmt.Sprintf("a rule within the bounds of the search is refused: %v", err))
	}
	sim.Play(env, e, p, func(_ *sim.Situation, _ decision.Decision, info sim.Info) { cost += info.Cost })
	return cost / float64(len(e.Jobs))
}

// ruleSearch is a student of policy defer.
type ruleSearch struct {
	*rl.Search
	gateway *gatewayFlags
}

func (s ruleSearch) Learned() learned { return learnedRule{ruleOf(s.Found()), s.gateway} }

// learnedRule is a rule to be written or judged.
type learnedRule struct {
	rule    policy.Rule
	gateway *gatewayFlags
}

func (l learnedRule) Write(to io.Writer, made string) error {
	return policy.WriteRule(to, l.rule, made)
}

// Returns are minus the mean costs of a task.
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

// readRule reads a rule to be judged.
func (f *gatewayFlags) readRule(from io.Reader) (learned, error) {
	r, err := policy.ReadRule(from)
	return learnedRule{r, f}, err
}
