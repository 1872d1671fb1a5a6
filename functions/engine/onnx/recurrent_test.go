package onnx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"app-offload/functions/engine"
)

// cellCase is a random recurrent layer, with weights small enough to avoid overflow, and all numbers that its formula needs.
type cellCase struct {
	op                                          string
	direction                                   string
	directions, steps, batch, in, hidden, gates int
	layout                                      int
	clip                                        float64
	coupled, linear                             bool
	x, w, r, b, h0, c0, peep                    []float32 // b, h0, c0 and peep may be nil
	lengths                                     []int
	activations                                 []string
	alphas, betas                               []float32
}

func drawCell(r *rand.Rand, op string) (k cellCase) {
	k.op, k.gates = op, map[string]int{"RNN": 1, "GRU": 3, "LSTM": 4}[op]
	k.direction = []string{"forward", "reverse", "bidirectional"}[r.IntN(3)]
	k.directions = 1
	if k.direction == "bidirectional" {
		k.directions = 2
	}
	k.steps, k.batch, k.in, k.hidden = 1+r.IntN(5), 1+r.IntN(3), 1+r.IntN(4), 1+r.IntN(4)
	k.layout = r.IntN(2)
	if r.IntN(3) == 0 {
		k.clip = 0.4
	}
	k.coupled, k.linear = op == "LSTM" && r.IntN(3) == 0, op == "GRU" && r.IntN(2) == 0
	floats := func(n int) []float32 {
		list := make([]float32, n)
		for i := range list {
			list[i] = float32(r.NormFloat64() / 3)
		}
		return list
	}
	some := func(n int) []float32 {
		if r.IntN(2) == 0 {
			return nil
		}
		return floats(n)
	}
	n := k.gates * k.hidden
	k.x, k.w, k.r = floats(k.steps*k.batch*k.in), floats(k.directions*n*k.in), floats(k.directions*n*k.hidden)
	k.b, k.h0 = some(k.directions*2*n), some(k.directions*k.batch*k.hidden)
	if op == "LSTM" {
		k.c0, k.peep = some(k.directions*k.batch*k.hidden), some(k.directions*3*k.hidden)
	}
	if r.IntN(2) == 0 {
		for range k.batch {
			k.lengths = append(k.lengths, 1+r.IntN(k.steps))
		}
	}
	if r.IntN(2) == 0 {
		names := []string{"Sigmoid", "Tanh", "Relu", "Affine", "LeakyRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus"}
		for range k.directions * map[string]int{"RNN": 1, "GRU": 2, "LSTM": 3}[op] {
			k.activations = append(k.activations, names[r.IntN(len(names))])
			k.alphas, k.betas = append(k.alphas, 0.5+r.Float32()/2), append(k.betas, r.Float32()/2)
		}
	}
	return k
}

func (k *cellCase) curve(d, i int, x float64) float64 {
	n := map[string]int{"RNN": 1, "GRU": 2, "LSTM": 3}[k.op]
	name, alpha, beta := []string{"Sigmoid", "Tanh", "Tanh"}[i], 0.0, 0.0
	if k.op == "RNN" {
		name = "Tanh"
	}
	if k.activations != nil {
		name, alpha, beta = k.activations[d*n+i], float64(k.alphas[d*n+i]), float64(k.betas[d*n+i])
	}
	switch name {
	case "Sigmoid":
		return 1 / (1 + math.Exp(-x))
	case "Tanh":
		return math.Tanh(x)
	case "Relu":
		return max(x, 0)
	case "Affine":
		return alpha*x + beta
	case "LeakyRelu":
		return max(x, 0) + alpha*min(x, 0)
	case "ScaledTanh":
		return alpha * math.Tanh(beta*x)
	case "HardSigmoid":
		return min(max(alpha*x+beta, 0), 1)
	case "Elu":
		if x < 0 {
			return alpha * (math.Exp(x) - 1)
		}
		return x
	case "Softsign":
		return x / (1 + math.Abs(x))
	case "Softplus":
		return math.Log(1 + math.Exp(x))
	}
	panic(name)
}

// formula returns Y as steps × directions × batch × hidden, and the last states as directions × batch × hidden.
func (k *cellCase) formula() (y, lastH, lastC []float64) {
	h := k.hidden
	y = make([]float64, k.steps*k.directions*k.batch*h)
	held := func(v float64) float64 {
		if k.clip > 0 {
			return min(max(v, -k.clip), k.clip)
		}
		return v
	}
	for d := range k.directions {
		for b := range k.batch {
			state, memory := make([]float64, h), make([]float64, h)
			for i := range h {
				if k.h0 != nil {
					state[i] = float64(k.h0[k.at(d, b, k.directions, k.batch)*h+i])
				}
				if k.c0 != nil {
					memory[i] = float64(k.c0[k.at(d, b, k.directions, k.batch)*h+i])
				}
			}
			length := k.steps
			if k.lengths != nil {
				length = k.lengths[b]
			}
			for t := range length {
				at := t
				if d == 1 || k.direction == "reverse" {
					at = length - 1 - t
				}
				fromX := func(gate, i int) (v float64) {
					row := gate*h + i
					for j := range k.in {
						v += float64(k.x[k.at(at, b, k.steps, k.batch)*k.in+j]) * float64(k.w[(d*k.gates*h+row)*k.in+j])
					}
					if k.b != nil {
						v += float64(k.b[d*2*k.gates*h+row])
					}
					return v
				}
				fromH := func(gate, i int, state []float64) (v float64) {
					row := gate*h + i
					for j := range h {
						v += state[j] * float64(k.r[(d*k.gates*h+row)*h+j])
					}
					if k.b != nil {
						v += float64(k.b[d*2*k.gates*h+k.gates*h+row])
					}
					return v
				}
				next := make([]float64, h)
				switch k.op {
				case "RNN":
					for i := range h {
						next[i] = k.curve(d, 0, held(fromX(0, i)+fromH(0, i, state)))
					}
				case "GRU":
					z, reset, scaled := make([]float64, h), make([]float64, h), make([]float64, h)
					for i := range h {
						z[i] = k.curve(d, 0, held(fromX(0, i)+fromH(0, i, state)))
						reset[i] = k.curve(d, 0, held(fromX(1, i)+fromH(1, i, state)))
						scaled[i] = reset[i] * state[i]
					}
					for i := range h {
						again := fromH(2, i, scaled)
						if k.linear {
							again = reset[i] * fromH(2, i, state)
						}
						next[i] = (1-z[i])*k.curve(d, 1, held(fromX(2, i)+again)) + z[i]*state[i]
					}
				case "LSTM":
					peep := func(gate, i int) float64 {
						if k.peep == nil {
							return 0
						}
						return float64(k.peep[d*3*h+gate*h+i])
					}
					for i := range h {
						in := k.curve(d, 0, held(fromX(0, i)+fromH(0, i, state)+peep(0, i)*memory[i]))
						forget := k.curve(d, 0, held(fromX(2, i)+fromH(2, i, state)+peep(2, i)*memory[i]))
						if k.coupled {
							forget = 1 - in
						}
						fresh := k.curve(d, 1, held(fromX(3, i)+fromH(3, i, state)))
						memory[i] = forget*memory[i] + in*fresh
						out := k.curve(d, 0, held(fromX(1, i)+fromH(1, i, state)+peep(1, i)*memory[i]))
						next[i] = out * k.curve(d, 2, memory[i])
					}
				}
				state = next
				copy(y[((at*k.directions+d)*k.batch+b)*h:], state)
			}
			lastH, lastC = append(lastH, state...), append(lastC, memory...)
		}
	}
	return y, lastH, lastC
}

// at returns the place of two indices in the layout of the case.
func (k *cellCase) at(first, batch, firsts, batches int) int {
	if k.layout == 1 {
		return batch*firsts + first
	}
	return first*batches + batch
}

func (k *cellCase) model() []byte {
	var node, graph, opset, model writer
	for _, name := range []string{"x", "w", "r"} {
		node.text(1, name)
	}
	graph.bytes(5, constantBytes("w", k.w, int64(k.directions), int64(k.gates*k.hidden), int64(k.in)))
	graph.bytes(5, constantBytes("r", k.r, int64(k.directions), int64(k.gates*k.hidden), int64(k.hidden)))
	optional := func(name string, data []float32, dims ...int64) {
		if data == nil {
			node.text(1, "")
			return
		}
		node.text(1, name)
		graph.bytes(5, constantBytes(name, data, dims...))
	}
	first, second := int64(k.directions), int64(k.batch)
	if k.layout == 1 {
		first, second = second, first
	}
	optional("b", k.b, int64(k.directions), int64(2*k.gates*k.hidden))
	if k.lengths == nil {
		node.text(1, "")
	} else {
		var raw []byte
		for _, n := range k.lengths {
			raw = append(raw, byte(n), 0, 0, 0)
		}
		node.text(1, "lengths")
		graph.bytes(5, rawConstant("lengths", 6, raw, int64(k.batch)))
	}
	optional("h0", k.h0, first, second, int64(k.hidden))
	outputs := []string{"y", "yh"}
	if k.op == "LSTM" {
		optional("c0", k.c0, first, second, int64(k.hidden))
		optional("peep", k.peep, int64(k.directions), int64(3*k.hidden))
		outputs = append(outputs, "yc")
	}
	for _, name := range outputs {
		node.text(2, name)
		graph.bytes(12, portBytes(name))
	}
	node.text(4, k.op)
	attribute := func(name string, fill func(a *writer)) {
		var a writer
		a.text(1, name)
		fill(&a)
		node.bytes(5, a)
	}
	number := func(name string, v int) { attribute(name, func(a *writer) { a.number(3, int64(v)) }) }
	number("hidden_size", k.hidden)
	number("layout", k.layout)
	attribute("direction", func(a *writer) { a.text(4, k.direction) })
	if k.coupled {
		number("input_forget", 1)
	}
	if k.linear {
		number("linear_before_reset", 1)
	}
	if k.clip > 0 {
		attribute("clip", func(a *writer) {
			*a = protowire.AppendFixed32(protowire.AppendTag(*a, 2, protowire.Fixed32Type), math.Float32bits(float32(k.clip)))
		})
	}
	if k.activations != nil {
		attribute("activations", func(a *writer) {
			for _, name := range k.activations {
				a.text(9, name)
			}
		})
		for name, list := range map[string][]float32{"activation_alpha": k.alphas, "activation_beta": k.betas} {
			attribute(name, func(a *writer) {
				for _, v := range list {
					*a = protowire.AppendFixed32(protowire.AppendTag(*a, 7, protowire.Fixed32Type), math.Float32bits(v))
				}
			})
		}
	}
	shape := []int64{int64(k.steps), int64(k.batch)}
	if k.layout == 1 {
		shape[0], shape[1] = shape[1], shape[0]
	}
	graph.bytes(11, portBytes("x", shape[0], shape[1], int64(k.in)))
	graph.bytes(1, node)
	opset.number(2, 17)
	model.bytes(8, opset)
	model.bytes(7, graph)
	return model
}

// LSTM, GRU and RNN equal the formulas of the ONNX specification for any direction, layout, initial state, length, peephole, clip and activation.
func TestRecurrentLayersAreTheirFormulas(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for _, op := range []string{"RNN", "GRU", "LSTM"} {
		for range 120 {
			k := drawCell(r, op)
			y, h, c := k.formula()
			p, err := Load(k.model(), Limits{})
			require.NoError(t, err, "%+v", k)
			require.EqualValues(t, k.directions*k.steps*k.batch*k.gates*k.hidden*(k.in+k.hidden), p.Info().MACs)
			s, err := p.NewSession()
			require.NoError(t, err)
			for range 2 { // the second run must not depend on the first
				copy(s.Inputs()[0].F32, k.x)
				require.NoError(t, s.Run())
				outs := s.Outputs()
				steps, batch := k.steps, k.batch
				near := func(want []float64, got *engine.Tensor, place func(i int) int) {
					require.Len(t, got.F32, len(want))
					for i, w := range want {
						require.InDelta(t, w, got.F32[place(i)], 1e-4*(1+math.Abs(w)), "%s, element %d of %+v", op, i, k)
					}
				}
				near(y, outs[0], func(i int) int {
					if k.layout == 0 {
						return i
					}
					e, b, d, step := i%k.hidden, i/k.hidden%batch, i/k.hidden/batch%k.directions, i/k.hidden/batch/k.directions
					return ((b*steps+step)*k.directions+d)*k.hidden + e
				})
				last := func(i int) int {
					return k.at(i/k.hidden/batch, i/k.hidden%batch, k.directions, batch)*k.hidden + i%k.hidden
				}
				near(h, outs[1], last)
				if op == "LSTM" {
					near(c, outs[2], last)
				}
			}
		}
	}
}

// Each field of a file has a form in the wire format: another form is an error that names the byte, the field and the message.
func TestFieldsHaveTheirForm(t *testing.T) {
	within := func(parts ...protowire.Number) func(b []byte) []byte {
		return func(b []byte) []byte {
			for i := len(parts) - 1; i >= 0; i-- {
				var w writer
				w.bytes(parts[i], b)
				b = w
			}
			return b
		}
	}
	number, fixed, wide := []byte{5}, []byte{1, 2, 3, 4}, []byte{1, 2, 3, 4, 5, 6, 7, 8}
	forms := map[protowire.Type][]byte{protowire.VarintType: number, protowire.Fixed32Type: fixed, protowire.Fixed64Type: wide, protowire.BytesType: {1, 0xff}}
	for _, c := range []struct {
		what   string
		in     func(b []byte) []byte
		fields map[protowire.Number][]protowire.Type // the allowed forms of each field
	}{
		{"the model", within(), map[protowire.Number][]protowire.Type{7: {2}, 8: {2}}},
		{"an operator set", within(8), map[protowire.Number][]protowire.Type{1: {2}, 2: {0}}},
		{"the graph", within(7), map[protowire.Number][]protowire.Type{1: {2}, 5: {2}, 11: {2}, 12: {2}}},
		{"a node", within(7, 1), map[protowire.Number][]protowire.Type{1: {2}, 2: {2}, 3: {2}, 4: {2}, 5: {2}, 7: {2}}},
		{"an attribute", within(7, 1, 5), map[protowire.Number][]protowire.Type{1: {2}, 2: {5}, 3: {0}, 4: {2}, 5: {2}, 7: {2, 5}, 8: {0, 2}, 9: {2}}},
		{"a tensor", within(7, 5), map[protowire.Number][]protowire.Type{1: {0, 2}, 2: {0}, 4: {5, 2}, 5: {0, 2}, 7: {0, 2}, 8: {2}, 10: {1, 2}, 11: {0, 2}, 14: {0}}},
		{"an input or output", within(7, 11), map[protowire.Number][]protowire.Type{1: {2}, 2: {2}}},
		{"a type", within(7, 11, 2), map[protowire.Number][]protowire.Type{1: {2}}},
		{"a tensor's type", within(7, 11, 2, 1), map[protowire.Number][]protowire.Type{1: {0}, 2: {2}}},
		{"a shape", within(7, 11, 2, 1, 2), map[protowire.Number][]protowire.Type{1: {2}}},
		{"a dimension", within(7, 11, 2, 1, 2, 1), map[protowire.Number][]protowire.Type{1: {0}}},
	} {
		for field, may := range c.fields {
			for form, data := range forms {
				file := c.in(append(protowire.AppendTag(nil, field, form), data...))
				_, err := read(file, Limits{}.orDefault())
				text := fmt.Sprint(err)
				want := fmt.Sprintf("field %d of %s: expected ", field, c.what)
				for _, ok := range may {
					if ok == form {
						want = ""
					}
				}
				if want == "" {
					require.NotContains(t, text, "found wire type", "field %d of %s as %d", field, c.what, form)
				} else if c.what != "a shape" || field != 1 {
					require.Contains(t, text, want, "form %d", form)
					require.Regexp(t, `byte \d+: `, text)
				}
			}
			for _, form := range may { // truncated
				full := append(protowire.AppendTag(nil, field, form), forms[form]...)
				for n := 1; n < len(full); n++ {
					_, err := read(c.in(full[:n]), Limits{}.orDefault())
					require.Error(t, err, "%d bytes of field %d of %s", n, field, c.what)
					require.Regexp(t, `byte \d+: expected `, err.Error())
				}
			}
		}
	}
	for name, list := range map[string][]byte{"floats": {1, 2, 3}, "doubles": {1, 2, 3, 4}, "ints": {0x80}} {
		var tensor writer
		tensor.bytes(map[string]protowire.Number{"floats": 4, "doubles": 10, "ints": 7}[name], list)
		_, err := readTensor(field{kind: protowire.BytesType, b: tensor, at: 100}, 1<<20)
		require.ErrorContains(t, err, "byte 102: ", name)
	}
}

// A graph's statements about its values are checked before anything runs.
func TestGraphsAreChecked(t *testing.T) {
	load := func(parts func(graph, model *writer)) error {
		var graph, model writer
		parts(&graph, &model)
		model.bytes(7, graph)
		_, err := Load(model, Limits{})
		return err
	}
	relu := func(in, out string) []byte { return nodeBytes("Relu", []string{in}, out) }
	attributed := func(fill func(a *writer)) []byte {
		node := writer(relu("x", "y"))
		var a writer
		a.text(1, "a")
		fill(&a)
		node.bytes(5, a)
		return node
	}
	constant := func(name string, fill func(a *writer), outs ...string) []byte {
		var node, a writer
		for _, out := range outs {
			node.text(2, out)
		}
		node.text(4, "Constant")
		a.text(1, name)
		fill(&a)
		node.bytes(5, a)
		return node
	}
	x, y := portBytes("x", 2, 2), portBytes("y", 2, 2)
	for want, parts := range map[string]func(graph, model *writer){
		"a second graph": func(_, model *writer) { model.bytes(7, nil) },
		"functions of the model's own are not supported": func(_, model *writer) { model.bytes(25, nil) },
		"sparse constants are not supported":             func(graph, _ *writer) { graph.bytes(15, nil) },
		`a second constant "w"`: func(graph, _ *writer) {
			graph.bytes(5, constantBytes("w", []float32{1}, 1))
			graph.bytes(5, constantBytes("w", []float32{1}, 1))
		},
		`"x" is computed twice`: func(graph, _ *writer) { graph.bytes(11, x); graph.bytes(11, x) },
		`node 1 "the Relu" (Relu): "y" is computed twice`: func(graph, _ *writer) {
			graph.bytes(11, x)
			graph.bytes(1, relu("x", "y"))
			graph.bytes(1, relu("x", "y"))
		},
		`node 0 "the Relu" (Relu): input 0: nothing before it computes "z"`: func(graph, _ *writer) { graph.bytes(1, relu("z", "y")) },
		`output "y": nothing computes it`:                                   func(graph, _ *writer) { graph.bytes(12, y) },
		"attribute \"a\": expected 32 bits, found 2147483648":               func(graph, _ *writer) { graph.bytes(1, attributed(func(a *writer) { a.number(8, 1<<31) })) },
		"attribute \"a\": expected 32 bits, found -2147483649":              func(graph, _ *writer) { graph.bytes(1, attributed(func(a *writer) { a.number(8, -1<<31-1) })) },
		"graphs within graphs are not supported":                            func(graph, _ *writer) { graph.bytes(1, attributed(func(a *writer) { a.bytes(6, nil) })) },
		"byte 33: graphs within graphs are not supported":                   func(graph, _ *writer) { graph.bytes(1, attributed(func(a *writer) { a.bytes(11, nil) })) },
		"expected one output, found 2": func(graph, _ *writer) {
			graph.bytes(1, constant("value_int", func(a *writer) { a.number(3, 1) }, "a", "b"))
		},
		"expected one output, found 0": func(graph, _ *writer) { graph.bytes(1, constant("value_int", func(a *writer) { a.number(3, 1) })) },
		"expected a value of numbers": func(graph, _ *writer) {
			graph.bytes(1, constant("value_string", func(a *writer) { a.text(4, "s") }, "a"))
		},
		"elements of type string are not supported":             func(graph, _ *writer) { graph.bytes(11, typedPort("x", 8, 1)) },
		"elements of type float16 are not supported":            func(graph, _ *writer) { graph.bytes(11, typedPort("x", 10, 1)) },
		"elements of type 99 are not supported":                 func(graph, _ *writer) { graph.bytes(11, typedPort("x", 99, 1)) },
		`"x": 9 dimensions, at most 8 are supported`:            func(graph, _ *writer) { graph.bytes(11, typedPort("x", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)) },
		`"x": expected a tensor: sequences and optional values`: func(graph, _ *writer) { var p writer; p.text(1, "x"); graph.bytes(11, p) },
		"expected a dimension of 32 bits, found 2147483648":     func(graph, _ *writer) { graph.bytes(11, typedPort("x", 1, 1<<31)) },
		"its data are in another file": func(graph, _ *writer) {
			w := writer(constantBytes("w", []float32{1}, 1))
			w.number(14, 1)
			graph.bytes(5, w)
		},
		`not supported: com.other.Relu (node 0)`: func(graph, _ *writer) {
			n := writer(relu("x", "y"))
			n.text(7, "com.other")
			graph.bytes(11, x)
			graph.bytes(1, n)
		},
	} {
		require.ErrorContains(t, load(parts), want)
	}
	for name, parts := range map[string]func(graph, model *writer){
		"the usual domain by its name": func(graph, _ *writer) { n := writer(relu("x", "y")); n.text(7, "ai.onnx"); graph.bytes(1, n) },
		"attributes of 32 bits and without bound": func(graph, _ *writer) {
			graph.bytes(1, attributed(func(a *writer) {
				for _, v := range []int64{1<<31 - 1, -1 << 31, math.MaxInt64, math.MinInt64} {
					a.number(8, v)
				}
			}))
		},
		"an input that a constant fills": func(graph, _ *writer) {
			graph.bytes(5, constantBytes("w", []float32{1}, 1))
			graph.bytes(11, portBytes("w", 1))
			graph.bytes(1, relu("w", "y"))
		},
	} {
		require.NoError(t, load(func(graph, model *writer) {
			graph.bytes(11, x)
			graph.bytes(12, y)
			parts(graph, model)
		}), name)
	}
	for name, c := range map[string]struct {
		fill func(a *writer)
		want engine.Tensor
	}{
		"value_int":    {func(a *writer) { a.number(3, 7) }, engine.Tensor{Spec: engine.Spec{Type: engine.Int64}, I64: []int64{7}}},
		"value_ints":   {func(a *writer) { a.number(8, 7); a.number(8, -8) }, engine.Tensor{Spec: engine.Spec{Type: engine.Int64, Shape: []int{2}}, I64: []int64{7, -8}}},
		"value_float":  {func(a *writer) { *a = append(*a, 0x15, 0, 0, 0x80, 0x3f) }, engine.Tensor{Spec: engine.Spec{Type: engine.Float32}, F32: []float32{1}}},
		"value_floats": {func(a *writer) { a.bytes(7, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}) }, engine.Tensor{Spec: engine.Spec{Type: engine.Float32, Shape: []int{2}}, F32: []float32{1, 2}}},
		"value":        {func(a *writer) { a.bytes(5, constantBytes("", []float32{3}, 1, 1)) }, engine.Tensor{Spec: engine.Spec{Type: engine.Float32, Shape: []int{1, 1}}, F32: []float32{3}}},
	} {
		var graph, model writer
		graph.bytes(1, constant(name, c.fill, "w"))
		model.bytes(7, graph)
		g, err := read(model, Limits{}.orDefault())
		require.NoError(t, err, name)
		require.Equal(t, c.want, g.constants["w"].Tensor, name)
		require.Equal(t, c.want.Elements(), g.parameters)
		require.EqualValues(t, c.want.Elements()*c.want.Type.Size(), g.bytes)
	}
}

// A file may reach its limits, but not exceed them.
func TestLimitsAreTheMostThatAFileMayHave(t *testing.T) {
	_, err := Load(dense(), Limits{MaxNodes: 4})
	require.ErrorContains(t, err, "more than 4 nodes")
	_, err = Load(dense(), Limits{MaxNodes: 5})
	require.NoError(t, err)
	p, err := Load(dense(), Limits{})
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	require.NoError(t, s.Run())
	p.limits.MaxMACs = 4*8 + 8*3
	require.NoError(t, s.Run())
	p.limits.MaxMACs--
	require.ErrorContains(t, s.Run(), errMACs.Error())
	require.Equal(t, Limits{256 << 20, 20_000, 1e12}, Limits{}.orDefault())
}

// Inspect distinguishes a model with operators that this reader lacks from one that has only known operators and cannot run.
func TestInspect(t *testing.T) {
	info, known, err := Inspect(dense(), Limits{})
	require.NoError(t, err)
	require.True(t, known)
	p, err := Load(dense(), Limits{})
	require.NoError(t, err)
	require.Equal(t, p.Info(), info)

	var graph, model writer
	graph.bytes(1, nodeBytes("Frob", []string{"x", "w"}, "y"))
	graph.bytes(5, constantBytes("w", make([]float32, 6), 2, 3))
	graph.bytes(11, portBytes("x", -1, 4))
	graph.bytes(12, portBytes("y", 1, 4))
	model.bytes(7, graph)
	info, known, err = Inspect(model, Limits{})
	require.NoError(t, err)
	require.False(t, known)
	require.Equal(t, []string{"Frob"}, info.Operators)
	require.Equal(t, 6, info.Parameters)
	require.EqualValues(t, 6*4+4*4, info.Bytes, "the constant, and the input with one row")
	require.EqualValues(t, 4*4, info.Session)
	require.Zero(t, info.MACs)
	_, _, err = Inspect(model, Limits{MaxBytes: 39})
	require.ErrorContains(t, err, `preparing an ONNX model: input "x"`)

	graph = nil
	graph.bytes(1, nodeBytes("MatMul", []string{"x", "w"}, "y"))
	graph.bytes(5, constantBytes("w", make([]float32, 6), 2, 3))
	graph.bytes(11, portBytes("x", 1, 4))
	model = nil
	model.bytes(7, graph)
	_, known, err = Inspect(model, Limits{})
	require.ErrorContains(t, err, "do not fit")
	require.True(t, known)
	_, known, err = Inspect([]byte("GGUF"), Limits{})
	require.ErrorContains(t, err, "reading an ONNX model")
	require.False(t, known)
}
