// Package work computes answers to stored records with models, and stores them.
//
// A Worker takes jobs from the store for as long as a lease, which it prolongs while it computes, reads each job's record, runs the model
// that the job names, and stores the answer. Workers of any number of processes share one store. One that is killed loses its leases,
// and others take its jobs. A job that fails, or whose worker ends, is tried again after a pause; after Tries it is set aside with its
// reason, which is published in place of an answer.
//
// Memory: each thread holds one event and its answer. A fault of the models' store, such as a file that cannot be loaded, costs no job a try.
// When its context ends, a Worker finishes the runs under way, gives the other jobs back, and returns.
package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/answer"
	"app-offload/functions/intake/parse"
	"app-offload/functions/models"
	"app-offload/functions/say"
	"app-offload/functions/task"
)

// Store is what a worker needs of the database; *store.Store is one.
type Store interface {
	TakeJobs(ctx context.Context, worker, model string, lease time.Duration, limit int) ([]*store.Job, error)
	RenewJob(ctx context.Context, worker string, record int64, lease time.Duration) (held bool, err error)
	PostponeJob(ctx context.Context, worker string, record int64, pause time.Duration, problem string, uncounted bool) error
	FinishJobs(ctx context.Context, worker string, outcomes []*store.Outcome) (held int, err error)
	JobRecord(ctx context.Context, record int64) (*store.Found, error)
	Of(ctx context.Context, one *store.Found) ([]*store.Found, error)
	Ended(ctx context.Context, one *store.Found, missing int) (why string, err error)
}

// Worker computes. Its fields are set before Run.
type Worker struct {
	Store   Store
	Names   func() []string                    // the models that there are, asked before each look for jobs
	Model   func(name string) models.Inference // runs one
	ID      string                             // of this worker among all that share the store
	Threads int                                // runs at the same time
	Lease   time.Duration                      // after which the jobs of a worker that was killed are taken by another
	Poll    time.Duration                      // between two looks for jobs while there are none
	Tries   int                                // after which a job is set aside
	Wake    <-chan struct{}                    // says that there may be jobs; nil where only Poll finds them
	Done    func()                             // called after each answer that was stored; must not block
	Log     *slog.Logger

	Counts Counts
	once   say.Once
	rests  rests
}

// asides bounds the log lines about jobs that are set aside: there may be very many, and each names its event.
var asides = say.NewEvery(time.Minute)

// Counts are a worker's figures since its start. Safe to read at any time.
type Counts struct {
	Answered  atomic.Int64 // jobs with an answer
	Failed    atomic.Int64 // jobs that were set aside
	Postponed atomic.Int64 // jobs that are to be tried again
	Lost      atomic.Int64 // jobs whose lease ended before their answer was stored
	RunTime   atomic.Int64 // ns of models' runs
	Errors    atomic.Int64 // of the store
}

// Register offers the figures to Prometheus.
func (c *Counts) Register(r prometheus.Registerer) {
	for _, m := range []struct {
		name, help string
		n          *atomic.Int64
		unit       float64
	}{
		{"answered_total", "Jobs with an answer.", &c.Answered, 1},
		{"set_aside_total", "Jobs that were set aside with a reason.", &c.Failed, 1},
		{"postponed_total", "Jobs that were given back to be tried again.", &c.Postponed, 1},
		{"lost_total", "Jobs whose lease ended before their outcome was stored; others compute them.", &c.Lost, 1},
		{"run_seconds_total", "Time in models, of all threads.", &c.RunTime, 1e-9},
		{"errors_total", "Failures of the store or of a model that concern all of its jobs.", &c.Errors, 1},
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "offload_cloud_work_" + m.name, Help: m.help},
			func() float64 { return float64(m.n.Load()) * m.unit }))
	}
}

const (
	batch        = 32                    // most jobs that a thread takes at once
	gathering    = 20 * time.Millisecond // after which answers are stored although the batch goes on
	reading      = 30 * time.Second      // for reading a record and the other chunks of its event, also at the stop
	storing      = 10 * time.Second      // for storing what a run came to, also at the stop
	longestRun   = 10 * time.Minute      // after which a run's lease is not prolonged any more
	modelPause   = 10 * time.Second      // before a job is tried again whose model cannot be used at all
	firstPause   = time.Second           // before a job that failed is tried again; it doubles with each try
	longestPause = time.Hour
	patience     = 24 * time.Hour // with chunks that have not come
	straggling   = time.Hour      // for which a chunk may come long after its siblings, as it was parked or local work on it failed
	problemMax   = 400
	eventMax     = 64 << 20 // bytes of an event
)

// Run works until ctx ends.
func (w *Worker) Run(ctx context.Context) {
	var threads sync.WaitGroup
	for n := range w.Threads {
		threads.Go(func() { w.thread(ctx, fmt.Sprintf("%s-%d", w.ID, n)) })
	}
	threads.Wait()
}

// thread takes jobs and computes them, one after the other.
func (w *Worker) thread(ctx context.Context, id string) {
	poll := time.Tick(w.Poll)
	for ctx.Err() == nil {
		if w.round(ctx, id) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-w.Wake:
		case <-poll:
		}
	}
}

// round looks once for jobs of each model, and reports whether there were any.
func (w *Worker) round(ctx context.Context, id string) (found bool) {
	for _, name := range w.Names() {
		if w.rests.on(name) {
			continue
		}
		jobs, err := w.Store.TakeJobs(ctx, id, name, w.Lease, batch)
		if err != nil && ctx.Err() != nil {
			return false // what was taken all the same is taken again when its lease ends
		}
		w.failing("taking jobs", err)
		if len(jobs) > 0 {
			found = true
			w.batch(ctx, id, jobs)
		}
	}
	return found
}

// batch computes jobs while their leases are prolonged. After the stop, or where the model cannot be used, it gives back those that it has
// not begun.
func (w *Worker) batch(ctx context.Context, id string, jobs []*store.Job) {
	safe := context.WithoutCancel(ctx)
	k := w.keep(safe, id, jobs)
	defer k.end()
	var made []*store.Outcome // not stored yet
	began := time.Now()
	for _, j := range jobs {
		switch {
		case !k.begin(j):
			w.Counts.Lost.Add(1)
		case ctx.Err() != nil:
			w.postpone(safe, id, j, 0, j.Problem, true)
		case w.rests.on(j.Model):
			w.postpone(safe, id, j, modelPause, j.Problem, true)
		default:
			if o := w.job(safe, id, j); o != nil {
				made = append(made, o)
			}
		}
		if len(made) > 0 && time.Since(began) > gathering {
			w.store(safe, id, made)
			made, began = nil, time.Now()
		}
	}
	if len(made) > 0 {
		w.store(safe, id, made)
	}
}

// job computes one and returns what came of it, nil where it was given back to be tried again.
func (w *Worker) job(ctx context.Context, id string, j *store.Job) *store.Outcome {
	if j.Tries > w.Tries {
		return &store.Outcome{Record: j.Record, Problem: fmt.Sprintf("the workers that had it ended %d times; %s", j.Tries-1, cmp.Or(j.Problem, "it has no other problem"))}
	}
	payload, err := w.answer(ctx, j)
	var one *models.TaskError
	var unfit *unfitError
	var parts *partsError
	mine := errors.As(err, &one) || errors.As(err, &unfit) || errors.As(err, &parts)
	if err == nil || mine {
		w.failing("computing with model "+j.Model, nil)
	}
	switch {
	case err == nil:
		return &store.Outcome{Record: j.Record, Payload: payload}
	case !mine: // of the models or the database, and of all jobs
		w.failing("computing with model "+j.Model, err)
		if unusable := (*modelError)(nil); errors.As(err, &unusable) {
			w.rests.begin(j.Model)
		}
		w.postpone(ctx, id, j, modelPause, text(err), true)
		return nil
	case parts != nil && (j.Age < straggling || parts.gone == "" && j.Age < patience):
		w.postpone(ctx, id, j, min(max(j.Age/4, firstPause), modelPause*10), text(err), true)
		return nil
	case parts != nil:
		return &store.Outcome{Record: j.Record, Problem: text(err), Stored: parts.stored}
	case unfit != nil && unfit.permanent, j.Tries >= w.Tries:
		return &store.Outcome{Record: j.Record, Problem: text(err)}
	}
	w.postpone(ctx, id, j, pause(j.Tries), text(err), false)
	return nil
}

// pause is 1 s after the first try and doubles with each.
func pause(tries int) time.Duration {
	return min(firstPause<<min(max(tries-1, 0), 20), longestPause)
}

func text(err error) string {
	s := err.Error()
	return s[:min(len(s), problemMax)] // the store mends what was cut
}

// unfitError is about one record: it cannot be answered, or not yet.
type unfitError struct {
	permanent bool
	err       error
}

func (e *unfitError) Error() string { return e.err.Error() }
func (e *unfitError) Unwrap() error { return e.err }

// partsError is about an event of which chunks are missing.
type partsError struct {
	*task.MissingError
	stored int    // chunks that are there
	gone   string // why the others will not come, "" where they may
}

func (e *partsError) Error() string {
	if e.gone == "" {
		return e.MissingError.Error()
	}
	return fmt.Sprintf("%v; the node has said that they will not come: %s", e.MissingError, e.gone)
}

// answer computes the payload of a result.
func (w *Worker) answer(ctx context.Context, j *store.Job) ([]byte, error) {
	t, err := w.task(ctx, j)
	if err != nil {
		return nil, err
	}
	made, err := w.run(ctx, j.Model, t)
	if err != nil {
		return nil, &modelError{err}
	}
	w.Counts.RunTime.Add(int64(made.Took))
	b, err := answer.Of(t, t.Received, answer.Cloud, made).Encode()
	if err != nil {
		return nil, &unfitError{true, err}
	}
	return b, nil
}

// run turns a panic of an engine into an error: a bad task or model harms only itself.
func (w *Worker) run(ctx context.Context, model string, t *task.Task) (a models.Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("a model panicked; please report it", "model", model, "event", t.EventID, "panic", p, "stack", string(debug.Stack()))
			err = &unfitError{false, fmt.Errorf("model %s panicked on event %.64s: %v", model, t.EventID, p)}
		}
	}()
	return w.Model(model).Run(ctx, t)
}

// task makes a task with readings of a job's record, joined with the other chunks of its event.
func (w *Worker) task(ctx context.Context, j *store.Job) (*task.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, reading)
	defer cancel()
	found, err := w.Store.JobRecord(ctx, j.Record)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, &unfitError{true, errors.New("its record was deleted from the database")}
	}
	if found.Problem != "" {
		return nil, &unfitError{true, errors.New(found.Problem)}
	}
	t, encoding, raw := *found.Task, found.Task.Encoding, found.Task.Data
	if t.Of > 1 {
		all, err := w.Store.Of(ctx, found)
		if err != nil {
			return nil, err
		}
		damaged := slices.IndexFunc(all, func(f *store.Found) bool { return f.Problem != "" })
		whole, missing, err := store.Join(all)
		switch {
		case len(whole) > 0:
			encoding, raw = whole[0].Encoding, whole[0].Raw
		case damaged >= 0: // it will not come again
			return nil, &unfitError{true, errors.New(all[damaged].Problem)}
		case missing != nil:
			gone, err := w.Store.Ended(ctx, found, len(missing.Missing))
			if err != nil {
				return nil, err
			}
			return nil, &partsError{missing, len(all), gone}
		default:
			return nil, &unfitError{false, fmt.Errorf("joining event %.64s: %w", t.EventID, err)}
		}
	}
	ev, err := parse.Limits{Bytes: eventMax, Depth: 32}.Parse(raw, parse.ContentType(encoding))
	if err != nil {
		return nil, &unfitError{true, fmt.Errorf("reading event %.64s: %w", t.EventID, err)}
	}
	t.Readings, t.Lineage, t.Data, t.Encoding, t.Of, t.Holes = ev.Readings, ev.Tagged(), raw, encoding, 1, nil
	return &t, nil
}

// store stores what came of jobs.
func (w *Worker) store(ctx context.Context, id string, made []*store.Outcome) {
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	held, err := w.Store.FinishJobs(ctx, id, made)
	w.failing("storing answers", err)
	w.Counts.Lost.Add(int64(len(made) - held)) // computed again, here or by another
	if err != nil {
		return
	}
	for _, o := range made {
		if o.Problem == "" {
			w.Counts.Answered.Add(1)
			continue
		}
		w.Counts.Failed.Add(1)
		if n, due := asides.Due(w.ID); due {
			w.Log.Warn("jobs failed permanently; `offload-cloud jobs list` shows all of them", "count", n, "record", o.Record, "reason", o.Problem)
		}
	}
	if w.Done != nil {
		w.Done()
	}
}

func (w *Worker) postpone(ctx context.Context, id string, j *store.Job, pause time.Duration, why string, uncounted bool) {
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	w.failing("giving jobs back", w.Store.PostponeJob(ctx, id, j.Record, pause, why, uncounted))
	w.Counts.Postponed.Add(1)
}

// failing logs when something begins to fail and when it works again, not each time.
func (w *Worker) failing(what string, err error) {
	switch failed := w.once.Known(what); {
	case err != nil:
		w.Counts.Errors.Add(1)
		if w.once.New(what, "fails") {
			w.Log.Error(what+" failed", "error", err)
		}
	case failed:
		w.once.New(what, "")
		w.Log.Info(what + " works again")
	}
}

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
	return time.Now().Before(r.until[model])
}
