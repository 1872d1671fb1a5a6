package local

import (
	"container/list"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"app-offload/functions/task"
)

// job is one task in a worker's queue.
type job struct {
	task  *task.Task
	cost  int64 // kilocycles, whole so that the sum comes back to 0
	index int
	done  func(i int, err error)
	took  *time.Duration // may be nil
}

// worker runs the operators for its share of the devices. Its goroutine owns everything here but the queue.
type worker struct {
	p     *Processor
	queue chan job
	rules *rules

	table   table
	known   known
	budget  budget
	pending pending
	next    int64 // when something wants to be woken, 0 is never
	armed   int64 // what the timer is set to
	timer   *time.Timer

	head head // the task at hand

	well      bool          // the last publication succeeded
	published time.Duration // spent on publishing the results of the task at hand

	// Room that is used again for each reading.
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

// run ends when the queue is closed and empty.
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

// grain is the least pause between two looks through all entries.
const grain = 20 * time.Millisecond

// arm sets the timer to what comes next.
func (w *worker) arm() {
	next := sooner(w.next, w.pending.due())
	if next == w.armed {
		return
	}
	w.armed = next
	if next == 0 {
		w.timer.Stop()
		return
	}
	w.timer.Reset(max(time.Duration(next-w.p.now()), 0).Truncate(grain) + grain)
}

// do processes one task and reports it, whatever happens in between.
func (w *worker) do(j job) {
	var err error
	if w.p.aborted() {
		err = ErrClosed
	} else {
		w.refresh()
		began := time.Now()
		w.head.begin(j.cost, w.p.now())
		w.published = 0
		err = w.process(j.task)
		took := time.Since(began) - w.published
		w.head.end(took)
		if j.took != nil {
			*j.took = took
		}
		w.p.observe(j.task, took.Seconds())
		w.p.counts.tasks.Add(1)
	}
	if err != nil {
		w.p.counts.failed.Add(1)
	}
	w.p.tasks.Add(-1)
	w.p.cycles.Add(-j.cost)
	j.done(j.index, err)
}

// process gives each reading of a task to the operators of its class. The first error is the task's; the other
// readings are processed all the same.
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
		// A piece of a binary has no size worth knowing; the frame knows that of the whole.
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

// hole offers the size of a binary that was cut out of a frame.
func (w *worker) hole(t *task.Task, h *task.Hole, now int64) error {
	e, skip := w.entry(t, h.Resource, now)
	if e == nil {
		return w.skip(t, h.Resource, skip)
	}
	r := task.Reading{Resource: h.Resource, Type: task.Blob, Units: "bytes", Origin: t.Origin}
	w.values = append(w.values[:0], float64(h.Length))
	w.text = fmt.Appendf(w.text[:0], "%d", h.Length)
	w.ranks = append(w.ranks[:0], uint64(h.Length))
	w.in = sample{values: w.values, ranks: w.ranks, typ: task.Uint64, text: w.text, units: r.Units, at: w.when(t, &r)}
	return w.offer(e, t, &r, now)
}

// reading offers one reading to the chains of its entry.
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
	return w.offer(e, t, r, now)
}

// skip counts a reading that no operator sees. Where there is no room for its state, the task has to go another way.
func (w *worker) skip(t *task.Task, resource, why string) error {
	if why != skipFull {
		w.p.counts.skipped.add(why, 1)
		return nil
	}
	w.p.counts.full.Add(1)
	return &UnreadError{Device: t.Device, Resource: resource, Problem: "Local.MaxKeys is reached"}
}

// offer feeds w.in to each chain.
func (w *worker) offer(e *entry, t *task.Task, r *task.Reading, now int64) (first error) {
	w.p.counts.readings.Add(1)
	w.p.counts.values.Add(int64(len(w.in.values)))
	e.describe(t, r)
	w.adapt(e, kindOf(w.in.typ))
	if r.Type == task.Blob {
		e.units = "bytes"
	}
	w.in.now = now
	for _, c := range e.chains {
		if err := w.call(e, c, 0, func(s stage, out *outlet) { out.missing = w.in.missing; s.feed(&w.in, out) }); err != nil && first == nil {
			first = err
		}
		w.next = sooner(w.next, c.due())
	}
	return first
}

// adapt begins the state of a resource anew where its values are of another kind than before: a device profile has changed.
func (w *worker) adapt(e *entry, k kind) {
	if e.typed && e.kind != k {
		for _, c := range e.chains {
			w.end(e, c, "type")
		}
		e.chains = begin(w.rules.plans[e.class], e.resource, nil)
	}
	e.typed, e.kind = true, k
}

// entry finds the state for a resource, or begins one if its class has an operator for it.
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

// begin makes the state of the chains that work on a resource. Those in old with the same text are taken over.
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

// call lets a stage do something. A panic ends in an error and with new state for the whole chain.
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

// wake looks through all entries for what time alone brings about.
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

// wakeChain wakes the stages that are due. No task waits for the answer: what can fail is counted where it fails.
func (w *worker) wakeChain(e *entry, c *running, now int64) {
	for i := range c.stages {
		if due := c.stages[i].due(); due != 0 && due <= now {
			_ = w.call(e, c, i, func(s stage, out *outlet) { s.wake(now, out) })
		}
	}
}

// end lets the stages of a chain give out what they hold, those in front first.
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

// evict forgets an entry, and publishes what it holds.
func (w *worker) evict(e *entry, why string) {
	for _, c := range e.chains {
		w.end(e, c, "evicted")
	}
	w.forget(e)
	w.p.counts.evicted.add(why, 1)
}

// refresh takes over a new configuration, if there is one, before anything else is done with the old.
func (w *worker) refresh() {
	r := w.p.rules.Load()
	if r == w.rules {
		return
	}
	w.rules = r
	w.next = w.p.now() // a new TTL may be due at once
	for at := w.table.order.Front(); at != nil; {
		e := at.Value.(*entry)
		at = at.Next()
		w.rebuild(e)
	}
}

// rebuild gives an entry the chains of the new rules; those whose text is the same go on with their state.
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

// finish publishes the windows that are still open, and tries a last time to publish the pending results.
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

// head is a worker's task at hand, and how fast such tasks went so far. Its worker writes it, anyone may read it: a reader that meets a
// change of tasks is off by part of one of them.
type head struct {
	cost  atomic.Int64  // kilocycles
	since atomic.Int64  // when it began; 0 for none
	rate  atomic.Uint64 // bits of kilocycles/ns, 0 before the first measurement

	sumCost, sumTook float64 // of the tasks done, fading with the time they took; the worker's
}

const (
	headFades = 10 * time.Second // of work, in which a measurement loses two thirds of its weight
	mostDone  = 0.9              // of a task that is not done: predictions are off both ways
)

func (h *head) begin(cost, now int64) {
	h.cost.Store(cost)
	h.since.Store(now)
}

// end takes how long the task took.
func (h *head) end(took time.Duration) {
	h.since.Store(0)
	kept := math.Exp(-took.Seconds() / headFades.Seconds())
	h.sumCost, h.sumTook = h.sumCost*kept+float64(h.cost.Load()), h.sumTook*kept+float64(took)
	if h.sumTook > 0 {
		h.rate.Store(math.Float64bits(h.sumCost / h.sumTook))
	}
}

// done is what the worker has presumably done of the task by now, kilocycles.
func (h *head) done(now int64) int64 {
	since := h.since.Load()
	if since == 0 {
		return 0
	}
	rate := math.Float64frombits(h.rate.Load())
	return int64(min(float64(max(now-since, 0))*rate, mostDone*float64(h.cost.Load())))
}
