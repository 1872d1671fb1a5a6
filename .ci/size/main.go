// size prints the size of the code: for each package its code lines, files, exported names, the share of its unexported functions that another file
// of the package uses, the pairs of its files that call each other, and its longest file. Code lines hold at least one token: blank lines and comment
// lines do not count. Product, test support and tests are counted separately; test support is everything under cmd/internal and packages that no
// program links.
//
//	size                 the table
//	size -against FILE   the table, and the change of each total against a table printed before
//	size -pairs          the pairs of files that call each other, with the functions
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	against := flag.String("against", "", "a `file` with an earlier table to compare with")
	pairs := flag.Bool("pairs", false, "list the pairs of files that call each other")
	flag.Parse()
	if err := run(os.Stdout, *against, *pairs); err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, against string, pairs bool) error {
	packages, err := load()
	if err != nil {
		return err
	}
	rows := make([]row, 0, len(packages.own))
	for _, p := range packages.own {
		r, err := measure(p, packages)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", p.ImportPath, err)
		}
		rows = append(rows, r)
	}
	if pairs {
		printPairs(w, rows)
		return nil
	}
	var table bytes.Buffer
	sums := print(&table, rows)
	if _, err := w.Write(table.Bytes()); err != nil {
		return err
	}
	if against == "" {
		return nil
	}
	return compare(w, against, sums)
}

// listed is the part of `go list -json` that this tool reads.
type listed struct {
	ImportPath, Dir, Name, Export string
	GoFiles                       []string
	TestGoFiles, XTestGoFiles     []string
	Standard                      bool
	Module                        *struct{ Main bool }
}

type packages struct {
	own    []listed
	export map[string]string // import path to file of export data
	linked map[string]bool   // by a program
}

// load lists the module's packages, with the export data of all imports. It builds missing packages.
func load() (packages, error) {
	ps := packages{export: map[string]string{}, linked: map[string]bool{}}
	own, err := list("./...")
	if err != nil {
		return ps, err
	}
	all, err := list("-deps", "-export", "./...")
	if err != nil {
		return ps, err
	}
	for _, p := range all {
		ps.export[p.ImportPath] = p.Export
	}
	var programs []string
	for _, p := range own {
		if p.Name == "main" && !strings.Contains(p.ImportPath, "/e2e") {
			programs = append(programs, p.ImportPath)
		}
	}
	linked, err := list(append([]string{"-deps"}, programs...)...)
	if err != nil {
		return ps, err
	}
	for _, p := range linked {
		ps.linked[p.ImportPath] = true
	}
	ps.own = own
	return ps, nil
}

func list(args ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Name,Export,GoFiles,TestGoFiles,XTestGoFiles,Standard,Module"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", strings.Join(args, " "), err)
	}
	var ps []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps, nil
		} else if err != nil {
			return nil, fmt.Errorf("reading the output of go list: %w", err)
		}
		ps = append(ps, p)
	}
}

// row is one line of the table.
type row struct {
	name                string
	support             bool
	lines, files, tests int
	exported            int
	unexported, across  int      // functions and methods; those used by another file of the package
	mutual              []string // pairs of files that call each other's functions
	longest             int
	longestFile         string
}

func measure(p listed, all packages) (row, error) {
	r := row{name: strings.TrimPrefix(p.ImportPath, "app-offload/"), files: len(p.GoFiles)}
	r.support = strings.HasPrefix(r.name, "cmd/internal/") || !all.linked[p.ImportPath]
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, lines, err := read(fset, filepath.Join(p.Dir, name))
		if err != nil {
			return r, err
		}
		files = append(files, f)
		r.lines += lines
		if lines > r.longest {
			r.longest, r.longestFile = lines, name
		}
	}
	for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
		_, lines, err := read(fset, filepath.Join(p.Dir, name))
		if err != nil {
			return r, err
		}
		r.tests += lines
	}
	for _, f := range files {
		r.exported += exportedNames(f)
	}
	return r, r.acrossFiles(fset, p.ImportPath, files, all.export)
}

// read parses a file and counts its code lines.
func read(fset *token.FileSet, path string) (*ast.File, int, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	f, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
	return f, codeLines(src), err
}

func codeLines(src []byte) int {
	fset := token.NewFileSet()
	file := fset.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, 0)
	count, last := 0, 0
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return count
		}
		if tok == token.SEMICOLON && lit == "\n" { // inserted by the scanner
			continue
		}
		first := file.Line(pos)
		end := first + strings.Count(lit, "\n") // a raw string has several lines
		count += end - max(first-1, last)
		last = end
	}
}

// exportedNames counts the exported functions, methods of exported types, types, constants and variables of a file.
func exportedNames(f *ast.File) int {
	count := 0
	add := func(name *ast.Ident) {
		if name.IsExported() {
			count++
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
				add(d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					add(s.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						add(name)
					}
				}
			}
		}
	}
	return count
}

func receiver(e ast.Expr) string {
	for {
		switch t := e.(type) {
		case *ast.StarExpr:
			e = t.X
		case *ast.IndexExpr:
			e = t.X
		case *ast.IndexListExpr:
			e = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

// acrossFiles counts the unexported functions and methods of a package, those used by another file, and the pairs of files that call each other.
func (r *row) acrossFiles(fset *token.FileSet, path string, files []*ast.File, export map[string]string) error {
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if export[path] == "" {
			return nil, fmt.Errorf("no export data for %s", path)
		}
		return os.Open(export[path])
	})
	info := types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	if _, err := (&types.Config{Importer: imports}).Check(path, fset, files, &info); err != nil {
		return fmt.Errorf("checking types: %w", err)
	}
	home := map[*types.Func]string{}
	for ident, object := range info.Defs {
		f, ok := object.(*types.Func)
		if ok && f.Name() != "init" && f.Name() != "main" && f.Name() != "_" && !abstract(f) {
			home[f] = fset.Position(ident.Pos()).Filename
			if !f.Exported() {
				r.unexported++
			}
		}
	}
	type call struct{ from, to string }
	used, calls := map[*types.Func]bool{}, map[call][]string{}
	for ident, object := range info.Uses {
		f, ok := object.(*types.Func)
		if !ok {
			continue
		}
		f = f.Origin()
		from := fset.Position(ident.Pos()).Filename
		if at, own := home[f]; own && from != at {
			c := call{filepath.Base(from), filepath.Base(at)}
			if !slices.Contains(calls[c], f.Name()) {
				calls[c] = append(calls[c], f.Name())
			}
			used[f] = !f.Exported()
		}
	}
	for _, private := range used {
		if private {
			r.across++
		}
	}
	for c := range calls {
		if back := calls[call{c.to, c.from}]; c.from < c.to && back != nil {
			r.mutual = append(r.mutual, fmt.Sprintf("%s: %s calls %s of %s, which calls %s", r.name, c.from, names(calls[c]), c.to, names(back)))
		}
	}
	slices.Sort(r.mutual)
	return nil
}

func names(functions []string) string {
	slices.Sort(functions)
	return strings.Join(functions, ", ")
}

// abstract reports whether a method is only declared by an interface.
func abstract(f *types.Func) bool {
	recv := f.Signature().Recv()
	return recv != nil && types.IsInterface(recv.Type())
}
