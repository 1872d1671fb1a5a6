//go:build !onnxruntime

package onnxruntime

import (
	"errors"

	"app-offload/functions/engine"
)

// Load returns an error: this build has no ONNX Runtime.
func Load([]byte, Config, int64) (engine.Program, error) {
	return nil, errors.New("loading a model: this build has no ONNX Runtime: take the full image or build with the tag onnxruntime, or have the model computed by the engine onnx")
}
