package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ReadRaw reads what stands below Offload/Writable in Consul, as nested maps of texts. A key that is not there is as in base; classes
// are those that are there, so that one which was deleted is gone. The error names every value that cannot be read, and nothing is
// returned then: the SDK's own decoder leaves out the whole change, and says so in the log alone.
func ReadRaw(raw map[string]any, base Writable) (Writable, error) {
	if len(raw) == 0 {
		return Writable{}, errors.New("nothing stands below Offload/Writable any more; start with -o to put the file's values there once more")
	}
	w := base
	w.Classes = nil
	r := rawReader{}
	r.fields([]string{Section, "Writable"}, reflect.ValueOf(&w).Elem(), raw)
	if err := errors.Join(r.errs...); err != nil {
		return Writable{}, err
	}
	return w, nil
}

// rawReader collects what is wrong.
type rawReader struct{ errs []error }

func (r *rawReader) fail(path []string, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s%s", strings.Join(path, "."), fmt.Sprintf(format, args...)))
}

func (r *rawReader) fields(path []string, v reflect.Value, raw map[string]any) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		for key, value := range raw {
			if strings.EqualFold(key, name) {
				r.value(append(slices.Clip(path), name), v.Field(i), value)
			}
		}
	}
}

func (r *rawReader) value(path []string, v reflect.Value, raw any) {
	below, folder := raw.(map[string]any)
	switch {
	case folder && v.Kind() == reflect.Struct:
		r.fields(path, v, below)
	case folder && v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, name := range slices.Sorted(maps.Keys(below)) {
			entry := reflect.New(v.Type().Elem()).Elem()
			r.value(append(slices.Clip(path), name), entry, below[name])
			v.SetMapIndex(reflect.ValueOf(name), entry)
		}
	case folder:
		r.fail(path, ": is a folder and must be a value")
	case v.Kind() == reflect.Struct || v.Kind() == reflect.Map:
		if text := fmt.Sprint(raw); text != "" { // Consul's page makes an empty key of a folder
			r.fail(path, " = %q: is a value and must be a folder", text)
		}
	default:
		if err := set(v, fmt.Sprint(raw)); err != nil {
			r.fail(path, " = %q: %v", fmt.Sprint(raw), err)
		}
	}
}
