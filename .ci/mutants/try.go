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

// baselines are the tests of a folder without any mutation: whether they pass, and how long they take.
type baselines struct {
	mu    sync.Mutex
	known map[string]*baseline
}

type baseline struct {
	once  sync.Once
	took  time.Duration
	sound bool
	skip  []string // tests that fail
}

// of runs the tests of a folder at the first call for it. A test that fails once may have met a busy machine: it is tried again, and
// left out if it fails again. Tests that take longer than most together count as not sound.
func (b *baselines) of(ctx context.Context, w *worker, tests string, most time.Duration) *baseline {
	key := fmt.Sprint(most, " ", tests)
	b.mu.Lock()
	if b.known[key] == nil {
		b.known[key] = &baseline{}
	}
	found := b.known[key]
	b.mu.Unlock()
	found.once.Do(func() {
		for tried := map[string]int{}; len(tried) < 4; {
			r := w.test(ctx, tests, "", most, found.skip)
			if found.took, found.sound = r.took, r.outcome == alive; found.sound {
				return
			}
			if r.by == "timeout" {
				fmt.Printf("the tests in %s take longer than %s and are left out\n", tests, most)
				return
			}
			fmt.Printf("a test in %s fails without any mutation: %s\n%s\n", tests, r.by, last(r.said, 2000))
			name := testName.FindString(r.by)
			if tried[r.by]++; name == "" && tried[r.by] > 1 {
				break
			}
			if tried[r.by] > 1 {
				found.skip = append(found.skip, name)
				fmt.Printf("%s fails twice and is left out\n", name)
			}
		}
	})
	return found
}

// patience is how long the tests may take with a mutation. The machine may be busier than it was for the baseline.
func (b *baseline) patience() time.Duration { return 3*b.took + 20*time.Second }

// worker runs tests against one mutation at a time, in a folder of its own.
type worker struct {
	dir, root string
	longest   time.Duration // the tests of a folder without any mutation
	budget    time.Duration // of the importers' tests, as long as they take without any mutation
	baselines *baselines
}

// result is what became of a mutation.
type result struct {
	outcome outcome
	by      string // the test that failed
	took    time.Duration
	said    string
}

// try runs the tests that might notice the mutation, the nearest first, until one does.
func (w *worker) try(ctx context.Context, m *mutation) (result, error) {
	overlay, err := w.mutate(m)
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	asked, spent := 0, time.Duration(0)
	for _, tests := range m.of.tests {
		most := w.longest
		if tests != m.of.tests[0] {
			most = w.budget
		}
		base := w.baselines.of(ctx, w, tests, most)
		if !base.sound || tests != m.of.tests[0] && spent+base.took > w.budget {
			continue
		}
		if tests != m.of.tests[0] {
			spent += base.took
		}
		r := w.test(ctx, tests, overlay, base.patience(), base.skip)
		if ctx.Err() != nil {
			return result{}, ctx.Err()
		}
		asked++
		if r.outcome != alive {
			r.took = time.Since(began)
			return r, nil
		}
	}
	if asked == 0 {
		return result{}, fmt.Errorf("no sound tests try %s", m.name())
	}
	return result{outcome: alive, took: time.Since(began)}, nil
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

// memory bounds what a mutant that grows without end can do to the machine, in KiB.
const memory = 4 << 20

// failed finds the test that failed first.
var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|^panic: (.*)|^(fatal error: .*)`)

// test builds the tests of a folder and runs them where go test would, in a process group that ends with them. What a mutation made
// fail has to fail again.
func (w *worker) test(ctx context.Context, tests, overlay string, timeout time.Duration, skip []string) result {
	binary := filepath.Join(w.dir, "tests")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-p=1", "-vet=off", "-overlay="+overlay, "-o", binary, tests)
	build.Dir = w.root
	if said, err := build.CombinedOutput(); err != nil {
		return result{outcome: broken, said: string(said)}
	}
	r := w.run(ctx, tests, timeout, without(skip))
	for again := 0; overlay != "" && r.outcome == killed && again < 2; again++ { // the machine's load may be why a test failed
		if r.by == "timeout" {
			return w.run(ctx, tests, 2*timeout, without(skip))
		}
		name := testName.FindString(r.by)
		if name == "" || w.run(ctx, tests, timeout, []string{"-test.run", "^" + name + "$"}).outcome == killed {
			break
		}
		skip = append(slices.Clone(skip), name)
		r = w.run(ctx, tests, timeout, without(skip))
	}
	return r
}

// without leaves tests out.
func without(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	return []string{"-test.skip", "^(" + strings.Join(names, "|") + ")$"}
}

var testName = regexp.MustCompile(`^Test\w*`)

// run runs the tests that were built.
func (w *worker) run(ctx context.Context, tests string, timeout time.Duration, args []string) result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	began := time.Now()
	script := fmt.Sprintf(`ulimit -d %d; exec "$0" -test.short -test.failfast -test.timeout %s "$@"`, memory, timeout)
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, filepath.Join(w.dir, "tests")}, args...)...)
	cmd.Dir = tests
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
