// Package forward sends results of local work to the cloud as tasks, for classes that ask for it with Results.
//
// A result of class X becomes a task of class X-results, with the settings of that class if it exists, else with priority and TTL of X. It is durable
// in the spool before the task of its source event ends, so a result is not lost once that event was acknowledged; the tasks of a window may have
// ended before its result. Results of many tasks share a commit, and Publish does not wait for it. The ids of a result follow from its content and
// its source event: if a crash causes the source event to be computed again, the cloud recognises the second result as the first. The tag
// originEventId names its source event, whose correlation id it shares. Such a task is only sent: the node does not compute on it, so it causes no
// results.
//
// A result that the spool rejects is published on the bus in any case, and counted. Publish is safe for concurrent use.
package forward

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"app-offload/functions/local"
	"app-offload/functions/task"
)

// Policy is the policy name of these tasks in records.
const Policy = "results"

// suffix ends the names of the classes of results.
const suffix = "-results"

// ErrTooLarge reports a result that fits no message.
var ErrTooLarge = errors.New("the result is too large for a message")

// Store stores a task, and calls done once it is durable or the disk has failed. It returns an error, and does not call done, if there is no room.
type Store func(t *task.Task, done func(error)) error

// Forwarder publishes results and sends them, as their class says. Its fields are set before the first call.
type Forwarder struct {
	Bus   local.Publisher               // publishes on the bus
	Class func(name string) *task.Class // nil for a removed class
	Store Store
	Now   func() int64 // wall time in ns

	mu                         sync.Mutex
	sent, large, refused, lost int64
}

// Counts are sums since the start.
type Counts struct {
	Sent int64 `json:"sent"` // results sent as tasks
	// results not sent although their class sends them, by reason; all were published on the bus, except lost ones: the disk and then the bus failed
	Unsent map[string]int64 `json:"unsent"`
}

// Counts returns the counters of results whose class sends them.
func (f *Forwarder) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Counts{Sent: f.sent, Unsent: map[string]int64{"large": f.large, "refused": f.refused, "lost": f.lost}}
}

// sends returns the class of a result to be sent, else nil, and whether the result is also published on the bus.
func (f *Forwarder) sends(r *local.Result) (class *task.Class, bus bool) {
	if class = f.Class(r.Class); class == nil || !class.SendsResults() {
		return nil, true
	}
	return class, class.Results == task.ResultsBoth
}

// Named returns a Publisher that gives results their ids before next receives them.
func (f *Forwarder) Named(next local.Publisher) local.Publisher { return named{f, next} }

type named struct {
	f    *Forwarder
	next local.Publisher
}

func (n named) Publish(r local.Result) error {
	if class, _ := n.f.sends(&r); class != nil {
		name(&r)
	}
	return n.next.Publish(r)
}

// namespace separates these ids from other name-based UUIDs.
var namespace = uuid.MustParse("2b0c9a4e-52f4-5b43-8f0f-6c7a0f2f9e11")

// name derives the ids of the event and its readings from their content.
func name(r *local.Result) {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %d\n", r.Device, r.Source, r.Event.Origin)
	for _, tag := range slices.Sorted(maps.Keys(r.Event.Tags)) { // a provisional answer differs from the final one only in a tag
		fmt.Fprintf(&b, "%q %q\n", tag, fmt.Sprint(r.Event.Tags[tag]))
	}
	readings := r.Event.Readings
	for i := range readings {
		fmt.Fprintf(&b, "%q %q %q %q %q\n", readings[i].ResourceName, readings[i].ValueType, readings[i].Value, readings[i].BinaryValue, fmt.Sprint(readings[i].ObjectValue))
	}
	id := uuid.NewSHA1(namespace, []byte(b.String()))
	r.Event.Id = id.String()
	for i := range readings {
		readings[i].Id = uuid.NewSHA1(id, fmt.Append(nil, i)).String()
	}
}

// Publish sends and publishes a result, already named and tagged, as its class says.
func (f *Forwarder) Publish(r local.Result) error {
	class, bus := f.sends(&r)
	if class != nil && !f.send(class, &r, bus) {
		bus = true
	}
	if !bus {
		return nil
	}
	return f.Bus.Publish(r)
}

// send gives a result to the spool, and reports whether it is, or becomes, durable there: false for a result that is tried again, as only the bus lacks
// it. If the disk fails later, a result that is not on the bus anyway is published there.
func (f *Forwarder) send(class *task.Class, r *local.Result, onBus bool) bool {
	if !r.Ending.Delay(r.Event.Id) {
		return false
	}
	t, err := f.task(class, r)
	if err == nil {
		result := *r
		err = f.Store(t, func(err error) { go f.stored(result, err, onBus) })
	}
	if err != nil {
		r.Ending.Done(nil)
		f.count(err)
	}
	return err == nil
}

// stored ends the delay of the result's task.
func (f *Forwarder) stored(r local.Result, err error, onBus bool) {
	if err == nil || onBus {
		f.count(err)
		r.Ending.Done(nil)
		return
	}
	if lost := f.Bus.Publish(r); lost != nil { // the result of a window has no task that could fail
		f.count(errLost)
		r.Ending.Done(lost)
		return
	}
	f.count(err)
	r.Ending.Done(nil)
}

var errLost = errors.New("neither the disk nor the MessageBus accepts the result")

func (f *Forwarder) count(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.sent++
	case errors.Is(err, ErrTooLarge):
		f.large++
	case errors.Is(err, errLost):
		f.lost++
	default:
		f.refused++
	}
}

// task returns the task of a result. The event's JSON is always the same, so the cloud recognises a repetition.
func (f *Forwarder) task(class *task.Class, r *local.Result) (*task.Task, error) {
	data, err := json.Marshal(&r.Event)
	if err != nil {
		return nil, fmt.Errorf("encoding result %s of %s: %w", r.Source, r.Device, err)
	}
	if class.Largest > 0 && len(data) > class.Largest {
		return nil, ErrTooLarge
	}
	return &task.Task{
		EventID: r.Event.Id, Device: r.Device, Profile: r.Profile, Source: r.Source, CorrelationID: r.CorrelationID, Origin: r.Event.Origin,
		Received: f.Now(), Of: 1, Class: f.own(class), Encoding: task.JSON, Data: data, Score: 1, Policy: Policy,
	}, nil
}

// own returns the class of the tasks of a class's results.
func (f *Forwarder) own(class *task.Class) *task.Class {
	own := task.Class{Priority: class.Priority, TTL: class.TTL, Weight: class.Weight, OnFull: class.OnFull}
	if set := f.Class(class.Name + suffix); set != nil {
		own = *set
	}
	own.Name = class.Name + suffix
	if own.OnFull == "local" {
		own.OnFull = "refuse" // there is no more work to do
	}
	return &own
}
