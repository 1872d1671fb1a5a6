package onnx

import (
	"math"

	"app-offload/functions/engine"
)

var norms = map[string]func(*call){
	"BatchNormalization": batchNorm, "InstanceNormalization": instanceNorm, "LayerNormalization": layerNorm, "LRN": lrn,
	"MeanVarianceNormalization": mvn,
}

func batchNorm(c *call) {
	x := c.rank(c.input(0, engine.Float32), 1, maxRank)
	if c.int("training_mode", 0) != 0 {
		c.fail("training is not supported")
	}
	y := c.output(0, engine.Float32, x.Shape)
	channels, plane := 1, 1
	if len(x.Shape) > 1 {
		channels, plane = x.Shape[1], engine.Product(x.Shape[2:])
	}
	epsilon := float64(c.float("epsilon", 1e-5))
	scale, shift := c.floats(0, channels), c.floats(1, channels)
	gamma, beta, mean, variance := c.input(1, engine.Float32), c.input(2, engine.Float32), c.input(3, engine.Float32), c.input(4, engine.Float32)
	for i := range channels {
		s := float64(gamma.F32[i]) / math.Sqrt(float64(variance.F32[i])+epsilon)
		scale[i], shift[i] = float32(s), float32(float64(beta.F32[i])-float64(mean.F32[i])*s)
	}
	for i := range len(x.F32) / max(plane, 1) {
		s, t := scale[i%channels], shift[i%channels]
		to := y.F32[i*plane : (i+1)*plane]
		for k, v := range x.F32[i*plane : (i+1)*plane] {
			to[k] = v*s + t
		}
	}
}

// moments returns mean and variance.
func moments(x []float32) (mean, variance float64) {
	if len(x) == 0 {
		return 0, 0
	}
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean)
	}
	return mean, variance / float64(len(x))
}

func instanceNorm(c *call) {
	x, gamma, beta := c.rank(c.input(0, engine.Float32), 3, maxRank), c.input(1, engine.Float32), c.input(2, engine.Float32)
	y := c.output(0, engine.Float32, x.Shape)
	epsilon, plane := float64(c.float("epsilon", 1e-5)), engine.Product(x.Shape[2:])
	for i := range x.Shape[0] * x.Shape[1] {
		from := x.F32[i*plane : (i+1)*plane]
		mean, variance := moments(from)
		s := float64(gamma.F32[i%x.Shape[1]]) / math.Sqrt(variance+epsilon)
		for k, v := range from {
			y.F32[i*plane+k] = float32((float64(v)-mean)*s + float64(beta.F32[i%x.Shape[1]]))
		}
	}
}

func layerNorm(c *call) {
	x, gamma, beta := c.input(0, engine.Float32), c.input(1, engine.Float32), c.optional(2)
	axis := c.axis(c.int("axis", -1), len(x.Shape))
	y := c.output(0, engine.Float32, x.Shape)
	epsilon := float64(c.float("epsilon", 1e-5))
	kept := c.shape(x.Shape...)
	for i := range kept[axis:] {
		kept[axis+i] = 1
	}
	var means, inverses []float32
	if c.wants(1) {
		means = c.output(1, engine.Float32, kept).F32
	}
	if c.wants(2) {
		inverses = c.output(2, engine.Float32, kept).F32
	}
	n := engine.Product(x.Shape[axis:])
	if len(gamma.F32) != n || beta != nil && len(beta.F32) != n {
		c.fail("%s does not have %d elements", &gamma.Spec, n)
	}
	for i := range engine.Product(x.Shape[:axis]) {
		from := x.F32[i*n : (i+1)*n]
		mean, variance := moments(from)
		inverse := 1 / math.Sqrt(variance+epsilon)
		for k, v := range from {
			r := (float64(v) - mean) * inverse * float64(gamma.F32[k])
			if beta != nil {
				r += float64(beta.F32[k])
			}
			y.F32[i*n+k] = float32(r)
		}
		if means != nil {
			means[i] = float32(mean)
		}
		if inverses != nil {
			inverses[i] = float32(inverse)
		}
	}
}

func lrn(c *call) {
	x := c.rank(c.input(0, engine.Float32), 2, maxRank)
	y := c.output(0, engine.Float32, x.Shape)
	alpha, beta, bias, size := float64(c.float("alpha", 1e-4)), float64(c.float("beta", 0.75)), float64(c.float("bias", 1)), c.int("size", 1)
	if size < 1 {
		c.fail("size %d", size)
	}
	channels, plane := x.Shape[1], engine.Product(x.Shape[2:])
	for i := range x.Shape[0] * channels {
		ch := i % channels
		low, top := max(0, ch-(size-1)/2), min(channels-1, ch+size/2)
		for p := range plane {
			var sum float64
			for k := low; k <= top; k++ {
				v := float64(x.F32[(i-ch+k)*plane+p])
				sum += v * v
			}
			y.F32[i*plane+p] = float32(float64(x.F32[i*plane+p]) / math.Pow(bias+alpha/float64(size)*sum, beta))
		}
	}
}

// mvn normalises mean and deviation over axes, by default those of batch and pixels.
func mvn(c *call) {
	x := c.input(0, engine.Float32)
	y := c.output(0, engine.Float32, x.Shape)
	kept := c.shape(x.Shape...)
	axes := c.list("axes")
	if axes == nil {
		axes = c.shape(0, 2, 3)
	}
	for _, a := range axes {
		kept[c.axis(a, len(kept))] = 1
	}
	strides, n := c.spread(kept, x.Shape), engine.Product(kept)
	sums := c.doubles(2 * n)
	clear(sums)
	index := c.ints(len(x.Shape))
	each := float64(len(x.F32)) / float64(max(n, 1))
	for pass := range 3 {
		clear(index)
		for i, v := range x.F32 {
			at := 0
			for k, p := range index {
				at += p * strides[k]
			}
			switch d := float64(v) - sums[at]/each; pass {
			case 0:
				sums[at] += float64(v)
			case 1:
				sums[n+at] += d * d
			case 2:
				y.F32[i] = float32(d / (math.Sqrt(sums[n+at]/each) + 1e-9))
			}
			advance(index, x.Shape)
		}
	}
}
