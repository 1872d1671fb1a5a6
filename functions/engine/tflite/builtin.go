package tflite

import "maps"

// builder compiles one kind of operator.
type builder struct {
	name  string
	build func(*compiler)
}

const (
	codeCustom   = 32
	codeCallOnce = 129
)

// builders are all supported operators, by their code in the schema of TensorFlow Lite.
var builders map[int]builder

func init() {
	builders = map[int]builder{codeCallOnce: {"CALL_ONCE", func(*compiler) {}}} // compileSubgraph does it
	for _, table := range []map[int]builder{elementwise, shapes, reductions, layers, windows, recurrent, variables} {
		maps.Copy(builders, table)
	}
}
