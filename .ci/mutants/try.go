package main

import (
	"bytes"
	"context"
	"encoding/json"
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

// shared is what the workers measure once for all of them.
type shared struct {
	mu    sync.Mutex
	reach map[string]*measured
}

type measured struct {
	once  sync.Once
	reach *reach
	err   error
}

// worker runs tests against one mutation at a time, in a folder of its own.
type worker struct {
	dir, root, module string
	nearest           int     // importers whose tests are asked
	budget            float64 // seconds of the importers' tests, as long as they take without any mutation
	shared            *shared
}

// result is what became of a mutation.
type result struct {
	outcome outcome
	by      string // the test that failed
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

// try runs the tests that run the mutated line, those of the nearest folder first, until one notices.
func (w *worker) try(ctx context.Context, m *mutation) (result, error) {
	overlay, err := w.mutate(m)
	if err != nil {
		return result{}, err
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
		if own && r.Children { // what the processes run is not known
			rest := slices.DeleteFunc(slices.Clone(r.Tests), func(t *reached) bool { return slices.Contains(tests, t) })
			groups = append(groups, rest)
		}
		if !own {
			groups, spent = w.affordable(groups, spent)
		}
		got := w.notice(ctx, dir, overlay, groups, own)
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

// bySpeed has the quick tests run first.
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

// affordable leaves tests out that would take the importers beyond the budget.
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

// mutate writes the mutated file, and the overlay that puts it in the place of the one in the tree.
func (w *worker) mutate(m *mutation) (overlay string, err error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", m.file, err)
	}
	changed := slices.Concat(text[:m.from], []byte(m.after), text[m.to:])
	file := filepath.Join(w.dir, "mutated.go")
	overlay = filepath.Join(w.dir, "overlay.json")
	raw, err := json.Marshal(map[string]map[string]string{"Replace": {m.file: file}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(file, changed, 0o600), os.WriteFile(overlay, raw, 0o600)); err != nil {
		return "", fmt.Errorf("writing the mutated file: %w", err)
	}
	return overlay, nil
}

// build compiles the tests of a folder.
func (w *worker) build(ctx context.Context, dir string, args ...string) (said string, err error) {
	args = append([]string{"test", "-c", "-p=1", "-vet=off", "-ldflags=-s -w", "-o", w.binary()}, append(args, dir)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = w.root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// notice builds the tests of a folder with a mutation and runs groups of them one after the other. If there are none it only looks
// whether the mutation compiles, where that is asked for.
func (w *worker) notice(ctx context.Context, dir, overlay string, groups [][]*reached, compile bool) result {
	groups = slices.DeleteFunc(groups, func(g []*reached) bool { return len(g) == 0 })
	if len(groups) == 0 && !compile {
		return result{outcome: alive}
	}
	if said, err := w.build(ctx, dir, "-overlay="+overlay); err != nil {
		return result{outcome: broken, said: said}
	}
	for _, tests := range groups {
		names, seconds := []string{}, 0.0
		for _, t := range tests {
			names, seconds = append(names, t.Name), seconds+t.Seconds
		}
		limit := 10*time.Second + time.Duration(3*seconds*float64(time.Second))
		for len(names) > 0 {
			r := w.run(ctx, dir, overlay, w.binary(), limit, only(names))
			if r.outcome == alive || ctx.Err() != nil {
				break
			}
			name := testName.FindString(r.by)
			if w.confirm(ctx, dir, overlay, names, name, limit) {
				return r
			}
			if name == "" { // which one it was is not known
				break
			}
			names = slices.DeleteFunc(names, func(n string) bool { return n == name })
		}
	}
	return result{outcome: alive}
}

// confirm makes sure that it is the mutation that tests fail with, and not the machine's load: without it they pass within half
// of the limit, and with it they fail again, or overrun again.
func (w *worker) confirm(ctx context.Context, dir, overlay string, names []string, name string, limit time.Duration) bool {
	if name != "" {
		names = []string{name}
	}
	clean := filepath.Join(w.dir, "clean-"+hashOf([]byte(dir))[:16])
	if _, err := os.Stat(clean); err != nil {
		keep := *w
		keep.dir = clean + ".d"
		if os.MkdirAll(keep.dir, 0o700) != nil {
			return false
		}
		if _, err := keep.build(ctx, dir); err != nil || os.Rename(keep.binary(), clean) != nil {
			return false
		}
	}
	if w.run(ctx, dir, "", clean, limit/2, only(names)).outcome != alive {
		return false
	}
	return w.run(ctx, dir, overlay, w.binary(), limit, only(names)).outcome == killed
}

func only(names []string) []string {
	return []string{"-test.run", "^(" + strings.Join(names, "|") + ")$"}
}

// memory bounds what a mutant that grows without end can do to the machine, in KiB.
const memory = 4 << 20

// failed finds the test that failed first.
var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|^panic: (.*)|^(fatal error: .*)`)

var testName = regexp.MustCompile(`^(Test|Fuzz|Example)\w*`)

// long says whether the tests of a folder are run in full: those of the fault injector are short only by leaving out what it does.
func long(dir string) bool { return strings.HasSuffix(dir, "/internal/faults") }

// run runs tests where go test would, in a process group that ends with them. A build by a test is with the mutation as well.
func (w *worker) run(ctx context.Context, dir, overlay, binary string, timeout time.Duration, args []string) result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	short := "-test.short=" + strconv.FormatBool(!long(dir))
	script := fmt.Sprintf(`ulimit -d %d; exec "$0" %s -test.failfast -test.timeout %s "$@"`, memory, short, timeout)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, binary}, args...)...)
	cmd.Dir = dir
	if overlay != "" {
		cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	said, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // daemons that a test left
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
