package tflite

import "fmt"

// builder makes the steps of one kind of operator.
type builder struct {
	name  string
	build func(*compiler)
}

const (
	codeCustom   = 32
	codeCallOnce = 129
)

// builders are all operators that are supported, by their code in the schema of TensorFlow Lite.
var builders map[int]builder

func init() {
	builders = map[int]builder{
		0:   {"ADD", (*compiler).add},
		1:   {"AVERAGE_POOL_2D", (*compiler).averagePool},
		2:   {"CONCATENATION", (*compiler).concatenation},
		3:   {"CONV_2D", (*compiler).conv},
		4:   {"DEPTHWISE_CONV_2D", (*compiler).depthwise},
		6:   {"DEQUANTIZE", (*compiler).dequantize},
		9:   {"FULLY_CONNECTED", (*compiler).fullyConnected},
		14:  {"LOGISTIC", (*compiler).logistic},
		17:  {"MAX_POOL_2D", (*compiler).maxPool},
		18:  {"MUL", (*compiler).mul},
		19:  {"RELU", (*compiler).relu},
		20:  {"RELU_N1_TO_1", (*compiler).reluN1},
		21:  {"RELU6", (*compiler).relu6},
		22:  {"RESHAPE", (*compiler).reshape},
		23:  {"RESIZE_BILINEAR", (*compiler).resizeBilinear},
		25:  {"SOFTMAX", (*compiler).softmax},
		27:  {"SVDF", (*compiler).svdf},
		28:  {"TANH", (*compiler).tanh},
		34:  {"PAD", (*compiler).pad},
		36:  {"GATHER", (*compiler).gather},
		39:  {"TRANSPOSE", (*compiler).transpose},
		40:  {"MEAN", (*compiler).mean},
		41:  {"SUB", (*compiler).sub2},
		42:  {"DIV", (*compiler).div},
		43:  {"SQUEEZE", (*compiler).reshape},
		44:  {"UNIDIRECTIONAL_SEQUENCE_LSTM", (*compiler).lstm},
		45:  {"STRIDED_SLICE", (*compiler).stridedSlice},
		47:  {"EXP", (*compiler).exp},
		49:  {"SPLIT", (*compiler).split},
		53:  {"CAST", (*compiler).cast},
		55:  {"MAXIMUM", (*compiler).maximum},
		56:  {"ARG_MAX", (*compiler).argMax},
		57:  {"MINIMUM", (*compiler).minimum},
		59:  {"NEG", (*compiler).neg},
		60:  {"PADV2", (*compiler).pad},
		65:  {"SLICE", (*compiler).slice},
		70:  {"EXPAND_DIMS", (*compiler).reshape},
		73:  {"LOG", (*compiler).log},
		74:  {"SUM", (*compiler).sum},
		75:  {"SQRT", (*compiler).sqrt},
		76:  {"RSQRT", (*compiler).rsqrt},
		77:  {"SHAPE", (*compiler).shape},
		82:  {"REDUCE_MAX", (*compiler).reduceMax},
		83:  {"PACK", (*compiler).pack},
		92:  {"SQUARE", (*compiler).square},
		97:  {"RESIZE_NEAREST_NEIGHBOR", (*compiler).resizeNearest},
		98:  {"LEAKY_RELU", (*compiler).leakyRelu},
		99:  {"SQUARED_DIFFERENCE", (*compiler).squaredDifference},
		101: {"ABS", (*compiler).abs},
		111: {"ELU", (*compiler).elu},
		114: {"QUANTIZE", (*compiler).quantize},
		117: {"HARD_SWISH", (*compiler).hardSwish},
		129: {"CALL_ONCE", func(*compiler) {}}, // compileSubgraph does it
		142: {"VAR_HANDLE", (*compiler).varHandle},
		143: {"READ_VARIABLE", (*compiler).readVariable},
		144: {"ASSIGN_VARIABLE", (*compiler).assignVariable},
	}
}

func nameOf(code int) string {
	if b, ok := builders[code]; ok {
		return b.name
	}
	if code == codeCustom {
		return "CUSTOM"
	}
	return fmt.Sprintf("operator code %d", code)
}
