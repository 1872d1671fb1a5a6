package onnx

import (
	"math"
	"slices"

	"app-offload/functions/engine"
)

var images = map[string]func(*call){
	"Resize": resize, "Upsample": resize, "GridSample": gridSample, "NonMaxSuppression": nonMaxSuppression,
}

// axisMap maps one axis of a resized image: for each output, up to four inputs with their weights.
type axisMap struct {
	at     []int // 4 for each output
	weight []float32
}

// resize implements Resize and Upsample, axis by axis.
func resize(c *call) {
	x := c.input(0, engine.Float32)
	n := len(x.Shape)
	if axes := c.list("axes"); c.string("keep_aspect_ratio_policy", "stretch") != "stretch" || axes != nil && !ascending(axes, n) {
		c.fail("keep_aspect_ratio_policy, and axes that are not all in their order, are not supported")
	}
	shape, scales := c.ints(n), c.floats(6, n)
	c.target(x, shape, scales)
	if c.int("antialias", 0) != 0 && n > 0 && slices.Min(scales) < 1 {
		c.fail("antialias is supported only where no axis gets shorter")
	}
	from, in := x.F32, c.shape(x.Shape...)
	flip := 0
	mode := c.string("mode", "nearest")
	for axis := range n {
		if shape[axis] == in[axis] && scales[axis] == 1 && c.string("coordinate_transformation_mode", "") != "tf_crop_and_resize" {
			continue
		}
		outer, length, inner := lines(in, axis)
		m := c.axisMap(axis, length, shape[axis], float64(scales[axis]), mode)
		to := c.floats(1+flip, outer*shape[axis]*inner)
		flip = 1 - flip
		m.apply(to, from, outer, length, shape[axis], inner)
		from = to
		in[axis] = shape[axis]
	}
	copy(c.output(0, engine.Float32, shape).F32, from)
}

// ascending reports whether axes are all n axes in order.
func ascending(axes []int, n int) bool {
	for i, axis := range axes {
		if axis != i && axis != i-n {
			return false
		}
	}
	return len(axes) == n
}

// target sets the output's shape and the scale of each axis.
func (c *call) target(x *value, shape []int, scales []float32) {
	var given, sizes *value
	switch {
	case c.node.attributes["scales"] != nil:
		list := c.node.attributes["scales"].floats
		given = &value{Tensor: engine.Tensor{Spec: engine.Spec{Type: engine.Float32, Shape: []int{len(list)}}, F32: list}}
	case c.node.op == "Upsample" || c.s.p.graph.opset < 11:
		given = c.input(1, engine.Float32)
	default:
		given, sizes = c.optional(2), c.optional(3)
	}
	for i, d := range x.Shape {
		switch {
		case sizes != nil && sizes.Elements() == len(shape):
			shape[i] = int(intAt(&sizes.Tensor, i))
			scales[i] = float32(shape[i]) / float32(max(d, 1))
		case given != nil && len(given.F32) == len(shape):
			scales[i] = given.F32[i]
			f := math.Floor(float64(float32(d) * scales[i])) // in float32, like ONNX's shape inference and ONNX Runtime
			if !(f >= 0 && f < math.MaxInt32) {
				c.fail("a scale of %g", scales[i])
			}
			shape[i] = int(f)
		default:
			c.fail("expected scales or sizes for %d axes", len(shape))
		}
		if scales[i] <= 0 || shape[i] < 0 {
			c.fail("axis %d becomes %d", i, shape[i])
		}
	}
	if _, err := engine.Elements(shape, c.s.p.limits.MaxBytes/4); err != nil {
		c.fail("%w", err)
	}
}

// source returns the position of an output's centre in the input.
func (c *call) source(axis, o, in, out int, scale float64) float64 {
	x := float64(o)
	transformation := "half_pixel"
	if c.node.op == "Upsample" || c.s.p.graph.opset < 11 {
		transformation = "asymmetric"
	}
	switch mode := c.string("coordinate_transformation_mode", transformation); mode {
	case "half_pixel":
		return (x+0.5)/scale - 0.5
	case "pytorch_half_pixel":
		if out <= 1 {
			return -0.5
		}
		return (x+0.5)/scale - 0.5
	case "align_corners":
		if out <= 1 {
			return 0
		}
		return x * float64(in-1) / (scale*float64(in) - 1)
	case "asymmetric":
		return x / scale
	case "tf_half_pixel_for_nn":
		return (x + 0.5) / scale
	case "tf_crop_and_resize":
		roi := c.input(1, engine.Float32)
		n := len(roi.F32) / 2
		first, last := float64(roi.F32[axis]), float64(roi.F32[n+axis])
		if out <= 1 {
			return 0.5 * (first + last) * float64(in-1)
		}
		return first*float64(in-1) + x*(last-first)*float64(in-1)/float64(out-1)
	default:
		c.fail("coordinate_transformation_mode %.64q", mode)
		return 0
	}
}

func (c *call) axisMap(axis, in, out int, scale float64, mode string) axisMap {
	m := axisMap{at: c.ints(4 * out), weight: c.floats(3, 4*out)} // weights that the node's mode does not use stay 0
	for o := range out {
		x := c.source(axis, o, in, out, scale)
		at, w := m.at[4*o:4*o+4], m.weight[4*o:4*o+4]
		switch mode {
		case "nearest":
			at[0], w[0] = c.nearest(x), 1
		case "linear":
			low := math.Floor(x)
			at[0], at[1] = int(low), int(low)+1
			w[1] = float32(x - low)
			w[0] = 1 - w[1]
		case "cubic":
			c.cubic(x, in, at, w)
		default:
			c.fail("mode %.64q", mode)
		}
		if c.string("coordinate_transformation_mode", "") == "tf_crop_and_resize" && (x < 0 || x > float64(in-1)) {
			c.fail("a region outside of the image is not supported")
		}
		for i := range at {
			at[i] = min(max(at[i], 0), in-1)
		}
	}
	return m
}

func (c *call) nearest(x float64) int {
	fallback := "round_prefer_floor"
	if c.node.op == "Upsample" || c.s.p.graph.opset < 11 {
		fallback = "floor"
	}
	switch c.string("nearest_mode", fallback) {
	case "floor":
		return int(math.Floor(x))
	case "ceil":
		return int(math.Ceil(x))
	case "round_prefer_ceil":
		return int(math.Floor(x + 0.5))
	}
	return int(math.Ceil(x - 0.5))
}

// cubic computes the weights of four neighbours; those outside of the image may be left out.
func (c *call) cubic(x float64, in int, at []int, w []float32) {
	a := float64(c.float("cubic_coeff_a", -0.75))
	low := math.Floor(x)
	t := x - low
	var sum float32
	for i := range 4 {
		at[i] = int(low) - 1 + i
		d := math.Abs(t + 1 - float64(i))
		if d <= 1 {
			w[i] = float32(((a+2)*d-(a+3))*d*d + 1)
		} else {
			w[i] = float32(((d-5)*d+8)*d*a - 4*a)
		}
		if c.int("exclude_outside", 0) != 0 && (at[i] < 0 || at[i] >= in) {
			w[i] = 0
		}
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
}

func (m *axisMap) apply(to, from []float32, outer, in, out, inner int) {
	for o := range outer {
		for k := range out {
			line := to[(o*out+k)*inner : (o*out+k+1)*inner]
			clear(line)
			for i, at := range m.at[4*k : 4*k+4] {
				w := m.weight[4*k+i]
				if w == 0 {
					continue
				}
				for p, v := range from[(o*in+at)*inner : (o*in+at+1)*inner] {
					line[p] += w * v
				}
			}
		}
	}
}

// gridSample samples pixels of an image at the positions of a grid: −1 and 1 are the edges.
func gridSample(c *call) {
	x, grid := c.rank(c.input(0, engine.Float32), 4, 4), c.rank(c.input(1, engine.Float32), 4, 4)
	n, channels, h, w := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	if grid.Shape[0] != n || grid.Shape[3] != 2 || h == 0 || w == 0 {
		c.fail("%s and %s do not fit", &x.Spec, &grid.Spec)
	}
	oh, ow := grid.Shape[1], grid.Shape[2]
	shape := c.shape(n, channels, oh, ow)
	y := c.output(0, engine.Float32, shape)
	s := sampler{mode: c.string("mode", "bilinear"), padding: c.string("padding_mode", "zeros"), corners: c.int("align_corners", 0) != 0, h: h, w: w}
	switch s.mode {
	case "bilinear", "nearest", "bicubic":
	default:
		c.fail("mode %.64q", s.mode)
	}
	for b := range n {
		for p := range oh * ow {
			at := grid.F32[(b*oh*ow+p)*2:]
			gx, gy := s.place(float64(at[0]), w), s.place(float64(at[1]), h)
			for ch := range channels {
				image := x.F32[(b*channels+ch)*h*w:][:h*w]
				y.F32[(b*channels+ch)*oh*ow+p] = float32(s.sample(image, gx, gy))
			}
		}
	}
}

type sampler struct {
	mode, padding string
	corners       bool
	h, w          int
}

// place converts −1 to 1 to a position along an axis. Positions far outside are clipped.
func (s *sampler) place(v float64, length int) float64 {
	n := float64(length)
	p := ((v+1)*n - 1) / 2
	if s.corners {
		p = (v + 1) / 2 * (n - 1)
	}
	if p != p {
		return -1
	}
	return min(max(p, -1e6), 1e6)
}

// pixel returns the pixel at a position, or that of the padding.
func (s *sampler) pixel(image []float32, x, y int) float64 {
	if s.padding == "zeros" && (x < 0 || y < 0 || x >= s.w || y >= s.h) {
		return 0
	}
	return float64(image[s.inside(y, s.h)*s.w+s.inside(x, s.w)])
}

func (s *sampler) inside(p, length int) int {
	if s.padding == "reflection" {
		low, span := -0.5, float64(length)
		if s.corners {
			low, span = 0, float64(length-1)
		}
		if span > 0 {
			d := math.Mod(math.Abs(float64(p)-low), 2*span)
			if d > span {
				d = 2*span - d
			}
			p = int(math.Round(d + low))
		}
	}
	return min(max(p, 0), length-1)
}

func (s *sampler) sample(image []float32, x, y float64) (sum float64) {
	if s.mode == "nearest" {
		return s.pixel(image, int(math.RoundToEven(x)), int(math.RoundToEven(y)))
	}
	wx, fx := s.weights(x)
	wy, fy := s.weights(y)
	for i, a := range wy {
		for k, b := range wx {
			if a*b != 0 {
				sum += a * b * s.pixel(image, fx+k, fy+i)
			}
		}
	}
	return sum
}

// weights returns the weights of four neighbours, and the first of them.
func (s *sampler) weights(p float64) (w [4]float64, first int) {
	low := math.Floor(p)
	t := p - low
	if s.mode == "bilinear" {
		return [4]float64{0, 1 - t, t, 0}, int(low) - 1
	}
	const a = -0.75
	for i := range w {
		if d := math.Abs(t + 1 - float64(i)); d <= 1 {
			w[i] = ((a+2)*d-(a+3))*d*d + 1
		} else {
			w[i] = ((d-5)*d+8)*d*a - 4*a
		}
	}
	return w, int(low) - 1
}
