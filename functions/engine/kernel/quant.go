// Package kernel provides the arithmetic of models: matrix products, convolutions, pooling and the fixed-point arithmetic of quantised tensors. Its
// functions take plain slices, do not allocate, and check no bounds beyond the runtime's: engines check shapes when they load a model.
package kernel

import "math"

// Multiplier is a positive real factor in the form of TensorFlow Lite's quantised kernels: M·2^(Shift−31) with M in [2³⁰, 2³¹), or 0.
type Multiplier struct {
	M     int32
	Shift int
}

// NewMultiplier rounds a factor to 31 bits. Factors below 2⁻³² become 0.
func NewMultiplier(real float64) Multiplier {
	if real == 0 || math.IsNaN(real) || math.IsInf(real, 0) {
		return Multiplier{}
	}
	fraction, shift := math.Frexp(real)
	fixed := int64(math.Round(fraction * (1 << 31)))
	if fixed == 1<<31 {
		fixed /= 2
		shift++
	}
	if shift < -31 {
		return Multiplier{}
	}
	return Multiplier{int32(fixed), min(shift, 30)}
}

// Apply multiplies and rounds twice, like TensorFlow Lite's reference kernels: when it drops the low 31 bits of the product, and when it shifts. The
// last bit occasionally differs from that of a single rounding.
func (m Multiplier) Apply(x int32) int32 {
	return RoundingShift(DoublingHigh(x<<max(m.Shift, 0), m.M), max(-m.Shift, 0))
}

// Apply64 multiplies a wide sum by the upper 15 bits of the factor, for 16-bit activations.
func (m Multiplier) Apply64(x int64) int32 {
	reduced := int64(0x7fff)
	if m.M < 0x7fff0000 {
		reduced = (int64(m.M) + 1<<15) >> 16
	}
	total := 15 - m.Shift
	return int32((x*reduced + 1<<(total-1)) >> total)
}

// DoublingHigh returns the upper half of 2ab, rounded half away from zero and saturated.
func DoublingHigh(a, b int32) int32 {
	if a == b && a == math.MinInt32 {
		return math.MaxInt32
	}
	ab := int64(a) * int64(b)
	nudge := int64(1 << 30)
	if ab < 0 {
		nudge = 1 - 1<<30
	}
	return int32((ab + nudge) / (1 << 31))
}

// RoundingShift returns x/2^n, rounded half away from zero.
func RoundingShift(x int32, n int) int32 {
	if n == 0 {
		return x
	}
	mask := int32(1)<<n - 1
	remainder := x & mask
	threshold := mask >> 1
	if x < 0 {
		threshold++
	}
	x >>= n
	if remainder > threshold {
		x++
	}
	return x
}

// Requant converts sums of a layer to int8, with one scale for all channels or one for each, the output's zero point and the bounds of the fused
// activation. It rounds once, to even, in float32, like XNNPACK, which computes these layers for TensorFlow Lite. The reference kernels round twice
// in integers, which occasionally differs by one step.
type Requant struct {
	Scales   []float32 // one, or one for each channel
	Zero     int32
	Low, Top int32
}

// Channel converts the sum of channel c to int8.
func (r *Requant) Channel(sum int32, c int) int8 {
	if len(r.Scales) == 1 {
		c = 0
	}
	return int8(min(max(Scaled(sum, r.Scales[c])+r.Zero, r.Low), r.Top)) //nolint:gosec // held within int8
}

// Scaled returns sum·scale, rounded to even and clamped to ±2³⁰, which leaves room for a zero point.
func Scaled(sum int32, scale float32) int32 {
	return Held(math.RoundToEven(float64(float32(sum) * scale)))
}

// Held clamps a whole number to ±2³⁰.
func Held(q float64) int32 { return int32(min(max(q, -1<<30), 1<<30)) }

// Clamp16 saturates to 16 bits.
func Clamp16(v int32) int16 { return int16(min(max(v, math.MinInt16), math.MaxInt16)) }

// QuantizeInt8 returns round(v/scale) + zero, rounded half away from zero and saturated.
func QuantizeInt8(v, scale float32, zero int32) int8 {
	q := math.Round(float64(v / scale))
	if math.IsNaN(q) {
		q = 0
	}
	return int8(min(max(q+float64(zero), math.MinInt8), math.MaxInt8))
}
