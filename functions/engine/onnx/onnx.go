// Package onnx reads ONNX models and runs them in pure Go: float32 and the other numeric types, int8 and uint8 of quantised models (QuantizeLinear
// around float layers, or QLinear layers), and recurrent layers.
//
// A file is untrusted and read once: sizes are checked before memory is allocated, and an error names the byte or the node. Load reports all
// unsupported operators together. Graphs within graphs (If, Loop), sequences, strings and float16 are not supported.
//
// Shapes may depend on the input, so a session infers them during a run: it allocates memory in its first run, and again only if a shape grows.
// Unknown dimensions of inputs are 1 until the user changes an input's shape, with Shape and Allocate.
//
// Files:
//
//	proto.go, graph.go, tensor.go
//	                          the file: messages, then nodes and constants with all sizes checked. Until then, all content is untrusted
//	onnx.go                   the Program, and the Session, which owns all memory that a run writes
//	call.go                   one node in a run: its inputs, its outputs, its limits. All operators use it
//	ops.go                    the operators by name
//	conv.go, gemm.go, pool.go, quant.go, recurrent.go, norm.go, elementwise.go, scalar.go, reduce.go, shape.go, indexed.go, resize.go,
//	einsum.go, boxes.go, made.go
//	                          operators of a kind; no state except memory that a node keeps in its session
//	data.go                   walks over tensors of any type
//	write.go                  the Writer
package onnx

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"app-offload/functions/engine"
)

// Program is a loaded and validated model. It is safe for concurrent use.
type Program struct {
	graph  *graph
	limits Limits
	info   engine.Info

	mu       sync.Mutex
	prepared map[preparation]any // constants in the layout of the kernels, shared by all sessions
	bytes    int64               // of prepared
}

// preparation identifies a prepared constant.
type preparation struct {
	node *node
	part int // such as a group of the layer
}

var (
	_ engine.Program = (*Program)(nil)
	_ engine.Session = (*session)(nil)
)

// Load reads a model. An error describes the problem of the file, or the unsupported operators. The model is run once, on zeros, to complete Info; if
// the inputs are data of known shapes, that run must succeed.
func Load(file []byte, limits Limits) (*Program, error) {
	limits = limits.orDefault()
	g, err := read(file, limits)
	if err != nil {
		return nil, fmt.Errorf("reading an ONNX model: %w", err)
	}
	p := &Program{graph: g, limits: limits, prepared: map[preparation]any{}}
	if err = p.missing(); err != nil {
		return nil, fmt.Errorf("preparing an ONNX model: %w", err)
	}
	s, err := p.newSession()
	if err != nil {
		return nil, fmt.Errorf("preparing an ONNX model: %w", err)
	}
	if err = s.Run(); err != nil && g.plain() {
		return nil, fmt.Errorf("running an ONNX model on zeros: %w", err)
	}
	p.describe(s)
	return p, nil
}

// describe fills in Info after a run of a session, or before one.
func (p *Program) describe(s *session) {
	g := p.graph
	p.info = engine.Info{Format: "onnx", Parameters: g.parameters, MACs: s.macs, Bytes: g.bytes + s.bytes + p.bytes, Session: s.bytes}
	for _, n := range g.nodes {
		if !slices.Contains(p.info.Operators, n.op) {
			p.info.Operators = append(p.info.Operators, n.op)
		}
	}
	for _, in := range g.inputs {
		p.info.Inputs = append(p.info.Inputs, in.Spec)
	}
	for _, out := range g.outputs {
		p.info.Outputs = append(p.info.Outputs, out.Spec)
	}
}

// Inspect describes a model for an engine with other operators. If this engine has all operators, known is true and the model was loaded and run, so
// the description is complete. Otherwise, multiply-accumulates are 0, and memory includes only constants, inputs and outputs.
func Inspect(file []byte, limits Limits) (info engine.Info, known bool, err error) {
	limits = limits.orDefault()
	g, err := read(file, limits)
	if err != nil {
		return engine.Info{}, false, fmt.Errorf("reading an ONNX model: %w", err)
	}
	p := &Program{graph: g, limits: limits}
	if p.missing() == nil {
		if p, err = Load(file, limits); err != nil {
			return engine.Info{}, true, err
		}
		return p.info, true, nil
	}
	s, err := p.newSession()
	if err != nil {
		return engine.Info{}, false, fmt.Errorf("preparing an ONNX model: %w", err)
	}
	p.describe(s)
	return p.info, false, nil
}

// plain reports whether inputs are data of known shapes. Integers and vectors may be shapes, axes or scales instead, which are never 0.
func (g *graph) plain() bool {
	for _, in := range g.inputs {
		data := in.Type == engine.Float32 || in.Type == engine.Int8 || in.Type == engine.Uint8
		if !data || len(in.Shape) < 2 || slices.Contains(in.Shape, -1) {
			return false
		}
	}
	return true
}

// operators are all supported operators.
var operators = map[string]func(*call){"LSTM": recurrent, "GRU": recurrent, "RNN": recurrent, "Einsum": einsum}

func init() {
	for _, table := range []map[string]func(*call){
		elementwise, scalars, shapes, creations, matrices, convolutions, pools, norms, images, reductions, quantised, indexed, losses,
	} {
		maps.Copy(operators, table)
	}
}

// missing returns an error that names every unsupported operator with its place.
func (p *Program) missing() error {
	var missing []string
	for _, n := range p.graph.nodes {
		if n.domain == "" || n.domain == "ai.onnx" {
			n.run = operators[n.op]
		}
		if n.run == nil {
			missing = append(missing, fmt.Sprintf("%.64s (node %d)", strings.TrimPrefix(n.domain+"."+n.op, "."), n.index))
		}
	}
	return engine.Unsupported(missing)
}

// Info describes the model.
func (p *Program) Info() engine.Info { return p.info }

// NewSession allocates the memory of the inputs; the first run allocates that of all other tensors.
func (p *Program) NewSession() (engine.Session, error) { return p.newSession() }

func (p *Program) newSession() (*session, error) {
	s := &session{p: p, values: slices.Clone(p.graph.fixed)}
	for i, v := range s.values {
		if v == nil {
			s.values[i] = &value{}
		}
	}
	for _, in := range p.graph.inputs {
		v := s.values[in.at]
		v.Spec = in.Spec
		v.Shape = slices.Clone(in.Shape)
		for i, d := range v.Shape {
			if d < 0 {
				v.Shape[i] = 1
			}
		}
		n, err := engine.Elements(v.Shape, (p.limits.MaxBytes-p.graph.bytes-s.bytes)/int64(v.Type.Size()))
		if err != nil {
			return nil, fmt.Errorf("input %.64q: %w", v.Name, err)
		}
		s.bytes += int64(n * v.Type.Size())
		v.Allocate()
		s.inputs = append(s.inputs, &v.Tensor)
	}
	for _, out := range p.graph.outputs {
		v := s.values[out.at]
		if !v.fixed {
			v.Name = out.Name
			if v.Type == engine.Invalid {
				v.Type = out.Type
			}
		}
		s.outputs = append(s.outputs, &v.Tensor)
	}
	s.calls = make([]call, len(p.graph.nodes))
	for i, n := range p.graph.nodes {
		s.calls[i] = call{s: s, node: n, in: s.list(n.inputs), out: s.list(n.outputs)}
	}
	return s, nil
}

// session runs a program.
type session struct {
	p               *Program
	values          []*value
	inputs, outputs []*engine.Tensor
	calls           []call
	bytes, macs     int64
}

func (s *session) Inputs() []*engine.Tensor  { return s.inputs }
func (s *session) Outputs() []*engine.Tensor { return s.outputs }

// Reset does nothing: ONNX models have no state of their own.
func (s *session) Reset() {}

func (s *session) list(indices []int) []*value {
	list := make([]*value, len(indices))
	for i, at := range indices {
		if at >= 0 {
			list[i] = s.values[at]
		}
	}
	return list
}

// Run computes the outputs. It allocates for new shapes, and otherwise nothing or little.
func (s *session) Run() error {
	for i, in := range s.inputs {
		want := &s.p.graph.inputs[i].Spec
		if n, err := engine.Elements(in.Shape, s.p.limits.MaxBytes); err != nil || n != length(in) {
			return fmt.Errorf("input %.64q: shape %v does not fit its %d elements", want.Name, in.Shape, length(in))
		}
		if !fits(in.Shape, want.Shape) || in.Type != want.Type {
			return fmt.Errorf("input %.64q: expected %s, found %s", want.Name, want, &in.Spec)
		}
	}
	s.macs = 0
	for i := range s.calls {
		if err := s.calls[i].do(); err != nil {
			return fmt.Errorf("%s: %w", s.calls[i].node, err)
		}
	}
	return nil
}

// fits reports whether a shape matches the declared one, in which -1 matches any length. A declared shape without dimensions matches all shapes.
func fits(shape, declared []int) bool {
	if len(shape) != len(declared) {
		return len(declared) == 0
	}
	for i, d := range declared {
		if d >= 0 && d != shape[i] {
			return false
		}
	}
	return true
}

// failure is the panic value of call.fail, which spares kernels an error check on every line; do recovers.
type failure struct{ err error }

// do runs one node. Shapes and attributes of the file reach the kernels, which check what they expect; an index that is still out of range becomes an
// error of the node and does not end the process.
func (c *call) do() (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.err
		case runtime.Error:
			err = fmt.Errorf("its inputs do not fit together: %w", r)
		default:
			panic(r)
		}
	}()
	c.used = 0
	c.node.run(c)
	return nil
}

var errMACs = errors.New("more multiply-accumulates than are allowed")
