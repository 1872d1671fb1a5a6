package tflite

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// given is an input of a tested operator: float32 that count 0, 1, 2, … over all inputs, or integers in the file.
type given struct {
	shape   []int
	numbers []int
}

func x(shape ...int) given     { return given{shape: shape} }
func the(numbers ...int) given { return given{[]int{len(numbers)}, numbers} }

// single returns a model of one operator.
func single(code int, options object, ins []given, outs [][]int) []byte {
	var tensors []object
	buffers := []object{{}}
	var inputs, asked, outputs ints
	for i, in := range ins {
		o := object{0: ints(in.shape), 1: scalar(numberOf[engine.Float32]), 3: text("in")}
		if in.numbers != nil {
			var raw []byte
			for _, n := range in.numbers {
				raw = binary.LittleEndian.AppendUint32(raw, uint32(int32(n))) //nolint:gosec // small numbers
			}
			o[1], o[2] = scalar(numberOf[engine.Int32]), scalar(uint32(len(buffers)))
			buffers = append(buffers, object{0: blob(raw)})
		} else {
			asked = append(asked, i)
		}
		tensors, inputs = append(tensors, o), append(inputs, i)
	}
	for _, shape := range outs {
		outputs = append(outputs, len(tensors))
		tensors = append(tensors, object{0: ints(shape), 1: scalar(numberOf[engine.Float32]), 3: text("out")})
	}
	c := uint32(code) //nolint:gosec // a number of the schema
	operator := object{0: scalar(0), 1: inputs, 2: outputs, 3: scalar(1), 4: options}
	graph := object{0: list(tensors), 1: asked, 2: outputs, 3: list{operator}, 4: text("main")}
	return flat(object{0: scalar(3), 1: list{object{0: scalar(c), 2: scalar(1), 3: scalar(c)}}, 2: list{graph}, 3: text("test"), 4: list(buffers)})
}

// Operators that only move elements place each of them like TensorFlow Lite, and reject parameters that do not fit.
func TestElementsAreMoved(t *testing.T) {
	const slice, strided, gather, transpose, pad, pack, split, concat = 65, 45, 36, 39, 34, 83, 49, 2
	masks := func(begin, end, shrink int) object {
		return object{0: scalar(uint32(begin)), 1: scalar(uint32(end)), 4: scalar(uint32(shrink))} //nolint:gosec // bits
	}
	axis := func(n int) object { return object{0: scalar(uint32(int32(n)))} } //nolint:gosec // small
	for name, c := range map[string]struct {
		code    int
		options object
		ins     []given
		outs    [][]int
		want    [][]float32 // nil if it must be rejected
	}{
		"slice":                           {slice, object{}, []given{x(3, 4), the(1, 1), the(2, -1)}, [][]int{{2, 3}}, [][]float32{{5, 6, 7, 9, 10, 11}}},
		"slice, all":                      {slice, object{}, []given{x(3), the(0), the(3)}, [][]int{{3}}, [][]float32{{0, 1, 2}}},
		"slice, one":                      {slice, object{}, []given{x(3), the(2), the(1)}, [][]int{{1}}, [][]float32{{2}}},
		"slice, before the begin":         {slice, object{}, []given{x(3), the(-1), the(2)}, [][]int{{2}}, nil},
		"slice, beyond the end":           {slice, object{}, []given{x(3), the(2), the(2)}, [][]int{{2}}, nil},
		"slice, of a size below -1":       {slice, object{}, []given{x(3), the(2), the(-2)}, [][]int{{1}}, nil},
		"slice, of another output":        {slice, object{}, []given{x(3), the(1), the(2)}, [][]int{{1}}, nil},
		"slice, two begins":               {slice, object{}, []given{x(3), the(0, 0), the(3)}, [][]int{{3}}, nil},
		"slice, two sizes":                {slice, object{}, []given{x(3), the(0), the(3, 1)}, [][]int{{3}}, nil},
		"slice, two dimensions out":       {slice, object{}, []given{x(3), the(0), the(3)}, [][]int{{3, 1}}, nil},
		"strided":                         {strided, masks(0, 0, 0), []given{x(3, 4), the(1, 0), the(3, 4), the(1, 2)}, [][]int{{2, 2}}, [][]float32{{4, 6, 8, 10}}},
		"strided, from the end":           {strided, masks(0, 0, 0), []given{x(6), the(-2), the(-5), the(-1)}, [][]int{{3}}, [][]float32{{4, 3, 2}}},
		"strided, all backwards":          {strided, masks(1, 1, 0), []given{x(4), the(0), the(0), the(-1)}, [][]int{{4}}, [][]float32{{3, 2, 1, 0}}},
		"strided, all forwards":           {strided, masks(1, 1, 0), []given{x(4), the(2), the(2), the(3)}, [][]int{{2}}, [][]float32{{0, 3}}},
		"strided, beyond both ends":       {strided, masks(0, 0, 0), []given{x(3), the(-9), the(9), the(2)}, [][]int{{2}}, [][]float32{{0, 2}}},
		"strided, beyond, backwards":      {strided, masks(0, 0, 0), []given{x(3), the(9), the(-9), the(-2)}, [][]int{{2}}, [][]float32{{2, 0}}},
		"strided, an index":               {strided, masks(0, 0, 1), []given{x(3, 2), the(-1), the(0), the(1)}, [][]int{{2}}, [][]float32{{4, 5}}},
		"strided, an index of the second": {strided, masks(1, 1, 2), []given{x(3, 2), the(0, 1), the(0, 2), the(1, 1)}, [][]int{{3}}, [][]float32{{1, 3, 5}}},
		"strided, an index too large":     {strided, masks(0, 0, 1), []given{x(3, 2), the(3), the(4), the(1)}, [][]int{{2}}, nil},
		"strided, an index too small":     {strided, masks(0, 0, 1), []given{x(3, 2), the(-4), the(0), the(1)}, [][]int{{2}}, nil},
		"strided, by 0":                   {strided, masks(0, 0, 0), []given{x(3), the(0), the(3), the(0)}, [][]int{{1}}, nil},
		"strided, of another output":      {strided, masks(0, 0, 0), []given{x(3), the(0), the(3), the(1)}, [][]int{{2}}, nil},
		"strided, too many begins":        {strided, masks(0, 0, 0), []given{x(3), the(0, 0), the(3, 1), the(1, 1)}, [][]int{{3}}, nil},
		"strided, too few ends":           {strided, masks(0, 0, 0), []given{x(3, 1), the(0, 0), the(3), the(1, 1)}, [][]int{{3}}, nil},
		"strided, too few strides":        {strided, masks(0, 0, 0), []given{x(3, 1), the(0, 0), the(3, 1), the(1)}, [][]int{{3}}, nil},
		"strided, an ellipsis":            {strided, object{2: scalar(1)}, []given{x(3), the(0), the(3), the(1)}, [][]int{{3}}, nil},
		"strided, a new axis":             {strided, object{3: scalar(1)}, []given{x(3), the(0), the(3), the(1)}, [][]int{{3}}, nil},
		"gather rows":                     {gather, object{}, []given{x(3, 2), the(2, 0, -1, 9, -9)}, [][]int{{5, 2}}, [][]float32{{4, 5, 0, 1, 4, 5, 4, 5, 0, 1}}},
		"gather columns":                  {gather, axis(1), []given{x(2, 3), the(1, 1)}, [][]int{{2, 2}}, [][]float32{{1, 1, 4, 4}}},
		"gather along the last":           {gather, axis(-1), []given{x(2, 3), the(2)}, [][]int{{2, 1}}, [][]float32{{2, 5}}},
		"gather, of another output":       {gather, object{}, []given{x(3, 2), the(1)}, [][]int{{2, 2}}, nil},
		"gather, in batches":              {gather, object{1: scalar(1)}, []given{x(3, 2), the(1)}, [][]int{{1, 2}}, nil},
		"gather, no such axis":            {gather, axis(2), []given{x(3, 2), the(1)}, [][]int{{1, 2}}, nil},
		"transpose":                       {transpose, object{}, []given{x(2, 3), the(1, 0)}, [][]int{{3, 2}}, [][]float32{{0, 3, 1, 4, 2, 5}}},
		"transpose of three":              {transpose, object{}, []given{x(1, 2, 2), the(2, 0, 1)}, [][]int{{2, 1, 2}}, [][]float32{{0, 2, 1, 3}}},
		"transpose, one axis twice":       {transpose, object{}, []given{x(2, 2), the(1, 1)}, [][]int{{2, 2}}, nil},
		"transpose, an axis too large":    {transpose, object{}, []given{x(2, 2), the(2, 0)}, [][]int{{2, 2}}, nil},
		"transpose, an axis below 0":      {transpose, object{}, []given{x(2, 2), the(-1, 0)}, [][]int{{2, 2}}, nil},
		"transpose, one axis short":       {transpose, object{}, []given{x(2, 2), the(0)}, [][]int{{2, 2}}, nil},
		"transpose, of another output":    {transpose, object{}, []given{x(2, 3), the(1, 0)}, [][]int{{2, 3}}, nil},
		"pad":                             {pad, object{}, []given{x(1, 2), {[]int{2, 2}, []int{1, 0, 0, 2}}}, [][]int{{2, 4}}, [][]float32{{0, 0, 0, 0, 0, 1, 0, 0}}},
		"pad below 0":                     {pad, object{}, []given{x(3), {[]int{1, 2}, []int{-1, 0}}}, [][]int{{2}}, nil},
		"pad behind below 0":              {pad, object{}, []given{x(3), {[]int{1, 2}, []int{0, -1}}}, [][]int{{2}}, nil},
		"pad, of another output":          {pad, object{}, []given{x(3), {[]int{1, 2}, []int{1, 1}}}, [][]int{{4}}, nil},
		"pad, one too few":                {pad, object{}, []given{x(1, 3), {[]int{1, 2}, []int{0, 1}}}, [][]int{{1, 4}}, nil},
		"pack":                            {pack, object{}, []given{x(2), x(2), x(2)}, [][]int{{3, 2}}, [][]float32{{0, 1, 2, 3, 4, 5}}},
		"pack along the second":           {pack, object{1: scalar(1)}, []given{x(2), x(2)}, [][]int{{2, 2}}, [][]float32{{0, 2, 1, 3}}},
		"pack, of another output":         {pack, object{}, []given{x(2), x(2)}, [][]int{{2, 3}}, nil},
		"pack, along a wrong axis":        {pack, object{1: scalar(1)}, []given{x(3), x(3)}, [][]int{{2, 3}}, nil},
		"split":                           {split, object{}, []given{the(1), x(2, 4)}, [][]int{{2, 2}, {2, 2}}, [][]float32{{0, 1, 4, 5}, {2, 3, 6, 7}}},
		"split rows":                      {split, object{}, []given{the(-2), x(2, 2)}, [][]int{{1, 2}, {1, 2}}, [][]float32{{0, 1}, {2, 3}}},
		"split unevenly":                  {split, object{}, []given{the(0), x(3)}, [][]int{{1}, {2}}, nil},
		"split, of other outputs":         {split, object{}, []given{the(0), x(4)}, [][]int{{1}, {2}}, nil},
		"split along two":                 {split, object{}, []given{the(0, 1), x(2, 2)}, [][]int{{1, 2}, {1, 2}}, nil},
		"concat":                          {concat, axis(1), []given{x(2, 1), x(2, 2)}, [][]int{{2, 3}}, [][]float32{{0, 2, 3, 1, 4, 5}}},
		"concat rows":                     {concat, axis(-2), []given{x(1, 2), x(2, 2)}, [][]int{{3, 2}}, [][]float32{{0, 1, 2, 3, 4, 5}}},
		"concat, of another output":       {concat, axis(1), []given{x(2, 1), x(2, 2)}, [][]int{{2, 4}}, nil},
		"concat, of uneven inputs":        {concat, axis(1), []given{x(2, 1), x(1, 2)}, [][]int{{2, 3}}, nil},
		"concat, of other dimensions":     {concat, axis(0), []given{x(2, 1), x(2)}, [][]int{{4, 1}}, nil},
		"concat, activated":               {concat, object{0: scalar(0), 1: scalar(1)}, []given{x(1), x(1)}, [][]int{{2}}, nil},
	} {
		p, err := Load(single(c.code, c.options, c.ins, c.outs), Limits{})
		if c.want == nil {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		s, err := p.NewSession()
		require.NoError(t, err, name)
		n := float32(0)
		for _, in := range s.Inputs() {
			for i := range in.F32 {
				in.F32[i] = n
				n++
			}
		}
		require.NoError(t, s.Run(), name)
		for i, want := range c.want {
			require.Equal(t, want, s.Outputs()[i].F32, "%s, output %d", name, i)
		}
	}
}
