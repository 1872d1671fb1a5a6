package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"app-offload/functions/check"
)

// Key is one setting: its path and its value.
type Key struct {
	Path  []string // e.g. Offload, Spool, QuotaMiB
	Value reflect.Value
	Doc   reflect.StructField
}

// Env returns the environment variable that overrides the key, by EdgeX's rule.
func (k Key) Env() string {
	return strings.ToUpper(strings.NewReplacer("-", "_", "/", "_", ".", "_").Replace(strings.Join(k.Path, "_")))
}

// Walk calls visit for every setting of c in the order of declaration, entries of maps in the order of their names. visit may change a Value.
func Walk(c *Config, visit func(Key) error) error {
	return walk([]string{Section}, reflect.ValueOf(c).Elem(), visit)
}

func walk(path []string, v reflect.Value, visit func(Key) error) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if err := walkField(append(slices.Clip(path), field.Name), v.Field(i), field, visit); err != nil {
			return err
		}
	}
	return nil
}

func walkField(path []string, v reflect.Value, field reflect.StructField, visit func(Key) error) error {
	switch v.Kind() {
	case reflect.Struct:
		return walk(path, v, visit)
	case reflect.Map:
		return walkMap(path, v, visit)
	default:
		return visit(Key{Path: path, Value: v, Doc: field})
	}
}

// walkMap visits copies of a map's structs and stores them again, since map entries cannot be changed in place.
func walkMap(path []string, v reflect.Value, visit func(Key) error) error {
	names := v.MapKeys()
	slices.SortFunc(names, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range names {
		entry := reflect.New(v.Type().Elem()).Elem()
		entry.Set(v.MapIndex(name))
		if err := walk(append(slices.Clip(path), name.String()), entry, visit); err != nil {
			return err
		}
		v.SetMapIndex(name, entry)
	}
	return nil
}

// ApplyEnv overrides settings from environment variables, which the SDK does for custom sections only when it writes them to Consul. It returns the
// names of the variables used. lookup is os.LookupEnv outside of tests.
func ApplyEnv(c *Config, lookup func(string) (string, bool)) (used []string, err error) {
	err = Walk(c, func(k Key) error {
		text, ok := lookup(k.Env())
		if !ok {
			return nil
		}
		used = append(used, k.Env())
		if err := set(k.Value, text, 10); err != nil {
			return fmt.Errorf("%s = %q: %w", k.Env(), text, err)
		}
		return nil
	})
	return used, err
}

// set converts text to the type of v. A whole number is in that base; 0 goes by its prefix, as in Go.
func set(v reflect.Value, text string, base int) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("is neither true nor false")
		}
		v.SetBool(b)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("is not a number")
		}
		v.SetFloat(f)
	default:
		n, err := strconv.ParseInt(text, base, 64)
		if err != nil || !v.CanInt() || v.OverflowInt(n) {
			return fmt.Errorf("is not a whole number")
		}
		v.SetInt(n)
	}
	return nil
}

// others are variables with the prefix of an override that belong to a tool.
var others = map[string]bool{"OFFLOAD_TOKEN": true, "OFFLOAD_CLOUD_VERSION": true}

// Strays returns a line for each variable that looks like an override and names no key of c, with a suggestion, in the order of their names.
func Strays(c *Config, environ []string) []string {
	known := map[string]bool{}
	_ = Walk(c, func(k Key) error { known[k.Env()] = true; return nil })
	names := slices.Sorted(maps.Keys(known))
	var lines []string
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(strings.ToUpper(name), strings.ToUpper(Section)+"_") && !known[name] && !others[name] {
			lines = append(lines, "the variable "+name+" names no key and has no effect"+check.DidYouMean(name, names))
		}
	}
	return lines
}

// Overruled returns a line for each variable that names a key of c with a different value: Consul has another one. Values are not shown.
func Overruled(c Config, lookup func(string) (string, bool)) []string {
	var lines []string
	_ = Walk(&c, func(k Key) error {
		text, given := lookup(k.Env())
		if !given {
			return nil
		}
		want := reflect.New(k.Value.Type()).Elem()
		if err := set(want, text, 10); err != nil || !want.Equal(k.Value) {
			lines = append(lines, fmt.Sprintf("the variable %s has no effect: the configuration provider has another value for %s, which takes precedence; change it there, or start with -o",
				k.Env(), strings.Join(k.Path, ".")))
		}
		return nil
	})
	return lines
}
