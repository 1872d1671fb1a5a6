//go:build noonnx

package models

import (
	"errors"

	"app-offload/functions/engine"
)

// loadONNX replaces the engine in the lite image, which must stay small.
func loadONNX([]byte, int64) (engine.Program, error) {
	return nil, errors.New("loading a model: this build, like the lite image, has no engine for onnx: use the full image, or a tflite model")
}
