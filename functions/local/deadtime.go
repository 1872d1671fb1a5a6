package local

import "time"

var deadtimeOperator = Operator{
	Name: "deadtime",
	Doc: "Lets a reading through when at least `time` has passed, by the time of the readings, since the last one let through; the others " +
		"are left out. An array goes through as a whole, and so do the chunks of one. Results are named <resource>_deadtime.",
	NotFor:  "values whose peaks matter, since it looks at no value at all (use summary, or deadband).",
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
