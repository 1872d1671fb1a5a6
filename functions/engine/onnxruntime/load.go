//go:build onnxruntime

package onnxruntime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"app-offload/functions/engine"
	"app-offload/functions/engine/onnx"
)

var (
	_ engine.Program = (*program)(nil)
	_ engine.Session = (*session)(nil)
)

// program is a model in the library's memory. Its sessions may run concurrently.
type program struct {
	info  engine.Info
	model *ort.DynamicAdvancedSession
}

// Load reads a model and runs it once on zeros, to learn the shapes of its outputs. It uses at most memory bytes, as far as that is known. The
// program must be closed after its sessions.
func Load(file []byte, c Config, memory int64) (_ engine.Program, err error) {
	info, known, err := onnx.Inspect(file, onnx.Limits{MaxBytes: memory})
	if err != nil {
		return nil, err
	}
	if len(info.Inputs) == 0 || len(info.Outputs) == 0 {
		return nil, fmt.Errorf("loading a model: it has %d inputs and %d outputs, and needs one of each for ONNX Runtime", len(info.Inputs), len(info.Outputs))
	}
	info.Format = "onnxruntime"
	if !known {
		info.Bytes = max(info.Bytes, memory)
	}
	if err := start(c.Library); err != nil {
		return nil, err
	}
	p := &program{info: info}
	if p.model, err = open(file, &info, c.Threads); err != nil {
		return nil, fmt.Errorf("loading a model with ONNX Runtime %s: %w", ort.GetVersion(), err)
	}
	if err := p.probe(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// library is the environment of this process. It stays until the process ends.
var library struct {
	sync.Mutex
	path string
}

// start loads the library once. A process has only one library: changing its file needs a restart.
func start(path string) error {
	library.Lock()
	defer library.Unlock()
	if path == "" {
		path = beside("libonnxruntime.so.1")
	}
	if ort.IsInitialized() {
		if path != library.path {
			return fmt.Errorf("loading a model: ONNX Runtime is already loaded from %q, loading it from %q needs a restart", library.path, path)
		}
		return nil
	}
	ort.SetSharedLibraryPath(path)
	if err := ort.InitializeEnvironment(ort.WithLogLevelFatal()); err != nil {
		return fmt.Errorf("loading ONNX Runtime from %q (configure its file, of version 1.29 or later): %w", path, err)
	}
	library.path = path
	return nil
}

// beside returns the path of a file in the folder of the program, or its name if it is not there.
func beside(name string) string {
	if self, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(self), name); exists(path) {
			return path
		}
	}
	return name
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// open loads the file with the library.
func open(file []byte, info *engine.Info, threads int) (*ort.DynamicAdvancedSession, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer o.Destroy()
	err = errors.Join(
		o.SetIntraOpNumThreads(threads), o.SetInterOpNumThreads(1), o.SetExecutionMode(ort.ExecutionModeSequential),
		o.SetCpuMemArena(false), o.SetMemPattern(false), // both keep memory between runs
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"), // leaves the cores to other work between runs
	)
	if err != nil {
		return nil, err
	}
	return ort.NewDynamicAdvancedSessionWithONNXData(file, names(info.Inputs), names(info.Outputs), o)
}

func names(specs []engine.Spec) []string {
	list := make([]string, len(specs))
	for i := range specs {
		list[i] = specs[i].Name
	}
	return list
}

// probe learns the shapes of the outputs.
func (p *program) probe() error {
	s := &session{p: p}
	defer s.Close()
	if err := s.allocate(p.info.Inputs, &s.inputs, &s.in); err != nil {
		return err
	}
	out := make([]ort.Value, len(p.info.Outputs))
	err := p.model.Run(s.in, out)
	for i, v := range out {
		if v != nil && !reflect.ValueOf(v).IsNil() { // a value that cannot be converted is a nil pointer
			shape := v.GetShape()
			p.info.Outputs[i].Shape = make([]int, len(shape))
			for k, d := range shape {
				p.info.Outputs[i].Shape[k] = int(d)
			}
			err = errors.Join(err, v.Destroy())
		}
	}
	if err != nil {
		return fmt.Errorf("running an ONNX model on zeros: %w", err)
	}
	return nil
}

// Info describes the model.
func (p *program) Info() engine.Info { return p.info }

// Close releases the library's memory. No session may be in use.
func (p *program) Close() error { return p.model.Destroy() }

// NewSession allocates the memory of inputs and outputs.
func (p *program) NewSession() (engine.Session, error) {
	s := &session{p: p}
	err := s.allocate(p.info.Inputs, &s.inputs, &s.in)
	if err == nil {
		err = s.allocate(p.info.Outputs, &s.outputs, &s.out)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// session holds inputs and outputs in Go's memory, which must not move while the library uses it.
type session struct {
	p               *program
	inputs, outputs []*engine.Tensor
	in, out         []ort.Value
	pinned          runtime.Pinner
}

func (s *session) Inputs() []*engine.Tensor  { return s.inputs }
func (s *session) Outputs() []*engine.Tensor { return s.outputs }

// Reset does nothing: ONNX models have no state of their own.
func (s *session) Reset() {}

// Run computes the outputs.
func (s *session) Run() error {
	if err := s.p.model.Run(s.in, s.out); err != nil {
		return fmt.Errorf("running an ONNX model: %w", err)
	}
	return nil
}

// Close releases the library's memory of the session.
func (s *session) Close() error {
	var err error
	for _, v := range slices.Concat(s.in, s.out) {
		err = errors.Join(err, v.Destroy())
	}
	s.in, s.out = nil, nil
	s.pinned.Unpin()
	return err
}

func (s *session) allocate(specs []engine.Spec, tensors *[]*engine.Tensor, values *[]ort.Value) error {
	for _, spec := range specs {
		t := &engine.Tensor{Spec: spec}
		t.Shape = slices.Clone(spec.Shape)
		for i, d := range t.Shape {
			if d < 0 {
				t.Shape[i] = 1
			}
		}
		t.Allocate()
		v, err := s.value(t)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", &t.Spec, err)
		}
		*tensors, *values = append(*tensors, t), append(*values, v)
	}
	return nil
}

// value makes a tensor's memory available to the library.
func (s *session) value(t *engine.Tensor) (ort.Value, error) {
	switch t.Type {
	case engine.Float32:
		return show(s, t, t.F32)
	case engine.Float64:
		return show(s, t, t.F64)
	case engine.Int8:
		return show(s, t, t.I8)
	case engine.Uint8:
		return show(s, t, t.U8)
	case engine.Int16:
		return show(s, t, t.I16)
	case engine.Uint16:
		return show(s, t, t.U16)
	case engine.Int32:
		return show(s, t, t.I32)
	case engine.Uint32:
		return show(s, t, t.U32)
	case engine.Int64:
		return show(s, t, t.I64)
	case engine.Uint64:
		return show(s, t, t.U64)
	case engine.Bool:
		if len(t.U8) == 0 || len(t.Shape) == 0 {
			return nil, errNone
		}
		s.pinned.Pin(&t.U8[0])
		return ort.NewCustomDataTensor(shape(t), t.U8, ort.TensorElementDataTypeBool)
	}
	return nil, fmt.Errorf("elements of %s are not supported", t.Type)
}

var errNone = errors.New("a scalar or a tensor without elements is not supported by this engine")

func show[T ort.TensorData](s *session, t *engine.Tensor, data []T) (ort.Value, error) {
	if len(data) == 0 || len(t.Shape) == 0 {
		return nil, errNone
	}
	s.pinned.Pin(&data[0])
	v, err := ort.NewTensor(shape(t), data)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func shape(t *engine.Tensor) ort.Shape {
	list := make(ort.Shape, len(t.Shape))
	for i, d := range t.Shape {
		list[i] = int64(d)
	}
	return list
}
