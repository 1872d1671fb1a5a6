package onnx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"app-offload/functions/engine"
)

// given returns an input: numbers of a type in a shape. Missing data are drawn at random.
func given(kind engine.Type, shape []int, data ...float64) *engine.Tensor {
	t := &engine.Tensor{Spec: engine.Spec{Type: kind, Shape: shape}}
	t.Allocate()
	for i, v := range data {
		put(t, i, v)
	}
	return t
}

func drawn(r *rand.Rand, kind engine.Type, shape ...int) *engine.Tensor {
	t := given(kind, shape)
	for i := range t.Elements() {
		switch kind {
		case engine.Float32, engine.Float64:
			put(t, i, r.NormFloat64())
		case engine.Bool:
			put(t, i, float64(r.IntN(2)))
		case engine.Uint8, engine.Uint16, engine.Uint32, engine.Uint64:
			put(t, i, float64(r.IntN(6)))
		default:
			put(t, i, float64(r.IntN(11)-5))
		}
	}
	return t
}

var codeOf = map[engine.Type]int64{}

func init() {
	for code, t := range typeOf {
		codeOf[t] = code
	}
}

// apply runs one operator on inputs, nil for an absent input. Attributes are int, float32, string or []int.
func apply(t *testing.T, op string, attributes map[string]any, outs int, ins ...*engine.Tensor) []*engine.Tensor {
	t.Helper()
	var node, graph, opset, model writer
	for i, in := range ins {
		if in == nil {
			node.text(1, "")
			continue
		}
		name := fmt.Sprint("in", i)
		node.text(1, name)
		dims := make([]int64, len(in.Shape))
		for d := range dims {
			dims[d] = int64(in.Shape[d])
		}
		graph.bytes(11, typedPort(name, codeOf[in.Type], dims...))
	}
	for i := range outs {
		node.text(2, fmt.Sprint("out", i))
		graph.bytes(12, portBytes(fmt.Sprint("out", i)))
	}
	node.text(4, op)
	for name, v := range attributes {
		var a writer
		a.text(1, name)
		switch v := v.(type) {
		case int:
			a.number(3, int64(v))
		case float32:
			a = protowire.AppendFixed32(protowire.AppendTag(a, 2, protowire.Fixed32Type), math.Float32bits(v))
		case string:
			a.text(4, v)
		case []int:
			for _, i := range v {
				a.number(8, int64(i))
			}
		}
		node.bytes(5, a)
	}
	graph.bytes(1, node)
	opset.number(2, 17)
	model.bytes(8, opset)
	model.bytes(7, graph)
	g, err := read(model, Limits{}.orDefault())
	require.NoError(t, err)
	p := &Program{graph: g, limits: g.limits, prepared: map[preparation]any{}}
	require.NoError(t, p.missing())
	s, err := p.newSession()
	require.NoError(t, err)
	at := 0
	for _, in := range ins {
		if in != nil {
			name := s.inputs[at].Name
			*s.inputs[at] = *in
			s.inputs[at].Name = name
			at++
		}
	}
	require.NoError(t, s.Run(), op)
	return s.outputs
}

func list(t *engine.Tensor) []float64 {
	all := make([]float64, t.Elements())
	for i := range all {
		all[i] = at(t, i)
	}
	return all
}

func ints(n ...int) *engine.Tensor {
	t := given(engine.Int64, []int{len(n)})
	for i, v := range n {
		t.I64[i] = int64(v)
	}
	return t
}

// part returns one batch of a tensor.
func part(x *engine.Tensor, b int) *engine.Tensor {
	shape := slices.Clone(x.Shape)
	shape[0] = 1
	one := given(x.Type, shape)
	for i := range one.Elements() {
		put(one, i, at(x, b*one.Elements()+i))
	}
	return one
}

// The result of an operator for several pictures or matrices is that for each of them alone.
func TestBatchesAreIndependent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := engine.Float32
	grid := drawn(r, f, 3, 4, 5, 2)
	for i := range grid.F32 {
		grid.F32[i] = min(max(grid.F32[i]/2, -1.2), 1.2)
	}
	rois := given(f, []int{0})
	for name, c := range map[string]struct {
		op         string
		attributes map[string]any
		batched    int // number of inputs with batches
		ins        []*engine.Tensor
	}{
		"grid sample":          {"GridSample", nil, 2, []*engine.Tensor{drawn(r, f, 3, 2, 4, 5), grid}},
		"grid sample, nearest": {"GridSample", map[string]any{"mode": "nearest", "padding_mode": "border"}, 2, []*engine.Tensor{drawn(r, f, 3, 2, 4, 5), grid}},
		"grid sample, bicubic": {"GridSample", map[string]any{"mode": "bicubic", "padding_mode": "reflection", "align_corners": 1}, 2, []*engine.Tensor{drawn(r, f, 3, 2, 4, 5), grid}},
		"resize":               {"Resize", map[string]any{"mode": "linear"}, 1, []*engine.Tensor{drawn(r, f, 3, 2, 4, 5), rois, given(f, []int{4}, 1, 1, 2, 0.6)}},
		"resize, cubic":        {"Resize", map[string]any{"mode": "cubic", "exclude_outside": 1}, 1, []*engine.Tensor{drawn(r, f, 3, 2, 4, 5), rois, given(f, []int{4}, 1, 1, 1.5, 2)}},
		"mean":                 {"AveragePool", map[string]any{"kernel_shape": []int{2, 3}, "pads": []int{1, 0, 0, 1}, "strides": []int{1, 2}, "ceil_mode": 1}, 1, []*engine.Tensor{drawn(r, f, 3, 2, 4, 5)}},
		"greatest":             {"MaxPool", map[string]any{"kernel_shape": []int{2, 2}, "dilations": []int{2, 1}}, 1, []*engine.Tensor{drawn(r, f, 3, 2, 4, 5)}},
		"instances":            {"InstanceNormalization", nil, 1, []*engine.Tensor{drawn(r, f, 3, 2, 4, 5), drawn(r, f, 2), drawn(r, f, 2)}},
		"local response":       {"LRN", map[string]any{"size": 3}, 1, []*engine.Tensor{drawn(r, f, 3, 5, 2, 2)}},
		"determinant":          {"Det", nil, 1, []*engine.Tensor{drawn(r, f, 3, 4, 4)}},
		"matrices":             {"MatMul", nil, 2, []*engine.Tensor{drawn(r, f, 3, 2, 4), drawn(r, f, 3, 4, 5)}},
		"integers":             {"MatMulInteger", nil, 2, []*engine.Tensor{drawn(r, engine.Uint8, 3, 2, 4), drawn(r, engine.Int8, 3, 4, 5)}},
		"depth":                {"DepthToSpace", map[string]any{"blocksize": 2}, 1, []*engine.Tensor{drawn(r, f, 3, 8, 2, 3)}},
		"convolution":          {"Conv", map[string]any{"pads": []int{1, 1, 0, 0}, "group": 2}, 1, []*engine.Tensor{drawn(r, f, 3, 4, 4, 5), drawn(r, f, 6, 2, 2, 2), drawn(r, f, 6)}},
		"transposed":           {"ConvTranspose", map[string]any{"strides": []int{2, 1}, "group": 2}, 1, []*engine.Tensor{drawn(r, f, 3, 4, 3, 2), drawn(r, f, 4, 3, 2, 2)}},
		"layer":                {"LayerNormalization", nil, 1, []*engine.Tensor{drawn(r, f, 3, 2, 5), drawn(r, f, 5)}},
		"shares":               {"Softmax", map[string]any{"axis": 1}, 1, []*engine.Tensor{drawn(r, f, 3, 4, 5)}},
		"sums so far":          {"CumSum", map[string]any{"reverse": 1, "exclusive": 1}, 1, []*engine.Tensor{drawn(r, f, 3, 4, 5), given(engine.Int64, nil, 1)}},
	} {
		all := apply(t, c.op, c.attributes, 1, c.ins...)[0]
		for b := range 3 {
			ins := slices.Clone(c.ins)
			for i := range c.batched {
				ins[i] = part(c.ins[i], b)
			}
			alone := apply(t, c.op, c.attributes, 1, ins...)[0]
			require.Equal(t, 3*alone.Elements(), all.Elements(), name)
			for i, v := range list(alone) {
				require.InDelta(t, v, at(all, b*alone.Elements()+i), 1e-5, "%s, batch %d, element %d", name, b, i)
			}
		}
	}
}

// Comparisons distinguish less, equal and greater, for all types and any shapes that broadcast to each other.
func TestComparisonsOfEqualAndUnequal(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for op, f := range map[string]func(a, b float64) bool{
		"Equal": func(a, b float64) bool { return a == b }, "Less": func(a, b float64) bool { return a < b },
		"LessOrEqual": func(a, b float64) bool { return a <= b }, "Greater": func(a, b float64) bool { return a > b },
		"GreaterOrEqual": func(a, b float64) bool { return a >= b }, "And": func(a, b float64) bool { return a != 0 && b != 0 },
		"Or": func(a, b float64) bool { return a != 0 || b != 0 }, "Xor": func(a, b float64) bool { return (a != 0) != (b != 0) },
	} {
		for _, kind := range []engine.Type{engine.Float32, engine.Float64, engine.Int8, engine.Uint8, engine.Int16, engine.Uint16, engine.Int32, engine.Uint32, engine.Int64, engine.Uint64, engine.Bool} {
			a, b := drawn(r, kind, 4, 1, 5), drawn(r, kind, 6, 1)
			for i := range a.Elements() {
				put(a, i, math.Round(at(a, i)))
			}
			for i := range b.Elements() {
				put(b, i, math.Round(at(b, i)))
			}
			y := apply(t, op, nil, 1, a, b)[0]
			require.Equal(t, []int{4, 6, 5}, y.Shape)
			for i, got := range y.U8 {
				require.Equal(t, truth(f(at(a, i/30*5+i%5), at(b, i/5%6))), got, "%s of %s", op, kind)
			}
		}
	}
}

// Integers are divided towards 0; the remainder has the sign of the divisor, or with fmod that of the dividend. Division by 0 gives 0.
func TestWholeNumbersAreDivided(t *testing.T) {
	a, b := given(engine.Int32, []int{6}, 7, -7, 7, -7, 6, 5), given(engine.Int32, []int{6}, 3, 3, -3, -3, 3, 0)
	require.Equal(t, []int32{2, -2, -2, 2, 2, 0}, apply(t, "Div", nil, 1, a, b)[0].I32)
	require.Equal(t, []int32{1, 2, -2, -1, 0, 0}, apply(t, "Mod", nil, 1, a, b)[0].I32)
	require.Equal(t, []int32{1, -1, 1, -1, 0, 0}, apply(t, "Mod", map[string]any{"fmod": 1}, 1, a, b)[0].I32)
	u, by := given(engine.Uint8, []int{6}, 1, 3, 128, 255, 255, 255), given(engine.Uint8, []int{6}, 0, 1, 7, 2, 8, 64)
	require.Equal(t, []uint8{1, 6, 0, 252, 0, 0}, apply(t, "BitShift", map[string]any{"direction": "LEFT"}, 1, u, by)[0].U8)
	require.Equal(t, []uint8{1, 1, 1, 63, 0, 0}, apply(t, "BitShift", map[string]any{"direction": "RIGHT"}, 1, u, by)[0].U8)
}

// Elements of any type are placed like those of float32.
func TestElementsOfAnyTypeAreMoved(t *testing.T) {
	for name, c := range map[string]struct {
		op         string
		attributes map[string]any
		rest       []*engine.Tensor
	}{
		"gather":    {"Gather", map[string]any{"axis": 1}, []*engine.Tensor{ints(2, -1, 0, 2)}},
		"slice":     {"Slice", nil, []*engine.Tensor{ints(3, 0), ints(-9, 4), ints(0, 2), ints(-2, 1)}},
		"transpose": {"Transpose", map[string]any{"perm": []int{2, 0, 1}}, nil},
		"tile":      {"Tile", nil, []*engine.Tensor{ints(1, 2, 1)}},
		"reshape":   {"Reshape", nil, []*engine.Tensor{ints(0, -1)}},
		"compress":  {"Compress", map[string]any{"axis": 1}, []*engine.Tensor{given(engine.Bool, []int{3}, 1, 0, 1)}},
		"reverse":   {"ReverseSequence", map[string]any{"time_axis": 0, "batch_axis": 1}, []*engine.Tensor{ints(4, 1, 3)}},
		"expand":    {"Expand", nil, []*engine.Tensor{ints(2, 1, 1, 1)}},
		"triangle":  {"Trilu", map[string]any{"upper": 0}, []*engine.Tensor{given(engine.Int64, nil, 1)}},
		"pad":       {"Pad", map[string]any{"mode": "reflect"}, []*engine.Tensor{ints(1, 0, 2, 2, 1, 0)}},
	} {
		numbers := given(engine.Float32, []int{4, 3, 5})
		for i := range numbers.F32 {
			numbers.F32[i] = float32(i)
		}
		want := apply(t, c.op, c.attributes, 1, append([]*engine.Tensor{numbers}, c.rest...)...)[0]
		for _, kind := range []engine.Type{engine.Float64, engine.Int8, engine.Uint8, engine.Int16, engine.Uint16, engine.Int32, engine.Uint32, engine.Int64, engine.Uint64} {
			x := given(kind, []int{4, 3, 5})
			for i := range numbers.F32 {
				put(x, i, float64(i))
			}
			got := apply(t, c.op, c.attributes, 1, append([]*engine.Tensor{x}, c.rest...)...)[0]
			require.Equal(t, want.Shape, got.Shape, name)
			require.Equal(t, list(want), list(got), "%s of %s", name, kind)
		}
	}
}

// Slices go from any begin to any end with any step, as specified: a begin beyond an end of the axis is that end.
func TestSlicesOfAnyStep(t *testing.T) {
	x := given(engine.Int64, []int{5}, 0, 1, 2, 3, 4)
	for _, step := range []int{-3, -2, -1, 1, 2, 3} {
		for begin := -7; begin <= 7; begin++ {
			for end := -7; end <= 7; end++ {
				var want []int64
				from, to := begin, end
				if from < 0 {
					from += 5
				}
				if to < 0 {
					to += 5
				}
				if step > 0 {
					for i := max(from, 0); i < min(to, 5); i += step {
						want = append(want, int64(i))
					}
				} else {
					for i := min(max(from, 0), 4); i > max(to, -1); i += step { // a begin before the first element is the first
						want = append(want, int64(i))
					}
				}
				got := apply(t, "Slice", nil, 1, x, ints(begin), ints(end), ints(0), ints(step))[0].I64
				require.Equal(t, len(want), len(got), "%d:%d:%d", begin, end, step)
				for i := range want {
					require.Equal(t, want[i], got[i], "%d:%d:%d", begin, end, step)
				}
			}
		}
	}
}

// The top k elements of an axis are the greatest or least, with equal ones in their order.
func TestTheFirstOfAnAxis(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	x := drawn(r, engine.Int32, 3, 6, 4) // with many equal elements
	for axis := range 3 {
		for largest := range 2 {
			for k := 0; k <= x.Shape[axis]; k++ {
				outs := apply(t, "TopK", map[string]any{"axis": axis, "largest": largest}, 2, x, ints(k))
				outer, length, inner := lines(x.Shape, axis)
				for o := range outer {
					for i := range inner {
						var order []int
						for p := range length {
							order = append(order, p)
						}
						slices.SortStableFunc(order, func(a, b int) int {
							d := int(x.I32[(o*length+a)*inner+i] - x.I32[(o*length+b)*inner+i])
							if largest == 1 {
								return -d
							}
							return d
						})
						for p := range k {
							require.EqualValues(t, order[p], outs[1].I64[(o*k+p)*inner+i])
							require.Equal(t, x.I32[(o*length+order[p])*inner+i], outs[0].I32[(o*k+p)*inner+i])
						}
					}
				}
			}
		}
	}
}

// A determinant is the sum over the first row of its elements times the remaining determinants.
func TestDeterminants(t *testing.T) {
	var slow func(m [][]float64) float64
	slow = func(m [][]float64) (sum float64) {
		if len(m) == 0 {
			return 1
		}
		sign := 1.0
		for j := range m {
			var rest [][]float64
			for _, row := range m[1:] {
				rest = append(rest, slices.Delete(slices.Clone(row), j, j+1))
			}
			sum += sign * m[0][j] * slow(rest)
			sign = -sign
		}
		return sum
	}
	r := rand.New(rand.NewPCG(9, 10))
	for n := 1; n <= 5; n++ {
		for _, whole := range []bool{false, true} {
			x := drawn(r, engine.Float32, 20, n, n)
			for i := range x.F32 {
				if whole {
					x.F32[i] = float32(r.IntN(3) - 1) // many have zeros as pivots
				}
			}
			y := apply(t, "Det", nil, 1, x)[0]
			for b, got := range y.F32 {
				m := make([][]float64, n)
				for i := range m {
					for j := range n {
						m[i] = append(m[i], float64(x.F32[(b*n+i)*n+j]))
					}
				}
				require.InDelta(t, slow(m), got, 1e-4, "%v", m)
			}
		}
	}
}

// Boxes that overlap a better one by more than the threshold are dropped, in either format of boxes.
func TestOverlappingBoxes(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	const batches, classes, n = 2, 3, 12
	for centred := range 2 {
		for _, most := range []float64{0, 0.3, 0.7} {
			for _, limit := range []int{0, 2, 99} {
				boxes, scores := drawn(r, engine.Float32, batches, n, 4), drawn(r, engine.Float32, batches, classes, n)
				for i := range boxes.F32 {
					if centred == 1 && i%4 > 1 {
						boxes.F32[i] = 0.2 + r.Float32()
					}
				}
				edges := func(b, i int) (y1, x1, y2, x2 float64) {
					v := boxes.F32[(b*n+i)*4:]
					p, q, s, u := float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3])
					if centred == 1 {
						return q - u/2, p - s/2, q + u/2, p + s/2
					}
					return min(p, s), min(q, u), max(p, s), max(q, u)
				}
				var want []int64
				for b := range batches {
					for c := range classes {
						var order, kept []int
						for i := range n {
							order = append(order, i)
						}
						score := func(i int) float32 { return scores.F32[(b*classes+c)*n+i] }
						slices.SortFunc(order, func(i, j int) int {
							if score(i) > score(j) {
								return -1
							}
							return 1
						})
						for _, i := range order {
							hidden := score(i) <= -0.5 || len(kept) >= limit
							for _, k := range kept {
								y1, x1, y2, x2 := edges(b, i)
								p1, q1, p2, q2 := edges(b, k)
								common := max(min(y2, p2)-max(y1, p1), 0) * max(min(x2, q2)-max(x1, q1), 0)
								hidden = hidden || common/((y2-y1)*(x2-x1)+(p2-p1)*(q2-q1)-common) > most
							}
							if !hidden {
								kept = append(kept, i)
								want = append(want, int64(b), int64(c), int64(i))
							}
						}
					}
				}
				got := apply(t, "NonMaxSuppression", map[string]any{"center_point_box": centred}, 1, boxes, scores, ints(limit),
					given(engine.Float32, []int{1}, most), given(engine.Float32, []int{1}, -0.5))[0]
				require.Equal(t, []int{len(want) / 3, 3}, got.Shape)
				require.ElementsMatch(t, want, got.I64)
			}
		}
	}
	same := given(engine.Float32, []int{1, 2, 4}, 0, 0, 1, 1, 0, 0, 1, 2) // they share one half
	kept := func(most float64) int {
		return apply(t, "NonMaxSuppression", nil, 1, same, given(engine.Float32, []int{1, 1, 2}, 2, 1), ints(9), given(engine.Float32, []int{1}, most))[0].Shape[0]
	}
	require.Equal(t, []int{2, 1}, []int{kept(0.5), kept(0.49)}, "more than the threshold, and not as much")
}

// Pools compute the mean or maximum of each window; a mean includes the padding on request, and never what is beyond it.
func TestPoolsAreTheirDefinition(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for range 150 {
		const c = 2
		in, k, stride, pads, dil := []int{4 + r.IntN(4), 4 + r.IntN(4)}, []int{1 + r.IntN(3), 1 + r.IntN(3)}, []int{1 + r.IntN(2), 1 + r.IntN(2)}, make([]int, 4), []int{1 + r.IntN(2), 1 + r.IntN(2)}
		for i := range pads {
			pads[i] = r.IntN(k[i%2])
		}
		if (k[0]-1)*dil[0] >= in[0]+pads[0]+pads[2] || (k[1]-1)*dil[1] >= in[1]+pads[1]+pads[3] {
			continue
		}
		ceil, include := r.IntN(2), r.IntN(2)
		x := drawn(r, engine.Float32, 1, c, in[0], in[1])
		attributes := map[string]any{"kernel_shape": k, "strides": stride, "pads": pads, "ceil_mode": ceil, "dilations": dil}
		var out [2]int
		for d := range out {
			room := in[d] + pads[d] + pads[d+2] - (k[d]-1)*dil[d] - 1
			out[d] = room/stride[d] + 1
			if ceil == 1 && room%stride[d] != 0 && out[d]*stride[d] < in[d]+pads[d] {
				out[d]++ // a window must begin on the image or on the padding before it
			}
		}
		greatest := apply(t, "MaxPool", attributes, 2, x)
		attributes["count_include_pad"] = include
		mean := apply(t, "AveragePool", attributes, 1, x)[0]
		require.Equal(t, []int{1, c, out[0], out[1]}, greatest[0].Shape, "%v of %v", attributes, in)
		require.Equal(t, greatest[0].Shape, mean.Shape)
		for i := range mean.F32 {
			ch, oy, ox := i/out[0]/out[1], i/out[1]%out[0], i%out[1]
			sum, n, top, where := 0.0, 0.0, math.Inf(-1), int64(-1)
			for ky := range k[0] {
				for kx := range k[1] {
					y, z := oy*stride[0]-pads[0]+ky*dil[0], ox*stride[1]-pads[1]+kx*dil[1]
					if y < 0 || y >= in[0] || z < 0 || z >= in[1] {
						if include == 1 && y < in[0]+pads[2] && z < in[1]+pads[3] {
							n++
						}
						continue
					}
					place := (ch*in[0]+y)*in[1] + z
					v := float64(x.F32[place])
					if sum, n = sum+v, n+1; v > top {
						top, where = v, int64(place)
					}
				}
			}
			if where < 0 {
				continue // it covers only padding
			}
			require.InDelta(t, top, greatest[0].F32[i], 1e-6, "%v of %v", attributes, in)
			require.Equal(t, where, greatest[1].I64[i])
			require.InDelta(t, sum/n, mean.F32[i], 1e-5, "%v of %v, element %d", attributes, in, i)
		}
	}
}

// Products of matrices are sums, with either matrix transposed, scaled, and a third one broadcast over the result.
func TestProductsAreSums(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	const m, n, k = 3, 5, 4
	for flags := range 4 {
		for _, third := range [][]int{nil, {1}, {n}, {m, 1}, {1, n}, {m, n}} {
			a, b := drawn(r, engine.Float32, m, k), drawn(r, engine.Float32, k, n)
			if flags&1 == 1 {
				a.Shape = []int{k, m}
			}
			if flags&2 == 2 {
				b.Shape = []int{n, k}
			}
			ins := []*engine.Tensor{a, b}
			if third != nil {
				ins = append(ins, drawn(r, engine.Float32, third...))
			}
			y := apply(t, "Gemm", map[string]any{"transA": flags & 1, "transB": flags >> 1, "alpha": float32(0.5), "beta": float32(2)}, 1, ins...)[0]
			require.Equal(t, []int{m, n}, y.Shape)
			for i, got := range y.F32 {
				row, column, want := i/n, i%n, 0.0
				for p := range k {
					x, w := a.F32[(row*k+p)%(m*k)], b.F32[(p*n+column)%(n*k)]
					if flags&1 == 1 {
						x = a.F32[p*m+row]
					}
					if flags&2 == 2 {
						w = b.F32[column*k+p]
					}
					want += float64(x) * float64(w)
				}
				want /= 2
				if third != nil {
					at := 0
					if third[len(third)-1] > 1 {
						at = column
					}
					if len(third) == 2 && third[0] > 1 {
						at += row * third[1]
					}
					want += 2 * float64(ins[2].F32[at])
				}
				require.InDelta(t, want, got, 1e-5, "flags %d, third %v", flags, third)
			}
		}
	}
	a, b := drawn(r, engine.Uint8, 2, 1, m, k), drawn(r, engine.Uint8, 3, k, n)
	y := apply(t, "MatMulInteger", nil, 1, a, b, given(engine.Uint8, nil, 2), given(engine.Uint8, nil, 1))[0]
	require.Equal(t, []int{2, 3, m, n}, y.Shape)
	for i, got := range y.I32 {
		var want int32
		for p := range k {
			want += (int32(a.U8[(i/n/m/3*m+i/n%m)*k+p]) - 2) * (int32(b.U8[(i/n/m%3*k+p)*n+i%n]) - 1)
		}
		require.Equal(t, want, got)
	}
	e := apply(t, "Einsum", map[string]any{"equation": "cb,ba"}, 1, drawn(r, engine.Float32, 2, 3), drawn(r, engine.Float32, 3, 4))[0]
	require.Equal(t, []int{4, 2}, e.Shape, "without an arrow the result has the axes that stand once, by the alphabet")
}

// The memory of a run is known before it.
func TestInfoCountsBytes(t *testing.T) {
	p, _ := loaded(t)
	info := p.Info()
	constants := int64(4 * (4*8 + 8 + 8*3))
	require.Equal(t, constants+info.Session+p.bytes, info.Bytes)
	require.Positive(t, p.bytes)
	require.Greater(t, info.Session, int64(4*4), "the input, and what is computed")
}

// Attributes are written with the number of their type, which other readers need.
func TestAttributesAreWrittenWithTheirType(t *testing.T) {
	for _, c := range []struct {
		a    Attribute
		want string
	}{{Attribute{Name: "n", Int: 5}, "0a016e1805a00102"}, {Attribute{Name: "n", Ints: []int64{5, 6}}, "0a016e40054006a00107"}} {
		require.Equal(t, c.want, fmt.Sprintf("%x", c.a.bytes()))
	}
}

// A number is normalised by its neighbours: those of its own channel in all pictures, or those of nearby channels at the same place.
func TestNormsAreTheirFormulas(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	const b, c, h, w = 2, 5, 3, 4
	x := drawn(r, engine.Float32, b, c, h, w)
	y := apply(t, "MeanVarianceNormalization", nil, 1, x)[0]
	for ch := range c {
		sum, squares := 0.0, 0.0
		for i, v := range x.F32 {
			if i/h/w%c == ch {
				sum += float64(v) / (b * h * w)
			}
		}
		for i, v := range x.F32 {
			if i/h/w%c == ch {
				squares += (float64(v) - sum) * (float64(v) - sum) / (b * h * w)
			}
		}
		for i, v := range x.F32 {
			if i/h/w%c == ch {
				require.InDelta(t, (float64(v)-sum)/math.Sqrt(squares), y.F32[i], 1e-5)
			}
		}
	}
	flat := apply(t, "MeanVarianceNormalization", nil, 1, given(engine.Float32, []int{1, 1, 1, 2}, 3, 3))[0]
	require.Equal(t, []float32{0, 0}, flat.F32, "numbers that do not vary")
	for size := 1; size <= 6; size++ {
		y := apply(t, "LRN", map[string]any{"size": size, "alpha": float32(0.3), "beta": float32(0.6), "bias": float32(1.5)}, 1, x)[0]
		for i, v := range x.F32 {
			sum, ch := 0.0, i/h/w%c
			for k := max(ch-(size-1)/2, 0); k <= min(ch+size/2, c-1); k++ {
				n := float64(x.F32[i+(k-ch)*h*w])
				sum += n * n
			}
			require.InDelta(t, float64(v)/math.Pow(1.5+0.3/float64(size)*sum, 0.6), y.F32[i], 1e-5, "size %d", size)
		}
	}
}

// Activations without parameters use those of the specification.
func TestActivationsHaveTheirDefaults(t *testing.T) {
	in := []float64{-3, -0.5, 0, 0.5, 1, 1.5, 3}
	x := given(engine.Float32, []int{len(in)}, in...)
	for op, f := range map[string]func(v float64) float64{
		"LeakyRelu":   func(v float64) float64 { return max(v, 0.01*v) },
		"Elu":         func(v float64) float64 { return max(v, 0) + min(math.Exp(v)-1, 0) },
		"HardSigmoid": func(v float64) float64 { return min(max(0.2*v+0.5, 0), 1) },
		"HardSwish":   func(v float64) float64 { return v * min(max(v/6+0.5, 0), 1) },
		"Softplus":    func(v float64) float64 { return math.Log(1 + math.Exp(v)) },
		"Softsign":    func(v float64) float64 { return v / (1 + math.Abs(v)) },
		"Celu":        func(v float64) float64 { return max(v, 0) + min(math.Exp(v)-1, 0) },
		"Selu": func(v float64) float64 {
			return 1.0507009873554805 * (max(v, 0) + 1.6732632423543772*min(math.Exp(v)-1, 0))
		},
		"ThresholdedRelu": func(v float64) float64 {
			if v > 1 {
				return v
			}
			return 0
		},
		"Shrink": func(v float64) float64 {
			if math.Abs(v) > 0.5 {
				return v
			}
			return 0
		},
		"Sigmoid": func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }, "Tanh": math.Tanh, "Erf": math.Erf,
	} {
		y := apply(t, op, nil, 1, x)[0]
		for i, v := range in {
			require.InDelta(t, f(v), y.F32[i], 1e-6, "%s of %g", op, v)
		}
	}
	for name, want := range map[string][3]float32{
		"leakyrelu": {-0.02, 0.01, 0}, "elu": {-0.86466473, 1, 0}, "hardsigmoid": {0.1, 0.2, 0.5}, "affine": {-2, 1, 0}, "scaledtanh": {-0.9640276, 1, 1}, "thresholdedrelu": {0, 1, 0},
		"sigmoid": {0.11920292, 0, 0}, "tanh": {-0.9640276, 0, 0}, "relu": {0, 0, 0}, "softplus": {0.126928, 0, 0}, "softsign": {-0.6666667, 0, 0},
	} {
		k := curveOf[name]
		require.InDelta(t, want[0], k.f(-2, k.alpha, k.beta), 1e-6, name)
		require.Equal(t, want[1:], []float32{k.alpha, k.beta}, name)
	}
}

// Representable results are right, even if an intermediate value is not representable.
func TestResultsNearTheEndsOfTheirType(t *testing.T) {
	inf := math.Inf(1)
	x := given(engine.Float32, []int{6}, -1e5, -1, 0, 1000, inf, -inf)
	require.Equal(t, []float32{0, float32(math.Log1p(math.Exp(-1))), math.Ln2, 1000, float32(inf), 0}, apply(t, "Softplus", nil, 1, x)[0].F32)
	rows := given(engine.Float32, []int{4, 2}, 1000, 1000, -1000, -1000, 3, -inf, -inf, -inf)
	sums := apply(t, "ReduceLogSumExp", map[string]any{"axes": []int{1}, "keepdims": 0}, 1, rows)[0].F32
	require.Equal(t, []float32{1000 + math.Ln2, -1000 + math.Ln2, 3, float32(-inf)}, sums)
}

// All types of an operator give the same result.
func TestMeansOfFloat64(t *testing.T) {
	for _, kind := range []engine.Type{engine.Float32, engine.Float64} {
		got := apply(t, "Mean", nil, 1, given(kind, []int{2}, 1, 2), given(kind, []int{2}, 4, 8))[0]
		require.Equal(t, []float64{2.5, 5}, list(got), kind)
	}
}

// The maximum of a window is one of its values, even if it is the least value of its type.
func TestTheGreatestOfAWindowOfTheLeast(t *testing.T) {
	for _, kind := range []engine.Type{engine.Uint8, engine.Int8, engine.Float32} {
		x := given(kind, []int{1, 1, 1, 4}, 5, 3, 0, 0)
		for i := 2; i < 4; i++ {
			put(x, i, map[engine.Type]float64{engine.Int8: math.MinInt8, engine.Float32: math.Inf(-1)}[kind])
		}
		got := apply(t, "MaxPool", map[string]any{"kernel_shape": []int{1, 2}, "strides": []int{1, 2}}, 2, x)
		require.Equal(t, []int64{0, 2}, got[1].I64, kind)
	}
}

// Pads may apply to some axes, in any order.
func TestPadsOfSomeAxes(t *testing.T) {
	x := given(engine.Float32, []int{2, 2}, 1, 2, 3, 4)
	want := apply(t, "Pad", nil, 1, x, ints(0, 1, 2, 0))[0]
	for name, c := range map[string][2]*engine.Tensor{
		"turned":       {ints(1, 0, 0, 2), ints(1, 0)},
		"from the end": {ints(1, 0, 0, 2), ints(-1, -2)},
	} {
		got := apply(t, "Pad", nil, 1, x, c[0], nil, c[1])[0]
		require.Equal(t, list(want), list(got), name)
		require.Equal(t, want.Shape, got.Shape, name)
	}
	require.Equal(t, []float32{0, 1, 2, 0, 3, 4}, apply(t, "Pad", nil, 1, x, ints(1, 0), nil, ints(1))[0].F32)
}

// A number quantised without a zero point has the requested type.
func TestTheTypeOfQuantisedNumbers(t *testing.T) {
	x, scale := given(engine.Float32, []int{2}, -3, 200), given(engine.Float32, nil, 1)
	require.Equal(t, []uint8{0, 200}, apply(t, "QuantizeLinear", nil, 1, x, scale)[0].U8)
	require.Equal(t, []uint8{0, 200}, apply(t, "QuantizeLinear", map[string]any{"output_dtype": 2}, 1, x, scale)[0].U8)
	require.Equal(t, []int8{-3, 127}, apply(t, "QuantizeLinear", map[string]any{"output_dtype": 3}, 1, x, scale)[0].I8)
}

// Axes are resized one after the other: all together give what a Resize of each one gives.
func TestEveryAxisIsResized(t *testing.T) {
	scales := []float64{2, 1.5, 3, 1, 0.6, 2}
	x := drawn(rand.New(rand.NewPCG(1, 2)), engine.Float32, 2, 2, 2, 3, 5, 2)
	resized := func(x *engine.Tensor, scales []float64) *engine.Tensor {
		return apply(t, "Resize", map[string]any{"mode": "linear"}, 1, x, nil, given(engine.Float32, []int{len(scales)}, scales...))[0]
	}
	want := x
	for axis := range scales {
		one := []float64{1, 1, 1, 1, 1, 1}
		one[axis] = scales[axis]
		want = resized(want, one)
	}
	have := resized(x, scales)
	require.Equal(t, want.Shape, have.Shape)
	require.Equal(t, want.F32, have.F32)
}

// The length of a resized axis is that of ONNX's shape inference, which multiplies in float32.
func TestTheLengthOfAResizedAxis(t *testing.T) {
	for scale, want := range map[float32]int{0.7: 7, 0.69: 6, 1.3: 13, 0.1: 1, 2: 20} {
		y := apply(t, "Resize", nil, 1, given(engine.Float32, []int{1, 10}), nil, given(engine.Float32, []int{2}, 1, float64(scale)))[0]
		require.Equal(t, []int{1, want}, y.Shape, scale)
	}
}

// Attributes that do not affect an enlargement are accepted: all axes in order, and smoothing, which applies only to reductions.
func TestAttributesThatChangeNoEnlargement(t *testing.T) {
	x, scales := given(engine.Float32, []int{1, 2}, 1, 5), given(engine.Float32, []int{2}, 1, 2)
	want := apply(t, "Resize", map[string]any{"mode": "linear"}, 1, x, nil, scales)[0].F32
	for _, more := range []map[string]any{{"antialias": 1}, {"axes": []int{0, 1}}, {"axes": []int{-2, -1}}} {
		more["mode"] = "linear"
		require.Equal(t, want, apply(t, "Resize", more, 1, x, nil, scales)[0].F32, more)
	}
	require.False(t, ascending([]int{1}, 2))
	require.False(t, ascending([]int{1, 0}, 2))
}

// Squeeze removes the named axes, or else all axes of one element.
func TestSqueezedAxes(t *testing.T) {
	x := given(engine.Float32, []int{1, 2, 1}, 3, 4)
	require.Equal(t, []int{2}, apply(t, "Squeeze", nil, 1, x)[0].Shape)
	require.Equal(t, []int{1, 2}, apply(t, "Squeeze", nil, 1, x, given(engine.Int64, []int{1}, 2))[0].Shape)
}

// A truth value in a file is any byte except 0.
func TestTruthValuesOfAFile(t *testing.T) {
	raw := rawTensor{dims: []int64{3}, code: 9, raw: []byte{0, 255, 2}, hasRaw: true}
	v, err := raw.decode(100)
	require.NoError(t, err)
	require.Equal(t, []uint8{0, 1, 1}, v.U8)
	listed := rawTensor{dims: []int64{3}, code: 9, i32s: []int64{0, 256, -1}}
	v, err = listed.decode(100)
	require.NoError(t, err)
	require.Equal(t, []uint8{0, 1, 1}, v.U8)
}
