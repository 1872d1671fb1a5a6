package rl

import (
	"math"
	"math/rand/v2"
)

// Fitter trains a network with two outputs on the better action of labels. A mistake is weighted by its cost: the loss is the logistic loss, weighted
// by the size of the gain, whose minimum prefers action 1 exactly where its mean gain is positive. A power below 1 reduces the variance at the price
// of bias, as the largest gains are mostly chance.
type Fitter struct {
	net       *Net
	pass      *Pass
	opt       *Adam
	grad      []float64
	x         []float64
	d         []float64
	order     []int
	minibatch int
	power     float64 // of the gain's size
}

// NewFitter prepares the training of the network.
func NewFitter(net *Net, minibatch int, power float64) *Fitter {
	return &Fitter{
		net: net, pass: NewPass(net, minibatch), opt: NewAdam(len(net.Params)), grad: make([]float64, len(net.Params)),
		x: make([]float64, minibatch*net.Sizes[0]), d: make([]float64, minibatch*2), minibatch: minibatch, power: power,
	}
}

// Epoch passes once over the labels in a new order and returns the mean loss.
func (f *Fitter) Epoch(l *Labels, norm *Norm, rng *rand.Rand, rate func(done float64) float64) float64 {
	f.order = f.order[:0]
	scale := 0.0
	for i, g := range l.Gain {
		f.order = append(f.order, i)
		scale += math.Abs(g) / float64(len(l.Gain))
	}
	rng.Shuffle(len(f.order), func(i, j int) { f.order[i], f.order[j] = f.order[j], f.order[i] })
	loss, batches := 0.0, 0
	for at := 0; at+f.minibatch <= len(f.order); at += f.minibatch {
		loss += f.step(l, norm, f.order[at:at+f.minibatch], scale+1e-9)
		clipNorm(1, f.grad)
		f.opt.Step(f.net.Params, f.grad, rate(float64(at)/float64(len(f.order))))
		batches++
	}
	return loss / float64(max(batches, 1))
}

// step computes the gradient of the loss over some of the labels.
func (f *Fitter) step(l *Labels, norm *Norm, samples []int, scale float64) float64 {
	size := f.net.Sizes[0]
	for k, i := range samples {
		copy(f.x[k*size:(k+1)*size], l.Obs[i*size:(i+1)*size])
	}
	norm.Apply(f.x, f.x)
	logits, loss, n := f.pass.Forward(f.x, len(samples)), 0.0, float64(len(samples))
	for k, i := range samples {
		weight, target := math.Pow(math.Abs(l.Gain[i])/scale, f.power), 0.0
		if l.Gain[i] > 0 {
			target = 1
		}
		z := logits[2*k+1] - logits[2*k]
		p := 1 / (1 + math.Exp(-z))
		// −log of the probability of the better action, without overflow.
		loss += weight * (max(z, 0) - z*target + math.Log1p(math.Exp(-math.Abs(z)))) / n
		f.d[2*k+1] = weight * (p - target) / n
		f.d[2*k] = -f.d[2*k+1]
	}
	clear(f.grad)
	f.pass.Backward(f.d, f.grad)
	return loss
}
