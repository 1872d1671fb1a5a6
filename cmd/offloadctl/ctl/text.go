package ctl

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// age writes a time in seconds as people say it: 0 s, 48 s, 12 min, 3 h, 9 days.
func age(seconds float64) string {
	switch s := max(seconds, 0); {
	case s < 100:
		return fmt.Sprintf("%.0f s", s)
	case s < 100*60:
		return fmt.Sprintf("%.0f min", s/60)
	case s < 72*3600:
		return fmt.Sprintf("%.0f h", s/3600)
	default:
		return fmt.Sprintf("%.0f days", s/86400)
	}
}

// duration writes a short time in seconds with the unit that suits it; what is not finite never ends.
func duration(seconds float64) string {
	switch abs := math.Abs(seconds); {
	case math.IsNaN(seconds) || math.IsInf(seconds, 0):
		return "never"
	case abs > 0 && abs < 0.001:
		return fmt.Sprintf("%.3g µs", seconds*1e6)
	case abs < 1:
		return fmt.Sprintf("%.1f ms", seconds*1e3)
	case abs < 100:
		return fmt.Sprintf("%.2f s", seconds)
	}
	return age(seconds)
}

// size writes bytes with a unit of 1,024.
func size(bytes float64) string {
	switch {
	case bytes < 1<<10:
		return fmt.Sprintf("%.0f B", bytes)
	case bytes < 1<<20:
		return fmt.Sprintf("%.1f KiB", bytes/(1<<10))
	case bytes < 1<<30:
		return fmt.Sprintf("%.1f MiB", bytes/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", bytes/(1<<30))
}

// count writes a whole number with its thousands apart: 1,234,567.
func count[T int | int64 | uint64](n T) string {
	text := strconv.FormatFloat(float64(n), 'f', 0, 64)
	digits := strings.TrimPrefix(text, "-")
	sign := text[:len(text)-len(digits)]
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// percent writes what is given in percent, and rounds it neither to nothing nor to all of it where it is neither.
func percent(p float64) string {
	switch {
	case p > 0 && p < 0.5:
		return "under 1 %"
	case p >= 99.5 && p < 100:
		return "over 99 %"
	}
	return fmt.Sprintf("%.0f %%", p)
}

// byReason writes counts by a word, without those that are 0: "expired 3, full 1".
func byReason[T int64 | uint64](counts map[string]T) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		if counts[reason] != 0 {
			parts = append(parts, reason+" "+count(counts[reason]))
		}
	}
	return strings.Join(parts, ", ")
}

// table writes rows under a head; the columns that right says hold numbers.
type table struct {
	w *tabwriter.Writer
}

func newTable(out io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.row(head...)
	return t
}

// row adds a row. What does not work is told by end.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = clean(c)
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t *table) end() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

// oneLine joins the lines of a problem that has several.
func oneLine(s string) string {
	return strings.NewReplacer(":\n", ": ", "\n", "; ").Replace(strings.TrimSpace(s))
}

// clean keeps names that came from outside from moving the cursor of the operator's terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
}
