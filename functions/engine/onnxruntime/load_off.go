//go:build !onnxruntime

package onnxruntime

import (
	"errors"

	"app-offload/functions/engine"
)

// Load returns an error: this build has no ONNX Runtime.
func Load([]byte, Config, int64) (engine.Program, error) {
	return nil, errors.New("loading a model: this build has no ONNX Runtime: use the full image, build with the tag onnxruntime, or use the engine onnx")
}
