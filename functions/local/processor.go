// Package local processes tasks on this node: cheap operators over the values of each resource, whose results go back
// to the EdgeX MessageBus as events.
//
// A class names its operators in one line, for example
//
//	summary window=60s percentiles=50,95,99; deadband band=0.5 max=60s | rate; range low=-3 high=3
//
// Operators lists them with their parameters, CheckOperators finds what is wrong with such a line. All work on single
// values, on arrays and their chunks (each element is a value), on bools as 0 and 1, and on binaries by their size in
// bytes. Each reading is under the operators of its own resource's class, also where it travels in an event that as a whole belongs to
// another. Values that no operator can read, such as a string or NaN, are left out and counted: ReadsAll reports beforehand whether a
// task holds anything of the kind.
//
// What it promises:
//
//   - A task is reported exactly once: with nil when its operators have run and the results it caused are published;
//     with an error otherwise, see ErrFull, ErrClosed, PanicError and PublishError. Its data are never changed.
//   - Tasks of one device are processed in the order in which one caller handed them in.
//   - Queues, remembered resources, samples and waiting results are bounded; what a bound costs is counted, see Counts.
//   - A result that a task causes at once (deadband, deadtime, range, rate) and that cannot be published after the
//     configured retries is dropped, and its task fails, so that its data can go the other way. The result of a
//     window belongs to many tasks, long reported: it waits for the bus in a bounded queue, in memory.
//   - What an operator remembers is in memory: a crash forgets the values in open windows. An orderly stop publishes
//     these windows with the tag closed=stop, and a value that arrives twice counts twice.
//
// Which file holds which state:
//
//	processor.go, worker.go   the Processor, and its workers: a worker owns the state of its devices' resources
//	keys.go                   which resources are remembered, and which give way
//	summary.go … deadtime.go  one file an operator; operators.go lists them and reads their notation
//	values.go                 the values operators compute on; origin.go their time; moments.go statistics in bounded memory
//	outlet.go                 where results go, and where they wait for the bus; result.go the events they become
//	used.go                   the readings of a task that operators read; counts.go counters, errors and logs
//	pool.go                   the Pool of heavy work, by deadline
//
// Models are no operators: package infer runs them on a Pool, after the operators of their class.
package local

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/clock"
	"app-offload/functions/task"
)

// Classes names the class of each resource. *task.Classes is one.
type Classes interface {
	All() []*task.Class
	ForResource(ev *task.Event, resource string) *task.Class
}

// Item is a task to process and its predicted work in Mcycles.
type Item struct {
	Task   *task.Task
	Cycles float64
	Took   *time.Duration // where the time that the operators took is put before done is called; may be nil

	// Of tasks for a model; see package infer.
	Stay bool     // the task must be done here
	Sure *float64 // where the confidence of an answer is put before done is called; may be nil
}

// Processor runs the operators. It is safe for concurrent use.
type Processor struct {
	pub     Publisher
	observe func(t *task.Task, seconds float64)
	workers []*worker
	rules   atomic.Pointer[rules]
	counts  *counts
	seed    maphash.Seed
	clock   *clock.Clock
	notices notices
	crowd   crowd
	places  atomic.Int64 // that resources have taken
	swept   atomic.Int64 // when unused places were looked for

	tasks, cycles atomic.Int64 // waiting or at work; cycles in thousandths of an Mcycle

	gate    sync.RWMutex // held for reading while tasks are queued, so that no queue is closed meanwhile
	once    sync.Once
	cut     sync.Once     // guards abort
	closing chan struct{} // no more tasks
	abort   chan struct{} // no more work
	ended   chan struct{} // all workers have returned
}

// rules is one compiled configuration. It never changes; a reload makes a new one.
type rules struct {
	classes Classes
	plans   map[string][]*chain // by class name
	limits  limits
}

// New checks the configuration and starts the workers. Each result goes to pub. observe, which may be nil, is told how
// long the operators took for a task, publishing not included; workers call it concurrently.
func New(cfg Config, classes Classes, pub Publisher, observe func(t *task.Task, seconds float64)) (*Processor, error) {
	r, err := compile(cfg, classes)
	if err != nil {
		return nil, err
	}
	if observe == nil {
		observe = func(*task.Task, float64) {}
	}
	p := &Processor{
		pub: pub, observe: observe, counts: newCounts(), seed: maphash.MakeSeed(), clock: clock.System,
		closing: make(chan struct{}), abort: make(chan struct{}), ended: make(chan struct{}),
	}
	p.rules.Store(r)
	var running sync.WaitGroup
	for range r.limits.workers {
		w := newWorker(p)
		p.workers = append(p.workers, w)
		running.Go(w.run)
	}
	go func() {
		running.Wait()
		close(p.ended)
	}()
	return p, nil
}

// compile does all that can fail in a configuration, and reports all of it.
func compile(cfg Config, classes Classes) (*rules, error) {
	l, err := cfg.limits()
	errs := []error{err}
	r := &rules{classes: classes, plans: map[string][]*chain{}, limits: l}
	for _, c := range classes.All() {
		notation := c.Operators
		if notation == "" {
			notation = cfg.Operators
		}
		plan, err := parse(notation)
		if err != nil && c.Operators != "" {
			errs = append(errs, fmt.Errorf("class %q: %w", c.Name, err))
		}
		r.plans[c.Name] = plan
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configuring local processing: %w", err)
	}
	return r, nil
}

// Reload takes over new classes and operators, all or none. An operator whose parameters did not change goes on with
// its state; the open windows of one that is gone are published. Which fields of Config need a restart says Config.
func (p *Processor) Reload(cfg Config, classes Classes) error {
	commit, err := p.Prepare(cfg, classes)
	if err == nil {
		commit()
	}
	return err
}

// Prepare does all of a Reload that can fail. Nothing changes before commit is called.
func (p *Processor) Prepare(cfg Config, classes Classes) (commit func(), err error) {
	cfg.Workers = len(p.workers)
	r, err := compile(cfg, classes)
	if err != nil {
		return nil, err
	}
	return func() { p.rules.Store(r) }, nil
}

// Process queues tasks. It waits while a queue is full, at most until ctx ends. done is called exactly once for each
// item, with its index, from any goroutine, also before Process returns; it must neither block nor call Process.
func (p *Processor) Process(ctx context.Context, items []Item, done func(i int, err error)) {
	p.gate.RLock()
	defer p.gate.RUnlock()
	for i := range items {
		if err := p.enqueue(ctx, items[i].job(i, done)); err != nil {
			p.counts.failed.Add(1)
			done(i, err)
		}
	}
}

func (i *Item) job(index int, done func(i int, err error)) job {
	return job{task: i.Task, cost: int64(i.Cycles * 1000), index: index, done: done, took: i.Took}
}

// Offer is Process of one task for a caller who cannot wait: where the queue has no room it reports false, and done is never called.
func (p *Processor) Offer(item Item, done func(i int, err error)) bool {
	p.gate.RLock()
	defer p.gate.RUnlock()
	if p.stopping() {
		p.counts.failed.Add(1)
		done(0, ErrClosed)
		return true
	}
	j := item.job(0, done)
	p.tasks.Add(1) // before a worker can be done with it
	p.cycles.Add(j.cost)
	select {
	case p.workerOf(j.task.Device).queue <- j:
		return true
	default:
	}
	p.tasks.Add(-1)
	p.cycles.Add(-j.cost)
	return false
}

// Full reports whether any worker's queue is: a task of some device would have to wait for room there.
func (p *Processor) Full() bool {
	for _, w := range p.workers {
		if len(w.queue) == cap(w.queue) {
			return true
		}
	}
	return false
}

func (p *Processor) enqueue(ctx context.Context, j job) error {
	// A select draws among what is ready: after the end of ctx nothing of a device may overtake what was refused.
	if p.stopping() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	p.tasks.Add(1)
	p.cycles.Add(j.cost)
	var err error
	select {
	case p.workerOf(j.task.Device).queue <- j:
		return nil
	case <-p.closing:
		err = ErrClosed
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrFull, ctx.Err())
	}
	p.tasks.Add(-1)
	p.cycles.Add(-j.cost)
	return err
}

func (p *Processor) workerOf(device string) *worker {
	return p.workers[maphash.String(p.seed, device)%uint64(len(p.workers))]
}

// Operators is how many workers run operators.
func (p *Processor) Operators() int { return len(p.workers) }

// Queue reports the tasks that wait or are at work, and the predicted Mcycles before one more of them: a worker's share of all, less what the
// workers have presumably done of the tasks at hand.
func (p *Processor) Queue() (tasks int, cycles float64) {
	tasks, left := int(p.tasks.Load()), p.cycles.Load()
	if tasks == 0 {
		return 0, float64(left) / 1000 / float64(len(p.workers)) // one that just came may be counted in part
	}
	for _, w := range p.workers {
		left -= w.head.done(w.p.now())
	}
	return tasks, float64(max(left, 0)) / 1000 / float64(len(p.workers))
}

// Counts reports what happened so far.
func (p *Processor) Counts() Counts { return p.counts.snapshot() }

// Close takes no more tasks, works off what is queued and publishes the windows that are open. When ctx ends first, the
// tasks left are reported with ErrClosed, what is not published is dropped and counted, and Close returns an error; the workers then
// end as soon as the publisher lets go of them. It can be called more than once.
func (p *Processor) Close(ctx context.Context) error {
	p.once.Do(func() {
		close(p.closing)
		p.gate.Lock()
		for _, w := range p.workers {
			close(w.queue)
		}
		p.gate.Unlock()
	})
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
	}
	p.cut.Do(func() { close(p.abort) })
	tasks, _ := p.Queue()
	return fmt.Errorf("closing local processing with %d tasks left: %w", tasks, ctx.Err())
}

// now is a stamp of this node's clock: a wall clock that is set does not move windows.
func (p *Processor) now() int64 { return p.clock.Now() }

func (p *Processor) stopping() bool { return isClosed(p.closing) }

func (p *Processor) aborted() bool { return isClosed(p.abort) }

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
