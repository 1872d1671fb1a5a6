package task

import (
	"testing"

	"github.com/stretchr/testify/require"

	accepted "app-offload/functions/check/bounds"
)

// The bounds of the configuration.
func TestWhatAClassAccepts(t *testing.T) {
	require.Equal(t, `Priority -1 to 9
Deadline 0s to 24h0m0s
TTL 0s to 87600h0m0s
Complexity 0 to 100
ChunkSize -1 to 1048576
Value 0 to 9
OverloadAge 0s to 87600h0m0s
Weight 0 to 1000`, accepted.Of(DefaultClassConfig()))
}
