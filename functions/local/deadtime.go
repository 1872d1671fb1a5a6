package local

import "time"

var deadtimeOperator = Operator{
	Name: "deadtime",
	Doc: "Passes a reading when at least `time` has passed since the last passed reading, by the time of the readings; other readings " +
		"are left out. An array passes as a whole, and so do the chunks of an array. Results are named <resource>_deadtime.",
	NotFor:  "values whose peaks matter, since it ignores the values (use summary or deadband).",
	Example: "deadtime time=10s",
	Params:  []Param{{"time", "", "least time between two results, 1ms to 24h"}},
	build:   buildDeadtime,
}

func buildDeadtime(p *params) func() stage {
	gap := p.duration("time", time.Millisecond, 24*time.Hour)
	return func() stage { return &deadtime{gap: gap} }
}

type deadtime struct {
	timeless
	gap  int64
	any  bool
	last int64
}

func (d *deadtime) feed(in *sample, out *outlet) {
	if d.any && apart(in.at, d.last) < d.gap && !(in.chunk && in.at == d.last) {
		return
	}
	d.any, d.last = true, in.at
	out.pass(in, in.values)
}
