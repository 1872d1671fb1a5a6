// Package bounds lists the numbers and durations that a configuration accepts. It is for tests that compare the list with a golden file: a changed
// bound, or a key that is no longer checked, shows as a differing line.
package bounds

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
)

// Of lists the numbers and durations of a valid configuration, one per line: its key, and the least and the most that Validate accepts with all other
// keys unchanged. "…" is no bound, "<" and ">" an exclusive bound. config is a struct with the method Validate() error. Keys that accept only their
// given value, or all values, are omitted.
func Of(config any) string {
	v := reflect.New(reflect.TypeOf(config)).Elem()
	v.Set(reflect.ValueOf(config))
	valid := func() bool { return v.Interface().(interface{ Validate() error }).Validate() == nil }
	if !valid() {
		return "the configuration is not valid"
	}
	var lines []string
	each(v, "", valid, func(line string) { lines = append(lines, line) })
	return strings.Join(lines, "\n")
}

func each(v reflect.Value, prefix string, valid func() bool, add func(string)) {
	for i := range v.NumField() {
		f, key := v.Field(i), prefix+v.Type().Field(i).Name
		if !f.CanSet() {
			continue
		}
		was := reflect.ValueOf(f.Interface())
		line := ""
		switch f.Kind() {
		case reflect.Struct:
			each(f, key+".", valid, add)
			continue
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			most := int64(1)<<(f.Type().Bits()-1) - 1
			line = span(func(n int64) bool { f.SetInt(n); return valid() }, was.Int(), -most, most, func(n int64) string { return fmt.Sprint(n) })
		case reflect.Float32, reflect.Float64:
			line = span(func(x float64) bool { f.SetFloat(x); return valid() }, was.Float(), -math.MaxFloat32, math.MaxFloat32, func(x float64) string { return fmt.Sprintf("%.9g", x) })
		case reflect.String:
			if d, err := time.ParseDuration(was.String()); err == nil {
				text := func(n time.Duration) string { return n.String() }
				line = span(func(n time.Duration) bool { f.SetString(text(n)); return valid() }, d, -math.MaxInt64, math.MaxInt64, text)
			}
		}
		f.Set(was)
		if line != "" {
			add(key + " " + line)
		}
	}
}

// span searches below and above an accepted value. If that is 0, and 0 has a special meaning, it starts from another value.
func span[N int64 | float64 | time.Duration](accepts func(N) bool, from, least, most N, text func(N) string) string {
	zero := ""
	if !accepts(tiny[N]()) && !accepts(-tiny[N]()) {
		for n := N(1); n < most/10 && from == 0; n *= 2 {
			if accepts(n) {
				zero, from, least = "0 or ", n, tiny[N]()
			}
		}
	}
	low, high := edge(accepts, from, least, text, ">"), edge(accepts, from, most, text, "<")
	if low == high && zero == "" || low+high == "……" {
		return ""
	}
	return zero + low + " to " + high
}

func tiny[N int64 | float64 | time.Duration]() N {
	if half := 0.5; N(half) != 0 {
		return N(half / (1 << 20))
	}
	return 1
}

// edge bisects between an accepted and a rejected value.
func edge[N int64 | float64 | time.Duration](accepts func(N) bool, good, bad N, text func(N) string, open string) string {
	if accepts(bad) {
		return "…"
	}
	for range 256 {
		if middle := good/2 + bad/2 + (good-good/2*2+bad-bad/2*2)/2; middle == good || middle == bad {
			break
		} else if accepts(middle) {
			good = middle
		} else {
			bad = middle
		}
	}
	if N(1)/2 == 0 { // whole numbers are exact
		return text(good)
	}
	var round N
	if _, err := fmt.Sscan(text(good), &round); err != nil {
		return err.Error()
	}
	if math.Abs(float64(round)) < 1e-9 {
		round = 0
	}
	if accepts(round) {
		return text(round)
	}
	return open + text(round)
}
