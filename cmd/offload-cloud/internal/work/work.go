// Package work computes answers to stored records with models, and stores the answers.
//
// A Worker leases jobs from the store and extends the leases while it computes. It reads each job's record, runs the job's model and stores the
// answer. Workers of any number of processes share one store. If a worker is killed, its leases end and other workers take its jobs. A job that
// fails, or whose worker ends, is retried after a pause. After Tries attempts it counts as failed, with its reason, which is published in place of an answer.
//
// Memory: each thread holds one event and its answer. A fault of the models' store, such as an unreadable file, does not count as an attempt. When
// its context ends, a Worker finishes the current runs, returns the other jobs to the store, and returns.
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

// Store is the store interface of a worker; *store.Store implements it.
type Store interface {
	TakeJobs(ctx context.Context, worker, model string, lease time.Duration, limit int) ([]*store.Job, error)
	RenewJob(ctx context.Context, worker string, record int64, lease time.Duration) (held bool, err error)
	PostponeJob(ctx context.Context, worker string, record int64, pause time.Duration, problem string, uncounted bool) error
	FinishJobs(ctx context.Context, worker string, outcomes []*store.Outcome) (held int, err error)
	JobRecord(ctx context.Context, record int64) (*store.Found, error)
	Of(ctx context.Context, one *store.Found) ([]*store.Found, error)
	Ended(ctx context.Context, one *store.Found, missing int) (why string, err error)
}

// Worker computes answers. Set its fields before Run.
type Worker struct {
	Store   Store
	Names   func() []string                    // names of the available models, called before each query for jobs
	Model   func(name string) models.Inference // returns a model's inference
	ID      string                             // unique among the workers of the store
	Threads int                                // concurrent runs
	Lease   time.Duration                      // time after which the jobs of a killed worker are taken by another
	Poll    time.Duration                      // interval of queries for jobs while there are none
	Tries   int                                // attempts before a job counts as failed
	Wake    <-chan struct{}                    // signals new jobs; nil if only polling finds them
	Done    func()                             // called after each stored answer; must not block
	Log     *slog.Logger

	Counts Counts
	once   say.Once
	rests  rests
}

// asides limits the log lines about failed jobs: there may be many, and each names its event.
var asides = say.NewEvery(time.Minute)

// Counts are a worker's counters since its start. They are safe for concurrent use.
type Counts struct {
	Answered  atomic.Int64 // jobs with an answer
	Failed    atomic.Int64 // jobs that failed permanently
	Postponed atomic.Int64 // jobs to be retried
	Lost      atomic.Int64 // jobs whose lease ended before their outcome was stored
	RunTime   atomic.Int64 // ns, run time of models
	Errors    atomic.Int64 // errors of the store, or of a model for all of its jobs
}

// Register registers the metrics with Prometheus.
func (c *Counts) Register(r prometheus.Registerer) {
	for _, m := range []struct {
		name, help string
		n          *atomic.Int64
		unit       float64
	}{
		{"answered_total", "Jobs with an answer.", &c.Answered, 1},
		{"set_aside_total", "Jobs that failed permanently, with a reason.", &c.Failed, 1},
		{"postponed_total", "Jobs that were returned to be retried.", &c.Postponed, 1},
		{"lost_total", "Jobs whose lease ended before their outcome was stored; other workers compute them.", &c.Lost, 1},
		{"run_seconds_total", "Run time of models, for all threads.", &c.RunTime, 1e-9},
		{"errors_total", "Failures of the store or of a model that concern all of its jobs.", &c.Errors, 1},
	} {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "offload_cloud_work_" + m.name, Help: m.help},
			func() float64 { return float64(m.n.Load()) * m.unit }))
	}
}

const (
	batch        = 32                    // maximum number of jobs taken together by a thread
	gathering    = 20 * time.Millisecond // time after which answers are stored during a batch
	reading      = 30 * time.Second      // timeout for reading a record and the chunks of its event, also at the stop
	storing      = 10 * time.Second      // timeout for storing outcomes, also at the stop
	longestRun   = 10 * time.Minute      // time after which a run's lease is not extended any more
	modelPause   = 10 * time.Second      // before a retry of a job whose model is unusable
	firstPause   = time.Second           // before the first retry of a failed job; it doubles with each attempt
	longestPause = time.Hour
	patience     = 24 * time.Hour // maximum wait for missing chunks
	straggling   = time.Hour      // time for which a chunk may arrive long after the others, because it was parked or its local work failed
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

// round queries jobs of each model once, and reports whether there were any.
func (w *Worker) round(ctx context.Context, id string) (found bool) {
	for _, name := range w.Names() {
		if w.rests.on(name) {
			continue
		}
		jobs, err := w.Store.TakeJobs(ctx, id, name, w.Lease, batch)
		if err != nil && ctx.Err() != nil {
			return false // jobs taken nevertheless are taken again when their leases end
		}
		w.failing("taking jobs", err)
		if len(jobs) > 0 {
			found = true
			w.batch(ctx, id, jobs)
		}
	}
	return found
}

// batch computes jobs while their leases are extended. After the stop, or if the model is unusable, it returns the jobs that it has not begun to the store.
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
		if time.Since(began) > gathering {
			w.store(safe, id, made)
			made, began = nil, time.Now()
		}
	}
	w.store(safe, id, made)
}

// job computes one job and returns its outcome, nil if the job was returned to be retried.
func (w *Worker) job(ctx context.Context, id string, j *store.Job) *store.Outcome {
	if j.Tries > w.Tries {
		return &store.Outcome{Record: j.Record, Problem: fmt.Sprintf("its workers ended %d times; %s", j.Tries-1, cmp.Or(j.Problem, "no other problem is known"))}
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
	case !mine: // of the models or the database, for all jobs
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

// pause returns the pause before a retry: 1 s after the first attempt, doubling with each.
func pause(tries int) time.Duration {
	return min(firstPause<<min(max(tries-1, 0), 20), longestPause)
}

func text(err error) string {
	s := err.Error()
	return s[:min(len(s), problemMax)] // the store repairs a cut character
}

// unfitError means that one record cannot be answered, or not yet.
type unfitError struct {
	permanent bool
	err       error
}

func (e *unfitError) Error() string { return e.err.Error() }
func (e *unfitError) Unwrap() error { return e.err }

// partsError means that chunks of an event are missing.
type partsError struct {
	*task.MissingError
	stored int    // stored chunks
	gone   string // why the others will not arrive, "" if they may
}

func (e *partsError) Error() string {
	if e.gone == "" {
		return e.MissingError.Error()
	}
	return fmt.Sprintf("%v; the node has reported that they will not arrive: %s", e.MissingError, e.gone)
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

// run converts a panic of an engine to an error: a bad task or model affects only itself.
func (w *Worker) run(ctx context.Context, model string, t *task.Task) (a models.Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.Log.Error("a model panicked; please report it", "model", model, "event", t.EventID, "panic", p, "stack", string(debug.Stack()))
			err = &unfitError{false, fmt.Errorf("model %s panicked on event %.64s: %v", model, t.EventID, p)}
		}
	}()
	return w.Model(model).Run(ctx, t)
}

// task returns a task with the readings of a job's record, joined with the other chunks of its event.
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
		case damaged >= 0: // it will not arrive again
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

// store stores the outcomes of jobs.
func (w *Worker) store(ctx context.Context, id string, made []*store.Outcome) {
	if len(made) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storing)
	defer cancel()
	held, err := w.Store.FinishJobs(ctx, id, made)
	w.failing("storing answers", err)
	w.Counts.Lost.Add(int64(len(made) - held)) // they are computed again, by this or another worker
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
	w.failing("returning jobs", w.Store.PostponeJob(ctx, id, j.Record, pause, why, uncounted))
	w.Counts.Postponed.Add(1)
}

// failing logs the first failure of an operation and its recovery, but not each failure.
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

// modelError is an error of a model's run. Unless it is a TaskError or a panic, the model is unusable for all tasks.
type modelError struct{ error }

func (e *modelError) Unwrap() error { return e.error }

// rests holds the unusable models, with the time until which their jobs are not taken: taking and returning a job costs transactions, and there may
// be many jobs. It is safe for concurrent use.
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
