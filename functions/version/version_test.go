package version

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// The commit is the repository's, marked if the source was changed, and never empty.
func TestCommit(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for _, c := range []struct {
		build *debug.BuildInfo
		want  string
	}{
		{nil, "unknown"},
		{&debug.BuildInfo{}, "unknown"},
		{&debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.modified", "true")}}, "unknown"},
		{&debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.revision", "abc")}}, "abc"},
		{&debug.BuildInfo{Settings: []debug.BuildSetting{setting("vcs.revision", "0123456789abcdef"), setting("vcs.modified", "true")}}, "0123456789ab-dirty"},
	} {
		require.Equal(t, c.want, commitOf(c.build))
	}
	require.Regexp(t, `^lab 0\.0\.0, commit \S+, go\S+ \w+/\w+$`, Line("lab"))
}
