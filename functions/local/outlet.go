package local

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/google/uuid"

	"app-offload/functions/task"
)

// outlet is where a stage puts what it makes. It is valid during one call of the stage.
type outlet struct {
	w       *worker
	e       *entry
	c       *running
	stage   int   // the stage it belongs to
	missing int   // values that the reading at hand lacks
	err     error // the first publication that failed and was not kept for later
}

// buffer is room for values that a stage passes on.
type buffer struct {
	values []float64
	ranks  []uint64
}

// buffer is the stage's, the same each time and empty.
func (o *outlet) buffer() *buffer {
	for len(o.w.buffers) <= o.stage {
		o.w.buffers = append(o.w.buffers, buffer{})
	}
	b := &o.w.buffers[o.stage]
	b.values, b.ranks = b.values[:0], b.ranks[:0]
	return b
}

// add takes a value, and its rank where it has one.
func (b *buffer) add(v number) {
	b.values = append(b.values, v.value)
	if v.whole {
		b.ranks = append(b.ranks, v.rank)
	}
}

// send passes the values on as those of a sample.
func (b *buffer) send(in *sample, out *outlet) {
	next := *in
	if next.ranks = nil; len(b.ranks) > 0 {
		next.ranks = b.ranks
	}
	out.pass(&next, b.values)
}

func (o *outlet) budget() *budget { return &o.w.budget }

func (o *outlet) late(values int) { o.w.p.counts.late.Add(int64(values)) }

func (o *outlet) stale() { o.w.p.counts.stale.Add(1) }

// fall says that a value falls as a counter does.
func (o *outlet) fall(from, to number) {
	o.w.p.counts.falls.Add(1)
	o.w.p.notices.say("fall/"+o.e.device+"/"+o.e.resource,
		"a value falls like a counter that wraps or is reset: if it is one, write rate counter=true device=%q resource=%q from=%v to=%v",
		o.e.device, o.e.resource, from.value, to.value)
}

// pass hands values to the next stage, or publishes them after the last one. in says what they are, and has their ranks.
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

// draft begins a result with the time at.
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

// draft is a result in the making.
type draft struct {
	out   *outlet
	base  string // what names of readings begin with
	event dtos.Event
}

func (d *draft) tag(name, value string) { d.event.Tags[name] = value }

// reading adds one that is already in EdgeX's text.
func (d *draft) reading(suffix string, typ task.ValueType, text, units string) {
	d.event.Readings = append(d.event.Readings, dtos.BaseReading{
		Id: uuid.NewString(), Origin: d.event.Origin, DeviceName: d.event.DeviceName, ProfileName: d.event.ProfileName,
		ResourceName: d.base + suffix, ValueType: typ.String(), Units: units,
		SimpleReading: dtos.SimpleReading{Value: text},
	})
}

// float adds a number; one that is not finite is left out, since rules and databases choke on it.
func (d *draft) float(suffix string, v float64, units string) {
	if !math.IsNaN(v) && !math.IsInf(v, 0) {
		d.reading(suffix, task.Float64, decimal(v), units)
	}
}

// passed adds values that a filter let through: a scalar as it came, anything else as numbers.
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
		CorrelationID: string(e.lastCID), Hop: e.hop + 1,
	}
}

// send publishes now; a failure is that of the task at hand.
func (d *draft) send() {
	if n := d.out.missing; n > 0 {
		d.tag("missing", strconv.Itoa(n))
	}
	if err := d.out.w.publish(d.result()); err != nil && d.out.err == nil {
		d.out.err = err
	}
}

// hold publishes now or as soon as the bus takes it: the tasks it is made of are long done.
func (d *draft) hold() { d.out.w.hold(d.result()) }

// number adds a value of a reading as it is.
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

// pending holds results of windows until the bus takes them, oldest first.
type pending struct {
	results []Result
	since   int64 // when the next attempt is due
}

// patience is the pause between attempts to publish what is pending.
const patience = int64(time.Second)

// drop forgets the oldest n.
func (q *pending) drop(n int) {
	q.results = slices.Delete(q.results, 0, n)
}

// due is when to try again, 0 for never.
func (q *pending) due() int64 {
	if len(q.results) == 0 {
		return 0
	}
	return q.since
}

// hold publishes a window's result, after those that wait already so that their order holds. What the bus does not
// take waits; beyond the configured number the oldest is dropped.
func (w *worker) hold(r Result) {
	q := &w.pending
	if len(q.results) == 0 {
		if w.try(r) == nil {
			return
		}
		q.since = w.p.now() + patience
	}
	q.results = append(q.results, r)
	w.p.counts.pending.Add(1)
	if n := len(q.results) - w.rules.limits.pending; n > 0 {
		q.drop(n)
		w.p.counts.pending.Add(int64(-n))
		w.p.counts.dropped.add(dropFull, n)
	}
}

// retry publishes pending results until one fails again.
func (w *worker) retry(now int64) {
	q := &w.pending
	sent := 0
	for sent < len(q.results) && !w.p.aborted() && w.try(q.results[sent]) == nil {
		sent++
	}
	q.drop(sent)
	w.p.counts.pending.Add(int64(-sent))
	q.since = now + patience
}

// publish tries, and tries again after a pause while the bus seemed well before: a bus that is gone costs this
// patience once, and not once a result.
func (w *worker) publish(r Result) error {
	well := w.well
	err := w.try(r)
	for n := 0; err != nil && well && n < w.rules.limits.retries && w.pause(); n++ {
		err = w.try(r)
	}
	if err != nil {
		w.p.counts.dropped.add(dropPublish, 1)
		return &PublishError{Device: r.Device, Source: r.Source, Err: err}
	}
	return nil
}

// pause waits before a retry and reports false when the processor is to stop at once.
func (w *worker) pause() bool {
	began := time.Now()
	defer func() { w.published += time.Since(began) }()
	select {
	case <-time.After(w.rules.limits.wait):
		return true
	case <-w.p.abort:
		return false
	}
}

// try publishes once. A publisher that panics has failed.
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
