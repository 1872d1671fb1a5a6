package infer

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/answer"
	"app-offload/functions/local"
	"app-offload/functions/models"
	"app-offload/functions/models/hard"
	"app-offload/functions/task"
)

// work is one class with its model. It is safe for concurrent use.
type work struct {
	class, model string
	inference    models.Inference // nil without a store
	*known
	*rule // nil without a rule
	drift *drift

	counts  counts
	latency speed // from the reception of an event to its answer
	mu      sync.Mutex
	why     string // the model is unusable, "" otherwise
	bad     string // why the latest unreadable event could not be read
}

// known holds the measurements of a model, shared by all classes with that model.
type known struct {
	speed speed
	trial trial
}

// rule judges answers.
type rule struct {
	text   string
	filter hard.Filter
	budget *hard.Budget
	judge  *judge // nil if only answers are judged
}

// counts counts tasks.
type counts struct {
	final, provisional, judged, failed, unread, busy, over, late atomic.Uint64
	troubled                                                     atomic.Bool // why is set
}

// compile returns the works of all classes with a model. Unchanged works are taken from before.
func compile(classes local.Classes, before map[string]*work, r *Room) (map[string]*work, error) {
	works := map[string]*work{}
	var errs []error
	for _, c := range classes.All() {
		if c.Model == "" {
			continue
		}
		if old := before[c.Name]; old != nil && old.model == c.Model && old.ruleText() == c.Hard {
			works[c.Name] = old
			continue
		}
		w, err := r.begin(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("class %q: %w", c.Name, err))
		}
		works[c.Name] = w
	}
	return works, errors.Join(errs...)
}

func (w *work) ruleText() string {
	if w.rule == nil {
		return ""
	}
	return w.text
}

func (r *Room) begin(c *task.Class) (*work, error) {
	w := &work{class: c.Name, model: c.Model, drift: &drift{}}
	at, _ := r.known.LoadOrStore(c.Model, &known{})
	w.known, _ = at.(*known)
	if r.store != nil {
		w.inference = r.store.Model(c.Model)
		if _, _, took := r.store.Measured(c.Model); took > 0 {
			w.speed.start(took.Seconds())
		}
	}
	spec, err := hard.ParseRule(c.Hard)
	if spec == nil {
		return w, err
	}
	w.rule = &rule{text: c.Hard, budget: hard.NewBudget(spec.Hourly, spec.Daily, r.deps.Clock)}
	w.filter, err = hard.New(spec.Filter)
	if spec.Mode == hard.BeforeRun {
		w.judge = &judge{}
	}
	return w, err
}

// serve computes a task, reports its end once its answer is published or durable, and lets a canary compute the same task.
func (r *Room) serve(w *work, it *local.Item, done func(error)) {
	a, one, err := r.compute(w, it)
	if err != nil {
		done(err)
		return
	}
	r.Publish(one, it.Stay, func(err error) { done(r.end(w, it, one, err)) })
	r.try(w, it.Task, a)
}

// compute runs the model on a task. It returns the output of the model and the answer to publish.
func (r *Room) compute(w *work, it *local.Item) (*models.Answer, *answer.Answer, error) {
	a, err := r.run(w, it.Task)
	if err != nil {
		return nil, nil, r.failed(w, it, err)
	}
	w.speed.add(a.Took.Seconds())
	if it.Took != nil {
		*it.Took += a.Took
	}
	if it.Sure != nil {
		*it.Sure = a.Confidence
	}
	w.drift.see(&a)
	one := answer.Of(it.Task, r.deps.Clock.Wall(it.Task.Received).UnixNano(), answer.Local, a)
	one.Provisional = w.isHard(it.Task, &a) && !it.Stay && r.deps.LinkUp() && w.spend()
	if err := one.Validate(); err != nil {
		w.failed(err)
		return nil, nil, fmt.Errorf("the answer of model %s: %w", w.model, err)
	}
	return &a, one, nil
}

// end counts the end of a task whose answer was published or not, and returns the error to report: nil for a final answer.
func (r *Room) end(w *work, it *local.Item, one *answer.Answer, err error) error {
	if err != nil {
		return r.failed(w, it, err)
	}
	w.note(nil)
	w.answered(it.Task, r.deps.Clock.Since(it.Task.Received))
	if one.Provisional {
		w.counts.provisional.Add(1)
		return &HardError{one}
	}
	w.counts.final.Add(1)
	return nil
}

// failed counts a task without an answer and returns the error to report. After the room was closed, or a wait for the bus was ended, the failure is
// not the task's.
func (r *Room) failed(w *work, it *local.Item, err error) error {
	if r.ctx.Err() != nil || it.Stay && errors.Is(err, local.ErrAway) {
		w.refuse()
		return stays(fmt.Errorf("%w: %w", local.ErrShut, err), it.Stay)
	}
	w.failed(err)
	return err
}

// answered records the time from the reception of an event to its answer.
func (w *work) answered(t *task.Task, took time.Duration) {
	w.latency.add(took.Seconds())
	if t.Deadline > 0 && took > t.Deadline {
		w.counts.late.Add(1)
	}
}

// run runs the inference. A panic becomes an error of the task.
func (r *Room) run(w *work, t *task.Task) (a models.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("model %s panicked on event %.64s: %v", w.model, t.EventID, v)
		}
	}()
	return w.inference.Run(r.ctx, t)
}

// isHard judges an answer, and records the verdict for the next tasks of the device.
func (w *work) isHard(t *task.Task, a *models.Answer) bool {
	if w.rule == nil {
		return false
	}
	e := hard.Example{Scores: a.Scores, Logits: a.Logits, Error: a.Error, Threshold: a.Threshold}
	if a.Confidence > 0 {
		e.Boxes = []float64{a.Confidence}
	}
	is := w.filter.Hard(&e)
	if w.judge != nil {
		w.judge.see(t.Device, is)
	}
	return is
}

// spend takes one hard example from the budget, and counts the examples that the budget does not cover.
func (w *work) spend() bool {
	if w.budget.Take() {
		return true
	}
	w.counts.over.Add(1)
	return false
}

// spendJudged is spend for a task that is sent without a local run.
func (w *work) spendJudged() bool {
	ok := w.spend()
	if ok {
		w.counts.judged.Add(1)
	}
	return ok
}

// refuse counts a task that the pool refused.
func (w *work) refuse() { w.counts.busy.Add(1) }

// failed counts a task on which the model failed.
func (w *work) failed(err error) {
	w.counts.failed.Add(1)
	w.note(err)
}

// unread counts a task that goes to the cloud because the model is unusable or cannot read it.
func (w *work) unread(err error) {
	w.counts.unread.Add(1)
	if bad := (*models.InputError)(nil); errors.As(err, &bad) {
		w.note(err) // the store reports problems of the model
	}
}

// note records why the model is unusable, until the next success, and why the latest unreadable event could not be read.
func (w *work) note(err error) {
	if err == nil && !w.counts.troubled.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var bad *models.InputError
	switch {
	case err == nil:
		w.why = ""
	case errors.As(err, &bad):
		w.bad = err.Error()
	default:
		w.why = err.Error()
	}
	w.counts.troubled.Store(w.why != "")
}

// speed is a moving mean of run times. It is safe for concurrent use.
type speed struct {
	mu   sync.Mutex
	mean float64 // s
	runs uint64
}

// recentRuns is the number of runs in the mean.
const recentRuns = 20

// start sets the run time measured when the model was loaded, unless a run was measured since.
func (s *speed) start(seconds float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.runs == 0 {
		s.mean, s.runs = seconds, 1
	}
}

func (s *speed) add(seconds float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	s.mean += (seconds - s.mean) / float64(min(s.runs, recentRuns))
}

func (s *speed) seconds() (float64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mean, s.runs > 0
}

// judge records for each device whether the latest answers were hard, to judge its next tasks before a run. While they were hard, every judgeAgain-th
// task is still computed locally: only a local run can show that the device has become easy.
type judge struct {
	mu      sync.Mutex
	devices map[string]*judged
}

type judged struct {
	share float64 // share of hard answers among the recent ones
	sent  int     // tasks since the last local run
}

const (
	judgeAgain   = 8
	judgeWeight  = 0.25 // weight of the newest answer
	judgeLimit   = 0.5
	judgeDevices = 4096
)

func (j *judge) see(device string, hard bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	d := j.devices[device]
	if d == nil {
		if j.devices == nil || len(j.devices) >= judgeDevices {
			j.devices = map[string]*judged{}
		}
		d = &judged{}
		j.devices[string(append([]byte(nil), device...))] = d // the name may point into an event
	}
	value := 0.
	if hard {
		value = 1
	}
	d.share += judgeWeight * (value - d.share)
	d.sent = 0
}

func (j *judge) hard(device string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	d := j.devices[device]
	if d == nil || d.share <= judgeLimit {
		return false
	}
	d.sent++
	return d.sent%judgeAgain != 0
}

// drift watches the input of a model. A new version of the model begins anew.
type drift struct {
	mu      sync.Mutex
	watch   *hard.Watch
	version models.Version
	score   float64
	is      bool
}

// see records an answer: its embedding, its error or the free energy of its logits, the first of these that the model has.
func (d *drift) see(a *models.Answer) {
	sample := a.Embedding
	switch {
	case len(sample) > 0:
	case a.Threshold > 0:
		sample = []float64{a.Error}
	case len(a.Logits) > 0:
		sample = []float64{hard.Free(a.Logits, 1)}
	default:
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watch == nil || d.version != a.Version {
		d.watch, _ = hard.NewWatch(hard.WatchConfig{}) // the defaults are valid
		d.version = a.Version
	}
	d.score, d.is = d.watch.Add(sample...)
}

func (d *drift) status() (score float64, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if math.IsNaN(d.score) || math.IsInf(d.score, 0) {
		return 0, d.is
	}
	return d.score, d.is
}
