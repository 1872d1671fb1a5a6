package onnx

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// single returns a model of one node with input x, constants and attributes of numbers.
func single(op string, x []int64, constants [][]byte, names []string, attributes map[string][]int64) []byte {
	node := writer(nodeBytes(op, append([]string{"x"}, names...), "y"))
	for name, list := range attributes {
		var a writer
		a.text(1, name)
		for _, v := range list {
			a.number(8, v)
		}
		a.number(20, 7)
		node.bytes(5, a)
	}
	var graph, opset, model writer
	graph.bytes(1, node)
	for _, c := range constants {
		graph.bytes(5, c)
	}
	graph.bytes(11, portBytes("x", x...))
	graph.bytes(12, portBytes("y"))
	opset.number(2, 17)
	model.bytes(8, opset)
	model.bytes(7, graph)
	return model
}

func wholeBytes(name string, values []int64, dims ...int64) []byte {
	var w writer
	for _, d := range dims {
		w.number(1, d)
	}
	w.number(2, 7)
	for _, v := range values {
		w.number(7, v)
	}
	w.text(8, name)
	return w
}

// A loss needs a batch and classes: a single axis is an error of the node.
func TestALossNeedsTwoAxes(t *testing.T) {
	for _, op := range []string{"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"} {
		p, err := Load(single(op, []int64{3}, [][]byte{wholeBytes("labels", []int64{1}, 1)}, []string{"labels"}, nil), Limits{})
		if err == nil { // a vector may be a shape, so Load does not require its run to succeed
			s, err := p.NewSession()
			require.NoError(t, err)
			err = s.Run()
			require.ErrorContains(t, err, "expected 2 to", op)
			continue
		}
		require.ErrorContains(t, err, "expected 2 to", op)
	}
}

// MaxUnpool's natural size is that of a pool's input: strides, kernel and both pads of an axis count.
func TestMaxUnpoolTakesPadsIntoAccount(t *testing.T) {
	p, err := Load(single("MaxUnpool", []int64{1, 1, 2, 2}, [][]byte{wholeBytes("at", []int64{0, 2, 7, 11}, 1, 1, 2, 2)}, []string{"at"}, map[string][]int64{
		"kernel_shape": {3, 3}, "strides": {2, 1}, "pads": {1, 0, 0, 1},
	}), Limits{})
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	copy(s.Inputs()[0].F32, []float32{1, 2, 3, 4})
	require.NoError(t, s.Run())
	y := s.Outputs()[0]
	require.Equal(t, []int{1, 1, (2-1)*2 + 3 - 1, (2-1)*1 + 3 - 1}, y.Shape)
	require.Equal(t, []float32{1, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 4}, y.F32)
}

// The classes are the second axis: each position of the axes after it has a target of its own.
func TestALossHasATargetForEachPosition(t *testing.T) {
	labels := wholeBytes("labels", []int64{0, 1, 0, 1, 1, 0}, 2, 3)
	p, err := Load(single("NegativeLogLikelihoodLoss", []int64{2, 2, 3}, [][]byte{labels}, []string{"labels"}, nil), Limits{})
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	copy(s.Inputs()[0].F32, []float32{-1, -2, -3, -4, -5, -6, -10, -20, -30, -40, -50, -60})
	require.NoError(t, s.Run())
	require.Equal(t, []float32{(1 + 5 + 3 + 40 + 50 + 30) / 6.}, s.Outputs()[0].F32)
}
