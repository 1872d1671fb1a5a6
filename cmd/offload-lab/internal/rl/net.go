// Package rl implements reinforcement learning: small networks, standard proximal policy optimisation, improvement by branches, and the cross-entropy
// method, in plain Go.
//
// It is deterministic: one seeded source of randomness, sums in a fixed order. Equal seeds give equal results bit for bit on one machine, also after
// a stop and a resume. Nothing in it is safe for concurrent use; parallel trainings share nothing and are fine.
package rl

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Net is a network of fully connected layers with tanh between them; the last layer is linear.
type Net struct {
	Sizes  []int     // inputs, hidden layers, outputs
	Params []float64 // layer by layer: the weights, row by row of the outputs, then the biases
}

// NewNet draws orthogonal weights: gain √2 for hidden layers and the given gain for the last one, a good start for PPO.
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

// Layer returns the weights and biases of layer l, inside Params.
func (n *Net) Layer(l int) (w, b []float64) {
	w, b, _ = split(n.Params, n.Sizes, l)
	return w, b
}

// split returns the weights and biases of layer l in a slice with the layout of Params.
func split(params []float64, sizes []int, l int) (w, b []float64, at int) {
	at = paramCount(sizes[:l+1])
	in, out := sizes[l], sizes[l+1]
	w = params[at : at+in*out : at+in*out]
	b = params[at+in*out : at+in*out+out : at+in*out+out]
	return w, b, at
}

// Valid reports errors in a network read from a file.
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

// orthogonal fills a rows×cols matrix with orthogonal rows (or columns, if there are fewer) of length gain.
func orthogonal(rng *rand.Rand, w []float64, rows, cols int, gain float64) {
	vectors, length := min(rows, cols), max(rows, cols)
	base := make([]float64, vectors*length)
	for i := range vectors {
		v := base[i*length : (i+1)*length]
		for k := range v {
			v[k] = rng.NormFloat64()
		}
		// Gram–Schmidt: subtract the projections on the previous vectors, twice for accuracy.
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

// Pass is the working memory of a network's forward and backward passes for up to a number of rows; it is reusable.
type Pass struct {
	net   *Net
	rows  int
	acts  [][]float64 // the input and every layer's output of the last Forward
	delta [][]float64 // gradients of the layers' outputs
}

// NewPass allocates memory for up to rows rows.
func NewPass(net *Net, rows int) *Pass {
	p := &Pass{net: net, acts: make([][]float64, len(net.Sizes)), delta: make([][]float64, len(net.Sizes))}
	for l := 1; l < len(net.Sizes); l++ {
		p.acts[l], p.delta[l] = make([]float64, rows*net.Sizes[l]), make([]float64, rows*net.Sizes[l])
	}
	return p
}

// Forward computes the outputs of n rows of inputs. The result is valid until the next call; x must not change until Backward.
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

// Backward adds the gradient of a loss to grad, with the layout of Params; dOut is its gradient by the outputs of the last Forward.
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

// tanh replaces every x by its tanh. One exponential is three times as fast as math.Tanh and sufficiently exact.
func tanh(v []float64) {
	for k, x := range v {
		v[k] = 1 - 2/(math.Exp(2*x)+1)
	}
}

// The three products of a network, on flat row-major slices. They process several rows at a time, because a single running sum is bound by the
// latency of its additions, and a loaded value is used four or eight times.

// affine computes y[i] = w·x[i] + b for n rows: x is n×in, w is out×in, y is n×out.
func affine(y, x, w, b []float64, n, in, out int) {
	i := 0
	for ; i+2 <= n; i += 2 {
		affineTwo(y[i*out:(i+2)*out], x[i*in:(i+2)*in], w, b, in, out)
	}
	if i < n {
		affineOne(y[i*out:(i+1)*out], x[i*in:(i+1)*in], w, b, in, out)
	}
}

func affineTwo(y, x, w, b []float64, in, out int) {
	x0, x1 := x[:in:in], x[in:2*in:2*in]
	y0, y1 := y[:out:out], y[out:2*out:2*out]
	x1 = x1[:len(x0)]
	o := 0
	for ; o+4 <= out; o += 4 {
		w0, w1, w2, w3 := four(w, o, in)
		w0, w1, w2, w3 = w0[:len(x0)], w1[:len(x0)], w2[:len(x0)], w3[:len(x0)]
		var a0, a1, a2, a3, c0, c1, c2, c3 float64
		for k, u := range x0 {
			v := x1[k]
			p, q, r, s := w0[k], w1[k], w2[k], w3[k]
			a0 += u * p
			a1 += u * q
			a2 += u * r
			a3 += u * s
			c0 += v * p
			c1 += v * q
			c2 += v * r
			c3 += v * s
		}
		y0[o], y0[o+1], y0[o+2], y0[o+3] = a0+b[o], a1+b[o+1], a2+b[o+2], a3+b[o+3]
		y1[o], y1[o+1], y1[o+2], y1[o+3] = c0+b[o], c1+b[o+1], c2+b[o+2], c3+b[o+3]
	}
	for ; o < out; o++ {
		y0[o], y1[o] = dot(w[o*in:(o+1)*in], x0)+b[o], dot(w[o*in:(o+1)*in], x1)+b[o]
	}
}

func affineOne(y, x, w, b []float64, in, out int) {
	o := 0
	for ; o+4 <= out; o += 4 {
		w0, w1, w2, w3 := four(w, o, in)
		w0, w1, w2, w3 = w0[:len(x)], w1[:len(x)], w2[:len(x)], w3[:len(x)]
		var a0, a1, a2, a3 float64
		for k, u := range x {
			a0 += u * w0[k]
			a1 += u * w1[k]
			a2 += u * w2[k]
			a3 += u * w3[k]
		}
		y[o], y[o+1], y[o+2], y[o+3] = a0+b[o], a1+b[o+1], a2+b[o+2], a3+b[o+3]
	}
	for ; o < out; o++ {
		y[o] = dot(w[o*in:(o+1)*in], x) + b[o]
	}
}

// four returns the rows o … o+3 of a matrix of width n.
func four(m []float64, o, n int) (a, b, c, d []float64) {
	return m[o*n : (o+1)*n], m[(o+1)*n : (o+2)*n], m[(o+2)*n : (o+3)*n], m[(o+3)*n : (o+4)*n]
}

func dot(a, b []float64) float64 {
	b = b[:len(a)]
	var sum float64
	for k, v := range a {
		sum += v * b[k]
	}
	return sum
}

// weightGradient adds the gradient of n rows to dw and db: dw[o] += Σ dy[i][o]·x[i], db[o] += Σ dy[i][o].
func weightGradient(dw, db, dy, x []float64, n, in, out int) {
	i := 0
	for ; i+4 <= n; i += 4 {
		x0, x1, x2, x3 := four(x, i, in)
		d0, d1, d2, d3 := four(dy, i, out)
		for o := range out {
			addFour(dw[o*in:(o+1)*in], d0[o], d1[o], d2[o], d3[o], x0, x1, x2, x3)
			db[o] += d0[o] + d1[o] + d2[o] + d3[o]
		}
	}
	for ; i < n; i++ {
		for o := range out {
			d := dy[i*out+o]
			add(dw[o*in:(o+1)*in], d, x[i*in:(i+1)*in])
			db[o] += d
		}
	}
}

// inputGradient sets dx[i] = Σ dy[i][o]·w[o] for n rows.
func inputGradient(dx, dy, w []float64, n, in, out int) {
	for i := range n {
		row, d := dx[i*in:(i+1)*in], dy[i*out:(i+1)*out]
		clear(row)
		o := 0
		for ; o+4 <= out; o += 4 {
			w0, w1, w2, w3 := four(w, o, in)
			addFour(row, d[o], d[o+1], d[o+2], d[o+3], w0, w1, w2, w3)
		}
		for ; o < out; o++ {
			add(row, d[o], w[o*in:(o+1)*in])
		}
	}
}

func addFour(to []float64, a0, a1, a2, a3 float64, v0, v1, v2, v3 []float64) {
	v0, v1, v2, v3 = v0[:len(to)], v1[:len(to)], v2[:len(to)], v3[:len(to)]
	for k := range to {
		to[k] += a0*v0[k] + a1*v1[k] + a2*v2[k] + a3*v3[k]
	}
}

func add(to []float64, a float64, v []float64) {
	v = v[:len(to)]
	for k := range to {
		to[k] += a * v[k]
	}
}

// Adam is the optimiser of Kingma and Ba. Its fields are exported only for the checkpoint.
type Adam struct {
	M, V  []float64 // running means of the gradient and its square
	Steps int
}

// The usual constants; Epsilon is the larger value customary for PPO.
const (
	beta1, beta2 = 0.9, 0.999
	epsilon      = 1e-5
)

// NewAdam starts with zero means.
func NewAdam(params int) *Adam {
	return &Adam{M: make([]float64, params), V: make([]float64, params)}
}

// Step moves the parameters against the gradient.
func (a *Adam) Step(params, grad []float64, rate float64) {
	a.Steps++
	t := float64(a.Steps)
	rate *= math.Sqrt(1-math.Pow(beta2, t)) / (1 - math.Pow(beta1, t))
	m, v, grad := a.M[:len(params)], a.V[:len(params)], grad[:len(params)]
	for k, g := range grad {
		m[k] = beta1*m[k] + (1-beta1)*g
		v[k] = beta2*v[k] + (1-beta2)*g*g
		params[k] -= rate * m[k] / (math.Sqrt(v[k]) + epsilon)
	}
}

// clipNorm scales the gradients, taken together as one vector, to at most the given length; 0 means no limit.
func clipNorm(longest float64, grads ...[]float64) {
	if longest <= 0 {
		return
	}
	var sum float64
	for _, g := range grads {
		sum += dot(g, g)
	}
	if length := math.Sqrt(sum); length > longest {
		for _, g := range grads {
			scale(g, longest/length)
		}
	}
}
