package tflite

import (
	"fmt"
	"maps"
)

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
	builders = map[int]builder{codeCallOnce: {"CALL_ONCE", func(*compiler) {}}} // compileSubgraph does it
	for _, table := range []map[int]builder{elementwise, shapes, reductions, layers, windows, recurrent, variables} {
		maps.Copy(builders, table)
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
