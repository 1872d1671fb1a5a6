// Package onnxruntime computes ONNX models with Microsoft's ONNX Runtime, a shared library that is loaded while the program runs: faster than
// functions/engine/onnx for large models, and with operators that are missing there. It is in builds with the tag onnxruntime, which need
// cgo; in all others Load says so.
//
// The file passes the reader in Go first, which checks sizes before memory is taken and names the byte of what is wrong. So graphs within
// graphs, strings, float16 and sequences are refused here too. What the library does with a file is not checked further: sign models that
// come from elsewhere.
//
// Memory is reckoned as the engine in Go would take it, since the library does not say: weights, and results of operators. What an operator that Go
// lacks needs for its results is unknown, so a model with such is reckoned with all that its manifest allows.
//
// All sessions of a program share its weights. Shapes are fixed: an open dimension of an input is 1. The library keeps no memory between
// runs; Close of session and program frees the rest.
package onnxruntime

import (
	"strings"
)

// Config is how ONNX Runtime computes.
type Config struct {
	// Library is the file of ONNX Runtime's shared library, version 1.29 or later. "" is libonnxruntime.so.1 beside the program, where the full image has it, or
	// else where the system finds libraries.
	Library string
	// Threads is how many threads one run of a model computes with, 1 to 64. Beyond 1, each loaded model has that many less one of its own, which
	// sleep between runs.
	Threads int `within:"1 64"`
	// Models lists models that ONNX Runtime computes although their manifests say onnx, separated by commas; * is all of them. "" leaves it to the
	// manifests.
	Models string
}

// DefaultConfig computes on the caller's thread alone.
func DefaultConfig() Config { return Config{Threads: 1} }

// Computes reports whether a model whose manifest says onnx is computed by ONNX Runtime.
func (c Config) Computes(model string) bool {
	for name := range strings.SplitSeq(c.Models, ",") {
		if name = strings.TrimSpace(name); name == "*" || name == model {
			return true
		}
	}
	return false
}
