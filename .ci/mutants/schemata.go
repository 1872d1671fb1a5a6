package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"sync"
)

// schemata are the mutations of a sample that are built together, so that the tests of a folder are built once for all of them. Each mutation has a
// copy of its function, and the function begins with a switch that calls the copy selected by the environment variable MUTANT.
type schemata struct {
	dir     string
	overlay string            // for go build: files with copies that replace those of the tree
	id      map[*mutation]int // the value of MUTANT, above 0
	mu      sync.Mutex
	tests   map[string]*tests // by folder
}

// tests are the tests of a folder, built with the schemata.
type tests struct {
	once   sync.Once
	binary string
	err    error
}

// chooser declares the number of the selected mutation in a package.
const chooser = `package %s

import (
	"os"
	"strconv"
)

var mutant__now, _ = strconv.Atoi(os.Getenv("MUTANT"))
`

// newSchemata writes the files with copies to dir. Mutations that cannot be copied, and all mutations of a package that does not compile with copies,
// have no id; they are built separately.
func newSchemata(dir string, c *checker, sample []*mutation) (*schemata, error) {
	s := &schemata{dir: dir, overlay: filepath.Join(dir, "overlay.json"), id: map[*mutation]int{}, tests: map[string]*tests{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating a folder for the schemata: %w", err)
	}
	of := map[*pkg][]*mutation{}
	for i, m := range sample {
		of[m.of] = append(of[m.of], m)
		s.id[m] = i + 1
	}
	replace := map[string]string{}
	for p, list := range of {
		texts, err := s.copies(c, p, list)
		if err != nil {
			return nil, err
		}
		if err := c.check(p, texts); err != nil {
			fmt.Printf("the mutations of %s are built one by one, as they do not compile together: %v\n", p.ImportPath, err)
			for _, m := range list {
				delete(s.id, m)
			}
			continue
		}
		for path, text := range texts {
			replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
			if err := os.WriteFile(replace[path], text, 0o600); err != nil {
				return nil, err
			}
		}
	}
	return s, writeOverlay(s.overlay, replace)
}

func writeOverlay(path string, replace map[string]string) error {
	raw, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// copies returns the texts of a package's files with copies, by path. A mutation that cannot be copied loses its id.
func (s *schemata) copies(c *checker, p *pkg, list []*mutation) (map[string][]byte, error) {
	sheets := map[string]*sheet{}
	texts := map[string][]byte{}
	for _, m := range list {
		if sheets[m.file] == nil {
			text, err := os.ReadFile(m.file)
			if err != nil {
				return nil, err
			}
			tree, err := c.tree(m.file)
			if err != nil {
				return nil, err
			}
			sheets[m.file] = &sheet{tree: tree, at: c.set.File(tree.Pos()).Offset, text: text, cases: map[*ast.FuncDecl]string{}}
		}
		f := sheets[m.file]
		fn := f.around(m)
		if fn == nil {
			delete(s.id, m)
			continue
		}
		f.add(m, fn, s.id[m])
		texts[filepath.Join(p.Dir, "zz_mutant_now.go")] = fmt.Appendf(nil, chooser, f.tree.Name.Name)
	}
	for path, f := range sheets {
		if len(f.cases) > 0 {
			texts[path] = f.joined()
		}
	}
	return texts, nil
}

// build compiles the tests of a folder, once for all workers.
func (s *schemata) build(ctx context.Context, w *worker, dir string) (binary string, err error) {
	s.mu.Lock()
	t := s.tests[dir]
	if t == nil {
		t = &tests{binary: filepath.Join(s.dir, fmt.Sprintf("tests-%d", len(s.tests)))}
		s.tests[dir] = t
	}
	s.mu.Unlock()
	t.once.Do(func() {
		if t.err = w.build(ctx, dir, t.binary, "-overlay="+s.overlay); t.err != nil {
			fmt.Printf("mutations are built one by one: %v\n", t.err)
		}
	})
	return t.binary, t.err
}
