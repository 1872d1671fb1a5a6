package onnx

import (
	"math"

	"app-offload/functions/engine"
)

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
		if ignored != nil && class == int(ignored.i) {
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

// det is the determinant of each matrix, by elimination with pivots.
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
