package onnx

import (
	"math"

	"app-offload/functions/engine"
)

// gridSample takes pixels of an image from where a grid points: −1 and 1 are its edges.
func gridSample(c *call) {
	x, grid := c.rank(c.input(0, engine.Float32), 4, 4), c.rank(c.input(1, engine.Float32), 4, 4)
	n, channels, h, w := x.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	if grid.Shape[0] != n || grid.Shape[3] != 2 || h == 0 || w == 0 {
		c.fail("%s and %s do not fit", &x.Spec, &grid.Spec)
	}
	oh, ow := grid.Shape[1], grid.Shape[2]
	shape := c.ints(4)
	shape[0], shape[1], shape[2], shape[3] = n, channels, oh, ow
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

// place is where −1 to 1 lies along an axis; far away is as good as anything outside.
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

// pixel is that of a place, or what the padding has there.
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

// weights are those of four neighbours, the first of which is named.
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
