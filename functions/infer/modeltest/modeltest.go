// Package modeltest builds the smallest models that tests can use.
package modeltest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"app-offload/functions/engine"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/models"
)

// Inputs is the number of values that a model of Two reads.
const Inputs = 4

// Two builds a model with the labels ok and worn. Its logits are the first two of four inputs, plus bias for the second.
func Two(t testing.TB, bias float32) []byte {
	t.Helper()
	w := &tflite.Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, Inputs}})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{1, 2}})
	weights := w.Floats("w", []float32{1, 0, 0, 0, 0, 1, 0, 0}, 2, Inputs)
	w.Operator("FULLY_CONNECTED", tflite.Options{}, []int{x, weights, w.Floats("b", []float32{0, bias}, 2)}, y)
	w.Ends([]int{x}, []int{y})
	return finish(t, w)
}

// Slow builds a model of width inputs that multiplies by a square matrix layers times: about width²·layers multiply-accumulates.
func Slow(t testing.TB, width, layers int) []byte {
	t.Helper()
	w := &tflite.Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, width}})
	weights, bias := w.Floats("w", make([]float32, width*width), width, width), w.Floats("b", make([]float32, width), width)
	last := x
	for range layers {
		next := w.Tensor(engine.Spec{Name: "h", Type: engine.Float32, Shape: []int{1, width}})
		w.Operator("FULLY_CONNECTED", tflite.Options{}, []int{last, weights, bias}, next)
		last = next
	}
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{1, 2}})
	w.Operator("FULLY_CONNECTED", tflite.Options{}, []int{last, w.Floats("v", make([]float32, 2*width), 2, width), w.Floats("c", []float32{1, 0}, 2)}, y)
	w.Ends([]int{x}, []int{y})
	return finish(t, w)
}

func finish(t testing.TB, w *tflite.Writer) []byte {
	t.Helper()
	file, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Put writes a version of a two-label model into a folder of models, and returns the folder of the version.
func Put(t testing.TB, dir, name string, v models.Version, file []byte) string {
	t.Helper()
	m, text := Manifest(t, name, v, file)
	folder := filepath.Join(dir, m.Folder())
	if err := os.MkdirAll(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string][]byte{models.ManifestFile: text, m.File: file} {
		if err := os.WriteFile(filepath.Join(folder, path), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// Manifest returns the manifest of a two-label model, and its encoding.
func Manifest(t testing.TB, name string, v models.Version, file []byte) (*models.Manifest, []byte) {
	t.Helper()
	m, err := models.Describe(name, file, 256<<20)
	if err != nil {
		t.Fatal(err)
	}
	m.Version, m.Labels = v, []string{"ok", "worn"}
	m.Output = models.Output{Kind: models.Classes, Activation: "softmax"}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return m, text
}
