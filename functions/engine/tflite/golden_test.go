package tflite

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// recorded contains models from other projects, with the outputs of TensorFlow Lite's own interpreter. It is beside the checkout, if at all.
const recorded = "../../../../shared/data/models"

// TensorFlow Lite's own interpreter and this one give the same bits for int8, and the same numbers for float32.
func TestGolden(t *testing.T) {
	golden, err := filepath.Glob(recorded + "/*.golden.json")
	require.NoError(t, err)
	if len(golden) == 0 {
		t.Skip("the recorded models are not here")
	}
	for _, path := range golden {
		name := filepath.Base(path[:len(path)-len(".golden.json")])
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			var cases [][][]float64
			require.NoError(t, json.Unmarshal(raw, &cases))
			file, err := os.ReadFile(filepath.Join(recorded, name+".tflite"))
			require.NoError(t, err)
			p, err := Load(file, Limits{})
			require.NoError(t, err)
			s, err := p.NewSession()
			require.NoError(t, err)
			for c, outputs := range cases {
				feed(s.Inputs(), uint32(c+1))
				require.NoError(t, s.Run())
				for i, want := range outputs {
					require.Equal(t, len(want), s.Outputs()[i].Elements())
					for k, w := range want {
						if got := number(s.Outputs()[i], k); s.Outputs()[i].Type == engine.Float32 {
							require.InDelta(t, w, got, 1e-5, "case %d, output %d, value %d", c, i, k)
						} else {
							require.Equal(t, w, got, "case %d, output %d, value %d", c, i, k)
						}
					}
				}
			}
		})
	}
}

// feed fills inputs with the pseudo-random values of the golden outputs.
func feed(inputs []*engine.Tensor, seed uint32) {
	next := func() int32 {
		seed = seed*1664525 + 1013904223
		return int32(seed>>24) - 128
	}
	for _, in := range inputs {
		for i := range in.I8 {
			in.I8[i] = int8(next())
		}
		for i := range in.F32 {
			in.F32[i] = float32(next()) / 64
		}
	}
}

func number(t *engine.Tensor, i int) float64 {
	switch t.Type {
	case engine.Float32:
		return float64(t.F32[i])
	case engine.Int8:
		return float64(t.I8[i])
	case engine.Uint8:
		return float64(t.U8[i])
	case engine.Int32:
		return float64(t.I32[i])
	}
	return 0
}

func BenchmarkRecorded(b *testing.B) {
	paths, _ := filepath.Glob(recorded + "/*.tflite")
	for _, path := range paths {
		b.Run(filepath.Base(path), func(b *testing.B) {
			file, err := os.ReadFile(path)
			require.NoError(b, err)
			p, err := Load(file, Limits{})
			require.NoError(b, err)
			s, err := p.NewSession()
			require.NoError(b, err)
			feed(s.Inputs(), 1)
			b.ReportAllocs()
			b.ReportMetric(float64(p.Info().MACs), "MACs")
			for b.Loop() {
				if err := s.Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
