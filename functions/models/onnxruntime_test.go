//go:build onnxruntime

package models

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"app-offload/functions/engine/onnx"
	"app-offload/functions/engine/onnxruntime"
)

// A model configured for ONNX Runtime gives the same answers as the Go engine, and the status names the engine.
func TestONNXRuntimeComputesTheModelsOfAStore(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Dir, cfg.Variant = "../../res/models", Cloud
	library := os.Getenv("OFFLOAD_ONNXRUNTIME")
	require.NotEmpty(t, library, ".ci/onnxruntime/fetch prints it")
	values := make([]int, 512)
	for i := range values {
		values[i] = i * i % 17
	}
	signal := numbers(strings.ReplaceAll(fmt.Sprint(values), " ", ","))
	signal.Readings[0].Resource = "Acceleration"
	answers := map[string]Answer{}
	for _, which := range []string{"", "bearing", "*"} {
		cfg.Runtime = onnxruntime.Config{Library: library, Threads: 2, Models: which}
		look, err := LookAt(cfg)
		require.NoError(t, err)
		want := ONNX
		if which != "" {
			want = ONNXRuntime
		}
		for _, r := range look.Reports() {
			if r.Name == "bearing" && r.Variant == Cloud {
				require.Empty(t, r.Problem)
				require.Equal(t, want, r.Engine)
			}
		}
		a, err := look.Ask("bearing", Cloud, signal)
		require.NoError(t, err)
		answers[which] = a
		require.NoError(t, look.Close())
	}
	for _, which := range []string{"bearing", "*"} {
		require.Equal(t, answers[""].Label, answers[which].Label)
		require.InDeltaSlice(t, answers[""].Scores, answers[which].Scores, 1e-4)
	}
}

// constant returns a model that answers v to any input of four numbers.
func constant(t *testing.T, v float32) []byte {
	w := &onnx.Writer{}
	w.Output(w.Node("Gemm", []string{w.Input("x", 1, 4), w.Floats("w", make([]float32, 4), 4, 1), w.Floats("b", []float32{v}, 1)}, "y"), 1, 1)
	file, err := w.Bytes()
	require.NoError(t, err)
	return file
}

// A store evicts such models for each other and swaps versions while they are in use. Once closed, it holds nothing.
func TestONNXRuntimeModelsAreEvictedAndSwapped(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"a", "b"} {
		file := constant(t, float32(i+1))
		put(t, dir, describe(t, name, "1", file, func(m *Manifest) { m.Engine, m.Memory = ONNXRuntime, 700<<10 }), file)
	}
	s := open(t, dir, func(c *Config) {
		c.MemoryMiB, c.Sessions, c.Runtime.Library = 1, 2, os.Getenv("OFFLOAD_ONNXRUNTIME")
	})
	require.Equal(t, ONNXRuntime, status(t, s, "a").Engine)
	var all sync.WaitGroup
	for i, name := range []string{"a", "b", "a", "b"} {
		all.Go(func() {
			for range 50 {
				a, err := s.Model(name).Run(t.Context(), numbers("[1,2,3,4]"))
				if assert.NoError(t, err) {
					assert.Contains(t, [][]float64{{float64(i%2 + 1)}, {7}}, a.Values)
				}
			}
		})
	}
	file := constant(t, 7)
	put(t, dir, describe(t, "a", "2", file, func(m *Manifest) { m.Engine, m.Memory = ONNXRuntime, 700<<10 }), file)
	require.NoError(t, s.Scan(t.Context()))
	all.Wait()
	require.Equal(t, 7., value(t, s, "a"))
	require.Positive(t, s.Counts().Swaps)
	require.NoError(t, s.Close(t.Context()))
	require.Zero(t, s.Counts().Used)
}
