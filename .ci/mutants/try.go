package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// pkg is a package as go list tells of it.
type pkg struct {
	Dir, ImportPath           string
	GoFiles                   []string
	TestGoFiles, XTestGoFiles []string
	Module                    struct{ Dir string }
	root, tests               string // the module's folder, and the package whose tests try this one
}

// support is what only tests use.
var support = []string{"/browsertest", "/pgtest", "/edgetest", "/e2e", "/canary", "/natstest", "/brokertest"}

// load lists the product's packages.
func load(ctx context.Context, patterns []string) ([]*pkg, error) {
	if len(patterns) == 0 {
		patterns = []string{"./cmd/...", "./functions/..."}
	}
	out, err := exec.CommandContext(ctx, "go", append([]string{"list", "-json=Dir,ImportPath,GoFiles,TestGoFiles,XTestGoFiles,Module"}, patterns...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("listing the packages %v: %w", patterns, err)
	}
	var list []*pkg
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &pkg{}
		if err := decoder.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("reading what go list prints: %w", err)
		}
		if slices.ContainsFunc(support, func(s string) bool { return strings.Contains(p.ImportPath+"/", s+"/") }) {
			continue
		}
		p.root = p.Module.Dir
		if p.tests = p.testedBy(); p.tests != "" {
			list = append(list, p)
		} else {
			fmt.Printf("no test tries %s\n", p.ImportPath)
		}
	}
	return list, nil
}

// testedBy finds the package whose tests try this one.
func (p *pkg) testedBy() string {
	for dir := p.Dir; strings.HasPrefix(dir, p.root+"/"); dir = filepath.Dir(dir) {
		if found, _ := filepath.Glob(filepath.Join(dir, "*_test.go")); len(found) > 0 {
			return dir
		}
	}
	return ""
}

type outcome string

const (
	killed     outcome = "killed"
	alive      outcome = "lived"
	equivalent outcome = "equivalent"
	broken     outcome = "not compiled"
)

// trial runs tests against mutations.
type trial struct {
	dir     string
	timeout time.Duration
	sound   map[string]bool // packages whose tests pass as they are
}

func newTrial(timeout time.Duration) (*trial, error) {
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the mutated files: %w", err)
	}
	return &trial{dir: dir, timeout: timeout, sound: map[string]bool{}}, nil
}

func (t *trial) close() { _ = os.RemoveAll(t.dir) }

// try says what the tests make of a mutation, and how long they took.
func (t *trial) try(ctx context.Context, m mutation) (outcome, time.Duration, error) {
	if !t.sound[m.of.tests] {
		if result, said := t.test(ctx, m.of, ""); result != alive {
			return "", 0, fmt.Errorf("the tests in %s fail without any mutation:\n%s", m.of.tests, said)
		}
		t.sound[m.of.tests] = true
	}
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", 0, fmt.Errorf("reading %s: %w", m.file, err)
	}
	changed := slices.Concat(text[:m.from], []byte(m.after), text[m.to:])
	file := filepath.Join(t.dir, "mutated.go")
	overlay := filepath.Join(t.dir, "overlay.json")
	raw, err := json.Marshal(map[string]map[string]string{"Replace": {m.file: file}})
	if err != nil {
		return "", 0, err
	}
	if err := errors.Join(os.WriteFile(file, changed, 0o600), os.WriteFile(overlay, raw, 0o600)); err != nil {
		return "", 0, fmt.Errorf("writing the mutated file: %w", err)
	}
	began := time.Now()
	result, _ := t.test(ctx, m.of, overlay)
	return result, time.Since(began), ctx.Err()
}

// memory bounds what a mutant that grows without end can do to the machine, in KiB.
const memory = 4 << 20

// test builds the tests and runs them where go test would.
func (t *trial) test(ctx context.Context, p *pkg, overlay string) (outcome, string) {
	binary := filepath.Join(t.dir, "tests")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay="+overlay, "-o", binary, p.tests)
	build.Dir = p.root
	if said, err := build.CombinedOutput(); err != nil {
		return broken, string(said)
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	run := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("ulimit -d %d; exec %s -test.short -test.failfast -test.timeout %s", memory, binary, t.timeout))
	run.Dir = p.tests
	run.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	run.Cancel = func() error { return syscall.Kill(-run.Process.Pid, syscall.SIGKILL) }
	run.WaitDelay = time.Second
	said, err := run.CombinedOutput()
	if run.Process != nil {
		_ = syscall.Kill(-run.Process.Pid, syscall.SIGKILL) // daemons that a test left
	}
	if err != nil {
		return killed, string(said)
	}
	return alive, ""
}
