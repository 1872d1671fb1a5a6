package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
)

// networkFormat identifies a weights file.
const networkFormat = "app-offload network 1"

// Limits of a weights file: high enough for any network that decides within microseconds, low enough that a wrong file does no harm.
const (
	maxWidth       = 256
	maxDepth       = 8
	maxNetworkFile = 16 << 20
	clipAt         = 10 // standard deviations from the mean at which an input is clipped, as in training
)

// Network is a weights file: fully connected layers over normalised inputs, with tanh between them. Training writes it; it is immutable afterwards.
type Network struct {
	Format string  `json:"format"`
	Made   string  `json:"made"` // the command that made it
	Inputs []Input `json:"inputs"`
	Layers []Layer `json:"layers"`

	factors []float64
}

// Input is one feature with its statistics in training.
type Input struct {
	Name      string  `json:"name"`
	Mean      float64 `json:"mean"`
	Deviation float64 `json:"deviation"`
	Low       float64 `json:"low"`  // the smallest value in training
	High      float64 `json:"high"` // the largest
}

// Layer is y = W·x + b; Weights holds one row per output.
type Layer struct {
	Weights []float64 `json:"weights"`
	Bias    []float64 `json:"bias"`
}

// ReadNetwork reads and checks a weights file.
func ReadNetwork(r io.Reader) (*Network, error) {
	var n Network
	d := json.NewDecoder(io.LimitReader(r, maxNetworkFile))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		return nil, fmt.Errorf("reading weights: %w", err)
	}
	if err := n.Prepare(); err != nil {
		return nil, fmt.Errorf("reading weights: %w", err)
	}
	return &n, nil
}

// Write writes the weights file.
func (n *Network) Write(w io.Writer) error {
	if err := n.Prepare(); err != nil {
		return fmt.Errorf("writing weights: %w", err)
	}
	b, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("writing weights: %w", err)
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("writing weights: %w", err)
	}
	return nil
}

// Prepare checks the network and prepares it for Forward.
func (n *Network) Prepare() error {
	n.Format = cmp.Or(n.Format, networkFormat)
	if n.Format != networkFormat {
		return fmt.Errorf("format %q; this program reads %q", n.Format, networkFormat)
	}
	if len(n.Layers) == 0 || len(n.Layers) > maxDepth || len(n.Inputs) == 0 || len(n.Inputs) > maxWidth {
		return fmt.Errorf("%d inputs and %d layers: needs 1–%d and 1–%d", len(n.Inputs), len(n.Layers), maxWidth, maxDepth)
	}
	in := len(n.Inputs)
	for i, l := range n.Layers {
		out := len(l.Bias)
		if out == 0 || out > maxWidth || len(l.Weights) != in*out {
			return fmt.Errorf("layer %d has %d biases and %d weights after %d inputs: needs 1–%d, and inputs times biases", i, out, len(l.Weights), in, maxWidth)
		}
		if !allFinite(l.Weights...) || !allFinite(l.Bias...) {
			return fmt.Errorf("layer %d has a weight that is not finite", i)
		}
		in = out
	}
	n.factors = make([]float64, len(n.Inputs))
	for i, x := range n.Inputs {
		if !allFinite(x.Mean, x.Deviation, 1/x.Deviation, x.Low, x.High) || x.Deviation <= 0 || x.Low > x.High {
			return fmt.Errorf("input %q: mean %g, deviation %g, range %g–%g are invalid", x.Name, x.Mean, x.Deviation, x.Low, x.High)
		}
		n.factors[i] = 1 / x.Deviation
	}
	return nil
}

func allFinite(v ...float64) bool {
	return !slices.ContainsFunc(v, func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
}

// Outputs is the number of outputs.
func (n *Network) Outputs() int { return len(n.Layers[len(n.Layers)-1].Bias) }

// Takes returns an error unless the network was trained on exactly these inputs.
func (n *Network) Takes(names ...string) error {
	had := make([]string, len(n.Inputs))
	for i, x := range n.Inputs {
		had[i] = x.Name
	}
	if !slices.Equal(had, names) {
		return fmt.Errorf("weights are for the inputs %q, not %q: train them again", had, names)
	}
	return nil
}

// Known reports whether every input is within the range seen in training, widened by margin as a share of that range.
func (n *Network) Known(x []float64, margin float64) bool {
	for i, v := range x[:len(n.Inputs)] {
		in := &n.Inputs[i]
		slack := margin * (in.High - in.Low)
		if !(v >= in.Low-slack && v <= in.High+slack) {
			return false
		}
	}
	return true
}

// Forward computes the outputs for x into out. It allocates nothing and is safe for concurrent use.
func (n *Network) Forward(x, out []float64) {
	var one, two [maxWidth]float64
	from, to := one[:len(n.Inputs)], two[:]
	for i, v := range x[:len(from)] {
		from[i] = min(max((v-n.Inputs[i].Mean)*n.factors[i], -clipAt), clipAt)
	}
	last := len(n.Layers) - 1
	for i := range n.Layers[:last] {
		l := &n.Layers[i]
		y := to[:len(l.Bias)]
		l.apply(from, y)
		for k, v := range y {
			// One exponential is three times as fast as math.Tanh.
			y[k] = 1 - 2/(math.Exp(2*v)+1)
		}
		from, to = y, from[:maxWidth]
	}
	n.Layers[last].apply(from, out[:n.Outputs()])
}

// apply computes four outputs at a time: additions to a single running sum would wait for each other.
func (l *Layer) apply(x, y []float64) {
	n, o := len(x), 0
	for ; o+4 <= len(y); o += 4 {
		w0, w1, w2, w3 := l.Weights[o*n:][:n], l.Weights[(o+1)*n:][:n], l.Weights[(o+2)*n:][:n], l.Weights[(o+3)*n:][:n]
		a0, a1, a2, a3 := l.Bias[o], l.Bias[o+1], l.Bias[o+2], l.Bias[o+3]
		for k, v := range x {
			a0 += v * w0[k]
			a1 += v * w1[k]
			a2 += v * w2[k]
			a3 += v * w3[k]
		}
		y[o], y[o+1], y[o+2], y[o+3] = a0, a1, a2, a3 // #nosec G602 -- o+4 ≤ len(y)
	}
	for ; o < len(y); o++ {
		sum := l.Bias[o]
		for k, w := range l.Weights[o*n:][:n] {
			sum += x[k] * w
		}
		y[o] = sum
	}
}
