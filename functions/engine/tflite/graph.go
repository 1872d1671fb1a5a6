package tflite

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"app-offload/functions/engine"
)

// Limits bound the resources of a model.
type Limits struct {
	MaxBytes    int64 // memory of all tensors of a session and all constants, 256 MiB if 0
	MaxTensors  int   // 20,000 if 0
	MaxOperator int   // operators of all subgraphs, 20,000 if 0
	MaxWork     int64 // multiply-accumulates and steps of pools in one run, 10¹² if 0
}

func (l Limits) orDefault() Limits {
	return Limits{cmp.Or(l.MaxBytes, 256<<20), cmp.Or(l.MaxTensors, 20_000), cmp.Or(l.MaxOperator, 20_000), cmp.Or(l.MaxWork, 1e12)}
}

// tensor is a tensor in the file.
type tensor struct {
	engine.Spec
	constant engine.Tensor // with memory if the file has the data
	fixed    bool          // constant is set
	scales   []float32     // one for each channel along axis, or a single one
	axis     int
	variable bool
}

// operator is one step in the file.
type operator struct {
	code                           int
	name                           string
	inputs, outputs, intermediates []int // indices of tensors, -1 for an absent optional input
	options                        table
}

type subgraph struct {
	tensors         []tensor
	inputs, outputs []int
	operators       []operator
}

type graph struct {
	r          *reader // operators read their options when they are compiled
	subgraphs  []*subgraph
	parameters int
	bytes      int64 // of constants
}

var typeOf = map[int]engine.Type{0: engine.Float32, 2: engine.Int32, 3: engine.Uint8, 4: engine.Int64, 6: engine.Bool, 7: engine.Int16, 9: engine.Int8}

const (
	typeResource = 13 // handle of a variable, without data
	typeFloat16  = 1
)

// read reads the structure of a file. Operators are checked when a session is compiled.
func read(b []byte, limits Limits) (*graph, error) {
	if len(b) < 8 || string(b[4:8]) != "TFL3" {
		return nil, fmt.Errorf("byte 4: expected the mark \"TFL3\" of a TensorFlow Lite model, found %q", b[min(4, len(b)):min(8, len(b))])
	}
	r := &reader{b: b}
	model := r.table(r.follow(0, "the model"), "the model")
	if v := model.int32(0, 0); v != 3 && r.err == nil {
		return nil, fmt.Errorf("schema version %d, this reader knows version 3", v)
	}
	g := &graph{r: r}
	codes := model.tables(1, "the operator codes")
	buffers := model.tables(4, "the buffers")
	total := 0
	for _, t := range model.tables(2, "the subgraphs") {
		s, err := g.readSubgraph(t, codes, buffers, limits)
		if err := errors.Join(r.err, err); err != nil {
			return nil, err
		}
		total += len(s.operators)
		if total > limits.MaxOperator {
			return nil, fmt.Errorf("more than %d operators", limits.MaxOperator)
		}
		g.subgraphs = append(g.subgraphs, s)
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(g.subgraphs) == 0 {
		return nil, errors.New("the model has no subgraph")
	}
	return g, nil
}

func (g *graph) readSubgraph(t table, codes, buffers []table, limits Limits) (*subgraph, error) {
	s := &subgraph{inputs: t.int32s(1, "the inputs"), outputs: t.int32s(2, "the outputs")}
	tensors := t.tables(0, "the tensors")
	if len(tensors) > limits.MaxTensors {
		return nil, fmt.Errorf("%d tensors, at most %d are allowed", len(tensors), limits.MaxTensors)
	}
	for i, tt := range tensors {
		one, err := g.readTensor(tt, buffers, limits)
		if err != nil {
			return nil, fmt.Errorf("tensor %d: %w", i, err)
		}
		s.tensors = append(s.tensors, one)
	}
	for i, ot := range t.tables(3, "the operators") {
		op := operator{inputs: ot.int32s(1, "an operator's inputs"), outputs: ot.int32s(2, "an operator's outputs"), options: ot.sub(4, "an operator's options"), intermediates: ot.int32s(8, "an operator's intermediates")}
		at := ot.int32(0, 0)
		if at < 0 || at >= len(codes) {
			return nil, fmt.Errorf("operator %d: code %d of %d", i, at, len(codes))
		}
		op.code = max(codes[at].int8(0), codes[at].int32(3, 0))
		op.name = nameOf(op.code)
		if custom := codes[at].string(1, "a custom operator's name"); custom != "" {
			op.name = fmt.Sprintf("%s %.64q", op.name, custom)
		}
		if err := op.check(len(s.tensors)); err != nil {
			return nil, fmt.Errorf("operator %d (%s): %w", i, op.name, err)
		}
		s.operators = append(s.operators, op)
	}
	for _, list := range [][]int{s.inputs, s.outputs} {
		for _, at := range list {
			if at < 0 || at >= len(s.tensors) {
				return nil, fmt.Errorf("the subgraph names tensor %d of %d", at, len(s.tensors))
			}
		}
	}
	return s, nil
}

func nameOf(code int) string {
	if b, ok := builders[code]; ok {
		return b.name
	}
	if code == codeCustom {
		return "CUSTOM"
	}
	return fmt.Sprintf("operator code %d", code)
}

func (op *operator) check(tensors int) error {
	for _, list := range [][]int{op.inputs, op.outputs, op.intermediates} {
		for _, at := range list {
			if at < -1 || at >= tensors {
				return fmt.Errorf("it names tensor %d of %d", at, tensors)
			}
		}
	}
	return nil
}

func (g *graph) readTensor(t table, buffers []table, limits Limits) (tensor, error) {
	one := tensor{variable: t.bool(5)}
	one.Name = t.string(3, "a tensor's name")
	one.Shape = t.int32s(0, "a tensor's shape")
	code := t.int8(1)
	if code == typeResource {
		one.Type, one.Shape = engine.Invalid, nil
		return one, nil
	}
	var known bool
	if one.Type, known = typeOf[code]; !known && code != typeFloat16 {
		return one, fmt.Errorf("%.64q has element type %d, which is not supported", one.Name, code)
	}
	for i, d := range one.Shape { // unknown dimensions count as 1, as in TensorFlow Lite's converter
		if d == -1 {
			one.Shape[i] = 1
		}
	}
	n, err := engine.Elements(one.Shape, limits.MaxBytes)
	if err != nil {
		return one, fmt.Errorf("%.64q: %w", one.Name, err)
	}
	one.quantization(t.sub(4, "a tensor's quantization"))
	at := t.int32(2, 0)
	if at < 0 || at >= len(buffers) && at != 0 {
		return one, fmt.Errorf("%.64q: buffer %d of %d", one.Name, at, len(buffers))
	}
	if at == 0 || !buffers[at].has(0) {
		if code == typeFloat16 {
			return one, fmt.Errorf("%.64q: float16 is supported in constants only", one.Name)
		}
		return one, t.r.err
	}
	data := buffers[at].bytes(0, "a buffer")
	if len(data) == 0 && n != 0 {
		return one, t.r.err // an empty buffer means no data
	}
	if code == typeFloat16 {
		one.Type = engine.Float32
		data, err = widen(data)
		if err != nil {
			return one, err
		}
	}
	if len(data) != n*one.Type.Size() {
		return one, fmt.Errorf("%.64q: %s%v needs %d bytes, its buffer has %d", one.Name, one.Type, one.Shape, n*one.Type.Size(), len(data))
	}
	g.parameters += n
	if g.bytes += int64(len(data)); g.bytes > limits.MaxBytes {
		return one, fmt.Errorf("constants take more than %d bytes", limits.MaxBytes)
	}
	one.fixed = true
	one.constant.Spec = one.Spec
	one.constant.Allocate()
	decode(&one.constant, data)
	return one, nil
}

// quantization reads scales and zero points. A tensor quantised by channel has many scales and zero points of 0.
func (t *tensor) quantization(q table) {
	t.scales = q.float32s(2, "scales")
	zeros := q.int64s(3, "zero points")
	t.axis = q.int32(6, 0)
	for i, s := range t.scales {
		if !(s > 0) || math.IsInf(float64(s), 0) {
			q.r.fail(q.at, "scale %d of tensor %.64q is %g", i, t.Name, s)
		}
	}
	if len(t.scales) > 0 {
		t.Scale = t.scales[0]
	}
	if len(zeros) > 0 {
		if zeros[0] < math.MinInt32 || zeros[0] > math.MaxInt32 {
			q.r.fail(q.at, "the zero point of tensor %.64q is %d", t.Name, zeros[0])
			return
		}
		t.Zero = int32(zeros[0])
	}
}

// decode fills the one slice that the tensor has.
func decode(t *engine.Tensor, data []byte) {
	for _, list := range []any{t.F32, t.I8, t.U8, t.I16, t.I32, t.I64} {
		_, _ = binary.Decode(data, binary.LittleEndian, list)
	}
}

// widen converts float16 to the bytes of float32.
func widen(half []byte) ([]byte, error) {
	if len(half)%2 != 0 {
		return nil, fmt.Errorf("a float16 buffer has %d bytes", len(half))
	}
	out := make([]byte, 0, 2*len(half))
	for i := 0; i < len(half); i += 2 {
		h := uint32(binary.LittleEndian.Uint16(half[i:]))
		sign, exponent, fraction := h>>15<<31, h>>10&31, h&0x3ff
		var bits uint32
		switch {
		case exponent == 31:
			bits = sign | 0xff<<23 | fraction<<13
		case exponent != 0:
			bits = sign | (exponent+112)<<23 | fraction<<13
		default:
			bits = sign | math.Float32bits(float32(fraction)/(1<<24))
		}
		out = binary.LittleEndian.AppendUint32(out, bits)
	}
	return out, nil
}
