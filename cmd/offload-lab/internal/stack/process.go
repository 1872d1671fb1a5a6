package stack

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is one started program. Its output goes to a log, and its last lines are kept for error messages.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	tail tail
}

// startProcess runs a program in a process group of its own, so that a Ctrl-C on the terminal reaches only us and we stop the
// parts in order. Should this process die, the kernel ends the child.
func startProcess(name string, log io.Writer, env []string, program string, args ...string) (*Process, error) {
	p := &Process{name: name, done: make(chan struct{})}
	p.cmd = exec.Command(program, args...) // #nosec G204 -- the lab starts the binaries it is told to
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = ownGroup()
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe for the output of %s: %w", name, err)
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", program, err), in.Close(), out.Close())
	}
	_ = in.Close() // ours; the child has its own
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		p.tail.copy(log, out)
	}()
	go func() {
		err := p.cmd.Wait()
		<-copied
		p.err = errors.Join(err, out.Close())
		close(p.done)
	}()
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended, with the last lines it printed. It is meaningful after Done.
func (p *Process) Err() error {
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s ended with %w:\n%s", p.name, p.err, p.tail.cause())
}

// Stop asks the process to end, waits, and kills it if it does not within the grace.
func (p *Process) Stop(grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // a process that is gone already is what we want
	select {
	case <-p.done:
		return p.Err()
	case <-time.After(grace):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("%s did not stop within %v and was killed; its last lines:\n%s", p.name, grace, p.tail.String())
}

// tail copies a stream and remembers its last lines.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) copy(w io.Writer, r io.Reader) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		fmt.Fprintln(w, in.Text())
		t.mu.Lock()
		t.lines = append(t.lines, in.Text())
		t.lines = t.lines[max(0, len(t.lines)-20):]
		t.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, r) // a line too long to scan must not block the child
}

// cause is the errors that were logged, without what was logged beside them, or else the last lines.
func (t *tail) cause() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []string
	for _, line := range t.lines {
		if strings.Contains(line, "level=ERROR") && !slices.Contains(errs, line) {
			errs = append(errs, line)
		}
	}
	if len(errs) == 0 {
		errs = t.lines
	}
	return strings.Join(errs, "\n")
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
