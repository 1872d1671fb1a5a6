// Package tflite reads TensorFlow Lite models and runs them in pure Go: float32, and int8 from the converter's full integer quantisation.
//
// A file is untrusted and read once: sizes are checked before memory is allocated, and an error names the byte, the tensor or the operator. Load
// reports all unsupported operators together.
//
// The int8 arithmetic is that of TensorFlow Lite with default settings: layers, sums, products and means round once in float32, like XNNPACK;
// softmax, logistic and tanh use tables of float results; recurrent layers use fixed point. Results are bit-identical to those of its interpreter on
// all tested models, including MobileNetV2. Two differences are known: the reference kernels, which microcontrollers use, round twice in integers and
// occasionally differ by a step; and interpreters of 2022 subtract the zero point of an LSTM's state where they should add it, which affects models
// with a zero point other than 0.
//
// Float models with int8 weights (dynamic range quantisation) run in float32 with weights that are expanded at load.
//
// A Writer writes small models, int8 and float32, which TensorFlow Lite's own interpreter also reads.
//
// Files:
//
//	flat.go, graph.go         the file: its tables, then tensors and operators with all sizes checked. Until then, all content is untrusted
//	compile.go                the Program, whose prepared weights all sessions share behind a lock; and the Session, which is compiled separately and
//	                          owns all memory that a run writes
//	builtin.go                the operators by their numbers, with their compilers
//	layers.go, depthwise.go, pool.go, elementwise.go, reduce.go, shape.go, recurrent.go
//	                          a compiler for each operator: it creates a closure over the session's memory. Only these files call package kernel
//	variables.go              variables. Only they and the state of recurrent layers persist between runs; Reset clears both
//	plan.go                   a Program as a list of steps, for export
//	flatwrite.go, write.go    the Writer
package tflite

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

// Program is a loaded and validated model. It is safe for concurrent use.
type Program struct {
	graph  *graph
	limits Limits
	info   engine.Info

	mu     sync.Mutex
	packed map[packing]*kernel.Packed // weights in the layout of Gemm, shared by all sessions
	wide   map[packing][]float32      // int8 weights of float layers
	turned map[*tensor]*value         // filters of one channel, kernel by kernel

	prepared int64 // bytes of packed, wide and turned
}

// prepare counts memory shared by all sessions against the limit. The caller holds the lock.
func (c *compiler) prepare(bytes int) {
	if c.p.graph.bytes+c.p.prepared+int64(bytes) > c.p.limits.MaxBytes {
		c.fail("prepared weights take more than %d bytes", c.p.limits.MaxBytes)
	}
	c.p.prepared += int64(bytes)
}

// packing identifies weights and the shape that they are prepared for.
type packing struct {
	weights *tensor
	n, k    int
}

var (
	_ engine.Program = (*Program)(nil)
	_ engine.Session = (*session)(nil)
)

// Load reads a model. An error describes the problem of the file, or the unsupported operators.
func Load(file []byte, limits Limits) (*Program, error) {
	limits = limits.orDefault()
	g, err := read(file, limits)
	if err != nil {
		return nil, fmt.Errorf("reading a TensorFlow Lite model: %w", err)
	}
	p := &Program{graph: g, limits: limits, packed: map[packing]*kernel.Packed{}, wide: map[packing][]float32{}, turned: map[*tensor]*value{}}
	s, err := p.compile() // one session shows that sessions can be created
	if err = errors.Join(g.r.err, err); err != nil {
		return nil, fmt.Errorf("preparing a TensorFlow Lite model: %w", err)
	}
	p.info = engine.Info{Format: "tflite", Parameters: g.parameters, MACs: s.macs, Bytes: g.bytes + s.bytes, Session: s.bytes, Operators: g.operators()}
	p.info.Bytes += p.prepared
	for _, t := range s.inputs {
		p.info.Inputs = append(p.info.Inputs, t.Spec)
	}
	for _, t := range s.outputs {
		p.info.Outputs = append(p.info.Outputs, t.Spec)
	}
	return p, nil
}

// operators returns the name of each kind once.
func (g *graph) operators() (names []string) {
	for _, s := range g.subgraphs {
		for _, op := range s.operators {
			if !slices.Contains(names, op.name) {
				names = append(names, op.name)
			}
		}
	}
	return names
}

// Info describes the model.
func (p *Program) Info() engine.Info { return p.info }

// NewSession allocates the memory of one run.
func (p *Program) NewSession() (engine.Session, error) { return p.compile() }

// session is a compiled model with its memory.
type session struct {
	inputs, outputs []*engine.Tensor
	steps           []func()
	initial         []func() // sets the variables
	state           []*value // of recurrent layers
	macs, bytes     int64
	work            int64     // including the steps of pools
	plan            *recorder // set if a plan is requested
}

func (s *session) Inputs() []*engine.Tensor  { return s.inputs }
func (s *session) Outputs() []*engine.Tensor { return s.outputs }

func (s *session) Run() error {
	for _, step := range s.steps {
		step()
	}
	return nil
}

func (s *session) Reset() {
	for _, v := range s.state {
		v.reset()
	}
	for _, set := range s.initial {
		set()
	}
}

// value is a tensor of a session.
type value struct {
	engine.Tensor
	def   *tensor
	ready bool   // has memory
	name  string // of the variable, for a handle
}

// reset sets a variable to its initial value, the quantised zero.
func (v *value) reset() {
	for i := range v.I8 {
		v.I8[i] = int8(v.Zero) //nolint:gosec // checked when the model was read
	}
	clear(v.F32)
	clear(v.I16)
}

// compiler converts a graph to steps.
type compiler struct {
	p         *Program
	s         *session
	sub       *subgraph
	values    []*value
	variables map[string]*engine.Tensor
	op        *operator
	index     int
}

// failure is the panic value of compiler.fail; compileSubgraph recovers.
type failure struct{ error }

func (p *Program) compile() (*session, error) {
	s := &session{}
	variables := map[string]*engine.Tensor{}
	if err := p.missing(); err != nil {
		return nil, err
	}
	c, err := p.compileSubgraph(s, p.graph.subgraphs[0], variables, 0)
	if err != nil {
		return nil, err
	}
	s.inputs, s.outputs = c.tensors(c.sub.inputs), c.tensors(c.sub.outputs)
	s.Reset()
	return s, nil
}

// missing returns an error that names every unsupported operator with its place.
func (p *Program) missing() error {
	var missing []string
	for n, sub := range p.graph.subgraphs {
		for i, op := range sub.operators {
			if builders[op.code].build == nil {
				missing = append(missing, fmt.Sprintf("%s (operator %d of subgraph %d)", op.name, i, n))
			}
		}
	}
	return engine.Unsupported(missing)
}

// maxCalls is the maximum depth of subgraphs that call each other.
const maxCalls = 8

func (p *Program) compileSubgraph(s *session, sub *subgraph, variables map[string]*engine.Tensor, depth int) (c *compiler, err error) {
	if depth > maxCalls {
		return nil, errors.New("subgraphs call each other without end")
	}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			if err = r.error; c.op != nil {
				err = fmt.Errorf("operator %d (%s): %w", c.index, c.op.name, r.error)
			}
		default:
			panic(r)
		}
	}()
	c = &compiler{p: p, s: s, sub: sub, values: make([]*value, len(sub.tensors)), variables: variables}
	for i := range sub.tensors {
		t := &sub.tensors[i]
		v := &value{def: t}
		v.Spec = t.Spec
		if t.fixed {
			v.Tensor, v.ready = t.constant, true
		}
		c.values[i] = v
	}
	for _, at := range sub.inputs {
		c.allocate(c.values[at])
	}
	for i := range sub.operators {
		op := &sub.operators[i]
		c.op, c.index = op, i
		if op.code == codeCallOnce {
			c.callOnce(depth)
		} else {
			before := c.planned()
			builders[op.code].build(c)
			if s.plan != nil && c.planned() == before {
				s.plan.missing = append(s.plan.missing, fmt.Sprintf("%s (operator %d)", op.name, i))
			}
		}
	}
	for _, at := range sub.outputs {
		if !c.values[at].ready {
			return nil, fmt.Errorf("output %.64q: no operator computes it", c.values[at].Name)
		}
	}
	return c, nil
}

// callOnce runs a subgraph when a session is created.
func (c *compiler) callOnce(depth int) {
	at := c.op.options.int32(0, 0)
	if at < 0 || at >= len(c.p.graph.subgraphs) {
		c.fail("it calls subgraph %d of %d", at, len(c.p.graph.subgraphs))
	}
	steps := c.s.steps
	c.s.steps = nil
	_, err := c.p.compileSubgraph(c.s, c.p.graph.subgraphs[at], c.variables, depth+1)
	once := c.s.steps
	c.s.steps = steps
	if err != nil {
		panic(failure{err})
	}
	c.s.initial = append(c.s.initial, once...)
}

// planned returns the number of steps in the plan.
func (c *compiler) planned() int {
	if c.s.plan == nil {
		return 0
	}
	return len(c.s.plan.steps)
}

func (c *compiler) tensors(list []int) []*engine.Tensor {
	out := make([]*engine.Tensor, len(list))
	for i, at := range list {
		out[i] = &c.values[at].Tensor
	}
	return out
}

// fail ends the compilation.
func (c *compiler) fail(format string, args ...any) {
	panic(failure{fmt.Errorf(format, args...)})
}

// work counts the steps of a run against the limit, which a small file could exceed by far.
func (c *compiler) work(factors ...int) int64 {
	n, most := int64(1), c.p.limits.MaxWork-c.s.work
	for _, f := range factors {
		if f > 0 && n > most/int64(f) {
			c.fail("a run takes more than %d multiply-accumulates", c.p.limits.MaxWork)
		}
		n *= int64(f)
	}
	c.s.work += n
	return n
}

// charge counts memory of the session, a product of sizes, against the limit.
func (c *compiler) charge(sizes ...int) {
	n := int64(1)
	for _, size := range sizes {
		n *= int64(size)
	}
	if c.s.bytes += n; c.s.bytes > c.p.limits.MaxBytes {
		c.fail("the tensors of a run take more than %d bytes", c.p.limits.MaxBytes)
	}
}

// allocate allocates memory for a value.
func (c *compiler) allocate(v *value) {
	if v.ready {
		return
	}
	c.charge(v.Elements(), v.Type.Size())
	v.Allocate()
	v.ready = true
}

// optional returns the i-th input, nil if it is absent.
func (c *compiler) optional(i int) *value {
	if i >= len(c.op.inputs) || c.op.inputs[i] < 0 {
		return nil
	}
	v := c.values[c.op.inputs[i]]
	if !v.ready && v.def.variable {
		c.allocate(v)
		c.s.state = append(c.s.state, v)
	}
	if !v.ready && v.Type != engine.Invalid {
		c.fail("input %d (%.64q): no earlier operator computes it", i, v.Name)
	}
	return v
}

// in returns the i-th input. If types are given, its type must be one of them.
func (c *compiler) in(i int, types ...engine.Type) *value {
	v := c.optional(i)
	if v == nil {
		c.fail("input %d is missing", i)
	}
	c.oneOf(v, "input", i, types)
	return v
}

// constant returns the i-th input, whose data must be in the file.
func (c *compiler) constant(i int, types ...engine.Type) *value {
	v := c.in(i, types...)
	if !v.def.fixed {
		c.fail("input %d (%.64q) must be a constant", i, v.Name)
	}
	return v
}

// out returns the i-th output with memory.
func (c *compiler) out(i int, types ...engine.Type) *value {
	if i >= len(c.op.outputs) || c.op.outputs[i] < 0 {
		c.fail("output %d is missing", i)
	}
	v := c.values[c.op.outputs[i]]
	if v.def.fixed {
		c.fail("output %d (%.64q) is a constant", i, v.Name)
	}
	c.oneOf(v, "output", i, types)
	c.allocate(v)
	return v
}

func (c *compiler) oneOf(v *value, what string, i int, types []engine.Type) {
	if len(types) > 0 && !slices.Contains(types, v.Type) {
		c.fail("%s %d (%.64q) is %s, supported are %v", what, i, v.Name, v.Type, types)
	}
	if (v.Type == engine.Int8 || v.Type == engine.Int16) && v.Scale == 0 {
		v.Scale = 1 // a tensor of plain integers
	}
}

// step adds a step to the run.
func (c *compiler) step(run func()) { c.s.steps = append(c.s.steps, run) }

// same checks that types and sizes are equal.
func (c *compiler) same(a, b *value) {
	if a.Type != b.Type || a.Elements() != b.Elements() {
		c.fail("%s and %s differ in type or size", &a.Spec, &b.Spec)
	}
}

// rank checks the number of dimensions.
func (c *compiler) rank(v *value, n int) {
	if len(v.Shape) != n {
		c.fail("%s has %d dimensions, expected %d", &v.Spec, len(v.Shape), n)
	}
}

// ints returns the integers of a constant.
func (c *compiler) ints(i int) []int {
	v := c.constant(i, engine.Int32, engine.Int64)
	var list []int
	for _, x := range v.I32 {
		list = append(list, int(x))
	}
	for _, x := range v.I64 {
		list = append(list, int(x))
	}
	return list
}

// axisOf converts a negative axis to a positive one.
func (c *compiler) axisOf(axis, rank int) int {
	if axis < 0 {
		axis += rank
	}
	if axis < 0 || axis >= rank {
		c.fail("axis %d of %d dimensions", axis, rank)
	}
	return axis
}
