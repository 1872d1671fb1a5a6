package kernel

import "math"

// Fixed-point functions of 16 bits, as defined by gemmlowp and used by TensorFlow Lite's recurrent layers. A number with n integer bits has 15−n
// fractional bits; results have no integer bits. The functions are slow: a Curve stores all results.

// Curve is a table of a function of 16 bits, indexed by the bits of the argument.
type Curve [1 << 16]int16

// Logistic16 returns 1/(1 + e^−x) for arguments with 3 integer bits.
func Logistic16() *Curve { return curve(func(x int16) int16 { return logistic16(x, 3) }) }

// Tanh16 returns the hyperbolic tangent for arguments with n integer bits, 0 to 6.
func Tanh16(n int) *Curve { return curve(func(x int16) int16 { return tanh16(x, n) }) }

func curve(f func(int16) int16) *Curve {
	c := &Curve{}
	for i := range c {
		c[i] = f(int16(uint16(i))) //nolint:gosec // all bits, as they are
	}
	return c
}

// At returns the result for x.
func (c *Curve) At(x int16) int16 { return c[uint16(x)] } //nolint:gosec // the index is the bits

// high16 returns the upper half of 2ab, rounded and saturated.
func high16(a, b int16) int16 {
	if a == b && a == math.MinInt16 {
		return math.MaxInt16
	}
	ab := int32(a) * int32(b)
	nudge := int32(1 << 14)
	if ab < 0 {
		nudge = 1 - 1<<14
	}
	return int16((ab + nudge) / (1 << 15)) //nolint:gosec // fits by construction
}

func down16(x int16, n int) int16 { return int16(RoundingShift(int32(x), n)) } //nolint:gosec // gets smaller

func up16(x int16, n int) int16 { return Clamp16(int32(x) << n) }

// constant16 rounds a constant of 32 bits to 16.
func constant16(x int32) int16 { return int16(RoundingShift(x, 16)) } //nolint:gosec // gets smaller

const one16 = math.MaxInt16

// expQuarter returns e^a for −1/4 ≤ a < 0, by a Taylor series around −1/8.
func expQuarter(a int16) int16 {
	constant, third := constant16(1895147668), constant16(715827883) // e^(−1/8), 1/3
	x := a + 1<<12
	x2 := high16(x, x)
	x3, x4 := high16(x2, x), high16(x2, x2)
	rest := down16(high16(down16(x4, 2)+x3, third)+x2, 1)
	return Clamp16(int32(constant) + int32(high16(constant, x+rest)))
}

// barrel contains e^−2^k for k from −2 on.
var barrel = [...]int32{1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242}

// expNegative16 returns e^a for a ≤ 0 with n integer bits.
func expNegative16(a int16, n int) int16 {
	if a == 0 {
		return one16
	}
	fraction := 15 - n
	quarter := int16(1) << (fraction - 2)
	part := a&(quarter-1) - quarter
	result := expQuarter(up16(part, n))
	remainder := part - a
	for i, m := range barrel {
		exponent := i - 2
		if n > exponent && remainder&(1<<(fraction+exponent)) != 0 {
			result = high16(result, constant16(m))
		}
	}
	if n > 5 && int32(a) < -(1<<(36-n-16)) {
		return 0
	}
	return result
}

// reciprocal returns 2/(1 + a) with 2 integer bits for 0 ≤ a ≤ 1, by three Newton-Raphson steps.
func reciprocal(a int16) int16 {
	half := int16((int32(a) + one16 + 1) / 2)                           //nolint:gosec // at most one
	x := constant16(1515870810) + high16(half, constant16(-1010580540)) // 48/17 − 32/17·half
	for range 3 {
		x += up16(high16(x, 1<<13-high16(half, x)), 2)
	}
	return x
}

func logistic16(x int16, n int) int16 {
	if x == 0 {
		return constant16(1 << 30)
	}
	positive := up16(reciprocal(expNegative16(min(x, -x), n)), 1)
	if x > 0 {
		return positive
	}
	return one16 - positive
}

func tanh16(x int16, n int) int16 {
	if x == 0 {
		return 0
	}
	t := up16(reciprocal(expNegative16(min(x, -x), n+1))-1<<13, 2)
	if x < 0 {
		return -t
	}
	return t
}
