package stack

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Bus names the MessageBus that the service is to listen on.
type Bus struct {
	Type string // mqtt or redis
	Addr string // host:port
}

// Config says what to run where.
type Config struct {
	Bin   string   // folder with the binaries
	Res   string   // folder with configuration.yaml
	Dir   string   // folder for everything that is written
	Bus   Bus      // the EdgeX MessageBus
	Cloud string   // host:port of the broker between edge and cloud
	API   string   // host:port for the service's API if it is free; any free port otherwise
	Env   []string // further overrides, such as OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud
	Args  []string // further arguments of the service, such as -sk=app-offload-2
	Work  []string // further arguments of the consumer, such as -models=DIR
	Wrap  []string // a program with its arguments that starts the service, such as unshare --mount
	Log   io.Writer
}

// Stack is the service and the consumer, running.
type Stack struct {
	cfg   Config
	API   string // http://host:port/api/v3/offload
	Edge  *Process
	Cloud *Process
}

//go:embed res/common.yaml
var commonYAML string

// Start starts the consumer, then the service, and returns when both are ready.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	s := &Stack{cfg: cfg}
	var err error
	if s.Cloud, err = s.startCloud(); err != nil {
		return nil, err
	}
	if s.Edge, err = s.startEdge(); err == nil {
		err = s.awaitReady(ctx)
	}
	if err != nil {
		_ = s.Stop() // how the parts ended is the cause, or of no interest beside it
		return nil, err
	}
	return s, nil
}

// Database is the file in which the consumer stores.
func (s *Stack) Database() string { return filepath.Join(s.cfg.Dir, "cloud.db") }

// Spool is the folder of the service's spool.
func (s *Stack) Spool() string { return SpoolIn(s.cfg.Dir) }

// SpoolIn is the folder of the spool of a service that writes to a folder.
func SpoolIn(dir string) string { return filepath.Join(dir, "spool") }

func (s *Stack) startCloud() (*Process, error) {
	args := append([]string{"-from", "mqtt://" + s.cfg.Cloud, "-store", "sqlite:" + s.Database()}, s.cfg.Work...)
	return StartBinary(s.cfg.Log, "offload-cloud", s.cfg.Bin, nil, args...)
}

// StartBinary starts one of our binaries.
func StartBinary(log io.Writer, name, bin string, env []string, args ...string) (*Process, error) {
	return startProcess(name, log, env, filepath.Join(bin, name), args...)
}

func (s *Stack) startEdge() (*Process, error) {
	common, err := s.writeCommon()
	if err != nil {
		return nil, err
	}
	addr, err := freeOr(s.cfg.API)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	s.API = "http://" + addr + "/api/v3/offload"
	env := append([]string{
		"EDGEX_SECURITY_SECRET_STORE=false", "SERVICE_HOST=" + host, "SERVICE_PORT=" + port,
		"OFFLOAD_NODE=lab", "OFFLOAD_SPOOL_DIRECTORY=" + s.Spool(), "OFFLOAD_EXPORT_BROKER=tcp://" + s.cfg.Cloud,
	}, s.cfg.Env...)
	line := slices.Concat(s.cfg.Wrap, []string{filepath.Join(s.cfg.Bin, "app-offload"), "-cc", common, "-cd", s.cfg.Res}, s.cfg.Args)
	return startProcess("app-offload", s.cfg.Log, env, line[0], line[1:]...)
}

func (s *Stack) writeCommon() (string, error) {
	host, port, err := net.SplitHostPort(s.cfg.Bus.Addr)
	if err != nil {
		return "", fmt.Errorf("the MessageBus address %q is not host:port: %w", s.cfg.Bus.Addr, err)
	}
	protocol := "tcp"
	if s.cfg.Bus.Type == "redis" {
		protocol = "redis"
	}
	path := filepath.Join(s.cfg.Dir, "common.yaml")
	text := fmt.Sprintf(commonYAML, s.cfg.Bus.Type, protocol, host, port)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("writing the common configuration: %w", err)
	}
	return path, nil
}

// awaitReady asks until the service says that it is ready.
func (s *Stack) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		if err := s.Get(ctx, "/ready", nil); err == nil {
			return nil
		}
		select {
		case <-s.Edge.Done():
			return s.Edge.Err()
		case <-s.Cloud.Done():
			return s.Cloud.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s/ready did not say yes within a minute; the log has the reason", s.API)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Status asks the service how it is.
func (s *Stack) Status(ctx context.Context) (Status, error) {
	var st Status
	return st, s.Get(ctx, "/status", &st)
}

// Get asks the service for a path below its API, such as /ready. Without an error it answered, and well; the answer is
// decoded into what into points at, if anything.
func (s *Stack) Get(ctx context.Context, path string, into any) error {
	return Get(ctx, s.API+path, into)
}

// Get reads an answer in JSON from an address, unless into is nil. Anything but 200 is an error.
func Get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s answered %s", url, resp.Status)
	}
	if into != nil {
		err = json.NewDecoder(resp.Body).Decode(into)
	}
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return err
}

// Stop ends the service, then the consumer, each in its own time.
func (s *Stack) Stop() error {
	var errs []error
	for _, p := range []*Process{s.Edge, s.Cloud} {
		if p != nil {
			errs = append(errs, p.Stop(10*time.Second))
		}
	}
	return errors.Join(errs...)
}

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
