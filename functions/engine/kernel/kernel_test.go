package kernel

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func random(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

func int8s(r *rand.Rand, n int) []int8 {
	list := make([]int8, n)
	for i := range list {
		switch r.IntN(4) {
		case 0:
			list[i] = -128
		case 1:
			list[i] = 127
		default:
			list[i] = int8(r.IntN(256) - 128)
		}
	}
	return list
}

// Two products share a word of 64 bits and never mix: the sums equal those of single products, also for extreme values.
func TestGemmIsThePlainProduct(t *testing.T) {
	r := random(t)
	for range 300 {
		m, n, k := 1+r.IntN(5), 1+r.IntN(11), 1+r.IntN(70)
		x, w := int8s(r, m*k), int8s(r, n*k)
		sums := make([]int32, m*n)
		Pack(w, n, k).Gemm(sums, x, m)
		for i := range m {
			for j := range n {
				var want int32
				for p := range k {
					want += int32(x[i*k+p]) * int32(w[j*k+p])
				}
				require.Equal(t, want, sums[i*n+j], "%d×%d×%d at %d, %d", m, n, k, i, j)
			}
		}
	}
	const k = 1 << 16
	x, w := make([]int8, k), make([]int8, 2*k)
	for i := range x {
		x[i], w[i], w[k+i] = -128, -128, 127
	}
	sums := make([]int32, 2)
	Pack(w, 2, k).Gemm(sums, x, 1)
	require.Equal(t, []int32{128 * 128 * k, -128 * 127 * k}, sums)
}

func TestGemmF32IsThePlainProduct(t *testing.T) {
	r := random(t)
	for range 100 {
		m, n, k := 1+r.IntN(4), 1+r.IntN(9), 1+r.IntN(70)
		x, w, out := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
		for i := range x {
			x[i] = float32(r.IntN(21) - 10)
		}
		for i := range w {
			w[i] = float32(r.IntN(21) - 10)
		}
		GemmF32(out, x, w, m, n, k)
		for i := range m {
			for j := range n {
				var want float32
				for p := range k {
					want += x[i*k+p] * w[j*k+p]
				}
				require.Equal(t, want, out[i*n+j])
			}
		}
	}
}

// window draws a kernel over an image.
func window(r *rand.Rand) Window {
	w := Window{H: 1 + r.IntN(9), W: 1 + r.IntN(9), C: 1 + r.IntN(4), KH: 1 + r.IntN(4), KW: 1 + r.IntN(4), StrideH: 1 + r.IntN(3), StrideW: 1 + r.IntN(3), DilateH: 1 + r.IntN(2), DilateW: 1 + r.IntN(2)}
	same := r.IntN(2) == 0
	w.OutH, w.PadH = Out(w.H, w.KH, w.StrideH, w.DilateH, same)
	w.OutW, w.PadW = Out(w.W, w.KW, w.StrideW, w.DilateW, same)
	return w
}

// tap returns the input pixel at a position of the kernel, or fill outside of the image.
func tap(w *Window, image []int8, y, x, ky, kx, c int, fill int8) int8 {
	iy, ix := y*w.StrideH-w.PadH+ky*w.DilateH, x*w.StrideW-w.PadW+kx*w.DilateW
	if iy < 0 || iy >= w.H || ix < 0 || ix >= w.W {
		return fill
	}
	return image[(iy*w.W+ix)*w.C+c]
}

// Convolutions by rows and products, and channel by channel, equal the sums of their definition.
func TestConvolutionsAreTheirDefinition(t *testing.T) {
	r := random(t)
	for range 300 {
		w := window(r)
		if w.OutH < 1 || w.OutW < 1 {
			continue
		}
		image, n := int8s(r, w.H*w.W*w.C), 1+r.IntN(6)
		filter := int8s(r, n*w.Columns())
		columns, sums := make([]int8, w.OutW*w.Columns()), make([]int32, w.OutW*n)
		depth := int8s(r, w.KH*w.KW*w.C)
		q := Requant{Scales: []float32{1.0 / 512}, Low: -128, Top: 127}
		out := make([]int8, w.OutH*w.OutW*w.C)
		DepthwiseInt8(&w, out, image, depth, make([]int32, w.C), make([]int32, w.C), 5, &q)
		for y := range w.OutH {
			Row(&w, columns, image, y, int8(5))
			Pack(filter, n, w.Columns()).Gemm(sums, columns, w.OutW)
			for x := range w.OutW {
				for j := range n {
					var want int32
					for i := range w.Columns() {
						want += int32(filter[j*w.Columns()+i]) * int32(tap(&w, image, y, x, i/w.C/w.KW, i/w.C%w.KW, i%w.C, 5))
					}
					require.Equal(t, want, sums[x*n+j], "%+v", w)
				}
				for c := range w.C {
					var want int32
					for i := range w.KH * w.KW {
						want += int32(depth[i*w.C+c]) * int32(tap(&w, image, y, x, i/w.KW, i%w.KW, c, 5))
					}
					require.Equal(t, q.Channel(want, 0), out[(y*w.OutW+x)*w.C+c], "%+v", w)
				}
			}
		}
	}
}

// Fixed-point multiplication equals real multiplication within the error of two roundings.
func TestMultiplierIsNearTheRealFactor(t *testing.T) {
	r := random(t)
	for range 10_000 {
		real, x := math.Exp(r.Float64()*16-14), int32(r.IntN(1<<20)-1<<19)
		if math.Abs(real*float64(x)) > 1<<30 {
			continue
		}
		require.InDelta(t, real*float64(x), float64(NewMultiplier(real).Apply(x)), 1.01+math.Abs(real*float64(x))*1e-8, "%g·%d", real, x)
	}
	require.Equal(t, Multiplier{}, NewMultiplier(0))
	require.Equal(t, Multiplier{}, NewMultiplier(1e-12))
	require.Equal(t, int32(math.MaxInt32), DoublingHigh(math.MinInt32, math.MinInt32))
}

// Values half way between two integers are rounded away from zero.
func TestRoundingShift(t *testing.T) {
	for _, c := range [][3]int32{{5, 1, 3}, {-5, 1, -3}, {4, 1, 2}, {6, 2, 2}, {-6, 2, -2}, {7, 0, 7}, {-1, 31, 0}} {
		require.Equal(t, c[2], RoundingShift(c[0], int(c[1])), "%d >> %d", c[0], c[1])
	}
}

// The curves of 16 bits are within 16 units of the functions.
func TestCurvesAreNearTheirFunctions(t *testing.T) {
	sigmoid := Logistic16()
	for n := range 7 {
		curve := Tanh16(n)
		for x := -32768; x <= 32767; x++ {
			real, got := math.Tanh(float64(x)/float64(int(1)<<(15-n)))*32768, int(curve.At(int16(x)))
			if math.Abs(real-float64(got)) > 12.1 {
				t.Fatalf("tanh with %d integer bits at %d is %d, expected %g", n, x, got, real)
			}
		}
	}
	for n := range 7 {
		for x := -32768; x <= 0; x++ {
			if real, got := math.Exp(float64(x)/float64(int(1)<<(15-n)))*32768, expNegative16(int16(x), n); math.Abs(real-float64(got)) > 2 {
				t.Fatalf("e to the power of %d with %d integer bits is %d, expected %g", x, n, got, real)
			}
		}
	}
	for x := -32767; x < 32767; x++ {
		require.InDelta(t, 32768/(1+math.Exp(-float64(x)/4096)), float64(sigmoid.At(int16(x))), 6.4, "logistic at %d", x)
	}
}

func TestPools(t *testing.T) {
	r := random(t)
	for range 200 {
		w := window(r)
		w.DilateH, w.DilateW = 1, 1
		w.OutH, w.PadH = Out(w.H, w.KH, w.StrideH, 1, true)
		w.OutW, w.PadW = Out(w.W, w.KW, w.StrideW, 1, true)
		image := int8s(r, w.H*w.W*w.C)
		best, mean := make([]int8, w.OutH*w.OutW*w.C), make([]int8, w.OutH*w.OutW*w.C)
		MaxPool(&w, best, image, -100, 100)
		AveragePoolInt8(&w, mean, image, -100, 100)
		for i := range best {
			y, x, c := i/w.C/w.OutW, i/w.C%w.OutW, i%w.C
			top, sum, n := int32(-128), int32(0), int32(0)
			for k := range w.KH * w.KW {
				iy, ix := y*w.StrideH-w.PadH+k/w.KW, x*w.StrideW-w.PadW+k%w.KW
				if iy >= 0 && iy < w.H && ix >= 0 && ix < w.W {
					v := int32(image[(iy*w.W+ix)*w.C+c])
					top, sum, n = max(top, v), sum+v, n+1
				}
			}
			require.Equal(t, int8(min(max(top, -100), 100)), best[i], "%+v", w)
			require.Equal(t, int8(min(max(int32(math.Round(float64(sum)/float64(n))), -100), 100)), mean[i], "%+v", w)
		}
	}
}

// Both code paths give the same sums: the one that computes eight values at once, and the plain one.
func TestAddScaledF32IsThePlainSum(t *testing.T) {
	r := random(t)
	for range 200 {
		n := r.IntN(60)
		to, from, want := make([]float32, n), make([]float32, n), make([]float32, n)
		by := float32(r.IntN(9) - 4)
		for i := range to {
			to[i], from[i] = float32(r.IntN(21)-10), float32(r.IntN(21)-10)
			want[i] = to[i] + by*from[i]
		}
		AddScaledF32(to, from, by)
		require.Equal(t, want, to)
	}
}

func BenchmarkGemmF32(b *testing.B) {
	x, w, out := make([]float32, 64*144), make([]float32, 32*144), make([]float32, 64*32)
	b.SetBytes(64 * 32 * 144)
	for b.Loop() {
		GemmF32(out, x, w, 64, 32, 144)
	}
}

// The factors at which the exponent changes, and invalid factors.
func TestMultiplierAtItsEdges(t *testing.T) {
	const half = 1 << 30
	for _, c := range []struct {
		real float64
		want Multiplier
	}{
		{0, Multiplier{}},
		{math.NaN(), Multiplier{}},
		{math.Inf(1), Multiplier{}},
		{math.Inf(-1), Multiplier{}},
		{0.5, Multiplier{half, 0}},
		{1, Multiplier{half, 1}},
		{0.75, Multiplier{half + half/2, 0}},
		{1 - 1.0/(1<<40), Multiplier{half, 1}},
		{1 - 1.0/(1<<31), Multiplier{math.MaxInt32, 0}},
		{3, Multiplier{half + half/2, 2}},
		{math.Ldexp(0.5, -31), Multiplier{half, -31}},
		{math.Ldexp(0.5, -32), Multiplier{}},
		{math.Ldexp(0.5, 30), Multiplier{half, 30}},
		{math.Ldexp(0.5, 35), Multiplier{half, 30}},
	} {
		require.Equal(t, c.want, NewMultiplier(c.real), "%g", c.real)
	}
	for _, c := range []struct {
		m    Multiplier
		x    int32
		want int32
	}{
		{Multiplier{half, 0}, 10, 5},
		{Multiplier{half, 0}, 11, 6},
		{Multiplier{half, 0}, -11, -5},
		{Multiplier{half, 1}, 7, 7},
		{Multiplier{half, 3}, 7, 28},
		{Multiplier{half, -1}, 100, 25},
		{Multiplier{half, -2}, -100, -13},
	} {
		require.Equal(t, c.want, c.m.Apply(c.x), "%+v · %d", c.m, c.x)
	}
	for _, c := range []struct {
		m    Multiplier
		x    int64
		want int32
	}{
		{Multiplier{half, 0}, 10, 5},
		{Multiplier{half, 1}, 12345, 12345},
		{Multiplier{half, -1}, 100, 25},
		{Multiplier{half, 0}, 11, 6},
		{Multiplier{math.MaxInt32, 0}, 1 << 20, 0x7fff << 5},
		{Multiplier{0x7fff0000, 0}, 1 << 20, 0x7fff << 5},
		{Multiplier{0x7ffe8000, 0}, 1 << 20, 0x7fff << 5},
		{Multiplier{0x7ffe7fff, 0}, 1 << 20, 0x7ffe << 5},
	} {
		require.Equal(t, c.want, c.m.Apply64(c.x), "%+v · %d", c.m, c.x)
	}
	for _, c := range [][3]int32{
		{math.MinInt32, math.MinInt32, math.MaxInt32},
		{math.MinInt32, math.MaxInt32, -math.MaxInt32},
		{1 << 30, 1, 1},
		{1<<30 - 1, 1, 0},
		{-1 << 30, 1, 0},
		{-1<<30 - 1, 1, -1},
		{3, 1 << 30, 2},
		{-3, 1 << 30, -1},
		{1 << 20, 1 << 20, 512},
		{0, 5, 0},
	} {
		require.Equal(t, c[2], DoublingHigh(c[0], c[1]), "%d · %d", c[0], c[1])
	}
}

// Float32 layers also equal their definition, within the bounds of their activation.
func TestFloatLayersAreTheirDefinition(t *testing.T) {
	r := random(t)
	for range 200 {
		w := window(r)
		if w.OutH < 1 || w.OutW < 1 {
			continue
		}
		ints := int8s(r, w.H*w.W*w.C)
		image, depth, bias := make([]float32, len(ints)), make([]float32, w.KH*w.KW*w.C), make([]float32, w.C)
		for i, v := range ints {
			image[i] = float32(v)
		}
		for i := range depth {
			depth[i] = float32(r.IntN(9) - 4)
		}
		for i := range bias {
			bias[i] = float32(r.IntN(99) - 50)
		}
		out := make([]float32, w.OutH*w.OutW*w.C)
		DepthwiseF32(&w, out, image, depth, bias, -100, 120)
		for i, got := range out {
			y, x, c := i/w.C/w.OutW, i/w.C%w.OutW, i%w.C
			want := bias[c]
			for k := range w.KH * w.KW {
				want += depth[k*w.C+c] * float32(tap(&w, ints, y, x, k/w.KW, k%w.KW, c, 0))
			}
			require.InDelta(t, min(max(want, -100), 120), got, 0, "%+v", w)
		}
		w.DilateH, w.DilateW = 1, 1
		w.OutH, w.PadH = Out(w.H, w.KH, w.StrideH, 1, true)
		w.OutW, w.PadW = Out(w.W, w.KW, w.StrideW, 1, true)
		mean, best := make([]float32, w.OutH*w.OutW*w.C), make([]float32, w.OutH*w.OutW*w.C)
		AveragePoolF32(&w, mean, image, -50, 60)
		MaxPool(&w, best, image, -50, 60)
		for i := range mean {
			y, x, c := i/w.C/w.OutW, i/w.C%w.OutW, i%w.C
			sum, n, top := float32(0), float32(0), float32(-128)
			for k := range w.KH * w.KW {
				iy, ix := y*w.StrideH-w.PadH+k/w.KW, x*w.StrideW-w.PadW+k%w.KW
				if iy >= 0 && iy < w.H && ix >= 0 && ix < w.W {
					v := image[(iy*w.W+ix)*w.C+c]
					sum, n, top = sum+v, n+1, max(top, v)
				}
			}
			require.InDelta(t, min(max(sum/n, -50), 60), mean[i], 1e-4, "%+v", w)
			require.InDelta(t, min(max(top, -50), 60), best[i], 0, "%+v", w)
		}
	}
}

// An output axis has a place for each stride that begins on the image, with the padding on both sides, or for each kernel that fits.
func TestTheLengthOfAnOutputAxis(t *testing.T) {
	for _, c := range []struct {
		in, k, stride, dilate int
		same                  bool
		out, pad              int
	}{
		{5, 3, 1, 1, false, 3, 0},
		{5, 3, 2, 1, false, 2, 0},
		{5, 3, 1, 2, false, 1, 0},
		{5, 5, 3, 1, false, 1, 0},
		{5, 6, 1, 1, false, 0, 0},
		{5, 3, 1, 1, true, 5, 1},
		{5, 3, 2, 1, true, 3, 1},
		{6, 3, 2, 1, true, 3, 0},
		{5, 3, 1, 2, true, 5, 2},
		{5, 4, 1, 1, true, 5, 1},
		{8, 1, 4, 1, true, 2, 0},
		{9, 1, 8, 1, true, 2, 0},
		{16, 2, 8, 1, true, 2, 0},
		{1, 1, 1, 1, true, 1, 0},
	} {
		out, pad := Out(c.in, c.k, c.stride, c.dilate, c.same)
		require.Equal(t, []int{c.out, c.pad}, []int{out, pad}, "%+v", c)
	}
}

// An image is its own matrix only if each output pixel depends only on its own input pixel.
func TestPlainWindows(t *testing.T) {
	plain := Window{H: 4, W: 5, C: 2, OutH: 4, OutW: 5, KH: 1, KW: 1, StrideH: 1, StrideW: 1, DilateH: 1, DilateW: 1}
	require.True(t, plain.Plain())
	for _, change := range []func(w *Window){
		func(w *Window) { w.KH = 2 }, func(w *Window) { w.KW = 2 }, func(w *Window) { w.StrideH = 2 }, func(w *Window) { w.StrideW = 2 },
		func(w *Window) { w.PadH = 1 }, func(w *Window) { w.PadW = 1 }, func(w *Window) { w.OutH = 3 }, func(w *Window) { w.OutW = 4 },
	} {
		w := plain
		change(&w)
		require.False(t, w.Plain(), "%+v", w)
	}
	require.Equal(t, 2, plain.Columns())
}

// PackedBytes is known before the memory is allocated.
func TestPackedBytes(t *testing.T) {
	for n := range 10 {
		for k := range 4 {
			require.Equal(t, 8*len(Pack(make([]int8, n*k), n, k).words), PackedBytes(n, k))
		}
	}
}

// Quantisation clamps to the range of int8, and NaN becomes the zero point.
func TestQuantizeInt8(t *testing.T) {
	for v, want := range map[float32]int8{0: 3, 1: 5, -1: 1, 0.25: 4, -0.25: 2, 0.2: 3, 1000: 127, -1000: -128, 62: 127, 61.5: 126, -65.5: -128, -65: -127, float32(math.Inf(-1)): -128} {
		require.Equal(t, want, QuantizeInt8(v, 0.5, 3), "%g", v)
	}
	require.Equal(t, int8(3), QuantizeInt8(float32(math.NaN()), 0.5, 3))
	for _, c := range [][3]int32{{7, 2, 4}, {-7, 2, -4}, {6, 4, 2}, {-6, 4, -2}, {5, 4, 1}, {0, 3, 0}, {9, 0, 0}} {
		require.Equal(t, c[2], MeanRounded(c[0], c[1]))
	}
	for v, want := range map[int32]int16{0: 0, 32767: 32767, 32768: 32767, -32768: -32768, -32769: -32768} {
		require.Equal(t, want, Clamp16(v))
	}
}

// A scaled sum beyond its type is clamped to the same end on every machine, and a zero point can be added.
func TestScaledIsHeld(t *testing.T) {
	r := Requant{Scales: []float32{1e9}, Zero: 5, Low: -128, Top: 127}
	for sum, want := range map[int32]int8{1 << 20: 127, -1 << 20: -128, 0: 5} {
		require.Equal(t, want, r.Channel(sum, 0), sum)
	}
	for q, want := range map[float64]int32{2.5: 2, 1 << 29: 1 << 29, -1e300: -1 << 30, math.Inf(1): 1 << 30} {
		require.Equal(t, want, Held(q), q)
	}
}
