package models

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/engine"
	"app-offload/functions/engine/onnxruntime"
	"app-offload/functions/engine/tflite"
)

// EngineOf returns the engine of a file. TensorFlow Lite files have a mark, ONNX files have none.
func EngineOf(file []byte) string {
	if len(file) >= 8 && string(file[4:8]) == "TFL3" {
		return TFLite
	}
	return ONNX
}

// Engine names in manifests.
const (
	TFLite      = "tflite"
	ONNX        = "onnx"
	ONNXRuntime = "onnxruntime" // for the same files as ONNX
)

// Load loads a model with the named engine. The program uses at most memory bytes for its constants, and as much for a session. It must be closed with Close.
func Load(name string, file []byte, memory int64, runtime onnxruntime.Config) (engine.Program, error) {
	if memory <= 0 {
		return nil, fmt.Errorf("loading a model: %d bytes of memory are not enough", memory)
	}
	switch name {
	case TFLite:
		p, err := tflite.Load(file, tflite.Limits{MaxBytes: memory})
		if err != nil {
			return nil, err
		}
		return p, nil
	case ONNX:
		return loadONNX(file, memory)
	case ONNXRuntime:
		return onnxruntime.Load(file, runtime, memory)
	}
	return nil, fmt.Errorf("loading a model: engine %.64q, expected tflite, onnx or onnxruntime", name)
}

// footprint returns the memory of a program with one session: the engine's count plus the file, which the program references.
func footprint(file []byte, info *engine.Info) int64 { return info.Bytes + int64(len(file)) }

// readFile reads a model's file. It checks the size before it reads, and then the digest.
func readFile(root *os.Root, path string, m *Manifest) ([]byte, error) {
	f, info, err := openFile(root, path)
	if err != nil {
		return nil, fmt.Errorf("opening the file: %w", err)
	}
	defer func() { _ = f.Close() }()
	if info.Size() != m.Size {
		return nil, fmt.Errorf("%s has %d bytes, the manifest specifies %d", path, info.Size(), m.Size)
	}
	file := make([]byte, m.Size)
	if _, err := io.ReadFull(f, file); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if digest := sha256.Sum256(file); hex.EncodeToString(digest[:]) != m.SHA256 {
		return nil, fmt.Errorf("%s has the SHA-256 %x, the manifest specifies %s", path, digest, m.SHA256)
	}
	return file, nil
}

// openFile opens a regular file. It does not block on a named pipe.
func openFile(root *os.Root, path string) (*os.File, os.FileInfo, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file (%s)", path, info.Mode())
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// ReadFile reads a regular file of at most most bytes.
func ReadFile(root *os.Root, path string, most int64) ([]byte, error) {
	f, _, err := openFile(root, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return b, nil
}

// maxProblem is the maximum length of a kept error in bytes: names from a foreign file can be as long as the file.
const maxProblem = 1 << 10

// brief truncates a long error.
func brief(err error) error {
	if text := err.Error(); len(text) > maxProblem {
		return errors.New(check.Cut(text, maxProblem))
	}
	return err
}

// program is a loaded and warmed model.
type program struct {
	engine.Program
	info  engine.Info
	first engine.Session // warm
	bytes int64          // memory with one session
	took  time.Duration  // of the second run, with warm caches and memory
}

// prepare reads, verifies, loads and warms one version. It runs the model twice on zeros: the first run allocates memory, the second is timed.
func prepare(root *os.Root, v *version, runtime onnxruntime.Config) (_ *program, err error) {
	m := v.Manifest
	path := v.folder + "/" + m.File
	file, err := readFile(root, path, m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", path, brief(err))
		}
	}()
	loaded, err := Load(engineFor(m, runtime), file, m.memory()-m.Size, runtime)
	if err != nil {
		return nil, err
	}
	p := &program{Program: loaded, info: loaded.Info()}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.bytes = footprint(file, &p.info); p.bytes > m.memory() {
		return nil, fmt.Errorf("the model takes %d bytes with one session, its manifest allows %d", p.bytes, m.memory())
	}
	if p.first, err = loaded.NewSession(); err != nil {
		return nil, err
	}
	for range 2 {
		start := time.Now()
		if err = p.first.Run(); err != nil {
			return nil, fmt.Errorf("running the model on zeros: %w", err)
		}
		p.took = time.Since(start)
	}
	p.info.Inputs, p.info.Outputs = specs(p.first.Inputs()), specs(p.first.Outputs())
	if err = m.fits(&p.info); err != nil {
		return nil, err
	}
	if err = m.checkTensors(&p.info); err != nil {
		return nil, err
	}
	p.first.Reset()
	return p, nil
}

// specs returns the tensors of a run, in which all dimensions are known.
func specs(tensors []*engine.Tensor) []engine.Spec {
	list := make([]engine.Spec, len(tensors))
	for i, t := range tensors {
		list[i] = t.Spec
		list[i].Shape = slices.Clone(t.Shape)
	}
	return list
}

func (p *program) close() {
	release(p.first)
	release(p.Program)
}

// engineFor returns the engine that runs a model: the manifest's, or ONNX Runtime if it is configured for the model.
func engineFor(m *Manifest, runtime onnxruntime.Config) string {
	if m.Engine == ONNX && runtime.Computes(m.Name) {
		return ONNXRuntime
	}
	return m.Engine
}

// Close closes a session, or a program returned by Load. Close the sessions of a program first.
func Close(what any) { release(what) }

// release closes an engine object that has a Close method: memory outside of Go is not garbage-collected.
func release(what any) {
	if c, ok := what.(io.Closer); ok {
		_ = c.Close()
	}
}
