package config

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShippedBoundsAreGenerated checks the range of each key: the messages for a value far below and far above every bound, for an empty text and for
// a meaningless one. A changed bound changes the file.
func TestShippedBoundsAreGenerated(t *testing.T) {
	var b strings.Builder
	c := Default()
	require.NoError(t, Walk(&c, func(k Key) error {
		path := strings.Join(k.Path[1:], ".")
		if class, ok := strings.CutPrefix(path, "Writable.Classes."); ok && !strings.HasPrefix(class, "default.") {
			return nil // as the default
		}
		said := map[string][]string{} // the values, by what is said of them
		for _, value := range strange(k.Value.Kind()) {
			changed := Default()
			require.NoError(t, Walk(&changed, func(other Key) error {
				if slices.Equal(other.Path, k.Path) {
					return set(other.Value, value, 10)
				}
				return nil
			}))
			if err := changed.Validate(); err != nil {
				if k.Path[len(k.Path)-1] != "Hard" { // each of the three words is a mistake
					require.NotContains(t, err.Error(), "\n", "one mistake is one problem")
				}
				for line := range strings.SplitSeq(err.Error(), "\n") {
					key, text, _ := strings.Cut(strings.TrimPrefix(line, Section+"."), ": ")
					if key, _, _ = strings.Cut(key, " = "); key != path {
						text = key + ": " + text
					}
					if len(value) > 4 { // which is quoted, and no part of another number
						text = strings.ReplaceAll(text, value, "…")
					}
					said[text] = append(said[text], fmt.Sprintf("%q", value))
				}
			}
		}
		for _, text := range slices.Sorted(maps.Keys(said)) {
			fmt.Fprintf(&b, "%s\n\t%s: %s\n", path, strings.Join(said[text], " "), text)
		}
		return nil
	}))
	golden(t, "testdata/bounds", b.String())
}

func strange(kind reflect.Kind) []string {
	switch kind {
	case reflect.Int:
		return []string{fmt.Sprint(math.MinInt32), "-1", "0", fmt.Sprint(math.MaxInt32)}
	case reflect.Float64:
		return []string{"-1e300", "0", "1e300", "NaN"}
	case reflect.String:
		return []string{"", "-1h", "1000000h", "1ns", "no such word"}
	}
	return nil
}
