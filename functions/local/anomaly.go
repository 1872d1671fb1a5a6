package local

import (
	"math"

	"app-offload/functions/local/novelty"
	"app-offload/functions/task"
)

var anomalyOperator = Operator{
	Name: "anomaly",
	Doc: "Publishes an alarm when the values leave their previous pattern: in value, in mean over two spans, in spread, or in " +
		"trend. It needs neither bounds nor training. <resource>_anomaly is the novelty of the value, from 0 to below 1, <resource>_anomaly_value " +
		"the value, and <resource>_anomaly_what names the new feature, such as \"value high\", \"short spread low\" or \"medium trend high\". A lasting " +
		"change raises an alarm at its beginning; soon afterwards only a larger change does. Each element of an array counts as a value, and an array raises at most one alarm.",
	NotFor: "limits that are known (use range), values that are anomalous only by their time of day, sensors that stick at an ordinary value, and streams whose history must survive " +
		"a restart: it is kept in memory.",
	Example: "anomaly above=0.3 warmup=20",
	Params: []Param{
		{"above", "0.3", "lowest score that raises an alarm, 0.01 to 0.99"},
		{"warmup", "500", "initial values without alarms, 10 to 1000000"},
		{"short", "5", "span of the short mean and spread, in values, 1 to 1000000"},
		{"medium", "50", "span of the medium mean and spread"},
		{"long", "200", "span of the long mean, the reference of the medium trend"},
		{"memory", "30000", "values after which an extreme has decayed to 1/e, 0 for never"},
	},
	last:  true,
	build: buildAnomaly,
}

type anomalyConfig struct {
	above   float64
	warmup  int
	options novelty.Options
}

func buildAnomaly(p *params) func() stage {
	const most = 1_000_000
	c := &anomalyConfig{above: p.number("above", 0.01, 0.99), warmup: p.whole("warmup", 10, most), options: novelty.Defaults()}
	o := &c.options
	o.Short, o.Medium, o.Long = p.number("short", 1, most), p.number("medium", 1, most), p.number("long", 1, most)
	if o.Memory = p.number("memory", 0, 1e9); o.Memory == 0 {
		o.Memory = math.Inf(1)
	}
	if o.Short >= o.Medium {
		p.failf("short", "must be below medium, which is %v", o.Medium)
	} else if o.Medium >= o.Long {
		p.failf("medium", "must be below long, which is %v", o.Long)
	}
	return func() stage { return &anomaly{cfg: c, detector: novelty.New(c.options)} }
}

type anomaly struct {
	timeless
	cfg      *anomalyConfig
	detector *novelty.Detector
}

func (a *anomaly) feed(in *sample, out *outlet) {
	worst, at := novelty.Novelty{}, -1
	for i, v := range in.values {
		n := a.detector.Feed(v)
		if n.Score >= a.cfg.above && n.Score > worst.Score && a.detector.Seen() > a.cfg.warmup {
			worst, at = n, i
		}
	}
	if at < 0 {
		return
	}
	what := worst.Feature.String() + " low"
	if worst.High {
		what = worst.Feature.String() + " high"
	}
	d := out.draft(in.at)
	d.float("", worst.Score, "")
	d.number("_value", in.number(at), in.units)
	d.reading("_what", task.String, what, "")
	d.send()
}
