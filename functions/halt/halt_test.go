package halt

import (
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNohupIsHeeded(t *testing.T) {
	defer signal.Reset(syscall.SIGHUP)
	signal.Reset(syscall.SIGHUP)
	signal.Ignore(syscall.SIGHUP)
	require.Equal(t, []os.Signal{os.Interrupt, syscall.SIGTERM}, Signals())
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	require.Equal(t, []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, Signals())
}
