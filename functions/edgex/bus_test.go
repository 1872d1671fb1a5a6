package edgex

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgexfoundry/go-mod-messaging/v3/messaging"
	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"
	"github.com/stretchr/testify/require"

	"app-offload/functions/local"
	"app-offload/functions/mqtt/mosquittotest"
)

// hanging is a client whose broker is gone: it disconnects only when the test allows it.
type hanging struct {
	messaging.MessageClient
	let chan struct{}
	err error
}

func (h *hanging) Disconnect() error           { <-h.let; return h.err }
func (h *hanging) Unsubscribe(...string) error { return h.err }

// So it is where a subscription failed: the reader goes on, and a stop does not wait for it.
func TestAHangingDisconnectionHoldsUpNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := &hanging{let: make(chan struct{})}
		b := NewBus(BusConfig{}, "t", nil)
		b.client = h
		b.abandon([]string{"x"})
		require.Equal(t, farewell, time.Since(began))
		require.Nil(t, b.client)
		require.NoError(t, b.Close())
		close(h.let)
		synctest.Wait()
	})
}

// A hanging disconnection delays Close for a moment only, and leaves no goroutine behind once it ends.
func TestAHangingDisconnectionLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails where a goroutine stays
		began := time.Now()
		h := &hanging{let: make(chan struct{})}
		b := NewBus(BusConfig{}, "t", nil)
		b.client = h
		require.NoError(t, b.Close())
		require.Equal(t, farewell, time.Since(began))
		require.ErrorIs(t, b.Publish("x", "", "", nil), ErrNoBus)
		close(h.let)
		synctest.Wait()
	})
}

// A bus that does not answer delays a publication, but not the stop.
func TestACloseDoesNotWaitForAConnection(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	require.NoError(t, err)
	defer silent.Close()
	b := NewBus(BusConfig{Type: "mqtt", Protocol: "tcp", Host: "127.0.0.1", Port: silent.Addr().(*net.TCPAddr).Port, Optional: map[string]string{"ConnectTimeout": "3"}}, "t", nil)
	published := make(chan error)
	go func() { published <- b.Publish("x", "", "", nil) }()
	conn, err := silent.Accept()
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.Publish("x", "", "", nil), ErrNoBus, "nor does a publication after it wait")
	select {
	case err := <-published:
		require.Fail(t, "the connection was given up before the close", "%v", err)
	default:
	}
	_, err = conn.Write([]byte{0x20, 2, 0, 0}) // a CONNACK
	require.NoError(t, err)
	require.ErrorIs(t, <-published, ErrNoBus)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = io.Copy(io.Discard, conn)
	require.NoError(t, err, "the late connection ends")
}

// Close waits for a disconnection that ends in time, and returns its error.
func TestACloseReportsTheDisconnection(t *testing.T) {
	h := &hanging{let: make(chan struct{}), err: errors.New("broken pipe")}
	close(h.let)
	b := NewBus(BusConfig{}, "t", nil)
	b.client = h
	require.ErrorIs(t, b.Close(), h.err)
	require.NoError(t, NewBus(BusConfig{}, "t", nil).Close(), "never connected")
}

// While the broker is away every publication fails, immediately and at any QoS: a publication reported as successful is at the broker. When the
// broker returns, so do publications, whether or not the configuration lets the client of the MessageBus reconnect by itself.
func TestNothingIsPublishedWhileTheBrokerIsAway(t *testing.T) {
	for _, options := range []map[string]string{
		{"Qos": "0", "AutoReconnect": "true", "ConnectTimeout": "5"},
		{"Qos": "1", "AutoReconnect": "true", "ConnectTimeout": "5"},
		{"Qos": "1", "ConnectTimeout": "5"},
		{"Qos": "0"},
	} {
		t.Run(fmt.Sprint(options), func(t *testing.T) {
			t.Parallel()
			program, address := mosquittotest.Program(t), mosquittotest.FreeAddress(t)
			host, port, _ := strings.Cut(address, ":")
			conf := filepath.Join(t.TempDir(), "conf")
			require.NoError(t, os.WriteFile(conf, []byte("user root\nallow_anonymous true\nlistener "+port+" 127.0.0.1\n"), 0o600))
			broker := mosquittotest.Run(t, program, conf, address)
			b := NewBus(BusConfig{Type: "mqtt", Protocol: "tcp", Host: host, AuthMode: "none", BaseTopicPrefix: "edgex", Optional: options}, "results", nil)
			_, err := fmt.Sscan(port, &b.cfg.Port)
			require.NoError(t, err)
			t.Cleanup(func() { _ = b.Close() })
			send := func(n int) error { return b.Publish("x", "application/json", "", []byte(strconv.Itoa(n))) }
			require.NoError(t, send(0))

			require.NoError(t, broker.Process.Kill())
			_ = broker.Wait()
			for n := range 20 {
				time.Sleep(50 * time.Millisecond) // a client that reconnects by itself is between two attempts for most of this time
				require.ErrorIs(t, send(1), local.ErrAway, n)
			}

			mosquittotest.Run(t, program, conf, address)
			reader := NewBus(b.cfg, "reader", nil)
			t.Cleanup(func() { _ = reader.Close() })
			client, err := reader.connected()
			require.NoError(t, err)
			seen := make(chan types.MessageEnvelope, 10)
			require.NoError(t, client.Subscribe([]types.TopicChannel{{Topic: "edgex/x", Messages: seen}}, make(chan error, 1)))
			require.Eventually(t, func() bool { return send(2) == nil }, 10*time.Second, 10*time.Millisecond)
			require.NoError(t, send(3))
			require.Equal(t, "2", string((<-seen).Payload))
			require.Equal(t, "3", string((<-seen).Payload))
		})
	}
}

// The same on Redis, whose client connects with the first message.
func TestNothingIsPublishedWhileRedisIsAway(t *testing.T) {
	r := newRedis(t)
	b := NewBus(r.config(), "results", nil)
	t.Cleanup(func() { _ = b.Close() })
	send := func() error { return b.Publish("x", "application/json", "", []byte("{}")) }
	for range 2 {
		require.ErrorIs(t, send(), local.ErrAway)
		r.begin()
		require.NoError(t, send())
		if out, err := exec.Command("/usr/bin/redis-cli", "-p", strconv.Itoa(r.port), "acl", "setuser", "default", "resetchannels").CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
			t.Logf("without rules for channels: %s %v", out, err)
		} else {
			err := send()
			require.ErrorContains(t, err, "NOPERM")
			require.NotErrorIs(t, err, local.ErrAway, "it is there")
		}
		r.end()
	}
}
