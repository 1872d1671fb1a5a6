package intake

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// The bounds of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `MaxPayloadKiB 1 to 262144
MaxDepth 4 to 32
MaxEvents 1 to 1048576
MaxMiB 1 to 65536
ReorderWindow 0s to 10s
MaxHops 1 to 8
QuarantineEntries 0 to 100000
QuarantineKiB 1 to 1048576
QuarantineDirMiB 1 to 1048576
MaxSlice 1 to 1024
RetryAfter 10ms to 10m0s
RememberIDs 0 to 4194304
KeepAlive 5s to 1h0m0s
ReadBufferKiB 4 to 16384`, bounds.Of(DefaultConfig()))
}
