package local

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Counts is what happened since the start. Nothing that is left out goes uncounted.
type Counts struct {
	Tasks    int64 `json:"tasks"`    // given to operators, whatever came of it
	Failed   int64 `json:"failed"`   // handed back with an error, those never queued included
	Readings int64 `json:"readings"` // seen by at least one operator
	Values   int64 `json:"values"`   // in those readings

	Results map[string]int64 `json:"results"` // published, by operator
	Dropped map[string]int64 `json:"dropped"` // results lost: publish (its task was told), pendingFull, stop
	Skipped map[string]int64 `json:"skipped"` // readings no operator saw: noOperator, notNumeric, unreadable, notFinite (values), noReadings (tasks)
	Late    int64            `json:"late"`    // values too late for their window
	Stale   int64            `json:"stale"`   // readings of rate without a time of their own
	Ahead   int64            `json:"ahead"`   // readings whose time lay too far ahead and was replaced by that of reception

	Converted int64 `json:"converted"` // readings whose time was in µs, ms or s
	Replaced  int64 `json:"replaced"`  // readings whose time was none in any unit, and was replaced by that of reception
	Resets    int64 `json:"resets"`    // counters that fell without a wrap, which gives no rate
	Full      int64 `json:"full"`      // tasks of resources that are not remembered, as MaxKeys is reached; they went to the cloud
	Falls     int64 `json:"falls"`     // falls in rate that look like those of a counter, without counter=true

	Panics  map[string]int64 `json:"panics"`  // by operator
	Evicted map[string]int64 `json:"evicted"` // resources forgotten: ttl

	Keys    int64 `json:"keys"`    // resources remembered now
	Pending int64 `json:"pending"` // results of windows waiting for the bus now
}

// tally counts by one of a fixed set of words.
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

// counts are the live counters; workers share them.
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

// The words of Counts.
const (
	dropPublish = "publish"
	dropFull    = "pendingFull"
	dropStop    = "stop"

	skipNoOperator = "noOperator"
	skipNotNumeric = "notNumeric"
	skipUnreadable = "unreadable"
	skipNotFinite  = "notFinite"
	skipNoReadings = "noReadings"
	skipFull       = "full" // counted apart, as its task is not processed

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

// Why a task was not processed. Process hands these to done, wrapped.
var (
	// ErrClosed says that the processor had stopped before the task was taken.
	ErrClosed = errors.New("local processing is stopping")
	// ErrFull says that the queue of the task's worker stayed full until the caller's context ended.
	ErrFull = errors.New("the queue for local processing is full")
)

// UnreadError says that no operator could read a reading of the task: its value is no number of its type, and the task must not leave; or there is
// no room for its state.
type UnreadError struct{ Device, Resource, Problem string }

func (e *UnreadError) Error() string {
	return fmt.Sprintf("reading %s of %s: %s", e.Resource, e.Device, e.Problem)
}

// maxShown bounds what an error shows of a value, in bytes.
const maxShown = 64

func bounded(value []byte) string { return string(value[:min(len(value), maxShown)]) }

// PanicError says that an operator panicked over this task. The state of that operator for that resource began anew.
type PanicError struct {
	Operator, Device, Resource string
	Value                      any
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("operator %q on %s/%s panicked: %v", e.Operator, e.Device, e.Resource, e.Value)
}

// PublishError says that a result of this task could not be published, after the configured retries. The operator's
// state has already moved on; the task's data are whole and can go the other way.
type PublishError struct {
	Device, Source string
	Err            error
}

func (e *PublishError) Error() string {
	return fmt.Sprintf("publishing result %s of %s: %v", e.Source, e.Device, e.Err)
}

func (e *PublishError) Unwrap() error { return e.Err }

// SpecError is one problem of an operator notation. It names what was tried and shows how to write it.
type SpecError struct {
	Operator, Parameter, Value string // Parameter is empty where the operator itself is the problem
	Problem, Example           string
}

func (e *SpecError) Error() string {
	if e.Parameter == "" {
		return fmt.Sprintf("operator %q: %s; write it like %q", e.Operator, e.Problem, e.Example)
	}
	return fmt.Sprintf("operator %q, parameter %s = %q: %s; write it like %q",
		e.Operator, e.Parameter, e.Value, e.Problem, e.Example)
}

// maxSaid bounds the things that are said once each.
const maxSaid = 1000

// notices says things that a user should know or change, each once. It is safe for concurrent use.
type notices struct {
	mu   sync.Mutex
	to   func(text string)
	said map[string]bool
}

// OnNotice sets who is told, once for each device or resource, what is odd about its data, in one line. It is called before the first task;
// f must not block. Without it nothing is said.
func (p *Processor) OnNotice(f func(text string)) {
	p.notices.mu.Lock()
	p.notices.to = f
	p.notices.mu.Unlock()
}

// say says a text once for its key. Beyond maxSaid keys it says so, and then nothing more.
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
