package tflite

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// resize returns a model that resizes a picture of 2×3 to 4×5, aligned at the corners, in float32 or int8.
func resize(kind engine.Type, aligned bool) []byte {
	tensor := func(shape ...int) object {
		o := object{0: ints(shape), 1: scalar(numberOf[kind]), 3: text("t")}
		if kind == engine.Int8 {
			o[4] = object{2: floats{1}, 3: longs{0}}
		}
		return o
	}
	size := object{0: ints{2}, 1: scalar(numberOf[engine.Int32]), 2: scalar(1), 3: text("size")}
	options := object{}
	if aligned {
		options[2] = scalar(1)
	}
	operator := object{0: scalar(0), 1: ints{0, 1}, 2: ints{2}, 3: scalar(15), 4: options}
	graph := object{0: list{tensor(1, 2, 3, 1), size, tensor(1, 4, 5, 1)}, 1: ints{0}, 2: ints{2}, 3: list{operator}, 4: text("main")}
	code := object{0: scalar(23), 2: scalar(2), 3: scalar(23)}
	return flat(object{0: scalar(3), 1: list{code}, 2: list{graph}, 3: text("test"), 4: list{object{}, object{0: blob{4, 0, 0, 0, 5, 0, 0, 0}}}})
}

// A picture that is wider than high is resized in int8 as in float32: each axis by its own lengths.
func TestPicturesOfInt8AreResizedLikeFloats(t *testing.T) {
	for _, aligned := range []bool{false, true} {
		var out [2][]float64
		for i, kind := range []engine.Type{engine.Float32, engine.Int8} {
			p, err := Load(resize(kind, aligned), Limits{})
			require.NoError(t, err)
			s, err := p.NewSession()
			require.NoError(t, err)
			for k, v := range []int8{-100, 0, 100, 60, -60, 20} {
				if kind == engine.Int8 {
					s.Inputs()[0].I8[k] = v
				} else {
					s.Inputs()[0].F32[k] = float32(v)
				}
			}
			require.NoError(t, s.Run())
			for k := range 20 {
				if kind == engine.Int8 {
					out[i] = append(out[i], float64(s.Outputs()[0].I8[k]))
				} else {
					out[i] = append(out[i], float64(s.Outputs()[0].F32[k]))
				}
			}
		}
		require.InDeltaSlice(t, out[0], out[1], 1, "aligned %v", aligned)
		if aligned {
			require.InDelta(t, 20, out[1][19], 0, "the last corner is that of the input")
		}
	}
}

// A tensor may refer to any buffer of the file, or to the first one if the file has none, and to no other.
func TestATensorNamesABufferOfTheFile(t *testing.T) {
	file := func(buffer, buffers int) []byte {
		tensor := object{0: ints{1, 2}, 1: scalar(numberOf[engine.Float32]), 2: scalar(uint32(buffer)), 3: text("t")} //nolint:gosec // small
		operator := object{0: scalar(0), 1: ints{0}, 2: ints{1}}
		graph := object{0: list{tensor, object{0: ints{1, 2}, 1: scalar(numberOf[engine.Float32]), 3: text("y")}}, 1: ints{0}, 2: ints{1}, 3: list{operator}, 4: text("main")}
		return flat(object{0: scalar(3), 1: list{object{0: scalar(19), 2: scalar(1), 3: scalar(19)}}, 2: list{graph}, 3: text("test"), 4: list(make([]object, buffers))})
	}
	for _, c := range []struct {
		buffer, buffers int
		want            string // of the error, "" for none
	}{{0, 0, ""}, {0, 1, ""}, {1, 2, ""}, {1, 1, "buffer 1 of 1"}, {2, 1, "buffer 2 of 1"}, {1, 0, "buffer 1 of 0"}} {
		_, err := Load(file(c.buffer, c.buffers), Limits{})
		if c.want == "" {
			require.NoError(t, err, "%+v", c)
		} else {
			require.ErrorContains(t, err, c.want)
		}
	}
}
