package functions

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Late binding is optional: without its folder and the file that connects it to the pipeline, and without the three lines that name its stage, its
// start and its policy, the service builds.
func TestTheServiceBuildsWithoutLateBinding(t *testing.T) {
	replace := map[string]string{}
	gone := func(path string) {
		at, err := filepath.Abs(path)
		require.NoError(t, err)
		replace[at] = ""
	}
	files, err := filepath.Glob("wait/*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range append(files, "park.go") {
		gone(file)
	}
	for file, part := range map[string]string{
		"pipeline.go": "\t\tp.parker.park, // park: durable and undecided\n", "service.go": ", s.openParking", "policy/list.go": "\t\t{deferInfo, newDefer},\n",
	} {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(raw), part), "%s has %q", file, part)
		at, err := filepath.Abs(file)
		require.NoError(t, err)
		replace[at] = filepath.Join(t.TempDir(), filepath.Base(file))
		require.NoError(t, os.WriteFile(replace[at], []byte(strings.Replace(string(raw), part, "", 1)), 0o600))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	out, err := exec.Command("go", "build", "-overlay", file, ".", "../cmd/app-offload").CombinedOutput()
	require.NoError(t, err, string(out))
	deps, err := exec.Command("go", "list", "-overlay", file, "-deps", "../cmd/app-offload").Output()
	require.NoError(t, err)
	require.Contains(t, string(deps), "app-offload/functions/decide\n")
	require.NotContains(t, string(deps), "app-offload/functions/wait\n")
}
