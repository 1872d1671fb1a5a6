package rl

import (
	"bytes"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// queue is a small server: action 1 takes the current job, which pays its value but reduces the pay of the next three steps; action 0 skips it. A
// greedy policy is wrong; only looking ahead shows that.
type queue struct {
	worth []float64
	at    int
	load  float64
	obs   [2]float64
}

const queueSteps = 40

func (*queue) Spaces() (int, int) { return 2, 2 }

func (q *queue) Reset(seed uint64) []float64 {
	rng := random(seed)
	q.worth, q.at, q.load = q.worth[:0], 0, 0
	for range queueSteps + 1 {
		q.worth = append(q.worth, rng.Float64())
	}
	return q.look()
}

func (q *queue) look() []float64 {
	q.obs[0], q.obs[1] = q.worth[q.at], q.load
	return q.obs[:]
}

func (q *queue) Step(action int) ([]float64, float64, bool, bool) {
	reward := 0.0
	if action == 1 {
		reward = q.worth[q.at] - q.load
		q.load += 0.6
	}
	q.load *= 0.7
	q.at++
	return q.look(), reward, false, q.at == queueSteps
}

// The gain of a branch equals the difference of two complete episodes, whatever the shortcuts.
func TestGainIsTheDifferenceOfTwoEpisodes(t *testing.T) {
	rng := random(1)
	actor := NewActor(NewNet(rng, 1, 2, 4, 2), nil)
	b := Brancher{Env: &queue{}, Horizon: queueSteps, Same: 1e-12}
	var labels Labels
	total := b.Label(actor, 7, 1, rng, &labels)
	require.Len(t, labels.Gain, queueSteps)
	for i, gain := range labels.Gain {
		var q queue
		obs, other, over := q.Reset(7), 0.0, false
		for k := 0; !over; k++ {
			action := actor.Best(obs)
			if k == i {
				action = 1 - action
			}
			var r float64
			obs, r, _, over = q.Step(action)
			other += r
		}
		want := other - total
		if b.actions[i] == 1 {
			want = -want
		}
		require.InDelta(t, want, gain, 1e-9, "step %d", i)
	}
}

func improveConfig() ImproveConfig {
	c := DefaultImprove()
	c.Steps, c.Labels, c.Minibatch, c.Hidden, c.Horizon, c.Epochs = 6000, 1000, 50, []int{8, 8}, 20, 10
	return c
}

func greedyQueue() *Actor {
	net := &Net{Sizes: []int{2, 2}, Params: make([]float64, 6)}
	copy(net.Params[2:], []float64{1, -1}) // takes whatever pays now
	return NewActor(net, nil)
}

func TestImproverBeatsGreedAndRepeats(t *testing.T) {
	first, err := NewImprover(improveConfig(), newQueue, greedyQueue())
	require.NoError(t, err)
	var image bytes.Buffer
	for round := 0; !first.Finished(); round++ {
		if round == 2 {
			require.NoError(t, first.Save(&image))
		}
		first.Update()
	}
	greedy, learned := mean(Evaluate(greedyQueue(), &queue{}, 200, 3)), mean(Evaluate(first.Actor(), &queue{}, 200, 3))
	require.Greater(t, learned, greedy*1.1)

	resumed, err := NewImprover(improveConfig(), newQueue, greedyQueue())
	require.NoError(t, err)
	require.NoError(t, resumed.Resume(bytes.NewReader(image.Bytes())))
	for !resumed.Finished() {
		resumed.Update()
	}
	require.Equal(t, first.net.Params, resumed.net.Params)

	other := improveConfig()
	other.Horizon++
	changed, err := NewImprover(other, newQueue, greedyQueue())
	require.NoError(t, err)
	require.ErrorContains(t, changed.Resume(bytes.NewReader(image.Bytes())), "it was made with")
}

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

// The gradient of the weighted loss equals central differences.
func TestFitGradient(t *testing.T) {
	rng := random(5)
	net, norm := NewNet(rng, 1, 3, 6, 2), NewNorm(3)
	f := NewFitter(net, 10, 1)
	l := &Labels{Obs: normals(rng, 30), Gain: normals(rng, 10)}
	samples := []int{3, 1, 4, 0, 5, 9, 2, 6, 8, 7}
	f.step(l, norm, samples, 1)
	grad := copied(f.grad)
	const h = 1e-6
	for k, p := range net.Params {
		net.Params[k] = p + h
		up := f.step(l, norm, samples, 1)
		net.Params[k] = p - h
		down := f.step(l, norm, samples, 1)
		net.Params[k] = p
		want := (up - down) / (2 * h)
		require.InDelta(t, want, grad[k], 1e-7+1e-5*math.Abs(want), "parameter %d", k)
	}
}

// The loss of an epoch is the mean over its minibatches, and 0 without one.
func TestTheLossOfAnEpoch(t *testing.T) {
	l, norm := &Labels{Obs: normals(random(7), 12), Gain: []float64{1, -1, 2, -2}}, NewNorm(3)
	still := func(float64) float64 { return 0 }
	losses := make([]float64, 6)
	for size := range losses[1:] {
		losses[size+1] = NewFitter(NewNet(random(5), 1, 3, 6, 2), size+1, 1).Epoch(l, norm, random(1), still)
	}
	require.InDeltaSlice(t, []float64{losses[4], losses[4], losses[4]}, []float64{losses[1], losses[2], losses[4]}, 1e-12)
	require.Positive(t, losses[4])
	require.Zero(t, losses[5])
}

func TestOldLabelsGoFirst(t *testing.T) {
	l := Labels{Obs: []float64{1, 1, 2, 2, 3, 3}, Gain: []float64{1, 2, 3}}
	l.keep(2, 2)
	require.Equal(t, Labels{Obs: []float64{2, 2, 3, 3}, Gain: []float64{2, 3}}, l)
}

// The network written for the service decides as the actor does.
func TestExportedNetworkDecidesAlike(t *testing.T) {
	rng := random(6)
	norm := NewNorm(3)
	norm.Add(normals(rng, 300))
	actor := NewActor(NewNet(rng, 1, 3, 5, 2), norm)
	file := actor.Network("a test", "a", "b", "c")
	require.NoError(t, file.Prepare())
	back, err := Load(file, 3, 2)
	require.NoError(t, err)
	for range 50 {
		x, out := normals(rng, 3), make([]float64, 2)
		want := copied(actor.Logits(x))
		file.Forward(x, out)
		require.InDeltaSlice(t, want, out, 1e-12)
		require.InDeltaSlice(t, want, back.Logits(x), 1e-12)
	}
	_, err = Load(file, 4, 2)
	require.ErrorContains(t, err, "3 inputs")
	_, err = Load(file, 3, 1)
	require.ErrorContains(t, err, "2 outputs")
}

func newQueue() (Env, error) { return &queue{}, nil }

// The number of processors does not change the labels.
func TestProcessorsChangeNothing(t *testing.T) {
	var want []float64
	for _, processors := range []int{1, 2, 5} {
		im, err := NewImprover(improveConfig(), newQueue, greedyQueue())
		require.NoError(t, err)
		for len(im.teachers) > processors {
			im.teachers = im.teachers[1:]
		}
		for len(im.teachers) < processors {
			im.teachers = append(im.teachers, Brancher{Env: &queue{}, Horizon: im.config.Horizon, Same: im.teachers[0].Same})
		}
		im.Update()
		if want == nil {
			want = im.net.Params
		}
		require.Equal(t, want, im.net.Params)
	}
}
