package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree writes the part that may change as Consul has it: nested maps of texts.
func tree(w Writable) map[string]any {
	c := Config{Writable: w}
	root := map[string]any{}
	_ = Walk(&c, func(k Key) error {
		if k.Path[1] != "Writable" {
			return nil
		}
		at := root
		for _, name := range k.Path[2 : len(k.Path)-1] {
			if at[name] == nil {
				at[name] = map[string]any{}
			}
			at = at[name].(map[string]any)
		}
		at[k.Path[len(k.Path)-1]] = fmt.Sprint(k.Value.Interface())
		return nil
	})
	return root
}

// What stands in Consul is read as it was written, a class that is deleted there is gone, and a key that is missing stays.
func TestRawIsReadAsWritten(t *testing.T) {
	base := Default().Writable
	w, err := ReadRaw(tree(base), base)
	require.NoError(t, err)
	require.Equal(t, base, w)

	raw := tree(base)
	for name := range base.Classes {
		delete(raw["Classes"].(map[string]any), name)
		w, err = ReadRaw(raw, base)
		require.NoError(t, err)
		require.NotContains(t, w.Classes, name)
	}
	delete(raw, "Classes")
	delete(raw["Batch"].(map[string]any), "MaxKiB")
	raw["policy"] = raw["Policy"]
	delete(raw, "Policy")
	w, err = ReadRaw(raw, base)
	require.NoError(t, err)
	require.Empty(t, w.Classes)
	require.Equal(t, base.Batch, w.Batch)
	require.Equal(t, base.Policy, w.Policy)
	require.NotEmpty(t, Default().Writable.Classes, "the base is not written to")
}

// Every key that holds a number or a switch is named when it cannot be read, all of them at once, and nothing is taken then.
func TestUnreadableValuesAreNamed(t *testing.T) {
	base := Default().Writable
	raw, keys := tree(base), []string{}
	var spoil func(path string, t reflect.Type, m map[string]any)
	spoil = func(path string, of reflect.Type, m map[string]any) {
		for i := range of.NumField() {
			f := of.Field(i)
			switch f.Type.Kind() {
			case reflect.Struct:
				spoil(path+"."+f.Name, f.Type, m[f.Name].(map[string]any))
			case reflect.Map:
				for name, entry := range m[f.Name].(map[string]any) {
					spoil(path+"."+f.Name+"."+name, f.Type.Elem(), entry.(map[string]any))
				}
			case reflect.String:
			default:
				m[f.Name] = "1,5 oder so"
				keys = append(keys, path+"."+f.Name)
			}
		}
	}
	spoil("Offload.Writable", reflect.TypeOf(base), raw)
	require.Greater(t, len(keys), 30)
	_, err := ReadRaw(raw, base)
	for _, key := range keys {
		require.ErrorContains(t, err, key+` = "1,5 oder so": is `)
	}
	require.Len(t, strings.Split(err.Error(), "\n"), len(keys))

	for _, c := range []struct {
		raw  map[string]any
		says string
	}{
		{nil, "nothing stands below"},
		{map[string]any{"Batch": "5"}, "Offload.Writable.Batch = \"5\": is a value and must be a folder"},
		{map[string]any{"Batch": map[string]any{"MaxKiB": map[string]any{}}}, "Offload.Writable.Batch.MaxKiB: is a folder and must be a value"},
		{map[string]any{"Classes": map[string]any{"x": "y"}}, "Offload.Writable.Classes.x = \"y\": is a value and must be a folder"},
	} {
		_, err := ReadRaw(c.raw, base)
		require.ErrorContains(t, err, c.says)
	}
}
