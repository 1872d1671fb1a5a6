//go:build noonnx

package models

import (
	"errors"

	"app-offload/functions/engine"
)

// loadONNX stands in for the engine in the lite image, which is to stay small.
func loadONNX([]byte, int64) (engine.Program, error) {
	return nil, errors.New("loading a model: this build has no engine for onnx, as in the lite image: take the full image, or a model for tflite")
}
