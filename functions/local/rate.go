package local

import (
	"math"
	"time"

	"app-offload/functions/task"
)

var rateOperator = Operator{
	Name: "rate",
	Doc: "Publishes the rate of change of a value, per second, between readings at least `over` apart, as <resource>_rate. With `limit` it " +
		"publishes only an alarm when the rate exceeds the limit in either direction and another when it is back: <resource>_rate_alarm is " +
		"\"high\", \"low\" (falling) or \"normal\". With `counter=true` the value is a rising counter: a wrap at the end of its type, by at " +
		"most an eighth of its range, continues the count, and any other fall is a reset and gives no rate. Without it, a fall that looks like " +
		"either is counted, and logged once. A reading with a repeated or older time is counted and gives no rate.",
	NotFor: "arrays, whose elements have no times of their own (only the last element counts), and noisy values without a larger `over`, " +
		"since the rate amplifies noise.",
	Example: "rate over=10s limit=5",
	Params: []Param{
		{"over", "0s", "least time between the two values compared, 0s to 24h; 0s compares neighbours"},
		{"counter", "false", "true for a counter: wraps are corrected, resets give no rate"},
		{"limit", "0", "rate per second above which there is an alarm; 0 publishes every rate instead"},
	},
	build: buildRate,
}

type rateConfig struct {
	over    int64
	limit   float64
	counter bool
}

func buildRate(p *params) func() stage {
	c := &rateConfig{over: p.duration("over", 0, 24*time.Hour), limit: p.number("limit", 0, math.MaxFloat64), counter: p.yes("counter")}
	p.ends = c.limit > 0
	return func() stage { return &rate{cfg: c} }
}

type rate struct {
	timeless
	cfg  *rateConfig
	any  bool
	last number
	at   int64
	back int // consecutive readings older than at
	side side

	rises int // consecutive, up to manyRises
}

func (r *rate) feed(in *sample, out *outlet) {
	v := in.number(len(in.values) - 1)
	gap := in.at - r.at
	switch {
	case !r.any || r.back >= maxStray: // the first reading, or the first one after the device's clock was set back
		r.any, r.last, r.at, r.back, r.rises = true, v, in.at, 0, 0
		return
	case gap <= 0:
		if !in.chunk {
			r.back++
		}
		out.stale()
		return
	}
	r.back = 0
	if gap < r.cfg.over {
		return
	}
	step, ok := r.step(in, v, out)
	perSecond := step / time.Duration(gap).Seconds()
	r.last, r.at = v, in.at
	if !ok {
		return
	}
	if math.IsInf(perSecond, 0) {
		out.stale()
		return
	}
	r.publish(in, perSecond, out)
}

// manyRises is the number of consecutive rises that make a value look like a counter.
const manyRises = 8

// step returns the change of the value. It returns false for a counter that was reset.
func (r *rate) step(in *sample, v number, out *outlet) (by float64, ok bool) {
	by = v.minus(r.last)
	if by >= 0 {
		if by > 0 {
			r.rises = min(r.rises+1, manyRises)
		}
		return by, true
	}
	wrapped, wraps := v.wrapped(r.last, in.typ)
	switch {
	case r.cfg.counter && wraps:
		return wrapped, true
	case r.cfg.counter:
		out.w.p.counts.resets.Add(1)
		return 0, false
	case wraps || r.rises == manyRises && v.value < r.last.value/2:
		out.fall(r.last, v)
	}
	r.rises = 0
	return by, true
}

// wrapped returns the step of a counter that passed the end of its type, if the fall from last to v looks like that. Signed types may continue at
// their least value or at 0.
func (v number) wrapped(last number, typ task.ValueType) (by float64, ok bool) {
	if !v.whole {
		return 0, false
	}
	all := uint64(1)<<typ.Bits() - 1 // also for 64 bits
	step := (v.rank - last.rank) & all
	if v.kind == signed && step > all/8 {
		all /= 2
		step &= all
	}
	return float64(step), step <= all/8
}

func (r *rate) publish(in *sample, v float64, out *outlet) {
	units := "per second"
	if in.units != "" {
		units = in.units + "/s"
	}
	if r.cfg.limit == 0 {
		derived := out.buffer()
		derived.add(number{value: v})
		derived.send(&sample{at: in.at, now: in.now, typ: task.Float64, units: units}, out)
		return
	}
	where := normal
	if math.Abs(v) > r.cfg.limit {
		where = low
		if v > 0 {
			where = high
		}
	}
	if where == r.side {
		return
	}
	r.side = where
	d := out.draft(in.at)
	d.reading("_alarm", task.String, where.String(), "")
	d.float("", v, units)
	d.send()
}
