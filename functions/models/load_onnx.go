//go:build !noonnx

package models

import (
	"app-offload/functions/engine"
	"app-offload/functions/engine/onnx"
)

func loadONNX(file []byte, memory int64) (engine.Program, error) {
	p, err := onnx.Load(file, onnx.Limits{MaxBytes: memory})
	if err != nil {
		return nil, err
	}
	return p, nil
}
