package local

import (
	"math"
	"time"

	"app-offload/functions/task"
)

var deadbandOperator = Operator{
	Name: "deadband",
	Doc: "Lets a value through when it differs from the last one let through by more than `band`, or by more than `percent` of " +
		"that one. After `max` a value goes through anyway: the one that comes, or, when the device has fallen silent, the last " +
		"one held back; nothing more follows until the device speaks again. Results are named <resource>_deadband: scalars " +
		"keep type and text; the elements that passed of an array are an array, of the same type if they are integers and a Float64Array else.",
	NotFor: "signals whose fast swing is the information, such as vibration and sound (use summary), and slow drifts that a sum of small " +
		"steps must show at once.",
	Example: "deadband band=0.5 max=60s",
	Params: []Param{
		{"band", "0", "distance in the unit of the value; 0 lets every change through and holds back repetitions"},
		{"percent", "0", "distance in percent of the last value let through; 0 does not use it. Only one of band and percent"},
		{"max", "0s", "longest suppression, 0s to 24h; 0s is without end"},
	},
	build: buildDeadband,
}

type deadbandConfig struct {
	band, percent float64
	max           int64
}

func buildDeadband(p *params) func() stage {
	c := &deadbandConfig{
		band:    p.number("band", 0, math.MaxFloat64),
		percent: p.number("percent", 0, 1e6),
		max:     p.duration("max", 0, 24*time.Hour),
	}
	if c.band > 0 && c.percent > 0 {
		p.failf("percent", "cannot go with band; give one of them")
	}
	return func() stage { return &deadband{cfg: c} }
}

// deadband remembers the last value let through, and the last one held back since.
type deadband struct {
	cfg    *deadbandConfig
	any    bool
	last   number
	at     int64 // event time of last
	by     int64 // this node's time when something must go through
	held   bool
	value  number
	heldAt int64
	typ    task.ValueType
	text   []byte
}

func (d *deadband) feed(in *sample, out *outlet) {
	pass := out.buffer()
	for i := range in.values {
		v := in.number(i)
		if d.passes(v, in.at) {
			pass.add(v)
			d.any, d.last, d.at, d.by, d.held = true, v, in.at, in.now+d.cfg.max, false
			continue
		}
		d.held, d.value, d.heldAt = true, v, in.at
	}
	if d.held {
		d.typ, d.text = in.typ, append(d.text[:0], in.text...)
	}
	if len(pass.values) > 0 {
		pass.send(in, out)
	}
}

func (d *deadband) passes(v number, at int64) bool {
	if !d.any {
		return true
	}
	band := d.cfg.band
	if d.cfg.percent > 0 {
		if band = math.Abs(d.last.value) * d.cfg.percent / 100; math.IsInf(band, 0) {
			band = math.Abs(d.last.value) / 100 * d.cfg.percent
		}
	}
	return v.apart(d.last, band) || d.cfg.max > 0 && apart(at, d.at) >= d.cfg.max
}

func (d *deadband) due() int64 {
	if !d.held || d.cfg.max == 0 {
		return 0
	}
	return d.by
}

func (d *deadband) wake(now int64, out *outlet) {
	in := sample{at: d.heldAt, now: now, typ: d.typ, units: out.e.units}
	if len(d.text) > 0 {
		in.text = d.text
	}
	d.last, d.at, d.by, d.held = d.value, d.heldAt, now+d.cfg.max, false
	held := out.buffer()
	held.add(d.last)
	held.send(&in, out)
}

func (d *deadband) end(string, *outlet) {}

// apart is the distance of two times. It holds also when a clock is set back.
func apart(a, b int64) int64 {
	if a < b {
		return b - a
	}
	return a - b
}
