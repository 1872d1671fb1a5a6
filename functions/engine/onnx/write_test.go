package onnx

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A written network can be read, and gives the right results.
func TestWrittenModelsAreRead(t *testing.T) {
	make := func() ([]byte, error) {
		w := &Writer{}
		x := w.Input("x", 1, 1, 2, 3)
		x = w.Node("Conv", []string{x, w.Floats("w", []float32{1, 2}, 1, 1, 1, 2), w.Floats("b", []float32{-8}, 1)}, "conv", Attribute{Name: "strides", Ints: []int64{1, 1}})
		x = w.Node("Relu", []string{x}, "relu")
		x = w.Node("Flatten", []string{x}, "flat", Attribute{Name: "axis", Int: 1})
		x = w.Node("Gemm", []string{x, w.Floats("d", []float32{1, 1, 1, 1, 0, 0, 0, 1}, 2, 4)}, "y", Attribute{Name: "transB", Int: 1})
		w.Output(x, 1, 2)
		return w.Bytes()
	}
	file, err := make()
	require.NoError(t, err)
	again, err := make()
	require.NoError(t, err)
	require.Equal(t, file, again)
	p, err := Load(file, Limits{})
	require.NoError(t, err)
	require.Equal(t, []string{"Conv", "Relu", "Flatten", "Gemm"}, p.Info().Operators)
	s, err := p.NewSession()
	require.NoError(t, err)
	copy(s.Inputs()[0].F32, []float32{1, 2, 3, 4, 5, 6})
	require.NoError(t, s.Run())
	require.Equal(t, []float32{0 + 0 + 6 + 9, 9}, s.Outputs()[0].F32, "1·4+2·5−8 and 1·5+2·6−8; the first row is below 0 after the bias")
}

// An invalid model is not written.
func TestAWriterRefusesWhatCannotRun(t *testing.T) {
	w := &Writer{}
	_, err := w.Bytes()
	require.ErrorContains(t, err, "no inputs")
	w = &Writer{}
	w.Output(w.Node("Relu", []string{"z"}, "y"), 1)
	_, err = w.Bytes()
	require.ErrorContains(t, err, `takes "z"`)
	w = &Writer{}
	w.Floats("w", []float32{1}, 2)
	_, err = w.Bytes()
	require.ErrorContains(t, err, "1 elements for the shape [2]")
	w = &Writer{}
	w.Input("x", 1)
	w.Output(w.Node("Relu", []string{"x"}, "x"), 1)
	_, err = w.Bytes()
	require.ErrorContains(t, err, "two values")
	w = &Writer{}
	w.Input("x", 2)
	w.Output(w.Node("Frob", []string{"x"}, "y"), 2)
	_, err = w.Bytes()
	require.ErrorContains(t, err, "Frob")
}
