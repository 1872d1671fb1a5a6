package tflite

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func recordedModels(t testing.TB) map[string][]byte {
	paths, err := filepath.Glob(recorded + "/*.tflite")
	require.NoError(t, err)
	if len(paths) == 0 {
		t.Skip("the recorded models are not here")
	}
	files := map[string][]byte{}
	for _, path := range paths {
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		files[filepath.Base(path)] = file
	}
	return files
}

// A run does not allocate.
func TestARunAllocatesNothing(t *testing.T) {
	for name, file := range recordedModels(t) {
		p, err := Load(file, Limits{})
		require.NoError(t, err, name)
		s, err := p.NewSession()
		require.NoError(t, err, name)
		require.Zero(t, testing.AllocsPerRun(10, func() { _ = s.Run() }), name)
	}
}

// Sessions of one program run concurrently and give the same results; more sessions do not enlarge the program.
func TestSessionsAreIndependent(t *testing.T) {
	file := recordedModels(t)["micro_speech_int8.tflite"]
	p, err := Load(file, Limits{})
	require.NoError(t, err)
	prepared := len(p.packed) + len(p.wide) + len(p.turned)
	var all sync.WaitGroup
	results := make([][]int8, 8)
	for i := range results {
		all.Go(func() {
			s, err := p.NewSession()
			if err != nil {
				return
			}
			feed(s.Inputs(), 3)
			for range 5 {
				_ = s.Run()
			}
			results[i] = s.Outputs()[0].I8
		})
	}
	all.Wait()
	for _, r := range results {
		require.Equal(t, results[0], r)
	}
	require.Len(t, results[0], 4)
	require.Equal(t, prepared, len(p.packed)+len(p.wide)+len(p.turned))
}

// A truncated file causes an error, and so does a file in another format.
func TestDamagedFilesGetAnError(t *testing.T) {
	for name, file := range recordedModels(t) {
		for n := 0; n < len(file); n += max(1, len(file)/500) {
			p, err := Load(file[:n], Limits{})
			if err == nil { // only padding was cut off
				require.Greater(t, n, len(file)*9/10, name)
				require.NotZero(t, p.Info().Parameters)
			}
		}
	}
	_, err := Load([]byte("GGUF0000"), Limits{})
	require.ErrorContains(t, err, `byte 4: expected the mark "TFL3" of a TensorFlow Lite model, found "0000"`)
	_, err = Load(nil, Limits{})
	require.ErrorContains(t, err, "TFL3")
}

// A model that needs more memory than allowed is rejected before it gets any.
func TestMemoryIsBounded(t *testing.T) {
	file := recordedModels(t)["micro_speech_int8.tflite"]
	p, err := Load(file, Limits{})
	require.NoError(t, err)
	_, err = Load(file, Limits{MaxBytes: p.Info().Bytes / 4})
	require.ErrorContains(t, err, "bytes")
}

// Reading any file neither panics nor allocates more memory than allowed, and a model that loads also runs.
func FuzzLoad(f *testing.F) {
	for _, file := range recordedModels(f) {
		if len(file) < 16<<10 {
			f.Add(file)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := Load(file, Limits{MaxBytes: 4 << 20, MaxTensors: 500, MaxOperator: 200, MaxWork: 1e7})
		if err != nil {
			return
		}
		s, err := p.NewSession()
		require.NoError(t, err)
		feed(s.Inputs(), 1)
		require.NoError(t, s.Run())
	})
}
