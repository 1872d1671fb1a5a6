package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type outcome string

const (
	killed     outcome = "killed"
	alive      outcome = "lived"
	equivalent outcome = "equivalent"
	broken     outcome = "not compiled"
)

// shared is the measurements and builds shared by all workers.
type shared struct {
	check    *checker
	schemata *schemata
	mu       sync.Mutex
	reach    map[string]*measured
}

type measured struct {
	once  sync.Once
	reach *reach
	err   error
}

// worker runs tests against one mutation at a time, in its own folder.
type worker struct {
	dir, root, module string
	nearest           int     // number of importers whose tests are run
	budget            float64 // seconds of the importers' tests without any mutation
	shared            *shared
}

// mutant selects a mutation in a build: by MUTANT from the schemata, or, if that is 0, by a separate overlay.
type mutant struct {
	overlay string
	id      int
}

// result is the result of a mutation.
type result struct {
	outcome outcome
	by      string // the failed test
	took    time.Duration
	said    string
}

func (w *worker) binary() string { return filepath.Join(w.dir, "tests") }

func (w *worker) reach(ctx context.Context, dir string) (*reach, error) {
	w.shared.mu.Lock()
	m := w.shared.reach[dir]
	if m == nil {
		m = &measured{}
		w.shared.reach[dir] = m
	}
	w.shared.mu.Unlock()
	m.once.Do(func() { m.reach, m.err = w.reachOf(ctx, dir) })
	return m.reach, m.err
}

// try runs the tests that run the mutated line, those of the nearest folder first, until one fails.
func (w *worker) try(ctx context.Context, m *mutation) (result, error) {
	if ok, err := w.shared.check.compiles(m); err != nil || !ok {
		return result{outcome: broken}, err
	}
	began, spent := time.Now(), 0.0
	for _, dir := range m.of.tests[:min(len(m.of.tests), 1+w.nearest)] {
		own := dir == m.of.tests[0]
		r, err := w.reach(ctx, dir)
		if err != nil {
			return result{}, err
		}
		tests, err := r.at(m)
		if err != nil {
			return result{}, err
		}
		groups := bySpeed(tests)
		if own && r.Children { // coverage of the processes is unknown
			rest := slices.DeleteFunc(slices.Clone(r.Tests), func(t *reached) bool { return slices.Contains(tests, t) })
			groups = append(groups, rest)
		}
		if !own {
			groups, spent = w.affordable(groups, spent)
		}
		got := w.notice(ctx, dir, m, groups)
		if ctx.Err() != nil {
			return result{}, ctx.Err()
		}
		if got.outcome != alive {
			got.took = time.Since(began)
			return got, nil
		}
	}
	return result{outcome: alive, took: time.Since(began)}, nil
}

// bySpeed orders fast tests first.
func bySpeed(tests []*reached) [][]*reached {
	var quick, slow []*reached
	for _, t := range tests {
		if t.Seconds < 1 {
			quick = append(quick, t)
		} else {
			slow = append(slow, t)
		}
	}
	return [][]*reached{quick, slow}
}

// affordable drops tests that would exceed the budget of the importers.
func (w *worker) affordable(groups [][]*reached, spent float64) ([][]*reached, float64) {
	var kept [][]*reached
	for _, g := range groups {
		var some []*reached
		for _, t := range g {
			if spent+t.Seconds <= w.budget {
				some, spent = append(some, t), spent+t.Seconds
			}
		}
		kept = append(kept, some)
	}
	return kept, spent
}

// text is the mutated file.
func (m *mutation) text() ([]byte, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", m.file, err)
	}
	return slices.Concat(text[:m.from], []byte(m.after), text[m.to:]), nil
}

// compile builds the tests of a folder with the schemata, or with only the mutation if the schemata lack it or do not build.
func (w *worker) compile(ctx context.Context, dir string, m *mutation) (binary string, mu mutant, err error) {
	s := w.shared.schemata
	if id := s.id[m]; id > 0 {
		if binary, err := s.build(ctx, w, dir); err == nil || ctx.Err() != nil {
			return binary, mutant{s.overlay, id}, err
		}
	}
	text, err := m.text()
	if err != nil {
		return "", mutant{}, err
	}
	file := filepath.Join(w.dir, "mutated.go")
	mu.overlay = filepath.Join(w.dir, "overlay.json")
	if err := errors.Join(os.WriteFile(file, text, 0o600), writeOverlay(mu.overlay, map[string]string{m.file: file})); err != nil {
		return "", mutant{}, fmt.Errorf("writing the mutated file: %w", err)
	}
	return w.binary(), mu, w.build(ctx, dir, w.binary(), "-overlay="+mu.overlay)
}

// build compiles the tests of a folder.
func (w *worker) build(ctx context.Context, dir, binary string, args ...string) error {
	args = append([]string{"test", "-c", "-p=1", "-vet=off", "-ldflags=-s -w", "-o", binary}, append(args, dir)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = w.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the tests in %s: %w\n%s", dir, err, last(string(out), 1000))
	}
	return nil
}

// notice builds the tests of a folder with a mutation and runs groups of them in order.
func (w *worker) notice(ctx context.Context, dir string, m *mutation, groups [][]*reached) result {
	groups = slices.DeleteFunc(groups, func(g []*reached) bool { return len(g) == 0 })
	if len(groups) == 0 {
		return result{outcome: alive}
	}
	binary, mu, err := w.compile(ctx, dir, m)
	if err != nil {
		return result{outcome: broken, said: err.Error()}
	}
	for _, tests := range groups {
		names, seconds := []string{}, 0.0
		for _, t := range tests {
			names, seconds = append(names, t.Name), seconds+t.Seconds
		}
		limit := 10*time.Second + time.Duration(3*seconds*float64(time.Second))
		for len(names) > 0 {
			r := w.run(ctx, dir, mu, binary, limit, only(names))
			if r.outcome == alive || ctx.Err() != nil {
				break
			}
			name := testName.FindString(r.by)
			if w.confirm(ctx, dir, mu, binary, names, name, limit) {
				return r
			}
			if name == "" { // the failed test is unknown
				break
			}
			names = slices.DeleteFunc(names, func(n string) bool { return n == name })
		}
	}
	return result{outcome: alive}
}

// confirm checks that the mutation and not the machine's load made the tests fail: without it they pass within half of the limit, and with it they
// fail or time out again.
func (w *worker) confirm(ctx context.Context, dir string, mu mutant, binary string, names []string, name string, limit time.Duration) bool {
	if name != "" {
		names = []string{name}
	}
	clean, err := w.shared.schemata.build(ctx, w, dir)
	if err != nil {
		return false
	}
	if w.run(ctx, dir, mutant{overlay: w.shared.schemata.overlay}, clean, limit/2, only(names)).outcome != alive {
		fmt.Printf("%s in %s fails without any mutation\n", names, dir)
		return false
	}
	return w.run(ctx, dir, mu, binary, limit, only(names)).outcome == killed
}

func only(names []string) []string {
	return []string{"-test.run", "^(" + strings.Join(names, "|") + ")$"}
}

// memory is the limit of a mutant's memory in KiB. Tests that run programs built with AddressSanitizer, which reserves terabytes, are not limited.
func memory(dir string) string {
	if files, err := filepath.Glob(filepath.Join(dir, "*_test.go")); err == nil {
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && bytes.Contains(text, []byte("fsanitize=address")) {
				return "unlimited"
			}
		}
	}
	return strconv.Itoa(4 << 20)
}

// failed matches the first failed test.
var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|^panic: (.*)|^(fatal error: .*)`)

var testName = regexp.MustCompile(`^(Test|Fuzz|Example)\w*`)

// long reports whether the tests of a folder are run in full: the short mode of the fault injector's tests skips its work.
func long(dir string) bool { return strings.HasSuffix(dir, "/internal/faults") }

// run runs tests in the working directory of go test, in a process group that ends with them. Builds by a test include the mutation as well.
func (w *worker) run(ctx context.Context, dir string, mu mutant, binary string, timeout time.Duration, args []string) result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	short := "-test.short=" + strconv.FormatBool(!long(dir))
	script := fmt.Sprintf(`ulimit -d %s; exec "$0" %s -test.failfast -test.timeout %s "$@"`, memory(dir), short, timeout)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, binary}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(mu.id))
	if mu.overlay != "" {
		cmd.Env = append(cmd.Env, "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+mu.overlay)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // daemons left by a test
	}
	r := result{outcome: alive, took: time.Since(began), said: string(said)}
	switch {
	case ctx.Err() != nil:
		r.outcome, r.by = killed, "timeout"
	case err != nil:
		r.outcome, r.by = killed, "exit"
		if found := failed.FindSubmatch(said); found != nil {
			r.by = last(string(bytes.Join(found[1:], nil)), 100)
		}
		if strings.Contains(r.by, "test timed out") {
			r.by = "timeout"
		}
	}
	return r
}

// last is the end of a text.
func last(text string, n int) string { return text[max(len(text)-n, 0):] }
