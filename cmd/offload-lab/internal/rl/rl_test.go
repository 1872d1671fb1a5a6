package rl

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
)

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func normals(rng *rand.Rand, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	return v
}

// The blocked products equal the plain definition, at sizes on both sides of every block.
func TestProducts(t *testing.T) {
	rng := random(1)
	for _, c := range [][3]int{{1, 1, 1}, {2, 3, 4}, {3, 5, 9}, {4, 4, 8}, {7, 6, 5}, {9, 17, 6}} {
		n, in, out := c[0], c[1], c[2]
		x, w, b, dy := normals(rng, n*in), normals(rng, in*out), normals(rng, out), normals(rng, n*out)
		y, dx, dw, db := make([]float64, n*out), make([]float64, n*in), make([]float64, in*out), make([]float64, out)
		affine(y, x, w, b, n, in, out)
		inputGradient(dx, dy, w, n, in, out)
		weightGradient(dw, db, dy, x, n, in, out)
		wantDx, wantDw, wantDb := make([]float64, n*in), make([]float64, in*out), make([]float64, out)
		for i := range n {
			for o := range out {
				want := b[o]
				wantDb[o] += dy[i*out+o]
				for k := range in {
					want += w[o*in+k] * x[i*in+k]
					wantDx[i*in+k] += dy[i*out+o] * w[o*in+k]
					wantDw[o*in+k] += dy[i*out+o] * x[i*in+k]
				}
				require.InDelta(t, want, y[i*out+o], 1e-12, "%v", c)
			}
		}
		require.InDeltaSlice(t, wantDx, dx, 1e-12, "%v", c)
		require.InDeltaSlice(t, wantDw, dw, 1e-12, "%v", c)
		require.InDeltaSlice(t, wantDb, db, 1e-12, "%v", c)
	}
}

func TestOrthogonalStart(t *testing.T) {
	for _, sizes := range [][]int{{6, 4}, {4, 6}} {
		n := NewNet(random(2), 2, sizes...)
		w, _ := n.Layer(0)
		in := sizes[0]
		if sizes[1] <= in {
			require.InDelta(t, 0, dot(w[:in], w[in:2*in]), 1e-12)
			require.InDelta(t, 4, dot(w[:in], w[:in]), 1e-12)
		} else {
			var cross float64
			for r := range sizes[1] {
				cross += w[r*in] * w[r*in+1]
			}
			require.InDelta(t, 0, cross, 1e-12)
		}
	}
}

// The gradient of the total loss by every parameter equals central differences, with ratios on both sides of the clip range so that every branch of
// the objective is covered.
func TestGradients(t *testing.T) {
	rng := random(3)
	c := DefaultConfig()
	c.Envs, c.Horizon, c.Minibatch, c.Hidden, c.Entropy = 4, 6, 24, []int{7, 5}, 0.03
	actor, critic := NewNet(rng, 1, 5, 7, 5, 3), NewNet(rng, 1, 5, 7, 5, 1)
	l := newLearner(&c, actor, critic)
	l.rows = 24
	copy(l.obs, normals(rng, len(l.obs)))
	copy(l.advantage, normals(rng, 24))
	copy(l.returns, normals(rng, 24))
	logits := l.actor.Forward(l.obs, 24)
	for i := range 24 {
		l.actions[i] = rng.IntN(3)
		row := logits[i*3 : i*3+3]
		l.logProbs[i] = row[l.actions[i]] - logSumExp(row) + 0.4*rng.NormFloat64()
	}
	const clip, h = 0.2, 1e-6
	l.gradient(clip)
	require.Positive(t, l.losses.Clipped)
	require.Less(t, l.losses.Clipped, 1.0)
	for _, part := range []struct {
		name         string
		params, grad []float64
	}{{"actor", actor.Params, copied(l.actorGrad)}, {"critic", critic.Params, copied(l.criticGrad)}} {
		for k, p := range part.params {
			part.params[k] = p + h
			up := l.gradient(clip)
			part.params[k] = p - h
			down := l.gradient(clip)
			part.params[k] = p
			want := (up - down) / (2 * h)
			require.InDelta(t, want, part.grad[k], 1e-7+1e-5*math.Abs(want), "%s parameter %d", part.name, k)
		}
	}
}

func copied(v []float64) []float64 { return append([]float64(nil), v...) }

func TestTanh(t *testing.T) {
	for _, x := range []float64{-1e300, -40, -3, -1e-3, 0, 1e-9, 0.5, 2, 19, 800, math.Inf(1)} {
		v := []float64{x}
		tanh(v)
		require.InDelta(t, math.Tanh(x), v[0], 1e-15)
	}
}

func TestNormIsTheMeanAndVarianceOfEverything(t *testing.T) {
	rng := random(4)
	all := normals(rng, 2*1000)
	for i := range all {
		all[i] = 5 + 3*all[i]
	}
	n := NewNorm(2)
	for at := 0; at < len(all); at += 40 {
		n.Add(all[at : at+40])
	}
	for k := range 2 {
		var mean, squares float64
		for i := k; i < len(all); i += 2 {
			mean += all[i] / 1000
		}
		for i := k; i < len(all); i += 2 {
			squares += (all[i] - mean) * (all[i] - mean) / 1000
		}
		require.InDelta(t, mean, n.Mean[k], 1e-4)
		require.InDelta(t, squares, n.Var[k], 1e-4*squares)
	}
	x := make([]float64, 2)
	n.Apply(x, []float64{1e9, n.Mean[1]})
	require.Equal(t, []float64{clipAt, 0}, x)
}

// One lane, computed by hand: γ 0.5, λ 0.5, an episode that ends in the middle.
func TestAdvantages(t *testing.T) {
	b := newBatch(3, 1)
	copy(b.rewards, []float64{1, 2, 3})
	copy(b.values, []float64{10, 20, 30})
	b.ended[1] = true
	b.estimate([]float64{40}, 0.5, 0.5)
	// The last: 3 + 0.5·40 − 30. The middle ends: 2 − 20. The first: 1 + 0.5·20 − 10 + 0.25·(−18).
	require.Equal(t, []float64{-3.5, -18, -7}, b.advantage)
	require.Equal(t, []float64{6.5, 2, 23}, b.returns)
}

// corridor pays 1 for every step to the right one of two positions, and shows which one it is.
type corridor struct {
	rng  *rand.Rand
	obs  [2]float64
	left int
	ends bool // instead of being cut off
}

func (*corridor) Spaces() (int, int) { return 2, 2 }

func (c *corridor) Reset(seed uint64) []float64 {
	c.rng, c.left = random(seed), 20
	return c.look()
}

func (c *corridor) look() []float64 {
	c.obs[0], c.obs[1] = c.rng.NormFloat64(), c.rng.Float64()
	return c.obs[:]
}

func (c *corridor) Step(action int) ([]float64, float64, bool, bool) {
	reward := 0.0
	if (c.obs[0] > 0) == (action == 1) {
		reward = 1
	}
	c.left--
	return c.look(), reward, c.ends && c.left == 0, !c.ends && c.left == 0
}

func corridorConfig() Config {
	c := DefaultConfig()
	c.Steps, c.Envs, c.Horizon, c.Minibatch, c.Hidden, c.Rate, c.Seed, c.Select = 6000, 5, 50, 64, []int{8}, 3e-3, 11, 5
	return c
}

func newCorridor() (Env, error) { return &corridor{}, nil }

func TestLearnsAndRepeats(t *testing.T) {
	first, err := NewTrainer(corridorConfig(), newCorridor)
	require.NoError(t, err)
	second, err := NewTrainer(corridorConfig(), newCorridor)
	require.NoError(t, err)
	for !first.Finished() {
		require.Equal(t, first.Update(), second.Update())
	}
	require.Equal(t, first.actor.Params, second.actor.Params)
	var mean float64
	for _, r := range Evaluate(first.Actor(), &corridor{}, 20, 5) {
		mean += r / 20
	}
	require.Greater(t, mean, 19.0, "of 20")
	require.Len(t, Evaluate(first.Actor(), &corridor{}, 3, 5), 3)

	other := corridorConfig()
	other.Seed++
	third, err := NewTrainer(other, newCorridor)
	require.NoError(t, err)
	third.Update()
	require.NotEqual(t, first.actor.Params, third.actor.Params)
}

// A training that was stopped, saved and resumed ends with the same bits as an uninterrupted one.
func TestResumeChangesNothing(t *testing.T) {
	through, err := NewTrainer(corridorConfig(), newCorridor)
	require.NoError(t, err)
	var saved bytes.Buffer
	for i := 0; !through.Finished(); i++ {
		if i == 7 {
			require.NoError(t, through.Save(&saved))
		}
		through.Update()
	}
	image := saved.Bytes()
	resumed, err := Resume(bytes.NewReader(image), corridorConfig(), newCorridor)
	require.NoError(t, err)
	for !resumed.Finished() {
		resumed.Update()
	}
	require.Equal(t, through.actor.Params, resumed.actor.Params)
	require.Equal(t, through.critic.Params, resumed.critic.Params)
	require.Equal(t, through.best, resumed.best)

	changed := corridorConfig()
	changed.Gamma = 0.5
	_, err = Resume(bytes.NewReader(image), changed, newCorridor)
	require.ErrorContains(t, err, "it was made with")
	_, err = Resume(bytes.NewReader(image[:len(image)/2]), corridorConfig(), newCorridor)
	require.Error(t, err)
	for want, change := range map[string]func(*checkpoint){
		"version 2; this program reads version 1": func(c *checkpoint) { c.Version++ },
		"it is incomplete":                        func(c *checkpoint) { c.Lanes = c.Lanes[1:] },
		"its network is [2 9 2]":                  func(c *checkpoint) { c.Actor.Sizes[1]++ },
	} {
		var c checkpoint
		require.NoError(t, gob.NewDecoder(bytes.NewReader(image)).Decode(&c))
		change(&c)
		require.ErrorContains(t, c.fits(through), want)
	}
}

// A network of a file has as many parameters as its sizes need.
func TestANetworkOfAFileIsChecked(t *testing.T) {
	for _, sizes := range [][]int{{2}, {0, 2}, {2, 4097}, {2, 2}} {
		require.ErrorContains(t, (&Net{Sizes: sizes, Params: make([]float64, 7)}).Valid(), fmt.Sprint(sizes))
	}
	require.NoError(t, (&Net{Sizes: []int{4096, 1}, Params: make([]float64, 4097)}).Valid())
}

// An update reports the means over its own minibatches.
func TestTheLossesOfAnUpdate(t *testing.T) {
	require.Equal(t, Losses{Policy: 1, Value: 2, Entropy: 3, KL: 4, Clipped: 5}, Losses{2, 4, 6, 8, 10, 2}.mean())
	require.Zero(t, Losses{}.mean())
	c := corridorConfig()
	trainer, err := NewTrainer(c, newCorridor)
	require.NoError(t, err)
	for range 2 {
		trainer.Update()
		require.EqualValues(t, c.Epochs*(c.Envs*c.Horizon/c.Minibatch), trainer.learn.losses.gradients)
	}
}

// The training of a seed never changes: each round's figures, and the sizes of the result.
func TestATrainingGoesAsItAlwaysWent(t *testing.T) {
	var b strings.Builder
	figures := func(p Progress, nets ...*Net) {
		fmt.Fprintf(&b, "%d steps, %d episodes, return %.5g, losses %.5g %.5g %.5g %.5g %.5g", p.Steps, p.Episodes, p.Return, p.Policy, p.Value, p.Entropy, p.KL, p.Clipped)
		for _, net := range nets {
			sum, square := 0.0, 0.0
			for _, v := range net.Params {
				sum, square = sum+v, square+v*v
			}
			fmt.Fprintf(&b, ", %.5g %.5g", sum, math.Sqrt(square))
		}
		b.WriteByte('\n')
	}
	for k, change := range []func(*Config){
		func(c *Config) { c.Anneal = false }, func(*Config) {}, // cut off; the others end
		func(c *Config) { c.NormObs, c.NormReturn, c.Select = false, false, 0 }, func(c *Config) { c.Entropy, c.MaxGradient = 0.1, 0 },
	} {
		c := corridorConfig()
		c.Clip, c.Select, c.Steps = 0.05, 3, 1000
		change(&c)
		trainer, err := NewTrainer(c, func() (Env, error) { return &corridor{ends: k > 1}, nil })
		require.NoError(t, err)
		for range 4 {
			figures(trainer.Update(), trainer.actor, trainer.critic)
		}
		var best chosen
		if trainer.best != nil {
			best = *trainer.best
		}
		figures(Progress{Return: best.Return}, trainer.Actor().Net)
		require.Equal(t, c.NormObs, trainer.Actor().Norm != nil)
	}
	improver, err := NewImprover(improveConfig(), newQueue, greedyQueue())
	require.NoError(t, err)
	for range 3 {
		figures(improver.Update(), improver.net)
	}
	golden.Require(t, "training.golden", b.String())
}

func TestConfigReportsAllProblems(t *testing.T) {
	err := Config{Rate: 2, Hidden: []int{0}}.Validate()
	for _, part := range []string{`Steps = "0"`, `Envs = "0"`, `Rate = "2"`, `Clip = "0"`, `Hidden = "0"`} {
		require.ErrorContains(t, err, part)
	}
	require.NoError(t, DefaultConfig().Validate())
	few := DefaultConfig()
	few.Steps = 4095
	require.EqualError(t, few.Validate(), `Steps = "4095": must be at least Envs times Horizon, the 4096 steps of one update`)
	improve := DefaultImprove()
	require.NoError(t, improve.Validate())
	improve.Hidden = []int{4096, 4097}
	require.EqualError(t, improve.Validate(), `Hidden = "4097": must be between 1 and 4096`)
}

func BenchmarkUpdate(b *testing.B) {
	c := DefaultConfig()
	t, err := NewTrainer(c, newCorridor)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		t.Update()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.Envs*c.Horizon), "ns/step")
}
