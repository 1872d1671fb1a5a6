package local

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Counts counts events since the start. Every omission is counted.
type Counts struct {
	Tasks    int64 `json:"tasks"`    // passed to operators, with any outcome
	Failed   int64 `json:"failed"`   // reported with an error, including tasks that were never queued
	Readings int64 `json:"readings"` // read by at least one operator
	Values   int64 `json:"values"`   // in those readings

	Results map[string]int64 `json:"results"` // published, by operator
	Dropped map[string]int64 `json:"dropped"` // results lost: publish (reported to the task), pendingFull, stop
	Skipped map[string]int64 `json:"skipped"` // readings that no operator read: noOperator, notNumeric, unreadable, notFinite (values), noReadings (tasks)
	Late    int64            `json:"late"`    // values too late for their window
	Stale   int64            `json:"stale"`   // readings without a later time, for which rate has no result
	Ahead   int64            `json:"ahead"`   // readings with a time too far ahead, replaced by the time of reception

	Converted int64 `json:"converted"` // readings whose time was in µs, ms or s
	Replaced  int64 `json:"replaced"`  // readings without a valid time in any unit, replaced by the time of reception
	Resets    int64 `json:"resets"`    // counters that fell without a wrap, and so have no rate
	Full      int64 `json:"full"`      // tasks of resources beyond MaxKeys, which went to the cloud
	Falls     int64 `json:"falls"`     // falls in rate that look like a counter's, without counter=true

	Panics  map[string]int64 `json:"panics"`  // by operator
	Evicted map[string]int64 `json:"evicted"` // forgotten resources: ttl

	Keys    int64 `json:"keys"`    // remembered resources
	Pending int64 `json:"pending"` // window results that wait for the bus
}

// tally counts by a fixed set of keys.
type tally map[string]*atomic.Int64

func newTally(words ...string) tally {
	t := tally{}
	for _, w := range words {
		t[w] = new(atomic.Int64)
	}
	return t
}

func (t tally) add(word string, n int) { t[word].Add(int64(n)) }

func (t tally) snapshot() map[string]int64 {
	m := make(map[string]int64, len(t))
	for w, n := range t {
		m[w] = n.Load()
	}
	return m
}

// counts are the live counters, shared by the workers.
type counts struct {
	tasks, failed, readings, values, late, stale, ahead, keys, pending atomic.Int64
	converted, replaced, resets, falls, full                           atomic.Int64

	results, dropped, skipped, panics, evicted tally
}

func newCounts() *counts {
	all := make([]string, len(operators))
	for i, op := range operators {
		all[i] = op.Name
	}
	return &counts{
		results: newTally(all...), panics: newTally(all...),
		dropped: newTally(dropPublish, dropFull, dropStop),
		skipped: newTally(skipNoOperator, skipNotNumeric, skipUnreadable, skipNotFinite, skipNoReadings),
		evicted: newTally(evictTTL),
	}
}

// Keys of Counts.
const (
	dropPublish = "publish"
	dropFull    = "pendingFull"
	dropStop    = "stop"

	skipNoOperator = "noOperator"
	skipNotNumeric = "notNumeric"
	skipUnreadable = "unreadable"
	skipNotFinite  = "notFinite"
	skipNoReadings = "noReadings"
	skipFull       = "full" // counted separately, as its task is not processed

	evictTTL = "ttl"
)

func (c *counts) snapshot() Counts {
	return Counts{
		Tasks: c.tasks.Load(), Failed: c.failed.Load(), Readings: c.readings.Load(), Values: c.values.Load(),
		Results: c.results.snapshot(), Dropped: c.dropped.snapshot(), Skipped: c.skipped.snapshot(),
		Late: c.late.Load(), Stale: c.stale.Load(), Ahead: c.ahead.Load(),
		Converted: c.converted.Load(), Replaced: c.replaced.Load(), Resets: c.resets.Load(), Falls: c.falls.Load(), Full: c.full.Load(),
		Panics: c.panics.snapshot(), Evicted: c.evicted.snapshot(),
		Keys: c.keys.Load(), Pending: c.pending.Load(),
	}
}

// Errors that Process passes to done, wrapped.
var (
	// ErrClosed means that the processor stopped before it took the task.
	ErrClosed = errors.New("local processing is stopping")
	// ErrFull means that the queue of the task's worker stayed full until the caller's context ended.
	ErrFull = errors.New("the queue for local processing is full")
)

// UnreadError means that no operator could read a reading of the task: either its value is not valid for its type and the task must not leave the
// node, or there is no room for the resource's state.
type UnreadError struct{ Device, Resource, Problem string }

func (e *UnreadError) Error() string {
	return fmt.Sprintf("reading %s of %s: %s", e.Resource, e.Device, e.Problem)
}

// maxShown is the maximum number of bytes of a value in an error.
const maxShown = 64

func bounded(value []byte) string { return string(value[:min(len(value), maxShown)]) }

// PanicError means that an operator panicked on this task. The state of that operator for that resource was reset.
type PanicError struct {
	Operator, Device, Resource string
	Value                      any
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("operator %q on %s/%s panicked: %v", e.Operator, e.Device, e.Resource, e.Value)
}

// PublishError means that a result of this task could not be published after the configured retries. The operator's state includes the task; the
// task's data are complete and can go to the cloud.
type PublishError struct {
	Device, Source string
	Err            error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("publishing result %s of %s: %v", e.Source, e.Device, e.Err)
}

func (e *PublishError) Unwrap() error { return e.Err }

// SpecError is a problem of an operator notation, with an example of the right notation.
type SpecError struct {
	Operator, Parameter, Value string // Parameter is empty if the problem is the operator itself
	Problem, Example           string
}

func (e *SpecError) Error() string {
	if e.Parameter == "" {
		return fmt.Sprintf("operator %q: %s; write it like %q", e.Operator, e.Problem, e.Example)
	}
	return fmt.Sprintf("operator %q, parameter %s = %q: %s; write it like %q",
		e.Operator, e.Parameter, e.Value, e.Problem, e.Example)
}

// maxSaid is the maximum number of notices.
const maxSaid = 1000

// notices logs each notice to the user once. It is safe for concurrent use.
type notices struct {
	mu   sync.Mutex
	to   func(text string)
	said map[string]bool
}

// OnNotice sets the receiver of notices about unusual data, one line for each device or resource. It must be called before the first task; f must not
// block. Without OnNotice, notices are discarded.
func (p *Processor) OnNotice(f func(text string)) {
	p.notices.mu.Lock()
	p.notices.to = f
	p.notices.mu.Unlock()
}

// say logs a text once for its key. After maxSaid keys it logs that further notices are suppressed.
func (n *notices) say(key, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.to == nil || n.said[key] || len(n.said) > maxSaid {
		return
	}
	if n.said == nil {
		n.said = map[string]bool{}
	}
	n.said[string(append([]byte(nil), key...))] = true // a name may point into an event
	text := fmt.Sprintf(format, args...)
	if len(n.said) > maxSaid {
		text += " (further messages of this kind are suppressed; the status counts on)"
	}
	n.to(text)
}
