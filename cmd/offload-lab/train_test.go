package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/rl"
	"app-offload/functions/policy"
)

// A training that is stopped and resumed writes the same network as an uninterrupted one, and the service can read it.
func TestOffloadLearnsResumesAndIsReadable(t *testing.T) {
	dir := t.TempDir()
	const settings = `{"Labels":300,"Minibatch":100,"Epochs":2,"Hidden":[8],"Horizon":10}`
	train := func(out, checkpoint, steps string) {
		require.NoError(t, trainVerb(t.Context(), []string{
			"-env", "offload", "-steps", steps, "-set", settings, "-episodes", "0", "-out", out, "-checkpoint", checkpoint, "-curve", out + ".curve",
		}))
	}
	one, two := filepath.Join(dir, "one.json"), filepath.Join(dir, "two.json")
	train(one, "", "900")
	train(two, filepath.Join(dir, "ckpt"), "900")
	train(two, filepath.Join(dir, "ckpt"), "900") // there is nothing left to learn
	a, b := readNetwork(t, one), readNetwork(t, two)
	require.Equal(t, a.Layers, b.Layers)
	require.NoError(t, a.Takes(policy.InputNames[:]...))
	curve, err := os.ReadFile(one + ".curve")
	require.NoError(t, err)
	require.GreaterOrEqual(t, bytes.Count(curve, []byte("\n")), 3)

	c := policy.DefaultConfig()
	c.PPOWeights = one
	p, err := policy.New("ppo", c)
	require.NoError(t, err)
	require.Contains(t, p.String(), fmt.Sprintf("%d–8–2", policy.NumInputs))
}

// The same for a rule.
func TestARuleIsLearnedResumedAndReadable(t *testing.T) {
	dir := t.TempDir()
	train := func(out, checkpoint, steps string) {
		require.NoError(t, trainVerb(t.Context(), []string{
			"-env", "defer", "-steps", steps, "-set", `{"Candidates":6,"Elite":2,"Episodes":2}`, "-episodes", "0", "-out", out, "-checkpoint", checkpoint,
		}))
	}
	one, two := filepath.Join(dir, "one.json"), filepath.Join(dir, "two.json")
	train(one, "", "48")
	train(two, filepath.Join(dir, "ckpt"), "48")
	train(two, filepath.Join(dir, "ckpt"), "48") // there is nothing left to learn
	require.NotEqual(t, policy.DefaultRule(), readRule(t, one))
	require.Equal(t, readRule(t, one), readRule(t, two))
	c := policy.DefaultConfig()
	c.DeferRule = two
	p, err := policy.New("defer", c)
	require.NoError(t, err)
	require.Contains(t, p.String(), fmt.Sprintf("busy time, in mean deadlines, costs each arriving task %.4g + ", readRule(t, two).EdgePrice))
	require.NoError(t, trainVerb(t.Context(), []string{"-env", "defer", "-judge", one, "-episodes", "2"}))
}

func readRule(t *testing.T, file string) policy.Rule {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	r, err := policy.ReadRule(f)
	require.NoError(t, err)
	return r
}

func readNetwork(t *testing.T, file string) *policy.Network {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	n, err := policy.ReadNetwork(f)
	require.NoError(t, err)
	return n
}

func TestTrainSaysWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"must be one of offload":    {"-env", "chess"},
		"-set":                      {"-env", "cartpole", "-set", `{"Gama":1}`},
		`Gamma = "2"`:               {"-env", "cartpole", "-set", `{"Gamma":2}`},
		"512 steps of one update":   {"-env", "cartpole", "-steps", "10"},
		"nowhere":                   {"-env", "cartpole", "-judge", "nowhere"},
		"reading recordings":        {"-env", "offload", "-data", "nowhere"},
		"/dev/null/rule":            {"-env", "cartpole", "-steps", "512", "-out", "/dev/null/rule"},
		"open /dev: is a directory": {"-env", "cartpole", "-checkpoint", "/dev"},
	} {
		require.ErrorContains(t, trainVerb(t.Context(), args), want)
	}
}

// The gateway can restore a state any number of times, and the greedy policy works on it.
func TestGatewayComesBack(t *testing.T) {
	env, err := (&gatewayFlags{}).newGateway()
	require.NoError(t, err)
	g := env.(*gateway)
	start, obs := greedyStart(), g.Reset(3)
	for range 100 {
		obs, _, _, _ = g.Step(start.Best(obs))
	}
	back := g.Mark()
	goOn := func(first int) (seen []float64, taken []int) {
		for action := first; len(taken) < 100; action = start.Best(obs) {
			var reward float64
			obs, reward, _, _ = g.Step(action)
			seen, taken = append(append(seen, obs...), reward), append(taken, action)
		}
		return seen, taken
	}
	want, taken := goOn(0)
	require.Contains(t, taken, 0)
	require.Contains(t, taken, 1)
	back()
	other, _ := goOn(1)
	require.NotEqual(t, want, other)
	back()
	again, _ := goOn(0)
	require.Equal(t, want, again)
	returns := rl.Evaluate(start, g, 2, 1)
	require.Less(t, returns[0], 0.0)
}

// An episode can be played to its end: its last task has no successor.
func TestAnEpisodeIsPlayedToItsEnd(t *testing.T) {
	env, err := (&gatewayFlags{}).newGateway()
	require.NoError(t, err)
	g := env.(*gateway)
	g.Reset(3)
	steps := 0
	for truncated := false; !truncated; steps++ {
		require.Equal(t, steps, g.at)
		var terminated bool
		_, _, terminated, truncated = g.Step(0)
		require.False(t, terminated)
	}
	require.Equal(t, len(g.pace), steps)
	require.Equal(t, steps-1, g.at)
}

// A rule's numbers in the search are clamped to its bounds, in both directions.
func TestARuleOfTheSearchKeepsItsBounds(t *testing.T) {
	rule := policy.DefaultRule()
	require.InDeltaSlice(t, numbersOf(rule), numbersOf(ruleOf(numbersOf(rule))), 1e-12)
	for _, far := range []float64{-100, 100} {
		var x []float64
		for range rule.Fields() {
			x = append(x, far)
		}
		edge := ruleOf(x)
		for i, f := range edge.Fields() {
			bound := f.Low
			if far > 0 {
				bound = f.High
			}
			require.Equal(t, bound, *f.At)
			*f.At = 0
			require.Equal(t, math.Log(f.Low), numbersOf(edge)[i], "0 has no logarithm")
			*f.At = bound
		}
	}
}

// An interrupted training says how far it got.
func TestAnInterruptedTraining(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.ErrorContains(t, trainVerb(ctx, []string{"-env", "cartpole", "-steps", "1024", "-episodes", "0"}), "interrupted after 512 of 1024 steps")
}
