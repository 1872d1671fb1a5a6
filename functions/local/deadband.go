package local

import (
	"math"
	"time"

	"app-offload/functions/task"
)

var deadbandOperator = Operator{
	Name: "deadband",
	Doc: "Passes a value when it differs from the last passed value by more than `band`, or by more than `percent` of " +
		"that value. After `max` a value passes anyway: the next value or, if the device is silent, the last " +
		"suppressed value; then nothing follows until the device sends again. Results are named <resource>_deadband. A scalar " +
		"keeps its type and text. The elements of an array that pass form an array, of the same type if they are integers, and otherwise a Float64Array.",
	NotFor: "signals whose fast changes are the information, such as vibration and sound (use summary), and slow drifts that must show " +
		"immediately.",
	Example: "deadband band=0.5 max=60s",
	Params: []Param{
		{"band", "0", "distance in the unit of the value; 0 passes every change and suppresses repetitions"},
		{"percent", "0", "distance in percent of the last passed value; 0 does not use it. Set only one of band and percent"},
		{"max", "0s", "longest suppression, 0s to 24h; 0s is unlimited"},
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
		p.failf("percent", "cannot be combined with band")
	}
	return func() stage { return &deadband{cfg: c} }
}

// deadband keeps the last passed value and the last value suppressed since.
type deadband struct {
	cfg    *deadbandConfig
	any    bool
	last   number
	at     int64 // event time of last
	by     int64 // this node's time when a value must pass
	held   bool
	value  number
	heldAt int64
	typ    task.ValueType
	text   []byte
	units  string
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
		d.typ, d.text, d.units = in.typ, append(d.text[:0], in.text...), in.units
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
	in := sample{at: d.heldAt, now: now, typ: d.typ, units: d.units}
	if len(d.text) > 0 {
		in.text = d.text
	}
	d.last, d.at, d.by, d.held = d.value, d.heldAt, now+d.cfg.max, false
	held := out.buffer()
	held.add(d.last)
	held.send(&in, out)
}

func (d *deadband) end(string, *outlet) {}

// apart returns the distance of two times, also after a clock was set back.
func apart(a, b int64) int64 {
	if a < b {
		return b - a
	}
	return a - b
}
