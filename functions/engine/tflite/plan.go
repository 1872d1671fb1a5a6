package tflite

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

// Kind is the kind of a step of a plan.
type Kind uint8

// Kinds of steps.
const (
	PlanConv        Kind = iota // Window, weights output by output
	PlanDense                   // Rows × K inputs, weights output by output
	PlanDepthwise               // Window, weights tap by tap; each channel has its own
	PlanMaxPool                 // Window
	PlanAveragePool             // Window
	PlanSoftmax                 // rows of K values
	PlanCopy                    // the same values in another shape
)

// Plan is an int8 model as a list of steps with all constants precomputed, for programs that export the model to another language. The same
// arithmetic gives the same bits.
type Plan struct {
	Inputs, Outputs []engine.Spec
	Steps           []Step
	Tensors         int // with the numbers 0 to Tensors−1; inputs come first
	Out             int // number of the output
}

// Step is one layer. Sums over input·weight begin with Bias, which includes the input's zero point; outside of the image, InZero replaces the pixel.
// An output is round(float32(sum)·scale), to even and in float32, plus OutZero, clamped to Low and Top.
type Step struct {
	Kind            Kind
	In, Out         int // tensors
	Size            int // elements of Out
	Window          kernel.Window
	Rows, N, K      int // N outputs of K inputs each
	Weights         []int8
	Bias            []int32
	Scales          []float32 // a single one, or N
	InZero, OutZero int32
	Low, Top        int32
	Exps            []float32 // of softmax: e^(scale·(i−255)) by i
	OutScale        float32
}

// recorder collects a plan while a session is compiled.
type recorder struct {
	steps   []Step
	numbers map[*value]int
	missing []string
}

// number returns the number of a tensor.
func (r *recorder) number(v *value) int {
	n, ok := r.numbers[v]
	if !ok {
		n = len(r.numbers)
		r.numbers[v] = n
	}
	return n
}

// note records a step if a plan is requested.
func (c *compiler) note(in, out *value, s Step) {
	if c.s.plan == nil {
		return
	}
	s.In, s.Out, s.Size, s.InZero = c.s.plan.number(in), c.s.plan.number(out), out.Elements(), in.Zero
	c.s.plan.steps = append(c.s.plan.steps, s)
}

// noteLayer records a layer with weights.
func (c *compiler) noteLayer(in, out *value, kind Kind, w kernel.Window, rows, n, k int, weights []int8, bias []int32, q *kernel.Requant) {
	c.note(in, out, Step{
		Kind: kind, Window: w, Rows: rows, N: n, K: k, Weights: weights, Bias: slices.Clone(bias), Scales: q.Scales, OutZero: q.Zero, Low: q.Low, Top: q.Top,
	})
}

// Plan returns the steps of a run. It supports only int8 layers, pools, softmax and reshapes; the error names other operators.
func (p *Program) Plan() (*Plan, error) {
	if len(p.info.Inputs) != 1 || len(p.info.Outputs) != 1 {
		return nil, fmt.Errorf("the model has %d inputs and %d outputs; one of each can be planned", len(p.info.Inputs), len(p.info.Outputs))
	}
	for _, s := range []engine.Spec{p.info.Inputs[0], p.info.Outputs[0]} {
		if s.Type != engine.Int8 {
			return nil, fmt.Errorf("%s: only models of int8 can be planned", &s)
		}
	}
	s := &session{plan: &recorder{numbers: map[*value]int{}}}
	c, err := p.compileSubgraph(s, p.graph.subgraphs[0], map[string]*engine.Tensor{}, 0)
	if err != nil {
		return nil, err
	}
	if len(s.plan.missing) > 0 {
		return nil, fmt.Errorf("these operators cannot be planned: %v", s.plan.missing)
	}
	if first, used := s.plan.numbers[c.values[c.sub.inputs[0]]]; !used || first != 0 {
		return nil, errors.New("the first operator does not take the input of the model")
	}
	for _, step := range s.plan.steps {
		for _, scale := range step.Scales {
			if scale < math.SmallestNonzeroFloat32*(1<<24) || scale > 1<<20 {
				return nil, fmt.Errorf("a layer scales its sums by %g, which is out of range", scale)
			}
		}
	}
	return &Plan{Inputs: p.info.Inputs, Outputs: p.info.Outputs, Steps: s.plan.steps, Tensors: len(s.plan.numbers), Out: s.plan.number(c.values[c.sub.outputs[0]])}, nil
}
