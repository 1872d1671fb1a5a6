package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Writer writes an ONNX model of float32 layers: nodes in the order in which they run, each with one output. Bytes returns the first error. The
// numbers of the fields are those of onnx.proto; the operator set is 13.
type Writer struct {
	nodes, constants, inputs, outputs [][]byte
	names                             map[string]bool
	err                               error
}

// Attribute is a parameter of a node: a list of integers, or a single integer if Ints is nil.
type Attribute struct {
	Name string
	Int  int64
	Ints []int64
}

const (
	writtenVersion = 7 // of the format
	writtenOpset   = 13
)

// Input declares an input with its shape, and returns its name.
func (w *Writer) Input(name string, shape ...int) string {
	w.declare(name)
	w.inputs = append(w.inputs, boundary(name, shape))
	return name
}

// Output declares a value as an output of the given shape.
func (w *Writer) Output(name string, shape ...int) {
	w.outputs = append(w.outputs, boundary(name, shape))
}

// Floats adds a constant and returns its name.
func (w *Writer) Floats(name string, data []float32, shape ...int) string {
	w.declare(name)
	n := 1
	var b []byte
	for _, d := range shape {
		n *= d
		b = appendNumber(b, 1, uint64(d)) //nolint:gosec // a size
	}
	if n != len(data) && w.err == nil {
		w.err = fmt.Errorf("constant %.64q has %d elements for the shape %v", name, len(data), shape)
	}
	raw := make([]byte, 0, 4*len(data))
	for _, v := range data {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	b = appendNumber(b, 2, 1) // float32
	b = appendPart(b, 8, []byte(name))
	w.constants = append(w.constants, appendPart(b, 9, raw))
	return name
}

// Node adds a node and returns the name of its output.
func (w *Writer) Node(kind string, inputs []string, output string, attributes ...Attribute) string {
	for _, name := range inputs {
		if !w.names[name] && w.err == nil {
			w.err = fmt.Errorf("node %d (%s) takes %.64q, which is not defined before it", len(w.nodes), kind, name)
		}
	}
	w.declare(output)
	var b []byte
	for _, name := range inputs {
		b = appendPart(b, 1, []byte(name))
	}
	b = appendPart(b, 2, []byte(output))
	b = appendPart(b, 3, []byte(output))
	b = appendPart(b, 4, []byte(kind))
	for _, a := range attributes {
		b = appendPart(b, 5, a.bytes())
	}
	w.nodes = append(w.nodes, b)
	return output
}

func (a *Attribute) bytes() []byte {
	b := appendPart(nil, 1, []byte(a.Name))
	if a.Ints == nil {
		return appendNumber(appendNumber(b, 3, uint64(a.Int)), 20, 2) //nolint:gosec // the bits
	}
	for _, v := range a.Ints {
		b = appendNumber(b, 8, uint64(v)) //nolint:gosec // the bits
	}
	return appendNumber(b, 20, 7)
}

// declare registers a name, which must be new.
func (w *Writer) declare(name string) {
	if w.names == nil {
		w.names = map[string]bool{}
	}
	if w.names[name] && w.err == nil {
		w.err = fmt.Errorf("two values have the name %.64q", name)
	}
	w.names[name] = true
}

// Bytes returns the file. It loads the file first, so that an invalid model is not written.
func (w *Writer) Bytes() ([]byte, error) {
	if w.err == nil && (len(w.inputs) == 0 || len(w.outputs) == 0) {
		w.err = errors.New("it has no inputs or no outputs")
	}
	if w.err != nil {
		return nil, fmt.Errorf("writing an ONNX model: %w", w.err)
	}
	var graph []byte
	for _, list := range []struct {
		field protowire.Number
		of    [][]byte
	}{{1, w.nodes}, {5, w.constants}, {11, w.inputs}, {12, w.outputs}} {
		for _, b := range list.of {
			graph = appendPart(graph, list.field, b)
		}
	}
	graph = appendPart(graph, 2, []byte("main"))
	file := appendNumber(nil, 1, writtenVersion)
	file = appendPart(file, 2, []byte("app-offload"))
	file = appendPart(file, 7, graph)
	file = appendPart(file, 8, appendNumber(appendPart(nil, 1, nil), 2, writtenOpset))
	if _, err := Load(file, Limits{}); err != nil {
		return nil, fmt.Errorf("writing an ONNX model: %w", err)
	}
	return file, nil
}

// boundary describes an input or output of float32.
func boundary(name string, shape []int) []byte {
	var dims []byte
	for _, d := range shape {
		dims = appendPart(dims, 1, appendNumber(nil, 1, uint64(d))) //nolint:gosec // a size
	}
	tensor := appendPart(appendNumber(nil, 1, 1), 2, dims)
	return appendPart(appendPart(nil, 1, []byte(name)), 2, appendPart(nil, 1, tensor))
}

func appendNumber(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendPart(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}
