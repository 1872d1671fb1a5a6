package freeport

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// The system gives ports of its own range to connections; an address is below it, and can be listened on.
func TestAnAddressIsFreeAndBelowThePortsOfConnections(t *testing.T) {
	for range 100 {
		address, err := Address()
		require.NoError(t, err)
		l, err := net.Listen("tcp", address)
		require.NoError(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		require.NoError(t, l.Close())
		require.GreaterOrEqual(t, port, 20000)
		require.Less(t, port, 32000)
	}
}
