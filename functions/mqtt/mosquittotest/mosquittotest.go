// Package mosquittotest runs the real MQTT broker for tests.
package mosquittotest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/freeport"
)

// Program returns the path of mosquitto, which Debian installs in a directory of root's path. If it is missing the test is skipped, but in CI it
// fails.
func Program(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	require.Empty(t, os.Getenv("CI"), "CI has to install mosquitto")
	t.Skip("mosquitto is not installed")
	return ""
}

// Start starts mosquitto with a plain listener, no limit on queued messages, and the lines of more, and returns its host:port.
func Start(t testing.TB, more string) (address string) {
	t.Helper()
	program := Program(t)
	address = FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := "user root\nallow_anonymous true\nmax_queued_messages 0\nlistener " + port + " 127.0.0.1\n" + more
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
	Run(t, program, conf, address)
	return address
}

// Run starts the program with a configuration file, and waits until it listens. The end of the test kills it.
func Run(t testing.TB, program, conf, address string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, "-c", conf) // #nosec G204 -- a test's own broker
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return conn.LocalAddr().String() != address // a connection to a free port may connect to itself
	}, time.Minute, 10*time.Millisecond, "mosquitto listens")
	return cmd
}

// FreeAddress returns an unused loopback address.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := freeport.Address()
	require.NoError(t, err)
	return address
}
