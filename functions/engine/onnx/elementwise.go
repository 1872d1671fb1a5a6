package onnx

import (
	"math"

	"app-offload/functions/engine"
)

var elementwise = map[string]func(*call){
	"Acos": unary(math.Acos), "Acosh": unary(math.Acosh), "Asin": unary(math.Asin), "Asinh": unary(math.Asinh),
	"Atan": unary(math.Atan), "Atanh": unary(math.Atanh), "Ceil": unary(math.Ceil), "Cos": unary(math.Cos), "Cosh": unary(math.Cosh),
	"Erf": unary(math.Erf), "Exp": unary(math.Exp), "Floor": unary(math.Floor), "Log": unary(math.Log), "Round": unary(math.RoundToEven),
	"Reciprocal": unary(func(x float64) float64 { return 1 / x }),
	"Sin":        unary(math.Sin), "Sinh": unary(math.Sinh), "Sqrt": unary(math.Sqrt), "Tan": unary(math.Tan),

	"Sigmoid": activation(0, 0, sigmoid), "Tanh": activation(0, 0, tanh), "LeakyRelu": activation(0.01, 0, leaky), "Elu": activation(1, 0, elu),
	"HardSigmoid": activation(0.2, 0.5, hardSigmoid), "HardSwish": activation(0, 0, hardSwish), "Softplus": activation(0, 0, softplus),
	"Softsign": activation(0, 0, softsign), "ThresholdedRelu": activation(1, 0, threshold), "Celu": activation(1, 0, celu),
	"Selu": selu, "Shrink": shrink,

	"Add": arithmetic('+'), "Sub": arithmetic('-'), "Mul": arithmetic('*'), "Div": arithmetic('/'), "Mod": mod, "BitShift": bitShift,
	"Sum": variadic('+', false), "Mean": variadic('+', true), "Min": variadic('<', false), "Max": variadic('>', false),
	"Equal": comparison("="), "Less": comparison("<"), "LessOrEqual": comparison("<="), "Greater": comparison(">"),
	"GreaterOrEqual": comparison(">="), "And": comparison("and"), "Or": comparison("or"), "Xor": comparison("xor"),
}

// unary applies a function to float32 or float64 elements.
func unary(f func(float64) float64) func(*call) {
	return func(c *call) {
		x := c.input(0, engine.Float32, engine.Float64)
		y := c.output(0, x.Type, x.Shape)
		for i, v := range x.F32 {
			y.F32[i] = float32(f(float64(v)))
		}
		if x.Type == engine.Float64 {
			for i, v := range x.F64 {
				y.F64[i] = f(v)
			}
		}
	}
}

// activation is unary with the attributes alpha and beta.
func activation(alpha, beta float32, f func(x, alpha, beta float32) float32) func(*call) {
	return func(c *call) {
		x := c.input(0, engine.Float32)
		y := c.output(0, x.Type, x.Shape)
		a, b := c.float("alpha", alpha), c.float("beta", beta)
		for i, v := range x.F32 {
			y.F32[i] = f(v, a, b)
		}
	}
}

// logAdd returns ln(eᵃ + eᵇ), even if a power exceeds float64.
func logAdd(a, b float64) float64 {
	top := max(a, b)
	if math.IsInf(top, 0) {
		return top
	}
	return top + math.Log1p(math.Exp(min(a, b)-top))
}

// curve is a function of float32 with two parameters, as named by recurrent layers.
type curve func(x, alpha, beta float32) float32

func sigmoid(x, _, _ float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }
func tanh(x, _, _ float32) float32    { return float32(math.Tanh(float64(x))) }
func leaky(x, a, _ float32) float32 {
	if x < 0 {
		return a * x
	}
	return x
}

func elu(x, a, _ float32) float32 {
	if x < 0 {
		return a * float32(math.Expm1(float64(x)))
	}
	return x
}
func hardSigmoid(x, a, b float32) float32 { return min(max(a*x+b, 0), 1) }
func hardSwish(x, _, _ float32) float32   { return x * min(max(x/6+0.5, 0), 1) }
func softplus(x, _, _ float32) float32    { return float32(logAdd(0, float64(x))) }
func softsign(x, _, _ float32) float32    { return x / (1 + max(x, -x)) }
func threshold(x, a, _ float32) float32 {
	if x > a {
		return x
	}
	return 0
}

func celu(x, a, _ float32) float32 {
	return max(x, 0) + min(0, a*float32(math.Expm1(float64(x/a))))
}

func selu(c *call) {
	x := c.input(0, engine.Float32)
	y := c.output(0, x.Type, x.Shape)
	alpha, gamma := c.float("alpha", 1.67326319217681884765625), c.float("gamma", 1.05070102214813232421875)
	for i, v := range x.F32 {
		y.F32[i] = gamma * elu(v, alpha, 0)
	}
}

func shrink(c *call) {
	x := c.input(0, engine.Float32)
	y := c.output(0, x.Type, x.Shape)
	bias, lambda := c.float("bias", 0), c.float("lambd", 0.5)
	for i, v := range x.F32 {
		switch {
		case v < -lambda:
			y.F32[i] = v + bias
		case v > lambda:
			y.F32[i] = v - bias
		default:
			y.F32[i] = 0
		}
	}
}

// pairs applies a function to pairs of elements over a common shape; results have type R.
func pairs[T, R number](c *call, a, b, y *value, x1, x2 []T, out []R, f func(T, T) R) {
	if y.Elements() == 0 {
		return
	}
	s1, s2 := c.spread(a.Shape, y.Shape), c.spread(b.Shape, y.Shape)
	w, last := c.start(y.Shape, s1, s2)
	e1, e2 := end(s1), end(s2)
	for ; w.left > 0; w.next() {
		p, q := w.offset[0], w.offset[1]
		for i := range out[:last] {
			out[i] = f(x1[p], x2[q])
			p += e1
			q += e2
		}
		out = out[last:]
	}
}

// pair returns two inputs of one type and the output of their common shape.
func (c *call) pair(i, j int, of engine.Type) (a, b, y *value) {
	a, b = c.input(i), c.input(j)
	if a.Type != b.Type {
		c.fail("%s and %s differ in type", &a.Spec, &b.Spec)
	}
	if of == engine.Invalid {
		of = a.Type
	}
	return a, b, c.output(0, of, c.broadcast(a.Shape, b.Shape))
}

// arithmetic is an operator for all numbers.
func arithmetic(op byte) func(*call) {
	return func(c *call) {
		a, b, y := c.pair(0, 1, engine.Invalid)
		kinds[y.Type].arithmetic(c, op, a, b, y)
	}
}

func numberOf[T number](op byte) func(a, b T) T {
	switch op {
	case '+':
		return func(a, b T) T { return a + b }
	case '-':
		return func(a, b T) T { return a - b }
	case '*':
		return func(a, b T) T { return a * b }
	case '<':
		return func(a, b T) T { return min(a, b) }
	case '>':
		return func(a, b T) T { return max(a, b) }
	}
	return nil
}

func floatOf[T float32 | float64](op byte) func(a, b T) T {
	switch op {
	case '/':
		return func(a, b T) T { return a / b }
	case '%', 'f':
		return func(a, b T) T { return T(math.Mod(float64(a), float64(b))) }
	}
	return numberOf[T](op)
}

func integerOf[T integer](op byte) func(a, b T) T {
	switch op {
	case '/':
		return func(a, b T) T {
			if b == 0 {
				return 0
			}
			return a / b
		}
	case '%': // the sign is the divisor's, as in Python
		return func(a, b T) T {
			if b == 0 {
				return 0
			}
			r := a % b
			if r != 0 && (r < 0) != (b < 0) {
				r += b
			}
			return r
		}
	case 'f':
		return func(a, b T) T {
			if b == 0 {
				return 0
			}
			return a % b
		}
	case 'l':
		return func(a, b T) T { return a << uint64(b) }
	case 'r':
		return func(a, b T) T { return a >> uint64(b) }
	}
	return numberOf[T](op)
}

func mod(c *call) {
	op := byte('%')
	if c.int("fmod", 0) != 0 {
		op = 'f'
	}
	arithmetic(op)(c)
}

func bitShift(c *call) {
	op := byte('r')
	if c.string("direction", "") == "LEFT" {
		op = 'l'
	}
	if t := c.input(0).Type; t == engine.Float32 || t == engine.Float64 {
		c.fail("expected integers, found %s", t)
	}
	arithmetic(op)(c)
}

// variadic folds all inputs.
func variadic(op byte, mean bool) func(*call) {
	return func(c *call) {
		first := c.input(0)
		shape := c.shape(first.Shape...)
		for i := range c.in {
			if c.input(i).Type != first.Type {
				c.fail("input %d is %s, input 0 is %s", i, c.input(i).Type, first.Type)
			}
			shape = c.broadcast(shape, c.input(i).Shape)
		}
		y := c.output(0, first.Type, shape)
		strides := c.strides(shape)
		c.move(y, 0, strides, first, 0, c.spread(first.Shape, shape), shape)
		for i := 1; i < len(c.in); i++ {
			kinds[y.Type].arithmetic(c, op, y, c.in[i], y)
		}
		if mean {
			c.input(0, engine.Float32, engine.Float64)
			for i := range y.F32 {
				y.F32[i] /= float32(len(c.in))
			}
			for i := range y.F64 {
				y.F64[i] /= float64(len(c.in))
			}
		}
	}
}

// comparison is an operator with truth values as its result.
func comparison(op string) func(*call) {
	return func(c *call) {
		a, b, y := c.pair(0, 1, engine.Bool)
		kinds[a.Type].compare(c, op, a, b, y)
	}
}

func truth(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
