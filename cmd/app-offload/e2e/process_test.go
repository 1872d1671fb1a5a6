package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt/mosquittotest"
)

// patience is the time limit of every wait: far more than needed on the slowest machine.
const patience = 90 * time.Second

// await polls until ok is true; explain describes the state if it never is.
func await(t *testing.T, what string, ok func() bool, explain func() string) {
	t.Helper()
	for begin := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > patience {
			require.Fail(t, "did not happen within "+patience.String()+": "+what, "%s", explain())
		}
	}
}

// buffer keeps the output of a process.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// tail returns the end of the output: enough to see the cause.
func (b *buffer) tail() string {
	text := b.String()
	return text[max(0, len(text)-4000):]
}

// process is one program of the stack. It may be stopped and started again; its output is kept.
type process struct {
	t       *testing.T
	name    string
	program string
	args    []string
	env     []string
	log     *buffer
	cmd     *exec.Cmd
	done    chan error
}

func newProcess(t *testing.T, name, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, program: program, args: args, log: &buffer{}}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
		if dir := os.Getenv("E2E_LOGS"); t.Failed() && dir != "" {
			name := strings.ReplaceAll(t.Name(), "/", "-") + "-" + p.name + ".log"
			_ = os.WriteFile(filepath.Join(dir, name), []byte(p.log.String()), 0o600)
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	cmd := exec.Command(p.program, p.args...) // #nosec G204 -- the test's own programs
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no orphans, should the test be killed
	require.NoError(p.t, cmd.Start(), p.name)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	p.cmd, p.done = cmd, done
}

// stop ends the process in order, and returns its error.
func (p *process) stop() error {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM), p.name)
	return p.end()
}

// end waits until the process ends, and returns its error.
func (p *process) end() error {
	p.t.Helper()
	select {
	case err := <-p.done:
		p.cmd = nil
		return err
	case <-time.After(patience):
		require.Fail(p.t, p.name+" does not end", "%s", p.log.tail())
		return nil
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have exited already
	<-p.done
	p.cmd = nil
}

// freePort returns a port without a listener.
func freePort(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(mosquittotest.FreeAddress(t))
	require.NoError(t, err)
	return port
}

// answers reports whether a process listens on the port.
func answers(port string) bool {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}
