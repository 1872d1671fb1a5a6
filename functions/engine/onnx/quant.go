package onnx

import (
	"math"
	"slices"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

var quantised = map[string]func(*call){
	"QuantizeLinear": quantize, "DequantizeLinear": dequantize, "DynamicQuantizeLinear": dynamicQuantize,
	"QLinearMatMul": qlinearMatMul, "MatMulInteger": matMulInteger, "QLinearConv": qlinearConv, "ConvInteger": convInteger,
}

// rounded rounds a number to even, adds the zero point and saturates to int8 or uint8.
func rounded(v float64, zero int64, t engine.Type) float64 {
	low, top := -128.0, 127.0
	if t == engine.Uint8 {
		low, top = 0, 255
	}
	q := math.RoundToEven(v) + float64(zero)
	if q != q {
		q = float64(zero)
	}
	return min(max(q, low), top)
}

// alongAxis returns the layout of scales over a tensor: count scales alternate, each for inner elements.
func (c *call) alongAxis(x, scale *value) (count, inner int) {
	count = scale.Elements()
	if count == 1 {
		return 1, max(x.Elements(), 1)
	}
	axis := c.axis(c.int("axis", 1), len(x.Shape))
	if x.Shape[axis] != count || count == 0 {
		c.fail("%d scales for %s", count, &x.Spec)
	}
	return count, max(engine.Product(x.Shape[axis+1:]), 1)
}

func quantize(c *call) {
	x, scale, zero := c.input(0, engine.Float32, engine.Int32), c.input(1, engine.Float32), c.optional(2)
	t := engine.Uint8
	switch code := int64(c.int("output_dtype", 0)); {
	case zero != nil:
		t = c.input(2, engine.Int8, engine.Uint8).Type
	case code != 0:
		if t = typeOf[code]; t != engine.Int8 && t != engine.Uint8 {
			c.fail("output_dtype %d is not supported", code)
		}
	}
	count, inner := c.alongAxis(x, scale)
	y := c.output(0, t, x.Shape)
	from := x.F32
	if x.Type == engine.Int32 {
		from = c.floats(0, len(x.I32))
		for i, v := range x.I32 {
			from[i] = float32(v)
		}
	}
	for i := 0; i < len(from); i += inner {
		ch := i / inner % count
		part := from[i : i+inner]
		if t == engine.Int8 {
			quantisedTo(y.I8[i:], part, scale.F32[ch], zeroAt(zero, ch), math.MinInt8, math.MaxInt8)
		} else {
			quantisedTo(y.U8[i:], part, scale.F32[ch], zeroAt(zero, ch), 0, math.MaxUint8)
		}
	}
}

// zeroAt returns a zero point, 0 by default.
func zeroAt(zero *value, ch int) int64 {
	if zero == nil {
		return 0
	}
	return intAt(&zero.Tensor, ch)
}

func quantisedTo[T int8 | uint8](to []T, x []float32, scale float32, zero int64, low, top float64) {
	to = to[:len(x)]
	for i, v := range x {
		q := math.RoundToEven(float64(v/scale)) + float64(zero)
		if q != q {
			q = float64(zero)
		}
		to[i] = T(min(max(q, low), top))
	}
}

func plainFrom[T int8 | uint8 | int32](to []float32, x []T, scale float32, zero int64) {
	x = x[:len(to)]
	for i := range to {
		to[i] = float32(int64(x[i])-zero) * scale
	}
}

// requantised converts every n-th sum to 8 bits.
func requantised[T int8 | uint8](to []T, sums []int32, n int, add int32, scale float64, zero int64, low, top float64) {
	for i := range to {
		to[i] = T(min(max(math.RoundToEven(float64(sums[i*n]+add)*scale)+float64(zero), low), top))
	}
}

func dequantize(c *call) {
	x, scale, zero := c.input(0, engine.Int8, engine.Uint8, engine.Int32), c.input(1, engine.Float32), c.optional(2)
	count, inner := c.alongAxis(x, scale)
	y := c.output(0, engine.Float32, x.Shape)
	for i := 0; i < len(y.F32); i += inner {
		ch := i / inner % count
		to, s, z := y.F32[i:i+inner], scale.F32[ch], zeroAt(zero, ch)
		switch x.Type {
		case engine.Int8:
			plainFrom(to, x.I8[i:], s, z)
		case engine.Uint8:
			plainFrom(to, x.U8[i:], s, z)
		default:
			plainFrom(to, x.I32[i:], s, z)
		}
	}
}

func dynamicQuantize(c *call) {
	x := c.input(0, engine.Float32)
	var low, top float32
	for _, v := range x.F32 {
		low, top = min(low, v), max(top, v)
	}
	scale := (top - low) / 255
	zero := 0.0
	if scale != 0 {
		zero = rounded(float64(-low/scale), 0, engine.Uint8)
	}
	y := c.output(0, engine.Uint8, x.Shape)
	c.output(1, engine.Float32, nil).F32[0] = scale
	c.output(2, engine.Uint8, nil).U8[0] = uint8(zero)
	for i, v := range x.F32 {
		q := 0.0
		if scale != 0 {
			q = float64(v / scale)
		}
		y.U8[i] = uint8(rounded(q, int64(zero), engine.Uint8))
	}
}

// zeroOf returns the zero point of a tensor for plain: that of uint8 is shifted by 128.
func (c *call) zeroOf(v, zero *value) (z int32) {
	if zero != nil {
		if zero.Elements() != 1 || zero.Type != v.Type {
			c.fail("the zero point %s is not one %s", &zero.Spec, v.Type)
		}
		z = int32(intAt(&zero.Tensor, 0)) //nolint:gosec // 8 bits
	}
	if v.Type == engine.Uint8 {
		z -= 128
	}
	return z
}

// plain returns the elements as int8: those of uint8 are shifted by 128.
func (c *call) plain(i int, v *value) []int8 {
	switch v.Type {
	case engine.Int8:
		return v.I8
	case engine.Uint8:
		q := c.int8s(i, len(v.U8))
		for k, x := range v.U8 {
			q[k] = int8(x ^ 128) //nolint:gosec // the same bits
		}
		return q
	}
	c.fail("%s must have elements of 8 bits", &v.Spec)
	return nil
}

// weights holds the weights of n outputs with k inputs each, and the sum for each output.
type weights struct {
	packed *kernel.Packed
	totals []int32
	single []int8 // of a single output, which is not worth packing
}

// most is the maximum number of products in a sum of 32 bits.
const most = 1 << 16

// weights prepares a part of a node's weights, once for all sessions if they are constant.
func (c *call) weights(part, n, k int, fixed bool, get func() []int8) weights {
	if k > most {
		c.fail("sums of %d products, at most %d are supported", k, most)
	}
	pack := func() weights {
		from := get()
		w := weights{totals: make([]int32, n)}
		if n == 1 {
			w.single = slices.Clone(from[:k])
		} else {
			w.packed = kernel.Pack(from, n, k)
		}
		for j := range w.totals {
			w.totals[j] = total(from[j*k : (j+1)*k])
		}
		return w
	}
	if !fixed {
		return pack()
	}
	return prepare(c, part, kernel.PackedBytes(n, k)+4*n, pack)
}

func total(x []int8) (sum int32) {
	for _, v := range x {
		sum += int32(v)
	}
	return sum
}

func dot(x, w []int8) (sum int32) {
	w = w[:len(x)]
	for i, v := range x {
		sum += int32(v) * int32(w[i])
	}
	return sum
}

// multiply computes sums of products corrected for the zero points: Σ(x−zx)(w−zw) = Σxw − zx·Σw − zw·Σx + k·zx·zw.
func (w weights) multiply(sums []int32, x []int8, m int, zx, zw int32) {
	n, k := len(w.totals), len(w.single)
	if w.packed != nil {
		k = w.packed.K
		w.packed.Gemm(sums, x, m)
	} else {
		for r := range m {
			sums[r] = dot(x[r*k:(r+1)*k], w.single)
		}
	}
	for r := range m {
		row := zx * zw * int32(k) //nolint:gosec // k is at most 2¹⁶
		if zw != 0 {
			row -= zw * total(x[r*k:(r+1)*k])
		}
		line := sums[r*n : (r+1)*n]
		for j, t := range w.totals {
			line[j] += row - zx*t
		}
	}
}

// integerMatrices computes a·b of 8 bits in 32 bits and delivers each product.
func (c *call) integerMatrices(a, za, b, zb *value, deliver func(sums []int32, at int), plan func(*matrixPlan)) {
	c.product = c.matrices(a, b)
	p := &c.product
	plan(p)
	x, zx, zw := c.plain(0, a), c.zeroOf(a, za), c.zeroOf(b, zb)
	m, n, k := p.m, p.n, p.k
	sums := c.int32s(0, m*n)
	p.each(c, func(i, j, o int) {
		w := c.weights(j, n, k, b.fixed, func() []int8 {
			columns := c.int8s(2, n*k)
			turned(columns, c.plain(1, b)[j*n*k:(j+1)*n*k], k, n)
			return columns
		})
		w.multiply(sums, x[i*m*k:(i+1)*m*k], m, zx, zw)
		deliver(sums, o*m*n)
	})
}

func matMulInteger(c *call) {
	var y *value
	c.integerMatrices(c.input(0), c.optional(2), c.input(1), c.optional(3), func(sums []int32, at int) { copy(y.I32[at:], sums) },
		func(p *matrixPlan) { y = c.output(0, engine.Int32, p.shape) })
}

func qlinearMatMul(c *call) {
	a, b, zy := c.input(0), c.input(3), c.input(7, engine.Int8, engine.Uint8)
	sa, sb, sy := c.scalar(1), c.scalar(4), c.scalar(6)
	var y *value
	z := intAt(&zy.Tensor, 0)
	scale := float64(sa) * float64(sb) / float64(sy)
	c.integerMatrices(a, c.input(2), b, c.input(5), func(sums []int32, at int) {
		for i, s := range sums {
			put(&y.Tensor, at+i, rounded(float64(s)*scale, z, y.Type))
		}
	}, func(p *matrixPlan) { y = c.output(0, zy.Type, p.shape) })
}

// scalar returns the value of an input with one float32.
func (c *call) scalar(i int) float32 {
	v := c.input(i, engine.Float32)
	if v.Elements() != 1 {
		c.fail("input %d has %d elements, expected one", i, v.Elements())
	}
	return v.F32[0]
}

// integerConv computes a layer of 8 bits in 32 bits and delivers the sums of each group, pixel by pixel.
func (c *call) integerConv(x, zx, w, zw *value, plan func(*layer), deliver func(l *layer, sums []int32, batch, group int)) {
	c.layer = c.convolution(x, w)
	l := &c.layer
	plan(l)
	planes, zeroX, zeroW := c.plain(0, x), c.zeroOf(x, zx), c.zeroOf(w, zw)
	table := l.table(c)
	plane, ck, mg := engine.Product(l.in), l.c/l.groups, l.m/l.groups
	columns, sums := c.int8s(2, l.pixels*l.k), c.int32s(0, l.pixels*mg)
	for b := range l.n {
		for g := range l.groups {
			gathered(columns, planes[(b*l.c+g*ck)*plane:], table, ck, plane, engine.Product(w.Shape[2:]), int8(zeroX)) //nolint:gosec // 8 bits
			kernels := c.weights(g, mg, l.k, w.fixed, func() []int8 { return c.plain(1, w)[g*mg*l.k : (g+1)*mg*l.k] })
			kernels.multiply(sums, columns, l.pixels, zeroX, zeroW)
			deliver(l, sums, b, g)
		}
	}
}

func convInteger(c *call) {
	var y *value
	c.integerConv(c.input(0), c.optional(2), c.input(1), c.optional(3), func(l *layer) { y = c.output(0, engine.Int32, l.shape) },
		func(l *layer, sums []int32, b, g int) {
			mg := l.m / l.groups
			for p := range l.pixels {
				for m := range mg {
					y.I32[(b*l.m+g*mg+m)*l.pixels+p] = sums[p*mg+m]
				}
			}
		})
}

func qlinearConv(c *call) {
	x, w, ws, zy, bias := c.input(0), c.input(3), c.input(4, engine.Float32), c.input(7, engine.Int8, engine.Uint8), c.optional(8)
	sx, sy := c.scalar(1), c.scalar(6)
	zw := c.input(5)
	if n := zw.Elements(); n > 1 { // one for each channel; in practice all are equal
		for i := range n {
			if intAt(&zw.Tensor, i) != intAt(&zw.Tensor, 0) {
				c.fail("zero points of weights that differ by channel are not supported")
			}
		}
		zw = &value{Tensor: engine.Tensor{Spec: engine.Spec{Type: zw.Type, Shape: []int{1}}, I8: zw.I8, U8: zw.U8}}
	}
	var y *value
	z := intAt(&zy.Tensor, 0)
	c.integerConv(x, c.input(2), w, zw, func(l *layer) { y = c.output(0, zy.Type, l.shape) }, func(l *layer, sums []int32, b, g int) {
		mg := l.m / l.groups
		for m := range mg {
			ch := g*mg + m
			scale, add := float64(ws.F32[ch%len(ws.F32)])*float64(sx)/float64(sy), int32(0)
			if bias != nil {
				add = bias.I32[ch]
			}
			from, to := (b*l.m+ch)*l.pixels, (b*l.m+ch+1)*l.pixels
			if y.Type == engine.Int8 {
				requantised(y.I8[from:to], sums[m:], mg, add, scale, z, math.MinInt8, math.MaxInt8)
			} else {
				requantised(y.U8[from:to], sums[m:], mg, add, scale, z, 0, math.MaxUint8)
			}
		}
	})
}
