package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// mosquitto is a broker that persists its sessions when stopped in an orderly way.
type mosquitto struct {
	name, program, addr, dir string
	log                      io.Writer
	process                  *stack.Process
}

// Mosquitto finds the broker's program, which distributions install in a path that only root searches.
func Mosquitto() (string, error) {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("mosquitto is not installed, neither on the PATH nor in /usr/sbin; on Debian: apt-get install mosquitto")
}

// newMosquitto writes the configuration; start starts the broker. Its queues are unlimited: a drop there would be the broker's loss, not ours. Only a
// broker that must deny the consumer a topic gets an access list: with one, mosquitto 2.0.11 discards messages for a session restored from disk until
// its client is back.
func newMosquitto(name, dir string, accessList bool, log io.Writer) (*mosquitto, error) {
	program, err := Mosquitto()
	if err != nil {
		return nil, err
	}
	addr, err := stack.FreeAddr()
	if err != nil {
		return nil, err
	}
	m := &mosquitto{name: name, program: program, addr: addr, dir: filepath.Join(dir, name), log: log}
	if err := os.MkdirAll(m.dir, 0o750); err != nil {
		return nil, fmt.Errorf("creating the broker's folder: %w", err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("user root\nlistener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_queued_bytes 0\n"+
		"persistence true\npersistence_location %s/\nset_tcp_nodelay true\n", port, m.dir)
	if accessList {
		text += "acl_file " + m.acl() + "\n"
	}
	if err := os.WriteFile(m.conf(), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the broker's configuration: %w", err)
	}
	return m, m.deny("")
}

// consumerUser is the user name of the consumer, without a password.
const consumerUser = "cloud"

// deny denies the consumer one topic; "" denies nothing.
func (m *mosquitto) deny(topic string) error {
	text := "topic readwrite #\nuser " + consumerUser + "\ntopic readwrite #\n"
	if topic != "" {
		text += "topic deny " + topic + "\n"
	}
	if err := os.WriteFile(m.acl(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the broker's access list: %w", err)
	}
	if m.process == nil {
		return nil
	}
	return m.process.Signal(syscall.SIGHUP)
}

func (m *mosquitto) acl() string { return filepath.Join(m.dir, "acl") }

func (m *mosquitto) conf() string { return filepath.Join(m.dir, "mosquitto.conf") }

// start returns when the broker accepts connections.
func (m *mosquitto) start(ctx context.Context) error {
	var err error
	if m.process, err = stack.StartProgram(m.name, m.log, nil, m.program, "-c", m.conf()); err != nil {
		return err
	}
	return until(ctx, patience, m.name+" takes connections", func() (bool, error) {
		if ended(m.process) {
			return false, unexpected(m.name, m.process)
		}
		conn, err := net.DialTimeout("tcp", m.addr, time.Second)
		if err != nil {
			return false, nil
		}
		return true, conn.Close()
	})
}

// stop stops the broker so that it persists its sessions.
func (m *mosquitto) stop(context.Context) error {
	if m.process == nil {
		return nil
	}
	return m.process.Stop(patience)
}

// kill kills the broker so that it loses everything.
func (m *mosquitto) kill(context.Context) error {
	if !m.process.Kill() {
		return unexpected(m.name, m.process)
	}
	return nil
}

// patience is the time limit of expected events, generous for a busy machine.
const patience = 90 * time.Second

// until polls a few times a second until a condition holds.
func until(ctx context.Context, most time.Duration, what string, holds func() (bool, error)) error {
	deadline := time.Now().Add(most)
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("this did not happen within %v: %s", most, what)
		}
		select {
		case <-time.After(30 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
