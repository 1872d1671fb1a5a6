package kernel

// Window describes a kernel of KH × KW that slides over an image of H × W with C channels. Images are rows of pixels of channels (NHWC).
type Window struct {
	H, W, C          int // input
	OutH, OutW       int // output
	KH, KW           int
	StrideH, StrideW int
	DilateH, DilateW int
	PadH, PadW       int // before the first row and column
}

// Out returns the length of an output axis and the padding before its first element, with "same" padding or without padding.
func Out(in, k, stride, dilate int, same bool) (out, pad int) {
	reach := (k-1)*dilate + 1
	if !same {
		return (in - reach + stride) / stride, 0
	}
	out = (in + stride - 1) / stride
	return out, max((out-1)*stride+reach-in, 0) / 2
}

// Columns returns the number of input values of one output pixel.
func (w *Window) Columns() int { return w.KH * w.KW * w.C }

// Plain reports whether each output pixel depends only on its own input pixel, so that the image is already the matrix.
func (w *Window) Plain() bool {
	return w.KH == 1 && w.KW == 1 && w.StrideH == 1 && w.StrideW == 1 && w.PadH == 0 && w.PadW == 0 && w.OutH == w.H && w.OutW == w.W
}

// Row writes the input values of the pixels of output row y into dst, pixel by pixel; fill replaces pixels outside of the image.
func Row[T int8 | float32](w *Window, dst, image []T, y int, fill T) {
	at := 0
	for x := range w.OutW {
		for ky := range w.KH {
			iy := y*w.StrideH - w.PadH + ky*w.DilateH
			if iy < 0 || iy >= w.H {
				at = spread(dst, at, w.KW*w.C, fill)
				continue
			}
			ix := x*w.StrideW - w.PadW
			if w.DilateW == 1 && ix >= 0 && ix+w.KW <= w.W {
				at += copy(dst[at:at+w.KW*w.C], image[(iy*w.W+ix)*w.C:])
				continue
			}
			for range w.KW {
				if ix < 0 || ix >= w.W {
					at = spread(dst, at, w.C, fill)
				} else {
					at += copy(dst[at:at+w.C], image[(iy*w.W+ix)*w.C:])
				}
				ix += w.DilateW
			}
		}
	}
}

func spread[T int8 | float32](dst []T, at, n int, fill T) int {
	part := dst[at : at+n]
	for i := range part {
		part[i] = fill
	}
	return at + n
}

// span returns the part of a kernel's axis within the image: the positions from first to last (exclusive), and the input position at of the kernel's start.
func span(out, stride, pad, k, dilate, in int) (first, last, at int) {
	at = out*stride - pad
	for first < k && at+first*dilate < 0 {
		first++
	}
	last = k
	for last > first && at+(last-1)*dilate >= in {
		last--
	}
	return first, last, at
}
