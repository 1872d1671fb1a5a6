package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// printer writes results in the forms that were asked for.
type printer struct {
	out, table     io.Writer
	json, markdown bool
}

// column is one of the table.
type column struct {
	name  string
	width int // negative for text, which is aligned to the left
	of    func(*Result) string
}

func number(format string, of func(*Result) float64) func(*Result) string {
	return func(r *Result) string { return fmt.Sprintf(format, of(r)) }
}

var columns = []column{
	{"row", -10, func(r *Result) string { return r.Row }},
	{"broker", -15, func(r *Result) string { return r.Broker }},
	{"subject", -8, func(r *Result) string { return r.Subject }},
	{"policy", -9, func(r *Result) string { return r.Policy }},
	{"confirm", -8, func(r *Result) string { return r.Confirm }},
	{"QoS", 3, func(r *Result) string { return fmt.Sprint(r.QoS) }},
	{"events/s", 9, number("%.0f", func(r *Result) float64 { return r.Rate })},
	{"CPU µs", 7, number("%.1f", func(r *Result) float64 { return r.CPU })},
	{"MiB", 5, number("%.0f", func(r *Result) float64 { return r.Memory })},
	{"rate/fl.", 8, number("%.2f", func(r *Result) float64 { return r.RateRatio })},
	{"CPU/fl.", 7, number("%.2f", func(r *Result) float64 { return r.CPURatio })},
	{"lost", 4, func(r *Result) string { return fmt.Sprint(r.Lost) }},
	{"doubled", 7, func(r *Result) string { return fmt.Sprint(r.Doubled) }},
	{"overtaken", 9, func(r *Result) string { return fmt.Sprint(r.Overtaken) }},
	{"p50 ms", 7, number("%.1f", func(r *Result) float64 { return r.P50 })},
	{"p99 ms", 7, number("%.1f", func(r *Result) float64 { return r.P99 })},
	{"writes/s", 8, number("%.0f", func(r *Result) float64 { return r.Writes })},
	{"KiB/s", 7, number("%.0f", func(r *Result) float64 { return r.Written })},
	{"wakes/s", 7, number("%.0f", func(r *Result) float64 { return r.Wakeups })},
	{"CPU %", 6, number("%.1f", func(r *Result) float64 { return r.Load })},
	{"foreign %", 9, number("%.0f", func(r *Result) float64 { return r.Foreign })},
}

func (p printer) header(o Options) {
	fmt.Fprintf(p.table, "%d events a case; at most %d under way end to end; batches of %d, form %s\n\n",
		o.Events, o.Window, batchSize, o.Form)
	p.heads()
}

func (p printer) heads() {
	p.line(func(c *column) string { return c.name })
	if p.markdown {
		fmt.Fprintln(p.table, "|"+strings.Repeat("---|", len(columns)))
	}
}

// line writes one line of the table.
func (p printer) line(of func(*column) string) {
	cells := make([]string, len(columns))
	for i := range columns {
		cells[i] = of(&columns[i])
		if !p.markdown {
			cells[i] = fmt.Sprintf("%*s", columns[i].width, cells[i])
		}
	}
	if p.markdown {
		fmt.Fprintln(p.table, "| "+strings.Join(cells, " | ")+" |")
		return
	}
	fmt.Fprintln(p.table, strings.TrimRight(strings.Join(cells, " "), " "))
}

func (p printer) row(r Result) {
	p.line(func(c *column) string { return c.of(&r) })
	if p.json {
		_ = json.NewEncoder(p.out).Encode(r)
	}
}

// medians writes a row for each case with the median of each figure, and the sum of what must be zero. The ratios are medians of those to the
// floor of the same round, which is what the machine's other work disturbs least.
func (p printer) medians(cases []Case, all []Result) (medians []Result) {
	fmt.Fprintf(p.table, "\nMedians, and sums of what was lost, doubled and overtaken:\n\n")
	p.heads()
	for _, c := range cases {
		of := slices.DeleteFunc(slices.Clone(all), func(r Result) bool { return r.Case != c })
		if len(of) > 0 {
			r := median(of)
			medians = append(medians, r)
			p.line(func(c *column) string { return c.of(&r) })
		}
	}
	return medians
}

func median(of []Result) Result {
	m := Result{Case: of[0].Case}
	for _, figure := range []func(*Result) *float64{
		func(r *Result) *float64 { return &r.Rate }, func(r *Result) *float64 { return &r.CPU }, func(r *Result) *float64 { return &r.Memory },
		func(r *Result) *float64 { return &r.RateRatio }, func(r *Result) *float64 { return &r.CPURatio },
		func(r *Result) *float64 { return &r.P50 }, func(r *Result) *float64 { return &r.P99 },
		func(r *Result) *float64 { return &r.Writes }, func(r *Result) *float64 { return &r.Written },
		func(r *Result) *float64 { return &r.Wakeups }, func(r *Result) *float64 { return &r.Load }, func(r *Result) *float64 { return &r.Foreign },
	} {
		slices.SortFunc(of, func(a, b Result) int { return cmp.Compare(*figure(&a), *figure(&b)) })
		*figure(&m) = (*figure(&of[(len(of)-1)/2]) + *figure(&of[len(of)/2])) / 2
	}
	for i := range of {
		m.Lost, m.Doubled, m.Overtaken = m.Lost+of[i].Lost, m.Doubled+of[i].Doubled, m.Overtaken+of[i].Overtaken
	}
	return m
}
