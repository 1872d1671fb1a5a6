package tflite

import (
	"encoding/binary"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

var update = flag.Bool("update", false, "write the golden file anew")

// arg is a tensor of a model of one operator. It is an input of the model unless the file has its data or it is a variable.
type arg struct {
	kind     engine.Type
	shape    []int
	data     []float64 // elements as in the file and in a session
	scales   []float32
	zero     int32
	axis     int
	fixed    bool // data are in the file
	variable bool
	absent   bool // an absent optional input
}

func f32(shape ...int) arg { return arg{kind: engine.Float32, shape: shape} }

func i8(scale float32, zero int32, shape ...int) arg {
	return arg{kind: engine.Int8, shape: shape, scales: []float32{scale}, zero: zero}
}

// held returns integers in the file.
func held(numbers ...float64) arg {
	return arg{kind: engine.Int32, shape: []int{len(numbers)}, data: numbers, fixed: true}
}

func (a arg) in(data ...float64) arg    { a.data = data; return a }
func (a arg) file(data ...float64) arg  { a.data, a.fixed = data, true; return a }
func (a arg) of(kind engine.Type) arg   { a.kind = kind; return a }
func (a arg) channels(s []float32) arg  { a.scales = s; return a }
func (a arg) along(axis int) arg        { a.axis = axis; return a }
func (a arg) lasting() arg              { a.variable = true; return a }
func (a arg) size() int                 { s := engine.Spec{Shape: a.shape}; return s.Elements() }
func (a arg) drawn(r *rand.Rand) arg    { return a.in(a.draws(r)...) }
func (a arg) constant(r *rand.Rand) arg { return a.file(a.draws(r)...) }

func (a arg) draws(r *rand.Rand) []float64 {
	list := make([]float64, a.size())
	for i := range list {
		if a.kind == engine.Float32 {
			list[i] = float64(float32(r.NormFloat64()))
		} else {
			list[i] = float64(r.IntN(255) - 127)
		}
	}
	return list
}

// real returns the number represented by the i-th element.
func (a arg) real(i int) float64 {
	if a.kind != engine.Int8 {
		return a.data[i]
	}
	s := a.scales[0]
	if len(a.scales) > 1 {
		inner := 1
		for _, d := range a.shape[a.axis+1:] {
			inner *= d
		}
		s = a.scales[i/inner%len(a.scales)]
	}
	return float64(s) * (a.data[i] - float64(a.zero))
}

func (a arg) raw() []byte {
	var b []byte
	for _, v := range a.data {
		switch a.kind {
		case engine.Float32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		case engine.Int8, engine.Uint8, engine.Bool:
			b = append(b, byte(int64(v)))
		case engine.Int16:
			b = binary.LittleEndian.AppendUint16(b, uint16(int64(v)))
		case engine.Int32:
			b = binary.LittleEndian.AppendUint32(b, uint32(int64(v)))
		case engine.Int64:
			b = binary.LittleEndian.AppendUint64(b, uint64(int64(v)))
		}
	}
	return b
}

func (a arg) object(buffers *[]object, name string) object {
	o := object{0: ints(a.shape), 1: scalar(numberOf[a.kind]), 3: text(name)}
	if a.fixed {
		o[2] = scalar(uint32(len(*buffers)))
		*buffers = append(*buffers, object{0: blob(a.raw())})
	}
	if len(a.scales) > 0 {
		zeros := make([]int64, len(a.scales))
		for i := range zeros {
			zeros[i] = int64(a.zero)
		}
		o[4] = object{2: floats(a.scales), 3: longs(zeros), 6: scalar(uint32(a.axis))}
	}
	if a.variable {
		o[5] = scalar(1)
	}
	return o
}

// one is a model of one operator.
type one struct {
	code    int
	options object
	ins     []arg
	outs    []arg
}

func (m one) bytes() []byte {
	buffers := []object{{}}
	var tensors []object
	var asked, inputs, outputs ints
	for _, a := range m.ins {
		if a.absent {
			inputs = append(inputs, -1)
			continue
		}
		if !a.fixed && !a.variable {
			asked = append(asked, len(tensors))
		}
		inputs = append(inputs, len(tensors))
		tensors = append(tensors, a.object(&buffers, fmt.Sprint("in", len(tensors))))
	}
	for _, a := range m.outs {
		outputs = append(outputs, len(tensors))
		tensors = append(tensors, a.object(&buffers, fmt.Sprint("out", len(outputs)-1)))
	}
	operator := object{0: scalar(0), 1: inputs, 2: outputs, 3: scalar(1), 4: m.options}
	graph := object{0: list(tensors), 1: asked, 2: outputs, 3: list{operator}, 4: text("main")}
	code := object{0: scalar(uint32(m.code)), 2: scalar(1), 3: scalar(uint32(m.code))}
	return flat(object{0: scalar(3), 1: list{code}, 2: list{graph}, 3: text("test"), 4: list(buffers)})
}

func setNumber(t *engine.Tensor, i int, v float64) {
	switch t.Type {
	case engine.Float32:
		t.F32[i] = float32(v)
	case engine.Int8:
		t.I8[i] = int8(v)
	case engine.Uint8, engine.Bool:
		t.U8[i] = uint8(v)
	case engine.Int16:
		t.I16[i] = int16(v)
	case engine.Int32:
		t.I32[i] = int32(v)
	case engine.Int64:
		t.I64[i] = int64(v)
	}
}

func numbers(t *engine.Tensor) []float64 {
	list := make([]float64, t.Elements())
	for i := range list {
		switch t.Type {
		case engine.Int16:
			list[i] = float64(t.I16[i])
		case engine.Int64:
			list[i] = float64(t.I64[i])
		case engine.Bool:
			list[i] = float64(t.U8[i])
		default:
			list[i] = number(t, i)
		}
	}
	return list
}

// run loads a model and runs it, twice if it has no state: the second run must not depend on the first.
func (m one) run(t *testing.T, name string) (*Program, [][]float64) {
	p, err := Load(m.bytes(), Limits{})
	require.NoError(t, err, name)
	opened, err := p.NewSession()
	require.NoError(t, err, name)
	lasts := false
	var results [][]float64
	for range 2 {
		at := 0
		for _, a := range m.ins {
			lasts = lasts || a.variable
			if a.absent || a.fixed || a.variable {
				continue
			}
			for i, v := range a.data {
				setNumber(opened.Inputs()[at], i, v)
			}
			at++
		}
		require.NoError(t, opened.Run(), name)
		var got [][]float64
		for _, out := range opened.Outputs() {
			got = append(got, numbers(out))
		}
		if results != nil {
			require.Equal(t, fmt.Sprint(results), fmt.Sprint(got), "%s: the second run", name)
		}
		results = got
		if lasts {
			opened.Reset()
		}
	}
	return p, results
}

// near checks an output against a formula of real numbers: float32 within its precision, integers rounded to a step, with slack for kernels that
// round more than once.
func (a arg) near(t *testing.T, got []float64, slack float64, want func(i int) float64, name string) {
	require.Len(t, got, a.size(), name)
	for i, g := range got {
		w := want(i)
		switch a.kind {
		case engine.Float32:
			if math.IsNaN(w) || math.IsInf(w, 0) {
				require.Equal(t, fmt.Sprint(w), fmt.Sprint(g), "%s, element %d", name, i)
				continue
			}
			require.InDelta(t, w, g, 1e-5*(1+math.Abs(w))+slack, "%s, element %d", name, i)
		case engine.Int8:
			w = min(max(w/float64(a.scales[0])+float64(a.zero), -128), 127)
			require.InDelta(t, w, g, 0.51+slack, "%s, element %d", name, i)
		default:
			require.InDelta(t, w, g, 0, "%s, element %d", name, i)
		}
	}
}

func act(n int) scalar        { return scalar(uint32(n)) }
func bits(v float32) scalar   { return scalar(math.Float32bits(v)) }
func signedBits(n int) scalar { return scalar(uint32(int32(n))) }
func activated(n int) [2]float64 {
	return [][2]float64{{math.Inf(-1), math.Inf(1)}, {0, math.Inf(1)}, {-1, 1}, {0, 6}}[n]
}

func hold(v float64, n int) float64 { return min(max(v, activated(n)[0]), activated(n)[1]) }

var unary = map[int]func(x float64) float64{
	14: func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
	19: func(x float64) float64 { return max(x, 0) },
	20: func(x float64) float64 { return min(max(x, -1), 1) },
	21: func(x float64) float64 { return min(max(x, 0), 6) },
	28: math.Tanh,
	47: math.Exp,
	59: func(x float64) float64 { return -x },
	73: math.Log,
	75: math.Sqrt,
	76: func(x float64) float64 { return 1 / math.Sqrt(x) },
	92: func(x float64) float64 { return x * x },
	98: func(x float64) float64 {
		if x < 0 {
			return 0.3 * x
		}
		return x
	},
	101: math.Abs,
	111: func(x float64) float64 {
		if x < 0 {
			return math.Exp(x) - 1
		}
		return x
	},
	117: func(x float64) float64 { return x * min(max(x+3, 0), 6) / 6 },
}

// Functions of one number compute that function, in float32 and for all values of int8.
func TestFunctionsOfOneNumber(t *testing.T) {
	for code, f := range unary {
		options := object{}
		if code == 98 {
			options[0] = bits(0.3)
		}
		name := nameOf(code)
		x := f32(9).in(-8, -3, -1.5, -0.5, 0, 0.5, 1, 3.5, 7)
		_, got := one{code, options, []arg{x}, []arg{f32(9)}}.run(t, name)
		f32(9).near(t, got[0], 0, func(i int) float64 { return f(x.data[i]) }, name)

		q, y := i8(0.06, -7, 256), i8(0.05, 11, 256)
		if code == 73 || code == 75 || code == 76 {
			q.zero = -128 // no number below 0, and no logarithm of one
		}
		for i := range 256 {
			q.data = append(q.data, float64(i-128))
		}
		_, got = one{code, options, []arg{q}, []arg{y}}.run(t, name)
		y.near(t, got[0], 0.25, func(i int) float64 { return f(q.real(i)) }, name+" of int8") // TensorFlow Lite rounds some of them twice
	}
}

var binary2 = map[int]func(x, y float64) float64{
	0: func(x, y float64) float64 { return x + y }, 18: func(x, y float64) float64 { return x * y },
	41: func(x, y float64) float64 { return x - y }, 42: func(x, y float64) float64 { return x / y },
	55: math.Max, 57: math.Min, 99: func(x, y float64) float64 { return (x - y) * (x - y) },
}

// at returns the source of an element of an output in a broadcast input.
func (a arg) at(out []int, i int) int {
	at, stride := 0, 1
	for d := len(out) - 1; d >= 0; d-- {
		if own := d - (len(out) - len(a.shape)); own >= 0 {
			if a.shape[own] > 1 {
				at += i % out[d] * stride
			}
			stride *= a.shape[own]
		}
		i /= out[d]
	}
	return at
}

// Functions of two numbers broadcast their inputs by NumPy's rule, and apply the bounds of their activation.
func TestFunctionsOfTwoNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for code, f := range binary2 {
		for _, s := range [][3][]int{{{3, 4}, {3, 4}, {3, 4}}, {{2, 3}, {3}, {2, 3}}, {{2, 1, 3}, {4, 1}, {2, 4, 3}}, {{}, {5}, {5}}, {{2, 3, 2}, {1, 3, 1}, {2, 3, 2}}} {
			for activation := range 4 {
				options := object{0: act(activation)}
				fused := code == 0 || code == 18 || code == 41 || code == 42
				if !fused {
					activation, options = 0, object{}
				}
				name := fmt.Sprint(nameOf(code), " ", s, " ", activation)
				a, b, y := f32(s[0]...).drawn(r), f32(s[1]...).drawn(r), f32(s[2]...)
				for i := range a.data {
					a.data[i] *= 5
				}
				want := func(i int) float64 {
					return hold(f(a.real(a.at(y.shape, i)), b.real(b.at(y.shape, i))), activation)
				}
				_, got := one{code, options, []arg{a, b}, []arg{y}}.run(t, name)
				y.near(t, got[0], 1e-4, want, name)
				if code != 42 {
					a, b, y = a.of(engine.Int32), b.of(engine.Int32), y.of(engine.Int32)
					for i := range a.data {
						a.data[i] = math.Round(a.data[i] * 100)
					}
					for i := range b.data {
						b.data[i] = math.Round(b.data[i] * 100)
					}
					if activation == 0 {
						_, got = one{code, options, []arg{a, b}, []arg{y}}.run(t, name)
						y.near(t, got[0], 0, want, name)
					}
				}
				if code == 42 || code == 99 {
					continue
				}
				a, b, y = i8(0.04, 3, s[0]...).drawn(r), i8(0.06, -9, s[1]...).drawn(r), i8(0.05, 4, s[2]...)
				if !fused && code != 42 {
					a, b = i8(0.05, 4, s[0]...).drawn(r), i8(0.05, 4, s[1]...).drawn(r)
				}
				_, got = one{code, options, []arg{a, b}, []arg{y}}.run(t, name)
				y.near(t, got[0], 0.01, want, name)
			}
		}
	}
}

// Softmax normalises each row to a sum of 1, more sharply for a greater beta.
func TestSoftmaxMakesShares(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, beta := range []float32{1, 0.25, 2} {
		for _, in := range []arg{f32(3, 5).drawn(r), i8(0.05, 7, 3, 5).drawn(r)} {
			out := f32(3, 5)
			if in.kind == engine.Int8 {
				out = i8(1./256, -128, 3, 5)
			}
			_, got := one{25, object{0: bits(beta)}, []arg{in}, []arg{out}}.run(t, "SOFTMAX")
			out.near(t, got[0], 0, func(i int) float64 {
				sum := 0.0
				for k := range 5 {
					sum += math.Exp(float64(beta) * (in.real(i/5*5+k) - in.real(i)))
				}
				return 1 / sum
			}, fmt.Sprint("beta ", beta))
		}
	}
}

// Casts keep integers, and truncate other numbers towards 0.
func TestCastsKeepNumbers(t *testing.T) {
	for _, from := range []engine.Type{engine.Float32, engine.Int32, engine.Int64, engine.Bool, engine.Uint8, engine.Int8} {
		for _, to := range []engine.Type{engine.Float32, engine.Int32, engine.Int64} {
			data := []float64{0, 1, 1, 0}
			switch from {
			case engine.Float32:
				data = []float64{2.75, -3.5, 100, 0}
			case engine.Int8, engine.Int32, engine.Int64:
				data = []float64{2, -3, 100, 0}
			case engine.Uint8:
				data = []float64{2, 200, 255, 0}
			}
			in, out := f32(4).of(from).in(data...), f32(4).of(to)
			_, got := one{53, object{}, []arg{in}, []arg{out}}.run(t, "CAST")
			out.near(t, got[0], 0, func(i int) float64 {
				if to == engine.Float32 {
					return data[i]
				}
				return math.Trunc(data[i])
			}, fmt.Sprint(from, " to ", to))
		}
	}
}

// Quantisation rounds to steps and clamps to the type; dequantisation returns the represented numbers.
func TestQuantisingAndBack(t *testing.T) {
	low := map[engine.Type]float64{engine.Int8: -128, engine.Uint8: 0}
	for _, to := range []engine.Type{engine.Int8, engine.Uint8} {
		out := i8(0.5, 3, 6).of(to)
		x := f32(6).in(0, 0.75, -0.75, 1000, -1000, math.NaN())
		_, got := one{114, object{}, []arg{x}, []arg{out}}.run(t, "QUANTIZE")
		require.Equal(t, []float64{3, 5, 1, low[to] + 255, low[to], 3}, got[0], "%s", to)
		for _, from := range []engine.Type{engine.Int8, engine.Uint8} {
			q := i8(0.25, 5, 6).of(from).in(low[from], low[from]+255, 5, 9, 13, 1)
			_, got := one{114, object{}, []arg{q}, []arg{out}}.run(t, "QUANTIZE")
			for i, v := range q.data {
				require.InDelta(t, min(max((v-5)/2+3, low[to]), low[to]+255), got[0][i], 0.51, "%s to %s", from, to)
			}
		}
	}
	for _, from := range []engine.Type{engine.Int8, engine.Uint8, engine.Int16} {
		q := i8(0.25, 5, 4).of(from).in(0, 100, 7, 5)
		_, got := one{6, object{}, []arg{q}, []arg{f32(4)}}.run(t, "DEQUANTIZE")
		require.Equal(t, []float64{-1.25, 23.75, 0.5, 0}, got[0], "%s", from)
	}
}

// A number of 16 bits is read as its value: normal, subnormal, infinite or NaN.
func TestHalvesAreWidened(t *testing.T) {
	for h := range 1 << 16 {
		got, err := widen([]byte{byte(h), byte(h >> 8)})
		require.NoError(t, err)
		sign, exponent, fraction := 1-2*float64(h>>15), float64(h>>10&31), float64(h&1023)
		want := sign * math.Ldexp(1+fraction/1024, int(exponent)-15)
		switch {
		case exponent == 0:
			want = math.Copysign(math.Ldexp(fraction/1024, -14), sign)
		case exponent == 31 && fraction == 0:
			want = math.Inf(int(sign))
		case exponent == 31:
			want = math.NaN()
		}
		v := math.Float32frombits(binary.LittleEndian.Uint32(got))
		if math.IsNaN(want) {
			require.NotEqual(t, v, v, "%#x", h)
		} else if math.Float32bits(float32(want)) != math.Float32bits(v) {
			t.Fatalf("%#x is %g, expected %g", h, v, want)
		}
	}
	_, err := widen([]byte{1})
	require.ErrorContains(t, err, "a float16 buffer has 1 bytes")
}

// Reductions fold the named axes, each once, counted from either end.
func TestReductionsFoldAxes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	shape := []int{2, 3, 4}
	for _, axes := range [][]float64{{0}, {1}, {2}, {-1}, {0, 2}, {1, 1}, {1, -2}, {0, 1, 2}} {
		gone := map[int]bool{}
		for _, a := range axes {
			gone[(int(a)+3)%3] = true
		}
		var left []int
		count := 1
		for d, n := range shape {
			if gone[d] {
				count *= n
			} else {
				left = append(left, n)
			}
		}
		folded := func(in arg, out int, f func(v float64)) {
			for i := range in.data {
				index, at := []int{i / 12, i / 4 % 3, i % 4}, 0
				for d, n := range shape {
					if !gone[d] {
						at = at*n + index[d]
					}
				}
				if at == out {
					f(in.real(i))
				}
			}
		}
		for code, f := range map[int]func(in arg, i int) float64{
			74: func(in arg, i int) (sum float64) { folded(in, i, func(v float64) { sum += v }); return sum },
			40: func(in arg, i int) (sum float64) {
				folded(in, i, func(v float64) { sum += v / float64(count) })
				return sum
			},
			82: func(in arg, i int) float64 {
				top := math.Inf(-1)
				folded(in, i, func(v float64) { top = max(top, v) })
				return top
			},
		} {
			name := fmt.Sprint(nameOf(code), " ", axes)
			in, out := f32(shape...).drawn(r), f32(left...)
			_, got := one{code, object{}, []arg{in, held(axes...)}, []arg{out}}.run(t, name)
			out.near(t, got[0], 0, func(i int) float64 { return f(in, i) }, name)
			in, out = i8(0.05, 9, shape...).drawn(r), i8(0.4, -5, left...)
			if code == 82 {
				out = i8(0.05, 9, left...)
			}
			_, got = one{code, object{}, []arg{in, held(axes...)}, []arg{out}}.run(t, name)
			out.near(t, got[0], 0.01, func(i int) float64 { return f(in, i) }, name+" of int8")
		}
	}
	for _, axis := range []float64{0, 1, 2, -1} {
		for _, kind := range []engine.Type{engine.Int32, engine.Int64} {
			for _, in := range []arg{f32(shape...).drawn(r), i8(0.05, 9, shape...).drawn(r)} {
				d := (int(axis) + 3) % 3
				inner := []int{12, 4, 1}[d]
				left := slices.Delete(slices.Clone(shape), d, d+1)
				copy(in.data[4:8], []float64{3, 50, 50, 2}) // the first among equals
				_, got := one{56, object{}, []arg{in, held(axis)}, []arg{f32(left...).of(kind)}}.run(t, "ARG_MAX")
				for i, g := range got[0] {
					best, base := 0, i/inner*inner*shape[d]+i%inner
					for k := range shape[d] {
						if in.data[base+k*inner] > in.data[base+best*inner] {
							best = k
						}
					}
					require.InDelta(t, best, g, 0, "axis %g, element %d", axis, i)
				}
			}
		}
	}
}

// A resized picture uses the nearest pixel, or mixes the four pixels around a place, with each definition of places.
func TestPicturesAreResized(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, size := range [][4]int{{2, 3, 4, 5}, {5, 4, 2, 2}, {3, 3, 1, 7}, {4, 4, 4, 4}} {
		for flags := range 3 {
			aligned, half := flags == 1, flags == 2
			h, w, oh, ow := size[0], size[1], size[2], size[3]
			place := func(i, from, to int) float64 {
				switch {
				case aligned && to > 1:
					return float64(i) * float64(from-1) / float64(to-1)
				case half:
					return (float64(i) + 0.5) * float64(from) / float64(to)
				}
				return float64(i) * float64(from) / float64(to)
			}
			held := func(v float64, n int) int { return int(min(max(v, 0), float64(n-1))) }
			options, old := object{}, object{}
			if flags > 0 {
				options[flags-1], old[flags+1] = scalar(1), scalar(1)
			}
			name := fmt.Sprint(size, " aligned ", aligned, " half ", half)
			for _, in := range []arg{f32(2, h, w, 2).drawn(r), i8(1, 0, 2, h, w, 2).drawn(r)} {
				out := in
				out.shape, out.data = []int{2, oh, ow, 2}, nil
				sizes := arg{kind: engine.Int32, shape: []int{2}, data: []float64{float64(oh), float64(ow)}, fixed: true}
				pixel := func(i, y, x int) float64 { return in.real(((i/2/ow/oh)*h*w+y*w+x)*2 + i%2) }
				_, got := one{97, options, []arg{in, sizes}, []arg{out}}.run(t, name)
				out.near(t, got[0], 0, func(i int) float64 {
					y, x := place(i/2/ow%oh, h, oh), place(i/2%ow, w, ow)
					if aligned {
						y, x = math.Round(y), math.Round(x)
					}
					return pixel(i, held(math.Floor(y+1e-6), h), held(math.Floor(x+1e-6), w))
				}, "nearest "+name)
				_, got = one{23, old, []arg{in, sizes}, []arg{out}}.run(t, name)
				slack := 1e-4
				if in.kind == engine.Int8 {
					slack = 2
				}
				out.near(t, got[0], slack, func(i int) float64 {
					y, x := place(i/2/ow%oh, h, oh), place(i/2%ow, w, ow)
					if half {
						y, x = y-0.5, x-0.5
					}
					y, x = min(max(y, 0), float64(h-1)), min(max(x, 0), float64(w-1))
					y0, x0 := int(y), int(x)
					y1, x1 := min(y0+1, h-1), min(x0+1, w-1)
					dy, dx := y-float64(y0), x-float64(x0)
					return (pixel(i, y0, x0)*(1-dx)+pixel(i, y0, x1)*dx)*(1-dy) + (pixel(i, y1, x0)*(1-dx)+pixel(i, y1, x1)*dx)*dy
				}, "bilinear "+name)
			}
		}
	}
}

// seen calls f for each input pixel of an output pixel, with its place in the kernel; padding is left out.
func seen(in []int, y, x, kh, kw, sh, sw, dh, dw int, same bool, f func(iy, ix, tap int)) {
	before := func(n, k, s, d int) int {
		if !same {
			return 0
		}
		return max((((n+s-1)/s)-1)*s+(k-1)*d+1-n, 0) / 2
	}
	for ky := range kh {
		for kx := range kw {
			iy, ix := y*sh+ky*dh-before(in[1], kh, sh, dh), x*sw+kx*dw-before(in[2], kw, sw, dw)
			if iy >= 0 && iy < in[1] && ix >= 0 && ix < in[2] {
				f(iy, ix, ky*kw+kx)
			}
		}
	}
}

func lengthOf(n, k, s, d int, same bool) int {
	if same {
		return (n + s - 1) / s
	}
	return (n-(k-1)*d-1)/s + 1
}

// Convolutions and pools are sums, means and maxima over the input of each output pixel, for any stride, dilation, padding and activation; weights
// may have a scale for each channel, and an int8 layer rounds once.
func TestLayersSeeTheirWindows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 9))
	pick := func(n int) int { return 1 + r.IntN(n) }
	for range 60 {
		batches, h, w, c, n := pick(2), 5+r.IntN(4), 6+r.IntN(4), pick(4), pick(5)
		kh, kw, sh, sw, dh, dw := pick(3), pick(3), pick(2), pick(2), pick(2), pick(2)
		same, activation, bare := r.IntN(2) == 0, r.IntN(4), r.IntN(3) == 0
		pad := scalar(1)
		if same {
			pad = 0
		}
		name := fmt.Sprint(batches, h, w, c, n, " kernel ", kh, kw, " strides ", sh, sw, " dilations ", dh, dw, " same ", same, " activation ", activation)
		oh, ow := lengthOf(h, kh, sh, dh, same), lengthOf(w, kw, sw, dw, same)
		for _, kind := range []engine.Type{engine.Float32, engine.Int8} {
			scales := func(n int) []float32 {
				list := make([]float32, n)
				for i := range list {
					list[i] = 0.002 + 0.01*r.Float32()
				}
				return list
			}
			in, bias := f32(batches, h, w, c).drawn(r), f32(n).constant(r)
			out := f32(batches, oh, ow, n)
			filter := f32(n, kh, kw, c).constant(r)
			layer := func(axis, n int) {
				if kind == engine.Int8 {
					in, out = i8(0.05, -11, batches, h, w, c).drawn(r), i8(0.07, 5, batches, oh, ow, n)
					filter = i8(1, 0, filter.shape...).channels(scales(n)).along(axis).constant(r)
					bias = arg{kind: engine.Int32, shape: []int{n}, scales: make([]float32, n), data: make([]float64, n), fixed: true}
					for i, s := range filter.scales {
						bias.scales[i], bias.data[i] = s*0.05, float64(r.IntN(2001)-1000)
					}
				}
			}
			ins := func() []arg {
				if bare {
					return []arg{in, filter}
				}
				return []arg{in, filter, bias}
			}
			biasOf := func(m int) float64 {
				switch {
				case bare:
					return 0
				case kind == engine.Int8:
					return bias.data[m] * float64(bias.scales[m])
				}
				return bias.data[m]
			}
			pixel := func(i, iy, ix, ch int) float64 {
				b := i / (out.shape[3] * ow * oh)
				return in.real(((b*h+iy)*w+ix)*c + ch)
			}
			layer(0, n)
			p, got := one{3, object{0: pad, 1: act(sw), 2: act(sh), 3: act(activation), 4: act(dw), 5: act(dh)}, ins(), []arg{out}}.run(t, name)
			require.EqualValues(t, batches*oh*ow*n*kh*kw*c, p.Info().MACs, name)
			out.near(t, got[0], 1e-3, func(i int) float64 {
				sum, m := biasOf(i%n), i%n
				seen(in.shape, i/n/ow%oh, i/n%ow, kh, kw, sh, sw, dh, dw, same, func(iy, ix, tap int) {
					for ch := range c {
						sum += pixel(i, iy, ix, ch) * filter.real((m*kh*kw+tap)*c+ch)
					}
				})
				return hold(sum, activation)
			}, "CONV_2D "+name)

			by := pick(3)
			out, bias, filter = f32(batches, oh, ow, c*by), f32(c*by).constant(r), f32(1, kh, kw, c*by).constant(r)
			layer(3, c*by)
			p, got = one{4, object{0: pad, 1: act(sw), 2: act(sh), 3: act(by), 4: act(activation), 5: act(dw), 6: act(dh)}, ins(), []arg{out}}.run(t, name)
			require.EqualValues(t, batches*oh*ow*c*by*kh*kw, p.Info().MACs, name)
			out.near(t, got[0], 1e-3, func(i int) float64 {
				m := i % (c * by)
				sum := biasOf(m)
				seen(in.shape, i/(c*by)/ow%oh, i/(c*by)%ow, kh, kw, sh, sw, dh, dw, same, func(iy, ix, tap int) {
					sum += pixel(i, iy, ix, m/by) * filter.real(tap*c*by+m)
				})
				return hold(sum, activation)
			}, fmt.Sprint("DEPTHWISE_CONV_2D by ", by, " ", name))

			oh, ow = lengthOf(h, kh, sh, 1, same), lengthOf(w, kw, sw, 1, same)
			out = in
			out.shape, out.data = []int{batches, oh, ow, c}, nil
			for _, mean := range []bool{true, false} {
				code := 17
				if mean {
					code = 1
				}
				_, got = one{code, object{0: pad, 1: act(sw), 2: act(sh), 3: act(kw), 4: act(kh), 5: act(activation)}, []arg{in}, []arg{out}}.run(t, name)
				out.near(t, got[0], 0.01, func(i int) float64 {
					sum, top, k := 0.0, math.Inf(-1), 0.0
					seen(in.shape, i/c/ow%oh, i/c%ow, kh, kw, sh, sw, 1, 1, same, func(iy, ix, _ int) {
						v := pixel(i, iy, ix, i%c)
						sum, top, k = sum+v, max(top, v), k+1
					})
					if mean {
						return hold(sum/k, activation)
					}
					return hold(top, activation)
				}, nameOf(code)+" "+name)
			}
			oh, ow = lengthOf(h, kh, sh, dh, same), lengthOf(w, kw, sw, dw, same)
		}
	}
}

// A dense layer is a sum over its inputs for each output; float layers also accept int8 weights, with one scale or one for each row.
func TestDenseLayersAreSums(t *testing.T) {
	r := rand.New(rand.NewPCG(10, 11))
	for activation := range 4 {
		for _, bare := range []bool{false, true} {
			for _, k := range []struct{ in, weights engine.Type }{{engine.Float32, engine.Float32}, {engine.Float32, engine.Int8}, {engine.Int8, engine.Int8}} {
				for _, scales := range [][]float32{{0.01}, {0.01, 0.02, 0.03}} {
					in, w, b, y := f32(2, 5).drawn(r), f32(3, 5).constant(r), f32(3).constant(r), f32(2, 3)
					if k.weights == engine.Int8 {
						w = i8(1, 0, 3, 5).channels(scales).constant(r)
					}
					if k.in == engine.Int8 {
						in, y = i8(0.1, -20, 2, 5).drawn(r), i8(0.1, 9, 2, 3)
						b = held(500, -300, 40)
					}
					ins := []arg{in, w, b}
					if bare {
						ins[2] = arg{absent: true}
					}
					name := fmt.Sprint(k, activation, bare, scales)
					p, got := one{9, object{0: act(activation)}, ins, []arg{y}}.run(t, name)
					require.EqualValues(t, 2*3*5, p.Info().MACs)
					y.near(t, got[0], 1e-3, func(i int) float64 {
						sum := 0.0
						for j := range 5 {
							sum += in.real(i/3*5+j) * w.real(i%3*5+j)
						}
						if !bare && k.in == engine.Int8 {
							sum += b.data[i%3] * 0.1 * float64(scales[i%3%len(scales)])
						} else if !bare {
							sum += b.data[i%3]
						}
						return hold(sum, activation)
					}, name)
				}
			}
		}
	}
}

// Float layers also accept int8 filters, as from dynamic range quantisation.
func TestFloatLayersTakeFiltersOfInt8(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 13))
	x := f32(1, 4, 4, 2).drawn(r)
	for code, filter := range map[int]arg{3: i8(1, 0, 3, 2, 2, 2).channels([]float32{0.01, 0.02, 0.03}), 4: i8(1, 0, 1, 2, 2, 2).channels([]float32{0.01, 0.02}).along(3)} {
		filter = filter.constant(r)
		wide := f32(filter.shape...)
		for i := range filter.data {
			wide.data = append(wide.data, filter.real(i))
		}
		wide.fixed = true
		options, n := object{0: scalar(1), 1: scalar(1), 2: scalar(1)}, filter.shape[0]
		if code == 4 {
			n = 2
			options[3] = scalar(1)
		}
		p, got := one{code, options, []arg{x, filter}, []arg{f32(1, 3, 3, n)}}.run(t, nameOf(code))
		plain, want := one{code, options, []arg{x, wide}, []arg{f32(1, 3, 3, n)}}.run(t, nameOf(code))
		require.InDeltaSlice(t, want[0], got[0], 1e-4)
		require.EqualValues(t, plain.Info().Bytes+int64(len(filter.data)), p.Info().Bytes, "the expanded filter counts as memory beside the file's")
	}
}

// lstmCase is a layer of two states on three inputs over time, with the numbers that its formula needs.
type lstmCase struct {
	batches, times, inputs, states int
	x                              arg
	w, r, b                        [4]arg
	clip                           float64
}

func (k lstmCase) formula(timeMajor bool) (out []float64) {
	out = make([]float64, k.batches*k.times*k.states)
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	for batch := range k.batches {
		h, s := make([]float64, k.states), make([]float64, k.states)
		for time := range k.times {
			row := batch*k.times + time
			if timeMajor {
				row = time*k.batches + batch
			}
			var gate [4][]float64
			for g := range gate {
				for i := range k.states {
					var v float64
					if !k.b[g].absent {
						v = k.b[g].data[i]
						if k.b[g].kind == engine.Int32 {
							v *= float64(k.x.scales[0]) * float64(k.w[g].scales[0])
						}
					}
					for j := range k.inputs {
						v += k.x.real(row*k.inputs+j) * k.w[g].real(i*k.inputs+j)
					}
					for j := range k.states {
						v += h[j] * k.r[g].real(i*k.states+j)
					}
					gate[g] = append(gate[g], v)
				}
			}
			for i := range k.states {
				s[i] = sigmoid(gate[1][i])*s[i] + sigmoid(gate[0][i])*math.Tanh(gate[2][i])
				if k.clip > 0 {
					s[i] = min(max(s[i], -k.clip), k.clip)
				}
				h[i] = sigmoid(gate[3][i]) * math.Tanh(s[i])
				out[row*k.states+i] = h[i]
			}
		}
	}
	return out
}

// A recurrent layer equals its formula, step by step, for each batch separately, with batch or time first.
func TestRecurrentLayersAreTheirFormula(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 15))
	for _, kind := range []engine.Type{engine.Float32, engine.Int8} {
		for _, timeMajor := range []bool{false, true} {
			for _, clip := range []float64{0, 0.2} {
				for _, bare := range []bool{false, true} {
					k := lstmCase{batches: 2, times: 5, inputs: 3, states: 4, clip: clip}
					options := object{0: scalar(4), 1: bits(float32(clip))}
					shape := []int{k.batches, k.times, k.inputs}
					if timeMajor {
						shape[0], shape[1] = shape[1], shape[0]
						options[3] = scalar(1)
					}
					k.x = f32(shape...).drawn(r)
					out := f32(shape[0], shape[1], k.states)
					state, cell := f32(k.batches, k.states).lasting(), f32(k.batches, k.states).lasting()
					if kind == engine.Int8 {
						k.x, out = i8(0.02, 5, shape...).drawn(r), i8(1./128, 3, shape[0], shape[1], k.states)
						state, cell = i8(1./128, 3, k.batches, k.states).lasting(), i8(1./4096, 0, k.batches, k.states).of(engine.Int16).lasting()
					}
					ins := make([]arg, 24)
					for i := range ins {
						ins[i].absent = true
					}
					for g := range 4 {
						k.w[g], k.r[g], k.b[g] = f32(k.states, k.inputs).constant(r), f32(k.states, k.states).constant(r), f32(k.states).constant(r)
						if kind == engine.Int8 {
							k.w[g], k.r[g] = i8(0.01, 0, k.states, k.inputs).constant(r), i8(0.012, 0, k.states, k.states).constant(r)
							k.b[g] = held(900, -700, 300, 50)
						}
						if bare {
							k.b[g] = arg{absent: true}
						}
						ins[1+g], ins[5+g], ins[12+g] = k.w[g], k.r[g], k.b[g]
					}
					ins[0], ins[18], ins[19] = k.x, state, cell
					name := fmt.Sprint(kind, " time first ", timeMajor, " clip ", clip, " bare ", bare)
					p, got := one{44, options, ins, []arg{out}}.run(t, name)
					require.EqualValues(t, k.batches*k.times*4*k.states*(k.inputs+k.states), p.Info().MACs)
					want := k.formula(timeMajor)
					slack := 1e-4
					if kind == engine.Int8 {
						slack = 3
					}
					out.near(t, got[0], slack, func(i int) float64 { return want[i] }, name)
				}
			}
		}
	}
}

// Int8 filters over time are those of the represented numbers, with bias and activation, and continue from run to run.
func TestFiltersOverTime(t *testing.T) {
	r := rand.New(rand.NewPCG(16, 17))
	const batches, inputs, filters, memory, rank = 2, 5, 4, 3, 2
	for activation := range 2 {
		for _, kind := range []engine.Type{engine.Float32, engine.Int8} {
			for _, bare := range []bool{true, false} {
				x, feature, time, bias := f32(batches, inputs), f32(filters, inputs).constant(r), f32(filters, memory).constant(r), f32(filters/rank).file(0.5, -0.25)
				state, y := f32(batches, filters*memory).lasting(), f32(batches, filters/rank)
				if kind == engine.Int8 {
					x, feature = i8(0.05, 4, batches, inputs), i8(0.01, 0, filters, inputs).constant(r)
					time = i8(0.01, 0, filters, memory).of(engine.Int16).constant(r)
					state, y = i8(0.001, 0, batches, filters*memory).of(engine.Int16).lasting(), i8(0.05, -3, batches, filters/rank)
					bias = held(50000, -25000) // times 0.001·0.01
				}
				if bare {
					bias = arg{absent: true}
				}
				p, err := Load(one{27, object{0: scalar(rank), 1: act(activation)}, []arg{x, feature, time, bias, state}, []arg{y}}.bytes(), Limits{})
				require.NoError(t, err)
				require.EqualValues(t, batches*filters*(inputs+memory), p.Info().MACs)
				s, err := p.NewSession()
				require.NoError(t, err)
				weight := func(f, m int) float64 {
					if kind == engine.Int8 {
						return 0.01 * time.data[f*memory+m]
					}
					return time.data[f*memory+m]
				}
				past := make([][][]float64, batches)
				for range 5 {
					x = x.drawn(r)
					for i, v := range x.data {
						setNumber(s.Inputs()[0], i, v)
					}
					require.NoError(t, s.Run())
					for b := range batches {
						var now []float64
						for f := range filters {
							sum := 0.0
							for i := range inputs {
								sum += x.real(b*inputs+i) * feature.real(f*inputs+i)
							}
							now = append(now, sum)
						}
						past[b] = append(past[b], now)
					}
					slack := 1e-3
					if kind == engine.Int8 {
						slack = 0.3
					}
					y.near(t, numbers(s.Outputs()[0]), slack, func(i int) float64 {
						b, u := i/(filters/rank), i%(filters/rank)
						sum := 0.0
						if !bare {
							sum = []float64{0.5, -0.25}[u]
						}
						for f := u * rank; f < (u+1)*rank; f++ {
							for m := range memory {
								if at := len(past[b]) - memory + m; at >= 0 {
									sum += past[b][at][f] * weight(f, m)
								}
							}
						}
						return hold(sum, activation)
					}, fmt.Sprint(kind, activation))
				}
			}
		}
	}
}

// Every operator rejects inputs and outputs that do not fit, with the reason; the file beside the test contains all errors. A model that is accepted
// in spite of a change also runs.
func TestMisfitsAreRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(18, 19))
	image, filter, signal := f32(1, 4, 4, 2), f32(3, 2, 2, 2).constant(r), i8(0.5, 3, 1, 4, 4, 2)
	window := object{0: scalar(1), 1: scalar(1), 2: scalar(1)}
	pool := object{0: scalar(1), 1: scalar(1), 2: scalar(1), 3: scalar(2), 4: scalar(2)}
	ins := make([]arg, 24)
	for i := range ins {
		ins[i].absent = true
	}
	for g := range 4 {
		ins[1+g], ins[5+g], ins[12+g] = f32(4, 3).constant(r), f32(4, 4).constant(r), f32(4).constant(r)
	}
	ins[0], ins[18], ins[19] = f32(2, 5, 3), f32(2, 4).lasting(), f32(2, 4).lasting()
	short := slices.Clone(ins)
	for g := range 4 {
		short[1+g], short[5+g], short[12+g] = i8(0.01, 0, 4, 3).constant(r), i8(0.01, 0, 4, 4).constant(r), held(1, 2, 3, 4)
	}
	short[0], short[18], short[19] = i8(0.02, 5, 2, 5, 3), i8(1./128, 0, 2, 4).lasting(), i8(1./4096, 0, 2, 4).of(engine.Int16).lasting()
	list := []one{
		{0, object{}, []arg{f32(2, 3), f32(3)}, []arg{f32(2, 3)}},
		{0, object{}, []arg{i8(0.5, 3, 2, 3), i8(0.5, 3, 3)}, []arg{i8(0.5, 3, 2, 3)}},
		{18, object{}, []arg{i8(0.5, 3, 2, 3), i8(0.5, 3, 3)}, []arg{i8(0.5, 3, 2, 3)}},
		{42, object{}, []arg{f32(2, 3), f32(3)}, []arg{f32(2, 3)}},
		{55, object{}, []arg{i8(0.5, 3, 2, 3), i8(0.5, 3, 3)}, []arg{i8(0.5, 3, 2, 3)}},
		{14, object{}, []arg{f32(2, 3)}, []arg{f32(2, 3)}},
		{21, object{}, []arg{f32(2, 3)}, []arg{f32(2, 3)}},
		{98, object{}, []arg{i8(0.5, 3, 2, 3)}, []arg{i8(0.5, 3, 2, 3)}},
		{25, object{0: bits(1)}, []arg{f32(2, 3)}, []arg{f32(2, 3)}},
		{53, object{}, []arg{f32(2, 3)}, []arg{held().of(engine.Int32).sized(2, 3)}},
		{114, object{}, []arg{f32(2, 3)}, []arg{i8(0.5, 3, 2, 3)}},
		{6, object{}, []arg{i8(0.5, 3, 2, 3)}, []arg{f32(2, 3)}},
		{40, object{}, []arg{f32(2, 3), held(1)}, []arg{f32(2)}},
		{82, object{}, []arg{i8(0.5, 3, 2, 3), held(1)}, []arg{i8(0.5, 3, 2)}},
		{56, object{}, []arg{f32(2, 3), held(1)}, []arg{f32(2).of(engine.Int32)}},
		{23, object{}, []arg{image, held(2, 3)}, []arg{f32(1, 2, 3, 2)}},
		{97, object{}, []arg{image, held(2, 3)}, []arg{f32(1, 2, 3, 2)}},
		{3, window, []arg{image, filter, f32(3).constant(r)}, []arg{f32(1, 3, 3, 3)}},
		{3, window, []arg{signal, i8(0.1, 0, 3, 2, 2, 2).constant(r), held(1, 2, 3)}, []arg{i8(0.5, 3, 1, 3, 3, 3)}},
		{4, window, []arg{image, f32(1, 2, 2, 4).constant(r), f32(4).constant(r)}, []arg{f32(1, 3, 3, 4)}},
		{4, window, []arg{signal, i8(0.1, 0, 1, 2, 2, 2).constant(r), held(1, 2)}, []arg{i8(0.5, 3, 1, 3, 3, 2)}},
		{1, pool, []arg{image}, []arg{f32(1, 3, 3, 2)}},
		{17, pool, []arg{signal}, []arg{i8(0.5, 3, 1, 3, 3, 2)}},
		{9, object{}, []arg{f32(2, 5), f32(3, 5).constant(r), f32(3).constant(r)}, []arg{f32(2, 3)}},
		{9, object{}, []arg{i8(0.5, 3, 2, 5), i8(0.1, 0, 3, 5).constant(r), held(1, 2, 3)}, []arg{i8(0.5, 3, 2, 3)}},
		{44, object{0: scalar(4)}, ins, []arg{f32(2, 5, 4)}},
		{44, object{0: scalar(4)}, short, []arg{i8(1./128, 0, 2, 5, 4)}},
		{27, object{0: scalar(2)}, []arg{f32(2, 5), f32(4, 5).constant(r), f32(4, 3).constant(r), f32(2).constant(r), f32(2, 12).lasting()}, []arg{f32(2, 2)}},
		{27, object{0: scalar(2)}, []arg{i8(0.5, 3, 2, 5), i8(0.1, 0, 4, 5).constant(r), i8(0.1, 0, 4, 3).of(engine.Int16).constant(r), held(1, 2), i8(0.1, 0, 2, 12).of(engine.Int16).lasting()}, []arg{i8(0.5, 3, 2, 2)}},
		{2, object{0: scalar(1)}, []arg{f32(2, 1), f32(2, 2)}, []arg{f32(2, 3)}},
		{22, object{}, []arg{f32(2, 3), held(3, 2)}, []arg{f32(3, 2)}},
		{34, object{}, []arg{f32(2, 3), held(1, 0, 0, 1).sized(2, 2)}, []arg{f32(3, 4)}},
		{36, object{}, []arg{f32(2, 3), held(1)}, []arg{f32(1, 3)}},
		{39, object{}, []arg{f32(2, 3), held(1, 0)}, []arg{f32(3, 2)}},
		{49, object{}, []arg{held(1), f32(2, 4)}, []arg{f32(2, 2), f32(2, 2)}},
		{45, object{}, []arg{f32(2, 3), held(0, 1), held(2, 3), held(1, 1)}, []arg{f32(2, 2)}},
		{65, object{}, []arg{f32(2, 3), held(0, 1), held(2, 2)}, []arg{f32(2, 2)}},
		{77, object{}, []arg{f32(2, 3)}, []arg{held().sized(2)}},
		{83, object{}, []arg{f32(3), f32(3)}, []arg{f32(2, 3)}},
	}
	changes := map[string]func(a *arg){
		"no data":  func(a *arg) { a.fixed = false },
		"missing":  func(a *arg) { a.absent = true },
		"a scalar": func(a *arg) { a.resize() },
		"longer":   func(a *arg) { a.resize(append(slices.Clone(a.shape[:len(a.shape)-1]), a.shape[len(a.shape)-1]+1)...) },
		"more":     func(a *arg) { a.resize(append([]int{a.shape[0] + 1}, a.shape[1:]...)...) },
		"empty":    func(a *arg) { a.resize(append([]int{0}, a.shape[1:]...)...) },
		"hollow":   func(a *arg) { a.resize(append(slices.Clone(a.shape[:len(a.shape)-1]), 0)...) },
		"a vector": func(a *arg) { a.resize(a.size()) },
		"turned":   func(a *arg) { s := slices.Clone(a.shape); slices.Reverse(s); a.resize(s...) },
		"deeper":   func(a *arg) { a.resize(append(slices.Clone(a.shape), 1)...) },
		"bool":     func(a *arg) { a.kind = engine.Bool },
		"int16":    func(a *arg) { a.kind = engine.Int16 },
		"int32":    func(a *arg) { a.kind = engine.Int32 },
		"other": func(a *arg) {
			a.kind = map[engine.Type]engine.Type{engine.Float32: engine.Int8, engine.Int8: engine.Float32, engine.Int32: engine.Int64, engine.Int16: engine.Int8}[a.kind]
		},
		"rescaled":   func(a *arg) { a.scales = []float32{77} },
		"offset":     func(a *arg) { a.scales, a.zero = []float32{0.5}, 9 },
		"by channel": func(a *arg) { a.scales = []float32{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7} },
		"flat": func(a *arg) {
			if len(a.shape) > 1 {
				a.resize(append([]int{a.shape[0], 0}, a.shape[2:]...)...)
			}
		},
		"minus": func(a *arg) {
			for i := range a.data {
				a.data[i] = -3
			}
		},
		"great": func(a *arg) {
			for i := range a.data {
				a.data[i] = 5
			}
		},
		"constant": func(a *arg) { a.data, a.fixed = make([]float64, a.size()), true },
	}
	values := []int{-1, 0, 1, 2, 9, 1 << 15, 1<<15 + 1}
	said, taken := map[string]bool{}, map[string][]string{}
	figures := regexp.MustCompile(`-?\d+(\.\d+)?|\b(bool|u?int\d+|float32)\b`)
	try := func(m one, model int, place, what string) {
		p, err := Load(m.bytes(), Limits{})
		if err != nil {
			require.ErrorContains(t, err, "operator 0 ("+nameOf(m.code)+")", what)
			text := strings.TrimPrefix(err.Error(), "preparing a TensorFlow Lite model: operator 0 ")
			said[figures.ReplaceAllStringFunc(text, func(s string) string {
				if strings.ContainsAny(s[:1], "-0123456789") {
					return "N"
				}
				return "T"
			})] = true
			return
		}
		s, err := p.NewSession()
		require.NoError(t, err, what)
		require.NoError(t, s.Run(), what)
		line := fmt.Sprintf("%s %d, %s", nameOf(m.code), model, place)
		taken[line] = append(taken[line], what)
	}
	for model, m := range list {
		_, err := Load(m.bytes(), Limits{})
		require.NoError(t, err, nameOf(m.code))
		for _, what := range slices.Sorted(maps.Keys(changes)) {
			for i := range m.ins {
				if m.ins[i].absent {
					continue
				}
				bad := m
				bad.ins = slices.Clone(m.ins)
				bad.ins[i].data = slices.Clone(bad.ins[i].data)
				changes[what](&bad.ins[i])
				try(bad, model, fmt.Sprint("input ", i), what)
			}
			for i := range m.outs {
				if what == "missing" {
					continue
				}
				bad := m
				bad.outs = slices.Clone(m.outs)
				changes[what](&bad.outs[i])
				try(bad, model, fmt.Sprint("output ", i), what)
			}
		}
		for field := range 8 {
			for _, v := range values {
				bad := m
				bad.options = maps.Clone(m.options)
				bad.options[field] = signedBits(v)
				try(bad, model, fmt.Sprint("option ", field), fmt.Sprint(v))
			}
		}
		bad := m
		bad.outs = nil
		try(bad, model, "outputs", "none")
		bad = m
		bad.ins = m.ins[:len(m.ins)-1]
		try(bad, model, "inputs", "one less")
	}
	got := "Taken in spite of a change:\n"
	for _, line := range slices.Sorted(maps.Keys(taken)) {
		if strings.Contains(line, "option") && len(taken[line]) == len(values) {
			continue // it has no such option
		}
		got += line + ": " + strings.Join(taken[line], ", ") + "\n"
	}
	got += "\nErrors, with N for numbers and T for types:\n" + strings.Join(slices.Sorted(maps.Keys(said)), "\n") + "\n"
	const golden = "testdata/misfits.txt"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func (a arg) sized(shape ...int) arg {
	a.fixed = a.fixed && a.data != nil
	a.shape = shape
	return a
}

func (a *arg) resize(shape ...int) {
	a.shape = shape
	if a.data != nil {
		a.data = slices.Clone(a.data)
		for len(a.data) < a.size() {
			a.data = append(a.data, 1)
		}
		a.data = a.data[:a.size()]
	}
}

// The bounds of an activation apply, and results saturate, even if the output's steps are so small that the bounds are beyond 32 bits.
func TestAnOutputOfSmallSteps(t *testing.T) {
	a, b, y := i8(1, 0, 3).in(127, -128, 0), i8(1, 0, 3).in(127, 127, 3), i8(1e-10, -7, 3)
	for activation, want := range map[int][]float64{0: {127, -128, -7}, 1: {127, -7, -7}, 3: {127, -7, -7}} {
		_, got := one{18, object{0: act(activation)}, []arg{a, b}, []arg{y}}.run(t, "MUL")
		require.Equal(t, want, got[0], activation)
	}
}

// A small file whose run would take hours is rejected when it is loaded.
func TestTheWorkOfARunIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		model one
		work  int64
	}{
		"layer": {one{9, object{}, []arg{f32(3, 4), f32(5, 4).constant(r), {absent: true}}, []arg{f32(3, 5)}}, 3 * 5 * 4},
		"pool":  {one{17, object{0: act(1), 1: act(1), 2: act(1), 3: act(3), 4: act(2)}, []arg{f32(1, 6, 7, 2)}, []arg{f32(1, 5, 5, 2)}}, 5 * 5 * 2 * 2 * 3},
	} {
		file := c.model.bytes()
		_, err := Load(file, Limits{MaxWork: c.work})
		require.NoError(t, err, name)
		_, err = Load(file, Limits{MaxWork: c.work - 1})
		require.ErrorContains(t, err, "multiply-accumulates", name)
	}
}
