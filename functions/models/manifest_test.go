package models

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersions(t *testing.T) {
	order := []Version{"x", "0", "0.9", "1", "1.0.1", "1.2", "1.10", "2", "2.0.0.1", "2147483647"}
	for i, a := range order {
		for j, b := range order {
			require.Equal(t, i < j, a.Compare(b) < 0, "%s %s", a, b)
		}
	}
	require.Zero(t, Version("1").Compare("1.0.0"))
	for _, bad := range []Version{"", "1.", "v1", "01", "1.2.3.4.5", "-1", "2147483648", "1 "} {
		_, err := bad.parts()
		require.Error(t, err, bad)
	}
}

// Each problem is named.
func TestManifestsThatAreRefused(t *testing.T) {
	file := made(t, 4, 1)
	for want, change := range map[string]func(*Manifest){
		"format":             func(m *Manifest) { m.Format = 2 },
		"name":               func(m *Manifest) { m.Name = "../x" },
		"name = \"A\"":       func(m *Manifest) { m.Name = "A" },
		"version":            func(m *Manifest) { m.Version = "new" },
		"variant":            func(m *Manifest) { m.Variant = "fog" },
		"engine":             func(m *Manifest) { m.Engine = "torch" },
		"file":               func(m *Manifest) { m.File = "../model" },
		"file = \"a/b\"":     func(m *Manifest) { m.File = "a/b" },
		"file = \".model\"":  func(m *Manifest) { m.File = ".model" },
		"file = \"manifest":  func(m *Manifest) { m.File = ManifestFile },
		"sha256":             func(m *Manifest) { m.SHA256 = strings.ToUpper(m.SHA256) },
		"size":               func(m *Manifest) { m.Size = 0 },
		"memory":             func(m *Manifest) { m.Memory = 1 << 40 },
		"inputs[0].shape":    func(m *Manifest) { m.Inputs[0].Shape = []int{1 << 20, 1 << 20} },
		"outputs[0].shape":   func(m *Manifest) { m.Outputs[0].Shape = []int{0} },
		"labels":             func(m *Manifest) { m.Labels = []string{"a\x00"} },
		"input.kind":         func(m *Manifest) { m.Input.Kind = "sound" },
		"input.resize":       func(m *Manifest) { m.Input.Resize = "cubic" },
		"input.maxPixels":    func(m *Manifest) { m.Input.MaxPixels = 1 << 30 },
		"output.kind":        func(m *Manifest) { m.Output.Kind = "text" },
		"output.temperature": func(m *Manifest) { m.Output.Temperature = -1 },
		"output.threshold":   func(m *Manifest) { m.Output.Kind = Score },
		"at least 2":         func(m *Manifest) { m.Output.Kind = Classes },
	} {
		_, err := ParseManifest(text(t, describe(t, "m", "1", file, change)))
		require.ErrorContains(t, err, want)
	}
}

// A foreign ONNX model passes manifest, store and answer.
func TestAnONNXModel(t *testing.T) {
	file, err := os.ReadFile("/usr/lib/python3/dist-packages/onnx/backend/test/data/node/test_softmax_example/model.onnx")
	if err != nil {
		t.Skip("libonnx-testdata is not installed")
	}
	dir := t.TempDir()
	put(t, dir, describe(t, "soft", "1", file, func(m *Manifest) {
		m.Labels, m.Output = []string{"a", "b", "c"}, Output{Kind: Classes}
	}), file)
	s := open(t, dir)
	a, err := s.Model("soft").Run(t.Context(), numbers("[-1,0,1]"))
	require.NoError(t, err)
	require.Equal(t, "c", a.Label)
	require.InDeltaSlice(t, []float64{0.09003058, 0.24472848, 0.66524094}, a.Scores, 1e-6, "as ONNX's own example has it")
}

// Any bytes are a manifest or an error, and an encoded manifest parses unchanged.
func FuzzManifest(f *testing.F) {
	f.Add(text(f, describe(f, "m", "1.2", made(f, 4, 1))))
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := json.Marshal(m)
		require.NoError(t, err)
		back, err := ParseManifest(again)
		require.NoError(t, err)
		third, err := json.Marshal(back)
		require.NoError(t, err)
		require.Equal(t, string(again), string(third))
	})
}
