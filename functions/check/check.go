// Package check collects every problem of a configuration, so that one start (or one live update) reports all of them.
//
// One goroutine owns a Problems value. The package imports only the standard library.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Problems collects the problems of one section of the configuration.
type Problems struct {
	section string
	errs    []error
	wrong   []string // keys with a problem
}

// In starts a collection for the keys below section, e.g. "Spool".
func In(section string) *Problems { return &Problems{section: section} }

// Fields starts a collection with the fields of config, a struct, that violate their tags: `within:"1 100"` is a range of numbers or durations,
// `within:"a|b"` a list of words.
func Fields(section string, config any) *Problems {
	p, v := In(section), reflect.ValueOf(config)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		within, ok := f.Tag.Lookup("within")
		low, high, span := strings.Cut(within, " ")
		switch value := v.Field(i); {
		case !ok:
		case value.Kind() == reflect.String && span:
			p.Duration(f.Name, value.String(), read(time.ParseDuration, low), read(time.ParseDuration, high))
		case value.Kind() == reflect.String:
			p.OneOf(f.Name, value.String(), strings.Split(within, "|")...)
		case value.CanInt():
			Range(p, f.Name, int(value.Int()), read(strconv.Atoi, low), read(strconv.Atoi, high))
		default:
			Range(p, f.Name, value.Float(), read(number, low), read(number, high))
		}
	}
	return p
}

func number(text string) (float64, error) { return strconv.ParseFloat(text, 64) }

// read parses a bound of a tag, which is part of the program.
func read[T any](parse func(string) (T, error), text string) T {
	bound, err := parse(text)
	if err != nil {
		panic(err)
	}
	return bound
}

// Addf records one problem for each line of the text. The error has the key, the value and the remedy, in that order.
func (p *Problems) Addf(key string, value any, format string, args ...any) {
	p.wrong = append(p.wrong, key)
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		p.errs = append(p.errs, fmt.Errorf("%s = %q: %s", p.key(key), fmt.Sprint(value), line))
	}
}

// Add records the problems of a part that validated itself; nil is ignored.
func (p *Problems) Add(err error) {
	if err != nil {
		p.errs = append(p.errs, err)
	}
}

// Fine reports whether none of the keys has a problem, so that their values can be compared: one mistake is one problem.
func (p *Problems) Fine(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { return slices.Contains(p.wrong, key) })
}

// Err joins all problems, or is nil.
func (p *Problems) Err() error { return errors.Join(p.errs...) }

// Duration parses a Go duration such as "1.5s" and requires it to be within [low, high].
func (p *Problems) Duration(key, value string, low, high time.Duration) time.Duration {
	d, err := time.ParseDuration(value)
	if err != nil {
		p.Addf(key, value, "is not a duration; write it like %q", durationLike(value, low))
		return low
	}
	Range(p, key, d, low, high)
	return d
}

// units are units that Go's durations do not have, and the default unit.
var units = map[string]time.Duration{
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour, "w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
	"": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second, "msec": time.Millisecond,
	"min": time.Minute, "mins": time.Minute, "minute": time.Minute, "minutes": time.Minute, "hour": time.Hour, "hours": time.Hour, "hr": time.Hour,
}

// durationLike returns the probable meaning of a text as a duration: 72h for 3d. Without a guess it returns low.
func durationLike(text string, low time.Duration) string {
	text = strings.ToLower(strings.TrimSpace(text))
	if d, err := time.ParseDuration(strings.ReplaceAll(text, " ", "")); err == nil {
		return short(d)
	}
	digits := strings.IndexFunc(text+"x", func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	n, err := strconv.ParseFloat(text[:digits], 64)
	unit, known := units[strings.TrimSpace(text[digits:])]
	if err != nil || !known || n*float64(unit) > 1e18 {
		return short(low)
	}
	return short(time.Duration(n * float64(unit)))
}

// short formats a duration without the zeros that Go appends: 72h and not 72h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// OneOf requires value to be one of the words.
func (p *Problems) OneOf(key, value string, words ...string) {
	if !slices.Contains(words, value) {
		p.Addf(key, value, "must be one of %s", strings.Join(words, ", "))
	}
}

// Range requires low ≤ value ≤ high, or one of the others. A NaN is out of every range.
func Range[T cmp.Ordered](p *Problems, key string, value, low, high T, others ...T) {
	if value >= low && value <= high || slices.Contains(others, value) {
		return
	}
	or := ""
	for _, other := range others {
		or += fmt.Sprintf(", or be %v", other)
	}
	p.Addf(key, value, "must be between %v and %v%s", plain(low), plain(high), or)
}

// plain formats a number without an exponent, if it is short enough to read.
func plain(bound any) any {
	if f, ok := bound.(float64); ok && f >= 1e-6 && f < 1e15 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return bound
}

func (p *Problems) key(key string) string {
	if p.section == "" {
		return key
	}
	return p.section + "." + key
}
