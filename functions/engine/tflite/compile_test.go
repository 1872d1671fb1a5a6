package tflite

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// An absent field has its default value, whatever bytes the file begins with.
func TestAbsentFieldsHaveTheirDefault(t *testing.T) {
	r := &reader{b: flat(object{1: scalar(math.Float32bits(1.5)), 3: scalar(7), 5: ints{1, 2}})}
	require.NotZero(t, binary.LittleEndian.Uint32(r.b), "the first bytes are no default by chance")
	root := r.table(r.follow(0, "the root"), "the root")
	require.InDelta(t, 1.5, root.float32(1), 0)
	require.Equal(t, 7, root.int32(3, -9))
	require.Equal(t, 7, root.int8(3))
	require.Equal(t, []int{1, 2}, root.int32s(5, "a list"))
	for _, absent := range []int{0, 2, 4, 6, 99} { // within the table of fields and beyond it
		require.Zero(t, root.float32(absent), "field %d", absent)
		require.Equal(t, -9, root.int32(absent, -9), "field %d", absent)
		require.Zero(t, root.int8(absent), "field %d", absent)
		require.Empty(t, root.int32s(absent, "a list"), "field %d", absent)
		require.False(t, root.has(absent), "field %d", absent)
	}
	require.NoError(t, r.err)
}

// The sums of a layer count as memory of the session, with four bytes each.
func TestSumsOfALayerCountAsMemory(t *testing.T) {
	const inputs, outputs = 4, 1000
	w := &Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Int8, Shape: []int{1, inputs}, Scale: 1})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Int8, Shape: []int{1, outputs}, Scale: 1})
	w.Operator("FULLY_CONNECTED", Options{}, []int{x, w.Int8s("w", make([]int8, inputs*outputs), []float32{1}, 0, outputs, inputs), -1}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	require.NoError(t, err)
	p, err := Load(file, Limits{})
	require.NoError(t, err)
	require.EqualValues(t, inputs+outputs+4*outputs, p.Info().Session)

	c := &compiler{p: p, s: &session{}}
	c.p.limits.MaxBytes = 400
	require.Len(t, c.scratch(60), 60)
	require.Len(t, c.scratch(40), 40)
	require.PanicsWithError(t, "the tensors of a run take more than 400 bytes", func() { c.scratch(1) })
}

// timeFilter returns a model of one SVDF: all features are 1, and the filter over time is 1, 2, 3, ….
func timeFilter(rank, batches, inputs, filters, memory int) []byte {
	w := &Writer{}
	tensor := func(name string, shape ...int) int {
		return w.Tensor(engine.Spec{Name: name, Type: engine.Float32, Shape: shape})
	}
	feature, time := make([]float32, filters*inputs), make([]float32, filters*memory)
	for i := range feature {
		feature[i] = 1
	}
	for i := range time {
		time[i] = float32(i%memory + 1)
	}
	tensor("x", batches, inputs)
	w.Floats("feature", feature, filters, inputs)
	w.Floats("time", time, filters, memory)
	tensor("state", batches, filters*memory)
	tensor("y", batches, filters/max(rank, 1))
	var tensors, buffers []object
	buffers = append(buffers, object{})
	for _, one := range w.tensors {
		o := object{0: ints(one.Shape), 1: scalar(numberOf[one.Type]), 3: text(one.Name)}
		if one.data != nil {
			o[2] = scalar(uint32(len(buffers)))
			buffers = append(buffers, object{0: blob(one.data)})
		}
		if one.Name == "state" {
			o[5] = scalar(1) // a variable
		}
		tensors = append(tensors, o)
	}
	const svdf, svdfOptions = 27, 6
	operator := object{0: scalar(0), 1: ints{0, 1, 2, -1, 3}, 2: ints{4}, 3: scalar(svdfOptions), 4: object{0: scalar(uint32(rank))}}
	graph := object{0: list(tensors), 1: ints{0}, 2: ints{4}, 3: list{operator}, 4: text("main")}
	return flat(object{0: scalar(3), 1: list{object{0: scalar(svdf), 2: scalar(1), 3: scalar(svdf)}}, 2: list{graph}, 3: text("test"), 4: list(buffers)})
}

// A filter over time may have dimensions of one, but not of zero. After two runs on the same input x, each of the rank filters of an output has
// memory·Σx + (memory−1)·Σx.
func TestFiltersOverTimeOfAnySize(t *testing.T) {
	for _, k := range []struct{ rank, batches, inputs, filters, memory int }{
		{1, 1, 1, 1, 1}, {1, 1, 1, 4, 3}, {1, 1, 5, 1, 3}, {1, 1, 5, 4, 1}, {2, 3, 5, 4, 3}, {2, 1, 1, 2, 1},
	} {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			p, err := Load(timeFilter(k.rank, k.batches, k.inputs, k.filters, k.memory), Limits{})
			require.NoError(t, err)
			s, err := p.NewSession()
			require.NoError(t, err)
			x := s.Inputs()[0].F32
			for i := range x {
				x[i] = float32(i + 1)
			}
			require.NoError(t, s.Run())
			require.NoError(t, s.Run())
			for b := range k.batches {
				var sum float32
				for _, v := range x[b*k.inputs:][:k.inputs] {
					sum += v
				}
				for u := range k.filters / k.rank {
					require.InDelta(t, float32(k.rank*(2*k.memory-1))*sum, s.Outputs()[0].F32[b*k.filters/k.rank+u], 1e-3)
				}
			}
		})
	}
	for _, k := range []struct{ rank, batches, inputs, filters, memory int }{
		{0, 1, 5, 4, 3}, {1, 1, 0, 4, 3}, {1, 1, 5, 0, 3}, {1, 1, 5, 4, 0}, {2, 1, 5, 3, 3}, {3, 1, 5, 4, 3},
	} {
		_, err := Load(timeFilter(k.rank, k.batches, k.inputs, k.filters, k.memory), Limits{})
		require.ErrorContains(t, err, "do not make", "%v", k)
	}
}
