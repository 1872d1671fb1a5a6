package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// sum is a total of the table, in printing order.
type sum struct {
	name  string
	value int
}

// print writes the table as Markdown: packages by size, product first, and returns the totals below it.
func print(w io.Writer, rows []row) []sum {
	slices.SortFunc(rows, func(a, b row) int {
		if a.support != b.support {
			if a.support {
				return 1
			}
			return -1
		}
		if a.lines != b.lines {
			return b.lines - a.lines
		}
		return strings.Compare(a.name, b.name)
	})
	fmt.Fprintln(w, "| package | code lines | files | exported names | private functions used across files | pairs of files that call each other | longest file | lines of tests |")
	fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|---|---:|")
	var product, support row
	packages := 0
	for _, r := range rows {
		name := r.name
		into := &product
		if r.support {
			name += " (support)"
			into = &support
		} else {
			packages++
		}
		into.add(r)
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d of %d (%d %%) | %d | %s | %d |\n",
			name, r.lines, r.files, r.exported, r.across, r.unexported, percent(r.across, r.unexported), len(r.mutual), longest(r), r.tests)
	}
	sums := []sum{
		{"product: code lines", product.lines},
		{"product: files", product.files},
		{"product: packages", packages},
		{"product: code lines a package", product.lines / max(packages, 1)},
		{"product: exported names", product.exported},
		{"product: private functions", product.unexported},
		{"product: private functions used across files", product.across},
		{"product: percent used across files", percent(product.across, product.unexported)},
		{"product: pairs of files that call each other", len(product.mutual)},
		{"product: longest file", product.longest},
		{"test support: code lines", support.lines},
		{"tests: code lines", product.tests + support.tests},
		{"all: code lines", product.lines + support.lines + product.tests + support.tests},
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "| total | |")
	fmt.Fprintln(w, "|---|---:|")
	for _, s := range sums {
		fmt.Fprintf(w, "| %s | %d |\n", s.name, s.value)
	}
	return sums
}

// printPairs lists the pairs of files of the product that call each other.
func (r *row) add(o row) {
	r.lines += o.lines
	r.files += o.files
	r.exported += o.exported
	r.unexported += o.unexported
	r.across += o.across
	r.mutual = append(r.mutual, o.mutual...)
	r.tests += o.tests
	r.longest = max(r.longest, o.longest)
}

func printPairs(w io.Writer, rows []row) {
	for _, r := range rows {
		for _, pair := range r.mutual {
			fmt.Fprintln(w, pair)
		}
	}
}

func longest(r row) string {
	if r.longestFile == "" {
		return "–"
	}
	return fmt.Sprintf("%s %d", r.longestFile, r.longest)
}

func percent(part, whole int) int {
	if whole == 0 {
		return 0
	}
	return (100*part + whole/2) / whole
}

var totalLine = regexp.MustCompile(`(?m)^\| ([a-z][^|]*: [^|]*) \| (\d+) \|$`)

// compare prints the difference of each total from the recorded one.
func compare(w io.Writer, path string, sums []sum) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the recorded table: %w", err)
	}
	recorded := map[string]int{}
	for _, m := range totalLine.FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			return fmt.Errorf("reading the total %q of %s: %w", m[1], path, err)
		}
		recorded[m[1]] = n
	}
	if len(recorded) == 0 {
		return fmt.Errorf("%s holds no totals", path)
	}
	fmt.Fprintf(w, "\nchange against %s:\n", path)
	for _, s := range sums {
		before, known := recorded[s.name]
		if !known {
			fmt.Fprintf(w, "  %-46s %6d (not recorded)\n", s.name, s.value)
			continue
		}
		fmt.Fprintf(w, "  %-46s %6d → %6d (%+d)\n", s.name, before, s.value, s.value-before)
	}
	return nil
}
