package nn

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/engine"
	"app-offload/functions/engine/onnxruntime"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/models"
)

const shipped = "../../../../res/models"

// Every shipped model loads and keeps its size limit: 300 KB for all edge variants together, 1 MB for each cloud variant.
func TestShippedModelsAreSmall(t *testing.T) {
	cfg := models.DefaultConfig()
	cfg.Dir = shipped
	look, err := models.LookAt(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, look.Close()) }()
	require.Empty(t, look.Problems)
	require.Len(t, look.Reports(), len(Models()))
	edge := int64(0)
	for _, r := range look.Reports() {
		require.Empty(t, r.Problem, r.Name)
		info, err := os.Stat(filepath.Join(shipped, r.Folder, "model."+r.Engine))
		require.NoError(t, err)
		if r.Variant == models.Edge {
			edge += info.Size()
			require.Equal(t, "tflite", r.Engine)
		} else {
			require.Less(t, info.Size(), int64(1_000_000))
		}
	}
	require.Less(t, edge, int64(300_000))
}

// The recipes give the shipped manifests.
func TestRecipesFitTheShippedManifests(t *testing.T) {
	for _, m := range Models() {
		b, err := os.ReadFile(filepath.Join(shipped, (&models.Manifest{Name: m.Name, Variant: m.Variant, Version: "1.0.0"}).Folder(), models.ManifestFile))
		require.NoError(t, err)
		manifest, err := models.ParseManifest(b)
		require.NoError(t, err)
		require.Equal(t, m.Input, manifest.Input)
		if !m.Auto {
			require.Equal(t, m.Source.Labels, manifest.Labels)
		}
	}
}

// TensorFlow Lite's own interpreter accepts the shipped files and gives the same bits; .ci/tflite/ask.cjs runs it.
func TestTensorFlowLiteGivesTheSameBits(t *testing.T) {
	b, err := os.ReadFile("testdata/tensorflow.json")
	require.NoError(t, err)
	var golden map[string][][][]int8
	require.NoError(t, json.Unmarshal(b, &golden))
	paths, err := filepath.Glob(shipped + "/*/model.tflite")
	require.NoError(t, err)
	require.Len(t, golden, len(paths))
	for _, path := range paths {
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		p, err := tflite.Load(file, tflite.Limits{})
		require.NoError(t, err)
		session, err := p.NewSession()
		require.NoError(t, err)
		cases := golden[filepath.Base(filepath.Dir(path))]
		require.Len(t, cases, 4, path)
		for c, outputs := range cases {
			s, in := uint32(c+1), session.Inputs()[0].I8
			for i := range in {
				s = s*1664525 + 1013904223
				in[i] = int8(int32(s>>24) - 128)
			}
			require.NoError(t, session.Run())
			require.Equal(t, outputs[0], session.Outputs()[0].I8, "%s, case %d", path, c+1)
		}
	}
}

// The shipped models are accurate on seeds not used in training. The report never changes for given models and seeds.
func TestShippedModelsAreAccurate(t *testing.T) {
	var out strings.Builder
	require.NoError(t, Judge(t.Context(), &out, Trial{Dir: shipped, From: 77, Seeds: 2, Samples: 25, Share: 0.1}))
	golden.Require(t, "judge.golden", out.String())
	for line, c := range map[string]struct {
		times int
		least float64 // %
	}{"edge alone": {2, 90}, "all cloud": {2, 90}, "random": {2, 90}, "energy": {2, 90}, "healthy, quiet": {1, 90}, "faults found": {1, 25}} {
		found := regexp.MustCompile(line+` +([0-9.]+) %`).FindAllStringSubmatch(out.String(), -1)
		require.Len(t, found, c.times, line)
		for _, f := range found {
			percent, err := strconv.ParseFloat(f[1], 64)
			require.NoError(t, err)
			require.GreaterOrEqual(t, percent, c.least, line)
		}
	}
	out.Reset()
	require.NoError(t, Judge(t.Context(), &out, Trial{Dir: shipped, From: 77, Seeds: 1, Samples: 1, Share: 0.1}))
	require.NotContains(t, out.String(), "NaN", "also of faults of which there are none")
	require.ErrorIs(t, Judge(t.Context(), &out, Trial{Dir: t.TempDir(), Seeds: 1, Samples: 1}), models.ErrUnknown)
	require.ErrorIs(t, Judge(t.Context(), &out, Trial{Dir: "/nonexistent"}), fs.ErrNotExist)
	require.ErrorContains(t, Judge(t.Context(), &out, Trial{Dir: shipped, Only: "wisdom"}), "wisdom")
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(shipped)))
	path := dir + "/bearing.cloud.1.0.0/" + models.ManifestFile
	manifest, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(manifest, []byte("Acceleration"), []byte("Sound"), 1), 0o600))
	require.ErrorContains(t, Judge(t.Context(), &out, Trial{Dir: dir, Only: "bearing", Seeds: 1, Samples: 1}), "Sound")
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, Judge(ended, &out, Trial{Dir: shipped, Only: "parts", Seeds: 1, Samples: 1}), context.Canceled)
}

// The recipes give networks of the shipped size and work.
func TestRecipesFitTheShippedFiles(t *testing.T) {
	for _, m := range Models() {
		net := New(m.H, m.W, 1, 1, m.Layers...)
		file, err := net.Float()
		require.NoError(t, err)
		if m.Scale > 0 {
			file, err = net.Int8([][]float32{make([]float32, m.H*m.W)}, m.Scale)
			require.NoError(t, err)
		}
		kind := models.EngineOf(file)
		ships, err := os.ReadFile(filepath.Join(shipped, (&models.Manifest{Name: m.Name, Variant: m.Variant, Version: "1.0.0"}).Folder(), "model."+kind))
		require.NoError(t, err)
		var infos [2]engine.Info
		for i, b := range [][]byte{file, ships} {
			p, err := models.Load(kind, b, 64<<20, onnxruntime.DefaultConfig())
			require.NoError(t, err)
			infos[i] = p.Info()
			models.Close(p)
			for k := range infos[i].Outputs {
				infos[i].Outputs[k].Scale, infos[i].Outputs[k].Zero = 0, 0 // of the samples
			}
		}
		require.Equal(t, infos[1], infos[0], "%s (%s)", m.Name, m.Variant)
	}
}
