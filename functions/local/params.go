package local

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-offload/functions/check"
)

// params hands the parameters of one operator to its build function and collects what is wrong with them. Each is
// also written down in one canonical form: by that text a reload recognises an operator that did not change.
type params struct {
	op    *Operator
	given map[string]string
	text  strings.Builder
	errs  []error
	ends  bool // with these parameters the operator gives nothing to one after it
}

// value is what the user wrote, or the default.
func (p *params) value(name string) string {
	if v, ok := p.given[name]; ok {
		return v
	}
	for _, param := range p.op.all() {
		if param.Name == name {
			return param.Default
		}
	}
	return ""
}

func (p *params) failf(name, format string, args ...any) {
	p.errs = append(p.errs, &SpecError{
		Operator: p.op.Name, Parameter: name, Value: p.value(name),
		Problem: fmt.Sprintf(format, args...), Example: p.op.Example,
	})
}

func (p *params) note(name, canonical string) { fmt.Fprintf(&p.text, " %s=%s", name, canonical) }

// duration reads a Go duration within [low, high].
func (p *params) duration(name string, low, high time.Duration) int64 {
	d, err := time.ParseDuration(p.value(name))
	switch {
	case p.value(name) == "":
		p.failf(name, "is missing")
	case err != nil:
		p.failf(name, "is not a duration such as 500ms, 60s or 1h")
	case d < low || d > high:
		p.failf(name, "must lie between %v and %v", low, high)
	}
	p.note(name, d.String())
	return int64(d)
}

// number reads a finite number within [low, high]; an empty text is NaN.
func (p *params) number(name string, low, high float64) float64 {
	text := p.value(name)
	if text == "" {
		p.note(name, "")
		return math.NaN()
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || v < low || v > high {
		p.failf(name, "must be a number between %v and %v", low, high)
	}
	p.note(name, strconv.FormatFloat(v, 'g', -1, 64))
	return v
}

// whole reads a whole number within [low, high].
func (p *params) whole(name string, low, high int) int {
	v, err := strconv.Atoi(p.value(name))
	if err != nil || v < low || v > high {
		p.failf(name, "must be a whole number between %d and %d", low, high)
	}
	p.note(name, strconv.Itoa(v))
	return v
}

// yes reads true or false. Only true is written down.
func (p *params) yes(name string) bool {
	v, err := strconv.ParseBool(p.value(name))
	if err != nil {
		p.failf(name, "must be true or false")
	}
	if v {
		p.note(name, "true")
	}
	return v
}

// oneOf reads one of some words.
func (p *params) oneOf(name string, words ...string) string {
	v := p.value(name)
	if !slices.Contains(words, v) {
		p.failf(name, "must be one of %s", strings.Join(words, ", "))
		v = words[0]
	}
	p.note(name, v)
	return v
}

// numbers reads a comma-separated list of at most most numbers, each within [low, high]; it comes back in ascending order.
func (p *params) numbers(name string, low, high float64, most int) []float64 {
	var list []float64
	for word := range strings.SplitSeq(p.value(name), ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		v, err := strconv.ParseFloat(word, 64)
		if err != nil || !(v >= low && v <= high) {
			p.failf(name, "must be a comma-separated list of numbers between %v and %v, not %q", low, high, word)
			continue
		}
		list = append(list, v)
	}
	if len(list) > most {
		p.failf(name, "must have at most %d numbers, it has %d", most, len(list))
	}
	slices.Sort(list)
	list = slices.Compact(list)
	p.note(name, fmt.Sprint(list))
	return list
}

// glob reads a glob on names.
func (p *params) glob(name string) string {
	if err := check.Glob(p.value(name)); err != nil {
		p.failf(name, "%v", err)
	}
	p.note(name, p.value(name))
	return p.value(name)
}

// word reads a part of a name: EdgeX puts names into topics, where only these characters are safe.
func (p *params) word(name, fallback string) string {
	v := p.value(name)
	if strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || len(v) > 64 {
		p.failf(name, "must be at most 64 letters, digits, _ and -")
	}
	p.note(name, v)
	if v == "" {
		return fallback
	}
	return v
}
