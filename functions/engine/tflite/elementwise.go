package tflite

import (
	"math"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

// elementwise are the operators that compute each output from the inputs at its position.
var elementwise = map[int]builder{
	0:   {"ADD", func(c *compiler) { c.sumOf(1, func(x, y float64) float64 { return x + y }) }},
	6:   {"DEQUANTIZE", (*compiler).dequantize},
	14:  {"LOGISTIC", curve(func(x float64) float64 { return 1 / (1 + math.Exp(-x)) })},
	18:  {"MUL", (*compiler).mul},
	19:  {"RELU", clamp(0, math.MaxFloat32)},
	20:  {"RELU_N1_TO_1", clamp(-1, 1)},
	21:  {"RELU6", clamp(0, 6)},
	25:  {"SOFTMAX", (*compiler).softmax},
	28:  {"TANH", curve(math.Tanh)},
	41:  {"SUB", func(c *compiler) { c.sumOf(-1, func(x, y float64) float64 { return x - y }) }},
	42:  {"DIV", (*compiler).div},
	47:  {"EXP", curve(math.Exp)},
	53:  {"CAST", (*compiler).cast},
	55:  {"MAXIMUM", func(c *compiler) { c.choose(math.Max, func(x, y int8) int8 { return max(x, y) }) }},
	57:  {"MINIMUM", func(c *compiler) { c.choose(math.Min, func(x, y int8) int8 { return min(x, y) }) }},
	59:  {"NEG", curve(func(x float64) float64 { return -x })},
	73:  {"LOG", curve(math.Log)},
	75:  {"SQRT", curve(math.Sqrt)},
	76:  {"RSQRT", curve(func(x float64) float64 { return 1 / math.Sqrt(x) })},
	92:  {"SQUARE", curve(func(x float64) float64 { return x * x })},
	98:  {"LEAKY_RELU", (*compiler).leakyRelu},
	99:  {"SQUARED_DIFFERENCE", (*compiler).squaredDifference},
	101: {"ABS", curve(math.Abs)},
	111: {"ELU", curve(elu)},
	114: {"QUANTIZE", (*compiler).quantize},
	117: {"HARD_SWISH", curve(func(x float64) float64 { return x * min(max(x+3, 0), 6) / 6 })},
}

// table converts an int8 operator with one input to a table of its 256 results.
func (c *compiler) table(in, out *value, of func(q int32) int8) {
	var results [256]int8
	for q := range 256 {
		results[uint8(int8(q-128))] = of(int32(q - 128)) //nolint:gosec // −128 to 127
	}
	c.step(func() {
		to := out.I8[:len(in.I8)]
		for i, q := range in.I8 {
			to[i] = results[uint8(q)] //nolint:gosec // the index is the byte
		}
	})
}

// unary applies a function of real numbers, for int8 by a table.
func (c *compiler) unary(f func(float64) float64) {
	in := c.in(0, engine.Float32, engine.Int8)
	out := c.out(0, in.Type)
	c.same(in, out)
	if in.Type == engine.Int8 {
		c.table(in, out, func(q int32) int8 {
			return kernel.QuantizeInt8(float32(f(float64(in.Scale*float32(q-in.Zero)))), out.Scale, out.Zero)
		})
		return
	}
	c.step(func() {
		to := out.F32[:len(in.F32)]
		for i, v := range in.F32 {
			to[i] = float32(f(float64(v)))
		}
	})
}

func curve(f func(float64) float64) func(*compiler) {
	return func(c *compiler) { c.unary(f) }
}

func elu(x float64) float64 {
	if x < 0 {
		return math.Expm1(x)
	}
	return x
}

func clamp(low, top float64) func(*compiler) {
	return func(c *compiler) { c.clamp(low, top) }
}

// clamp is a separate RELU: rescaled in integers if input and output are quantised differently.
func (c *compiler) clamp(low, top float64) {
	in := c.in(0, engine.Float32, engine.Int8)
	out := c.out(0, in.Type)
	c.same(in, out)
	if in.Type == engine.Float32 {
		c.step(func() {
			to := out.F32[:len(in.F32)]
			for i, v := range in.F32 {
				to[i] = min(max(v, float32(low)), float32(top))
			}
		})
		return
	}
	at := func(v float64) int32 {
		return int32(min(max(math.Round(v/float64(out.Scale))+float64(out.Zero), math.MinInt8), math.MaxInt8))
	}
	m := kernel.NewMultiplier(float64(in.Scale) / float64(out.Scale))
	l, t := at(low), at(top)
	c.table(in, out, func(q int32) int8 { return int8(min(max(m.Apply(q-in.Zero)+out.Zero, l), t)) }) //nolint:gosec // held within int8
}

func (c *compiler) leakyRelu() {
	alpha := float64(c.op.options.float32(0))
	in := c.in(0)
	if in.Type != engine.Int8 {
		c.unary(func(x float64) float64 {
			if x < 0 {
				return alpha * x
			}
			return x
		})
		return
	}
	out := c.out(0, engine.Int8)
	c.same(in, out)
	as, scaled := kernel.NewMultiplier(float64(in.Scale)/float64(out.Scale)), kernel.NewMultiplier(float64(in.Scale)*alpha/float64(out.Scale))
	c.table(in, out, func(q int32) int8 {
		v := q - in.Zero
		m := as
		if v < 0 {
			m = scaled
		}
		return int8(min(max(m.Apply(v)+out.Zero, math.MinInt8), math.MaxInt8)) //nolint:gosec // held within int8
	})
}

func (c *compiler) quantize() {
	in := c.in(0, engine.Float32, engine.Int8, engine.Uint8)
	out := c.out(0, engine.Int8, engine.Uint8)
	if in.Elements() != out.Elements() {
		c.fail("%s and %s differ in size", &in.Spec, &out.Spec)
	}
	if in.Type == engine.Float32 {
		low, top := math.MinInt8, math.MaxInt8
		if out.Type == engine.Uint8 {
			low, top = 0, math.MaxUint8
		}
		c.step(func() {
			for i, v := range in.F32 {
				q := math.Round(float64(v / out.Scale))
				if math.IsNaN(q) {
					q = 0
				}
				store8(out, i, int32(min(max(q+float64(out.Zero), float64(low)), float64(top))))
			}
		})
		return
	}
	m := kernel.NewMultiplier(float64(in.Scale) / float64(out.Scale))
	low, top := int32(math.MinInt8), int32(math.MaxInt8)
	if out.Type == engine.Uint8 {
		low, top = 0, math.MaxUint8
	}
	c.step(func() {
		for i := range in.Elements() {
			store8(out, i, min(max(m.Apply(load8(in, i)-in.Zero)+out.Zero, low), top))
		}
	})
}

func load8(v *value, i int) int32 {
	if v.Type == engine.Uint8 {
		return int32(v.U8[i])
	}
	return int32(v.I8[i])
}

func store8(v *value, i int, q int32) {
	if v.Type == engine.Uint8 {
		v.U8[i] = uint8(q) //nolint:gosec // held within bounds by the caller
		return
	}
	v.I8[i] = int8(q) //nolint:gosec // held within bounds by the caller
}

func (c *compiler) dequantize() {
	in := c.in(0, engine.Int8, engine.Uint8, engine.Int16, engine.Float32)
	out := c.out(0, engine.Float32)
	if in.Elements() != out.Elements() {
		c.fail("%s and %s differ in size", &in.Spec, &out.Spec)
	}
	c.step(func() {
		copy(out.F32, in.F32) // of a constant that was float16
		for i, q := range in.I8 {
			out.F32[i] = in.Scale * float32(int32(q)-in.Zero)
		}
		for i, q := range in.U8 {
			out.F32[i] = in.Scale * float32(int32(q)-in.Zero)
		}
		for i, q := range in.I16 {
			out.F32[i] = in.Scale * float32(int32(q)-in.Zero)
		}
	})
}

func (c *compiler) cast() {
	in := c.in(0, engine.Float32, engine.Int32, engine.Int64, engine.Bool, engine.Uint8, engine.Int8)
	out := c.out(0, engine.Float32, engine.Int32, engine.Int64)
	if in.Elements() != out.Elements() {
		c.fail("%s and %s differ in size", &in.Spec, &out.Spec)
	}
	read := map[engine.Type]func(i int) float64{
		engine.Float32: func(i int) float64 { return float64(in.F32[i]) },
		engine.Int32:   func(i int) float64 { return float64(in.I32[i]) },
		engine.Int64:   func(i int) float64 { return float64(in.I64[i]) },
		engine.Bool:    func(i int) float64 { return float64(in.U8[i]) },
		engine.Uint8:   func(i int) float64 { return float64(in.U8[i]) },
		engine.Int8:    func(i int) float64 { return float64(in.I8[i]) },
	}[in.Type]
	c.step(func() {
		for i := range out.F32 {
			out.F32[i] = float32(read(i))
		}
		for i := range out.I32 {
			out.I32[i] = int32(read(i))
		}
		for i := range out.I64 {
			out.I64[i] = int64(read(i))
		}
	})
}

// pairs holds the positions of both inputs for each output of a binary operator, nil if they are those of the output.
type pairs struct{ a, b []int32 }

// broadcast returns the positions by NumPy's rule: shapes are compared from their ends, and a dimension of 1 repeats.
func (c *compiler) broadcast(a, b, out *value) pairs {
	return pairs{c.repeat(a, out), c.repeat(b, out)}
}

func (c *compiler) repeat(v, out *value) []int32 {
	lead := len(out.Shape) - len(v.Shape)
	if lead < 0 {
		c.fail("%s cannot be spread over %s", &v.Spec, &out.Spec)
	}
	strides := make([]int, len(out.Shape))
	stride, plain := 1, v.Elements() == out.Elements()
	for i := len(v.Shape) - 1; i >= 0; i-- {
		switch v.Shape[i] {
		case out.Shape[lead+i]:
			strides[lead+i] = stride
		case 1:
		default:
			c.fail("%s cannot be spread over %s", &v.Spec, &out.Spec)
		}
		stride *= v.Shape[i]
	}
	if plain {
		return nil
	}
	return c.places(out.Shape, strides, 0)
}

// places returns offset + Σ index·stride for each element of a shape, in order.
func (c *compiler) places(shape, strides []int, offset int) []int32 {
	n := engine.Product(shape)
	list := c.scratch(n)
	index := make([]int, len(shape))
	at := offset
	for i := range list {
		list[i] = int32(at) //nolint:gosec // within a tensor
		for d := len(shape) - 1; d >= 0; d-- {
			index[d]++
			at += strides[d]
			if index[d] < shape[d] {
				break
			}
			at -= strides[d] * index[d]
			index[d] = 0
		}
	}
	return list
}

func (p *pairs) at(i int) (int, int) {
	a, b := i, i
	if p.a != nil {
		a = int(p.a[i])
	}
	if p.b != nil {
		b = int(p.b[i])
	}
	return a, b
}

// binary applies a function to float32 or int32 inputs.
func (c *compiler) binary(a, b, out *value, activation int, f func(x, y float64) float64) {
	p := c.broadcast(a, b, out)
	if out.Type == engine.Float32 {
		low, top := c.bounds(activation)
		c.step(func() {
			for i := range out.F32 {
				x, y := p.at(i)
				out.F32[i] = min(max(float32(f(float64(a.F32[x]), float64(b.F32[y]))), low), top)
			}
		})
		return
	}
	c.step(func() {
		for i := range out.I32 {
			x, y := p.at(i)
			out.I32[i] = int32(f(float64(a.I32[x]), float64(b.I32[y])))
		}
	})
}

// operands returns the two inputs and the output, of one type.
func (c *compiler) operands(types ...engine.Type) (a, b, out *value) {
	a = c.in(0, types...)
	b, out = c.in(1, a.Type), c.out(0, a.Type)
	return a, b, out
}

// sumOf is a + sign·b. In int8, both are converted to the output's scale with up to 30 extra bits and rounded once, like XNNPACK.
func (c *compiler) sumOf(sign int32, f func(x, y float64) float64) {
	activation := c.op.options.int8(0)
	a, b, out := c.operands(engine.Float32, engine.Int8, engine.Int32)
	if a.Type != engine.Int8 {
		c.binary(a, b, out, activation, f)
		return
	}
	p := c.broadcast(a, b, out)
	low, top := c.quantBounds(activation, out)
	scaleA, scaleB := a.Scale/out.Scale, b.Scale/out.Scale
	shift := 20 - int(math.Float32bits(max(scaleA, scaleB))>>23) + 127
	if shift < 13 || shift > 30 {
		c.fail("inputs of scale %g and %g for an output of scale %g", a.Scale, b.Scale, out.Scale)
	}
	ma, mb := int32(math.RoundToEven(math.Ldexp(float64(scaleA), shift))), sign*int32(math.RoundToEven(math.Ldexp(float64(scaleB), shift)))
	bias := int32(1)<<(shift-1) - ma*a.Zero - mb*b.Zero
	c.step(func() {
		for i := range out.I8 {
			x, y := p.at(i)
			v := (bias+ma*int32(a.I8[x])+mb*int32(b.I8[y]))>>shift + out.Zero
			out.I8[i] = int8(min(max(v, low), top)) //nolint:gosec // held within int8
		}
	})
}

func (c *compiler) mul() {
	activation := c.op.options.int8(0)
	a, b, out := c.operands(engine.Float32, engine.Int8, engine.Int32)
	if a.Type != engine.Int8 {
		c.binary(a, b, out, activation, func(x, y float64) float64 { return x * y })
		return
	}
	p := c.broadcast(a, b, out)
	low, top := c.quantBounds(activation, out)
	scale := a.Scale * b.Scale / out.Scale
	c.step(func() {
		for i := range out.I8 {
			x, y := p.at(i)
			v := kernel.Scaled((int32(a.I8[x])-a.Zero)*(int32(b.I8[y])-b.Zero), scale) + out.Zero
			out.I8[i] = int8(min(max(v, low), top)) //nolint:gosec // held within int8
		}
	})
}

func (c *compiler) div() {
	a, b, out := c.operands(engine.Float32)
	c.binary(a, b, out, c.op.options.int8(0), func(x, y float64) float64 { return x / y })
}

func (c *compiler) squaredDifference() {
	a, b, out := c.operands(engine.Float32, engine.Int32)
	c.binary(a, b, out, 0, func(x, y float64) float64 { return (x - y) * (x - y) })
}

// choose selects one of two values; int8 inputs must have the same quantisation.
func (c *compiler) choose(f func(x, y float64) float64, q func(x, y int8) int8) {
	a, b, out := c.operands(engine.Float32, engine.Int8, engine.Int32)
	if a.Type != engine.Int8 {
		c.binary(a, b, out, 0, f)
		return
	}
	p := c.broadcast(a, b, out)
	if a.Scale != out.Scale || b.Scale != out.Scale || a.Zero != out.Zero || b.Zero != out.Zero {
		c.fail("inputs and output are quantised differently")
	}
	c.step(func() {
		for i := range out.I8 {
			x, y := p.at(i)
			out.I8[i] = q(a.I8[x], b.I8[y])
		}
	})
}

// softmax uses a table of exponentials for int8, like TensorFlow Lite's default kernel, in float32.
func (c *compiler) softmax() {
	beta := c.op.options.float32(0)
	in := c.in(0, engine.Float32, engine.Int8)
	out := c.out(0, in.Type)
	c.same(in, out)
	if len(in.Shape) == 0 {
		c.fail("softmax of a scalar")
	}
	depth := in.Shape[len(in.Shape)-1]
	if depth == 0 {
		c.fail("softmax over nothing")
	}
	if in.Type == engine.Float32 {
		c.step(func() {
			for at := 0; at < len(in.F32); at += depth {
				softmaxRow(out.F32[at:at+depth], in.F32[at:at+depth], beta)
			}
		})
		return
	}
	var exps [256]float32
	scale := -in.Scale * beta
	for i := range exps {
		exps[255-i] = float32(math.Exp(float64(scale * float32(i))))
	}
	c.note(in, out, Step{Kind: PlanSoftmax, Rows: len(in.I8) / depth, K: depth, Exps: exps[:], OutScale: out.Scale, OutZero: out.Zero})
	c.step(func() {
		for at := 0; at < len(in.I8); at += depth {
			row, to := in.I8[at:at+depth], out.I8[at:at+depth]
			top := int32(math.MinInt8)
			for _, q := range row {
				top = max(top, int32(q))
			}
			var sum float32
			for _, q := range row {
				sum += exps[255-top+int32(q)]
			}
			inverse := 1 / (sum * out.Scale)
			for i, q := range row {
				p := math.Round(float64(exps[255-top+int32(q)] * inverse))
				to[i] = int8(min(max(p+float64(out.Zero), math.MinInt8), math.MaxInt8))
			}
		}
	})
}

func softmaxRow(to, row []float32, beta float32) {
	top := row[0]
	for _, v := range row {
		top = max(top, v)
	}
	var sum float32
	for i, v := range row {
		to[i] = float32(math.Exp(float64((v - top) * beta)))
		sum += to[i]
	}
	for i := range to {
		to[i] /= sum
	}
}
