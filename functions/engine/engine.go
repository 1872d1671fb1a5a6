// Package engine describes models that a gateway can run: their inputs and outputs, and the cost of a run.
//
// An engine reads one file format: functions/engine/tflite reads TensorFlow Lite, functions/engine/onnx ONNX. It checks a file before it allocates
// memory for it, and an error names the byte and what was expected. A loaded Program is immutable and shared; a Session holds the memory of one run
// and belongs to one goroutine. A run of tflite does not allocate, and a run of onnx allocates little once its shapes are known.
//
// The packages below hold no state that outlives a Session:
//
//	kernel                    arithmetic on plain slices, shared by tflite and onnx; no state
//	tflite, onnx              reader, compiler and writer of one format each, in pure Go
//	onnxruntime               ONNX files run by the library of that name, with build tag onnxruntime; each process opens the library once
//
// In the service, only package models opens programs and sessions; the lab and the tools also do.
package engine

import (
	"fmt"
	"strings"
)

// Type is the type of a tensor's elements.
type Type uint8

// Element types of engines.
const (
	Invalid Type = iota
	Float32
	Int8
	Uint8
	Int16
	Int32
	Int64
	Bool
	Float64
	Uint16
	Uint32
	Uint64
)

var typeNames = [...]string{"invalid", "float32", "int8", "uint8", "int16", "int32", "int64", "bool", "float64", "uint16", "uint32", "uint64"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Size returns the size of an element in bytes, 0 for an unknown type.
func (t Type) Size() int {
	switch t {
	case Int8, Uint8, Bool:
		return 1
	case Int16, Uint16:
		return 2
	case Float32, Int32, Uint32:
		return 4
	case Int64, Uint64, Float64:
		return 8
	}
	return 0
}

// Spec describes a tensor. A quantised element q represents Scale·(q − Zero); Scale is 0 if the tensor is not quantised.
type Spec struct {
	Name  string  `json:"name"`
	Type  Type    `json:"-"`
	Shape []int   `json:"shape"`
	Scale float32 `json:"scale,omitempty"`
	Zero  int32   `json:"zero,omitempty"`
}

// Elements returns the number of elements, 1 for a scalar.
func (s *Spec) Elements() int { return Product(s.Shape) }

// Product returns the product of dimensions.
func Product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// MaxRank is the maximum number of dimensions of a tensor.
const MaxRank = 8

// Elements multiplies dimensions without overflow. For the limit, a dimension of 0 counts as 1, so that loops over single dimensions are bounded as well.
func Elements(shape []int, most int64) (int, error) {
	if len(shape) > MaxRank {
		return 0, fmt.Errorf("%d dimensions, at most %d are supported", len(shape), MaxRank)
	}
	n, empty := int64(1), false
	for i, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("dimension %d is %d", i, d)
		}
		span := int64(max(d, 1))
		if n > most/span {
			return 0, fmt.Errorf("shape %v has more than %d elements", shape, most)
		}
		n *= span
		empty = empty || d == 0
	}
	if empty {
		return 0, nil
	}
	return int(n), nil
}

func (s *Spec) String() string {
	dims := make([]string, len(s.Shape))
	for i, d := range s.Shape {
		dims[i] = fmt.Sprint(d)
	}
	text := fmt.Sprintf("%s %s[%s]", s.Name, s.Type, strings.Join(dims, "×"))
	if s.Scale != 0 {
		text += fmt.Sprintf(" scale=%g zero=%d", s.Scale, s.Zero)
	}
	return text
}

// Tensor is a Spec with its memory. Only the slice of its type is set; bools are bytes.
type Tensor struct {
	Spec
	F32 []float32
	I8  []int8
	U8  []uint8
	I16 []int16
	I32 []int32
	I64 []int64
	F64 []float64
	U16 []uint16
	U32 []uint32
	U64 []uint64
}

// Allocate allocates zeroed memory for all elements.
func (t *Tensor) Allocate() {
	n := t.Elements()
	switch t.Type {
	case Float32:
		t.F32 = make([]float32, n)
	case Int8:
		t.I8 = make([]int8, n)
	case Uint8, Bool:
		t.U8 = make([]uint8, n)
	case Int16:
		t.I16 = make([]int16, n)
	case Int32:
		t.I32 = make([]int32, n)
	case Int64:
		t.I64 = make([]int64, n)
	case Float64:
		t.F64 = make([]float64, n)
	case Uint16:
		t.U16 = make([]uint16, n)
	case Uint32:
		t.U32 = make([]uint32, n)
	case Uint64:
		t.U64 = make([]uint64, n)
	}
}

// Unsupported returns an error that names unsupported operators with their places, nil without any.
func Unsupported(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	const most = 10
	more := ""
	if len(missing) > most {
		more = fmt.Sprintf(" and %d more", len(missing)-most)
		missing = missing[:most]
	}
	return fmt.Errorf("not supported: %s%s", strings.Join(missing, ", "), more)
}

// Info describes a model.
type Info struct {
	Format     string   `json:"format"`     // such as "tflite"
	Inputs     []Spec   `json:"inputs"`     // in the order of Session.Inputs
	Outputs    []Spec   `json:"outputs"`    // in the order of Session.Outputs
	Operators  []string `json:"operators"`  // each kind once, in order of first use
	Parameters int      `json:"parameters"` // elements of all constants
	MACs       int64    `json:"macs"`       // multiply-accumulates of one run
	Bytes      int64    `json:"bytes"`      // memory of the program with one session
	Session    int64    `json:"session"`    // memory of each further session
}

// Program is a loaded and validated model. It is safe for concurrent use.
type Program interface {
	Info() Info
	// NewSession allocates the memory of one run.
	NewSession() (Session, error)
}

// Session runs a program. It is not safe for concurrent use. It keeps the variables of the model, such as the state of a recurrent layer, until Reset.
type Session interface {
	// Inputs must be filled before Run.
	Inputs() []*Tensor
	// Outputs hold the results until the next Run.
	Outputs() []*Tensor
	// Run computes the outputs from the inputs. The package comment describes its allocations.
	Run() error
	// Reset sets all variables of the model to their initial values.
	Reset()
}
