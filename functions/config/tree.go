package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"app-offload/functions/task"
)

// FromTree returns base with the values of a tree of texts, as the configuration provider stores them below Offload/Writable: maps by name, and a
// text for each key. A key missing in the tree keeps its value in base. Classes are those of the tree only, so that a class deleted there is gone.
// The error names every value that cannot be read, and then base is returned unchanged.
func FromTree(base Writable, tree map[string]any) (Writable, error) {
	if len(tree) == 0 {
		return base, errors.New("Offload/Writable is empty; start with -o to restore the values of the file")
	}
	w := base
	w.Classes = map[string]task.ClassConfig{}
	if err := graft([]string{"Writable"}, reflect.ValueOf(&w).Elem(), tree); err != nil {
		return base, err
	}
	return w, nil
}

// CheckTree reports each value of a tree of texts, as the configuration provider stores them below Offload, that cannot be read. The SDK reads some of
// them all the same: an empty text as 0 or false.
func CheckTree(tree map[string]any) error {
	c := Default()
	return graft(nil, reflect.ValueOf(&c).Elem(), tree)
}

// graft sets the fields of a struct. Like EdgeX it ignores unknown keys, and case where no key has the exact name.
func graft(path []string, v reflect.Value, tree map[string]any) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		field, ok := v.Type().FieldByNameFunc(func(f string) bool { return strings.EqualFold(f, name) })
		if _, exact := tree[field.Name]; !ok || exact && name != field.Name {
			continue
		}
		errs = append(errs, graftValue(append(slices.Clip(path), field.Name), v.FieldByIndex(field.Index), tree[name]))
	}
	return errors.Join(errs...)
}

func graftValue(path []string, v reflect.Value, in any) error {
	values, section := in.(map[string]any)
	text, _ := in.(string)
	key := Section + "." + strings.Join(path, ".")
	switch {
	case v.Kind() == reflect.Map:
		return graftEntries(path, v, values)
	case v.Kind() == reflect.Struct:
		return graft(path, v, values)
	case section:
		return fmt.Errorf("%s: is a value, not a folder", key)
	}
	if err := set(v, text, 0); err != nil { // blanks and a leading 0 mean what they mean to the next start
		return fmt.Errorf("%s = %q: %w", key, text, err)
	}
	return nil
}

func graftEntries(path []string, v reflect.Value, tree map[string]any) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		values, ok := tree[name].(map[string]any)
		if !ok {
			continue // a folder's own key
		}
		entry := reflect.New(v.Type().Elem()).Elem()
		errs = append(errs, graft(append(slices.Clip(path), name), entry, values))
		v.SetMapIndex(reflect.ValueOf(name), entry)
	}
	return errors.Join(errs...)
}
