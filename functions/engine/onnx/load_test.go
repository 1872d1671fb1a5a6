package onnx

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"app-offload/functions/engine"
)

// writer writes protobuf's wire format.
type writer []byte

func (w *writer) number(field protowire.Number, v int64) {
	*w = protowire.AppendVarint(protowire.AppendTag(*w, field, protowire.VarintType), uint64(v))
}

func (w *writer) bytes(field protowire.Number, b []byte) {
	*w = protowire.AppendBytes(protowire.AppendTag(*w, field, protowire.BytesType), b)
}

func (w *writer) text(field protowire.Number, s string) { w.bytes(field, []byte(s)) }

func portBytes(name string, dims ...int64) []byte { return typedPort(name, 1, dims...) }

func typedPort(name string, code int64, dims ...int64) []byte {
	var shape, tensor, kind, port writer
	for _, d := range dims {
		var dim writer
		if d >= 0 {
			dim.number(1, d)
		} else {
			dim.text(2, "n")
		}
		shape.bytes(1, dim)
	}
	tensor.number(1, code)
	tensor.bytes(2, shape)
	kind.bytes(1, tensor)
	port.text(1, name)
	port.bytes(2, kind)
	return port
}

func constantBytes(name string, values []float32, dims ...int64) []byte {
	var w writer
	for _, d := range dims {
		w.number(1, d)
	}
	w.number(2, 1)
	for _, v := range values {
		w = protowire.AppendFixed32(protowire.AppendTag(w, 4, protowire.Fixed32Type), math.Float32bits(v))
	}
	w.text(8, name)
	return w
}

func nodeBytes(op string, in []string, out string) []byte {
	var w writer
	for _, name := range in {
		w.text(1, name)
	}
	w.text(2, out)
	w.text(3, "the "+op)
	w.text(4, op)
	return w
}

// dense returns Softmax(Relu(x·w1 + b1)·w2) for any number of rows.
func dense() []byte {
	w1, w2 := make([]float32, 4*8), make([]float32, 8*3)
	for i := range w1 {
		w1[i] = float32(i%7)/7 - 0.4
	}
	for i := range w2 {
		w2[i] = float32(i%5)/5 - 0.3
	}
	var graph, opset, model writer
	graph.bytes(1, nodeBytes("MatMul", []string{"x", "w1"}, "a"))
	graph.bytes(1, nodeBytes("Add", []string{"a", "b1"}, "b"))
	graph.bytes(1, nodeBytes("Relu", []string{"b"}, "c"))
	graph.bytes(1, nodeBytes("MatMul", []string{"c", "w2"}, "d"))
	graph.bytes(1, nodeBytes("Softmax", []string{"d"}, "y"))
	graph.bytes(5, constantBytes("w1", w1, 4, 8))
	graph.bytes(5, constantBytes("b1", w1[:8], 8))
	graph.bytes(5, constantBytes("w2", w2, 8, 3))
	graph.bytes(11, portBytes("x", -1, 4))
	graph.bytes(12, portBytes("y", -1, 3))
	opset.number(2, 17)
	model.number(1, 8)
	model.bytes(8, opset)
	model.bytes(7, graph)
	return model
}

func loaded(t testing.TB) (*Program, engine.Session) {
	p, err := Load(dense(), Limits{})
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	return p, s
}

// Info is complete before a run.
func TestInfo(t *testing.T) {
	p, _ := loaded(t)
	info := p.Info()
	require.Equal(t, []string{"MatMul", "Add", "Relu", "Softmax"}, info.Operators)
	require.Equal(t, 4*8+8+8*3, info.Parameters)
	require.EqualValues(t, 4*8+8*3, info.MACs)
	require.Equal(t, []int{-1, 4}, info.Inputs[0].Shape)

	w := &Writer{}
	x := w.Input("x", 2, 3)
	w.Output(w.Node("Gemm", []string{x, w.Floats("w", make([]float32, 12), 3, 4)}, "y"), 2, 4)
	file, err := w.Bytes()
	require.NoError(t, err)
	p, err = Load(file, Limits{})
	require.NoError(t, err)
	require.EqualValues(t, 2*3*4, p.Info().MACs)
}

// A session accepts another number of rows, and the result of each row is that of the row alone.
func TestShapesMayChange(t *testing.T) {
	_, s := loaded(t)
	rows := [][]float32{{1, 2, 3, 4}, {-1, 0.5, 0, 2}, {0, 0, 0, 1}}
	var alone, all []float32
	for _, row := range rows {
		copy(s.Inputs()[0].F32, row)
		require.NoError(t, s.Run())
		alone = append(alone, s.Outputs()[0].F32...)
		all = append(all, row...)
	}
	s.Inputs()[0].Shape = []int{3, 4}
	s.Inputs()[0].Allocate()
	copy(s.Inputs()[0].F32, all)
	require.NoError(t, s.Run())
	require.Equal(t, []int{3, 3}, s.Outputs()[0].Shape)
	require.Equal(t, alone, s.Outputs()[0].F32)
	s.Inputs()[0].Shape = []int{4, 3}
	require.ErrorContains(t, s.Run(), "expected x float32[-1×4], found x float32[4×3]")
	s.Inputs()[0].Shape = []int{5, 4}
	require.ErrorContains(t, s.Run(), "shape [5 4] does not fit its 12 elements")
}

// A run with the shapes of the previous run does not allocate.
func TestARunAllocatesNothing(t *testing.T) {
	_, s := loaded(t)
	require.NoError(t, s.Run())
	require.Zero(t, testing.AllocsPerRun(10, func() { _ = s.Run() }))
}

// Sessions of one program run concurrently.
func TestSessionsAreIndependent(t *testing.T) {
	p, _ := loaded(t)
	var all sync.WaitGroup
	results := make([][]float32, 8)
	for i := range results {
		all.Go(func() {
			s, err := p.NewSession()
			if err != nil {
				return
			}
			copy(s.Inputs()[0].F32, []float32{1, 2, 3, 4})
			for range 20 {
				_ = s.Run()
			}
			results[i] = s.Outputs()[0].F32
		})
	}
	all.Wait()
	for _, r := range results {
		require.Len(t, r, 3)
		require.Equal(t, results[0], r)
	}
}

// A file truncated anywhere causes an error that names the byte or the missing part.
func TestDamagedFilesGetAnError(t *testing.T) {
	file := dense()
	for n := range file {
		_, err := Load(file[:n], Limits{})
		require.Error(t, err, "the first %d of %d bytes", n, len(file))
	}
	_, err := Load(file[:len(file)-1], Limits{})
	require.ErrorContains(t, err, "byte 6: expected the value of field 7 of the model")
	_, err = Load([]byte("GGUF0000"), Limits{})
	require.ErrorContains(t, err, "byte 0")
	_, err = Load(nil, Limits{})
	require.ErrorContains(t, err, "it has no graph")
}

// All unsupported parts are named before anything runs.
func TestMissingOperatorsAreNamed(t *testing.T) {
	var graph, model writer
	graph.bytes(1, nodeBytes("Frob", []string{"x"}, "a"))
	graph.bytes(1, nodeBytes("Relu", []string{"a"}, "b"))
	graph.bytes(1, nodeBytes("Twist", []string{"b"}, "y"))
	graph.bytes(11, portBytes("x", 1, 4))
	graph.bytes(12, portBytes("y", 1, 4))
	model.bytes(7, graph)
	_, err := Load(model, Limits{})
	require.ErrorContains(t, err, "not supported: Frob (node 0), Twist (node 2)")
}

// A shape that promises more than the file has, or more than is allowed, is rejected before memory is allocated.
func TestMemoryIsBounded(t *testing.T) {
	for want, dims := range map[string][]int64{
		"needs 1000000 elements, the file has 1":  {1000, 1000},
		"more than":                               {1 << 20, 1 << 20},
		"expected dimensions within 0":            {1 << 62},
		"needs 0 elements, the file has 1":        {0, 4},
		"9 dimensions, at most 8 are supported":   {1, 1, 1, 1, 1, 1, 1, 1, 1},
		"expected dimensions within 0 and 268435": {-1},
	} {
		var graph, model writer
		graph.bytes(5, constantBytes("w", []float32{1}, dims...))
		model.bytes(7, graph)
		_, err := Load(model, Limits{})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, `tensor "w"`)
	}
	var graph, model writer
	graph.bytes(1, nodeBytes("Relu", []string{"x"}, "y"))
	graph.bytes(11, portBytes("x", 1<<20, 1<<20))
	model.bytes(7, graph)
	_, err := Load(model, Limits{})
	require.ErrorContains(t, err, "elements")
	_, err = Load(dense(), Limits{MaxMACs: 50})
	require.NoError(t, err, "unknown shapes may fail later")
}

// The limit is for all constants of a file together.
func TestConstantsShareTheLimit(t *testing.T) {
	var graph, model writer
	for _, name := range []string{"w1", "w2", "w3"} {
		graph.bytes(5, constantBytes(name, make([]float32, 10), 10))
	}
	model.bytes(7, graph)
	for limit, refused := range map[int64]string{39: "w1", 79: "w2", 119: "w3"} {
		_, err := Load(model, Limits{MaxBytes: limit})
		require.ErrorContains(t, err, fmt.Sprintf("tensor %q", refused))
	}
	_, err := Load(model, Limits{MaxBytes: 120})
	require.NotContains(t, fmt.Sprint(err), "tensor")
}

// A tensor with lists of several types uses the list of its own type.
func TestATensorTakesTheListOfItsType(t *testing.T) {
	raw := writer(constantBytes("w", []float32{1, 2}, 2))
	raw.number(5, 7)
	raw.number(7, 8)
	raw.number(7, 9)
	v, err := readTensor(field{kind: protowire.BytesType, b: raw}, 1<<20)
	require.NoError(t, err)
	require.Equal(t, []float32{1, 2}, v.F32)
	raw.number(2, 7) // the last type counts
	v, err = readTensor(field{kind: protowire.BytesType, b: raw}, 1<<20)
	require.NoError(t, err)
	require.Equal(t, []int64{8, 9}, v.I64)
}

// Numbers of 64 bits in a list are read consecutively.
func TestAListOfDoubles(t *testing.T) {
	var raw, list writer
	for _, v := range []float64{1.5, -2, 3} {
		list = protowire.AppendFixed64(list, math.Float64bits(v))
	}
	raw.number(1, 3)
	raw.number(2, 11)
	raw.bytes(10, list)
	v, err := readTensor(field{kind: protowire.BytesType, b: raw}, 1<<20)
	require.NoError(t, err)
	require.Equal(t, []float64{1.5, -2, 3}, v.F64)
}

// Inputs that do not fit are an error of the node that they reach.
func TestAMisfitNamesItsNode(t *testing.T) {
	var graph, model writer
	graph.bytes(1, nodeBytes("MatMul", []string{"x", "w"}, "y"))
	graph.bytes(5, constantBytes("w", make([]float32, 6), 2, 3))
	graph.bytes(11, portBytes("x", 1, 4))
	graph.bytes(12, portBytes("y", 1, 3))
	model.bytes(7, graph)
	_, err := Load(model, Limits{})
	require.ErrorContains(t, err, `node 0 "the MatMul" (MatMul): x float32[1×4] and w float32[2×3] do not fit`)
}

// Reading any file neither panics nor allocates more memory than allowed, and a model that loads also runs.
func FuzzLoad(f *testing.F) {
	f.Add(dense())
	paths, _ := filepath.Glob(official + "/*/*/model.onnx")
	for i, path := range paths {
		if file, err := os.ReadFile(path); err == nil && i%5 == 0 && len(file) < 2<<10 {
			f.Add(file)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := Load(file, Limits{MaxBytes: 1 << 20, MaxNodes: 200, MaxMACs: 1e7})
		if err != nil {
			return
		}
		s, err := p.NewSession()
		require.NoError(t, err)
		for range 2 {
			if s.Run() != nil { // data may not fit, which is only an error
				return
			}
		}
	})
}
