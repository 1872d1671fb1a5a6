package local

import (
	"cmp"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-offload/functions/task"
)

var summaryOperator = Operator{
	Name: "summary",
	Doc: "Summarises all values of a window: count, min, max, mean, standard deviation (of the values, divided by n), RMS, " +
		"crest factor (peak over RMS), percentiles (nearest rank) and, for arrays with elements that are not numbers, the number of missing elements. Windows follow the time of the readings and begin at " +
		"multiples of the slide since 1970, so windows of different devices and nodes match. Results are named " +
		"<resource>_mean, <resource>_p95 and so on, in an event <resource>_summary. A window is published when the device's time has " +
		"passed its end by `late`, or when the device is silent for that time. Percentiles are exact up to `samples` " +
		"values. Beyond that, they are computed from a random sample of that size (with 1024, p50 is off by at most 4 ranks of " +
		"100 in 99 of 100 windows), and the tag `sampled` reports it.",
	NotFor: "alarms, which should not wait for the end of a window (use range); values that only make sense individually, " +
		"such as states and counters; a slide much smaller than the window over many resources, since each slide merges the whole window again.",
	Example: "summary window=60s slide=10s percentiles=50,95,99",
	Params: []Param{
		{"window", "60s", "length of a window, 10ms to 24h"},
		{"slide", "0s", "distance between the starts of windows, a whole fraction of window; 0s means window, so that each value counts once"},
		{"late", "1s", "time after its end for which a window waits for late values, 0s to 10 windows; later values are counted and left out"},
		{"percentiles", "50,95,99", "up to 16 numbers from 0 to 100; empty computes none and keeps no values"},
		{"samples", "1024", "values kept for percentiles in each slide of a window, 16 to 1000000, 8 bytes each"},
	},
	last:  true,
	build: buildSummary,
}

// maxPanes is the maximum number of panes of a window, including the panes that late adds.
const maxPanes = 1024

// summaryConfig is shared by all resources of a class.
type summaryConfig struct {
	window, slide, late int64
	percentiles         []float64
	labels              []string // p95 and so on
	samples             int
}

func buildSummary(p *params) func() stage {
	c := &summaryConfig{window: p.duration("window", 10*time.Millisecond, 24*time.Hour)}
	c.slide = p.duration("slide", 0, 24*time.Hour)
	if c.slide == 0 {
		c.slide = c.window
	}
	if c.window%c.slide != 0 {
		p.failf("slide", "must be a whole fraction of window, which is %v", time.Duration(c.window))
	}
	c.late = p.duration("late", 0, 240*time.Hour)
	if c.late > 10*c.window && p.given["late"] != "" {
		p.failf("late", "must be at most 10 windows, %v", 10*time.Duration(c.window))
	}
	if (c.window+c.late)/c.slide > maxPanes {
		p.failf("slide", "must be at least a %dth of window and late together", maxPanes)
	}
	c.percentiles = p.numbers("percentiles", 0, 100, 16)
	for _, q := range c.percentiles {
		// Some buses use a dot as a separator in topics.
		c.labels = append(c.labels, "_p"+strings.ReplaceAll(strconv.FormatFloat(q, 'f', -1, 64), ".", "_"))
	}
	c.samples = p.whole("samples", minSamples, 1_000_000)
	return func() stage { return &summary{cfg: c} }
}

// summary holds the windows of one resource. A window consists of panes, one for each slide, so every value is stored once, whatever the number of its windows.
type summary struct {
	cfg    *summaryConfig
	panes  []pane // in ascending order, only panes with values
	closed int64  // windows that end at or before this time are closed
	high   int64  // greatest event time seen
	offset int64  // this node's time minus event time when high was seen
	stray  int    // consecutive readings that came too late for any window
	kind   kind   // of the values
	units  string
	dst    []float64
	whole  []uint64
}

type pane struct {
	start int64
	moments
	samples
	missing int64

	least, most uint64            // of integers, as ranks
	ranks       reservoir[uint64] // of integers, in place of samples
}

// maxStray is the number of consecutive late readings from which on the device's clock is assumed to have been set back.
const maxStray = 8

func (s *summary) feed(in *sample, out *outlet) {
	p := in.at - in.at%s.cfg.slide
	if p+s.cfg.window <= max(s.closed, s.high-s.cfg.late) {
		if !in.chunk || s.stray == 0 {
			s.stray++
		}
		if s.stray < maxStray {
			out.late(len(in.values))
			return
		}
		s.end("clock", out)
		s.closed, s.high = 0, 0
	}
	s.stray = 0
	if in.at > s.high {
		s.high, s.offset = in.at, in.now-in.at
		s.close(in.at-s.cfg.late, "time", out)
	}
	at := s.pane(p)
	s.kind, s.units = kindOf(in.typ), in.units
	at.take(in, out)
	at.missing += int64(in.missing)
	switch {
	case len(s.cfg.percentiles) == 0:
	case in.ranks != nil:
		at.ranks.add(in.ranks, s.cfg.samples, out.budget())
	default:
		at.samples.add(in.values, s.cfg.samples, out.budget())
	}
}

// take adds values, integers exactly.
func (p *pane) take(in *sample, out *outlet) {
	if in.ranks == nil {
		p.moments.add(in.values)
		return
	}
	if p.n == 0 {
		p.least, p.most = in.ranks[0], in.ranks[0]
	}
	for _, rank := range in.ranks {
		p.least, p.most = min(p.least, rank), max(p.most, rank)
	}
	if !wide(in.values) {
		p.moments.add(in.values)
		return
	}
	w := out.w
	w.lows = w.lows[:0]
	for i := range in.values {
		w.lows = append(w.lows, in.low(i))
	}
	p.moments.addWith(in.values, w.lows)
}

// pane returns the pane that starts at start, and inserts it if it does not exist. It is nearly always the last one.
func (s *summary) pane(start int64) *pane {
	i := len(s.panes)
	for i > 0 && s.panes[i-1].start > start {
		i--
	}
	if i > 0 && s.panes[i-1].start == start {
		return &s.panes[i-1]
	}
	s.panes = slices.Insert(s.panes, i, pane{start: start})
	s.panes[i].samples.rng.Seed(uint64(start), 1)
	s.panes[i].ranks.rng.Seed(uint64(start), 1)
	return &s.panes[i]
}

// next returns the end of the next window to close. There must be panes.
func (s *summary) next() int64 { return max(s.closed, s.panes[0].start) + s.cfg.slide }

// close publishes the windows that end at or before mark. Windows without values are not published.
func (s *summary) close(mark int64, why string, out *outlet) {
	for len(s.panes) > 0 && s.next() <= mark {
		end := s.next()
		s.publish(end, why, out)
		s.closed = end
		s.evict(end+s.cfg.slide-s.cfg.window, out)
	}
	// Windows without values close as well: a late value must not reopen them.
	s.closed = max(s.closed, mark-mark%s.cfg.slide)
}

// evict discards the panes that start before the next window.
func (s *summary) evict(start int64, out *outlet) {
	n := 0
	for n < len(s.panes) && s.panes[n].start < start {
		s.panes[n].release(out.budget())
		n++
	}
	s.panes = slices.Delete(s.panes, 0, n)
}

func (s *summary) due() int64 {
	if len(s.panes) == 0 {
		return 0
	}
	return s.next() + s.cfg.late + s.offset
}

func (s *summary) wake(now int64, out *outlet) { s.close(now-s.offset-s.cfg.late, "silence", out) }

// release releases the memory of a state that is about to be discarded.
func (s *summary) release(b *budget) {
	for i := range s.panes {
		s.panes[i].release(b)
	}
}

func (p *pane) release(b *budget) {
	p.samples.release(b)
	p.ranks.release(b)
}

// end publishes the windows with values, with the values so far. Of overlapping windows it publishes only the next one to close.
func (s *summary) end(why string, out *outlet) {
	for len(s.panes) > 0 {
		end := s.next()
		s.publish(end, why, out)
		s.closed = end
		s.evict(end, out)
	}
}

// publish publishes the window that ends at end, if it has values.
func (s *summary) publish(end int64, why string, out *outlet) {
	var all pane
	var parts []*pane
	start := end - s.cfg.window
	for i := range s.panes {
		if p := &s.panes[i]; p.start >= start && p.start < end {
			all.merge(p)
			parts = append(parts, p)
		}
	}
	if all.n == 0 {
		return
	}
	d := out.draft(end)
	if !out.c.custom {
		d.base = out.e.resource
	}
	d.values(&all, s.kind, s.units)
	s.quantiles(d, parts, out)
	d.tag("windowStart", stamp(start))
	d.tag("windowEnd", stamp(end))
	d.tag("closed", why)
	d.hold()
}

// merge adds the statistics of another pane, but not its samples.
func (p *pane) merge(o *pane) {
	if p.n == 0 {
		p.least, p.most = o.least, o.most
	}
	p.least, p.most = min(p.least, o.least), max(p.most, o.most)
	p.missing += o.missing
	p.moments.merge(&o.moments)
}

func (s *summary) quantiles(d *draft, panes []*pane, out *outlet) {
	var kept, seen int64
	if s.kind == floats {
		kept, seen = s.floatQuantiles(d, panes, out)
	} else {
		kept, seen = s.wholeQuantiles(d, panes)
	}
	if kept < seen {
		d.tag("sampled", strconv.FormatInt(kept, 10)+" of "+strconv.FormatInt(seen, 10))
	}
}

func (s *summary) floatQuantiles(d *draft, panes []*pane, out *outlet) (kept, seen int64) {
	var parts []*samples
	for _, p := range panes {
		parts, kept, seen = p.samples.join(parts, kept, seen)
	}
	if len(parts) > 0 {
		out.w.scratch, s.dst = percentiles(parts, s.cfg.percentiles, out.w.scratch, s.dst[:0])
		for i, v := range s.dst {
			d.float(s.cfg.labels[i], v, s.units)
		}
	}
	return kept, seen
}

func (s *summary) wholeQuantiles(d *draft, panes []*pane) (kept, seen int64) {
	var parts []*reservoir[uint64]
	for _, p := range panes {
		parts, kept, seen = p.ranks.join(parts, kept, seen)
	}
	if len(parts) > 0 {
		_, s.whole = percentiles(parts, s.cfg.percentiles, nil, s.whole[:0])
		for i, rank := range s.whole {
			d.number(s.cfg.labels[i], number{rank: rank, kind: s.kind, whole: true}, s.units)
		}
	}
	return kept, seen
}

// values adds all readings but the percentiles.
func (d *draft) values(p *pane, k kind, units string) {
	d.reading("_count", task.Uint64, strconv.FormatInt(p.n, 10), "")
	if p.missing > 0 {
		d.reading("_missing", task.Uint64, strconv.FormatInt(p.missing, 10), "")
	}
	whole := k != floats
	d.number("_min", number{value: p.min, rank: p.least, kind: k, whole: whole}, units)
	d.number("_max", number{value: p.max, rank: p.most, kind: k, whole: whole}, units)
	d.float("_mean", p.average(), units)
	d.float("_stddev", p.stddev(), units)
	d.float("_rms", p.rms(), units)
	d.float("_crest", p.crest(), "")
}

// stamp formats a time in RFC 3339.
func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// budget is the memory that a worker may still use for samples, in bytes. It belongs to one goroutine.
type budget struct{ free int }

// minSamples samples are always granted, so that a window has percentiles even with an exhausted budget.
const minSamples = 16

// samples is a reservoir of floats; integers are kept as ranks.
type samples = reservoir[float64]

// reservoir keeps the values of a part of a window for percentiles: all values up to a limit, and beyond it a uniform random sample of that size
// (reservoir sampling). It uses a fixed seed: the same values give the same sample.
type reservoir[T cmp.Ordered] struct {
	kept []T
	seen int64
	paid int // bytes taken from the budget
	rng  rand.PCG
}

// add adds values and keeps at most limit of them.
func (s *reservoir[T]) add(values []T, limit int, b *budget) {
	for _, v := range values {
		s.seen++
		if len(s.kept) < limit && (len(s.kept) < cap(s.kept) || s.grow(limit, b)) {
			s.kept = append(s.kept, v)
			continue
		}
		// A reservoir that could not grow samples from then on. Each value has the same chance to be kept.
		if i, _ := bits.Mul64(s.rng.Uint64(), uint64(s.seen)); i < uint64(len(s.kept)) {
			s.kept[i] = v
		}
	}
}

// grow doubles the capacity within limit and budget. Once refused, it always refuses: a reservoir that grows later would prefer late values.
func (s *reservoir[T]) grow(limit int, b *budget) bool {
	if s.seen-1 != int64(len(s.kept)) {
		return false
	}
	room := min(max(2*cap(s.kept), minSamples), limit)
	cost := (room - cap(s.kept)) * 8
	if room > minSamples {
		if cost > b.free {
			return false
		}
		b.free -= cost
		s.paid += cost
	}
	kept := make([]T, len(s.kept), room)
	copy(kept, s.kept)
	s.kept = kept
	return true
}

// release returns the memory to the budget.
func (s *reservoir[T]) release(b *budget) {
	b.free += s.paid
	*s = reservoir[T]{}
}

// join appends s to the parts of a window, and adds its counts to kept and seen.
func (s *reservoir[T]) join(parts []*reservoir[T], kept, seen int64) ([]*reservoir[T], int64, int64) {
	if len(s.kept) == 0 {
		return parts, kept, seen
	}
	return append(parts, s), kept + int64(len(s.kept)), seen + s.seen
}

// weighing is a kept value with the number of seen values that it represents.
type weighing[T cmp.Ordered] struct {
	value  T
	weight float64
}

type weighted = weighing[float64]

// percentiles computes the nearest-rank percentiles: the smallest kept value that is not exceeded by q percent of all values. qs must ascend. scratch
// is reused; the values of the parts are sorted in place.
func percentiles[T cmp.Ordered](parts []*reservoir[T], qs []float64, scratch []weighing[T], dst []T) ([]weighing[T], []T) {
	scratch = scratch[:0]
	total := 0.0
	for _, s := range parts {
		weight := float64(s.seen) / float64(len(s.kept))
		slices.Sort(s.kept)
		for _, v := range s.kept {
			scratch = append(scratch, weighing[T]{v, weight})
		}
		total += float64(s.seen)
	}
	if len(parts) > 1 {
		slices.SortFunc(scratch, func(a, b weighing[T]) int { return cmp.Compare(a.value, b.value) })
	}
	at, below := 0, 0.0
	for _, q := range qs {
		// The rank is rounded up to a whole value. The small subtrahend compensates rounding errors of the division.
		rank := math.Ceil(q/100*total - 1e-9*total)
		for at < len(scratch)-1 && below+scratch[at].weight < rank-1e-6 {
			below += scratch[at].weight
			at++
		}
		dst = append(dst, scratch[at].value)
	}
	return scratch, dst
}
