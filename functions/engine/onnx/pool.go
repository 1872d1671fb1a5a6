package onnx

import (
	"math"

	"app-offload/functions/engine"
)

var pools = map[string]func(*call){
	"MaxPool": maxPool, "AveragePool": averagePool, "GlobalMaxPool": globalPool, "GlobalAveragePool": globalPool, "MaxUnpool": maxUnpool,
}

// pool plans a pooling layer over planes.
func (c *call) pool(x *value) (l layer) {
	c.rank(x, 3, maxRank)
	l.frame = c.frame(x.Shape[2:], c.list("kernel_shape"))
	c.slide(&l.frame)
	l.shape = c.joined(x.Shape[:2], l.out)
	l.n, l.pixels, l.k = x.Shape[0]*x.Shape[1], engine.Product(l.out), engine.Product(l.frame.k)
	c.macs(l.n, l.pixels, l.k)
	return l
}

func maxPool(c *call) {
	x := c.input(0, engine.Float32, engine.Uint8, engine.Int8)
	l := c.pool(x)
	y := c.output(0, x.Type, l.shape)
	switch x.Type {
	case engine.Float32:
		maxima(c, &l, y.F32, x.F32, float32(math.Inf(-1)))
	case engine.Uint8:
		maxima(c, &l, y.U8, x.U8, 0)
	case engine.Int8:
		maxima(c, &l, y.I8, x.I8, math.MinInt8)
	}
}

func maxima[T number](c *call, l *layer, y, x []T, lowest T) {
	table, plane := l.table(c), engine.Product(l.in)
	var where []int64
	if c.wants(1) {
		where = c.output(1, engine.Int64, l.shape).I64
	}
	for i := range l.n {
		image := x[i*plane : (i+1)*plane]
		for p := range l.pixels {
			best, from := lowest, -1
			for _, at := range table[p*l.k : (p+1)*l.k] {
				if at >= 0 && (image[at] > best || from < 0) {
					best, from = image[at], int(at)
				}
			}
			y[i*l.pixels+p] = best
			if where == nil {
				continue
			}
			if c.int("storage_order", 0) == 1 && l.rank == 2 {
				from = from%l.in[1]*l.in[0] + from/l.in[1]
			}
			where[i*l.pixels+p] = int64(i*plane + from)
		}
	}
}

func averagePool(c *call) {
	x := c.input(0, engine.Float32)
	l := c.pool(x)
	y := c.output(0, engine.Float32, l.shape)
	table, plane := l.table(c), engine.Product(l.in)
	counts := c.floats(0, l.pixels)
	if c.int("count_include_pad", 0) != 0 {
		l.padded(c, counts)
	} else {
		for p := range counts {
			counts[p] = 0
			for _, at := range table[p*l.k : (p+1)*l.k] {
				if at >= 0 {
					counts[p]++
				}
			}
		}
	}
	for i := range l.n {
		image := x.F32[i*plane : (i+1)*plane]
		for p := range l.pixels {
			var sum float32
			for _, at := range table[p*l.k : (p+1)*l.k] {
				if at >= 0 {
					sum += image[at]
				}
			}
			y.F32[i*l.pixels+p] = sum / max(counts[p], 1)
		}
	}
}

// padded counts the kernel's pixels within image and padding.
func (l *layer) padded(c *call, counts []float32) {
	o := c.ints(l.rank)
	for p := range counts {
		n := 1
		for i := range l.rank {
			from := o[i]*l.stride[i] - l.before[i]
			n *= max((min(from+(l.frame.k[i]-1)*l.dilate[i], l.in[i]+l.aft[i]-1)-from)/l.dilate[i]+1, 0)
		}
		counts[p] = float32(n)
		advance(o, l.out)
	}
}

func globalPool(c *call) {
	x := c.rank(c.input(0, engine.Float32), 2, maxRank)
	shape := c.shape(x.Shape...)
	for i := range shape[2:] {
		shape[2+i] = 1
	}
	y := c.output(0, engine.Float32, shape)
	plane := engine.Product(x.Shape[2:])
	for i := range y.F32 {
		top, sum := float32(math.Inf(-1)), 0.0
		for _, v := range x.F32[i*plane : (i+1)*plane] {
			top = max(top, v)
			sum += float64(v)
		}
		y.F32[i] = top
		if c.node.op == "GlobalAveragePool" {
			y.F32[i] = float32(sum / float64(max(plane, 1)))
		}
	}
}

// maxUnpool writes each maximum back to its original position in MaxPool.
func maxUnpool(c *call) {
	x, from, shape := c.rank(c.input(0, engine.Float32), 3, maxRank), c.input(1, engine.Int64), c.numbers(2)
	k := c.list("kernel_shape")
	f := c.frame(x.Shape[2:], k)
	natural := c.shape(x.Shape...)
	for i := range f.rank {
		natural[2+i] = (x.Shape[2+i]-1)*f.stride[i] + f.k[i] - f.before[i] - f.aft[i]
	}
	if shape == nil {
		shape = natural
	}
	if len(shape) != len(natural) || len(from.I64) != len(x.F32) {
		c.fail("%s and %s do not fit", &x.Spec, &from.Spec)
	}
	y := c.output(0, engine.Float32, shape)
	clear(y.F32)
	strides, old := c.strides(shape), c.strides(natural)
	for i, v := range x.F32 {
		at, rest := 0, c.index(narrow(from.I64[i]), engine.Product(natural))
		for a, s := range old {
			at += rest / s * strides[a]
			rest %= s
		}
		y.F32[c.index(at, len(y.F32))] = v
	}
}
