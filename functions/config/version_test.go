package config

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every key that may change while the service runs changes the version, and nothing else does.
func TestVersionChangesWithEveryKey(t *testing.T) {
	base := Default()
	require.Equal(t, base.Writable.Version(), Default().Writable.Version(), "it is the same in every process")
	n := 0
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		before := base.Writable.Version()
		changed := func() {
			n++
			require.NotEqual(t, before, base.Writable.Version(), path)
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		case reflect.Map:
			for _, key := range v.MapKeys() {
				entry := reflect.New(v.Type().Elem()).Elem()
				entry.Set(v.MapIndex(key))
				for i := range entry.NumField() {
					whole := reflect.New(v.Type().Elem()).Elem()
					whole.Set(entry)
					if !alter(whole.Field(i)) {
						continue
					}
					v.SetMapIndex(key, whole)
					path := path + "." + key.String() + "." + entry.Type().Field(i).Name
					require.NotEqual(t, before, base.Writable.Version(), path)
					n++
					v.SetMapIndex(key, entry)
				}
			}
		default:
			old := reflect.New(v.Type()).Elem()
			old.Set(v)
			if alter(v) {
				changed()
				v.Set(old)
			}
		}
	}
	walk(reflect.ValueOf(&base.Writable).Elem(), "Writable")
	require.Greater(t, n, 50)
	base.Node = "another"
	require.Equal(t, Default().Writable.Version(), base.Writable.Version())
}

// alter changes a value of any type that a key has.
func alter(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int8:
		v.SetInt(v.Int() + 1)
	case reflect.Float64:
		v.SetFloat(v.Float() + 0.25)
	case reflect.Pointer:
		next := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			next.Elem().Set(v.Elem())
			alter(next.Elem())
		}
		v.Set(next)
	default:
		return false
	}
	return true
}
