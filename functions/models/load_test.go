//go:build !onnxruntime

package models

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine/onnxruntime"
)

// A build without ONNX Runtime rejects models that need it, with advice.
func TestABuildWithoutONNXRuntimeSaysSo(t *testing.T) {
	dir := t.TempDir()
	file := made(t, 4, 1)
	put(t, dir, describe(t, "a", "1", file, func(m *Manifest) { m.Engine = ONNXRuntime }), file)
	s := open(t, dir)
	_, err := s.Model("a").Run(t.Context(), numbers("[1,2,3,4]"))
	require.ErrorContains(t, err, "no ONNX Runtime")
	require.Contains(t, status(t, s, "a").Problem, "full image")
}

// The engine of a manifest is used, except for ONNX models that the configuration assigns to ONNX Runtime.
func TestWhichEngineComputesAModel(t *testing.T) {
	for _, one := range []struct{ manifest, configured, want string }{
		{ONNX, "", ONNX},
		{ONNX, "other, a", ONNXRuntime},
		{ONNX, "other", ONNX},
		{ONNX, "*", ONNXRuntime},
		{TFLite, "*", TFLite},
		{ONNXRuntime, "", ONNXRuntime},
	} {
		m := &Manifest{Name: "a", Engine: one.manifest}
		require.Equal(t, one.want, engineFor(m, onnxruntime.Config{Models: one.configured}), "%+v", one)
	}
}
