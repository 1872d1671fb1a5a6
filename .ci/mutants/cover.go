package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reach is the coverage of a folder's tests, measured once and stored in the user's cache folder. Lines are valid while their file is unchanged; of a
// changed file, functions stay valid. A test is measured again when its file changes.
type reach struct {
	Hash     string // of the folder's tests
	Children bool   // tests start processes, whose coverage is missing
	Files    map[string]*source
	Tests    []*reached // in the order of -test.list
	Failed   []string   // without any mutation
}

// source is a file at the time of the measurement.
type source struct {
	Hash   string
	Blocks []span          // all blocks of the coverage
	Funcs  map[string]span // by name, including the receiver
}

type span struct{ From, To int } // lines, inclusive

func (s span) holds(line int) bool { return s.From <= line && line <= s.To }

// reached is the coverage of one test.
type reached struct {
	Name    string
	File    string // hash of the file that declares it
	Seconds float64
	Blocks  map[string][]span // by file below the module's folder
}

// slowest is the maximum duration of a test; slower tests are not run.
const slowest = time.Minute

// reachOf measures the tests of a folder, or loads an earlier measurement.
func (w *worker) reachOf(ctx context.Context, dir string) (*reach, error) {
	hash, children, err := hashTests(dir)
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	name, err := filepath.Rel(w.root, dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cache, "app-offload-mutants", strings.ReplaceAll(name, "/", "_")+".json")
	r := &reach{Hash: hash, Children: children, Files: map[string]*source{}}
	if raw, err := os.ReadFile(path); err == nil {
		before := &reach{}
		if json.Unmarshal(raw, before) == nil {
			r.keep(w.root, dir, before)
			if before.Hash == hash {
				r.Failed = before.Failed
				return r, nil
			}
		}
	}
	if err := w.measure(ctx, dir, r); err != nil {
		return nil, fmt.Errorf("measuring what the tests in %s run: %w", dir, err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return nil, err
	}
	return r, os.Rename(path+".new", path)
}

// hashTests also reports whether the tests start processes.
func hashTests(dir string) (hash string, children bool, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return "", false, err
	}
	h := sha256.New()
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return "", false, err
		}
		_, _ = h.Write(raw)
		for _, sign := range []string{"os.Args[0]", "os.Executable()", `exec.Command("go"`, `"go", "build"`} {
			children = children || bytes.Contains(raw, []byte(sign))
		}
	}
	return hex.EncodeToString(h.Sum(nil)), children, nil
}

// keep reuses the measurement of tests with unchanged files. Of changed or removed product files it keeps whole functions, in their current file of
// the folder.
func (r *reach) keep(root, dir string, before *reach) {
	declared := declaredIn(dir)
	changed := map[string]*source{}
	folders := map[string]bool{}
	for file, old := range before.Files {
		now, err := readSource(filepath.Join(root, file))
		if err == nil && now.Hash == old.Hash {
			r.Files[file] = old
			continue
		}
		changed[file] = old
		folders[filepath.Dir(file)] = true
	}
	for folder := range folders {
		r.readFolder(root, folder)
	}
	for _, t := range before.Tests {
		if t.File == "" || declared[t.Name] != t.File {
			continue
		}
		moved := map[string][]span{} // separate, since a file that receives functions may have changed as well
		for file, old := range changed {
			for name := range old.reached(t.Blocks[file]) {
				if at, is := r.find(filepath.Dir(file), name); is != (span{}) {
					moved[at] = append(moved[at], is)
				}
			}
			delete(t.Blocks, file)
		}
		for file, blocks := range moved {
			t.Blocks[file] = append(t.Blocks[file], blocks...)
		}
		r.Tests = append(r.Tests, t)
	}
}

// readFolder reads the product files of a folder that have not been read yet.
func (r *reach) readFolder(root, folder string) {
	files, _ := filepath.Glob(filepath.Join(root, folder, "*.go"))
	for _, path := range files {
		file := filepath.Join(folder, filepath.Base(path))
		if s, err := readSource(path); err == nil && r.Files[file] == nil && !strings.HasSuffix(path, "_test.go") {
			r.Files[file] = s
		}
	}
}

// find returns the current place of a function of a folder.
func (r *reach) find(folder, name string) (file string, is span) {
	for file, s := range r.Files {
		if is, there := s.Funcs[name]; there && filepath.Dir(file) == folder {
			return file, is
		}
	}
	return "", span{}
}

// reached returns the functions that contain the blocks.
func (s *source) reached(blocks []span) map[string]bool {
	found := map[string]bool{}
	for name, was := range s.Funcs {
		if slices.ContainsFunc(blocks, func(b span) bool { return was.holds(b.From) }) {
			found[name] = true
		}
	}
	return found
}

// declaredIn returns the hash of the file of each test of a folder.
func declaredIn(dir string) map[string]string {
	declared := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
	for _, f := range files {
		if s, err := readSource(f); err == nil {
			for name := range s.Funcs {
				declared[name] = s.Hash
			}
		}
	}
	return declared
}

// measure runs each test of a folder alone, with coverage of the module's packages that it is built from.
func (w *worker) measure(ctx context.Context, dir string, r *reach) error {
	began := time.Now()
	list := exec.CommandContext(ctx, "go", "list", "-test", "-deps", "-f", "{{if not .ForTest}}{{.ImportPath}}{{end}}", dir)
	list.Dir = w.root
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("listing their imports: %w", err)
	}
	var own []string
	for _, p := range strings.Fields(string(out)) {
		if strings.HasPrefix(p, w.module+"/") && !strings.HasSuffix(p, ".test") {
			own = append(own, p)
		}
	}
	if err := w.build(ctx, dir, w.binary(), "-covermode=set", "-coverpkg="+strings.Join(own, ",")); err != nil {
		return err
	}
	profile := filepath.Join(w.dir, "profile")
	names := w.run(ctx, dir, mutant{}, w.binary(), slowest, []string{"-test.list", "."})
	declared, known, all := declaredIn(dir), map[string]*reached{}, r.Tests
	for _, t := range all {
		known[t.Name] = t
	}
	r.Tests = nil
	fresh := 0
	for _, test := range strings.Fields(names.said) {
		if !slices.ContainsFunc([]string{"Test", "Fuzz", "Example"}, func(kind string) bool { return strings.HasPrefix(test, kind) }) {
			continue
		}
		if t := known[test]; t != nil {
			r.Tests = append(r.Tests, t)
			continue
		}
		fresh++
		args := []string{"-test.run", "^" + test + "$", "-test.coverprofile", profile}
		most := slowest
		if long(dir) {
			most *= 5
		}
		got := w.run(ctx, dir, mutant{}, w.binary(), most, args)
		if got.outcome != alive {
			got = w.run(ctx, dir, mutant{}, w.binary(), most, args)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if got.outcome != alive {
			fmt.Printf("%s in %s fails without any mutation and is skipped: %s\n%s\n", test, dir, got.by, last(got.said, 1000))
			r.Failed = append(r.Failed, test)
			continue
		}
		t := &reached{Name: test, File: declared[test], Seconds: got.took.Seconds(), Blocks: map[string][]span{}}
		if err := r.read(w, profile, t); err != nil {
			return err
		}
		r.Tests = append(r.Tests, t)
	}
	fmt.Printf("measured %d of %d tests in %s in %.0f s\n", fresh, len(r.Tests)+len(r.Failed), dir, time.Since(began).Seconds())
	return nil
}

// read adds a profile: a line for each block, "PACKAGE/FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT".
func (r *reach) read(w *worker, profile string, t *reached) error {
	raw, err := os.ReadFile(profile)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	bare := map[string]bool{} // files without known blocks
	for lines.Scan() {
		path, rest, ok := strings.Cut(strings.TrimPrefix(lines.Text(), w.module+"/"), ".go:")
		fields := strings.FieldsFunc(rest, func(c rune) bool { return c == '.' || c == ',' || c == ' ' })
		if !ok || len(fields) != 6 {
			continue
		}
		from, err1 := strconv.Atoi(fields[0])
		to, err2 := strconv.Atoi(fields[2])
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("reading %q: %w", lines.Text(), err)
		}
		file := path + ".go"
		if r.Files[file] == nil {
			if r.Files[file], err = readSource(filepath.Join(w.root, file)); err != nil {
				return err
			}
		}
		if bare[file] = bare[file] || r.Files[file].Blocks == nil; bare[file] {
			r.Files[file].Blocks = append(r.Files[file].Blocks, span{from, to})
		}
		if fields[5] != "0" {
			t.Blocks[file] = append(t.Blocks[file], span{from, to})
		}
	}
	return lines.Err()
}

func readSource(path string) (*source, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, path, raw, 0)
	if err != nil {
		return nil, err
	}
	s := &source{Hash: hashOf(raw), Funcs: map[string]span{}}
	for _, d := range tree.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			at, end := set.Position(f.Recv.List[0].Type.Pos()).Offset, set.Position(f.Recv.List[0].Type.End()).Offset
			name = string(raw[at:end]) + "." + name
		}
		s.Funcs[name] = span{set.Position(f.Pos()).Line, set.Position(f.End()).Line}
	}
	return s, nil
}

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// at returns the tests that run the mutated line. If coverage does not know the line, such as the expressions of a case, it returns the tests that
// run its function; outside functions, all tests.
func (r *reach) at(m *mutation) ([]*reached, error) {
	old := r.Files[m.name()]
	if old == nil {
		return nil, nil // not in the binary
	}
	now, err := readSource(m.file)
	if err != nil {
		return nil, err
	}
	name := ""
	for f, s := range now.Funcs {
		if s.holds(m.line) {
			name = f
		}
	}
	if name == "" {
		return r.Tests, nil
	}
	wanted, known := old.Funcs[name]
	if !known {
		return r.Tests, nil
	}
	if now.Hash == old.Hash && !strings.HasPrefix(m.code, "case ") && slices.ContainsFunc(old.Blocks, func(s span) bool { return s.holds(m.line) }) {
		wanted = span{m.line, m.line}
	}
	var found []*reached
	for _, t := range r.Tests {
		if slices.ContainsFunc(t.Blocks[m.name()], func(s span) bool { return s.From <= wanted.To && wanted.From <= s.To }) {
			found = append(found, t)
		}
	}
	return found, nil
}
