// Package local processes tasks on this node: cheap operators compute on the values of each resource, and publish their results as events on the
// EdgeX MessageBus.
//
// A class lists its operators in one line, for example
//
//	summary window=60s percentiles=50,95,99; deadband band=0.5 max=60s | rate; range low=-3 high=3
//
// Operators returns all operators with their parameters, CheckOperators validates such a line. All operators accept single values, arrays and chunks
// of arrays (each element is a value), bools as 0 and 1, and binaries, by their size in bytes. Each reading is processed by the operators of its own
// resource's class, even in an event that as a whole belongs to another class. Values that no operator can read, such as a string or NaN, are left
// out and counted: ReadsAll reports beforehand whether a task has such values.
//
// Guarantees:
//
//   - A task is reported exactly once: with nil after its operators have run and its results are published,
//     and otherwise with an error; see ErrFull, ErrClosed, PanicError and PublishError. Its data are never changed.
//   - Tasks of one device are processed in the order in which one caller submitted them.
//   - Queues, remembered resources, samples and pending results are bounded. Effects of the bounds are counted; see Counts.
//   - An immediate result (of any operator but summary) that cannot be published after the configured retries is dropped,
//     and its task fails, so that its data can go to the cloud. The result of a task that must stay local waits until the
//     bus is available (ErrAway), or until StopWaiting. A window's result belongs to many tasks that were reported before: it waits for
//     the bus in a bounded queue, in memory.
//   - The state of operators is in memory: a crash loses the values in open windows. An orderly stop publishes
//     these windows with the tag closed=stop. A value that arrives twice counts twice.
//
// Which file holds which state:
//
//	processor.go, worker.go   the Processor and its workers: a worker owns the state of its devices' resources
//	keys.go                   the remembered resources, and their bound
//	summary.go … deadtime.go  one file for each operator; operators.go lists them and parses their notation
//	values.go                 the values that operators compute on; origin.go their time; moments.go statistics in bounded memory
//	outlet.go                 publication of results, and the queue for the bus; result.go their events
//	used.go                   the readings of a task that operators read; counts.go counters, errors and notices
//	pool.go                   the Pool for heavy work, by deadline
//
// Models are not operators: package infer runs them on a Pool, after the operators of their class.
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

// Classes finds the class of each resource. *task.Classes implements it.
type Classes interface {
	All() []*task.Class
	ForResource(ev *task.Event, resource string) *task.Class
}

// Item is a task to process, with its predicted work in Mcycles.
type Item struct {
	Task   *task.Task
	Cycles float64
	Took   *time.Duration // set to the operators' time before done is called; may be nil
	Stay   bool           // the task must be done locally: while the bus is unavailable, its results wait
	Sure   *float64       // set to the confidence of a model's answer before done is called; may be nil; see package infer
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
	places  atomic.Int64 // taken by resources
	swept   atomic.Int64 // time of the last sweep of unused places

	tasks, cycles atomic.Int64 // waiting or running; cycles in thousandths of an Mcycle

	gate    sync.RWMutex // held for reading while tasks are queued, so that no queue is closed in between
	once    sync.Once
	cut     sync.Once     // guards abort
	closing chan struct{} // no more tasks
	abort   chan struct{} // no more work
	stopped sync.Once     // guards unwait
	unwait  chan struct{} // closed by StopWaiting
	ended   chan struct{} // all workers have returned
}

// rules is one compiled configuration. It is immutable; a reload makes a new one.
type rules struct {
	classes Classes
	plans   map[string][]*chain // by class name
	limits  limits
}

// New validates the configuration and starts the workers. They pass each result to pub. observe, which may be nil, receives the time that the
// operators took for a task, without publishing; workers call it concurrently.
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
		closing: make(chan struct{}), abort: make(chan struct{}), unwait: make(chan struct{}), ended: make(chan struct{}),
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

// compile performs all steps of a configuration that can fail, and reports all problems.
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

// Reload applies new classes and operators, all or none. An operator with unchanged parameters keeps its state; the open windows of a removed
// operator are published. Config says which fields need a restart.
func (p *Processor) Reload(cfg Config, classes Classes) error {
	commit, err := p.Prepare(cfg, classes)
	if err == nil {
		commit()
	}
	return err
}

// Prepare performs all steps of a Reload that can fail. Nothing changes before commit is called.
func (p *Processor) Prepare(cfg Config, classes Classes) (commit func(), err error) {
	cfg.Workers = len(p.workers)
	r, err := compile(cfg, classes)
	if err != nil {
		return nil, err
	}
	return func() { p.rules.Store(r) }, nil
}

// Process queues tasks. It waits while a queue is full, at most until ctx ends. done is called exactly once for each item, with its index, from any
// goroutine, possibly before Process returns; it must neither block nor call Process.
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
	return job{task: i.Task, cost: int64(i.Cycles * 1000), index: index, done: done, took: i.Took, stay: i.Stay}
}

// Offer is Process of one task for callers that must not wait: if the queue is full it returns false, and never calls done.
func (p *Processor) Offer(item Item, done func(i int, err error)) bool {
	p.gate.RLock()
	defer p.gate.RUnlock()
	if p.stopping() {
		p.counts.failed.Add(1)
		done(0, ErrClosed)
		return true
	}
	j := item.job(0, done)
	p.tasks.Add(1) // before a worker can finish the task
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

// Full reports whether the queue of at least one worker is full, so that some device's task would have to wait.
func (p *Processor) Full() bool {
	for _, w := range p.workers {
		if len(w.queue) == cap(w.queue) {
			return true
		}
	}
	return false
}

func (p *Processor) enqueue(ctx context.Context, j job) error {
	// A select chooses randomly among ready cases. After ctx ends, no task of a device may overtake one that was refused.
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

// Operators returns the number of workers that run operators.
func (p *Processor) Operators() int { return len(p.workers) }

// Queue returns the number of tasks that wait or run, and the predicted Mcycles before another task: a worker's share of all tasks, minus the work
// presumably done on the current tasks.
func (p *Processor) Queue() (tasks int, cycles float64) {
	tasks, left := int(p.tasks.Load()), p.cycles.Load()
	if tasks == 0 {
		return 0, float64(left) / 1000 / float64(len(p.workers)) // a new task may be counted only in part
	}
	for _, w := range p.workers {
		left -= w.head.done(w.p.now())
	}
	return tasks, float64(max(left, 0)) / 1000 / float64(len(p.workers))
}

// Counts returns the counts since the start.
func (p *Processor) Counts() Counts { return p.counts.snapshot() }

// Close accepts no more tasks, processes the queued ones and publishes the open windows. If ctx ends first, the remaining tasks are reported with
// ErrClosed, unpublished results are dropped and counted, and Close returns an error; the workers end once the publisher returns. It can be called
// more than once.
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

// StopWaiting ends the waits of tasks for the bus, now and from now on: if it is unavailable, tasks that must stay are reported with ErrClosed.
func (p *Processor) StopWaiting() { p.stopped.Do(func() { close(p.unwait) }) }

// NoWaits returns a channel that StopWaiting closes.
func (p *Processor) NoWaits() <-chan struct{} { return p.unwait }

// now returns a stamp of this node's clock. Setting the wall clock does not move windows.
func (p *Processor) now() int64 { return p.clock.Now() }

func (p *Processor) stopping() bool { return isClosed(p.closing) }

func (p *Processor) aborted() bool { return isClosed(p.abort) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
