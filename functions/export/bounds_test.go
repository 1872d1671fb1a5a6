package export

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// The accepted values of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `ReceiptTimeout 10ms to 24h0m0s
AckTimeout 10ms to 1h0m0s
ConnectTimeout 10ms to 10m0s
KeepAlive 1s to 18h0m0s
BackoffMin 1ms to 20s
BackoffMax 500ms to 24h0m0s
ReleaseAfter 0s to 24h0m0s
MaxInflight 1 to 1024
MaxInflightKiB 1 to 1048576
LinkAhead 10ms to 1h0m0s
ProbeEvery 0s to 24h0m0s
RefusedTries 0 to 1000
UnreceiptedTries 0 to 1000000`, bounds.Of(DefaultConfig()))
}
