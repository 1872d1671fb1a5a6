package local

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// Bounds of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `Workers 0 to 256
QueueTasks 1 to 1000000
MaxKeys -1 to 10000000
KeyTTL 0s to 720h0m0s
SampleMiB 1 to 65536
MaxAhead 0s to 24h0m0s
Retries 0 to 100
RetryWait 0s to 1m0s
PendingResults 0 to 1000000`, bounds.Of(DefaultConfig()))
}
