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

// EngineOf names the engine of a file by the mark that TensorFlow Lite's files have; those of ONNX have none.
func EngineOf(file []byte) string {
	if len(file) >= 8 && string(file[4:8]) == "TFL3" {
		return TFLite
	}
	return ONNX
}

// Engines by their names in manifests.
const (
	TFLite      = "tflite"
	ONNX        = "onnx"
	ONNXRuntime = "onnxruntime" // the same files as ONNX
)

// Load reads a model with the engine of that name. The program takes at most memory bytes for its constants, and as much for a session. It is
// to be closed with Close.
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
	return nil, fmt.Errorf("loading a model: engine %.64q must be one of tflite, onnx, onnxruntime", name)
}

// footprint is the memory of a program with one session: what the engine counts, and the file, to which the program refers.
func footprint(file []byte, info *engine.Info) int64 { return info.Bytes + int64(len(file)) }

// readFile reads a model's file after its size was compared with the manifest, and checks the digest.
func readFile(root *os.Root, path string, m *Manifest) ([]byte, error) {
	f, info, err := openFile(root, path)
	if err != nil {
		return nil, fmt.Errorf("opening the file: %w", err)
	}
	defer func() { _ = f.Close() }()
	if info.Size() != m.Size {
		return nil, fmt.Errorf("%s has %d bytes, the manifest says %d", path, info.Size(), m.Size)
	}
	file := make([]byte, m.Size)
	if _, err := io.ReadFull(f, file); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if digest := sha256.Sum256(file); hex.EncodeToString(digest[:]) != m.SHA256 {
		return nil, fmt.Errorf("%s has the SHA-256 %x, the manifest says %s", path, digest, m.SHA256)
	}
	return file, nil
}

// openFile opens what must be a regular file. It does not wait for the other end of a pipe.
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

// maxProblem is how many bytes of an error are kept: names out of a foreign file can be as long as the file.
const maxProblem = 1 << 10

// brief cuts an error that is too long to be kept.
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
	bytes int64          // with one session
	took  time.Duration  // of the second run, when caches and memory are warm
}

// prepare reads, checks, loads and warms one version. It runs the model twice on zeros: the first run takes memory, the second is timed.
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

// specs are the tensors as they are in a run, where no dimension is open any more.
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

// engineFor is the engine that computes a model here: that of its manifest, or ONNX Runtime where it is configured for the model.
func engineFor(m *Manifest, runtime onnxruntime.Config) string {
	if m.Engine == ONNX && runtime.Computes(m.Name) {
		return ONNXRuntime
	}
	return m.Engine
}

// Close closes a session, or a program that Load has made, after its sessions.
func Close(what any) { release(what) }

// release closes what has to be closed: an engine outside of Go holds memory that no garbage collector sees.
func release(what any) {
	if c, ok := what.(io.Closer); ok {
		_ = c.Close()
	}
}
