package models

import (
	"context"
	"fmt"
	"sync"
	"time"

	"app-offload/functions/task"
)

// Inference computes answers to tasks. It is safe for concurrent use.
type Inference interface {
	// Run waits for memory and a session, and computes the answer. The end of ctx only ends the wait: a run is not interrupted.
	Run(ctx context.Context, t *task.Task) (Answer, error)
}

// TaskError means that a usable model cannot answer this task. Any other error of Run affects all tasks of the model.
type TaskError struct {
	Model   string
	Version Version
	EventID string
	Err     error
}

func (e *TaskError) Error() string {
	return fmt.Sprintf("running model %s %s on event %.64s: %v", e.Model, e.Version, e.EventID, e.Err)
}

func (e *TaskError) Unwrap() error { return e.Err }

// Answer is the output of a model for a task.
type Answer struct {
	Model    string        `json:"model"`
	Version  Version       `json:"version"`
	Variant  string        `json:"variant"`
	Resource string        `json:"resource"` // of the reading that the model read
	Took     time.Duration `json:"took"`     // time to read the input, run and read the output, without waiting

	Label      string    `json:"label,omitempty"`      // label of classes; otherwise normal or anomaly
	Index      int       `json:"index"`                // of the label
	Confidence float64   `json:"confidence,omitempty"` // calibrated probability of the label
	Scores     []float64 `json:"scores,omitempty"`     // calibrated probability of each label
	Logits     []float64 `json:"logits,omitempty"`     // before calibration
	Error      float64   `json:"error,omitempty"`      // mean squared error of a reconstruction, or the score
	Threshold  float64   `json:"threshold,omitempty"`  // Error from which on the answer is an anomaly
	Anomaly    bool      `json:"anomaly,omitempty"`
	Values     []float64 `json:"values,omitempty"`    // output of models with numbers
	Embedding  []float64 `json:"embedding,omitempty"` // for the detection of drift
}

// Model returns an Inference that uses the version of the model in force at each run.
func (s *Store) Model(name string) Inference { return &inference{store: s, name: name} }

// Reads returns the resource that the model reads in the task, or the reason why it cannot: the model is unknown, its last load failed recently, or
// no single reading of the task fits its input. It loads nothing and does not examine values.
func (s *Store) Reads(name string, t *task.Task) (resource string, err error) {
	v, err := s.usable(name)
	if err != nil {
		return "", err
	}
	r, err := v.Input.choose(t)
	if err != nil {
		return "", &InputError{err}
	}
	return r.Resource, nil
}

// InputError means that an event does not fit a model. The model itself works.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// Usable returns why a model is not usable, nil if it is.
func (s *Store) Usable(name string) error {
	_, err := s.usable(name)
	return err
}

func (s *Store) usable(name string) (*version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.models[name]
	switch {
	case s.closed:
		return nil, ErrClosed
	case m == nil || m.now == nil && m.problem == nil:
		return nil, ErrUnknown
	case m.now == nil, m.loaded == nil && m.failed == m.now.digest && s.clock.Since(m.failedAt) < retryAfter:
		return nil, m.problem
	}
	return m.now, nil
}

// Measured returns the version in force, its multiply-accumulates, and the run time measured at the last load; 0 before a load.
func (s *Store) Measured(name string) (v Version, macs int64, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.models[name]; m != nil && m.now != nil {
		return m.now.Version, m.macs, m.took
	}
	return "", 0, 0
}

type inference struct {
	store *Store
	name  string
}

var scratches = sync.Pool{New: func() any { return &scratch{} }}

func (i *inference) Run(ctx context.Context, t *task.Task) (Answer, error) {
	lease, err := i.store.Acquire(ctx, i.name)
	if err != nil {
		return Answer{}, err
	}
	return run(lease, t)
}

// run computes an answer and closes the lease.
func run(lease *Lease, t *task.Task) (Answer, error) {
	defer lease.Close()
	m := lease.Manifest
	start := time.Now()
	a := Answer{Model: m.Name, Version: m.Version, Variant: m.Variant}
	memory, _ := scratches.Get().(*scratch)
	defer scratches.Put(memory)
	if err := answer(&a, lease, t, memory); err != nil {
		return Answer{}, &TaskError{Model: m.Name, Version: m.Version, EventID: t.EventID, Err: err}
	}
	a.Took = time.Since(start)
	return a, nil
}

func answer(a *Answer, lease *Lease, t *task.Task, memory *scratch) error {
	m := lease.Manifest
	r, err := m.Input.choose(t)
	if err != nil {
		return &InputError{err}
	}
	a.Resource = r.Resource
	if err := m.Input.fill(lease.Session.Inputs()[0], r, memory); err != nil {
		return &InputError{err}
	}
	if err := lease.Session.Run(); err != nil {
		return err
	}
	return m.Output.read(a, m, lease.Session)
}
