package local

import (
	"errors"
	"fmt"
)

// Why a task was not processed. Process hands these to done, wrapped.
var (
	// ErrClosed says that the processor had stopped before the task was taken.
	ErrClosed = errors.New("local processing is stopping")
	// ErrFull says that the queue of the task's worker stayed full until the caller's context ended.
	ErrFull = errors.New("the queue for local processing is full")
)

// UnreadError says that no operator could read a reading of the task: its value is no number of its type, and the task must not leave; or there is
// no room for its state.
type UnreadError struct{ Device, Resource, Problem string }

func (e *UnreadError) Error() string {
	return fmt.Sprintf("reading %s of %s: %s", e.Resource, e.Device, e.Problem)
}

// maxShown bounds what an error shows of a value, in bytes.
const maxShown = 64

func bounded(value []byte) string { return string(value[:min(len(value), maxShown)]) }

// PanicError says that an operator panicked over this task. The state of that operator for that resource began anew.
type PanicError struct {
	Operator, Device, Resource string
	Value                      any
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("operator %q on %s/%s panicked: %v", e.Operator, e.Device, e.Resource, e.Value)
}

// PublishError says that a result of this task could not be published, after the configured retries. The operator's
// state has already moved on; the task's data are whole and can go the other way.
type PublishError struct {
	Device, Source string
	Err            error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("publishing result %s of %s: %v", e.Source, e.Device, e.Err)
}

func (e *PublishError) Unwrap() error { return e.Err }

// SpecError is one problem of an operator notation. It names what was tried and shows how to write it.
type SpecError struct {
	Operator, Parameter, Value string // Parameter is empty where the operator itself is the problem
	Problem, Example           string
}

func (e *SpecError) Error() string {
	if e.Parameter == "" {
		return fmt.Sprintf("operator %q: %s; write it like %q", e.Operator, e.Problem, e.Example)
	}
	return fmt.Sprintf("operator %q, parameter %s = %q: %s; write it like %q",
		e.Operator, e.Parameter, e.Value, e.Problem, e.Example)
}
