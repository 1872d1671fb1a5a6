package local

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/google/uuid"

	"app-offload/functions/task"
)

// outlet takes the output of a stage. It is valid during one call of the stage.
type outlet struct {
	w       *worker
	e       *entry
	c       *running
	stage   int   // index of the stage
	missing int   // values missing from the current reading
	err     error // of the first publication that failed and was not kept for later
}

// buffer collects values that a stage passes on.
type buffer struct {
	values []float64
	ranks  []uint64
}

// buffer returns the stage's buffer, empty. Each call returns the same one.
func (o *outlet) buffer() *buffer {
	for len(o.w.buffers) <= o.stage {
		o.w.buffers = append(o.w.buffers, buffer{})
	}
	b := &o.w.buffers[o.stage]
	b.values, b.ranks = b.values[:0], b.ranks[:0]
	return b
}

// add appends a value, and its rank if it has one.
func (b *buffer) add(v number) {
	b.values = append(b.values, v.value)
	if v.whole {
		b.ranks = append(b.ranks, v.rank)
	}
}

// send passes the values on as a sample with the properties of in.
func (b *buffer) send(in *sample, out *outlet) {
	next := *in
	if len(b.ranks) > 0 {
		next.ranks = b.ranks
	}
	out.pass(&next, b.values)
}

func (o *outlet) budget() *budget { return &o.w.budget }

func (o *outlet) late(values int) { o.w.p.counts.late.Add(int64(values)) }

func (o *outlet) stale() { o.w.p.counts.stale.Add(1) }

// fall counts a fall that looks like a counter's, and logs it once.
func (o *outlet) fall(from, to number) {
	o.w.p.counts.falls.Add(1)
	o.w.p.notices.say("fall/"+o.e.device+"/"+o.e.resource,
		"a value falls like a counter that wraps or is reset; for a counter, set rate counter=true: device=%q resource=%q from=%v to=%v",
		o.e.device, o.e.resource, from.value, to.value)
}

// pass hands values to the next stage, or publishes them after the last stage. in has their properties and ranks.
func (o *outlet) pass(in *sample, values []float64) {
	next := *in
	next.values = values
	if o.stage+1 < len(o.c.stages) {
		here := o.stage
		o.stage++
		o.c.at = o.stage
		o.c.stages[o.stage].feed(&next, o)
		o.stage, o.c.at = here, here
		return
	}
	d := o.draft(in.at)
	d.passed(&next)
	d.send()
}

// draft begins a result with the given time.
func (o *outlet) draft(at int64) *draft {
	e := o.e
	source := e.resource + "_" + o.c.name
	d := &draft{out: o, base: source, event: dtos.NewEvent(e.profile, e.device, source)}
	d.event.Origin = at
	d.event.Tags = dtos.Tags{
		"operator": o.c.operators[len(o.c.operators)-1], "class": e.class, "originEventId": string(e.lastID),
	}
	return d
}

// draft is an unfinished result.
type draft struct {
	out   *outlet
	base  string // prefix of the readings' names
	event dtos.Event
}

func (d *draft) tag(name, value string) { d.event.Tags[name] = value }

// reading adds a reading with a value in EdgeX's text format.
func (d *draft) reading(suffix string, typ task.ValueType, text, units string) {
	d.event.Readings = append(d.event.Readings, dtos.BaseReading{
		Id: uuid.NewString(), Origin: d.event.Origin, DeviceName: d.event.DeviceName, ProfileName: d.event.ProfileName,
		ResourceName: d.base + suffix, ValueType: typ.String(), Units: units,
		SimpleReading: dtos.SimpleReading{Value: text},
	})
}

// float adds a number. A number that is not finite is left out, since rule engines and databases reject it.
func (d *draft) float(suffix string, v float64, units string) {
	if !math.IsNaN(v) && !math.IsInf(v, 0) {
		d.reading(suffix, task.Float64, decimal(v), units)
	}
}

// passed adds the values that a filter passed: a scalar in its original text, anything else as numbers.
func (d *draft) passed(in *sample) {
	switch {
	case in.text != nil && dtos.ValidateValue(in.typ.String(), string(in.text)) == nil:
		d.reading("", in.typ, string(in.text), in.units)
	case in.typ.IsArray() && in.ranks != nil:
		d.reading("", in.typ, array(in), in.units)
	case in.typ.IsArray():
		d.reading("", task.Float64Array, array(in), in.units)
	case in.ranks != nil:
		d.reading("", in.typ, in.digits(len(in.values)-1), in.units)
	default:
		d.float("", in.values[len(in.values)-1], in.units)
	}
}

func (d *draft) result() Result {
	e := d.out.e
	return Result{
		Event: d.event, Profile: e.profile, Device: e.device, Source: d.event.SourceName,
		Class: e.class, Operator: d.out.c.operators[len(d.out.c.operators)-1],
		CorrelationID: string(e.lastCID), Hop: e.hop + 1, Ending: d.out.w.taskEnd(),
	}
}

// send publishes immediately; a failure fails the current task.
func (d *draft) send() {
	if n := d.out.missing; n > 0 {
		d.tag("missing", strconv.Itoa(n))
	}
	if err := d.out.w.publish(d.result()); err != nil && d.out.err == nil {
		d.out.err = err
	}
}

// hold publishes immediately or once the bus accepts the result: its tasks were reported long before.
func (d *draft) hold() { d.out.w.hold(d.result()) }

// number adds a value of a reading with its exact type.
func (d *draft) number(suffix string, v number, units string) {
	if v.whole {
		d.reading(suffix, v.kind.wholeType(), integer(v.rank, v.kind), units)
		return
	}
	d.float(suffix, v.value, units)
}

func array(in *sample) string {
	b := make([]byte, 0, 2+15*len(in.values))
	b = append(b, '[')
	for i := range in.values {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, in.digits(i)...)
	}
	return string(append(b, ']'))
}

// pending holds window results until the bus accepts them, oldest first.
type pending struct {
	results []Result
	since   int64 // due time of the next attempt
}

// retryEvery is the pause between attempts to publish pending results.
const retryEvery = int64(time.Second)

// drop discards the oldest n results.
func (q *pending) drop(n int) {
	q.results = slices.Delete(q.results, 0, n)
}

// due returns the time of the next attempt, 0 for never.
func (q *pending) due() int64 {
	if len(q.results) == 0 {
		return 0
	}
	return q.since
}

// hold publishes a window's result, after the results that are already pending, to keep the order. A result that the bus does not accept stays
// pending. Beyond the configured number, the oldest result is dropped.
func (w *worker) hold(r Result) {
	q := &w.pending
	if len(q.results) == 0 {
		if w.try(r) == nil {
			return
		}
		q.since = w.p.now() + retryEvery
	} else {
		r.Ending = NewEnding(func(error) {}) // the task will be over
	}
	q.results = append(q.results, r)
	w.p.counts.pending.Add(1)
	if n := len(q.results) - w.rules.limits.pending; n > 0 {
		q.drop(n)
		w.p.counts.pending.Add(int64(-n))
		w.p.counts.dropped.add(dropFull, n)
	}
}

// retry publishes pending results until an attempt fails.
func (w *worker) retry(now int64) {
	q := &w.pending
	sent := 0
	for sent < len(q.results) && !w.p.aborted() && w.try(q.results[sent]) == nil {
		sent++
	}
	q.drop(sent)
	w.p.counts.pending.Add(int64(-sent))
	q.since = now + retryEvery
}

// publish publishes a result. It retries after pauses only if the previous publication succeeded, so that an unreachable bus costs the pauses once
// and not for each result. The result of a task that must stay local waits until the bus is back, and has its retries then.
func (w *worker) publish(r Result) error {
	left := 0
	if w.well {
		left = w.rules.limits.retries
	}
	err := w.try(r)
	for ; err != nil; err = w.try(r) {
		waits := w.waits(err)
		if left--; waits {
			left = w.rules.limits.retries
		}
		if left < 0 || !w.pause(waits) {
			break
		}
	}
	if err != nil {
		w.p.counts.dropped.add(dropPublish, 1)
		return &PublishError{Device: r.Device, Source: r.Source, Err: err}
	}
	return nil
}

// waits reports whether the current task waits for the end of a failure: the bus is unavailable, and the task must stay local.
func (w *worker) waits(err error) bool { return w.job.stay && errors.Is(err, ErrAway) }

// pause waits before a retry, and reports false if the processor aborts, or if a task that waits for the bus may no longer do so.
func (w *worker) pause(waits bool) bool {
	var unwait <-chan struct{}
	if waits {
		unwait = w.p.unwait
	}
	began := time.Now()
	defer func() { w.published += time.Since(began) }()
	select {
	case <-time.After(w.rules.limits.wait):
		return !isClosed(unwait)
	case <-w.p.abort:
		return false
	case <-unwait:
		return false
	}
}

// try makes one attempt. A panic of the publisher counts as a failure.
func (w *worker) try(r Result) (err error) {
	began := time.Now()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the publisher panicked: %v", v)
		}
		w.published += time.Since(began)
		w.well = err == nil
		if err == nil {
			w.p.counts.results.add(r.Operator, 1)
		}
	}()
	return w.p.pub.Publish(r)
}
