package onnx

import "math"

// operators are all operators that are supported.
var operators map[string]func(*call)

func init() {
	operators = map[string]func(*call){}
	for _, table := range []map[string]func(*call){curves, elementwise, shapes, layers, reductions, quantised, indexed, losses} {
		for name, run := range table {
			operators[name] = run
		}
	}
}

var curves = map[string]func(*call){
	"Acos": unary(math.Acos), "Acosh": unary(math.Acosh), "Asin": unary(math.Asin), "Asinh": unary(math.Asinh),
	"Atan": unary(math.Atan), "Atanh": unary(math.Atanh), "Ceil": unary(math.Ceil), "Cos": unary(math.Cos), "Cosh": unary(math.Cosh),
	"Erf": unary(math.Erf), "Exp": unary(math.Exp), "Floor": unary(math.Floor), "Log": unary(math.Log), "Round": unary(math.RoundToEven),
	"Reciprocal": unary(func(x float64) float64 { return 1 / x }),
	"Sin":        unary(math.Sin), "Sinh": unary(math.Sinh), "Sqrt": unary(math.Sqrt), "Tan": unary(math.Tan),

	"Sigmoid": activation(0, 0, sigmoid), "Tanh": activation(0, 0, tanh), "LeakyRelu": activation(0.01, 0, leaky), "Elu": activation(1, 0, elu),
	"HardSigmoid": activation(0.2, 0.5, hardSigmoid), "HardSwish": activation(0, 0, hardSwish), "Softplus": activation(0, 0, softplus),
	"Softsign": activation(0, 0, softsign), "ThresholdedRelu": activation(1, 0, threshold), "Celu": activation(1, 0, celu),
	"Selu": selu, "Shrink": shrink,
}

var elementwise = map[string]func(*call){
	"Add": arithmetic('+'), "Sub": arithmetic('-'), "Mul": arithmetic('*'), "Div": arithmetic('/'), "Mod": mod, "BitShift": bitShift,
	"Sum": variadic('+', false), "Mean": variadic('+', true), "Min": variadic('<', false), "Max": variadic('>', false), "Pow": pow,
	"Equal": comparison("="), "Less": comparison("<"), "LessOrEqual": comparison("<="), "Greater": comparison(">"),
	"GreaterOrEqual": comparison(">="), "And": comparison("and"), "Or": comparison("or"), "Xor": comparison("xor"),
	"Abs": signed(0), "Neg": signed(1), "Sign": signed(2), "Relu": signed(3), "Not": not, "IsNaN": isNaN, "IsInf": isInf,
	"Clip": clip, "Where": where, "PRelu": prelu, "Cast": cast, "CastLike": castLike, "Dropout": dropout,
}
