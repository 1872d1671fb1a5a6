package onnx

import (
	"math"
	"strings"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

// curveOf holds the activations of recurrent layers, with the defaults of alpha and beta.
var curveOf = map[string]struct {
	f           curve
	alpha, beta float32
}{
	"sigmoid": {sigmoid, 0, 0}, "tanh": {tanh, 0, 0}, "relu": {relu, 0, 0}, "leakyrelu": {leaky, 0.01, 0}, "elu": {elu, 1, 0},
	"hardsigmoid": {hardSigmoid, 0.2, 0.5}, "softplus": {softplus, 0, 0}, "softsign": {softsign, 0, 0}, "affine": {affine, 1, 0},
	"scaledtanh": {scaledTanh, 1, 1}, "thresholdedrelu": {threshold, 1, 0},
}

func relu(x, _, _ float32) float32 { return max(x, 0) }

func affine(x, a, b float32) float32 { return a*x + b }

func scaledTanh(x, a, b float32) float32 { return a * float32(math.Tanh(float64(b*x))) }

// cell is the plan of a recurrent layer in one direction.
type cell struct {
	steps, batch, in, hidden, gates int
	x                               []float32 // steps × batch × in
	w, r, wb, rb, peep              []float32
	h, state, sums, again           []float32
	lengths                         []int
	curves                          [3]func(float32) float32
	clip                            float32
	coupled, beforeReset            bool
}

var gatesOf = map[string]int{"RNN": 1, "GRU": 3, "LSTM": 4}

// activations returns the curves of a direction.
func (c *call) activations(direction int, count int) (list [3]func(float32) float32) {
	names := []string{"Sigmoid", "Tanh", "Tanh"}
	if c.node.op == "RNN" {
		names = []string{"Tanh"}
	}
	offset := 0
	if a := c.node.attributes["activations"]; a != nil {
		names, offset = a.names, direction*count
	}
	alphas, betas := c.attribute("activation_alpha").floats, c.attribute("activation_beta").floats
	for i := range count {
		one, ok := curveOf[strings.ToLower(names[offset+i])]
		if !ok {
			c.fail("activation %.64q is not supported", names[offset+i])
		}
		if at := offset + i; at < len(alphas) {
			one.alpha = alphas[at]
		}
		if at := offset + i; at < len(betas) {
			one.beta = betas[at]
		}
		list[i] = func(x float32) float32 { return one.f(x, one.alpha, one.beta) }
	}
	return list
}

// recurrent implements LSTM, GRU and RNN.
func recurrent(c *call) {
	x, w, r := c.rank(c.input(0, engine.Float32), 3, 3), c.rank(c.input(1, engine.Float32), 3, 3), c.rank(c.input(2, engine.Float32), 3, 3)
	gates, layout := gatesOf[c.node.op], c.int("layout", 0)
	directions := w.Shape[0]
	k := cell{steps: x.Shape[0], batch: x.Shape[1], in: x.Shape[2], hidden: r.Shape[2], gates: gates, clip: float32(math.Inf(1))}
	if layout == 1 {
		k.steps, k.batch = k.batch, k.steps
	}
	h := k.hidden
	if directions < 1 || directions > 2 || w.Shape[1] != gates*h || w.Shape[2] != k.in || r.Shape[0] != directions || r.Shape[1] != gates*h {
		c.fail("%s, %s and %s do not fit", &x.Spec, &w.Spec, &r.Spec)
	}
	c.macs(directions, k.steps, k.batch, gates*h, k.in+h)
	k.clip = c.float("clip", k.clip)
	k.coupled, k.beforeReset = c.int("input_forget", 0) != 0, c.int("linear_before_reset", 0) == 0
	k.x = x.F32
	if layout == 1 {
		k.x = c.floats(0, len(x.F32))
		swap(k.x, x.F32, k.batch, k.steps, k.in)
	}
	y := c.floats(1, k.steps*directions*k.batch*h) // steps × directions × batch × hidden
	clear(y)
	finalH, finalState := c.floats(2, directions*k.batch*h), c.floats(3, directions*k.batch*h)
	k.sums, k.again = c.floats(4, k.batch*gates*h), c.floats(5, k.batch*gates*h)
	count := map[string]int{"RNN": 1, "GRU": 2, "LSTM": 3}[c.node.op]
	for d := range directions {
		k.curves = c.activations(d, count)
		k.bind(c, d, w.F32, r.F32)
		k.h, k.state = finalH[d*k.batch*h:(d+1)*k.batch*h], finalState[d*k.batch*h:(d+1)*k.batch*h]
		k.initial(c, k.h, 5, d, directions, layout)
		k.initial(c, k.state, 6, d, directions, layout)
		backward := d == 1 || c.string("direction", "forward") == "reverse"
		for t := range k.steps {
			k.step(c.node.op, t, backward, y[d*k.batch*h:], directions*k.batch*h)
		}
	}
	k.deliver(c, y, finalH, finalState, directions, layout)
}

// swap exchanges the first two of the three axes of from, a × b × n.
func swap(to, from []float32, a, b, n int) {
	for i := range a {
		for j := range b {
			copy(to[(j*a+i)*n:(j*a+i+1)*n], from[(i*b+j)*n:(i*b+j+1)*n])
		}
	}
}

func (k *cell) bind(c *call, d int, w, r []float32) {
	n, h := k.gates*k.hidden, k.hidden
	k.w, k.r = w[d*n*k.in:(d+1)*n*k.in], r[d*n*h:(d+1)*n*h]
	k.wb, k.rb, k.peep, k.lengths = nil, nil, nil, nil
	if b := c.optional(3); b != nil {
		k.wb, k.rb = b.F32[d*2*n:d*2*n+n], b.F32[d*2*n+n:(d+1)*2*n]
	}
	if v := c.optional(4); v != nil {
		if k.lengths = c.indices(v); len(k.lengths) != k.batch {
			c.fail("%d lengths for a batch of %d", len(k.lengths), k.batch)
		}
	}
	if p := c.optional(7); p != nil && c.node.op == "LSTM" {
		k.peep = p.F32[d*3*h : (d+1)*3*h]
	}
}

// initial sets a state to an input, or to zero.
func (k *cell) initial(c *call, to []float32, input, d, directions, layout int) {
	clear(to)
	v := c.optional(input)
	if v == nil {
		return
	}
	for b := range k.batch {
		at := d*k.batch + b
		if layout == 1 {
			at = b*directions + d
		}
		copy(to[b*k.hidden:(b+1)*k.hidden], v.F32[at*k.hidden:(at+1)*k.hidden])
	}
}

func (k *cell) step(op string, t int, backward bool, y []float32, yStep int) {
	h, n := k.hidden, k.gates*k.hidden
	for b := range k.batch {
		at, length := t, k.steps
		if k.lengths != nil {
			length = min(max(k.lengths[b], 0), k.steps)
		}
		if t >= length {
			continue
		}
		if backward {
			at = length - 1 - t
		}
		x := k.x[(at*k.batch+b)*k.in:][:k.in]
		state, sums, again := k.h[b*h:(b+1)*h], k.sums[:n], k.again[:n]
		kernel.GemmF32(sums, x, k.w, 1, n, k.in)
		kernel.GemmF32(again, state, k.r, 1, n, h)
		for i := range sums {
			if k.wb != nil {
				sums[i] += k.wb[i]
				again[i] += k.rb[i]
			}
		}
		switch op {
		case "RNN":
			for i := range state {
				state[i] = k.curves[0](k.held(sums[i] + again[i]))
			}
		case "GRU":
			k.gru(state, sums, again)
		default:
			k.lstm(state, k.state[b*h:(b+1)*h], sums, again)
		}
		copy(y[at*yStep+b*h:], state)
	}
}

func (k *cell) held(v float32) float32 { return min(max(v, -k.clip), k.clip) }

// gru computes a step with the gates update, reset, hidden.
func (k *cell) gru(state, sums, again []float32) {
	h := k.hidden
	for i := range 2 * h {
		sums[i] = k.curves[0](k.held(sums[i] + again[i]))
	}
	if k.beforeReset {
		scaled := again[:h] // the sums of the first gate are no longer needed
		for i := range h {
			scaled[i] = sums[h+i] * state[i]
		}
		kernel.GemmF32(again[2*h:], scaled, k.r[2*h*h:], 1, h, h)
		if k.rb != nil {
			for i := range h {
				again[2*h+i] += k.rb[2*h+i]
			}
		}
	} else {
		for i := range h {
			again[2*h+i] *= sums[h+i]
		}
	}
	for i := range h {
		z := sums[i]
		fresh := k.curves[1](k.held(sums[2*h+i] + again[2*h+i]))
		state[i] = (1-z)*fresh + z*state[i]
	}
}

// lstm computes a step with the gates input, output, forget, cell; peepholes are input, output, forget.
func (k *cell) lstm(state, memory, sums, again []float32) {
	h := k.hidden
	for i := range h {
		in, out, forget, fresh := sums[i]+again[i], sums[h+i]+again[h+i], sums[2*h+i]+again[2*h+i], sums[3*h+i]+again[3*h+i]
		if k.peep != nil {
			in += k.peep[i] * memory[i]
			forget += k.peep[2*h+i] * memory[i]
		}
		in = k.curves[0](k.held(in))
		forget = k.curves[0](k.held(forget))
		if k.coupled {
			forget = 1 - in
		}
		memory[i] = forget*memory[i] + in*k.curves[1](k.held(fresh))
		if k.peep != nil {
			out += k.peep[h+i] * memory[i]
		}
		state[i] = k.curves[0](k.held(out)) * k.curves[2](memory[i])
	}
}

// deliver writes the outputs in the requested layout.
func (k *cell) deliver(c *call, y, finalH, finalState []float32, directions, layout int) {
	shape := c.shape(k.steps, directions, k.batch, k.hidden)
	if layout == 1 {
		shape[0], shape[1], shape[2] = k.batch, k.steps, directions
	}
	if c.wants(0) {
		all := c.output(0, engine.Float32, shape).F32
		if layout == 0 {
			copy(all, y)
		} else {
			swap(all, y, k.steps*directions, k.batch, k.hidden)
		}
	}
	last := c.shape(directions, k.batch, k.hidden)
	if layout == 1 {
		last[0], last[1] = k.batch, directions
	}
	for i, from := range [][]float32{finalH, finalState} {
		if !c.wants(1+i) || i == 1 && c.node.op != "LSTM" {
			continue
		}
		to := c.output(1+i, engine.Float32, last).F32
		if layout == 0 {
			copy(to, from)
		} else {
			swap(to, from, directions, k.batch, k.hidden)
		}
	}
}
