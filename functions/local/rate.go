package local

import (
	"math"
	"time"

	"app-offload/functions/task"
)

var rateOperator = Operator{
	Name: "rate",
	Doc: "Publishes how fast a value changes, per second, between readings at least `over` apart, as <resource>_rate. With `limit` nothing " +
		"is published but an alarm when the rate exceeds it in either direction and another when it is back: <resource>_rate_alarm is " +
		"\"high\", \"low\" (falling) or \"normal\". Without a reading of later time there is no rate: repeated and older times are counted and left out.",
	NotFor: "arrays, whose elements carry no times of their own: only the last element counts; and noisy values without a larger `over`, " +
		"since the rate makes noise larger.",
	Example: "rate over=10s limit=5",
	Params: []Param{
		{"over", "0s", "least time between the two values compared, 0s to 24h; 0s compares neighbours"},
		{"limit", "0", "rate per second above which there is an alarm; 0 publishes every rate instead"},
	},
	build: buildRate,
}

type rateConfig struct {
	over  int64
	limit float64
}

func buildRate(p *params) func() stage {
	c := &rateConfig{over: p.duration("over", 0, 24*time.Hour), limit: p.number("limit", 0, math.MaxFloat64)}
	p.ends = c.limit > 0
	return func() stage { return &rate{cfg: c} }
}

type rate struct {
	timeless
	cfg  *rateConfig
	any  bool
	last number
	at   int64
	back int // readings in a row older than at
	side side
}

func (r *rate) feed(in *sample, out *outlet) {
	v := in.number(len(in.values) - 1)
	gap := in.at - r.at
	switch {
	case !r.any || r.back >= maxStray: // the first, or the first after the device's clock was set back
		r.any, r.last, r.at, r.back = true, v, in.at, 0
		return
	case gap <= 0:
		if !in.chunk {
			r.back++
		}
		out.stale()
		return
	case gap < r.cfg.over:
		r.back = 0
		return
	}
	perSecond := v.minus(r.last) / time.Duration(gap).Seconds()
	r.last, r.at, r.back = v, in.at, 0
	if math.IsInf(perSecond, 0) {
		out.stale()
		return
	}
	r.publish(in, perSecond, out)
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
