package onnx

import (
	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

var matrices = map[string]func(*call){"MatMul": matMul, "Gemm": gemm}

// turned transposes a matrix of k × n to n × k, the layout of the kernels.
func turned[T any](to, from []T, k, n int) {
	for i := range k {
		row := from[i*n : (i+1)*n]
		for j, v := range row {
			to[j*k+i] = v
		}
	}
}

// matrixPlan is the plan of a matrix product with broadcast leading axes.
type matrixPlan struct {
	m, n, k int
	shape   []int // of the output
	batch   []int
	sa, sb  []int // strides of matrices over batch
}

// matrices plans a·b. Vectors become matrices of one row or column, which is removed from the output.
func (c *call) matrices(a, b *value) (p matrixPlan) {
	c.rank(a, 1, maxRank)
	c.rank(b, 1, maxRank)
	sa, sb := a.Shape, b.Shape
	if len(sa) == 1 {
		sa = c.shape(1, sa[0])
	}
	if len(sb) == 1 {
		sb = c.shape(sb[0], 1)
	}
	p.m, p.k, p.n = fromEnd(sa, 2), fromEnd(sa, 1), fromEnd(sb, 1)
	if fromEnd(sb, 2) != p.k {
		c.fail("%s and %s do not fit", &a.Spec, &b.Spec)
	}
	p.batch = c.broadcast(sa[:len(sa)-2], sb[:len(sb)-2])
	p.sa, p.sb = c.spread(sa[:len(sa)-2], p.batch), c.spread(sb[:len(sb)-2], p.batch)
	p.shape = append(c.ints(len(p.batch) + 2)[:0], p.batch...)
	if len(a.Shape) > 1 {
		p.shape = append(p.shape, p.m)
	}
	if len(b.Shape) > 1 {
		p.shape = append(p.shape, p.n)
	}
	c.macs(engine.Product(p.batch), p.m, p.n, p.k)
	return p
}

// each calls f with the indices of the matrices of all products.
func (p *matrixPlan) each(c *call, f func(a, b, y int)) {
	index := c.ints(len(p.batch))
	for y := range engine.Product(p.batch) {
		a, b := 0, 0
		for i, at := range index {
			a += at * p.sa[i]
			b += at * p.sb[i]
		}
		f(a, b, y)
		advance(index, p.batch)
	}
}

func matMul(c *call) {
	a, b := c.input(0, engine.Float32), c.input(1, engine.Float32)
	p := c.matrices(a, b)
	y := c.output(0, engine.Float32, p.shape)
	m, n, k := p.m, p.n, p.k
	done := -1
	var all []float32
	if !b.fixed {
		all = c.floats(0, n*k)
	} else {
		all = prepare(c, 0, len(b.F32)*4, func() []float32 {
			w := make([]float32, len(b.F32))
			for i := 0; i < len(w); i += max(n*k, 1) {
				turned(w[i:], b.F32[i:i+n*k], k, n)
			}
			return w
		})
	}
	p.each(c, func(i, j, o int) {
		w := all
		if b.fixed {
			w = all[j*n*k:]
		} else if done != j {
			turned(w, b.F32[j*n*k:(j+1)*n*k], k, n)
			done = j
		}
		kernel.GemmF32(y.F32[o*m*n:(o+1)*m*n], a.F32[i*m*k:(i+1)*m*k], w[:n*k], m, n, k)
	})
}

func gemm(c *call) {
	a, b := c.rank(c.input(0, engine.Float32), 2, 2), c.rank(c.input(1, engine.Float32), 2, 2)
	m, k, k2, n := a.Shape[0], a.Shape[1], b.Shape[0], b.Shape[1]
	x, w := a.F32, b.F32
	if c.int("transA", 0) != 0 {
		x = c.floats(0, m*k)
		turned(x, a.F32, m, k)
		m, k = k, m
	}
	switch {
	case c.int("transB", 0) != 0:
		k2, n = n, k2
	case b.fixed:
		w = prepare(c, 0, len(w)*4, func() []float32 {
			to := make([]float32, len(w))
			turned(to, w, k2, n)
			return to
		})
	default:
		w = c.floats(1, n*k2)
		turned(w, b.F32, k2, n)
	}
	if k2 != k {
		c.fail("%s and %s do not fit", &a.Spec, &b.Spec)
	}
	c.macs(m, n, k)
	shape := c.shape(m, n)
	y := c.output(0, engine.Float32, shape)
	kernel.GemmF32(y.F32, x, w, m, n, k)
	alpha, beta := c.float("alpha", 1), c.float("beta", 1)
	if alpha != 1 {
		for i := range y.F32 {
			y.F32[i] *= alpha
		}
	}
	bias := c.optional(2)
	if bias == nil {
		return
	}
	s := c.spread(c.input(2, engine.Float32).Shape, shape)
	for i := range m {
		for j := range n {
			y.F32[i*n+j] += beta * bias.F32[i*s[0]+j*s[1]]
		}
	}
}
