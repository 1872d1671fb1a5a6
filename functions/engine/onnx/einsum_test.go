package onnx

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// sumOf runs an Einsum of x, which is 1, 2, 3, …, and w.
func sumOf(t *testing.T, equation string, x, w []int64, weights ...float32) *engine.Tensor {
	node := writer(nodeBytes("Einsum", []string{"x", "w"}, "y"))
	var a, graph, opset, model writer
	a.text(1, "equation")
	a.text(4, equation)
	node.bytes(5, a)
	graph.bytes(1, node)
	graph.bytes(5, constantBytes("w", weights, w...))
	graph.bytes(11, portBytes("x", x...))
	graph.bytes(12, portBytes("y", -1, -1))
	opset.number(2, 17)
	model.bytes(8, opset)
	model.bytes(7, graph)
	p, err := Load(model, Limits{})
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	for i := range s.Inputs()[0].F32 {
		s.Inputs()[0].F32[i] = float32(i + 1)
	}
	require.NoError(t, s.Run())
	require.Zero(t, testing.AllocsPerRun(10, func() { _ = s.Run() }))
	return s.Outputs()[0]
}

// An axis of length 1 is broadcast to that of another input, in any order of the inputs.
func TestEinsumBroadcastsAxesOfLengthOne(t *testing.T) {
	y := sumOf(t, "ab,bc->ac", []int64{2, 1}, []int64{3, 2}, 1, 2, 3, 4, 5, 6)
	require.Equal(t, []int{2, 2}, y.Shape)
	require.Equal(t, []float32{9, 12, 18, 24}, y.F32, "x[a]·Σ w[b, c]")
	y = sumOf(t, "ab,bc->ac", []int64{2, 3}, []int64{1, 2}, 10, 1)
	require.Equal(t, []int{2, 2}, y.Shape)
	require.Equal(t, []float32{60, 6, 150, 15}, y.F32, "Σ x[a, b]·w[c]")
	y = sumOf(t, "ab,ab->ab", []int64{1, 2}, []int64{3, 1}, 1, 2, 3)
	require.Equal(t, []int{3, 2}, y.Shape)
	require.Equal(t, []float32{1, 2, 2, 4, 3, 6}, y.F32)
	y = sumOf(t, "ab,bc->ac", []int64{2, 2}, []int64{2, 2}, 1, 2, 3, 4)
	require.Equal(t, []float32{7, 10, 15, 22}, y.F32)
}
