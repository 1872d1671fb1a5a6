package bench

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// child is this program in another role: a separate process, so that its CPU does not count as that of the subject. Its standard input is its
// lifeline: when it is closed, the child exits.
type child struct {
	part  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	said  string // its output when it was ready
	ended chan struct{}
	err   error
}

// startChild starts a role with additional environment, and waits until it reports that it is ready.
func startChild(ctx context.Context, log io.Writer, env []string, part string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	c := &child{part: part, ended: make(chan struct{})}
	c.cmd = exec.Command(self, append([]string{"bench", "-as", part}, args...)...) // #nosec G204 -- this program itself
	c.cmd.Stderr, c.cmd.Env = log, append(os.Environ(), env...)
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", part, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s: %w", part, err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", part, err)
	}
	ready := make(chan string, 1)
	go func() {
		defer close(c.ended)
		line, _ := bufio.NewReader(out).ReadString('\n')
		ready <- strings.TrimSpace(line)
		c.err = c.cmd.Wait()
	}()
	return c, c.awaitReady(ctx, ready)
}

func (c *child) awaitReady(ctx context.Context, ready <-chan string) error {
	select {
	case c.said = <-ready:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.stop())
	}
	if c.said == "" {
		<-c.ended
		return fmt.Errorf("the %s exited before it was ready: %w; see the log", c.part, c.err)
	}
	return nil
}

func (c *child) PID() int              { return c.cmd.Process.Pid }
func (c *child) Done() <-chan struct{} { return c.ended }

// used is the child's CPU time, also after its exit.
func (c *child) used() (t time.Duration) {
	select {
	case <-c.ended:
		return c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
	default:
		t, _ = cpuTime(c.PID()) // during its exit the time is unavailable
		return t
	}
}

// Err returns the child's exit error; it is valid after Done.
func (c *child) Err() error {
	return fmt.Errorf("the %s exited unexpectedly: %w; the log has the reason", c.part, c.err)
}

// stop stops the child, and kills it if it does not exit.
func (c *child) stop() error {
	_ = c.in.Close()
	select {
	case <-c.ended:
	case <-time.After(5 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.ended
		return fmt.Errorf("the %s did not stop within 5 s and was killed", c.part)
	}
	return nil
}

// The roles of a child.
const (
	partBroker = "broker"
	partFloor  = "floor"
	partLoad   = "load"
)

// Child runs a role until the standard input ends. args are the arguments after `bench -as PART`.
func Child(ctx context.Context, part string, args []string) error {
	var l load
	fs := flag.NewFlagSet(part, flag.ContinueOnError)
	fs.StringVar(&l.broker, "broker", "", "host:port of the broker")
	fs.IntVar(&l.events, "events", 0, "number of events")
	fs.IntVar(&l.window, "window", 0, "maximum number of events in flight")
	fs.IntVar(&l.qos, "qos", 1, "QoS")
	fs.IntVar(&l.form.readings, "readings", 0, "readings per event")
	fs.IntVar(&l.form.size, "size", 0, "bytes of the first reading's value")
	fs.IntVar(&l.rate, "rate", 0, "events per second")
	fs.Int64Var(&l.began, "began", 0, "due time of the first event, ns since the Unix epoch")
	if err := fs.Parse(args); err != nil {
		return err
	}
	switch part {
	case partBroker:
		return playBroker(ctx)
	case partFloor:
		return runFloor(untilInputEnds(ctx), l.broker, byte(l.qos), func() { fmt.Println("ready") }) // 0 or 1
	case partLoad:
		fmt.Println("ready")
		return l.run(ctx, os.Stdin)
	}
	return fmt.Errorf("-as %q: must be %s, %s or %s", part, partBroker, partFloor, partLoad)
}

// playBroker runs the embedded broker and prints its address.
func playBroker(ctx context.Context) error {
	b, err := stack.StartBroker()
	if err != nil {
		return err
	}
	fmt.Println(b.Addr)
	<-untilInputEnds(ctx).Done()
	if n := b.Dropped(); n > 0 {
		fmt.Fprintf(os.Stderr, "the embedded broker dropped %d messages\n", n)
	}
	return b.Stop()
}

// untilInputEnds returns a context that ends with the standard input.
func untilInputEnds(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return ctx
}
