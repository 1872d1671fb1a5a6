package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// product has functions with all kinds of parameters, and some that are not copied.
const product = `package main

type box[T any] struct{ v int }

func (b *box[T]) add(n int, _ string, more ...int) (sum int) { return b.v + n + len(more) }
func (box[T]) one(int, string) int                           { return 3 + 4 }
func pick[K comparable, V any](k, _ K, v V) int              { return 5 + 6 }
func nothing(at *int)                                        { *at += 7 }
func safe() int                                              { _ = recover(); return 8 + 9 }
func text() (s string)                                       { s += "x"; return s }
func init()                                                  { start += 10 }

var start int

func main() {
	var n int
	nothing(&n)
	print((&box[int]{v: 4}).add(3, "", 5, 6), " ", box[string]{}.one(3, ""), " ", pick("", "", 3), " ", n, " ", safe(), text(), start)
}
`

// printed is the program's output with each of its mutations; "alone" are those that are not built with the others.
var printed = []string{
	"+ => -: 5 7 11 7 17x10", "+ => -: 3 7 11 7 17x10", // 4+3-2 and 4-3+2
	"+ => -: 9 -1 11 7 17x10",
	"+ => -: 9 7 -1 7 17x10",
	"+= => -=: 9 7 11 -7 17x10", "*at += 7 => (nothing): 9 7 11 0 17x10",
	"_ = recover() => (nothing): alone", "+ => -: alone",
	"+= => -=: does not compile", `s += "x" => (nothing): 9 7 11 7 1710`,
	"+= => -=: alone", "start += 10 => (nothing): alone",
	"nothing(&n) => (nothing): 9 7 11 0 17x10", "print => (nothing): ",
}

// TestSchemata builds all mutations of a program together and runs it with each.
func TestSchemata(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	for name, text := range map[string]string{"go.mod": "module mutated\n\ngo 1.26\n", "main.go": product} {
		must(t, os.WriteFile(name, []byte(text), 0o600))
	}
	p := &pkg{Dir: dir, ImportPath: "mutated", GoFiles: []string{"main.go"}, root: dir}
	all, err := p.mutations()
	must(t, err)
	check, err := newChecker(t.Context(), all)
	must(t, err)
	some, err := sample(all, options{n: len(all)}, check, &saved{}, nil)
	must(t, err)
	s, err := newSchemata(filepath.Join(dir, "schemata"), check, some)
	must(t, err)
	t.Setenv("GOFLAGS", "-overlay="+s.overlay) // as for tests that build programs
	if out, err := exec.Command("go", "build", ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var have []string
	for i := range all {
		m, prints := &all[i], "alone"
		if !slices.Contains(some, m) {
			prints = "does not compile"
		} else if s.id[m] > 0 {
			cmd := exec.Command("./mutated")
			cmd.Env = append(os.Environ(), fmt.Sprintf("MUTANT=%d", s.id[m]))
			out, err := cmd.CombinedOutput()
			must(t, err)
			prints = string(out)
		}
		before, _, _ := strings.Cut(oneLine(m.before), "((&box")
		have = append(have, before+" => "+oneLine(m.after)+": "+prints)
	}
	if !slices.Equal(have, printed) {
		t.Errorf("have\n%q\nwant\n%q", have, printed)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
