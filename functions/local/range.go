package local

import (
	"math"
	"time"

	"app-offload/functions/task"
)

var rangeOperator = Operator{
	Name: "range",
	Doc: "Publishes an event when the values leave [low, high] and another when they are back inside, by at least `hysteresis`. " +
		"<resource>_range is \"high\", \"low\" or \"normal\" and <resource>_range_value the value that caused the change. On the return, " +
		"<resource>_range_extreme is the worst value and <resource>_range_seconds the duration. An array counts as one value: it is outside " +
		"when any element is, and its value is the worst element.",
	NotFor:  "repeated alarms: nothing is published while a value stays outside (add a deadband with max).",
	Example: "range low=-3 high=3 hysteresis=0.2",
	Params: []Param{
		{"low", "", "least normal value; without it there is no lower bound"},
		{"high", "", "greatest normal value; without it there is no upper bound"},
		{"hysteresis", "0", "distance inside a bound at which a value is normal again, in the unit of the value"},
	},
	last:  true,
	build: buildRange,
}

type rangeConfig struct{ low, high, hysteresis float64 }

func buildRange(p *params) func() stage {
	c := &rangeConfig{
		low:        p.bound("low"),
		high:       p.bound("high"),
		hysteresis: p.number("hysteresis", 0, math.MaxFloat64),
	}
	if p.value("low") == "" && p.value("high") == "" {
		p.failf("high", "is missing, and so is low; one of them is needed")
	}
	if c.low > c.high {
		p.failf("low", "must not be above high, which is %v", c.high)
	} else if c.low+c.hysteresis > c.high-c.hysteresis {
		p.failf("hysteresis", "leaves nothing between %v and %v", c.low, c.high)
	}
	// A missing bound is never reached.
	if math.IsNaN(c.low) {
		c.low = math.Inf(-1)
	}
	if math.IsNaN(c.high) {
		c.high = math.Inf(1)
	}
	return func() stage { return &ranges{cfg: c} }
}

// side is the position of the values relative to the range.
type side int8

const (
	low side = iota - 1
	normal
	high
)

func (s side) String() string { return [...]string{"low", "normal", "high"}[s+1] }

type ranges struct {
	timeless
	cfg     *rangeConfig
	side    side
	since   int64
	extreme number
}

func (r *ranges) feed(in *sample, out *outlet) {
	worst, where, clear := r.judge(in)
	switch {
	case where != normal && where != r.side:
		r.side, r.since, r.extreme = where, in.at, worst
		r.publish(in, worst, out)
	case where != normal:
		if r.excess(worst) > r.excess(r.extreme) {
			r.extreme = worst
		}
	case r.side != normal && clear:
		r.side = normal
		r.publish(in, worst, out)
	}
}

// judge returns the value farthest outside, or else the first one, its side, and whether all values are clear of the bounds by the hysteresis.
func (r *ranges) judge(in *sample) (worst number, where side, clear bool) {
	worst, clear = in.number(0), true
	for i := range in.values {
		v := in.number(i)
		if r.excess(v) > r.excess(worst) {
			worst = v
		}
		clear = clear && v.beyond(r.cfg.high-r.cfg.hysteresis) <= 0 && v.beyond(r.cfg.low+r.cfg.hysteresis) >= 0
	}
	switch {
	case worst.beyond(r.cfg.high) > 0:
		where = high
	case worst.beyond(r.cfg.low) < 0:
		where = low
	}
	return worst, where, clear
}

// excess returns how far a value is outside, 0 or less inside.
func (r *ranges) excess(v number) float64 { return max(v.beyond(r.cfg.high), -v.beyond(r.cfg.low)) }

func (r *ranges) publish(in *sample, v number, out *outlet) {
	d := out.draft(in.at)
	d.reading("", task.String, r.side.String(), "")
	d.number("_value", v, in.units)
	if r.side == normal {
		d.number("_extreme", r.extreme, in.units)
		d.float("_seconds", max(0, time.Duration(in.at-r.since).Seconds()), "s")
	}
	d.send()
}
