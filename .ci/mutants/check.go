package main

import (
	"context"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// checker type-checks packages with mutations, without a build. It is safe for concurrent use.
type checker struct {
	mu       sync.Mutex
	set      *token.FileSet
	imports  types.Importer
	trees    map[string]*ast.File // by path, without mutations
	verdicts map[*mutation]bool
}

func newChecker(ctx context.Context, all []mutation) (*checker, error) {
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", "os", "strconv"} // the imports of chooser
	for i := range all {
		if path := all[i].of.ImportPath; !slices.Contains(args, path) {
			args = append(args, path)
		}
	}
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("listing the packages' types: %w", err)
	}
	export := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		export[path] = file
	}
	c := &checker{set: token.NewFileSet(), trees: map[string]*ast.File{}, verdicts: map[*mutation]bool{}}
	c.imports = importer.ForCompiler(c.set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(export[path]) })
	return c, nil
}

// compiles reports whether a single mutation passes the type check.
func (c *checker) compiles(m *mutation) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok, known := c.verdicts[m]; known {
		return ok, nil
	}
	text, err := m.text()
	if err != nil {
		return false, err
	}
	c.verdicts[m] = c.check(m.of, map[string][]byte{m.file: text}) == nil
	return c.verdicts[m], nil
}

// check type-checks a package with some of its files replaced or added.
func (c *checker) check(p *pkg, instead map[string][]byte) error {
	var trees []*ast.File
	for path, text := range instead {
		tree, err := parser.ParseFile(c.set, path, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		trees = append(trees, tree)
	}
	for _, name := range p.GoFiles {
		path := filepath.Join(p.Dir, name)
		if instead[path] != nil {
			continue
		}
		tree, err := c.tree(path)
		if err != nil {
			return err
		}
		trees = append(trees, tree)
	}
	_, err := (&types.Config{Importer: c.imports}).Check(p.ImportPath, c.set, trees, nil)
	return err
}

// tree parses a file once.
func (c *checker) tree(path string) (*ast.File, error) {
	if c.trees[path] == nil {
		tree, err := parser.ParseFile(c.set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		c.trees[path] = tree
	}
	return c.trees[path], nil
}
