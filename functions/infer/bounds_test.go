package infer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// Bounds of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `CacheMiB 1 to 65536
MaxModels 1 to 1000
MaxMiB 1 to 2000
Canary.Tasks 20 to 100000
Canary.Disagreement 0 to 1
Canary.Slower 1 to 100
Pool.Workers 0 to 256
Pool.QueueTasks 1 to 100000
Pool.Nice 0 to 19
Runtime.Threads 1 to 64`, bounds.Of(DefaultConfig()))
}
