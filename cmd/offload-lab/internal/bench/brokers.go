package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// The brokers.
const (
	Embedded       = "embedded"        // the broker of this program, as in `run`, in a separate process
	Mosquitto      = "mosquitto"       // with unlimited queues, no persistence, and TCP_NODELAY
	MosquittoWide  = "mosquitto-wide"  // the same with a window that an acknowledging subscriber can fill
	MosquittoNagle = "mosquitto-nagle" // the same without TCP_NODELAY, which is mosquitto's default
)

// Brokers lists all brokers.
func Brokers() []string { return []string{Mosquitto, MosquittoWide, MosquittoNagle, Embedded} }

// mosquitto's default window to one subscriber is 20 messages. A subscriber that acknowledges once per commit then gets only 20 events per commit at
// any speed; the wide variation shows that. With the embedded broker this is the window of the link.
var mosquittoSettings = map[string]string{
	Mosquitto: sendAtOnce, MosquittoWide: sendAtOnce + "max_inflight_messages 1000\n", MosquittoNagle: "", Embedded: sendAtOnce,
}

const sendAtOnce = "set_tcp_nodelay true\n"

// broker is a running broker.
type broker struct {
	addr string
	used func() time.Duration // CPU time
	stop func() error
}

// startBroker starts a broker at an address; the embedded broker chooses its own.
func startBroker(ctx context.Context, kind, mosquitto, addr, dir string, log io.Writer) (*broker, error) {
	if kind == Embedded {
		c, err := startChild(ctx, log, nil, partBroker)
		if err != nil {
			return nil, err
		}
		return &broker{c.said, c.used, c.stop}, nil
	}
	return startMosquitto(ctx, mosquittoSettings[kind], mosquitto, addr, dir, log)
}

func startMosquitto(ctx context.Context, settings, program, addr, dir string, log io.Writer) (*broker, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "mosquitto-"+port+".conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nmax_queued_bytes 0\n" +
		"log_type error\nlog_type warning\n" + settings
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing mosquitto's configuration: %w", err)
	}
	p, err := stack.StartProgram(filepath.Base(program), log, nil, program, "-c", config)
	if err != nil {
		return nil, err
	}
	stop := func() error { return p.Stop(5 * time.Second) }
	used := func() time.Duration { t, _ := cpuTime(p.PID()); return t } // 0 after its exit, which is detected elsewhere
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			return &broker{addr, used, stop}, conn.Close()
		}
		select {
		case <-p.Done():
			return nil, fmt.Errorf("mosquitto did not start: %w", p.Err())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
