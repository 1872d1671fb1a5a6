// Package rl learns to decide: small networks, and proximal policy optimisation by the book, in plain Go.
//
// It is deterministic: one goroutine, one seeded source of randomness, sums in a fixed order. Equal seeds give equal
// results bit for bit on one machine, whether a training ran through or was stopped and resumed. Nothing in it is safe for
// concurrent use; several trainings beside each other share nothing and are fine.
package rl

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Net is a network of fully connected layers with tanh between them; the last layer is linear.
type Net struct {
	Sizes  []int     // inputs, hidden layers, outputs
	Params []float64 // layer by layer: the weights, an output's row after the other, then the biases
}

// NewNet draws orthogonal weights: gain √2 for hidden layers and the given gain for the last, as PPO is known to start well with.
func NewNet(rng *rand.Rand, last float64, sizes ...int) *Net {
	n := &Net{Sizes: sizes, Params: make([]float64, paramCount(sizes))}
	for l := range n.Depth() {
		w, _ := n.Layer(l)
		gain := math.Sqrt2
		if l == n.Depth()-1 {
			gain = last
		}
		orthogonal(rng, w, sizes[l+1], sizes[l], gain)
	}
	return n
}

func paramCount(sizes []int) int {
	count := 0
	for l := 1; l < len(sizes); l++ {
		count += (sizes[l-1] + 1) * sizes[l]
	}
	return count
}

// Depth is the number of layers with weights.
func (n *Net) Depth() int { return len(n.Sizes) - 1 }

// Layer is the weights and biases of layer l, inside Params.
func (n *Net) Layer(l int) (w, b []float64) {
	w, b, _ = split(n.Params, n.Sizes, l)
	return w, b
}

// split finds the weights and biases of layer l in a slice laid out as Params.
func split(params []float64, sizes []int, l int) (w, b []float64, at int) {
	at = paramCount(sizes[:l+1])
	in, out := sizes[l], sizes[l+1]
	w = params[at : at+in*out : at+in*out]
	b = params[at+in*out : at+in*out+out : at+in*out+out]
	return w, b, at
}

// Valid reports what is wrong with a network that was read from somewhere.
func (n *Net) Valid() error {
	if len(n.Sizes) < 2 {
		return fmt.Errorf("network of sizes %v: needs inputs and outputs", n.Sizes)
	}
	for _, s := range n.Sizes {
		if s < 1 || s > 4096 {
			return fmt.Errorf("network of sizes %v: each must be 1–4096", n.Sizes)
		}
	}
	if want := paramCount(n.Sizes); len(n.Params) != want {
		return fmt.Errorf("network of sizes %v: has %d parameters instead of %d", n.Sizes, len(n.Params), want)
	}
	return nil
}

// orthogonal fills a rows×cols matrix with rows (or columns, where there are fewer) that are orthogonal and gain long.
func orthogonal(rng *rand.Rand, w []float64, rows, cols int, gain float64) {
	vectors, length := min(rows, cols), max(rows, cols)
	base := make([]float64, vectors*length)
	for i := range vectors {
		v := base[i*length : (i+1)*length]
		for k := range v {
			v[k] = rng.NormFloat64()
		}
		// Gram–Schmidt: take off what points along the vectors before, twice for accuracy.
		for range 2 {
			for j := range i {
				u := base[j*length : (j+1)*length]
				add(v, -dot(u, v), u)
			}
		}
		scale(v, 1/math.Sqrt(dot(v, v)))
	}
	for r := range rows {
		for c := range cols {
			if rows <= cols {
				w[r*cols+c] = gain * base[r*length+c]
			} else {
				w[r*cols+c] = gain * base[c*length+r]
			}
		}
	}
}

func scale(v []float64, by float64) {
	for k := range v {
		v[k] *= by
	}
}

// Pass is the memory of a network's way forward and back for up to a number of rows; it is made once and used again.
type Pass struct {
	net   *Net
	rows  int
	acts  [][]float64 // the input and every layer's output, of the last Forward
	delta [][]float64 // gradients of the layers' outputs
}

// NewPass makes room for up to rows rows.
func NewPass(net *Net, rows int) *Pass {
	p := &Pass{net: net, acts: make([][]float64, len(net.Sizes)), delta: make([][]float64, len(net.Sizes))}
	for l := 1; l < len(net.Sizes); l++ {
		p.acts[l], p.delta[l] = make([]float64, rows*net.Sizes[l]), make([]float64, rows*net.Sizes[l])
	}
	return p
}

// Forward computes the outputs of n rows of inputs. The result is valid until the next call; x must stay as it is until Backward.
func (p *Pass) Forward(x []float64, n int) []float64 {
	p.rows, p.acts[0] = n, x
	sizes := p.net.Sizes
	for l := range p.net.Depth() {
		w, b := p.net.Layer(l)
		y := p.acts[l+1][:n*sizes[l+1]]
		affine(y, p.acts[l], w, b, n, sizes[l], sizes[l+1])
		if l+1 < p.net.Depth() {
			tanh(y)
		}
	}
	return p.acts[len(sizes)-1][:n*sizes[len(sizes)-1]]
}

// Backward adds to grad, laid out as Params, the gradient of a loss whose gradient by the outputs of the last Forward is dOut.
func (p *Pass) Backward(dOut, grad []float64) {
	sizes, n, d := p.net.Sizes, p.rows, dOut
	for l := p.net.Depth() - 1; l >= 0; l-- {
		dw, db, _ := split(grad, sizes, l)
		weightGradient(dw, db, d, p.acts[l], n, sizes[l], sizes[l+1])
		if l == 0 {
			return
		}
		w, _ := p.net.Layer(l)
		back := p.delta[l][:n*sizes[l]]
		inputGradient(back, d, w, n, sizes[l], sizes[l+1])
		for k, y := range p.acts[l][:len(back)] {
			back[k] *= 1 - y*y
		}
		d = back
	}
}

// tanh replaces every x. One exponential is three times as fast as math.Tanh and as exact for this purpose.
func tanh(v []float64) {
	for k, x := range v {
		v[k] = 1 - 2/(math.Exp(2*x)+1)
	}
}
