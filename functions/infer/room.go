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

// HardError ends the local work on a task whose answer was published as provisional: the task goes to the cloud.
type HardError struct{ Answer *answer.Answer }

func (e *HardError) Error() string {
	return fmt.Sprintf("the answer of model %s is hard, with a confidence of %.2f", e.Answer.Inference.Model, e.Answer.Inference.Confidence)
}

// Deps are the dependencies of a Room.
type Deps struct {
	Processor *local.Processor
	Publisher local.Publisher
	Clock     *clock.Clock
	Log       say.Logger
	LinkUp    func() bool // whether the cloud is reachable; nil means always
}

// Room runs operators and models. It is safe for concurrent use.
type Room struct {
	*local.Processor
	deps  Deps
	cfg   Config
	pool  *local.Pool   // nil without a folder of models
	store *models.Store // nil without a folder of models

	ctx    context.Context // cancels waits for memory and for the bus
	cancel context.CancelFunc

	works atomic.Pointer[map[string]*work]
	known sync.Map // *known by model name
	looks sync.WaitGroup

	deliveries atomic.Pointer[Deliveries] // nil where none are taken
	saved      map[*hard.Budget]uint64    // Budget.Taken of each budget at the last write
}

// Open opens the store of models, loads the models of the classes, and starts the pool. Without a folder of models, the Room only forwards to the
// processor.
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

// lookEvery is the interval of scans of the folder of models.
const lookEvery = 30 * time.Second

// look scans for new versions and saves the budgets until the room is shut.
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

// named returns the models of the classes.
func named(classes local.Classes) []string {
	names := map[string]bool{}
	for _, c := range classes.All() {
		if c.Model != "" {
			names[c.Model] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Store returns the store of models, nil without a folder of models.
func (r *Room) Store() *models.Store { return r.store }

// Prepare performs all steps of a reload that can fail. Nothing changes before commit is called. An unchanged rule keeps its budget and its history.
// Calls must not overlap.
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

// work returns the work of a class, nil for a class without a model. A reload may remove the class, or its model, after a task was decided: the model
// still computes that task, since the task would otherwise end without an answer.
func (r *Room) work(c *task.Class) *work {
	if c == nil || c.Model == "" {
		return nil
	}
	if w := (*r.works.Load())[c.Name]; w != nil {
		return w
	}
	w, _ := r.begin(&task.Class{Name: c.Name, Model: c.Model}) // cannot fail without a rule
	return w
}

// Process implements local.Processor.Process. A task for a model first takes a place in the pool. If no place is free, the task ends with
// local.ErrBusy, or waits for a place if it must stay.
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
			r.flush(ctx, &ready, done) // the tasks before it hold places
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

// turn is a part of a caller's items.
type turn struct {
	items  []local.Item
	visits []visit
}

// visit is a task's work for the pool.
type visit struct {
	w      *work   // nil without a model
	expect float64 // predicted run time, s
	index  int     // of the task in the caller's items
}

func (r *Room) visit(t *task.Task, index int) visit {
	v := visit{w: r.work(t.Class), index: index}
	if v.w != nil {
		v.expect, _ = v.w.speed.seconds()
	}
	return v
}

// flush passes the items to the operators, and then each finished item to its model.
func (r *Room) flush(ctx context.Context, t *turn, done func(i int, err error)) {
	now := *t
	*t = turn{}
	if len(now.items) == 0 {
		return
	}
	r.Processor.Process(ctx, now.items, func(n int, err error) { r.then(now.visits[n], &now.items[n], err, done) })
}

// Offer implements local.Processor.Offer.
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

// then runs after the operators. If they succeeded and the task has a model, it submits the model's run.
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

// stays adds local.ErrClosed to local.ErrShut for a task that must stay: its sender keeps the task.
func stays(err error, stay bool) error {
	if stay && errors.Is(err, local.ErrShut) {
		return fmt.Errorf("%w: %w", local.ErrClosed, err)
	}
	return err
}

// ReadsAll implements local.Processor.ReadsAll. The model of a class reads one reading of a whole event.
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
	errPiece = errors.New("the event is cut, and models read only whole events")
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

// Judges reports whether a task goes to the cloud without a local run: the rule judges before the run, and the latest answers about the device were
// hard.
func (r *Room) Judges(t *task.Task) bool {
	w := r.work(t.Class)
	return w != nil && w.rule != nil && w.judge != nil && r.deps.LinkUp() && w.judge.hard(t.Device) && w.spendJudged()
}

// Seconds returns the measured local run time of a class's model; see score.Runs.
func (r *Room) Seconds(c *task.Class) (float64, bool) {
	w := r.work(c)
	if w == nil {
		return 0, false
	}
	return w.speed.seconds()
}

// Models returns the number of tasks that wait for a model or run, and the predicted time in seconds until the pool is free.
func (r *Room) Models() (tasks int, seconds float64) {
	if r.pool == nil {
		return 0, 0
	}
	return r.pool.Queue()
}

// Workers returns the number of models that compute concurrently, 0 without models.
func (r *Room) Workers() int {
	if r.pool == nil {
		return 0
	}
	return r.cfg.Pool.Sized()
}

// ModelsFull reports whether the pool of models has no free place.
func (r *Room) ModelsFull() bool { return r.pool != nil && r.pool.Full() }

// Shut shuts the pool; see the package comment. It must precede the shutdown of the target of the refused tasks.
func (r *Room) Shut(ctx context.Context) error {
	if r.pool == nil {
		return nil
	}
	r.cancel() // ends waits for memory and for the bus
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
	case <-ctx.Done(): // it is loading a model, and ends afterwards
	}
	if r.store != nil {
		if r.works.Load() != nil {
			err = errors.Join(err, r.saveBudgets())
		}
		err = errors.Join(err, r.store.Close(ctx))
	}
	return err
}

// publishTries is the maximum number of attempts to publish an answer, publishPause the pause between them.
const (
	publishTries = 3
	publishPause = 100 * time.Millisecond
)

// Publish publishes an answer of a local model, and calls done once it is on the bus and, if its class sends its results, durable. With wait it blocks
// while the bus is unavailable, until StopWaiting or Shut. It does not wait for the disk.
func (r *Room) Publish(a *answer.Answer, wait bool, done func(error)) {
	result := local.Answered(a)
	result.Ending = local.NewEnding(func(err error) {
		if err != nil {
			err = &local.PublishError{Device: result.Device, Source: result.Source, Err: err}
		}
		done(err)
	})
	err := r.deps.Publisher.Publish(result)
	for n := 1; err != nil; n++ {
		var unwait <-chan struct{}
		if wait && errors.Is(err, local.ErrAway) {
			n, unwait = 0, r.NoWaits() // tries count from the return of the bus on
		}
		if n == publishTries || !r.pause(unwait) {
			break
		}
		err = r.deps.Publisher.Publish(result)
	}
	result.Ending.Done(err)
}

// pause waits before the next attempt, and reports false if the room is closing or the wait has been ended.
func (r *Room) pause(unwait <-chan struct{}) bool {
	select {
	case <-time.After(publishPause):
		return true
	case <-unwait:
		return false
	case <-r.ctx.Done():
		return false
	}
}
