package kernel

// DepthwiseInt8 convolves each channel with its own kernel, weights[(ky·KW + kx)·C + c]. Inputs are used unchanged: the engine has added −zero·Σw to
// the bias, and pixels outside of the image count as the input's zero point.
func DepthwiseInt8(w *Window, out, image, weights []int8, bias, sums []int32, zero int32, q *Requant) {
	sums = sums[:w.C]
	for y := range w.OutH {
		y0, y1, iy := span(y, w.StrideH, w.PadH, w.KH, w.DilateH, w.H)
		for x := range w.OutW {
			x0, x1, ix := span(x, w.StrideW, w.PadW, w.KW, w.DilateW, w.W)
			copy(sums, bias)
			for ky := range w.KH {
				for kx := range w.KW {
					k := weights[(ky*w.KW+kx)*w.C:]
					if ky < y0 || ky >= y1 || kx < x0 || kx >= x1 {
						addScaled(sums, k[:w.C], zero)
						continue
					}
					addProducts(sums, image[((iy+ky*w.DilateH)*w.W+ix+kx*w.DilateW)*w.C:][:w.C], k[:w.C])
				}
			}
			for c, s := range sums {
				out[c] = q.Channel(s, c)
			}
			out = out[w.C:]
		}
	}
}

func addProducts(sums []int32, x, k []int8) {
	x, k = x[:len(sums)], k[:len(sums)]
	for c := range sums {
		sums[c] += int32(x[c]) * int32(k[c])
	}
}

func addScaled(sums []int32, k []int8, by int32) {
	k = k[:len(sums)]
	for c := range sums {
		sums[c] += by * int32(k[c])
	}
}

// DepthwiseF32 is DepthwiseInt8 in float32, with the bounds of the fused activation.
func DepthwiseF32(w *Window, out, image, weights, bias []float32, low, top float32) {
	for y := range w.OutH {
		y0, y1, iy := span(y, w.StrideH, w.PadH, w.KH, w.DilateH, w.H)
		for x := range w.OutW {
			x0, x1, ix := span(x, w.StrideW, w.PadW, w.KW, w.DilateW, w.W)
			sums := out[:w.C]
			copy(sums, bias)
			for ky := y0; ky < y1; ky++ {
				for kx := x0; kx < x1; kx++ {
					in := image[((iy+ky*w.DilateH)*w.W+ix+kx*w.DilateW)*w.C:][:w.C]
					k := weights[(ky*w.KW+kx)*w.C:][:w.C]
					for c := range sums {
						sums[c] += in[c] * k[c]
					}
				}
			}
			for c, s := range sums {
				sums[c] = min(max(s, low), top)
			}
			out = out[w.C:]
		}
	}
}

// MaxPool computes the maximum of each window and channel, within the bounds of the fused activation.
func MaxPool[T int8 | int16 | float32](w *Window, out, image []T, low, top T) {
	for y := range w.OutH {
		y0, y1, iy := span(y, w.StrideH, w.PadH, w.KH, 1, w.H)
		for x := range w.OutW {
			x0, x1, ix := span(x, w.StrideW, w.PadW, w.KW, 1, w.W)
			for c := range w.C {
				best := low
				for ky := y0; ky < y1; ky++ {
					for kx := x0; kx < x1; kx++ {
						best = max(best, image[((iy+ky)*w.W+ix+kx)*w.C+c])
					}
				}
				out[c] = min(best, top)
			}
			out = out[w.C:]
		}
	}
}

// AveragePoolInt8 computes means rounded half away from zero; pixels outside of the image do not count.
func AveragePoolInt8(w *Window, out, image []int8, low, top int32) {
	for y := range w.OutH {
		y0, y1, iy := span(y, w.StrideH, w.PadH, w.KH, 1, w.H)
		for x := range w.OutW {
			x0, x1, ix := span(x, w.StrideW, w.PadW, w.KW, 1, w.W)
			n := int32((y1 - y0) * (x1 - x0))
			for c := range w.C {
				var sum int32
				for ky := y0; ky < y1; ky++ {
					for kx := x0; kx < x1; kx++ {
						sum += int32(image[((iy+ky)*w.W+ix+kx)*w.C+c])
					}
				}
				out[c] = int8(min(max(MeanRounded(sum, n), low), top))
			}
			out = out[w.C:]
		}
	}
}

// MeanRounded returns sum/n, rounded half away from zero, and 0 for n = 0.
func MeanRounded(sum, n int32) int32 {
	if n == 0 {
		return 0
	}
	if sum > 0 {
		return (sum + n/2) / n
	}
	return (sum - n/2) / n
}

// AveragePoolF32 computes the mean of each window and channel.
func AveragePoolF32(w *Window, out, image []float32, low, top float32) {
	for y := range w.OutH {
		y0, y1, iy := span(y, w.StrideH, w.PadH, w.KH, 1, w.H)
		for x := range w.OutW {
			x0, x1, ix := span(x, w.StrideW, w.PadW, w.KW, 1, w.W)
			for c := range w.C {
				var sum float32
				for ky := y0; ky < y1; ky++ {
					for kx := x0; kx < x1; kx++ {
						sum += image[((iy+ky)*w.W+ix+kx)*w.C+c]
					}
				}
				out[c] = min(max(sum/float32((y1-y0)*(x1-x0)), low), top)
			}
			out = out[w.C:]
		}
	}
}
