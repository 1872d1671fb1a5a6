package onnx

import (
	"math"
	"slices"

	"app-offload/functions/engine"
)

var reductions = map[string]func(*call){
	"ReduceSum": reduction(0, func(s, v float64) float64 { return s + v }, nil), "ReduceProd": reduction(1, func(s, v float64) float64 { return s * v }, nil),
	"ReduceMax": reduction(math.Inf(-1), math.Max, nil), "ReduceMin": reduction(math.Inf(1), math.Min, nil),
	"ReduceMean":      reduction(0, func(s, v float64) float64 { return s + v }, func(s, n float64) float64 { return s / n }),
	"ReduceL1":        reduction(0, func(s, v float64) float64 { return s + math.Abs(v) }, nil),
	"ReduceL2":        reduction(0, squares, func(s, _ float64) float64 { return math.Sqrt(s) }),
	"ReduceSumSquare": reduction(0, squares, nil),
	"ReduceLogSum":    reduction(0, func(s, v float64) float64 { return s + v }, func(s, _ float64) float64 { return math.Log(s) }),
	"ReduceLogSumExp": reduction(math.Inf(-1), logAdd, nil),
	"ArgMax":          arg(1), "ArgMin": arg(-1), "Softmax": softmax, "LogSoftmax": softmax, "Hardmax": softmax, "CumSum": cumSum,
}

func squares(s, v float64) float64 { return s + v*v }

// reduction folds axes in float64, which is exact enough for sums of float32 and of integers of 32 bits.
func reduction(initial float64, add func(s, v float64) float64, finish func(s, n float64) float64) func(*call) {
	return func(c *call) {
		x, axes := c.input(0), c.settings("axes", 1)
		if len(axes) == 0 && c.int("noop_with_empty_axes", 0) != 0 {
			c.reshaped(x, x.Shape)
			return
		}
		n := len(x.Shape)
		reduce := c.ints(n)
		for _, a := range axes {
			reduce[c.axis(a, n)] = 1
		}
		shape, kept := c.ints(n)[:0], c.shape(x.Shape...)
		for i, d := range x.Shape {
			if len(axes) == 0 {
				reduce[i] = 1
			}
			if reduce[i] == 1 {
				kept[i] = 1
			}
			if reduce[i] == 0 {
				shape = append(shape, d)
			} else if c.int("keepdims", 1) != 0 {
				shape = append(shape, 1)
			}
		}
		y := c.output(0, x.Type, shape)
		strides := c.spread(kept, x.Shape)
		for i, r := range reduce {
			if r == 1 {
				strides[i] = 0
			}
		}
		sums := c.doubles(y.Elements())
		for i := range sums {
			sums[i] = initial
		}
		w, last := c.start(x.Shape, strides)
		step := end(strides)
		for k := 0; w.left > 0 && last > 0; w.next() {
			p := w.offset[0]
			for range last {
				sums[p] = add(sums[p], at(&x.Tensor, k))
				p, k = p+step, k+1
			}
		}
		each := float64(x.Elements()) / float64(max(len(sums), 1))
		for i, s := range sums {
			if finish != nil {
				s = finish(s, each)
			}
			put(&y.Tensor, i, s)
		}
	}
}

// doubles returns scratch memory for sums.
func (c *call) doubles(n int) []float64 { return scratch(c, &c.f64, n, 8) }

// lines describes the vectors along an axis: element k of vector i starts at outer·length·inner + inner index, with a stride of inner.
func lines(shape []int, axis int) (outer, length, inner int) {
	return engine.Product(shape[:axis]), shape[axis], engine.Product(shape[axis+1:])
}

func arg(sign float64) func(*call) {
	return func(c *call) {
		x := c.input(0)
		axis := c.axis(c.int("axis", 0), len(x.Shape))
		outer, length, inner := lines(x.Shape, axis)
		shape := c.shape(x.Shape...)
		shape[axis] = 1
		if c.int("keepdims", 1) == 0 {
			shape = slices.Delete(shape, axis, axis+1)
		}
		last := c.int("select_last_index", 0) != 0
		y := c.output(0, engine.Int64, shape)
		for o := range outer {
			for i := range inner {
				best, where := math.Inf(-1), 0
				for k := range length {
					v := sign * at(&x.Tensor, (o*length+k)*inner+i)
					if v > best || last && v == best {
						best, where = v, k
					}
				}
				y.I64[o*inner+i] = int64(where)
			}
		}
	}
}

// softmax implements Softmax, LogSoftmax and Hardmax. Before version 13, they treat all axes from the given one on as one axis.
func softmax(c *call) {
	x := c.input(0, engine.Float32)
	y := c.output(0, engine.Float32, x.Shape)
	var outer, length, inner int
	if c.s.p.graph.opset < 13 {
		axis := c.int("axis", 1)
		if axis != len(x.Shape) {
			axis = c.axis(axis, len(x.Shape))
		}
		outer, length, inner = engine.Product(x.Shape[:axis]), engine.Product(x.Shape[axis:]), 1
	} else {
		outer, length, inner = lines(x.Shape, c.axis(c.int("axis", -1), len(x.Shape)))
	}
	for o := range outer {
		for i := range inner {
			from := o*length*inner + i
			if length == 0 {
				continue
			}
			switch c.node.op {
			case "Hardmax":
				hardmax(x.F32[from:], y.F32[from:], length, inner)
			default:
				softmaxLine(x.F32[from:], y.F32[from:], length, inner, c.node.op == "LogSoftmax")
			}
		}
	}
}

func softmaxLine(x, y []float32, n, step int, logarithm bool) {
	top := x[0]
	for k := range n {
		top = max(top, x[k*step])
	}
	var sum float64
	for k := range n {
		e := math.Exp(float64(x[k*step] - top))
		y[k*step] = float32(e)
		sum += e
	}
	for k := range n {
		if logarithm {
			y[k*step] = float32(float64(x[k*step]-top) - math.Log(sum))
		} else {
			y[k*step] = float32(float64(y[k*step]) / sum)
		}
	}
}

func hardmax(x, y []float32, n, step int) {
	best := 0
	for k := range n {
		y[k*step] = 0
		if x[k*step] > x[best*step] {
			best = k
		}
	}
	y[best*step] = 1
}

func cumSum(c *call) {
	x, a := c.input(0), c.numbers(1)
	if len(a) != 1 {
		c.fail("expected one axis")
	}
	outer, length, inner := lines(x.Shape, c.axis(a[0], len(x.Shape)))
	y := c.output(0, x.Type, x.Shape)
	exclusive, reverse := c.int("exclusive", 0) != 0, c.int("reverse", 0) != 0
	for o := range outer {
		for i := range inner {
			var sum float64
			for k := range length {
				if reverse {
					k = length - 1 - k
				}
				p := (o*length+k)*inner + i
				v := at(&x.Tensor, p)
				if !exclusive {
					sum += v
				}
				put(&y.Tensor, p, sum)
				if exclusive {
					sum += v
				}
			}
		}
	}
}

var losses = map[string]func(*call){
	"NegativeLogLikelihoodLoss": likelihoodLoss, "SoftmaxCrossEntropyLoss": crossEntropyLoss,
	"HannWindow": window(0.5, 0.5, 0), "HammingWindow": window(25.0/46, 21.0/46, 0), "BlackmanWindow": window(0.42, 0.5, 0.08),
	"Det": det,
}

func likelihoodLoss(c *call) {
	x := c.rank(c.input(0, engine.Float32), 2, maxRank)
	c.loss(x.F32, x.Shape)
}

func crossEntropyLoss(c *call) {
	x := c.rank(c.input(0, engine.Float32), 2, maxRank)
	logs := c.floats(0, len(x.F32))
	if c.wants(1) {
		logs = c.output(1, engine.Float32, x.Shape).F32
	}
	outer, length, inner := lines(x.Shape, 1)
	for o := range outer {
		for i := range inner {
			if length > 0 {
				from := o*length*inner + i
				softmaxLine(x.F32[from:], logs[from:], length, inner, true)
			}
		}
	}
	c.loss(logs, x.Shape)
}

// loss weighs the negative logarithms of the targets' probabilities.
func (c *call) loss(logs []float32, shape []int) {
	target, weight := c.indices(c.input(1)), c.optional(2)
	outer, classes, inner := lines(shape, 1)
	if len(target) != outer*inner || weight != nil && len(weight.F32) != classes {
		c.fail("%d targets for shape %v", len(target), c.in[0].Shape)
	}
	each := c.floats(1, len(target))
	var sum, weights float64
	ignored := c.node.attributes["ignore_index"]
	for k, class := range target {
		each[k] = 0
		if ignored != nil && class == narrow(ignored.i) {
			continue
		}
		class = c.index(class, classes)
		w := float32(1)
		if weight != nil {
			w = weight.F32[class]
		}
		each[k] = -logs[(k/inner*classes+class)*inner+k%inner] * w
		sum += float64(each[k])
		weights += float64(w)
	}
	switch c.string("reduction", "mean") {
	case "none":
		copy(c.output(0, engine.Float32, c.input(1).Shape).F32, each)
		return
	case "mean":
		sum /= weights
	}
	c.output(0, engine.Float32, nil).F32[0] = float32(sum)
}

// window is a + b·cos + d·cos of the double angle, over a period or from end to end.
func window(a, b, d float64) func(*call) {
	return func(c *call) {
		size := c.numbers(0)
		if len(size) != 1 || size[0] < 0 {
			c.fail("expected one size")
		}
		n := float64(size[0])
		if c.int("periodic", 1) == 0 {
			n--
		}
		t, err := elementType(int64(c.int("output_datatype", 1)))
		if err != nil {
			c.fail("attribute output_datatype: %w", err)
		}
		y := c.output(0, t, size)
		for i := range size[0] {
			angle := 2 * math.Pi * float64(i) / n
			put(&y.Tensor, i, a-b*math.Cos(angle)+d*math.Cos(2*angle))
		}
	}
}

// det computes the determinant of each matrix, by elimination with pivots.
func det(c *call) {
	x := c.rank(c.input(0, engine.Float32), 2, maxRank)
	n := fromEnd(x.Shape, 1)
	if fromEnd(x.Shape, 2) != n {
		c.fail("%s has no square matrices", &x.Spec)
	}
	y := c.output(0, engine.Float32, x.Shape[:len(x.Shape)-2])
	c.macs(len(y.F32), n, n, n)
	m := c.doubles(n * n)
	for k := range y.F32 {
		for i := range m {
			m[i] = float64(x.F32[k*n*n+i])
		}
		y.F32[k] = float32(determinant(m, n))
	}
}

func determinant(m []float64, n int) float64 {
	d := 1.0
	for i := range n {
		pivot := i
		for r := i + 1; r < n; r++ {
			if math.Abs(m[r*n+i]) > math.Abs(m[pivot*n+i]) {
				pivot = r
			}
		}
		if m[pivot*n+i] == 0 {
			return 0
		}
		if pivot != i {
			d = -d
			for j := range n {
				m[i*n+j], m[pivot*n+j] = m[pivot*n+j], m[i*n+j]
			}
		}
		d *= m[i*n+i]
		for r := i + 1; r < n; r++ {
			f := m[r*n+i] / m[i*n+i]
			for j := i; j < n; j++ {
				m[r*n+j] -= f * m[i*n+j]
			}
		}
	}
	return d
}
