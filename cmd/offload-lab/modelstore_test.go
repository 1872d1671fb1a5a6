package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/models"
)

// A manifest written by the verb makes a folder that the verb can list and run, without changing it.
func TestModelFolders(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "double")
	require.NoError(t, os.Mkdir(folder, 0o700))
	w := &tflite.Writer{}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, 2}})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{1, 2}})
	w.Operator("ADD", tflite.Options{}, []int{x, x}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	require.NoError(t, err)
	path := filepath.Join(folder, "model.tflite")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	verb := func(args ...string) string {
		t.Helper()
		return stdoutOf(t, func() error { return modelVerb(context.Background(), args) })
	}
	require.Contains(t, verb("-runs", "3", path), "ADD")
	require.NoError(t, os.WriteFile(filepath.Join(folder, models.ManifestFile), []byte(verb("-manifest", "double", path)), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "other"), 0o700))
	list := verb(dir)
	require.Contains(t, list, "double 1 (edge, tflite, in force)")
	require.Contains(t, list, "not a model: other")
	input := filepath.Join(dir, "numbers.json")
	require.NoError(t, os.WriteFile(input, []byte("[1, 2.5]\n"), 0o600))
	var answer models.Answer
	require.NoError(t, json.Unmarshal([]byte(verb("-ask", "double", "-input", input, dir)), &answer))
	require.Equal(t, []float64{2, 5}, answer.Values)
	var listed struct{ Models []models.Report }
	require.NoError(t, json.Unmarshal([]byte(verb("-json", dir)), &listed))
	require.True(t, listed.Models[0].InForce)
	require.NoFileExists(t, filepath.Join(dir, "state.json"))

	require.NoError(t, os.WriteFile(path, append(file, 0), 0o600))
	require.Contains(t, verb(dir), "cannot be loaded: double/model.tflite has")
	key := "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
	require.Contains(t, verb("-key", key, dir), "not signed")
	require.ErrorContains(t, modelVerb(context.Background(), []string{"-key", key, path}), "for a folder of models")
	for want, args := range map[string][]string{
		"double":                    {"-ask", "double", "-input", input, dir}, // its file was changed
		"strange":                   {"-ask", "strange", "-input", input, dir},
		"reading -input":            {"-ask", "double", "-input", filepath.Join(dir, "missing"), dir},
		"-key is neither":           {"-key", "no key", dir},
		"reading the model":         {"-manifest", "m", filepath.Join(dir, "missing")},
		"-runs = 0":                 {"-runs", "0", path},
		"-runs = 1000001":           {"-runs", "1000001", path},
		"-memory = 0":               {"-memory", "0", path},
		"-memory = 16385":           {"-memory", "16385", path},
		"name one model file":       {},
		"-ask and -input are for a": {"-ask", "double", path},
		"no such file":              {filepath.Join(dir, "missing")},
	} {
		require.ErrorContains(t, modelVerb(context.Background(), args), want)
	}
	require.Contains(t, verb(t.TempDir()), "has no models")
	text := filepath.Join(dir, "key.pub")
	require.NoError(t, os.WriteFile(text, []byte("untrusted comment: a key\n"+key+"\n"), 0o600))
	require.Contains(t, verb("-key", text, dir), "not signed")
}
