package stack

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheWantedAddressIsTakenIfItIsFree(t *testing.T) {
	wanted, err := FreeAddr()
	require.NoError(t, err)
	got, err := freeOr(wanted)
	require.NoError(t, err)
	require.Equal(t, wanted, got)

	l, err := net.Listen("tcp", wanted)
	require.NoError(t, err)
	defer l.Close()
	got, err = freeOr(wanted)
	require.NoError(t, err)
	require.NotEqual(t, wanted, got)
}
