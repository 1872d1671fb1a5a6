package local

import (
	"container/list"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"app-offload/functions/task"
)

// job is one task in a worker's queue.
type job struct {
	task  *task.Task
	cost  int64 // kilocycles; an integer, so that the sum returns to 0
	index int
	done  func(i int, err error)
	took  *time.Duration // may be nil
	stay  bool           // the task must be done locally
}

// worker runs the operators for its share of the devices. Its goroutine owns all fields but the queue.
type worker struct {
	p     *Processor
	queue chan job
	rules *rules

	table   table
	known   known
	budget  budget
	pending pending
	next    int64 // next time to wake a stage or evict an entry, 0 for never
	armed   int64 // time the timer is set to
	timer   *time.Timer

	head head // the current task

	job       job           // the current task, none between tasks
	ending    *Ending       // of the current task, nil before its first result
	well      bool          // the previous publication succeeded
	published time.Duration // time spent on publishing the results of the current task

	// Buffers reused for each reading.
	event   task.Event
	in      sample
	out     outlet
	text    []byte
	values  []float64
	ranks   []uint64
	lows    []float64
	buffers []buffer
	scratch []weighted
}

func newWorker(p *Processor) *worker {
	r := p.rules.Load()
	return &worker{
		p: p, queue: make(chan job, r.limits.queue), rules: r, table: newTable(),
		budget: budget{free: r.limits.sampleBytes}, well: true,
	}
}

func newTable() table { return table{entries: map[key]*entry{}, order: list.New()} }

// run processes the queue until it is closed and empty.
func (w *worker) run() {
	w.timer = time.NewTimer(time.Hour)
	for {
		select {
		case j, ok := <-w.queue:
			if !ok {
				w.finish()
				return
			}
			w.do(j)
		case <-w.timer.C:
			w.armed = 0
			w.refresh()
			w.wake()
		}
		w.arm()
	}
}

// grain is the minimum pause between two scans of all entries.
const grain = 20 * time.Millisecond

// arm sets the timer to the next wake-up.
func (w *worker) arm() {
	next := sooner(w.next, w.pending.due())
	if next == w.armed {
		return
	}
	w.armed = next
	if next != 0 {
		w.timer.Reset(max(time.Duration(next-w.p.now()), 0).Truncate(grain) + grain)
	}
}

// do processes one task and reports its end.
func (w *worker) do(j job) {
	var err error
	if w.p.aborted() {
		err = ErrClosed
	} else {
		w.refresh()
		began := time.Now()
		w.head.begin(j.cost, w.p.now())
		w.published, w.job = 0, j
		err = w.process(j.task)
		took := time.Since(began) - w.published
		w.head.end(took)
		if j.took != nil {
			*j.took = took
		}
		w.p.observe(j.task, took.Seconds())
		w.p.counts.tasks.Add(1)
		w.job = job{}
	}
	w.p.tasks.Add(-1)
	w.p.cycles.Add(-j.cost)
	if e := w.ending; e != nil {
		w.ending = nil
		e.Done(err)
		return
	}
	w.report(j, err)
}

// taskEnd returns the end of the current task. Between tasks, it is that of none.
func (w *worker) taskEnd() *Ending {
	if w.job.task == nil {
		return NewEnding(func(error) {})
	}
	if w.ending == nil {
		j := w.job
		w.ending = NewEnding(func(err error) { w.report(j, err) })
	}
	return w.ending
}

func (w *worker) report(j job, err error) {
	if j.stay && errors.Is(err, ErrAway) {
		err = fmt.Errorf("%w: %w", ErrClosed, err) // its sender keeps it
	}
	if err != nil {
		w.p.counts.failed.Add(1)
	}
	j.done(j.index, err)
}

// process passes each reading of a task to the operators of its class. It returns the first error; the other readings are still processed.
func (w *worker) process(t *task.Task) (first error) {
	if t.Readings == nil && len(t.Holes) == 0 {
		w.p.counts.skipped.add(skipNoReadings, 1)
	}
	now := w.p.now()
	w.event = eventOf(t)
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	for i := range t.Readings {
		// A piece of a binary has no useful size; the frame has the size of the whole.
		if r := &t.Readings[i]; t.Chunk == 0 || r.Type != task.Blob {
			keep(w.reading(t, r, now))
		}
	}
	for i := range t.Holes {
		if h := &t.Holes[i]; h.Encoding == task.Binary {
			keep(w.hole(t, h, now))
		}
	}
	return first
}

// hole passes on the size of a binary that was cut out of a frame.
func (w *worker) hole(t *task.Task, h *task.Hole, now int64) error {
	e, skip := w.entry(t, h.Resource, now)
	if e == nil {
		return w.skip(t, h.Resource, skip)
	}
	w.values = append(w.values[:0], float64(h.Length))
	w.text = fmt.Appendf(w.text[:0], "%d", h.Length)
	w.ranks = append(w.ranks[:0], uint64(h.Length))
	w.in = sample{values: w.values, ranks: w.ranks, typ: task.Uint64, text: w.text, units: "bytes", at: w.when(t, t.Origin)}
	return w.offer(e, t, now)
}

// reading passes one reading to the chains of its entry.
func (w *worker) reading(t *task.Task, r *task.Reading, now int64) error {
	if !numeric(r.Type) {
		w.p.counts.skipped.add(skipNotNumeric, 1)
		return nil
	}
	e, skip := w.entry(t, r.Resource, now)
	if e == nil {
		return w.skip(t, r.Resource, skip)
	}
	in, skip := w.read(t, r)
	if in == nil {
		if skip != "" {
			w.p.counts.skipped.add(skip, 1)
		}
		if t.Class != nil && t.Class.NeverLeave {
			return &UnreadError{Device: t.Device, Resource: r.Resource, Problem: fmt.Sprintf("%q is no %s", bounded(r.Value), r.Type)}
		}
		return nil
	}
	return w.offer(e, t, now)
}

// skip counts a reading that no operator reads. It returns an error if there is no room for the resource's state: the task then goes to the cloud.
func (w *worker) skip(t *task.Task, resource, why string) error {
	if why != skipFull {
		w.p.counts.skipped.add(why, 1)
		return nil
	}
	w.p.counts.full.Add(1)
	return &UnreadError{Device: t.Device, Resource: resource, Problem: "Local.MaxKeys is reached"}
}

// offer passes w.in to each chain.
func (w *worker) offer(e *entry, t *task.Task, now int64) (first error) {
	w.p.counts.readings.Add(1)
	w.p.counts.values.Add(int64(len(w.in.values)))
	e.describe(t, w.in.units)
	w.adapt(e, kindOf(w.in.typ))
	w.in.now, w.in.units = now, e.units
	for _, c := range e.chains {
		if err := w.call(e, c, 0, func(s stage, out *outlet) { out.missing = w.in.missing; s.feed(&w.in, out) }); err != nil && first == nil {
			first = err
		}
		w.next = sooner(w.next, c.due())
	}
	return first
}

// adapt resets the state of a resource whose values have changed their kind, as after a change of the device profile.
func (w *worker) adapt(e *entry, k kind) {
	if e.typed && e.kind != k {
		for _, c := range e.chains {
			w.end(e, c, "type")
		}
		e.chains = begin(w.rules.plans[e.class], e.resource, nil)
	}
	e.typed, e.kind = true, k
}

// entry returns the state of a resource, and creates it if the class has an operator for it.
func (w *worker) entry(t *task.Task, resource string, now int64) (*entry, string) {
	k := key{class: w.rules.classOf(&w.event, t, resource).Name, device: t.Device, resource: resource}
	if e := w.table.find(k, now); e != nil {
		return e, ""
	}
	chains := begin(w.rules.plans[k.class], resource, nil)
	if len(chains) == 0 {
		return nil, skipNoOperator
	}
	if !w.known.admit(k.hash(), now, w.p, w.rules.limits.keys) {
		return nil, skipFull
	}
	w.known.settle(k.hash())
	e := w.table.add(k, now)
	e.chains = chains
	w.p.counts.keys.Add(1)
	if ttl := w.rules.limits.ttl; ttl > 0 {
		w.next = sooner(w.next, now+ttl)
	}
	return e, ""
}

// begin builds the chains for a resource. Chains in old with the same text are reused.
func begin(plan []*chain, resource string, old map[string]*running) []*running {
	var chains []*running
	for _, c := range plan {
		if !c.matches(resource) {
			continue
		}
		r := old[c.text]
		if r == nil {
			r = c.start()
		}
		r.chain = c
		delete(old, c.text)
		chains = append(chains, r)
	}
	return chains
}

// call calls a stage. A panic becomes an error and resets the whole chain.
func (w *worker) call(e *entry, c *running, at int, do func(stage, *outlet)) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = w.panicked(e, c, v)
		}
	}()
	w.out = outlet{w: w, e: e, c: c, stage: at}
	c.at = at
	do(c.stages[at], &w.out)
	return w.out.err
}

func (w *worker) panicked(e *entry, c *running, v any) error {
	name := c.operators[c.at]
	w.p.counts.panics.add(name, 1)
	for _, s := range c.stages {
		if r, ok := s.(interface{ release(*budget) }); ok {
			r.release(&w.budget)
		}
	}
	c.stages = c.start().stages
	return &PanicError{Operator: name, Device: e.device, Resource: e.resource, Value: v}
}

// wake scans all entries for work that time alone makes due.
func (w *worker) wake() {
	now := w.p.now()
	if due := w.pending.due(); due != 0 && due <= now {
		w.retry(now)
	}
	w.next = 0
	if ttl := w.rules.limits.ttl; ttl > 0 {
		for e := w.table.oldest(); e != nil && e.seen+ttl <= now; e = w.table.oldest() {
			w.evict(e, evictTTL)
		}
		if e := w.table.oldest(); e != nil {
			w.next = e.seen + ttl
		}
	}
	for at := w.table.order.Front(); at != nil; at = at.Next() {
		e := at.Value.(*entry)
		for _, c := range e.chains {
			w.wakeChain(e, c, now)
			w.next = sooner(w.next, c.due())
		}
	}
}

// wakeChain wakes the stages that are due. No task is affected: a failure is counted at its source.
func (w *worker) wakeChain(e *entry, c *running, now int64) {
	for i := range c.stages {
		if due := c.stages[i].due(); due != 0 && due <= now {
			_ = w.call(e, c, i, func(s stage, out *outlet) { s.wake(now, out) })
		}
	}
}

// end publishes the values that the stages of a chain hold, front stages first.
func (w *worker) end(e *entry, c *running, why string) {
	for i := range c.stages {
		_ = w.call(e, c, i, func(s stage, out *outlet) { s.end(why, out) })
	}
}

// forget makes room for another entry.
func (w *worker) forget(e *entry) {
	w.table.remove(e)
	w.known.forget(e.key.hash(), w.p)
	w.p.counts.keys.Add(-1)
}

// evict publishes the held values of an entry and discards it.
func (w *worker) evict(e *entry, why string) {
	for _, c := range e.chains {
		w.end(e, c, "evicted")
	}
	w.forget(e)
	w.p.counts.evicted.add(why, 1)
}

// refresh applies a new configuration, if there is one.
func (w *worker) refresh() {
	r := w.p.rules.Load()
	if r == w.rules {
		return
	}
	w.rules = r
	w.next = w.p.now() // a new TTL may be due immediately
	for at := w.table.order.Front(); at != nil; {
		e := at.Value.(*entry)
		at = at.Next()
		w.rebuild(e)
	}
}

// rebuild gives an entry the chains of the new rules. Chains with the same text keep their state.
func (w *worker) rebuild(e *entry) {
	old := make(map[string]*running, len(e.chains))
	for _, c := range e.chains {
		old[c.text] = c
	}
	before := e.chains
	e.chains = begin(w.rules.plans[e.class], e.resource, old)
	for _, c := range before {
		if old[c.text] == c {
			w.end(e, c, "reload")
		}
	}
	if len(e.chains) == 0 {
		w.forget(e)
	}
}

// finish publishes the open windows, and retries the pending results once.
func (w *worker) finish() {
	for e := w.table.oldest(); e != nil; e = w.table.oldest() {
		if !w.p.aborted() {
			for _, c := range e.chains {
				w.end(e, c, "stop")
			}
		}
		w.forget(e)
	}
	if !w.p.aborted() {
		w.retry(w.p.now())
	}
	n := len(w.pending.results)
	w.pending.drop(n)
	w.p.counts.pending.Add(int64(-n))
	w.p.counts.dropped.add(dropStop, n)
}

// head holds the current task of a worker and the measured speed. The worker writes it; other goroutines may read it. A read during a change of tasks
// is wrong by a part of one task.
type head struct {
	cost  atomic.Int64  // kilocycles
	since atomic.Int64  // start of the task, 0 without a task
	rate  atomic.Uint64 // bits of kilocycles/ns, 0 before the first measurement

	sumCost, sumTook float64 // of the finished tasks, decaying with their time; used only by the worker
}

const (
	headFades = 10 * time.Second // of work, after which a measurement has lost two thirds of its weight
	mostDone  = 0.9              // maximum share done of a running task: predictions err in both directions
)

func (h *head) begin(cost, now int64) {
	h.cost.Store(cost)
	h.since.Store(now)
}

// end records the time that the task took.
func (h *head) end(took time.Duration) {
	h.since.Store(0)
	kept := math.Exp(-took.Seconds() / headFades.Seconds())
	h.sumCost, h.sumTook = h.sumCost*kept+float64(h.cost.Load()), h.sumTook*kept+float64(took)
	if h.sumTook > 0 {
		h.rate.Store(math.Float64bits(h.sumCost / h.sumTook))
	}
}

// done returns the work presumably done on the current task, kilocycles.
func (h *head) done(now int64) int64 {
	since := h.since.Load()
	if since == 0 {
		return 0
	}
	rate := math.Float64frombits(h.rate.Load())
	return int64(min(float64(max(now-since, 0))*rate, mostDone*float64(h.cost.Load())))
}
