package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// pkg is a package in go list's description.
type pkg struct {
	Dir, ImportPath                             string
	GoFiles, Imports, TestImports, XTestImports []string
	TestGoFiles, XTestGoFiles                   []string
	Module                                      struct{ Dir string }
	root                                        string   // the module's folder
	tests                                       []string // folders whose tests may notice a mutation, nearest first
}

// support lists packages that are used only by tests, or only tested by a whole system.
var support = []string{"/browsertest", "/pgtest", "/edgetest", "/mosquittotest", "/e2e", "/canary", "/badlink", "/freeport"}

func supports(path string) bool {
	return slices.ContainsFunc(support, func(s string) bool { return strings.Contains(path+"/", s+"/") })
}

// load lists the product's packages that match the patterns, with the tests to run.
func load(ctx context.Context, patterns []string) ([]*pkg, error) {
	all, err := list(ctx, []string{"./cmd/...", "./functions/..."})
	if err != nil {
		return nil, err
	}
	wanted := all
	if len(patterns) > 0 {
		if wanted, err = list(ctx, patterns); err != nil {
			return nil, err
		}
	}
	var found []*pkg
	for _, p := range wanted {
		p.root = p.Module.Dir
		if supports(p.ImportPath) {
			continue
		}
		if p.tests = p.triedBy(all); len(p.tests) > 0 {
			found = append(found, p)
		} else {
			fmt.Printf("no test tries %s\n", p.ImportPath)
		}
	}
	return found, nil
}

func list(ctx context.Context, patterns []string) ([]*pkg, error) {
	const fields = "-json=Dir,ImportPath,GoFiles,Imports,TestImports,XTestImports,TestGoFiles,XTestGoFiles,Module"
	out, err := exec.CommandContext(ctx, "go", append([]string{"list", fields}, patterns...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("listing the packages %v: %w", patterns, err)
	}
	var found []*pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &pkg{}
		if err := decoder.Decode(p); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the output of go list: %w", err)
		}
		found = append(found, p)
	}
}

// triedBy returns the folders whose tests may notice a mutation of the package: its own, or the nearest above with tests, and those of packages that
// import it, by distance.
func (p *pkg) triedBy(all []*pkg) (dirs []string) {
	tested := map[string]bool{}
	for _, q := range all {
		tested[q.Dir] = len(q.TestGoFiles)+len(q.XTestGoFiles) > 0 && !supports(q.ImportPath)
	}
	add := func(dir string) {
		if tested[dir] && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for dir := p.Dir; strings.HasPrefix(dir, p.root+"/") && len(dirs) == 0; dir = filepath.Dir(dir) {
		add(dir)
	}
	reached := []string{p.ImportPath}
	for i := 0; i < len(reached); i++ {
		for _, q := range all {
			if slices.Contains(reached, q.ImportPath) {
				continue
			}
			if slices.Contains(q.Imports, reached[i]) {
				reached = append(reached, q.ImportPath)
				add(q.Dir)
			} else if slices.Contains(q.TestImports, reached[i]) || slices.Contains(q.XTestImports, reached[i]) {
				add(q.Dir) // importers of q do not see the mutation through its tests
			}
		}
	}
	return dirs
}
