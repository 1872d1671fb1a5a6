// Package version says which build of the programs this is. It is a leaf.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// Set by the linker; see the Makefile. Without it, what the Go command itself noted stands in.
var (
	number = ""
	commit = ""
)

// Info is one build.
type Info struct {
	Version string `json:"version"` // such as v1.2.0, "0.0.0" in a build that was given none
	Commit  string `json:"commit"`  // of the source, with "-dirty" where it was changed; "unknown" in a build outside of a repository
	Go      string `json:"go"`
}

// Get is this build.
var Get = sync.OnceValue(func() Info {
	i := Info{Version: number, Commit: commit, Go: runtime.Version()}
	build, _ := debug.ReadBuildInfo()
	if i.Commit == "" {
		i.Commit = commitOf(build)
	}
	if i.Version == "" {
		i.Version = "0.0.0"
	}
	return i
})

// commitOf is the commit that the Go command found at the build.
func commitOf(build *debug.BuildInfo) string {
	commit, dirty := "unknown", ""
	if build == nil {
		return commit
	}
	for _, s := range build.Settings {
		switch {
		case s.Key == "vcs.revision" && s.Value != "":
			commit = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if commit == "unknown" {
		return commit
	}
	return commit + dirty
}

// Line is what the verb version of a program prints.
func Line(program string) string {
	i := Get()
	return fmt.Sprintf("%s %s, commit %s, %s %s/%s", program, i.Version, i.Commit, i.Go, runtime.GOOS, runtime.GOARCH)
}
