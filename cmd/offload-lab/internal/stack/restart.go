package stack

import (
	"io"
	"syscall"
)

// StartEdge starts the service alone, for those who start and end the parts one by one. It does not wait for it.
func StartEdge(cfg Config) (*Stack, error) {
	s := &Stack{cfg: cfg}
	var err error
	s.Edge, err = s.startEdge()
	return s, err
}

// Kill ends the process at once, as a power cut would end it, and waits until it is gone. It reports false when the
// process had ended before, by itself.
func (p *Process) Kill() bool { return p.end(syscall.SIGKILL) }

// Abort ends one of our processes so that it writes the stacks of all its goroutines to its log.
func (p *Process) Abort() bool { return p.end(syscall.SIGQUIT) }

func (p *Process) end(signal syscall.Signal) bool {
	select {
	case <-p.done:
		return false
	default:
	}
	_ = p.cmd.Process.Signal(signal) // it may be gone this moment, which is what we want
	<-p.done
	return true
}

// Signal sends the process a signal, such as SIGHUP to read its configuration again.
func (p *Process) Signal(signal syscall.Signal) error { return p.cmd.Process.Signal(signal) }

// StartProgram starts a program that is not ours, such as a broker.
func StartProgram(log io.Writer, name, program string, args ...string) (*Process, error) {
	return startProcess(name, log, nil, program, args...)
}
