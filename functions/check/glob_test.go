package check_test

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check"
)

func TestGlobsMatchNamesNotPaths(t *testing.T) {
	for _, row := range []struct {
		glob, name string
		want       bool
	}{
		{"hall*", "hall/cam-1", true}, // EdgeX allows a slash in names
		{"hall*", "hall", true},
		{"hall*", "Hall/cam-1", false},
		{"*cam-?", "hall/a/b/cam-1", true},
		{"hall?cam", "hall/cam", true},
		{"hall[#/ ]cam", "hall/cam", true},
		{"hall[^x]cam", "hall/cam", true},
		{"* *", "press 1", true},
		{"line#*", "line#7/a", true},
		{`a\*b`, "a*b", true},
		{`a\*b`, "axb", false},
		{"ü?*", "üß", true},
		{"*", "", true},
		{"", "", true},
		{"?", "", false},
		{"a*b*c", "a/b/b/c", true},
		{"a*b*c", "a/b/b/cd", false},
		{"**", "x/y", true},
	} {
		require.Equal(t, row.want, check.Matches(row.glob, row.name), "%q on %q", row.glob, row.name)
		require.NoError(t, check.Glob(row.glob), row.glob)
	}
}

// A pattern that matches nothing would let everything leave that was meant to stay.
func TestGlobsThatMatchNothingAreMistakes(t *testing.T) {
	for _, glob := range []string{
		"[", "a[b", "[]", "[^]", "[a-]", "[a-]]", "[a--]", "[a-", "[a--z]", "[-a]", `a\`, "[z-a]*", "[a-cz-x]", "[^ -\U0010ffff]", "[^\x00-\U0010ffff]x",
		"^Camera.*$", "^Camera", "Camera$", `cam-\d`, `hall\cam`, ".*Camera", ".+", "(?i)cam", "(hall|yard)*", "{hall,yard}*",
		" hall*", "hall* ", "hall*\n", "\xff*", "a[\xff]",
	} {
		require.Error(t, check.Glob(glob), "%q", glob)
		if strings.Contains(glob, "\xff") {
			require.False(t, check.Matches(glob, strings.ReplaceAll(glob, "\xff", "\uFFFD")), "%q", glob)
		}
	}
	for _, glob := range []string{"pump.*", `\^Camera\$`, "[$^]x", "Pump (old)*", "a|b", "50%*", "a,b", `hall\\cam`, "price[$]", "hall #1/*", "[^ -~]x", "[^!-\U0010ffff]"} {
		require.NoError(t, check.Glob(glob), "%q", glob)
	}
}

// On names without a slash the result is that of Go's path.Match, for patterns that both can read.
func FuzzMatches(f *testing.F) {
	f.Add("a*[b-d]?", "axxcz")
	f.Add(`\**[^a]`, "*bb")
	f.Add("*a*b*c*d*", strings.Repeat("ab", 20))
	f.Fuzz(func(t *testing.T, glob, name string) {
		have, invalid := check.Matches(glob, name), check.Glob(glob)
		if invalid != nil || strings.Contains(name, "/") || strings.Contains(glob, "/") {
			return
		}
		want, err := path.Match(glob, name)
		if err == nil && want != have && !strings.Contains(glob, "-") { // a range may reach over the slash
			t.Fatalf("%q on %q is %v, path.Match says %v", glob, name, have, want)
		}
	})
}
