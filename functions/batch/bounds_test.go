package batch

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// The accepted values of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `MaxCount 1 to 100000
MaxKiB 1 to 65536
MaxAge 0s to 1h0m0s
BacklogShare 0 to 0.9
LowerShare 0 to 0.9`, bounds.Of(DefaultConfig()))
}
