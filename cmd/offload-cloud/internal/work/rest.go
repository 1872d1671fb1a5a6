package work

import (
	"sync"
	"time"
)

// modelError is what a run of a model returned. Where it is neither of the task nor a panic, the model cannot be used for any task.
type modelError struct{ error }

func (e *modelError) Unwrap() error { return e.error }

// rests are the models that cannot be used, with the time until which no jobs of theirs are taken: a job that is taken and given back costs
// transactions, and there may be very many. Safe for concurrent use.
type rests struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (r *rests) begin(model string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = map[string]time.Time{}
	}
	r.until[model] = time.Now().Add(modelPause)
}

func (r *rests) on(model string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, known := r.until[model]
	if known && !time.Now().Before(until) {
		delete(r.until, model)
		known = false
	}
	return known
}
