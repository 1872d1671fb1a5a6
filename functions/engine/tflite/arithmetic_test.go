package tflite

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// Quantised arithmetic is that of the represented numbers, rounded to the output's scale. A tensor of int8 without a scale contains plain integers.
func TestArithmeticOfInt8IsThatOfItsNumbers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for name, f := range map[string]func(x, y float64) float64{
		"ADD": func(x, y float64) float64 { return x + y },
		"SUB": func(x, y float64) float64 { return x - y },
		"MUL": func(x, y float64) float64 { return x * y },
	} {
		for _, plain := range []bool{false, true} {
			for range 20 {
				spec := func(name string) engine.Spec {
					s := engine.Spec{Name: name, Type: engine.Int8, Shape: []int{1, 64}}
					if !plain {
						s.Scale, s.Zero = 0.02+0.03*r.Float32(), int32(r.IntN(21)-10)
					}
					return s
				}
				for _, activation := range []Activation{NoActivation, Relu} {
					w := &Writer{}
					a, b, y := w.Tensor(spec("a")), w.Tensor(spec("b")), w.Tensor(spec("y"))
					w.Operator(name, Options{Activation: activation}, []int{a, b}, y)
					w.Ends([]int{a, b}, []int{y})
					file, err := w.Bytes()
					require.NoError(t, err)
					p, err := Load(file, Limits{})
					require.NoError(t, err)
					s, err := p.NewSession()
					require.NoError(t, err)
					in, out := s.Inputs(), s.Outputs()[0]
					copy(in[0].I8, draws8(r, 64))
					copy(in[1].I8, draws8(r, 64))
					require.NoError(t, s.Run())
					for i := range out.I8 {
						want := f(value8(in[0], i), value8(in[1], i))
						if activation == Relu {
							want = max(want, 0)
						}
						want = min(max(want/scale8(out)+float64(out.Zero), -128), 127)
						require.LessOrEqual(t, math.Abs(want-float64(out.I8[i])), 0.51, "%s, element %d of %v, %v and %v", name, i, in[0].Spec, in[1].Spec, out.Spec)
					}
				}
			}
		}
	}
}

func scale8(t *engine.Tensor) float64 {
	if t.Scale == 0 {
		return 1
	}
	return float64(t.Scale)
}

func value8(t *engine.Tensor, i int) float64 { return scale8(t) * float64(int32(t.I8[i])-t.Zero) }

// Padding surrounds the input in every dimension.
func TestPaddingSurroundsTheInput(t *testing.T) {
	w := &Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{2, 2}})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{4, 5}})
	w.Operator("PAD", Options{}, []int{x, w.Int32s("pads", []int32{1, 1, 2, 1}, nil, 2, 2)}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	require.NoError(t, err)
	p, err := Load(file, Limits{})
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	copy(s.Inputs()[0].F32, []float32{1, 2, 3, 4})
	require.NoError(t, s.Run())
	require.Equal(t, []float32{0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0}, s.Outputs()[0].F32)
}
