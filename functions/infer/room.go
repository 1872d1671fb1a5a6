package infer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/answer"
	"app-offload/functions/clock"
	"app-offload/functions/local"
	"app-offload/functions/models"
	"app-offload/functions/models/hard"
	"app-offload/functions/say"
	"app-offload/functions/task"
)

var errNoModel = errors.New("has no effect without a Model")

// HardError ends the local work on a task whose answer is out as provisional: the cloud is to be asked.
type HardError struct{ Answer *answer.Answer }

func (e *HardError) Error() string {
	return fmt.Sprintf("the answer of model %s is hard, with a confidence of %.2f", e.Answer.Inference.Model, e.Answer.Inference.Confidence)
}

// Deps are what a Room needs of its surroundings.
type Deps struct {
	Processor *local.Processor
	Publisher local.Publisher
	Clock     *clock.Clock
	Log       say.Logger
	LinkUp    func() bool // whether the cloud can be asked; nil is always
}

// Room runs operators and models. It is safe for concurrent use.
type Room struct {
	*local.Processor
	deps  Deps
	cfg   Config
	pool  *local.Pool   // nil without a folder of models
	store *models.Store // likewise

	ctx    context.Context // of runs that wait for memory
	cancel context.CancelFunc

	works atomic.Pointer[map[string]*work]
	known sync.Map // *known by model name
	looks sync.WaitGroup

	deliveries atomic.Pointer[Deliveries] // nil where none are taken
	saved      map[*hard.Budget]uint64    // what was taken of each budget when they were written
}

// Open opens the store of models, loads those that classes name, and starts the pool. Without a folder it is the processor alone.
func Open(ctx context.Context, cfg Config, classes local.Classes, deps Deps) (*Room, error) {
	r := &Room{Processor: deps.Processor, deps: deps, cfg: cfg}
	r.deps.Clock = deps.Clock.Or()
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if deps.LinkUp == nil {
		r.deps.LinkUp = func() bool { return true }
	}
	if cfg.Directory != "" {
		var err error
		if r.store, err = models.Open(ctx, cfg.store(named(classes)), r.deps.Clock); err != nil {
			r.cancel()
			return nil, err
		}
		r.pool = local.NewPool(cfg.Pool)
	}
	works, err := compile(classes, nil, r)
	if err != nil {
		return nil, errors.Join(err, r.Close(ctx))
	}
	r.works.Store(&works)
	if r.store != nil {
		r.loadBudgets()
		r.looks.Go(r.look)
	}
	return r, nil
}

// lookEvery is the time between two looks for new versions in the folder of models.
const lookEvery = 30 * time.Second

// look finds new versions, and keeps the budgets, until the room is shut.
func (r *Room) look() {
	tick := clock.NewTicker(lookEvery)
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.store.Scan(r.ctx); err != nil && r.ctx.Err() == nil {
			r.deps.Log.Warnf("models: %v", err)
		}
		if err := r.saveBudgets(); err != nil && r.ctx.Err() == nil {
			r.deps.Log.Warnf("models: %v", err)
		}
	}
}

// named are the models that classes name.
func named(classes local.Classes) []string {
	names := map[string]bool{}
	for _, c := range classes.All() {
		if c.Model != "" {
			names[c.Model] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Store is the store of models, nil without a folder of them.
func (r *Room) Store() *models.Store { return r.store }

// Prepare does all that can fail when operators, models and rules of new classes are taken over. Nothing changes before commit is called. A
// rule that did not change keeps its budget and what it has seen. Callers take turns.
func (r *Room) Prepare(cfg local.Config, classes local.Classes) (commit func(), err error) {
	var before map[string]*work
	if p := r.works.Load(); p != nil {
		before = *p
	}
	works, err := compile(classes, before, r)
	if err != nil {
		return nil, err
	}
	operators, err := r.Processor.Prepare(cfg, classes)
	if err != nil {
		return nil, err
	}
	return func() {
		operators()
		r.works.Store(&works)
	}, nil
}

// work finds what a class does with models, nil for one without a model. A task may have been decided before a reload took its class or the
// class's model away: that model computes it all the same, or it would end without an answer.
func (r *Room) work(c *task.Class) *work {
	if c == nil || c.Model == "" {
		return nil
	}
	if w := (*r.works.Load())[c.Name]; w != nil {
		return w
	}
	w, _ := r.begin(&task.Class{Name: c.Name, Model: c.Model}) // without a rule nothing fails
	return w
}

// Process is that of local.Processor. A task for a model takes a place in the pool first; without a free one it ends with local.ErrBusy, or
// waits for one if it must stay.
func (r *Room) Process(ctx context.Context, items []local.Item, done func(i int, err error)) {
	if !slices.ContainsFunc(items, func(it local.Item) bool { return r.work(it.Task.Class) != nil }) {
		r.Processor.Process(ctx, items, done)
		return
	}
	var ready turn
	for i := range items {
		v, err := r.visit(items[i].Task, i), error(nil)
		if v.w != nil {
			err = r.take(ctx, v, false)
		}
		if errors.Is(err, local.ErrBusy) && items[i].Stay {
			r.flush(ctx, &ready, done) // those before it hold places
			err = r.take(ctx, v, true)
		}
		if err != nil {
			v.w.refuse()
			done(i, stays(err, items[i].Stay))
			continue
		}
		ready.items, ready.visits = append(ready.items, items[i]), append(ready.visits, v)
	}
	r.flush(ctx, &ready, done)
}

// turn is a part of what a caller wants processed.
type turn struct {
	items  []local.Item
	visits []visit
}

// visit is what a task is to do at the pool.
type visit struct {
	w      *work   // nil without a model
	expect float64 // s that the run is predicted to take
	index  int     // among the caller's items
}

func (r *Room) visit(t *task.Task, index int) visit {
	v := visit{w: r.work(t.Class), index: index}
	if v.w != nil {
		v.expect, _ = v.w.speed.seconds()
	}
	return v
}

// flush hands items to the operators, and each that they are done with to its model.
func (r *Room) flush(ctx context.Context, t *turn, done func(i int, err error)) {
	now := *t
	*t = turn{}
	if len(now.items) == 0 {
		return
	}
	r.Processor.Process(ctx, now.items, func(n int, err error) { r.then(now.visits[n], &now.items[n], err, done) })
}

// Offer is that of local.Processor.
func (r *Room) Offer(it local.Item, done func(i int, err error)) bool {
	v := r.visit(it.Task, 0)
	if v.w == nil {
		return r.Processor.Offer(it, done)
	}
	if err := r.take(r.ctx, v, false); errors.Is(err, local.ErrBusy) {
		return false
	} else if err != nil {
		v.w.refuse()
		done(0, stays(err, it.Stay))
		return true
	}
	taken := r.Processor.Offer(it, func(_ int, err error) { r.then(v, &it, err, done) })
	if !taken {
		r.give(v)
	}
	return taken
}

func (r *Room) take(ctx context.Context, v visit, wait bool) error {
	if r.pool == nil {
		return nil
	}
	return r.pool.Take(ctx, v.expect, wait)
}

func (r *Room) give(v visit) {
	if r.pool != nil {
		r.pool.Give(v.expect)
	}
}

// then follows the operators: the model is next, if there is one and they did not fail.
func (r *Room) then(v visit, it *local.Item, err error, done func(i int, err error)) {
	switch {
	case v.w == nil:
		done(v.index, err)
	case err != nil:
		r.give(v)
		done(v.index, err)
	case r.pool == nil:
		v.w.failed(errOff)
		done(v.index, errOff)
	default:
		r.pool.Submit(local.Heavy{
			Due: local.DueOf(it.Task.Received, it.Task.Deadline), Expect: v.expect,
			Run:    func() { r.serve(v.w, it, func(err error) { done(v.index, err) }) },
			Refuse: func(err error) { v.w.refuse(); done(v.index, stays(err, it.Stay)) },
		})
	}
}

// stays makes the end of the pool one of local processing for tasks that cannot go elsewhere: their sender keeps them.
func stays(err error, stay bool) error {
	if stay && errors.Is(err, local.ErrShut) {
		return fmt.Errorf("%w: %w", local.ErrClosed, err)
	}
	return err
}

// ReadsAll is that of local.Processor; of a class with a model that can be used, the model reads one reading of an event, which must be whole.
func (r *Room) ReadsAll(t *task.Task) bool {
	w := r.work(t.Class)
	if w == nil {
		return r.Processor.ReadsAll(t)
	}
	resource, err := r.reads(w, t)
	if err != nil {
		w.unread(err)
		return false
	}
	return r.ReadsAllBut(t, resource)
}

var (
	errOff   = errors.New("there are no models on this node: set Offload.Models.Directory")
	errPiece = errors.New("the event was cut into pieces, and a model reads whole events")
)

func (r *Room) reads(w *work, t *task.Task) (string, error) {
	switch {
	case r.store == nil:
		return "", errOff
	case t.Of > 1:
		return "", &models.InputError{Err: errPiece}
	}
	return r.store.Reads(w.model, t)
}

// Judges reports whether a task is to go to the cloud without a local run: the rule judges beforehand, and the latest answers about the device
// were hard.
func (r *Room) Judges(t *task.Task) bool {
	w := r.work(t.Class)
	return w != nil && w.rule != nil && w.judge != nil && r.deps.LinkUp() && w.judge.hard(t.Device) && w.spendJudged()
}

// Seconds is how long the model of a class takes here, as measured; see score.Runs.
func (r *Room) Seconds(c *task.Class) (float64, bool) {
	w := r.work(c)
	if w == nil {
		return 0, false
	}
	return w.speed.seconds()
}

// Models is how many tasks wait for a model or are with one, and in how many seconds the pool is predicted to be free.
func (r *Room) Models() (tasks int, seconds float64) {
	if r.pool == nil {
		return 0, 0
	}
	return r.pool.Queue()
}

// Workers is how many models compute at the same time, 0 without any.
func (r *Room) Workers() int {
	if r.pool == nil {
		return 0
	}
	return r.cfg.Pool.Sized()
}

// ModelsFull reports whether the pool of models takes no more.
func (r *Room) ModelsFull() bool { return r.pool != nil && r.pool.Full() }

// Shut lets the pool end: see the package. It comes before whatever its tasks go to instead.
func (r *Room) Shut(ctx context.Context) error {
	if r.pool == nil {
		return nil
	}
	r.cancel() // none waits for memory
	return r.pool.Shut(ctx)
}

// Close closes operators, pool and store, in this order.
func (r *Room) Close(ctx context.Context) error {
	err := r.Processor.Close(ctx)
	err = errors.Join(err, r.Shut(ctx))
	r.cancel()
	looked := make(chan struct{})
	go func() {
		r.looks.Wait()
		close(looked)
	}()
	select {
	case <-looked:
	case <-ctx.Done(): // it is loading a model, and ends with that
	}
	if r.store != nil {
		if r.works.Load() != nil {
			err = errors.Join(err, r.saveBudgets())
		}
		err = errors.Join(err, r.store.Close(ctx))
	}
	return err
}

// publishTries is how often an answer is offered to the bus, with a pause between.
const (
	publishTries = 3
	publishPause = 100 * time.Millisecond
)

// Publish publishes an answer of a local model.
func (r *Room) Publish(a *answer.Answer) error {
	result := local.Answered(a)
	var err error
	for n := range publishTries {
		if n > 0 && !r.pause() {
			break
		}
		if err = r.deps.Publisher.Publish(result); err == nil {
			return nil
		}
	}
	return &local.PublishError{Device: result.Device, Source: result.Source, Err: err}
}

// pause reports false when the room is being closed.
func (r *Room) pause() bool {
	select {
	case <-time.After(publishPause):
		return true
	case <-r.ctx.Done():
		return false
	}
}
