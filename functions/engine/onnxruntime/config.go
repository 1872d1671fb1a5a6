// Package onnxruntime runs ONNX models with Microsoft's ONNX Runtime, a shared library loaded at run time. It is faster than functions/engine/onnx
// for large models, and has operators that are missing there. It is part of builds with the tag onnxruntime, which need cgo; in all other builds,
// Load returns an error.
//
// The Go reader first reads the file, checks sizes before memory is allocated and names the byte of a problem. Graphs within graphs, strings, float16
// and sequences are therefore rejected here, too. What the library does with a file is not checked further: sign models from other sources.
//
// The memory is estimated as that of the Go engine, since the library does not report it: weights, and results of operators. The memory for results
// of operators that Go lacks is unknown, so a model with such operators counts with its manifest's limit.
//
// All sessions of a program share its weights. Shapes are fixed: an open dimension of an input is 1. The library keeps no memory between runs; Close
// of session and program releases the rest.
package onnxruntime

import (
	"strings"
)

// Config configures ONNX Runtime.
type Config struct {
	// Library is the file of ONNX Runtime's shared library, version 1.29 or later. "" is libonnxruntime.so.1 beside the program, as in the full
	// image, or else in the system's library path.
	Library string
	// Threads is the number of threads of one run of a model, 1 to 64. Each loaded model has Threads − 1 threads of its own, which sleep between runs.
	Threads int `within:"1 64"`
	// Models lists onnx models that ONNX Runtime computes instead, separated by commas; * is all. "" follows the manifests.
	Models string
}

// DefaultConfig computes only on the caller's thread.
func DefaultConfig() Config { return Config{Threads: 1} }

// Computes reports whether ONNX Runtime computes a model whose manifest says onnx.
func (c Config) Computes(model string) bool {
	for name := range strings.SplitSeq(c.Models, ",") {
		if name = strings.TrimSpace(name); name == "*" || name == model {
			return true
		}
	}
	return false
}
