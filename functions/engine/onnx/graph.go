package onnx

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"app-offload/functions/engine"
)

// Limits bound the resources of a model.
type Limits struct {
	MaxBytes int64 // memory of all constants and of all tensors of a session; 256 MiB if 0
	MaxNodes int   // 20,000 if 0
	MaxMACs  int64 // multiply-accumulates of one run, 10¹² if 0
}

func (l Limits) orDefault() Limits {
	return Limits{cmp.Or(l.MaxBytes, 256<<20), cmp.Or(l.MaxNodes, 20_000), cmp.Or(l.MaxMACs, 1e12)}
}

// attribute is a parameter of a node.
type attribute struct {
	i      int64
	f      float32
	s      string
	ints   []int
	floats []float32
	names  []string
	tensor *value
}

// node is one step in the file.
type node struct {
	index           int
	name, op        string
	domain          string
	inputs, outputs []int // indices of values, -1 if absent
	in, out         []string
	attributes      map[string]*attribute
	run             func(*call)
}

func (n *node) String() string { return fmt.Sprintf("node %d %.64q (%.64s)", n.index, n.name, n.op) }

// port is a declared input or output of the graph; unknown dimensions are -1.
type port struct {
	engine.Spec
	at int
}

type graph struct {
	limits     Limits
	opset      int64
	nodes      []*node
	inputs     []*port
	outputs    []*port
	constants  map[string]*value
	order      []string // of constants
	names      map[string]int
	fixed      []*value // by index of the value, nil if it is computed
	parameters int
	bytes      int64 // of constants
	hasGraph   bool
}

// read reads the structure of a file.
func read(file []byte, limits Limits) (*graph, error) {
	g := &graph{limits: limits, constants: map[string]*value{}, names: map[string]int{}}
	err := message{file, 0, "the model"}.each(func(f field) error {
		switch f.num {
		case 7:
			if g.hasGraph {
				return fmt.Errorf("byte %d: a second graph", f.at)
			}
			g.hasGraph = true
			return f.message("the graph", g.readGraph)
		case 8:
			return g.readOpset(f)
		case 25:
			return fmt.Errorf("byte %d: functions of the model's own are not supported", f.at)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !g.hasGraph {
		return nil, errors.New("expected an ONNX model, found none of its fields: it has no graph")
	}
	return g, g.connect()
}

func (g *graph) readOpset(f field) error {
	var domain string
	var version int64
	err := f.message("an operator set", func(f field) error {
		switch f.num {
		case 1:
			return f.string(&domain)
		case 2:
			return f.int(&version)
		}
		return nil
	})
	if domain == "" || domain == "ai.onnx" {
		g.opset = version
	}
	return err
}

func (g *graph) readGraph(f field) error {
	switch f.num {
	case 1:
		if len(g.nodes) >= g.limits.MaxNodes {
			return fmt.Errorf("byte %d: more than %d nodes", f.at, g.limits.MaxNodes)
		}
		return g.readNode(f)
	case 5:
		v, err := readTensor(f, g.limits.MaxBytes-g.bytes)
		if err != nil {
			return err
		}
		return g.constant(f.at, v.Name, v)
	case 11, 12:
		p, err := readPort(f)
		if f.num == 11 {
			g.inputs = append(g.inputs, p)
		} else {
			g.outputs = append(g.outputs, p)
		}
		return err
	case 15:
		return fmt.Errorf("byte %d: sparse constants are not supported", f.at)
	}
	return nil
}

func (g *graph) constant(at int, name string, v *value) error {
	if g.constants[name] != nil {
		return fmt.Errorf("byte %d: a second constant %.64q", at, name)
	}
	g.constants[name] = v
	g.order = append(g.order, name)
	g.parameters += v.Elements()
	g.bytes += int64(v.Elements() * v.Type.Size())
	return nil
}

func (g *graph) readNode(f field) error {
	n := &node{index: len(g.nodes), attributes: map[string]*attribute{}}
	err := f.message("a node", func(f field) error {
		var s string
		switch f.num {
		case 1:
			err := f.string(&s)
			n.in = append(n.in, s)
			return err
		case 2:
			err := f.string(&s)
			n.out = append(n.out, s)
			return err
		case 3:
			return f.string(&n.name)
		case 4:
			return f.string(&n.op)
		case 5:
			return g.readAttribute(f, n)
		case 7:
			return f.string(&n.domain)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", n, err)
	}
	if n.op == "Constant" && n.domain == "" {
		v, err := n.constant()
		if err != nil {
			return fmt.Errorf("byte %d: %s: %w", f.at, n, err)
		}
		return g.constant(f.at, n.out[0], v)
	}
	g.nodes = append(g.nodes, n)
	return nil
}

func (g *graph) readAttribute(f field, n *node) error {
	a := &attribute{}
	var name string
	var ints []int64
	err := f.message("an attribute", func(f field) (err error) {
		switch f.num {
		case 1:
			return f.string(&name)
		case 2:
			return f.float(&a.f)
		case 3:
			return f.int(&a.i)
		case 4:
			return f.string(&a.s)
		case 5:
			a.tensor, err = readTensor(f, g.limits.MaxBytes-g.bytes)
			return err
		case 6, 11:
			return fmt.Errorf("byte %d: %w", f.at, errDeep)
		case 7:
			return f.floats(&a.floats)
		case 8:
			return f.ints(&ints)
		case 9:
			var s string
			err = f.string(&s)
			a.names = append(a.names, s)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, i := range ints {
		if i != math.MinInt64 && i != math.MaxInt64 && (i > math.MaxInt32 || i < math.MinInt32) {
			return fmt.Errorf("byte %d: attribute %.64q: expected 32 bits, found %d", f.at, name, i)
		}
		a.ints = append(a.ints, narrow(i))
	}
	n.attributes[name] = a
	return nil
}

// constant returns the value of a Constant node.
func (n *node) constant() (*value, error) {
	if len(n.out) != 1 {
		return nil, fmt.Errorf("expected one output, found %d", len(n.out))
	}
	v := &value{fixed: true}
	for name, a := range n.attributes {
		switch name {
		case "value":
			if a.tensor != nil {
				v = a.tensor
				return v, nil
			}
		case "value_float":
			v.Type, v.F32 = engine.Float32, []float32{a.f}
			return v, nil
		case "value_floats":
			v.Type, v.F32, v.Shape = engine.Float32, a.floats, []int{len(a.floats)}
			return v, nil
		case "value_int":
			v.Type, v.I64 = engine.Int64, []int64{a.i}
			return v, nil
		case "value_ints":
			v.Type, v.Shape = engine.Int64, []int{len(a.ints)}
			for _, i := range a.ints {
				v.I64 = append(v.I64, int64(i))
			}
			return v, nil
		}
	}
	return nil, errors.New("expected a value of numbers")
}

// readPort reads a ValueInfoProto.
func readPort(f field) (*port, error) {
	p := &port{}
	var code int64
	tensor := false
	dimension := func(f field) error {
		size := int64(-1)
		err := f.message("a dimension", func(f field) error {
			if f.num == 1 {
				return f.int(&size)
			}
			return nil
		})
		if err == nil && (size < -1 || size > math.MaxInt32) {
			return fmt.Errorf("byte %d: expected a dimension of 32 bits, found %d", f.at, size)
		}
		p.Shape = append(p.Shape, int(size))
		return err
	}
	shaped := func(f field) error {
		switch f.num {
		case 1:
			return f.int(&code)
		case 2:
			return f.message("a shape", dimension)
		}
		return nil
	}
	err := f.message("an input or output", func(f field) error {
		switch f.num {
		case 1:
			return f.string(&p.Name)
		case 2:
			return f.message("a type", func(f field) error {
				if f.num != 1 {
					return nil
				}
				tensor = true
				return f.message("a tensor's type", shaped)
			})
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	if !tensor {
		return p, fmt.Errorf("byte %d: %.64q: expected a tensor: sequences and optional values are not supported", f.at, p.Name)
	}
	if p.Type, err = elementType(code); err != nil {
		return p, fmt.Errorf("byte %d: %.64q: %w", f.at, p.Name, err)
	}
	if len(p.Shape) > maxRank {
		return p, fmt.Errorf("byte %d: %.64q: %d dimensions, at most %d are supported", f.at, p.Name, len(p.Shape), maxRank)
	}
	return p, nil
}

// connect gives every value an index and checks that it is computed before it is used.
func (g *graph) connect() error {
	define := func(name string, v *value) error {
		if _, twice := g.names[name]; twice {
			return fmt.Errorf("%.64q is computed twice", name)
		}
		g.names[name] = len(g.fixed)
		g.fixed = append(g.fixed, v)
		return nil
	}
	for _, name := range g.order {
		_ = define(name, g.constants[name])
	}
	var inputs []*port // without inputs that have constants
	for _, p := range g.inputs {
		if g.constants[p.Name] != nil {
			continue
		}
		p.at = len(g.fixed)
		inputs = append(inputs, p)
		if err := define(p.Name, nil); err != nil {
			return fmt.Errorf("input: %w", err)
		}
	}
	g.inputs = inputs
	for _, n := range g.nodes {
		for i, name := range n.in {
			at, ok := g.names[name]
			if name == "" {
				at, ok = -1, true
			}
			if !ok {
				return fmt.Errorf("%s: input %d: nothing before it computes %.64q", n, i, name)
			}
			n.inputs = append(n.inputs, at)
		}
		for _, name := range n.out {
			if name == "" {
				n.outputs = append(n.outputs, -1)
				continue
			}
			if err := define(name, nil); err != nil {
				return fmt.Errorf("%s: %w", n, err)
			}
			n.outputs = append(n.outputs, g.names[name])
		}
	}
	for _, p := range g.outputs {
		at, ok := g.names[p.Name]
		if !ok {
			return fmt.Errorf("output %.64q: nothing computes it", p.Name)
		}
		p.at = at
	}
	return nil
}
