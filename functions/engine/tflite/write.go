package tflite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"app-offload/functions/engine"
)

// Writer writes a TensorFlow Lite model: tensors first, then operators in the order in which they run. Bytes returns the first error.
type Writer struct {
	tensors         []written
	operators       []step
	inputs, outputs []int
	err             error
}

// written is a tensor to be written.
type written struct {
	engine.Spec
	data   []byte // nil if it is computed
	scales []float32
	axis   int
}

// step is an operator to be written.
type step struct {
	code            int
	inputs, outputs []int
	options         Options
}

// Padding is the handling of windows at the edge of an image.
type Padding uint32

// Paddings, by their numbers in the schema.
const (
	Same Padding = iota
	Valid
)

// Activation is fused into a layer.
type Activation uint32

// Activations, by their numbers in the schema.
const (
	NoActivation Activation = iota
	Relu
	ReluN1
	Relu6
)

// Options are the parameters of an operator; each kind uses its own. Strides, Dilate and Filter are height and width; 0 means 1.
type Options struct {
	Padding    Padding
	Activation Activation
	Stride     [2]int
	Dilate     [2]int
	Filter     [2]int // of pools
	Beta       float32
	KeepDims   bool
	Shape      []int // of RESHAPE
}

// Tensor adds a tensor that is an input or is computed, and returns its index. Elements of float32 have a scale of 0.
func (w *Writer) Tensor(spec engine.Spec) int {
	one := written{Spec: spec}
	if spec.Scale != 0 {
		one.scales = []float32{spec.Scale}
	}
	return w.add(one)
}

func (w *Writer) add(one written) int {
	if _, err := engine.Elements(one.Shape, math.MaxInt32); err != nil {
		w.fail("tensor %.64q: %w", one.Name, err)
	}
	w.tensors = append(w.tensors, one)
	return len(w.tensors) - 1
}

func (w *Writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("writing a TensorFlow Lite model: "+format, args...)
	}
}

// Floats adds a constant of float32.
func (w *Writer) Floats(name string, data []float32, shape ...int) int {
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return w.constant(written{Spec: engine.Spec{Name: name, Type: engine.Float32, Shape: shape}, data: raw}, len(data))
}

// Int8s adds quantised weights with a zero point of 0, and either one scale or one for each index of an axis.
func (w *Writer) Int8s(name string, data []int8, scales []float32, axis int, shape ...int) int {
	raw := make([]byte, len(data))
	for i, v := range data {
		raw[i] = byte(v) //nolint:gosec // the bits of an int8
	}
	return w.constant(written{Spec: engine.Spec{Name: name, Type: engine.Int8, Shape: shape}, data: raw, scales: scales, axis: axis}, len(data))
}

// Int32s adds integers: a bias with scales, or a shape without scales.
func (w *Writer) Int32s(name string, data []int32, scales []float32, shape ...int) int {
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(v)) //nolint:gosec // the bits of an int32
	}
	return w.constant(written{Spec: engine.Spec{Name: name, Type: engine.Int32, Shape: shape}, data: raw, scales: scales}, len(data))
}

func (w *Writer) constant(one written, n int) int {
	if one.Elements() != n {
		w.fail("constant %.64q has %d elements for the shape %v", one.Name, n, one.Shape)
	}
	if len(one.scales) > 1 && (one.axis < 0 || one.axis >= len(one.Shape) || one.Shape[one.axis] != len(one.scales)) {
		w.fail("constant %.64q has %d scales for axis %d of %v", one.Name, len(one.scales), one.axis, one.Shape)
	}
	return w.add(one)
}

// Operator adds an operator by the name of its kind, such as CONV_2D. An input of -1 is absent.
func (w *Writer) Operator(name string, o Options, inputs []int, outputs ...int) {
	for code, b := range builders {
		if b.name != name {
			continue
		}
		for _, list := range [][]int{inputs, outputs} {
			for _, at := range list {
				if at < -1 || at >= len(w.tensors) {
					w.fail("operator %d (%s) names tensor %d of %d", len(w.operators), name, at, len(w.tensors))
				}
			}
		}
		w.operators = append(w.operators, step{code, inputs, outputs, o})
		return
	}
	w.fail("operator %d: %.64q is not supported", len(w.operators), name)
}

// Ends sets the model's inputs and outputs.
func (w *Writer) Ends(inputs, outputs []int) { w.inputs, w.outputs = inputs, outputs }

// Bytes returns the file. It loads the file first, so that an invalid model is not written.
func (w *Writer) Bytes() ([]byte, error) {
	if len(w.inputs) == 0 || len(w.outputs) == 0 {
		w.fail("%w", errors.New("it has no inputs or no outputs"))
	}
	if w.err != nil {
		return nil, w.err
	}
	file := w.file()
	if _, err := Load(file, Limits{}); err != nil {
		return nil, fmt.Errorf("writing a TensorFlow Lite model: %w", err)
	}
	return file, nil
}

// numberOf maps element types to their numbers in the schema.
var numberOf = map[engine.Type]uint32{engine.Float32: 0, engine.Int32: 2, engine.Uint8: 3, engine.Int64: 4, engine.Bool: 6, engine.Int16: 7, engine.Int8: 9}

func (w *Writer) file() []byte {
	var codes []int
	places := map[int]uint32{}
	var operators, kinds, tensors, buffers []object
	buffers = append(buffers, object{}) // the first buffer means no data
	for _, s := range w.operators {
		if _, ok := places[s.code]; !ok {
			places[s.code] = uint32(len(codes)) //nolint:gosec // few
			codes = append(codes, s.code)
			kinds = append(kinds, object{0: scalar(uint32(s.code)), 2: scalar(w.version(s)), 3: scalar(uint32(s.code))}) //nolint:gosec // below 2⁸
		}
		kind, options := w.table(s)
		o := object{0: scalar(places[s.code]), 1: ints(s.inputs), 2: ints(s.outputs)}
		if kind != 0 {
			o[3], o[4] = scalar(kind), options
		}
		operators = append(operators, o)
	}
	for _, t := range w.tensors {
		o := object{0: ints(t.Shape), 1: scalar(numberOf[t.Type]), 3: text(t.Name)}
		if t.data != nil {
			o[2] = scalar(uint32(len(buffers))) //nolint:gosec // few
			buffers = append(buffers, object{0: blob(t.data)})
		}
		if len(t.scales) > 0 {
			zeros := make([]int64, len(t.scales))
			for i := range zeros {
				zeros[i] = int64(t.Zero)
			}
			o[4] = object{2: floats(t.scales), 3: longs(zeros), 6: scalar(uint32(t.axis))} //nolint:gosec // checked
		}
		tensors = append(tensors, o)
	}
	graph := object{0: list(tensors), 1: ints(w.inputs), 2: ints(w.outputs), 3: list(operators), 4: text("main")}
	return flat(object{0: scalar(3), 1: list(kinds), 2: list([]object{graph}), 3: text("app-offload"), 4: list(buffers)})
}

// version returns the operator's first version with int8 tensors.
func (w *Writer) version(s step) uint32 {
	if len(s.inputs) == 0 || s.inputs[0] < 0 || w.tensors[s.inputs[0]].Type != engine.Int8 {
		return 1
	}
	switch builders[s.code].name {
	case "CONV_2D", "DEPTHWISE_CONV_2D":
		return 3
	case "FULLY_CONNECTED":
		return 4
	case "RESHAPE", "QUANTIZE":
		return 1
	}
	return 2
}

// multiplier returns the number of filters for each input channel of a depthwise convolution.
func (w *Writer) multiplier(s step) scalar {
	in, out := w.channels(s.inputs), w.channels(s.outputs)
	return scalar(out / max(in, 1)) //nolint:gosec // positive
}

// channels returns the number of channels of the first tensor of a list.
func (w *Writer) channels(list []int) int {
	if len(list) == 0 || list[0] < 0 || len(w.tensors[list[0]].Shape) == 0 {
		return 0
	}
	shape := w.tensors[list[0]].Shape
	return shape[len(shape)-1]
}

// table returns the options of an operator, with the number of their kind in the schema.
func (w *Writer) table(s step) (uint32, object) {
	o := &s.options
	one := func(v int) scalar { return scalar(max(v, 1)) } //nolint:gosec // small
	pad, act := scalar(o.Padding), scalar(o.Activation)
	switch builders[s.code].name {
	case "CONV_2D":
		return 1, object{0: pad, 1: one(o.Stride[1]), 2: one(o.Stride[0]), 3: act, 4: one(o.Dilate[1]), 5: one(o.Dilate[0])}
	case "DEPTHWISE_CONV_2D":
		return 2, object{0: pad, 1: one(o.Stride[1]), 2: one(o.Stride[0]), 3: w.multiplier(s), 4: act, 5: one(o.Dilate[1]), 6: one(o.Dilate[0])}
	case "MAX_POOL_2D", "AVERAGE_POOL_2D":
		return 5, object{0: pad, 1: one(o.Stride[1]), 2: one(o.Stride[0]), 3: one(o.Filter[1]), 4: one(o.Filter[0]), 5: act}
	case "FULLY_CONNECTED":
		return 8, object{0: act}
	case "SOFTMAX":
		beta := o.Beta
		if beta == 0 {
			beta = 1
		}
		return 9, object{0: scalar(math.Float32bits(beta))}
	case "ADD":
		return 11, object{0: act}
	case "RESHAPE":
		return 17, object{0: ints(o.Shape)}
	case "MUL":
		return 21, object{0: act}
	case "MEAN", "SUM", "REDUCE_MAX":
		keep := scalar(0)
		if o.KeepDims {
			keep = 1
		}
		return 27, object{0: keep}
	case "SUB":
		return 28, object{0: act}
	}
	return 0, nil
}
