package local

import (
	"math"
	"time"

	"app-offload/functions/task"
)

var rangeOperator = Operator{
	Name: "range",
	Doc: "Publishes an event when the values leave [low, high] and another when they are back, by more than `hysteresis` where one is " +
		"set. <resource>_range is \"high\", \"low\" or \"normal\" and <resource>_range_value the value that made it so; on the way back " +
		"<resource>_range_extreme is the worst value and <resource>_range_seconds how long it lasted. An array counts as one: it is outside " +
		"when any element is, and the worst one is its value.",
	NotFor:  "telling how long a value stayed outside while it still does: nothing is repeated meanwhile (let a deadband with max stand beside it).",
	Example: "range low=-3 high=3 hysteresis=0.2",
	Params: []Param{
		{"low", "", "least value that is normal; without it only high counts"},
		{"high", "", "greatest value that is normal; without it only low counts"},
		{"hysteresis", "0", "how far inside a bound a value must be to be normal again, in the unit of the value"},
	},
	last:  true,
	build: buildRange,
}

type rangeConfig struct{ low, high, hysteresis float64 }

func buildRange(p *params) func() stage {
	c := &rangeConfig{
		low:        p.number("low", -math.MaxFloat64, math.MaxFloat64),
		high:       p.number("high", -math.MaxFloat64, math.MaxFloat64),
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
	// A bound that is not there is one that nothing reaches.
	if math.IsNaN(c.low) {
		c.low = math.Inf(-1)
	}
	if math.IsNaN(c.high) {
		c.high = math.Inf(1)
	}
	return func() stage { return &ranges{cfg: c} }
}

// side is where the values are.
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

// judge finds the value farthest outside, or else the first; where that is; and whether all are clear of the bound
// that was crossed.
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

// excess is how far outside a value lies, 0 or less inside.
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
