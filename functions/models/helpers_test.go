package models

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/task"
)

// made returns a model that answers v to any input of n numbers: its weights are 0 and its bias is v.
func made(t testing.TB, n int, v float32) []byte {
	t.Helper()
	w := &tflite.Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, n}})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{1, 1}})
	w.Operator("FULLY_CONNECTED", tflite.Options{}, []int{x, w.Floats("w", make([]float32, n), 1, n), w.Floats("b", []float32{v}, 1)}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	require.NoError(t, err)
	return file
}

func describe(t testing.TB, name string, v Version, file []byte, change ...func(*Manifest)) *Manifest {
	t.Helper()
	m, err := Describe(name, file, 64<<20)
	require.NoError(t, err)
	m.Version = v
	for _, c := range change {
		c(m)
	}
	return m
}

func text(t testing.TB, m *Manifest) []byte {
	t.Helper()
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return b
}

// put writes the folder of a model.
func put(t testing.TB, dir string, m *Manifest, file []byte) string {
	t.Helper()
	folder := filepath.Join(dir, m.Folder())
	require.NoError(t, os.MkdirAll(folder, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(folder, ManifestFile), text(t, m), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, m.File), file, 0o600))
	return folder
}

func open(t testing.TB, dir string, change ...func(*Config)) *Store {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Dir = dir
	for _, c := range change {
		c(&cfg)
	}
	s, err := Open(t.Context(), cfg, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		if s.Close(context.Background()) == nil {
			require.Zero(t, s.Counts().Used, "a closed store holds no memory")
		}
	})
	return s
}

// use puts a version in force.
func use(t testing.TB, s *Store, name string, want Version, rollback bool) error {
	t.Helper()
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.use(t.Context(), name, want, rollback)
}

func numbers(text string) *task.Task {
	return &task.Task{EventID: "e", Readings: []task.Reading{{Resource: "r", Type: task.Float32Array, Value: []byte(text)}}}
}

// value returns the answer of the model in force.
func value(t testing.TB, s *Store, name string) float64 {
	t.Helper()
	a, err := s.Model(name).Run(t.Context(), numbers("[1,2,3,4]"))
	require.NoError(t, err)
	return a.Values[0]
}

func status(t testing.TB, s *Store, name string) Status {
	t.Helper()
	list, _ := s.Status()
	for _, one := range list {
		if one.Name == name {
			return one
		}
	}
	require.Fail(t, "unknown model", name)
	return Status{}
}
