// Package version identifies the build of the programs. It imports no other package of this project.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// Set by the linker; see the Makefile. The default is the build information of the Go command.
var (
	number = ""
	commit = ""
)

// Info is one build.
type Info struct {
	Version string `json:"version"` // such as v1.2.0, "0.0.0" in a build without a version
	Commit  string `json:"commit"`  // of the source, with "-dirty" for changed sources; "unknown" in a build outside of a repository
	Go      string `json:"go"`
}

// Get returns this build.
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

// commitOf returns the commit that the Go command recorded.
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

// Line returns the output of a program's verb version.
func Line(program string) string {
	i := Get()
	return fmt.Sprintf("%s %s, commit %s, %s %s/%s", program, i.Version, i.Commit, i.Go, runtime.GOOS, runtime.GOARCH)
}
