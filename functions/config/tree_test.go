package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tree is a Writable as Consul stores it: a text for each key.
func tree(t *testing.T, w Writable) map[string]any {
	t.Helper()
	root := map[string]any{}
	c := Default()
	c.Writable = w
	require.NoError(t, Walk(&c, func(k Key) error {
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
	}))
	return root
}

func TestFromTree(t *testing.T) {
	base := Default().Writable
	same, err := FromTree(base, tree(t, base))
	require.NoError(t, err)
	require.Equal(t, base, same)

	changed := tree(t, base)
	delete(changed, "Batch")
	changed["batch"] = map[string]any{"maxkib": "128"} // case does not matter, and what is missing stays
	delete(changed["Classes"].(map[string]any), "camera")
	changed["Classes"].(map[string]any)["pump"] = map[string]any{"MatchDevice": "pump*", "NeverLeave": "true", "": ""}
	changed["Nonsense"], changed[""] = "x", ""
	changed["Other"] = map[string]any{"Batch": map[string]any{"MaxCount": "9"}}
	changed["Classes"].(map[string]any)[""] = ""
	w, err := FromTree(base, changed)
	require.NoError(t, err)
	require.Equal(t, 128, w.Batch.MaxKiB)
	require.Equal(t, base.Batch.MaxAge, w.Batch.MaxAge)
	require.Equal(t, base.Batch.MaxCount, w.Batch.MaxCount, "an unknown folder is skipped with its content")
	require.NotContains(t, w.Classes, "camera", "a class that was deleted is gone")
	require.NotContains(t, w.Classes, "", "the folder itself is no class")
	require.True(t, w.Classes["pump"].NeverLeave)
	require.NoError(t, w.Validate())

	w, err = FromTree(base, map[string]any{"Batch": map[string]any{"MaxKiB": "0x10", "MaxCount": "010"}})
	require.NoError(t, err)
	require.Equal(t, []int{16, 8}, []int{w.Batch.MaxKiB, w.Batch.MaxCount}, "as the next start reads it")
	require.Equal(t, base.Batch.MaxAge, w.Batch.MaxAge)
	require.Empty(t, w.Classes)
	w, err = FromTree(base, map[string]any{"Policy": map[string]any{"DEFAULT": "cloud", "Default": "cost", "default": "edge", "randomSEED": "7"}, "policy": map[string]any{"Default": "edge"}})
	require.NoError(t, err)
	require.Equal(t, "cost", w.Policy.Default, "of keys that differ in case the one of the exact name counts, as at the start")
	require.EqualValues(t, 7, w.Policy.RandomSeed)
	w, err = FromTree(base, map[string]any{"Policy": map[string]any{"Default": "defer\n"}})
	require.NoError(t, err)
	require.ErrorContains(t, w.Validate(), "Policy.Default = \"defer\\n\"", "the next start would fail by it")
	w, err = FromTree(base, map[string]any{})
	require.ErrorContains(t, err, "Offload/Writable is empty")
	require.Equal(t, base, w)
}

// Each value that cannot be read is named with its key, and then nothing is changed.
func TestFromTreeNamesWhatCannotBeRead(t *testing.T) {
	base := Default().Writable
	bad := tree(t, base)
	bad["Batch"].(map[string]any)["MaxKiB"] = "many"
	bad["Batch"].(map[string]any)["MaxCount"] = "7\n" // the next start would fail by it
	bad["Classes"].(map[string]any)["camera"].(map[string]any)["NeverLeave"] = "perhaps"
	bad["Classes"].(map[string]any)["default"].(map[string]any)["NeverLeave"] = "" // or an emptied value would let the data leave
	bad["Policy"].(map[string]any)["CostTime"] = " "
	bad["Score"].(map[string]any)["RadioJoules"] = "few"
	bad["Score"].(map[string]any)["WireShare"] = map[string]any{"x": "1"}
	w, err := FromTree(base, bad)
	require.Equal(t, base, w)
	for _, want := range []string{`Offload.Writable.Batch.MaxKiB = "many"`, `Offload.Writable.Classes.camera.NeverLeave = "perhaps"`, `Offload.Writable.Classes.default.NeverLeave = "": is neither true nor false`, `CostTime = " ": is not a number`, `MaxCount = "7\n": is not a whole number`, "Offload.Writable.Score.WireShare: is a value", `Offload.Writable.Score.RadioJoules = "few": is not a number`} {
		require.ErrorContains(t, err, want)
	}
	require.Len(t, strings.Split(err.Error(), "\n"), 7)
}

// What a live change rejects is also found among all that is stored. Values that are texts may be empty.
func TestAStoredTreeIsChecked(t *testing.T) {
	tree := map[string]any{
		"Node": "", "Spool": map[string]any{"QuotaMiB": "512", "Encrypt": ""},
		"Writable": map[string]any{"Classes": map[string]any{"default": map[string]any{"NeverLeave": "", "Policy": ""}}},
	}
	err := CheckTree(tree)
	require.ErrorContains(t, err, `Offload.Spool.Encrypt = ""`)
	require.ErrorContains(t, err, `Offload.Writable.Classes.default.NeverLeave = ""`)
	require.Len(t, strings.Split(err.Error(), "\n"), 2)
	delete(tree, "Spool")
	delete(tree, "Writable")
	require.NoError(t, CheckTree(tree))
}
