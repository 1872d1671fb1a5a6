// Package check collects every problem of a configuration, so that one start (or one live update) names all of them at once.
//
// A Problems value is owned by one goroutine. It is a leaf: the standard library is all it imports.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Problems gathers what is wrong with one section of the configuration.
type Problems struct {
	section string
	errs    []error
}

// In starts a collection for the keys below section, e.g. "Spool".
func In(section string) *Problems { return &Problems{section: section} }

// Addf records one problem. The error text carries the key, the value and what to do, in that order.
func (p *Problems) Addf(key string, value any, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s = %q: %s", p.key(key), fmt.Sprint(value), fmt.Sprintf(format, args...)))
}

// Add records the problems of a part that validated itself; nil is ignored.
func (p *Problems) Add(err error) {
	if err != nil {
		p.errs = append(p.errs, err)
	}
}

// Err joins all problems, or is nil.
func (p *Problems) Err() error { return errors.Join(p.errs...) }

// Duration parses a Go duration such as "1.5s" and holds it within [low, high].
func (p *Problems) Duration(key, value string, low, high time.Duration) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil {
		p.Addf(key, value, "is not a duration; write it like %q", low.String())
		return low
	}
	Range(p, key, d, low, high)
	return d
}

// OneOf requires value to be one of the words.
func (p *Problems) OneOf(key, value string, words ...string) {
	if !slices.Contains(words, value) {
		p.Addf(key, value, "must be one of %s", strings.Join(words, ", "))
	}
}

// Range requires low ≤ value ≤ high. A NaN is out of every range.
func Range[T cmp.Ordered](p *Problems, key string, value, low, high T) {
	if !(value >= low && value <= high) {
		p.Addf(key, value, "must lie between %v and %v", low, high)
	}
}

func (p *Problems) key(key string) string {
	if p.section == "" {
		return key
	}
	return p.section + "." + key
}
