package spool

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// The accepted values of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `QuotaMiB 16 to 16777216
SegmentMiB 0 to 64
SpareMiB 0 to 512
RingMiB 0 to 65536
PendingMiB 1 to 65536
SyncInterval 1ms to 1h0m0s
CommitInterval 0s to 1s
AckInterval 1ms to 1h0m0s
QuarantineMiB 0 to 65536
History 16 to 1048576`, bounds.Of(DefaultConfig()))
}
