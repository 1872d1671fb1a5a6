package edgetest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Mosquitto starts the real broker, whose sessions hold what Broker's now and then forget, with a plain listener and
// what else the configuration says. Where it is missing the test is skipped, but in CI it fails.
func Mosquitto(t testing.TB, more string) (address string) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/mosquitto")
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("mosquitto is not installed")
		}
		t.Skip("mosquitto is not installed")
	}
	address = FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := "user root\nallow_anonymous true\nlistener " + port + " 127.0.0.1\n" + more
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
	cmd := exec.Command(path, "-c", conf) // #nosec G204 -- a test's own broker
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 20*time.Second, 10*time.Millisecond, "mosquitto does not answer")
	return address
}

// FreeAddress is an unused loopback address.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}
