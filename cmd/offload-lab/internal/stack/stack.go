// Package stack runs the parts of the system as a user would: a broker in this process, the service and the consumer as separate processes.
package stack

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"app-offload/functions/freeport"
)

// Bus is the MessageBus of the service.
type Bus struct {
	Type string // mqtt or redis
	Addr string // host:port
}

// Config configures the parts.
type Config struct {
	Bin   string   // folder with the binaries
	Res   string   // folder with configuration.yaml
	Dir   string   // folder for all files
	Bus   Bus      // the EdgeX MessageBus
	Cloud string   // host:port of the broker between edge and cloud
	API   string   // host:port for the service's API if it is free; any free port otherwise
	Env   []string // further overrides, such as OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud
	Args  []string // further arguments of the service, such as -sk=app-offload-2
	Work  []string // further arguments of the consumer, such as -models=DIR
	Wrap  []string // a program with arguments that starts the service, such as unshare --mount
	Log   io.Writer
}

// Stack is the running service and consumer.
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
		_ = s.Stop() // the exit errors of the parts are the cause, or irrelevant beside it
		return nil, err
	}
	return s, nil
}

// Database is the file of the consumer's database.
func (s *Stack) Database() string { return filepath.Join(s.cfg.Dir, "cloud.db") }

// Spool is the folder of the service's spool.
func (s *Stack) Spool() string { return SpoolIn(s.cfg.Dir) }

// SpoolIn is the folder of the spool of a service with that folder.
func SpoolIn(dir string) string { return filepath.Join(dir, "spool") }

func (s *Stack) startCloud() (*Process, error) {
	args := append([]string{"-from", "mqtt://" + s.cfg.Cloud, "-store", "sqlite:" + s.Database()}, s.cfg.Work...)
	return StartProgram("offload-cloud", s.cfg.Log, nil, filepath.Join(s.cfg.Bin, "offload-cloud"), args...)
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
	return StartProgram("app-offload", s.cfg.Log, env, line[0], line[1:]...)
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

// awaitReady polls until the service is ready.
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
			return fmt.Errorf("%s/ready did not succeed within a minute; see the log", s.API)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Status requests the service's status.
func (s *Stack) Status(ctx context.Context) (Status, error) {
	var st Status
	return st, s.Get(ctx, "/status", &st)
}

// Get requests a path below the service's API, such as /ready, and decodes the answer into into, unless that is nil. Any status but 200 is an error.
func (s *Stack) Get(ctx context.Context, path string, into any) error {
	return Get(ctx, s.API+path, into)
}

// Get decodes the JSON answer of an address, unless into is nil. Any status but 200 is an error.
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
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is reused
	return err
}

// Stop stops the service, then the consumer, each with its own grace.
func (s *Stack) Stop() error {
	var errs []error
	for _, p := range []*Process{s.Edge, s.Cloud} {
		if p != nil {
			errs = append(errs, p.Stop(10*time.Second))
		}
	}
	return errors.Join(errs...)
}

// StartEdge starts only the service, for callers that start and stop the parts separately. It does not wait until it is ready.
func StartEdge(cfg Config) (*Stack, error) {
	s := &Stack{cfg: cfg}
	var err error
	s.Edge, err = s.startEdge()
	return s, err
}

// Kill kills the process immediately, as a power cut would, and waits until it is gone. It returns false if the process had already exited.
func (p *Process) Kill() bool { return p.end(syscall.SIGKILL) }

// Abort ends one of our processes so that it writes the stacks of all its goroutines to its log.
func (p *Process) Abort() bool { return p.end(syscall.SIGQUIT) }

func (p *Process) end(signal syscall.Signal) bool {
	select {
	case <-p.done:
		return false
	default:
	}
	_ = p.cmd.Process.Signal(signal) // the process may have exited, which is fine
	<-p.done
	return true
}

// Signal sends the process a signal, such as SIGHUP to reload its configuration.
func (p *Process) Signal(signal syscall.Signal) error { return p.cmd.Process.Signal(signal) }

// Broker is an MQTT broker inside this process. It persists nothing: fine for a lab, wrong for a plant.
type Broker struct {
	server *mqtt.Server
	Addr   string // host:port on loopback
}

// StartBroker listens on a free port of the loopback interface.
func StartBroker() (*Broker, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClientWritesPending = 1 << 14 // so that a slow subscriber loses no messages of a burst
	caps.ReceiveMaximum = 1 << 12
	caps.MaximumInflight = 1 << 14
	s := mqtt.New(&mqtt.Options{InlineClient: true, Capabilities: caps, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, fmt.Errorf("opening the broker to everybody on loopback: %w", err)
	}
	if err := s.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: addr})); err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	if err := s.Serve(); err != nil {
		return nil, fmt.Errorf("serving MQTT on %s: %w", addr, err)
	}
	return &Broker{server: s, Addr: addr}, nil
}

// Publish sends a message at QoS 1 to the subscribers.
func (b *Broker) Publish(topic string, payload []byte) error {
	return b.server.Publish(topic, payload, false, 1)
}

// Subscribe calls f for each message on the topics of a filter, in order. f must not block.
func (b *Broker) Subscribe(filter string, f func(topic string, payload []byte)) error {
	return b.server.Subscribe(filter, 1, func(_ *mqtt.Client, _ packets.Subscription, p packets.Packet) { f(p.TopicName, p.Payload) })
}

// Dropped is the number of messages that the broker dropped because a subscriber was too slow.
func (b *Broker) Dropped() int64 { return b.server.Info.Clone().MessagesDropped }

// Stop disconnects all clients.
func (b *Broker) Stop() error { return b.server.Close() }

// FreeAddr returns a loopback address without a listener.
func FreeAddr() (string, error) { return freeOr("") }

// freeOr is the wanted address if it is free, otherwise another free one.
func freeOr(wanted string) (string, error) {
	if wanted != "" {
		if l, err := net.Listen("tcp", wanted); err == nil {
			return wanted, l.Close()
		}
	}
	return freeport.Address()
}

// Process is a started program. Its output goes to a log, and its last lines are kept for error messages.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	tail tail
}

// StartProgram starts a program in its own process group, so that a Ctrl-C on the terminal reaches only this process, which then stops the parts in
// order. If this process dies, the kernel kills the child.
func StartProgram(name string, log io.Writer, env []string, program string, args ...string) (*Process, error) {
	p := &Process{name: name, done: make(chan struct{})}
	p.cmd = exec.Command(program, args...) // #nosec G204 -- the lab starts the configured binaries
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
	_ = in.Close() // our end; the child has its own
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

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has exited.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns the exit error of the process with its last lines of output. It is valid after Done.
func (p *Process) Err() error {
	if p.err == nil {
		return nil
	}
	return fmt.Errorf("%s ended with %w:\n%s", p.name, p.err, p.tail.cause())
}

// Stop sends SIGTERM, waits, and kills the process after the grace.
func (p *Process) Stop(grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // the process may have exited already, which is fine
	select {
	case <-p.done:
		return p.Err()
	case <-time.After(grace):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("%s did not stop within %v and was killed; its last lines:\n%s", p.name, grace, p.tail.String())
}

// tail copies a stream and keeps its last lines.
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

// cause returns the logged errors without other log lines, or else the last lines.
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
